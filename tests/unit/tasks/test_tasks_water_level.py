"""Waterlines, elevations of the shore learnt from a gauge, levels of dates, and what they are compared with."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest
from affine import Affine

from geossl.errors import InputError
from geossl.tasks.gauges import Gauge, read_gauge
from geossl.tasks.level_series import METHODS, ShorePixels, level_series
from geossl.tasks.shore_model import (
    LIMITS,
    area_curve,
    climatology,
    fill_wet,
    find_levels,
    learn_shore,
    level_of_area,
)
from geossl.tasks.waterline import index_counts, otsu_limit, shorelines

NORTH_UP = Affine(10, 0, 500_000, 0, -10, 6_500_000)


def test_the_waterline_of_a_plane_lies_where_the_plane_is_zero() -> None:
    rows, columns = np.mgrid[0:20, 0:30].astype(float)
    index = 0.05 * (columns - 12.3) + 0.01 * (rows - 7)  # zero at column 12.3 - 0.2 (row - 7)
    (line,) = shorelines(index, NORTH_UP)
    column, row = (line[:, 0] - 500_000) / 10 - 0.5, (6_500_000 - line[:, 1]) / 10 - 0.5
    np.testing.assert_allclose(column, 12.3 - 0.2 * (row - 7), atol=1e-6)
    assert row.min() == 0
    assert row.max() == 19


def test_no_line_is_drawn_along_the_edge_of_a_cloud() -> None:
    index = np.where(np.arange(30) > 12, 0.5, -0.5) * np.ones((20, 1))
    index[5:15, 5:20] = np.nan
    lines = shorelines(index, NORTH_UP)
    assert len(lines) == 2
    for line in lines:
        np.testing.assert_allclose(line[:, 0], 500_000 + 130, atol=1e-6)
    assert shorelines(np.full((20, 30), 0.4), NORTH_UP) == []


def test_otsus_limit_parts_two_heaps_and_refuses_one_value() -> None:
    generator = np.random.default_rng(0)
    index = np.concatenate([generator.normal(-0.5, 0.05, 5000), generator.normal(0.3, 0.05, 5000), [np.nan]])
    assert otsu_limit(index_counts(index)) == pytest.approx(-0.1, abs=0.03)
    with pytest.raises(InputError, match="Otsu"):
        otsu_limit(index_counts(np.full(10, 0.2)))


def shore(pixels: int, levels: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Elevations (N,) and index (N, T) of pixels whose index rises as the water covers them, with noise."""
    generator = np.random.default_rng(seed)
    elevation = generator.uniform(44.0, 44.7, pixels)
    index = np.tanh((levels - elevation[:, None]) / 0.06) * 0.6 + generator.normal(0, 0.08, (pixels, len(levels)))
    return elevation, index.clip(-1, 1)


LEVELS = np.random.default_rng(5).uniform(44.05, 44.65, 40)


def test_elevations_are_learnt_from_wet_and_dry_dates() -> None:
    elevation, index = shore(2000, LEVELS)
    learnt = learn_shore(index, LEVELS)
    middle = learnt.limit == LIMITS[1]
    inside = middle & (np.abs(elevation[learnt.pixel] - 44.35) < 0.22)
    error = learnt.elevation[inside] - elevation[learnt.pixel[inside]]
    assert np.sqrt((error**2).mean()) < 0.03
    assert abs(error.mean()) < 0.01
    low, high = ({*learnt.pixel[learnt.limit == limit]} for limit in (LIMITS[0], LIMITS[-1]))
    both = np.array(sorted(low & high))
    found = [learnt.elevation[learnt.limit == limit][np.searchsorted(learnt.pixel[learnt.limit == limit], both)]
             for limit in (LIMITS[0], LIMITS[-1])]  # fmt: skip
    assert np.mean(found[1] - found[0]) > 0.02, "a higher limit is passed at a higher level"


