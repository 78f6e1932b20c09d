"""Given label files as people write them; then they are read with the row at fault, or told why not."""

from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin
from shapely.geometry import Point, Polygon, box

from geossl.errors import InputError
from geossl.labels.rasters import read_raster_labels
from geossl.labels.read import Fields, read_vector_labels
from geossl.regions import Region

CLASSES = ("none", "moderate", "severe")
CRS = "EPSG:32633"
HERE = Region("here", box(14.9, 58.9, 15.2, 59.1))


def frame(**columns: object) -> gpd.GeoDataFrame:
    geometry = columns.pop("geometry", [Point(500_000, 6_540_000), box(501_000, 6_540_000, 501_050, 6_540_050)])
    return gpd.GeoDataFrame(columns, geometry=geometry, crs=CRS)


def written(tmp_path: Path, table: gpd.GeoDataFrame, name: str = "labels.gpkg") -> Path:
    path = tmp_path / name
    table.to_parquet(path) if name.endswith(".parquet") else table.to_file(path)
    return path


@pytest.mark.parametrize("name", ["labels.gpkg", "labels.geojson", "labels.parquet", "labels.shp"])
def test_points_and_polygons_of_every_format_give_the_same_classes(tmp_path: Path, name: str) -> None:
    shapes = [box(500_000, 6_540_000, 500_030, 6_540_030), box(501_000, 6_540_000, 501_050, 6_540_050)]
    table = frame(**{"class": ["severe", "none"], "date": ["2018-07-15", None], "geometry": shapes})
    labels = read_vector_labels(written(tmp_path, table, name), CLASSES)
    assert labels.frame["value"].tolist() == [2, 0]
    assert labels.frame["date"].dt.strftime("%Y-%m-%d").tolist()[0] == "2018-07-15"
    assert np.isnat(labels.frame["date"].to_numpy()[1])
    assert labels.counts() == {"none": 1, "moderate": 0, "severe": 1}


def test_case_spaces_aliases_and_whole_numbers_are_the_class_they_mean(tmp_path: Path) -> None:
    points = [Point(500_000 + n, 6_540_000) for n in range(3)]
    mixed = written(tmp_path, frame(**{"class": [" Severe", "NONE", "mild"], "geometry": points}))
    assert read_vector_labels(mixed, CLASSES, aliases={"mild": "moderate"}).frame["value"].tolist() == [2, 0, 1]
    codes = written(tmp_path, frame(**{"class": [1.0, 0.0, 1.0], "geometry": points}), "codes.gpkg")
    assert read_vector_labels(codes, ("land", "water"), aliases={"0": "land", "1": "water"}).frame[
        "value"
    ].tolist() == [1, 0, 1]


def test_foreign_classes_are_listed_with_the_known_ones_and_their_rows(tmp_path: Path) -> None:
    path = written(tmp_path, frame(**{"class": ["none", "forest"]}))
    with pytest.raises(InputError) as caught:
        read_vector_labels(path, CLASSES)
    text = str(caught.value)
    assert "'forest' (1)" in text and "row 2" in text and "none, moderate, severe" in text


def test_labels_without_a_crs_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "labels.parquet"
    frame(**{"class": ["none", "severe"]}).set_crs(None, allow_override=True).to_parquet(path)
    with pytest.raises(InputError, match="no CRS"):
        read_vector_labels(path, CLASSES)


def test_a_missing_column_names_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no column 'class'") as caught:
        read_vector_labels(written(tmp_path, frame(kind=["none", "severe"])), CLASSES)
    assert "kind" in str(caught.value)


def test_labels_in_another_crs_are_found_in_the_region_and_foreign_places_are_not(tmp_path: Path) -> None:
    table = frame(**{"class": ["none", "severe"]})
    sweref = read_vector_labels(written(tmp_path, table.to_crs("EPSG:3006")), CLASSES, region=HERE)
    assert len(sweref) == 2
    moved = table.copy()
    moved["geometry"] = moved.geometry.translate(xoff=200_000)
    with pytest.raises(InputError, match="no label lies in region here") as caught:
        read_vector_labels(written(tmp_path, moved, "far.gpkg"), CLASSES, region=HERE)
    assert "EPSG:32633" in str(caught.value)


