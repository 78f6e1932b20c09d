"""A map covers where the region and its scenes meet, on the region's pixels."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from odc.geo.geobox import GeoBox
from rasterio.transform import from_origin
from shapely.geometry import box

from geossl.errors import InputError
from geossl.maps.plan import map_grid
from geossl.regions import Region


def scene(left: float, top: float, side: int = 100) -> SimpleNamespace:
    return SimpleNamespace(geobox=GeoBox((side, side), from_origin(left, top, 10, 10), "EPSG:32633"))


def region(west: float, south: float, east: float, north: float) -> Region:
    return Region("r", box(west, south, east, north), crs="EPSG:32633", resolution_m=10.0)


def test_a_region_much_larger_than_its_scenes_gives_a_map_of_the_scenes() -> None:
    scenes = [scene(600_000, 6_600_000), scene(601_000, 6_600_000)]
    grid, outline = map_grid(region(14.0, 58.0, 19.0, 61.0), scenes)
    assert grid.shape == (100, 200)
    assert (grid.transform.c, grid.transform.f) == (600_000, 6_600_000)
    assert outline.area == pytest.approx(1000 * 2000)


def test_a_region_inside_a_scene_cuts_the_map_to_the_region() -> None:
    grid, outline = map_grid(region(16.765, 59.525, 16.77, 59.53), [scene(595_000, 6_605_000, 1000)])
    assert grid.shape[0] < 70
    assert grid.shape[1] < 40
    assert 0.5 * grid.shape[0] * grid.shape[1] * 100 < outline.area <= grid.shape[0] * grid.shape[1] * 100


def test_a_region_beside_its_scenes_is_told() -> None:
    with pytest.raises(InputError, match="only touches"):
        map_grid(region(10.0, 50.0, 10.1, 50.1), [scene(600_000, 6_600_000)])
