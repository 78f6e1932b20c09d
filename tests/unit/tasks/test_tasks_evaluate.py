"""Given a head and labels of another place; then it is scored there as it is, group by group, and its trust too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from geossl.artefacts import read_manifest, write_manifest
from geossl.encoders.saved import Encoder
from geossl.errors import InputError
from geossl.tasks.evaluate import KIND, EvaluateResult, evaluate
from geossl.tasks.heads import KIND as HEAD_KIND
from geossl.tasks.heads import ChipNet, Head, PixelNet, make_net, save_weights
from geossl.tasks.sources import open_source
from geossl.tasks.spec import TaskSpec, load_task
from geossl.tasks.trust import make_trust

pytestmark = pytest.mark.usefixtures("home")
NIR = 2


def label_file(store: Any, path: Path, **columns: Any) -> Path:
    tiles = store.table["tile"].nunique()
    shapes = [s for n in range(tiles) for s in (store.tile_box(n, 4, 8, 2, 7), store.tile_box(n, 8, 12, 20, 25))]
    table = {"class": ["water", "other"] * tiles, **columns}
    gpd.GeoDataFrame(table, geometry=shapes, crs="EPSG:32633").to_file(path)
    return path


def save(head: Head, folder: Path, **facts: Any) -> Path:
    folder.mkdir()
    told = {"resolution_m": 10.0, "chips": {"name": "there", "id": "there"}, "splits": {}, **facts}
    write_manifest(folder, HEAD_KIND, **save_weights(head, folder), encoder={}, metrics={"value": 0.9}, **told)
    return folder


@pytest.fixture(scope="module")
def head(encoder: Encoder) -> Head:
    """Dark in the near infrared is water."""
    net = make_net(load_task("water"), encoder)
    assert isinstance(net, PixelNet)
    with torch.no_grad():
        for one in (*net.readers, net.planes):
            one.weight.zero_()  # type: ignore[union-attr, operator]
        net.planes.bias.zero_()
        water = [one.name for one in load_task("water").classes].index("water")
        net.planes.weight[water, NIR, 0, 0], net.planes.weight[1 - water, NIR, 0, 0] = -3.0, 3.0
    return Head(load_task("water"), net.eval(), 32).eval()


@pytest.fixture(scope="module")
def scored(make_store: Any, head: Head, tmp_path_factory: pytest.TempPathFactory) -> EvaluateResult:
    """Another place, two years, of which the second has bright water that the head takes for land."""
    folder = tmp_path_factory.mktemp("scored")
    here, other = make_store(tiles=24, seed=1), make_store(tiles=8, dates=("2018-06-01", "2019-06-01"), seed=2)
    examples, _ = open_source(head.task, label_file(here, folder / "h.gpkg"), None, here, None, None, None).examples(
        {}, 0
    )
    head.trust = make_trust(head.task, head, examples, 0)
    late = (other.table["datetime"].dt.year == 2019).to_numpy()
    other.stored[late, NIR] = other.stored[late, NIR, :, ::-1] // 2 + 1500
    labels = label_file(other, folder / "o.gpkg")
    return evaluate(save(head, folder / "head"), labels=labels, chips=other, leave_out="year", out=folder / "out")


def test_a_head_is_scored_elsewhere_with_interval_calibration_coverage_and_outliers(scored: EvaluateResult) -> None:
    assert scored.headline == "macro_f1" and scored.at_home == 0.9 and scored.blocks == 8
    assert scored.interval is not None and scored.interval[0] <= scored.value <= scored.interval[1]
    assert 0.3 < scored.value < 0.9 and scored.ece is not None and scored.ece > 0.1
    assert set(scored.coverage) <= {"80 %", "90 %", "95 %"} and min(scored.coverage.values()) < 0.8
    assert scored.unlike is not None and scored.unlike > 0.2
    manifest = read_manifest(scored.folder, KIND)
    assert np.array(manifest["confusion"]).sum() == scored.items and manifest["trust"]["fails"]["blocks"]
    page = scored.report.read_text()
    for title in ("How good it is here", "Confusion", "How sure it is, and how right", "Each year", "Where it fails"):
        assert title in page


def test_each_year_stands_by_itself_beside_a_read_out_that_has_not_seen_it(scored: EvaluateResult) -> None:
    first, second = scored.groups
    assert (first["year"], second["year"]) == (2018, 2019)
    assert first["as it is"] > 0.95 > 0.5 > second["as it is"]
    assert first["anew"] is not None and second["unlike"] > first["unlike"]
    assert read_manifest(scored.folder, KIND)["refitted"]["items"] == scored.items


def test_the_same_command_finds_its_evaluation(scored: EvaluateResult, make_store: Any) -> None:
    folder = scored.folder.parent
    other = make_store(tiles=8, dates=("2018-06-01", "2019-06-01"), seed=2)
    again = evaluate(
        folder / "head", labels=folder / "o.gpkg", chips=other, leave_out="year", out=scored.folder
    )  # the fake store's id says what it holds
    assert (again.value, again.groups) == (scored.value, scored.groups)


def test_on_its_own_chips_the_blocks_it_learnt_from_are_left_out(store: Any, head: Head, tmp_path: Path) -> None:
    splits = {"train": ["b0", "b1", "b2"], "val": ["b3"], "test": ["b4", "b5", "b6", "b7"]}
    own = save(head, tmp_path / "own", chips={"name": store.name, "id": store.id}, splits=splits)
    labels = label_file(store, tmp_path / "labels.gpkg")
    result = evaluate(own, labels=labels, chips=store, out=tmp_path / "out", leave_out="site")
    assert result.blocks == 4 and [row["site"] for row in result.groups] == ["b4", "b5", "b6", "b7"]
    assert "4 blocks it has learnt from are left out" in result.report.read_text()
    own_chips = {"name": store.name, "id": store.id}
    everything = save(head, tmp_path / "all", chips=own_chips, splits={"train": [f"b{n}" for n in range(8)]})
    with pytest.raises(InputError, match="has learnt from every block"):
        evaluate(everything, labels=labels, chips=store, out=tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_wrong_input_is_refused_before_anything_is_scored(store: Any, head: Head, tmp_path: Path) -> None:
    labels = label_file(store, tmp_path / "labels.gpkg")
    ours = save(head, tmp_path / "head", resolution_m=30.0)
    with pytest.raises(InputError, match=r"(?s)pixels 30 m.*pixels 10 m"):
        evaluate(ours, labels=labels, chips=store)
    with pytest.raises(InputError, match="year or site"):
        evaluate(ours, labels=labels, chips=store, leave_out="month")
    with pytest.raises(InputError, match="labels of several"):
        evaluate(ours, labels=labels, chips=store, leave_out="year", other_pixels=True, out=tmp_path / "one")
    store.bands = ("green", "red", "blue", "swir16")
    with pytest.raises(InputError, match="lack band nir"):
        evaluate(ours, labels=labels, chips=store)


def test_chips_with_labels_of_their_own_are_scored_from_the_command_line(
    store: Any, encoder: Encoder, ready_set: Any, tmp_path: Path
) -> None:
    from geossl.cli.main import app

    spec = TaskSpec.model_validate(
        {"name": "c", "title": "C", "kind": "classification", "classes": [{"name": "dark"}, {"name": "bright"}]}
    )
    net = make_net(spec, encoder)
    assert isinstance(net, ChipNet)
    made = save(Head(spec, net.eval(), 32).eval(), tmp_path / "head")
    folder = ready_set(store, tmp_path / "ready", "class")
    command = ["evaluate", "--head", str(made), "--chips", str(folder), "--leave-out", "site", "--out"]
    done = CliRunner().invoke(app, [*command, str(tmp_path / "out"), "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout.strip().splitlines()[-1])
    assert told["items"] == 32 and told["coverage"] == {} and all(row["anew"] > 0.9 for row in told["groups"])
    plain = CliRunner().invoke(app, [*command, str(tmp_path / "out")])
    assert "fitted without it" in plain.output
    wrong = CliRunner().invoke(app, ["evaluate", "--head", str(tmp_path / "nowhere"), "--chips", str(folder)])
    assert wrong.exit_code == 2 and "no head here" in wrong.output
