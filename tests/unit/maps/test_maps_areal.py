"""Areas from a test sample: the published example, intervals that cover, and a pixel count that is named so."""

from __future__ import annotations

import csv
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from maps_fakes import PixelHead, cut_chips, task
from shapely.geometry import box
from typer.testing import CliRunner

from geossl.cli.main import app
from geossl.errors import InputError
from geossl.maps.areal import DESIGN_BASED, PIXEL_COUNT, draw_sample, map_areas
from geossl.maps.design import allocate, estimate_areas
from geossl.maps.make import make_map


def test_the_published_example_of_deforestation_comes_out() -> None:
    """Olofsson et al. 2014, section 5: 21,158 ± 6,158 ha of deforestation where the map counts 18,000."""
    counts = np.array([[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]])
    said = estimate_areas(counts, np.array([200_000, 150_000, 3_200_000, 6_450_000]) * 0.09)
    assert said.area.value[0] == pytest.approx(21_158, rel=1e-3)
    assert 1.96 * said.area.error[0] == pytest.approx(6_158, rel=5e-3)
    np.testing.assert_allclose(said.users.value, [0.88, 0.73, 0.93, 0.96], atol=0.005)
    np.testing.assert_allclose(1.96 * said.users.error, [0.07, 0.10, 0.04, 0.02], atol=0.006)
    np.testing.assert_allclose(said.producers.value, [0.75, 0.85, 0.93, 0.96], atol=0.006)
    np.testing.assert_allclose(1.96 * said.producers.error[[0, 2, 3]], [0.21, 0.03, 0.01], atol=0.01)
    assert said.overall.value[0] == pytest.approx(0.95, abs=0.005)
    assert 1.96 * said.overall.error[0] == pytest.approx(0.02, abs=0.005)


TRUE_SHARES = np.array([[0.82, 0.06, 0.12], [0.06, 0.80, 0.14], [0.15, 0.10, 0.75]])
"""What is there (columns) where the map says each class (rows): the map makes too little of the last."""
PIXELS = np.array([60_000, 30_000, 10_000])


def test_the_intervals_cover_the_true_area_in_95_of_100_draws_and_the_pixel_count_does_not() -> None:
    generator = np.random.default_rng(5)
    truth = (PIXELS[:, None] * TRUE_SHARES).sum(0) * 0.01
    wanted = allocate(300, PIXELS)
    inside, counted = np.zeros(3), np.zeros(3)
    for _ in range(200):
        counts = np.stack([generator.multivariate_hypergeometric(np.rint(PIXELS[h] * TRUE_SHARES[h]).astype(int), n)
                           for h, n in enumerate(wanted)])  # fmt: skip
        area = estimate_areas(counts, PIXELS * 0.01).area
        inside += (area.low <= truth) & (truth <= area.high)
        counted += (area.low <= PIXELS * 0.01) & (PIXELS * 0.01 <= area.high)
    assert (inside / 200 >= 0.91).all()
    assert (inside / 200 <= 0.99).all()
    assert counted[2] / 200 < 0.05, "the map's own count lies outside"


def test_a_class_without_an_error_in_the_sample_still_has_an_interval() -> None:
    said = estimate_areas(np.array([[20, 0], [0, 20]]), np.array([50.0, 50.0]))
    assert said.area.value.tolist() == [50, 50]
    assert (said.area.high - said.area.low > 1).all()
    with pytest.raises(InputError, match="too few test samples"):
        estimate_areas(np.array([[1, 0], [5, 20]]), np.array([50.0, 50.0]))


def test_rare_classes_get_enough_samples_and_the_rest_goes_by_area() -> None:
    assert allocate(300, np.array([98.0, 2.0, 0.0])).tolist() == [246, 54, 0]
    assert allocate(40, np.array([90.0, 10.0])).tolist() == [28, 12]
    with pytest.raises(InputError, match="--draw"):
        allocate(3, np.array([1.0, 1.0]))


@pytest.fixture
def layer(picture: np.ndarray, tmp_path: Path) -> Path:
    """A layer of three classes."""
    return make_map(PixelHead(task()), chips=cut_chips(picture), block="b1", out=tmp_path / "map").layer


def label(sample: Path, layer: Path, wrong: float, seed: int = 0) -> gpd.GeoDataFrame:
    """Fill in a drawn sample: what the map says, but for a share of points that is the next class."""
    frame = gpd.read_file(sample)
    names = ["water", "field", "forest"]
    with rasterio.open(layer / "class.tif") as source:
        at = [int(value[0]) for value in source.sample(zip(frame.geometry.x, frame.geometry.y, strict=True))]
    assert [names[value] for value in at] == frame["stratum"].tolist()
    off = np.random.default_rng(seed).random(len(frame)) < wrong
    frame["class"] = [names[(value + shift) % 3] for value, shift in zip(at, off.astype(int), strict=True)]
    frame.to_file(sample, layer="sample", driver="GPKG")
    return frame


