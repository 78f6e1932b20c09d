"""The water tasks on a small simulated lake: its level from its shore, and its reeds from an index alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio

from geossl.maps.index import make_index_map
from geossl.maps.level import map_level
from geossl.maps.task_map import make_task_map
from geossl.sandbox.create import create_sandbox

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Lake:
    folder: Path


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GEOSSL_HOME", str(tmp_path_factory.mktemp("lake") / "home"))
        made = create_sandbox("vanern", size_km=3.2)
        yield Lake(Path(made.truth).parent)


def test_the_level_of_the_lake_is_found_to_a_decimetre_on_dates_left_out(lake: Lake, tmp_path: Path) -> None:
    result = map_level(lake.folder / "labels" / "gauge.csv", region="vanern", out=tmp_path / "level")
    table = pd.read_csv(result.series)
    assert result.dates == len(table) >= 30
    assert result.observable >= 0.7 * result.dates
    assert result.rmse_m is not None
    assert result.rmse_m <= 0.10
    truth = pd.read_csv(lake.folder / "truth" / "levels.csv").set_index("date")["level_m"]
    seen = table[table["level_m"].notna()]
    error = seen["level_m"].to_numpy() - truth[seen["date"]].to_numpy()
    assert np.sqrt((error**2).mean()) <= 0.10
    assert (np.abs(error) <= 2.6 * seen["error_m"]).mean() >= 0.9, "stated errors hold"
    rows = result.metrics["rows"]
    assert rows["shore elevations"]["skill_climatology"] > 0
    assert rows["shore elevations"]["skill_persistence"] > 0
    assert table[table["level_m"].isna()]["reason"].str.len().gt(5).all()
    lines = gpd.read_file(result.folder / "shorelines.gpkg")
    assert set(lines["date"]) <= set(table["date"])
    for name in ("series.png", "report.html", "shore.tif"):
        assert (result.folder / name).stat().st_size > 1000
    again = map_level(lake.folder / "labels" / "gauge.csv", region="vanern", out=tmp_path / "level")
    assert again.seconds < 5
    assert again.metrics == json.loads(json.dumps(result.metrics))


def test_the_first_pilot_the_largest_extent_of_reeds_and_its_change_since_the_historical_map(
    lake: Lake, tmp_path: Path
) -> None:
    history = lake.folder / "labels" / "historical_vegetation.tif"
    made = make_index_map(
        "ndvi", "max", region="vanern", period="2020", threshold=0.4, within="water", against=history,
        out=tmp_path / "reeds",
    )  # fmt: skip
    extent, change = (layer / "class.tif" for layer in made.layers[-2:])
    with rasterio.open(extent) as source:
        found, transform = source.read(1), source.transform
    truth = np.zeros(found.shape, bool)
    for month in range(5, 10):
        with rasterio.open(lake.folder / "truth" / "vegetation" / f"2020-{month:02d}.tif") as source:
            assert source.transform == transform
            truth |= source.read(1) > 0
    water = found != 255
    hits = (found == 1) & truth & water
    assert hits.sum() / (truth & water).sum() > 0.6
    assert hits.sum() / (found == 1).sum() > 0.5
    with rasterio.open(change) as source:
        assert {1, 2, 3} & set(np.unique(source.read(1)).tolist())
    assert sum(row["hectares"] for row in made.areas) > 0


def test_how_often_there_is_water_on_sand_follows_the_true_water(lake: Lake, tmp_path: Path) -> None:
    made = make_task_map("surface-water", region="vanern", months="5-9", out=tmp_path / "water")
    with rasterio.open(made.layers[0] / "value.tif") as source:
        share = source.read(1)
    fractions = lake.folder / "truth" / "water_fraction"
    days = [path for path in sorted(fractions.glob("*.tif")) if 5 <= int(path.stem[5:7]) <= 9]
    wet = []
    for path in days:
        with rasterio.open(path) as source:
            wet.append(source.read(1) > 100)  # half of the pixel and more
    true = np.mean(wet, axis=0)
    with rasterio.open(lake.folder / "truth" / "shore.tif") as source:
        sand = (source.read(1) == 1) & (true > 0) & (true < 1) & np.isfinite(share)
    assert sand.sum() > 500
    assert abs((share - true)[sand].mean()) < 0.05
    assert np.corrcoef(share[sand], true[sand])[0, 1] > 0.5
    with rasterio.open(made.layers[1] / "class.tif") as source:
        season = source.read(1)
    assert (season[true == 1] == 3).mean() > 0.85, "always wet"
    assert (season[true == 0] == 0).mean() > 0.85, "never wet"