def test_pixels_that_something_else_than_the_level_turns_are_left_out() -> None:
    _, index = shore(1000, LEVELS)
    reeds = np.where(np.random.default_rng(1).random((1000, len(LEVELS))) < 0.5, 0.5, -0.5)
    learnt = learn_shore(np.concatenate([index, reeds]), LEVELS)
    assert (learnt.pixel >= 1000).sum() < 0.02 * len(learnt)
    assert len(learnt) > 1500


def test_the_level_of_a_new_date_is_found_from_the_part_of_the_shore_that_is_clear() -> None:
    truth = np.array([44.12, 44.31, 44.52])
    elevation, index = shore(3000, np.concatenate([LEVELS, truth]))
    blocks = np.random.default_rng(2).integers(0, 40, len(elevation))
    new = index[:, len(LEVELS) :].copy()
    new[blocks >= 12] = np.nan  # two thirds under cloud
    found = find_levels(learn_shore(index[:, : len(LEVELS)], LEVELS), new, blocks, seed=0)
    np.testing.assert_allclose(found.level, truth, atol=0.02)
    assert (found.error < 0.03).all()
    assert found.reason == ("", "", "")
    again = find_levels(learn_shore(index[:, : len(LEVELS)], LEVELS), new, blocks, seed=0)
    np.testing.assert_array_equal(found.error, again.error)


def test_a_date_under_cloud_or_beyond_the_learnt_levels_is_not_observable() -> None:
    _, index = shore(1500, np.concatenate([LEVELS, [44.3, 45.5]]))
    blocks = np.arange(1500) % 20
    new = index[:, len(LEVELS) :].copy()
    new[10:, 0] = np.nan
    found = find_levels(learn_shore(index[:, : len(LEVELS)], LEVELS), new, blocks, seed=0)
    assert np.isnan(found.level).all()
    assert np.isnan(found.error).all()
    assert "are clear" in found.reason[0]
    assert found.reason[1] == "outside the levels that were learnt"


def test_hidden_pixels_are_filled_by_those_that_lie_as_high() -> None:
    elevation = np.linspace(44.0, 44.7, 700)
    index = np.where(LEVELS > elevation[:, None], 0.5, -0.5)
    whole = fill_wet(index, 0.0)
    np.testing.assert_array_equal(whole, (index > 0).sum(0))
    hidden = index.copy()
    hidden[np.random.default_rng(0).random(index.shape) < 0.6] = np.nan
    assert np.abs(fill_wet(hidden, 0.0) - whole).max() < 40
    hidden[:, 3] = np.nan
    assert np.isnan(fill_wet(hidden, 0.0)[3])


def test_the_area_curve_gives_levels_back_and_does_not_leave_what_was_learnt() -> None:
    area = 1000 + 300 * (LEVELS - 44) + 80 * (LEVELS - 44) ** 2
    curve = area_curve(area, LEVELS)
    np.testing.assert_allclose(level_of_area(curve, area), LEVELS, atol=0.003)
    assert level_of_area(curve, np.array([9000.0]))[0] == pytest.approx(LEVELS.max(), abs=0.003)


