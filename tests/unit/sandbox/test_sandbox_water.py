"""Water of the sandbox: levels, gauges, the edge below the pixel, the water column."""

from __future__ import annotations

from datetime import date
from itertools import pairwise

import numpy as np
import pytest

from geossl.errors import InputError
from geossl.sandbox import column, materials
from geossl.sandbox.column import Optics
from geossl.sandbox.levels import GAUGE_ERROR_M, Levels, gauge_rows, make_levels
from geossl.sandbox.noise import generator
from geossl.sandbox.shoreline import NO_CELL, ShoreCells, make_cells
from geossl.sandbox.spec import SandboxSpec, WaterSettings, load_spec
from geossl.sandbox.spectra import BANDS
from geossl.sandbox.waterscape import Ground, Growth

KEYS = [band.key for band in BANDS]
BLUE, GREEN, RED, NIR, SWIR = (KEYS.index(key) for key in ("blue", "green", "red", "nir", "swir16"))


def _of(name: str) -> tuple[SandboxSpec, WaterSettings, Levels]:
    spec = load_spec(name)
    assert spec.water is not None
    return spec, spec.water, make_levels(spec, spec.water)


def test_the_lake_stays_within_its_regulation_is_high_in_early_summer_and_remembers() -> None:
    _, settings, levels = _of("vanern")
    metres = levels.metres
    assert abs(metres - settings.level_m).max() <= settings.range_m / 2
    assert metres.max() - metres.min() > 0.8 * settings.range_m
    months = np.array([int(str(np.datetime64("2010-01-01") + n)[5:7]) for n in range(len(metres))])
    means = [metres[months == month].mean() for month in range(1, 13)]
    assert int(np.argmax(means)) + 1 in (5, 6, 7) and max(means) - min(means) > 0.15
    assert np.corrcoef(metres[:-7], metres[7:])[0, 1] > 0.85
    assert levels.on(date(2022, 12, 31)) == metres[-1]


def test_the_sea_forgets_within_weeks_and_varies_little() -> None:
    _, settings, levels = _of("bohuslan")
    assert abs(levels.metres).max() <= settings.range_m / 2
    assert np.corrcoef(levels.metres[:-30], levels.metres[30:])[0, 1] < 0.3


def test_gauges_read_the_level_with_small_errors_and_miss_days() -> None:
    spec, settings, levels = _of("vanern")
    rows = gauge_rows(levels, spec, settings, [(13.4, 58.9), (13.5, 58.8)])
    assert {row[0] for row in rows} == set(settings.stations)
    first = [row for row in rows if row[0] == settings.stations[0]]
    assert 0.80 * len(levels.metres) < len(first) < 0.99 * len(levels.metres)
    errors = np.array([float(row[4]) - levels.on(date.fromisoformat(row[3])) for row in first])
    assert errors.std() == pytest.approx(GAUGE_ERROR_M, rel=0.1) and abs(errors.mean()) < 0.002
    days = [date.fromisoformat(row[3]) for row in first]
    assert max((b - a).days for a, b in pairwise(days)) >= 15  # an outage


def _beach(slope: float, side: int = 60) -> tuple[np.ndarray, ShoreCells]:
    """A plane that rises to the east, 0 m in the middle of the square, without roughness."""
    x = (np.arange(side, dtype=np.float32) - side / 2 + 0.5) * 10
    elevation = np.repeat(slope * x[None, :], side, axis=0).astype(np.float32)
    return elevation, make_cells(elevation, np.zeros_like(elevation), -0.4, 0.4, generator(1))


def test_on_a_plane_the_edge_lies_where_geometry_puts_it_to_a_decimetre() -> None:
    elevation, cells = _beach(0.03)
    for level in (-0.30, -0.11, 0.0, 0.07, 0.35):
        wet, _ = cells.flood(elevation, level)
        edge_m = wet[30].sum() * 10 - 300
        assert edge_m == pytest.approx(level / 0.03, abs=0.1)


def test_two_centimetres_of_level_move_the_edge_of_a_flat_beach_by_less_than_a_pixel() -> None:
    elevation, cells = _beach(0.03)
    moved = [cells.area(elevation, level) / 600 for level in (0.05, 0.07)]  # 600 m of shore
    assert moved[1] - moved[0] == pytest.approx(0.02 / 0.03, abs=0.05)


def test_depth_is_that_of_the_water_and_nothing_is_deep_where_nothing_is_wet() -> None:
    elevation, cells = _beach(0.03)
    wet, depth = cells.flood(elevation, 0.2)
    assert (depth[wet == 0] == 0).all() and (depth[wet > 0] > 0).all()
    open_water = elevation < -0.6
    np.testing.assert_allclose(depth[open_water], 0.2 - elevation[open_water], atol=1e-5)


