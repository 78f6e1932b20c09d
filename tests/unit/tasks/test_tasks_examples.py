"""Given labels and chips; then a label holds on the chips it meets in space and time, on their clear pixels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest

from geossl.errors import InputError
from geossl.labels.read import Labels
from geossl.regions import parse_period
from geossl.tasks import examples as room
from geossl.tasks.baselines import fit_thresholds, index_baseline, majority, moisture_anomaly, vegetation_condition
from geossl.tasks.examples import match_labels, store_pixels, thin_places
from geossl.tasks.spec import TaskSpec
from geossl.tasks.splits import LabelSplit

WATER = TaskSpec.model_validate(
    {"name": "w", "title": "W", "kind": "segmentation", "classes": [{"name": "land"}, {"name": "water"}]}
)
DATES = ("2017-06-03", "2018-06-01", "2018-06-08", "2018-08-01", "2019-05-28")


def labels(shapes: Sequence[Any], values: Sequence[int], dates: Sequence[str | None] | None = None) -> Labels:
    when = pd.to_datetime(pd.Series(dates if dates is not None else [None] * len(shapes)))
    frame = gpd.GeoDataFrame(
        {"value": np.array(values), "date": when, "confidence": 1.0}, geometry=list(shapes), crs="EPSG:32633"
    )
    return Labels(frame, ("land", "water"), Path("labels.gpkg"), "id")


def split(store: Any) -> LabelSplit:
    sides = ["train", "train", "train", "train", "val", "val", "test", "test"]
    return LabelSplit({f"b{n}": sides[n % 8] for n in range(len(store.table))}, "")


def test_only_chips_that_labels_touch_are_chosen(store: Any) -> None:
    matched = match_labels(
        store, labels([store.tile_box(2, 2, 4, 2, 4), store.tile_box(5, 2, 4, 2, 4)], [1, 0]), WATER, None, None
    )
    assert store.table["tile"].iloc[matched.rows].tolist() == ["t2", "t5"]
    assert [one.tolist() for one in matched.labels] == [[0], [1]]


def test_a_dated_label_holds_on_the_nearest_dates_within_the_tolerance(make_store: Any) -> None:
    store = make_store(tiles=2, dates=DATES)
    dated = labels([store.tile_box(0, 0, 4, 0, 4)] * 2, [1, 1], ["2018-06-04", "2018-08-20"])
    matched = match_labels(store, dated, WATER, None, None)
    assert store.table["chip"].iloc[matched.rows].tolist() == ["t0-2018-06-01", "t0-2018-06-08"]
    assert matched.unmatched == 1


def test_an_undated_label_holds_on_the_clearest_chips_of_the_period(make_store: Any) -> None:
    store = make_store(tiles=1, dates=DATES)
    store.table.loc[2, "clear"] = 0.5
    one = labels([store.tile_box(0, 0, 4, 0, 4)], [1])
    spec = WATER.model_copy(update={"dates_per_label": 2})
    matched = match_labels(store, one, spec, parse_period("2018"), (6, 7, 8))
    assert store.table["chip"].iloc[matched.rows].tolist() == ["t0-2018-06-01", "t0-2018-08-01"]


def test_missing_in_time_and_missing_in_place_are_told_apart(make_store: Any) -> None:
    store = make_store(tiles=2, dates=DATES)
    late = labels([store.tile_box(0, 0, 4, 0, 4)], [1], ["2021-06-04"])
    with pytest.raises(InputError, match="no label meets a chip in time") as caught:
        match_labels(store, late, WATER, None, None)
    assert "2017-06-03 to 2019-05-28" in str(caught.value)
    with pytest.raises(InputError, match="no label lies on a chip"):
        match_labels(store, labels([store.tile_box(50, 0, 4, 0, 4)], [1]), WATER, None, None)


def test_pixels_that_are_not_clear_carry_no_label(store: Any) -> None:
    store.flags[1, 0, :] = 2
    one = labels([store.tile_box(1, 0, 4, 0, 4), store.tile_box(0, 0, 2, 0, 2)], [1, 0])
    pixels = store_pixels(store, one, match_labels(store, one, WATER, None, None), WATER, split(store), 0)
    assert len(pixels.chip) == 3 * 4 + 4
    water = pixels.value == 1
    assert set(pixels.y[water]) == {1, 2, 3} and set(pixels.place[water]) == {0} and set(pixels.place[~water]) == {1}


def test_what_is_unlabelled_is_255_in_a_mask_never_background(store: Any) -> None:
    one = labels([store.tile_box(0, 0, 2, 0, 2)], [1])
    pixels = store_pixels(store, one, match_labels(store, one, WATER, None, None), WATER, split(store), 0)
    mask = pixels.mask(np.arange(len(pixels.chip)), 0)
    assert (mask == 1).sum() == 4 and (mask == 255).sum() == 32 * 32 - 4


def test_too_many_pixels_are_thinned_evenly_over_chips(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "MAX_PIXELS", {"train": 100, "val": 100, "test": 100})
    many = labels([store.tile_box(n, 0, 32, 0, 32) for n in range(4)], [n % 2 for n in range(4)])
    pixels = store_pixels(store, many, match_labels(store, many, WATER, None, None), WATER, split(store), 0)
    assert np.bincount(pixels.chip).tolist() == [25, 25, 25, 25]
    few = thin_places(pixels, np.arange(100), 3, np.random.default_rng(0))
    assert np.bincount(pixels.place[few]).tolist() == [3, 3, 3, 3]


def some_pixels(store: Any) -> room.PixelExamples:
    both = [shape for n in range(8) for shape in (store.tile_box(n, 4, 8, 2, 6), store.tile_box(n, 4, 8, 20, 24))]
    made = labels(both, [1, 0] * 8)
    return store_pixels(store, made, match_labels(store, made, WATER, None, None), WATER, split(store), 0)


def test_water_indices_find_water_without_any_training(store: Any) -> None:
    pixels = some_pixels(store)
    test = pixels.part("test")
    for name in ("mndwi", "ndwi"):
        assert (index_baseline(name, WATER, pixels, pixels.part("train"), test) == pixels.value[test]).mean() > 0.95
    assert majority(np.array([1, 1, 0]), 2, 2).tolist() == [1, 1]


def test_an_index_whose_band_is_missing_says_which(store: Any) -> None:
    store.bands = ("green", "red", "nir", "blue")
    pixels = some_pixels(store)
    with pytest.raises(InputError, match="MNDWI needs band swir16"):
        index_baseline("mndwi", WATER, pixels, pixels.part("train"), pixels.part("test"))


def set_ndvi(store: Any, ndvi: dict[str, float]) -> None:
    """Every pixel of a date with the same NDVI, NDMI included."""
    for row, chip in enumerate(store.table["chip"]):
        value = ndvi[chip.split("-", 1)[1]]
        nir, other = 0.3, 0.3 * (1 - value) / (1 + value)
        store.stored[row] = np.round(10_000 * np.reshape([0.05, other, nir, other], (4, 1, 1)) + 1000)


def test_vci_is_where_ndvi_lies_between_the_extremes_of_the_season_in_other_years(make_store: Any) -> None:
    store = make_store(tiles=1, dates=DATES)
    set_ndvi(store, {"2017-06-03": 0.8, "2019-05-28": 0.4, "2018-06-01": 0.5, "2018-06-08": 0.0, "2018-08-01": 0.9})
    one = labels([store.tile_box(0, 0, 2, 0, 2)], [1], ["2018-06-01"])
    spec = WATER.model_copy(update={"dates_per_label": 1})
    pixels = store_pixels(
        store, one, match_labels(store, one, spec, None, None), spec, LabelSplit({"b0": "train"}, ""), 0
    )
    assert vegetation_condition(pixels, np.arange(4), 20) == pytest.approx([0.25] * 4, abs=0.01)
    assert moisture_anomaly(pixels, np.arange(4), 20) == pytest.approx([(0.5 - 0.6) / 0.2] * 4, abs=0.02)


def test_an_anomaly_without_enough_clear_years_is_unknown_not_zero(make_store: Any) -> None:
    store = make_store(tiles=1, dates=DATES)
    store.flags[0] = 2
    one = labels([store.tile_box(0, 0, 2, 0, 2)], [1], ["2018-06-01"])
    pixels = store_pixels(
        store, one, match_labels(store, one, WATER, None, None), WATER, LabelSplit({"b0": "train"}, ""), 0
    )
    assert np.isnan(vegetation_condition(pixels, np.arange(4), 20)).all()


def test_thresholds_follow_the_order_of_the_classes_in_either_direction() -> None:
    three = TaskSpec.model_validate(
        {"name": "d", "title": "D", "kind": "segmentation", "classes": [{"name": n} for n in ("none", "mid", "high")]}
    )
    measure = np.linspace(0, 1, 300)
    falling = np.where(measure > 0.6, 0, np.where(measure > 0.3, 1, 2))
    said = fit_thresholds(measure, falling, three)(measure)
    assert (said == falling).mean() > 0.97
    assert (fit_thresholds(measure, 2 - falling, three)(measure) == 2 - falling).mean() > 0.97
