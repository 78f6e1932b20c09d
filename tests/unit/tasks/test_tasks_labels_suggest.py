"""Given chips and an encoder; then places to label next come as a file to fill in, outside the blocks that test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from geossl.cli.main import app
from geossl.encoders.saved import Encoder, save_encoder
from geossl.errors import InputError
from geossl.labels.read import read_vector_labels
from geossl.tasks.heads import Head, PixelNet
from geossl.tasks.labels_match import match_labels
from geossl.tasks.labels_suggest import suggest_labels
from geossl.tasks.spec import TaskSpec

WATER = TaskSpec.model_validate(
    {"name": "w", "title": "W", "kind": "segmentation", "classes": [{"name": "land"}, {"name": "water"}]}
)
KIND = WATER.model_copy(update={"kind": "classification"})


def labels_file(store: Any, path: Path, tiles: tuple[int, ...] = (0, 1, 2, 3)) -> Path:
    shapes = [store.tile_box(t, y, y + 3, x, x + 3) for t in tiles for y in (4, 20) for x in (4, 26)]
    names = ["water", "land"] * (2 * len(tiles))
    gpd.GeoDataFrame({"class": names}, geometry=shapes, crs="EPSG:32633").to_file(path)
    return path


def test_places_lie_in_open_blocks_each_on_its_date_and_the_file_is_never_replaced(
    store: Any, encoder: Encoder, tmp_path: Path
) -> None:
    out = tmp_path / "next.gpkg"
    result = suggest_labels(WATER, encoder=encoder, chips=store, count=12, out=out)
    frame = gpd.read_file(out)
    assert result.count == len(frame) == 12 and frame["class"].isna().all() and frame["confidence"].isna().all()
    assert set(frame["look_at"]) == {"2018-06-01"} and frame["date"].notna().all()
    assert len(result.closed) > 0 and not set(frame["block"]) & set(result.closed)
    assert frame["block"].value_counts().max() <= 2 * -(-12 // frame["block"].nunique()) and "none" in result.doubt_from
    page = result.report.read_text()
    assert result.rule in page and "data:image/png" in page
    again = suggest_labels(WATER, encoder=encoder, chips=store, count=12, out=tmp_path / "again.gpkg")
    assert gpd.read_file(again.path).geometry.equals(frame.geometry)
    with pytest.raises(InputError, match="there already"):
        suggest_labels(WATER, encoder=encoder, chips=store, out=out)


def test_with_labels_their_places_and_what_lies_beside_is_left_out_and_a_model_of_them_doubts(
    store: Any, encoder: Encoder, tmp_path: Path
) -> None:
    file = labels_file(store, tmp_path / "labels.gpkg")
    result = suggest_labels(WATER, encoder=encoder, chips=store, labels=file, count=20, out=tmp_path / "next.gpkg")
    frame = gpd.read_file(result.path)
    near = gpd.read_file(file).union_all().distance(frame.geometry.union_all())
    assert near > 50 and "model of the labels" in result.doubt_from and frame["uncertainty"].between(0, 1).all()
    assert set(frame["block"]) & {"b4", "b5", "b6", "b7"}, "blocks without labels are open"
    assert 1 <= len(result.closed) <= 3 and set(result.closed) < {"b0", "b1", "b2", "b3"}


def test_a_head_says_where_it_is_unsure_and_its_own_test_blocks_are_closed(
    store: Any, encoder: Encoder, tmp_path: Path
) -> None:
    net = PixelNet(encoder, 2).eval()
    with torch.no_grad():
        for reader in net.readers:
            reader.weight.zero_()
        net.planes.weight.zero_()
        net.planes.bias.copy_(torch.tensor([4.0, 0.0]))
        net.planes.weight[1, 2] = 2.0  # the brighter in near infrared, the more in doubt
    meta = {"chips": {"id": store.id, "name": store.name}, "splits": {"train": ["b0"], "val": ["b1"], "test": ["b2"]}}
    head = Head(WATER, net, 32, meta).eval()
    result = suggest_labels(WATER, encoder=encoder, chips=store, head=head, count=10, out=tmp_path / "n.gpkg")
    frame = gpd.read_file(result.path)
    assert result.closed == ["b1", "b2"] and "head" in result.doubt_from
    column = ((frame.geometry.x - 500_000) % 320) // 10
    assert (column >= 16).mean() >= 0.8 and (np.diff(frame["uncertainty"]) <= 0).all(), "the right half is bright"
    assert frame["says"].isin(["land", "water"]).all() and frame["why"].str.contains("less sure than").all()
    other = WATER.model_copy(update={"name": "other"})
    with pytest.raises(InputError, match="another task"):
        suggest_labels(other, encoder=encoder, chips=store, head=head, out=tmp_path / "o.gpkg")


def test_what_is_filled_in_is_read_and_rows_left_empty_are_told(
    store: Any, encoder: Encoder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = suggest_labels(WATER, encoder=encoder, chips=store, count=6, out=tmp_path / "next.gpkg").path
    frame = gpd.read_file(path)
    with pytest.raises(InputError, match="no row of this file is labelled"):
        read_vector_labels(path, WATER.class_names)
    frame["class"] = ["land", None, "water", "", "water", "land"]
    frame.to_file(tmp_path / "filled.gpkg")
    labels = read_vector_labels(tmp_path / "filled.gpkg", WATER.class_names)
    assert labels.frame["row"].tolist() == [1, 3, 5, 6] and "rows 2, 4" in capsys.readouterr().err
    assert match_labels(store, labels, WATER, None, None).unmatched == 0


def test_for_a_task_of_chips_unlabelled_chips_are_suggested(store: Any, encoder: Encoder, tmp_path: Path) -> None:
    done = gpd.GeoDataFrame(
        {"class": ["land", None], "chip": ["t4-2018-06-01", "t5-2018-06-01"]},
        geometry=[store.tile_box(4, 0, 32, 0, 32), store.tile_box(5, 0, 32, 0, 32)],
        crs="EPSG:32633",
    )
    done.to_file(tmp_path / "done.gpkg")
    result = suggest_labels(
        KIND, encoder=encoder, chips=store, labels=tmp_path / "done.gpkg", count=8, out=tmp_path / "n.gpkg"
    )
    frame = gpd.read_file(result.path)
    assert "t4-2018-06-01" not in set(frame["chip"]) and "t5-2018-06-01" in set(frame["chip"])
    assert frame["chip"].is_unique and (frame.area == 320**2).all() and frame["class"].isna().all()


def test_nothing_left_to_suggest_is_told(store: Any, encoder: Encoder, tmp_path: Path) -> None:
    store.flags[:] = 2
    with pytest.raises(InputError, match="nothing left to suggest"):
        suggest_labels(WATER, encoder=encoder, chips=store, out=tmp_path / "n.gpkg")
    with pytest.raises(InputError, match="--count"):
        suggest_labels(WATER, encoder=encoder, chips=store, count=0, out=tmp_path / "n.gpkg")


def test_ready_chips_that_all_carry_labels_need_none(
    make_store: Any, ready_set: Any, encoder: Encoder, tmp_path: Path
) -> None:
    folder = ready_set(make_store(), tmp_path / "ready", "class")
    save_encoder(encoder, tmp_path / "encoder")
    command = ["labels", "suggest", "-e", str(tmp_path / "encoder"), "-t", "land-cover", "--chips", str(folder)]
    said = CliRunner().invoke(app, [*command, "-o", str(tmp_path / "n.gpkg")])
    assert said.exit_code == 2 and "carries a label already" in said.output
    text = (folder / "chipset.yaml").read_text().splitlines()
    (folder / "chipset.yaml").write_text("\n".join(line for line in text if not line.startswith("labels:")) + "\n")
    said = CliRunner().invoke(app, [*command, "-o", str(tmp_path / "n.gpkg"), "-n", "5", "--json"])
    assert said.exit_code == 0 and '"count": 5' in said.stdout
