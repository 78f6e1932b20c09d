"""Given a label file and chips; then the check says what finetune would do, and which labels look wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio

from geossl.encoders.saved import Encoder
from geossl.errors import InputError
from geossl.labels.read import read_vector_labels
from geossl.labels.stations import read_stations
from geossl.tasks.examples import match_labels
from geossl.tasks.labels_check import check_labels
from geossl.tasks.labels_fate import CLOUDY, CONTRADICTED, COVERED, LOW, NO_DATE, OFF_CHIPS, USED
from geossl.tasks.spec import TaskSpec

WATER = TaskSpec.model_validate(
    {"name": "w", "title": "W", "kind": "segmentation", "classes": [{"name": "land"}, {"name": "water"}]}
)


def test_each_label_gets_its_fate_and_wrong_ones_are_found(store: Any, encoder: Encoder, tmp_path: Path) -> None:
    store.flags[7, :8, :8] = 2
    shapes, names, dates = [], [], []
    for tile in range(8):
        for y in (10, 18, 26):
            for x, name in ((4, "water"), (26, "land")):
                shapes.append(store.tile_box(tile, y, y + 3, x, x + 3))
                names.append(name)
                dates.append(None)
    wrong = [3, 12, 20, 33]
    for one in wrong:
        names[one] = "land" if names[one] == "water" else "water"
    shapes += [store.tile_box(90, 0, 4, 0, 4), store.tile_box(1, 0, 4, 0, 4), store.tile_box(7, 2, 5, 2, 5), shapes[0]]
    names, dates = [*names, "land", "water", "water", names[0]], [*dates, None, "1999-01-01", None, None]
    table = gpd.GeoDataFrame({"class": names, "date": dates}, geometry=shapes, crs="EPSG:32633")
    path = tmp_path / "labels.gpkg"
    table.to_file(path)

    result = check_labels(path, WATER, out=tmp_path / "out", chips=store, encoder=encoder)

    verdicts = pd.read_csv(result.folder / "verdicts.csv")
    assert len(verdicts) == len(table) and verdicts["row"].tolist() == list(range(1, len(table) + 1))
    assert verdicts["fate"].tolist()[48:51] == [OFF_CHIPS, NO_DATE, CLOUDY]
    assert (
        verdicts["fate"].iloc[0] == COVERED
        and (verdicts["fate"].iloc[1:48] == USED).all()
        and verdicts["duplicate_of"].iloc[51] == 1
    )
    assert set(verdicts["row"][verdicts["verdict"] == "remove"]) == {one + 1 for one in wrong}
    assert result.report.is_file() and len(gpd.read_file(result.folder / "verdicts.gpkg")) == len(table)


def test_periods_hold_on_every_date_within_and_soft_labels_and_stations_are_read(
    make_store: Any, tmp_path: Path
) -> None:
    store = make_store(tiles=1, dates=("2018-06-01", "2018-07-01", "2018-09-01"))
    shape = store.tile_box(0, 2, 6, 2, 6)
    soft = gpd.GeoDataFrame(
        {"land": [0.3], "water": [0.7], "date": ["2018-05-20"], "date_end": ["2018-07-20"]},
        geometry=[shape],
        crs="EPSG:32633",
    )
    soft.to_file(tmp_path / "soft.gpkg")
    labels = read_vector_labels(tmp_path / "soft.gpkg", ("land", "water"))
    assert labels.shares is not None and labels.shares[0].tolist() == [0.3, 0.7]
    assert labels.frame["value"].tolist() == [1] and labels.frame["confidence"].tolist() == [0.7]
    rows = match_labels(store, labels, WATER, None, None).rows
    assert rows.tolist() == [0, 1]
    soft.assign(water=0.9).to_file(tmp_path / "bad.gpkg")
    with pytest.raises(InputError, match=r"do not sum to 1[\s\S]*row 1"):
        read_vector_labels(tmp_path / "bad.gpkg", ("land", "water"))
    csv = tmp_path / "stations.csv"
    csv.write_text("station,lon,lat,time,value\na,15,59,2018-06-01,3.5\na,15,59,2018-06-02,\n")
    assert read_stations(csv, ()).frame["row"].tolist() == [1]


def test_labels_left_out_by_confidence_or_without_a_pixel_of_their_own_are_told(
    store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes = [store.tile_box(t, 2, 8, 2, 8) for t in range(4)] + [store.tile_box(t, 2, 8, 20, 26) for t in range(4)]
    shapes += [store.tile_box(0, 2, 8, 2, 8), store.tile_box(1, 20, 24, 4, 8), store.tile_box(1, 20, 24, 4, 8)]
    names = ["water"] * 4 + ["land"] * 4 + ["water", "water", "land"]
    sure = [1.0] * 7 + [0.2] + [1.0] * 3
    path = tmp_path / "labels.gpkg"
    gpd.GeoDataFrame({"class": names, "confidence": sure}, geometry=shapes, crs="EPSG:32633").to_file(path)
    spec = WATER.model_copy(update={"min_confidence": 0.5})
    monkeypatch.setenv("GEOSSL_HOME", str(tmp_path / "home"))
    result = check_labels(path, spec, chips=store)
    assert result.folder.parent == tmp_path / "home" / "checks" and result.report.is_file()
    fate = pd.read_csv(result.folder / "verdicts.csv")["fate"].tolist()
    assert fate == [COVERED, *[USED] * 6, LOW, USED, CONTRADICTED, CONTRADICTED]
    assert result.duplicates == 1 and result.conflicts == 2


def test_chips_with_several_labels_are_judged_label_by_label(
    make_store: Any, ready_set: Any, encoder: Encoder, tmp_path: Path
) -> None:
    folder = ready_set(make_store(), tmp_path / "ready", "multilabel")
    index = pd.read_csv(folder / "index.csv")
    index.loc[5, "labels"] = "dark|land" if "bright" in index.loc[5, "labels"] else "bright|land"
    index.to_csv(folder / "index.csv", index=False)
    task = TaskSpec.model_validate({"name": "m", "title": "M", "kind": "classification", "from_chips": True})
    result = check_labels(None, task, out=tmp_path / "out", chips=folder, encoder=encoder)
    table = pd.read_csv(result.folder / "verdicts.csv", keep_default_na=False)
    assert result.labels == 32 and result.counts == {"bright": 16 - 1, "dark": 16 + 1, "land": 32}
    assert table["row"][table["verdict"] == "remove"].tolist() == [6]
    assert table["instead"].iloc[5] == "also bright, not dark" and table["label"].iloc[5] == "dark, land"


def test_classes_of_masks_are_labels_of_a_chip_each(store: Any, encoder: Encoder, tmp_path: Path) -> None:
    folder = tmp_path / "masks"
    (folder / "masks").mkdir(parents=True)
    swapped = 3
    for number in range(8):
        mask = np.where(store.wet[number] != (number == swapped), 1, 2).astype(np.uint8)
        mask[:, 14:18] = 0
        if number == 0:
            mask[mask == 2] = 0
        data = store.stored[number]
        for name, values in ((folder / f"c{number}.tif", data), (folder / "masks" / f"c{number}.tif", mask[None])):
            with rasterio.open(
                name, "w", driver="GTiff", dtype=values.dtype, count=len(values), height=32, width=32,
                crs="EPSG:32633", transform=rasterio.transform.from_origin(500_000 + number * 320, 6_540_000, 10, 10),
            ) as out:  # fmt: skip
                out.write(values)
    lines = [f"c{number}.tif,b{number}" for number in range(8)]
    (folder / "index.csv").write_text("\n".join(["file,block", *lines]) + "\n")
    bands = "".join(f"  {band}: {band}\n" for band in store.bands)
    (folder / "chipset.yaml").write_text(
        f"bands:\n{bands}encoding: {{dtype: uint16, scale: 0.0001, offset: -0.1, nodata: 0}}\nresolution_m: 10\n"
        "block: block\nlabels: {kind: mask, folder: masks, classes: {1: water, 2: land}, ignore: [0]}\n"
    )
    result = check_labels(None, WATER, out=tmp_path / "out", chips=folder, encoder=encoder)
    table = pd.read_csv(result.folder / "verdicts.csv", keep_default_na=False)
    assert result.labels == 15 and result.counts == {"land": 7, "water": 8} and set(table["fate"]) == {USED}
    assert table["area_m2"].iloc[0] == table["pixels"].iloc[0] * 100
    wrong = table[table["verdict"] == "remove"]
    assert set(wrong["chip"]) == {"c3"} and len(wrong) == 2
