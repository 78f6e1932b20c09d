"""Given sparse labels; then they claim the pixels they lie on, and what they do not claim is no background."""

from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
from affine import Affine
from shapely.geometry import LineString, Point, box

from geossl.labels.rasterise import IGNORE, burn, touching
from geossl.labels.read import Labels

TEN_M = Affine(10, 0, 1000, 0, -10, 2000)


def frame(*labels: tuple[object, float]) -> gpd.GeoDataFrame:
    return gpd.GeoDataFrame(
        {"value": [value for _, value in labels]}, geometry=[geometry for geometry, _ in labels], crs="EPSG:32633"
    )


def test_a_polygon_claims_the_pixels_whose_centre_it_covers_and_all_else_is_unlabelled() -> None:
    burned = burn(frame((box(1010, 1970, 1030, 1990), 2)), (6, 6), TEN_M, classes=True)
    expected = np.full((6, 6), IGNORE)
    expected[1:3, 1:3] = 2
    assert np.array_equal(burned.values, expected)
    assert (burned.places == 0).sum() == 4 and (burned.places == -1).sum() == 32


def test_a_point_claims_one_pixel_and_a_line_all_it_touches() -> None:
    burned = burn(frame((Point(1005, 1955), 0), (LineString([(1015, 1995), (1045, 1995)]), 1)), (6, 6), TEN_M, True)
    assert burned.values[4, 0] == 0 and (burned.values == 0).sum() == 1
    assert burned.values[0, 1:5].tolist() == [1, 1, 1, 1]


def test_a_polygon_smaller_than_a_pixel_still_claims_one() -> None:
    burned = burn(frame((box(1011, 1981, 1012, 1982), 1)), (6, 6), TEN_M, classes=True)
    assert (burned.values == 1).sum() == 1 and burned.values[1, 1] == 1


def test_where_labels_contradict_each_other_nobody_is_believed() -> None:
    overlapping = frame((box(1000, 1980, 1030, 2000), 0), (box(1020, 1980, 1050, 2000), 1))
    burned = burn(overlapping, (2, 6), TEN_M, classes=True)
    assert burned.conflicts == 2
    assert burned.values[0].tolist() == [0, 0, IGNORE, 1, 1, IGNORE]


def test_numbers_leave_nan_where_nothing_is_known() -> None:
    burned = burn(frame((Point(1005, 1995), 1.5)), (2, 2), TEN_M, classes=False)
    assert burned.values.dtype == np.float32 and burned.values[0, 0] == 1.5 and np.isnan(burned.values).sum() == 3


def test_labels_are_found_by_the_tiles_they_touch() -> None:
    table = frame((Point(1005, 1995), 0), (box(1070, 1900, 1090, 1910), 1), (Point(5000, 5000), 1))
    table["date"] = pd.NaT
    labels = Labels(table, ("a", "b"), Path("labels"), "id")
    found = touching(labels, np.array([1000.0, 1080.0, 0.0]), np.array([2000.0, 2000.0, 0.0]), 80, 100)
    assert [one.tolist() for one in found] == [[0, 1], [1], []]
