"""Pretraining on real Sentinel-2 chips of the Finnish coast: it learns, probes, and explains itself."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from geossl.chips.open import open_chips
from geossl.cube.connect import open_cube
from geossl.cube.index import index_source
from geossl.encoders.saved import load_encoder
from geossl.regions import Region
from geossl.training.pretrain import foresee, pretrain

pytestmark = pytest.mark.real


@pytest.fixture
def some_chips(real_data: Path, tmp_path: Path) -> Path:
    """Every fifth chip of bigearthnet-finland, under the name of the set."""
    source, target = real_data / "bigearthnet-finland", tmp_path / "bigearthnet-finland"
    (target / "images").mkdir(parents=True)
    head, *rows = (source / "index.csv").read_text(encoding="utf-8").splitlines()
    (target / "index.csv").write_text("\n".join([head, *rows[::5]]) + "\n", encoding="utf-8")
    for row in rows[::5]:
        name = row.split(",")[0]
        shutil.copyfile(source / name, target / name)
    return target


def test_real_chips_become_an_encoder_with_probes_and_a_report(some_chips: Path, tmp_path: Path) -> None:
    result = pretrain(
        chips=some_chips, epochs=2, batch_size=32, probe_labels="labels43", out=tmp_path / "encoder", seed=1
    )
    with (tmp_path / "encoder" / "metrics.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    losses = [float(row["loss"]) for row in rows if row["loss"]]
    assert losses[-1] < np.log(2 * 32 - 1), "worse than guessing among the batch"
    assert 0 < result.knn < 1 and result.recall_at_1 is None and result.collapse == []

    chips = open_chips(some_chips)
    stored, _ = chips.load([0, 1, 2])
    encoder = load_encoder(result.encoder)
    assert encoder.bands == chips.bands
    with torch.inference_mode():
        embeddings = encoder(torch.from_numpy(chips.encoding.decode(stored)))
    assert embeddings.shape == (3, 512) and torch.isfinite(embeddings).all()
    manifest = json.loads((result.encoder / "manifest.json").read_text(encoding="utf-8"))
    held_out = set(manifest["splits"]["val"]) | set(manifest["splits"]["test"])
    assert held_out and not held_out & set(manifest["splits"]["train"])
    assert 0 < manifest["normalisation"]["mean"][0] < 0.2

    html = result.report.read_text(encoding="utf-8")
    assert html.count("data:image/png") >= 6
    assert not re.search(r"(src|href)=\"(?!data:)", html)


def test_a_region_of_an_indexed_series_trains_and_recognises_tiles_on_other_dates(
    real_data: Path, home: Path, tmp_path: Path
) -> None:
    """Chips of 200 m from one square kilometre in Romania: tiles are built on the way, and not built again."""
    index_source(real_data / "s2-romania-series", period="2018")
    with open_cube() as cube:
        footprint = cube.find(cube.products()[0])[0].footprint
    region = Region("romania", footprint, tile_px=20, block_tiles=1)
    told = foresee(region, months="6-9", epochs=2, batch_size=32)
    assert told.tiles is not None and told.tiles.new > 0 and told.steps is None

    result = pretrain(region, months="6-9", epochs=2, batch_size=32)
    assert result.encoder == home / "encoders" / "romania-simclr"
    assert result.recall_at_1 is not None and 0 <= result.recall_at_1 <= 1
    manifest = json.loads((result.encoder / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["config"]["months"] == [6, 7, 8, 9] and manifest["radiometry"]["stored_as"]["offset"] == -0.1

    told = foresee(region, months="6-9", epochs=2, batch_size=32)
    assert told.tiles is not None and told.tiles.new == 0 and told.steps == result.steps
    assert pretrain(region, months="6-9", epochs=2, batch_size=32) == result
