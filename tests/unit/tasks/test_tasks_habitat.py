"""The sea bed: figures by depth, the spectral network beside the head, and land left out of the map."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import geopandas as gpd
import pytest

from geossl.artefacts import read_manifest
from geossl.encoders.saved import Encoder
from geossl.tasks import scratch
from geossl.tasks.baselines import baseline_titles
from geossl.tasks.finetune import finetune
from geossl.tasks.spec import PixelRule, load_task


@pytest.fixture
def beds(make_store: Any, tmp_path: Path) -> tuple[Any, Path]:
    """A store whose dark half stands for seagrass, the bright for sand, with labels at two depths and none known."""
    store = make_store()
    shapes, classes, depth = [], [], []
    for tile in range(8):
        shapes += [store.tile_box(tile, 4, 8, 2, 7), store.tile_box(tile, 8, 12, 20, 25)]
        classes += ["Eelgrass", "sand"]
        depth += [0.5 if tile % 2 else 3.0, None if tile == 0 else 5.0]
    path = tmp_path / "habitat.gpkg"
    gpd.GeoDataFrame({"class": classes, "depth_m": depth}, geometry=shapes, crs="EPSG:32633").to_file(path)
    return store, path


def test_a_head_of_the_sea_bed_has_figures_at_each_depth_and_a_network_beside_it(
    beds: tuple[Any, Path], encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"STEPS": 5, "RATES": (1e-3,)}.items():
        monkeypatch.setattr(scratch, name, value)
    store, labels = beds
    made = finetune("habitat", encoder=encoder, chips=store, labels=labels, out=tmp_path / "head")
    assert {baseline_titles()["mlp"], "commonest class", "spectral and local alone"} <= {
        row["row"] for row in made.rows
    }
    (network,) = (row for row in made.rows if row["row"] == baseline_titles()["mlp"])
    assert network["macro_f1"] > 0.9
    rows = read_manifest(made.head, "head")["metrics"]["depth_bins"]
    assert {(row["from_m"], row["to_m"]) for row in rows} <= {(None, 1), (2, 4), (4, 6)}
    assert len(rows) >= 2
    assert all(row["accuracy"] > 0.9 for row in rows)
    assert sum(row["pixels"] for row in rows) <= made.labels["test"]
    assert "Each depth" in made.report.read_text(encoding="utf-8")


def test_land_is_left_out_of_the_map_of_the_sea_bed() -> None:
    (rule,) = load_task("habitat").not_applicable
    assert (rule.index, rule.below, rule.above, rule.reason) == ("ndwi", 0.0, None, "land")
    for limits in ({}, {"above": 0.0, "below": 0.0}):
        with pytest.raises(ValueError, match="one limit"):
            PixelRule(index="ndwi", reason="both or none", **limits)
