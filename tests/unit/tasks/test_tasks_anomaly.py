"""Departures from other years, heads that read them, and years left out."""

from __future__ import annotations

from datetime import date
from typing import Any

import numpy as np
import pytest
import torch

from geossl.encoders.saved import Encoder
from geossl.tasks.anomaly import MIN_SPREAD, anomaly_planes, plane_count, same_season
from geossl.tasks.heads import PixelNet
from geossl.tasks.leave_out import year_figures
from geossl.tasks.linear import Linear
from geossl.tasks.spec import TaskSpec, load_task


def test_references_are_of_the_same_season_in_other_years_over_new_year_too() -> None:
    others = [date(2017, 7, 1), date(2018, 7, 5), date(2019, 7, 25), date(2019, 6, 20), date(2016, 8, 20)]
    assert same_season(date(2018, 7, 2), others, 20) == [0, 3]
    assert same_season(date(2018, 12, 30), [date(2017, 1, 5), date(2017, 11, 1)], 20) == [0]


def test_planes_are_the_difference_from_the_median_and_its_spreads() -> None:
    others = np.array([0.5, 0.6, 0.7], np.float32)[:, None, None, None] * np.ones((1, 1, 9, 9), np.float32)
    others[:2, 0, 0, 0] = np.nan  # one reference left there
    now = np.full((1, 9, 9), 0.3, np.float32)
    now[0, 8, 8] = np.nan
    planes = anomaly_planes(now, others)
    assert planes.shape == (plane_count(["ndmi"]), 9, 9)
    spread = np.std([0.5, 0.6, 0.7])
    np.testing.assert_allclose(planes[:, 4, 4], [-0.3, -0.3 / spread, -0.3 / spread, 1], rtol=1e-5)
    assert (planes[:, 0, 0] == 0).all()
    assert (planes[:, 8, 8] == 0).all()
    np.testing.assert_allclose(planes[2, 0, 1], -0.3 / spread, rtol=1e-4, err_msg="neighbours without references")


def test_agreeing_years_do_not_make_a_small_difference_great() -> None:
    planes = anomaly_planes(np.full((1, 5, 5), 0.45), np.full((4, 1, 5, 5), 0.5))
    assert planes[1, 2, 2] == pytest.approx(-0.05 / MIN_SPREAD, rel=1e-5)
    assert (anomaly_planes(np.full((1, 5, 5), 0.45), np.full((1, 1, 5, 5), 0.5)) == 0).all(), "one reference is none"


def test_a_head_reads_the_planes_behind_the_bands_and_takes_their_absence_for_no_reference(encoder: Encoder) -> None:
    net = PixelNet(encoder, 2, ("ndvi",)).eval()
    count = sum(net.widths)
    weight = np.zeros((2, count))
    weight[1, count - plane_count(["ndvi"]) + 1] = -1.0  # the spreads alone
    net.set_weights(Linear("multinomial", weight, np.zeros(2), 1.0))
    bands = torch.rand(1, len(encoder.bands), 32, 32)
    planes = torch.randn(1, plane_count(["ndvi"]), 32, 32)
    clear = torch.ones(1, 32, 32, dtype=torch.bool)
    with torch.inference_mode():
        found = net(torch.cat([bands, planes], 1), clear)
        alone = net(bands, clear)
    torch.testing.assert_close(found[:, 1], -planes[:, 1])
    assert (alone == 0).all()


def test_training_compares_a_chip_with_its_tile_in_other_years(make_store: Any) -> None:
    from geossl.tasks.examples import ChipData

    store = make_store(tiles=2, dates=("2016-06-01", "2017-06-05", "2018-06-03", "2018-09-01"))
    rows = np.arange(len(store.table))
    data = ChipData(store, rows, rows.astype(str), rows.astype(str), ("ndvi",), 20)
    table = store.table
    asked = int(np.flatnonzero((table["datetime"].dt.strftime("%Y-%m-%d") == "2018-06-03").to_numpy())[0])
    values, clear = data.load(np.array([asked]))
    assert values.shape[1] == len(store.bands) + plane_count(["ndvi"])
    same = np.flatnonzero((table["tile"] == table["tile"].iloc[asked]).to_numpy())
    dates = table["datetime"].dt.strftime("%Y-%m-%d").to_numpy()

    def ndvi(row: int) -> np.ndarray:
        stored, _ = store.load([row])
        reflectance = store.encoding.decode(stored)[0]
        red, nir = (reflectance[store.bands.index(name)] for name in ("red", "nir"))
        return (nir - red) / (nir + red)

    others = [ndvi(int(row)) for row in same if dates[row] in ("2016-06-01", "2017-06-05")]
    expected = ndvi(asked) - np.median(others, axis=0)
    seen = clear[0].numpy() & ~store.wet[asked]  # dark water reaches the index's ends
    np.testing.assert_allclose(values[0, len(store.bands)].numpy()[seen], expected[seen], atol=1e-4)
    late = int(same[dates[same] == "2018-09-01"][0])
    assert (data.load(np.array([late]))[0][0, len(store.bands) :] == 0).all(), "no other September"


def test_a_withheld_year_is_scored_by_the_driest_third_of_its_areas() -> None:
    spec = load_task("drought")
    area = np.repeat([f"t{number}" for number in range(6)], 10)
    truth = np.repeat([2, 2, 0, 0, 0, 1], 10)
    right = year_figures(spec, truth, truth, area)
    assert (right["macro_f1"], right["hits"], right["false_alarms"], right["bias"]) == (1, 1, 0, 0)
    half = year_figures(spec, truth, np.repeat([2, 0, 2, 0, 0, 0], 10), area)
    assert (half["hits"], half["false_alarms"]) == (0.5, 0.5)
    wet = year_figures(spec, np.zeros(60, int), np.repeat([0, 1, 0, 0, 0, 0], 10), area)
    assert wet["hits"] is None
    silent = year_figures(spec, truth, np.zeros(60, int), area)
    assert (silent["hits"], silent["false_alarms"]) == (0, 0)


def test_references_are_for_pixels_of_single_dates() -> None:
    with pytest.raises(ValueError, match="single dates"):
        TaskSpec(name="a", title="A", kind="regression", temporal="series", references=("ndvi",))
