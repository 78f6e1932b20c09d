"""Given few, one-sided or hopeless labels; then finetune and the check say what is wrong, with row numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
from shapely import Point

from geossl.encoders.saved import Encoder
from geossl.errors import InputError
from geossl.tasks import examples as room
from geossl.tasks.examples import PixelExamples
from geossl.tasks.finetune import finetune
from geossl.tasks.labels_check import check_labels
from geossl.tasks.labels_fate import REFUSED, USED
from geossl.tasks.sources import open_source
from geossl.tasks.spec import TaskSpec

WATER = TaskSpec.model_validate(
    {"name": "w", "title": "W", "kind": "segmentation", "classes": [{"name": "land"}, {"name": "water"}]}
)


def written(path: Path, shapes: list[Any], **columns: Any) -> Path:
    gpd.GeoDataFrame(columns, geometry=shapes, crs="EPSG:32633").to_file(path)
    return path


def examples(spec: TaskSpec, file: Path, store: Any) -> PixelExamples:
    found = open_source(spec, file, None, store, None, None, None).examples({}, 0)[0]
    assert isinstance(found, PixelExamples)
    return found


def test_one_labelled_pixel_is_refused_and_the_check_says_why(store: Any, encoder: Encoder, tmp_path: Path) -> None:
    file = written(tmp_path / "one.gpkg", [Point(500_005, 6_539_995)], **{"class": ["water"]})
    with pytest.raises(InputError, match="all labels lie in one block"):
        finetune(WATER, encoder=encoder, labels=file, chips=store, out=tmp_path / "head")
    assert not (tmp_path / "head").exists()
    result = check_labels(file, WATER, out=tmp_path / "out", chips=store, encoder=encoder)
    assert result.fate == {REFUSED: 1} and result.verdicts == {}
    assert "all labels lie in one block" in result.report.read_text()


def test_one_class_only_is_refused_by_name(store: Any, encoder: Encoder, tmp_path: Path) -> None:
    file = written(tmp_path / "w.gpkg", [store.tile_box(t, 2, 5, 2, 5) for t in range(8)], **{"class": ["water"] * 8})
    with pytest.raises(InputError, match="one class only") as caught:
        finetune(WATER, encoder=encoder, labels=file, chips=store, out=tmp_path / "head")
    assert "at least two classes" in str(caught.value)
    result = check_labels(file, WATER, out=tmp_path / "out", chips=store, encoder=encoder)
    assert result.counts == {"land": 0, "water": 8} and result.verdicts == {} and result.fate == {USED: 8}


def test_clouds_dates_without_scenes_and_contradictions_name_their_rows(
    store: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shapes = [store.tile_box(t, 2, 6, 2, 6) for t in (0, 1, 2, 3)] + [store.tile_box(3, 4, 8, 4, 8)]
    file = written(
        tmp_path / "l.gpkg",
        shapes,
        **{"class": ["water", "land", "water", "water", "land"]},
        date=["", "2001-05-05", "2018-06-03", "", ""],
    )
    examples(WATER, file, store)
    said = capsys.readouterr().err
    assert "1 of 5 labels meet no clear chip and are not used: row 2" in said
    assert "4 pixels lie in labels of different classes; they are used for none: rows 4, 5" in said
    store.flags[:] = 2
    with pytest.raises(InputError, match="no labelled pixel is clear"):
        examples(WATER, file, store)


def test_proportions_reach_the_head_as_numbers_of_each_pixel(store: Any, tmp_path: Path) -> None:
    shapes = [store.tile_box(t, 2, 6, 2, 6) for t in range(4)]
    file = written(tmp_path / "soft.gpkg", shapes, land=[0.25, 0.5, 1, 0], water=[0.75, 0.5, 0, 1])
    found = examples(WATER, file, store)
    assert found.soft is not None and found.soft.dtype == np.float32 and found.soft.shape == (64, 2)
    assert np.allclose(found.soft.sum(axis=1), 1) and (found.soft.argmax(axis=1) == found.value).all()
    first = np.flatnonzero(found.chip == 0)
    mask = found.soft_mask(np.arange(64), 0)
    assert mask.shape == (2, 32, 32) and np.allclose(mask[:, found.y[first], found.x[first]].T, [0.25, 0.75])
    assert mask.sum() == pytest.approx(16), "what is unlabelled is nothing in every class"
    hard = written(tmp_path / "hard.gpkg", shapes, **{"class": ["land", "water"] * 2})
    assert examples(WATER, hard, store).soft is None


def test_station_readings_are_dated_numbers_of_the_pixel_they_stand_in(make_store: Any, tmp_path: Path) -> None:
    store = make_store(tiles=4, dates=("2018-06-01", "2018-07-01"))
    spec = TaskSpec.model_validate({"name": "t", "title": "T", "kind": "regression", "unit": "FNU"})
    places = gpd.GeoSeries([Point(500_055 + 320 * t, 6_539_945) for t in range(4)], crs="EPSG:32633").to_crs(
        "EPSG:4326"
    )
    rows = [
        (f"s{t}", place.x, place.y, f"2018-0{month}-02T10:00:00Z", 10 * t + month)
        for t, place in enumerate(places)
        for month in (6, 7, 9)
    ]
    pd.DataFrame(rows, columns=["station", "lon", "lat", "time", "value"]).to_csv(tmp_path / "s.csv", index=False)
    found = examples(spec, tmp_path / "s.csv", store)
    assert sorted(found.value.tolist()) == sorted(10 * t + m for t in range(4) for m in (6, 7))
    assert set(found.y) == {5} and set(found.x) == {5} and found.soft is None
    result = check_labels(tmp_path / "s.csv", spec, out=tmp_path / "out", chips=store)
    assert result.labels == 12 and result.fate[USED] == 8


def test_a_label_raster_is_checked_as_the_pixels_drawn_of_it(store: Any, encoder: Encoder, tmp_path: Path) -> None:
    values = np.full((32, 8 * 32), 1, dtype=np.uint8)
    for tile in range(8):
        values[:, tile * 32 + 16 : tile * 32 + 32] = 2
    values[:3] = 0
    with rasterio.open(
        tmp_path / "cover.tif", "w", driver="GTiff", dtype="uint8", count=1, height=32, width=256, nodata=0,
        crs="EPSG:32633", transform=rasterio.transform.from_origin(500_000, 6_540_000, 10, 10),
    ) as out:  # fmt: skip
        out.write(values, 1)
    rule = {"values": {1: "water", 2: "land"}, "samples": 40}
    spec = TaskSpec.model_validate({**WATER.model_dump(), "raster": rule})
    result = check_labels(tmp_path / "cover.tif", spec, out=tmp_path / "out", chips=store, encoder=encoder)
    assert result.labels == 80 and result.counts == {"land": 40, "water": 40}
    assert result.verdicts["keep"] >= 78 and result.verdicts["remove"] == 0


def test_chips_full_of_labels_are_thinned_while_they_are_read(
    store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "MAX_PIXELS", {"train": 50, "val": 50, "test": 50})
    monkeypatch.setattr(room, "_MOST_HELD", 2000)
    shapes = [store.tile_box(t, 0, 32, 0, 32) for t in range(8)]
    found = examples(WATER, written(tmp_path / "f.gpkg", shapes, **{"class": ["land", "water"] * 4}), store)
    counts = np.bincount(found.chip, minlength=8)
    for side in ("train", "val", "test"):
        of_side = counts[found.data.side == side]
        assert of_side.sum() == 50 and of_side.max() - of_side.min() <= 1