def test_self_crossing_polygons_are_repaired_and_missing_geometries_are_not(tmp_path: Path) -> None:
    bow = Polygon([(0, 0), (20, 20), (20, 0), (0, 20)])
    labels = read_vector_labels(
        written(tmp_path, frame(**{"class": ["none", "none"], "geometry": [bow, box(0, 0, 9, 9)]})), CLASSES
    )
    assert labels.frame.geometry.is_valid.all() and labels.frame.geometry.iloc[0].area == pytest.approx(200)
    empty = written(tmp_path, frame(**{"class": ["none", "none"], "geometry": [None, Point(0, 0)]}), "empty.gpkg")
    with pytest.raises(InputError, match="without a geometry") as caught:
        read_vector_labels(empty, CLASSES)
    assert "row 1" in str(caught.value)


def test_dates_and_confidences_that_are_none_name_their_row(tmp_path: Path) -> None:
    wrong_date = written(tmp_path, frame(**{"class": ["none", "none"], "date": ["2018-07-15", "midsummer"]}))
    with pytest.raises(InputError, match="dates that cannot be read") as caught:
        read_vector_labels(wrong_date, CLASSES)
    assert "'midsummer'" in str(caught.value) and "row 2" in str(caught.value)
    sure = written(tmp_path, frame(**{"class": ["none", "none"], "confidence": [0.5, 80.0]}), "sure.gpkg")
    with pytest.raises(InputError, match="confidences outside 0 to 1"):
        read_vector_labels(sure, CLASSES)


def test_numbers_are_read_where_the_task_has_no_classes(tmp_path: Path) -> None:
    path = written(tmp_path, frame(depth=["1.5", "3"]))
    assert read_vector_labels(path, (), Fields("depth")).frame["value"].tolist() == [1.5, 3.0]
    with pytest.raises(InputError, match="no numbers in column 'depth'"):
        read_vector_labels(written(tmp_path, frame(depth=["1.5", "deep"]), "deep.gpkg"), (), Fields("depth"))


def write_raster(path: Path, values: np.ndarray, nodata: int | None = 255) -> Path:
    profile = {"driver": "GTiff", "dtype": "uint8", "count": 1, "height": values.shape[0], "width": values.shape[1]}
    with rasterio.open(
        path, "w", crs=CRS, transform=from_origin(500_000, 6_540_000, 20, 20), nodata=nodata, **profile
    ) as out:
        out.write(values.astype(np.uint8), 1)
    return path


def test_a_raster_becomes_a_stratified_sample_at_pixel_centres_the_same_each_time(tmp_path: Path) -> None:
    values = np.full((20, 20), 10)
    values[:, :10] = 90
    values[:5] = 255
    path = write_raster(tmp_path / "cover.tif", values)
    labels = read_raster_labels(path, ("open", "dense"), seed=3, samples=30, thresholds=[50])
    assert labels.counts() == {"open": 30, "dense": 30}
    dense = labels.frame[labels.frame["value"] == 1]
    assert (dense.geometry.x < 500_200).all() and (labels.frame.geometry.y < 6_540_000 - 100).all()
    assert ((labels.frame.geometry.x - 500_000) % 20 == 10).all()
    again = read_raster_labels(path, ("open", "dense"), seed=3, samples=30, thresholds=[50])
    assert again.frame.geometry.equals(labels.frame.geometry)


def test_a_threshold_belongs_to_the_class_above_it(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "edge.tif", np.array([[49, 50]]))
    labels = read_raster_labels(path, ("open", "dense"), seed=0, samples=5, thresholds=[50])
    assert labels.frame["value"].to_numpy()[np.argsort(labels.frame.geometry.x)].tolist() == [0, 1]


def test_a_raster_of_nodata_or_beside_the_region_is_refused(tmp_path: Path) -> None:
    blank = write_raster(tmp_path / "blank.tif", np.full((4, 4), 255))
    with pytest.raises(InputError, match="no pixel of this raster carries a label"):
        read_raster_labels(blank, ("open", "dense"), seed=0, samples=5, thresholds=[50])
    there = write_raster(tmp_path / "there.tif", np.full((4, 4), 70))
    away = Region("away", box(10, 50, 10.1, 50.1))
    with pytest.raises(InputError, match="no label lies in region away"):
        read_raster_labels(there, ("open", "dense"), seed=0, samples=5, thresholds=[50], region=away)
