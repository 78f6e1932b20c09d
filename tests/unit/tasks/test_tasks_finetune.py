"""Given an encoder and labels; then a head with figures, controls and a report, or a sentence that says why not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import geopandas as gpd
import pytest
import torch
from typer.testing import CliRunner

from geossl.artefacts import read_manifest
from geossl.encoders.saved import Encoder, random_encoder, save_encoder
from geossl.errors import InputError
from geossl.tasks import baselines, scratch
from geossl.tasks.finetune import FinetuneResult, finetune
from geossl.tasks.heads import KIND, load_head
from geossl.tasks.spec import TaskSpec

pytestmark = pytest.mark.usefixtures("quick_scratch", "home")
QUICK = {"RATES": (1e-3,), "TRIAL_STEPS": 1, "STEPS": 2, "BATCH": 4}


def label_file(store: Any, folder: Path, **columns: Any) -> Path:
    """Two polygons a tile: water on the left, other on the right."""
    tiles = store.table["tile"].nunique()
    shapes = [
        shape for n in range(tiles) for shape in (store.tile_box(n, 4, 8, 2, 7), store.tile_box(n, 8, 12, 20, 25))
    ]
    table = {"class": ["water", "other"] * tiles, **columns}
    path = folder / "labels.gpkg"
    gpd.GeoDataFrame(table, geometry=shapes, crs="EPSG:32633").to_crs("EPSG:3006").to_file(path)
    return path


@pytest.fixture(scope="module")
def taught(make_store: Any, encoder: Encoder, tmp_path_factory: pytest.TempPathFactory) -> FinetuneResult:
    """A water head from sparse labels, taught once for the tests that only look at it."""
    folder = tmp_path_factory.mktemp("taught")
    store = make_store()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in QUICK.items():
            patch.setattr(scratch, name, value)
        return finetune("water", encoder=encoder, chips=store, labels=label_file(store, folder), out=folder / "head")


def test_a_head_of_this_format_stays_and_one_of_an_older_format_is_taught_anew(
    store: Any, encoder: Encoder, taught: FinetuneResult, tmp_path: Path
) -> None:
    shutil.copytree(taught.head, tmp_path / "head")
    manifest, run = tmp_path / "head" / "manifest.json", tmp_path / "head" / "run.json"
    again: dict[str, Any] = {"encoder": encoder, "chips": store, "labels": taught.head.parent / "labels.gpkg"}
    written = run.stat().st_mtime_ns
    finetune("water", **again, out=tmp_path / "head")
    assert run.stat().st_mtime_ns == written
    manifest.write_text(manifest.read_text().replace('"format_version": 2', '"format_version": 1'))
    finetune("water", **again, out=tmp_path / "head")
    assert run.stat().st_mtime_ns > written and read_manifest(tmp_path / "head", KIND)["format_version"] == 2


def test_sparse_labels_in_another_crs_become_a_head_that_maps(store: Any, taught: FinetuneResult) -> None:
    assert taught.value > 0.95 and taught.labels["test"] > 0
    head = load_head(taught.head)
    stored, flags = store.load([0])
    values = torch.from_numpy(store.encoding.decode(stored))[:, None]
    said = head.predict(values, torch.from_numpy(flags == 0)[:, None]).argmax(1)[0].numpy()
    assert (said == store.wet[0]).mean() > 0.9
    rows = {row["row"] for row in taught.rows}
    assert {"same head, random encoder", "supervised from scratch", "commonest class", "MNDWI > 0"} <= rows
    assert all(row["ours_minus_row"] for row in taught.rows if row["row"] == "same head, random encoder")


def test_the_manifest_says_what_the_head_rests_on_and_the_report_stands_alone(
    store: Any, taught: FinetuneResult
) -> None:
    manifest = read_manifest(taught.head, KIND)
    assert manifest["bands"] == list(store.bands) and manifest["encoding"] == store.encoding.as_dict()
    assert manifest["encoder"]["method"] == "random" and manifest["chips"]["id"] == store.id
    assert not set(manifest["splits"]["test"]) & {*manifest["splits"]["train"], *manifest["splits"]["val"]}
    json.loads((taught.head / "manifest.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    page = taught.report.read_text()
    assert "Confusion" in page and "same head, random encoder" in page and "data:image/png" in page
    assert "http" not in page.replace("http-equiv", "")
    assert manifest["trust"]["calibration"]["sentence"] and "Where it fails" in (taught.head / "card.md").read_text()
    assert json.loads((taught.head / "item.json").read_text())["properties"]["mlm:tasks"] == ["semantic-segmentation"]


def test_the_same_command_finds_its_head_and_another_run_elsewhere_gives_the_same_bytes(
    store: Any, encoder: Encoder, taught: FinetuneResult, tmp_path: Path
) -> None:
    labels = taught.head.parent / "labels.gpkg"
    before = (taught.head / "head.safetensors").stat().st_mtime_ns
    again = finetune("water", encoder=encoder, chips=store, labels=labels, out=taught.head)
    assert (again.value, again.rows) == (taught.value, taught.rows)
    assert (taught.head / "head.safetensors").stat().st_mtime_ns == before
    finetune("water", encoder=encoder, chips=store, labels=labels, out=tmp_path / "head")
    for file in ("head.safetensors", "manifest.json"):
        assert (taught.head / file).read_bytes() == (tmp_path / "head" / file).read_bytes()


def test_few_labels_teach_the_head_and_all_labels_stand_beside_it(store: Any, encoder: Encoder, tmp_path: Path) -> None:
    labels = label_file(store, tmp_path)
    result = finetune("water", encoder=encoder, chips=store, labels=labels, labels_per_class=1, out=tmp_path / "head")
    budgets = {row["labels_per_class"] for row in result.rows if row["row"].startswith("this head")}
    assert budgets == {1, None}
    assert read_manifest(tmp_path / "head", KIND)["labels_per_class"] == 1
    assert next(row for row in result.rows if row["labels_per_class"] == 1)["draws"] == 5


def test_bands_in_another_order_are_matched_by_name_and_missing_ones_refused(
    store: Any, encoder: Encoder, taught: FinetuneResult, tmp_path: Path
) -> None:
    labels = taught.head.parent / "labels.gpkg"
    store.bands, store.stored = store.bands[::-1], store.stored[:, ::-1].copy()
    turned = finetune("water", encoder=encoder, chips=store, labels=labels, out=tmp_path / "b")
    assert turned.value == taught.value
    store.bands = ("green", "red", "blue", "swir16")
    with pytest.raises(InputError, match="the data lack band nir of the encoder"):
        finetune("water", encoder=encoder, chips=store, labels=labels, out=tmp_path / "c")
    assert not (tmp_path / "c").exists()


def test_drought_is_compared_with_anomalies_of_other_years(make_store: Any, encoder: Encoder, tmp_path: Path) -> None:
    years = ("2016-06-01", "2017-06-03", "2018-06-02")
    store = make_store(tiles=8, dates=years)
    labels = label_file(store, tmp_path, date="2018-06-02")
    gpd.read_file(labels).replace({"water": "severe", "other": "none"}).to_file(labels)
    result = finetune("drought", encoder=encoder, chips=store, labels=labels, out=tmp_path / "head")
    rows = {row["row"] for row in result.rows}
    assert {baselines.baseline_titles()[name] for name in ("vci", "ndmi_anomaly")} <= rows | set(result.left_out)
    one_year = make_store(tiles=8, dates=("2018-06-02",))
    without = finetune("drought", encoder=encoder, chips=one_year, labels=labels, out=tmp_path / "other")
    assert "too few training pixels" in without.left_out["NDMI anomaly, thresholds from training labels"]


def test_a_quantity_is_learnt_from_numbers(store: Any, encoder: Encoder, tmp_path: Path) -> None:
    spec = TaskSpec(name="cover", title="Cover", kind="regression", unit="%", label_field="share")
    labels = label_file(store, tmp_path, share=[0.0, 80.0] * 8)
    result = finetune(spec, encoder=encoder, chips=store, labels=labels, out=tmp_path / "head")
    assert result.headline == "rmse" and result.value < 15
    assert (
        load_head(tmp_path / "head").predict(torch.zeros(1, 1, 4, 32, 32), torch.ones(1, 1, 32, 32).bool()).shape[1]
        == 1
    )


@pytest.mark.parametrize(("kind", "headline"), [("class", "macro_f1"), ("multilabel", "macro_ap")])
def test_ready_chips_are_taught_by_the_labels_of_their_index(
    store: Any, encoder: Encoder, tmp_path: Path, ready_set: Any, kind: str, headline: str
) -> None:
    folder = ready_set(store, tmp_path / "ready", kind)
    result = finetune("land-cover", encoder=encoder, chips=folder, out=tmp_path / "head")
    assert result.headline == headline and result.value > 0.95
    assert {"random convolutions + statistics", "band statistics", "constant answer"} <= {
        row["row"] for row in result.rows
    }
    head = load_head(tmp_path / "head")
    assert head.chip_px == 32 and head.task.temporal == "date"


def test_contradicting_or_missing_sources_are_refused(store: Any, encoder: Encoder, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="one source of chips"):
        finetune("water", encoder=encoder)
    with pytest.raises(InputError, match="a region needs labels"):
        finetune("water", encoder=encoder, region="15,58.9,15.1,59")
    with pytest.raises(InputError, match="chips of a store carry no labels"):
        finetune("water", encoder=encoder, chips=store)
    with pytest.raises(InputError, match="labels whole chips"):
        multi = TaskSpec.model_validate(
            {"name": "m", "title": "M", "kind": "multilabel", "classes": [{"name": "water"}, {"name": "other"}]}
        )
        finetune(multi, encoder=encoder, chips=store, labels=label_file(store, tmp_path))


def test_a_folder_of_something_else_is_never_replaced(store: Any, encoder: Encoder, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("ten years of work")
    with pytest.raises(InputError, match="holds something else"):
        finetune("water", encoder=encoder, chips=store, labels=label_file(store, tmp_path), out=tmp_path / "out")
    assert (tmp_path / "out" / "thesis.txt").read_text() == "ten years of work"


def test_the_command_line_says_it_in_one_line_and_exits_with_2_on_wrong_input(
    store: Any, tmp_path: Path, ready_set: Any
) -> None:
    from geossl.cli.main import app

    encoder = random_encoder("resnet18", store.bands, [0.1] * 4, [0.1] * 4, seed=1)
    save_encoder(encoder, tmp_path / "encoder")
    folder = ready_set(store, tmp_path / "ready", "class")
    command = [
        "finetune",
        "--encoder",
        str(tmp_path / "encoder"),
        "--chips",
        str(folder),
        "--out",
        str(tmp_path / "head"),
    ]
    done = CliRunner().invoke(app, [*command, "--task", "land-cover", "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout.strip().splitlines()[-1])["headline"] == "macro_f1"
    wrong = CliRunner().invoke(app, [*command, "--task", "water"])
    assert wrong.exit_code == 2 and "needs labels of another kind" in wrong.output
