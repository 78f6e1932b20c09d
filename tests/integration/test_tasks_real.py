"""Given the shared real sets and an untrained encoder; then each set is taught with one call and beats chance.

Supervised from scratch takes a few steps only here: what it reaches is no figure.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from geossl.artefacts import read_manifest
from geossl.chips.open import open_chips
from geossl.encoders.saved import Encoder, random_encoder
from geossl.labels.rasters import read_raster_labels
from geossl.tasks import chip_rows, examples, scratch
from geossl.tasks.finetune import FinetuneResult, finetune
from geossl.tasks.heads import KIND, load_head
from geossl.tasks.spec import load_task
from geossl.training.data import band_statistics

pytestmark = [pytest.mark.real, pytest.mark.usefixtures("home")]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scratch, "RATES", (1e-3,))
    monkeypatch.setattr(scratch, "TRIAL_STEPS", 1)
    monkeypatch.setattr(scratch, "STEPS", 3)
    monkeypatch.setattr(examples, "MAX_PIXELS", {"train": 1500, "val": 1500, "test": 6000})


def untrained(folder: Path) -> Encoder:
    chips = open_chips(folder)
    mean, std = band_statistics(chips, np.arange(len(chips.table)), 0)
    return random_encoder("resnet18", chips.bands, mean, std, seed=7)


def value(result: FinetuneResult, row: str) -> float:
    """The headline figure of a row at all labels."""
    return next(float(r[result.headline]) for r in result.rows if r["row"] == row and r["labels_per_class"] is None)


def test_eurosat_is_classified_by_blocks(real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "eurosat_ms"
    result = finetune("land-cover", encoder=untrained(folder), chips=folder, out=tmp_path / "head")
    assert result.value > value(result, chip_rows.CONSTANT) + 0.3
    manifest = read_manifest(result.head, KIND)
    blocks = open_chips(folder).table["block"].astype(str)
    assert set(manifest["splits"]["test"]).isdisjoint(manifest["splits"]["train"])
    assert result.labels["test"] == blocks.isin(manifest["splits"]["test"]).sum()
    assert {r["labels_per_class"] for r in result.rows} >= {5, None}


def test_water_masks_are_segmented_by_adjacency_group(real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "dfc24-water"
    result = finetune("water", encoder=untrained(folder), chips=folder, labels_per_class=10, out=tmp_path / "head")
    assert value(result, "this head (encoder + spectral + convolutions)") > 0.7 > 0.6 > value(result, "commonest class")
    assert value(result, "MNDWI > 0") > 0.7
    groups = set(open_chips(folder).table["adjacency_group"].astype(str))
    splits = read_manifest(result.head, KIND)["splits"]
    assert groups == {group for names in splits.values() for group in names}
    assert load_head(result.head).task.class_names == ("other", "water")


def test_the_tree_cover_raster_becomes_labels_of_both_classes(real_data: Path) -> None:
    spec = load_task("tree-cover")
    assert spec.raster is not None
    labels = read_raster_labels(
        real_data / "s2-romania-series" / "labels" / "tree_cover_density_2018.tif",
        spec.class_names,
        seed=0,
        samples=spec.raster.samples,
        thresholds=spec.raster.thresholds,
        nodata=spec.raster.nodata,
    )
    assert labels.counts() == {"open": 300, "dense": 300}
    assert labels.frame.crs.to_epsg() == 3035


@pytest.mark.slow
def test_bigearthnet_labels_are_learnt_by_blocks(real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "bigearthnet-finland"
    result = finetune("land-cover", encoder=untrained(folder), chips=folder, out=tmp_path / "head")
    assert result.headline == "macro_ap"
    assert result.value > 0.55 > 0.4 > value(result, chip_rows.CONSTANT)
    assert value(result, chip_rows.OURS) > value(result, chip_rows.RANDOM_ONLY)