def test_climatology_is_of_the_season_and_wraps_at_new_year() -> None:
    days = np.arange(1, 366)
    level = np.cos(2 * np.pi * days / 365.25)
    usual = climatology(days, level, np.array([1, 183, 365]))
    assert usual[0] > 0.9
    assert usual[2] > 0.9
    assert usual[1] < -0.9


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_a_gauge_is_read_whatever_its_columns_are_called_and_stations_are_averaged(tmp_path: Path) -> None:
    gauge = read_gauge(
        write(
            tmp_path / "a.csv",
            "station,lon,lat,time,level_m\nA,13,59,2020-05-01,44.2\nB,13,59,2020-05-01,44.4\nA,13,59,2020-05-03,44.5\n"
            "A,13,59,2020-05-04,\n",
        )
    )
    assert gauge.stations == ("A", "B")
    np.testing.assert_allclose(gauge.level, [44.3, 44.5])
    days = [date(2020, 4, 28), date(2020, 5, 1), date(2020, 5, 4)]
    np.testing.assert_allclose(gauge.on(days, 1), [np.nan, 44.3, 44.5])
    swedish = read_gauge(write(tmp_path / "b.csv", "Datum;Nivå\n2020-05-01;44,3\n".replace(",", ".")))
    np.testing.assert_allclose(swedish.level, [44.3])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("when,level\n2020-01-01,1\n", "no column of dates"),
        ("date,depth\n2020-01-01,1\n", "no column of levels"),
        ("date,level\nyesterday,1\n", "'yesterday' in row 1"),
        ("date,level\n2020-01-01,high\n", "'high' in row 1"),
        ("date,level\n2020-01-01,\n", "holds no gauge reading"),
    ],
)
def test_readings_that_are_none_are_refused(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        read_gauge(write(tmp_path / "gauge.csv", text))


def made_series(seed: int = 0) -> tuple[ShorePixels, list[date], Gauge, np.ndarray]:
    """Four years of twelve dates; the gauge is silent on four of them."""
    days = [date(year, 5, 3) + timedelta(days=12 * number) for year in range(2018, 2022) for number in range(12)]
    generator = np.random.default_rng(seed)
    truth = generator.uniform(44.05, 44.65, len(days))
    _, index = shore(2500, truth, seed)
    block = np.arange(2500) // 60
    index[block[:, None] > generator.integers(5, 42, len(days))[None, :]] = np.nan
    index[:, 7] = np.nan
    told = np.delete(np.arange(len(days)), [10, 20, 30, 40])
    gauge = Gauge(
        np.array(days, "datetime64[D]")[told], truth[told] + generator.normal(0, 0.01, len(told)), ("A",), "gauge"
    )
    pixels = ShorePixels(index, block, block, block, 1000, np.full(len(days), 0.02), np.isfinite(index).mean(0))
    return pixels, days, gauge, truth


def test_a_series_has_a_level_with_its_error_for_every_date_that_can_be_seen() -> None:
    pixels, days, gauge, truth = made_series()
    series = level_series(pixels, days, gauge, 1, 0.01, seed=0)
    table = series.table
    assert len(table) == len(days)
    assert np.isnan(table["level_m"][7])
    assert "are clear" in table["reason"][7]
    seen = table["level_m"].notna().to_numpy()
    assert seen.sum() >= 40
    error = (table["level_m"] - truth)[seen]
    assert np.sqrt((error**2).mean()) < 0.03
    assert (np.abs(error) < 2.6 * table["error_m"][seen]).mean() > 0.95
    assert table["held_out"].tolist() == [number not in (10, 20, 30, 40) for number in range(len(days))]
    assert table["persistence_m"][1] == pytest.approx(table["gauge_m"][0])
    rows = series.metrics["rows"]
    assert set(rows) == set(METHODS.values())
    assert rows[METHODS["level_m"]]["skill_climatology"] > 0.9
    assert rows[METHODS["level_m"]]["skill_persistence"] > 0.9
    assert rows[METHODS["climatology_m"]]["skill_climatology"] == 0


def test_a_level_on_a_gauge_date_does_not_know_its_own_reading() -> None:
    pixels, days, gauge, _ = made_series()
    before = level_series(pixels, days, gauge, 1, 0.01, seed=0).table["level_m"].to_numpy()
    wrong = gauge.level.copy()
    year = gauge.days.astype("datetime64[Y]").astype(int) + 1970
    wrong[year == 2019] += 0.05  # a whole year misread
    after = level_series(pixels, days, Gauge(gauge.days, wrong, ("A",), "x"), 1, 0.01, seed=0).table["level_m"]
    left_out = np.array([day.year == 2019 for day in days]) & np.isin(np.array(days, "datetime64[D]"), gauge.days)
    np.testing.assert_allclose(after[left_out], before[left_out])


def test_too_few_readings_are_refused() -> None:
    pixels, days, gauge, _ = made_series()
    with pytest.raises(InputError, match="too few scenes have a gauge reading"):
        level_series(pixels, days, Gauge(gauge.days[:5], gauge.level[:5], (), "x"), 1, 0.01, seed=0)
