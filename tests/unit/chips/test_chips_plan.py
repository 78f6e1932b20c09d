"""Drawing and reading plans: stratified, repeatable, every pixel at most once."""

from collections import Counter

import numpy as np
import pytest

from geossl.chips.grid import region_grid
from geossl.chips.plan import chip_keys, draw, find_candidates, panel_side, panels


@pytest.fixture
def laid(region, days, make_scene):
    scenes = [make_scene(day) for day in days]
    grid = region_grid(region, scenes)
    return grid, find_candidates(region, grid, scenes)


def test_candidates_are_tiles_on_days(laid, days):
    _, candidates = laid
    assert len(candidates) == 15 * len(days)
    assert candidates.chip_id(0) == "0_0_20180103"
    names = {candidates.chip_id(number) for number in range(len(candidates))}
    assert len(names) == len(candidates) == len(set(candidates.keys().tolist()))


def test_a_day_has_only_the_tiles_its_scenes_reach(region, days, make_scene):
    scenes = [make_scene(days[0]), make_scene(days[1], width=40), make_scene(days[1], 1, column=80, width=20)]
    candidates = find_candidates(region, region_grid(region, scenes), scenes)
    assert Counter(candidates.day.tolist()) == {0: 15, 1: 9}
    assert set(candidates.ix[candidates.day == 1].tolist()) == {0, 1, 4}


def test_a_draw_is_even_over_blocks_and_seasons(laid):
    grid, candidates = laid
    chosen = draw(candidates, grid, 36)
    assert len(chosen) == 36 == len(set(chosen.tolist()))
    blocks = Counter(grid.block_of(candidates.ix[i], candidates.iy[i]) for i in chosen)
    seasons = Counter((candidates.days[candidates.day[i]].month - 1) // 3 for i in chosen)
    assert len(blocks) == 6 and max(blocks.values()) - min(blocks.values()) <= 4
    assert len(seasons) == 3 and max(seasons.values()) - min(seasons.values()) <= 6


def test_a_larger_draw_contains_the_smaller_one(laid):
    grid, candidates = laid
    draws = [set(draw(candidates, grid, n).tolist()) for n in (10, 40, 100, 1000)]
    assert draws[0] < draws[1] < draws[2] < draws[3]
    assert len(draws[3]) == len(candidates)


def test_what_is_done_counts_and_a_draw_goes_on_where_it_stopped(laid):
    grid, candidates = laid
    whole = draw(candidates, grid, 50)
    done = np.zeros(len(candidates), bool)
    done[whole[[3, 7, 30, 44]]] = True
    assert np.array_equal(draw(candidates, grid, 50, done), whole)
    foreign = np.zeros(len(candidates), bool)
    foreign[np.setdiff1d(np.arange(len(candidates)), whole)[:20]] = True
    again = draw(candidates, grid, 50, foreign)
    assert len(again) == 50 and set(np.flatnonzero(foreign)) <= set(again.tolist())


def test_mostly_cloudy_days_come_last(region, days, make_scene):
    scenes = [make_scene(day, cloud=90.0 if number % 2 else 10.0) for number, day in enumerate(days)]
    grid = region_grid(region, scenes)
    candidates = find_candidates(region, grid, scenes)
    chosen = draw(candidates, grid, 20)
    assert all(candidates.day[i] % 2 == 0 for i in chosen)


def test_places_recur_over_time(laid):
    grid, candidates = laid
    chosen = draw(candidates, grid, 36)
    tiles = Counter((int(candidates.ix[i]), int(candidates.iy[i])) for i in chosen)
    assert sum(count > 1 for count in tiles.values()) > len(tiles) / 2


@pytest.mark.parametrize("side", [16, 32, 48, 512])
def test_panels_cover_every_planned_pixel_exactly_once(laid, side):
    grid, candidates = laid
    chosen = draw(candidates, grid, 70)
    covered = {day: np.zeros((60, 100), int) for day in range(len(candidates.days))}
    for panel in panels(candidates, grid, chosen, side):
        assert panel.width <= side and panel.height <= side
        covered[panel.day][panel.row : panel.row + panel.height, panel.column : panel.column + panel.width] += 1
        # cells have common edges with the scene's blocks
        assert panel.column // side == (panel.column + panel.width - 1) // side
        assert panel.row // side == (panel.row + panel.height - 1) // side
    for number in chosen:
        top, left = 20 * candidates.iy[number], 20 * candidates.ix[number]
        assert (covered[candidates.day[number]][top : top + 20, left : left + 20] == 1).all()
    assert max(part.max() for part in covered.values()) == 1


def test_areas_are_bounded_in_memory_and_multiples_of_usual_blocks():
    for pixel in (3, 13, 25, 101):
        side = panel_side(pixel)
        assert side % 512 == 0 and (side == 512 or side * side * pixel <= 256 << 20)
        assert panel_side(pixel, native=False) >= side


def test_keys_tell_chips_apart_on_both_sides_of_zero():
    axis, days = np.array([-70_000, -1, 0, 1, 99_999]), np.array([1, 736_000, 740_000])
    ix, iy, day = (part.ravel() for part in np.meshgrid(axis, axis, days))
    assert len(np.unique(chip_keys(ix, iy, day))) == 75