def test_a_sample_is_drawn_filled_in_and_gives_areas_with_intervals(layer: Path, tmp_path: Path) -> None:
    drawn = draw_sample(layer, 300, tmp_path / "sample.gpkg", seed=3)
    assert sum(drawn.points.values()) == 300
    assert min(drawn.points.values()) >= 50
    empty = gpd.read_file(drawn.path)
    assert empty["class"].isna().all()
    assert not empty.geometry.duplicated().any()
    label(drawn.path, layer, 0.1)
    west, east = box(600_000, 6_599_040, 600_800, 6_600_000), box(600_800, 6_599_040, 601_580, 6_600_000)
    corner = box(601_580, 6_599_980, 601_600, 6_600_000)
    zones = gpd.GeoDataFrame({"name": ["west", "east", "corner"]}, geometry=[west, east, corner], crs="EPSG:32633")
    zones.to_file(tmp_path / "zones.gpkg")
    made = map_areas(layer, sample=drawn.path, zones=tmp_path / "zones.gpkg", out=tmp_path / "areas")
    assert made.overall is not None
    assert made.overall[0] == pytest.approx(0.9, abs=0.05)
    assert made.overall[1] < made.overall[0] < made.overall[2]
    by = {(row["zone"], row["class"]): row for row in made.rows}
    assert {zone for zone, _ in by} == {"all", "west", "east", "corner"}
    for zone in ("all", "west", "east"):
        rows = [row for (name, _), row in by.items() if name == zone]
        assert {row["method"] for row in rows} == {DESIGN_BASED}
        assert sum(row["hectares"] for row in rows) == pytest.approx(sum(row["map_ha"] for row in rows), rel=1e-3)
        assert all(row["low_ha"] < row["hectares"] < row["high_ha"] for row in rows)
    assert by["corner", "water"]["method"] == PIXEL_COUNT
    assert by["corner", "water"]["low_ha"] is None
    assert "too few test samples" in by["corner", "water"]["note"]
    with (tmp_path / "areas" / "accuracy.csv").open() as stream:
        assert {row["figure"] for row in csv.DictReader(stream)} == {"overall", "user's", "producer's"}


def test_without_a_sample_the_areas_are_named_a_pixel_count(layer: Path) -> None:
    result = CliRunner().invoke(app, ["areas", str(layer)])
    assert result.exit_code == 0, result.output
    assert result.output.count("pixel count") == 3
    made = map_areas(layer)
    assert made.folder.name == "map-areas"
    assert made.overall is None
    assert {row["note"] for row in made.rows} == {"no test sample"}


def test_samples_that_say_nothing_of_this_map_are_refused_or_counted(layer: Path, tmp_path: Path) -> None:
    path = draw_sample(layer, 60, tmp_path / "sample.gpkg").path
    frame = label(path, layer, 0.0)
    frame.loc[0, "class"] = None
    frame.loc[1, "geometry"] = box(0, 0, 1, 1).centroid
    frame.to_file(path, layer="sample", driver="GPKG")
    assert map_areas(layer, sample=path).left_out == {"without a class": 1, "where the map has no class": 1}
    frame.to_parquet(tmp_path / "sample.parquet")
    again = map_areas(layer, sample=tmp_path / "sample.parquet", out=tmp_path / "again")
    assert again.rows == map_areas(layer, sample=path).rows
    with pytest.raises(InputError, match="no such vector file"):
        map_areas(layer, sample=tmp_path / "nothing.gpkg", out=tmp_path / "none")
    frame.loc[2, "class"] = "swamp"
    frame.to_file(path, layer="sample", driver="GPKG")
    with pytest.raises(InputError, match="does not have") as caught:
        map_areas(layer, sample=path)
    assert "swamp" in str(caught.value)
    frame.assign(layer="another").to_file(path, layer="sample", driver="GPKG")
    with pytest.raises(InputError, match="another map"):
        map_areas(layer, sample=path)
    with pytest.raises(InputError, match="there already"):
        draw_sample(layer, 60, path)


def test_a_drawn_point_lies_in_the_middle_of_a_pixel_of_its_class_anywhere_on_the_map(layer: Path, tmp_path) -> None:  # type: ignore[no-untyped-def]
    frame = gpd.read_file(draw_sample(layer, 600, tmp_path / "sample.gpkg").path)
    with rasterio.open(layer / "class.tif") as source:
        column, row = ~source.transform * (frame.geometry.x.to_numpy(), frame.geometry.y.to_numpy())
    assert np.allclose(column % 1, 0.5)
    assert np.allclose(row % 1, 0.5)
    assert column.max() > 150
    assert row.max() > 90