def test_the_raster_of_cells_holds_centimetres_near_the_edge_alone() -> None:
    _, cells = _beach(0.03)
    raster = cells.raster(50)  # a part of the square, as where it was padded
    assert raster.shape == (250, 250) and raster.dtype == np.int16
    known = raster != NO_CELL
    assert 0.05 < known.mean() < 0.9
    x = (np.arange(250) + 0.5) * 2 - 300
    expected = np.broadcast_to(np.clip(3.0 * x, -90, 90), raster.shape)  # centimetres
    np.testing.assert_allclose(raster[known], expected[known], atol=1.0)


def test_rough_ground_bends_the_edge_and_keeps_its_mean_place() -> None:
    elevation = _beach(0.03)[0]
    cells = make_cells(elevation, np.full_like(elevation, 0.05), -0.4, 0.4, generator(3))
    wet, _ = cells.flood(elevation, 0.1)
    edges = wet.sum(axis=1) * 10 - 300
    assert edges.std() > 0.3
    assert edges.mean() == pytest.approx(0.1 / 0.03, abs=2.0)


def test_attenuation_is_least_in_the_green_and_grows_to_the_infrared() -> None:
    k = [float(column.attenuation(1.0, 0.3, index)) for index in range(len(KEYS))]
    assert k[GREEN] < k[BLUE] < k[RED] < k[KEYS.index("rededge1")] < k[NIR] < k[SWIR]
    assert k[GREEN] < 0.25 and k[RED] > 0.45 and k[NIR] > 4


def test_particles_brighten_and_cloud_the_water_and_humus_darkens_the_blue() -> None:
    for index in (BLUE, GREEN, RED):
        assert column.attenuation(2.0, 0.3, index) > column.attenuation(0.5, 0.3, index)
        assert column.deep_reflectance(3.0, 0.3, index) > column.deep_reflectance(0.5, 0.3, index)
    drop = [float(column.deep_reflectance(1, 0.9, n) / column.deep_reflectance(1, 0.1, n)) for n in (BLUE, RED)]
    assert drop[0] < 0.6 < drop[1]


def test_secchi_depths_are_those_of_the_coast_and_of_the_lake() -> None:
    assert 5 < float(column.secchi(1.0, 0.30)) < 10  # open Skagerrak coast
    assert 3.5 < float(column.secchi(1.6, 0.8)) < 6.5  # Vänern: about 4 to 5 m


def _through(bed: np.ndarray, depth: float, index: int) -> float:
    optics = Optics(np.full((1, 1), 1.0, np.float32), 0.3)
    ground = np.full((1, 1), bed[index], np.float32)
    return float(column.seen_through(ground, np.full((1, 1), depth, np.float32), optics, index)[0, 0])


def test_at_no_depth_the_bed_is_seen_and_at_great_depth_the_water_alone() -> None:
    sand, algae = materials.GROUND_WET[Ground.SAND], materials.GROWTH[Growth.MACROALGAE]
    for index in (BLUE, GREEN, RED, NIR):
        assert _through(sand, 0, index) == pytest.approx(
            column.THROUGH_SURFACE * sand[index] + column.SURFACE, rel=1e-4
        )
        assert _through(sand, 60, index) == pytest.approx(_through(algae, 60, index), abs=1e-5)


def test_over_sand_water_darkens_with_depth_and_faster_in_the_red_than_in_the_blue() -> None:
    sand = materials.GROUND_WET[Ground.SAND]
    for index in (BLUE, GREEN, RED):
        values = [_through(sand, depth, index) for depth in (0.2, 1, 2, 4, 8, 14)]
        assert (np.diff(values) < 0).all()
    left = {
        n: (_through(sand, 3, n) - _through(sand, 60, n)) / (_through(sand, 0, n) - _through(sand, 60, n))
        for n in (BLUE, RED)
    }
    assert left[RED] < 0.5 * left[BLUE]


def test_water_is_dark_in_the_infrared_over_any_bed_deeper_than_two_metres() -> None:
    for bed in (*materials.GROUND_WET, *materials.GROWTH[1:]):
        assert _through(bed, 2.0, NIR) < 0.01
        assert _through(bed, 0.3, SWIR) < 0.01


def test_a_lake_without_its_section_is_refused_with_the_name_of_the_section() -> None:
    with pytest.raises(ValueError, match="needs a section 'water'"):
        SandboxSpec.model_validate(load_spec("vanern").model_dump() | {"water": None})
    with pytest.raises(InputError):
        load_spec("vanern", size_km=1.0)
