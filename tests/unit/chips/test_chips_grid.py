"""The tile grid: on the scenes' pixels, in any CRS, with names that odc.geo agrees with."""

from dataclasses import replace
from datetime import date

import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox
from shapely.geometry import box

from geossl.chips.grid import Grid, region_grid, to_grid_crs
from geossl.errors import InputError
from geossl.regions import Region

DAY = date(2018, 5, 1)
SINUSOIDAL = "+proj=sinu +lon_0=0 +x_0=0 +y_0=0 +R=6371007.181 +units=m +no_defs"


def test_without_a_crs_the_grid_is_that_of_the_scenes(region, make_scene):
    grid = region_grid(region, [make_scene(DAY), make_scene(DAY, 1, column=50)])
    assert (grid.crs, grid.resolution, grid.origin) == ("EPSG:32633", (10.0, 10.0), (500_003.5, 6_600_007.25))
    ix, iy = grid.tiles(to_grid_crs(region.geometry, grid.crs).buffer(-5))
    assert len(ix) == 15 and ix.max() == 4 and iy.max() == 2  # 100 x 60 pixels in tiles of 20


def test_a_region_with_a_crs_moves_by_less_than_a_pixel_onto_the_scenes_pixels(region, make_scene):
    named = region.with_grid(crs="EPSG:32633", resolution_m=10.0)
    grid = region_grid(named, [make_scene(DAY)])
    assert grid.origin == (3.5, 7.25)
    tile = grid.tile_geobox(2500, -33000)
    shift = (tile.transform.c - 500_003.5) / 10, (tile.transform.f - 6_600_007.25) / 10
    assert shift == pytest.approx(np.round(shift), abs=1e-6)


def test_scenes_on_other_pixels_leave_a_regions_grid_at_zero(region, make_scene):
    assert region_grid(region.with_grid(crs="EPSG:3006", resolution_m=10.0), [make_scene(DAY)]).origin == (0.0, 0.0)
    assert region_grid(region.with_grid(crs="EPSG:32633", resolution_m=20.0), [make_scene(DAY)]).origin == (0.0, 0.0)


@pytest.mark.parametrize(
    ("crs", "step", "corner"),
    [
        ("EPSG:4326", (0.00012, 0.00009), (2.79, 42.36)),
        (SINUSOIDAL, (463.3127, 463.3127), (-5_000_000.3, -1_100_000.7)),
    ],
)
def test_grids_in_degrees_or_without_a_code_are_taken_as_they_are(region, make_scene, crs, step, corner):
    native = GeoBox((60, 100), Affine(step[0], 0, corner[0], 0, -step[1], corner[1]), crs)
    grid = region_grid(region, [replace(make_scene(DAY), geobox=native)])
    assert grid.resolution == pytest.approx(step) and grid.origin == pytest.approx(corner)
    tile = grid.tile_geobox(1, 2)
    assert tile.transform.c == pytest.approx(corner[0] + 20 * step[0])
    assert tile.transform.f == pytest.approx(corner[1] - 40 * step[1])
    assert tile.crs == native.crs
    assert Grid.from_dict(grid.as_dict()) == grid
    assert grid.resolution_m == pytest.approx(10.0 if crs == "EPSG:4326" else 463.3127, rel=0.01)


def test_metres_for_scenes_in_degrees_and_no_scenes_are_refused(region, make_scene):
    native = GeoBox((60, 100), Affine(1e-4, 0, 2, 0, -1e-4, 42), "EPSG:4326")
    with pytest.raises(InputError, match="metres"):
        region_grid(region.with_grid(resolution_m=10.0), [replace(make_scene(DAY), geobox=native)])
    with pytest.raises(InputError, match="no scene says"):
        region_grid(region, [])


def test_tiles_agree_with_odc_geos_grid_spec():
    grid = Grid("EPSG:32633", (10.0, 10.0), (3.5, 7.25), 20, 4)
    for index in ((0, 0), (5, -7), (-3, 11)):
        ours, theirs = grid.tile_geobox(*index), grid.spec.tile_geobox(index)
        assert ours.shape == theirs.shape
        assert tuple(ours.transform)[:6] == pytest.approx(tuple(theirs.transform)[:6])


def test_blocks_are_squares_of_tiles_on_both_sides_of_zero():
    grid = Grid("EPSG:32633", (10.0, 10.0), (0.0, 0.0), 20, 4)
    assert [grid.block_of(ix, 0) for ix in (-5, -4, -1, 0, 3, 4)] == ["-2_0", "-1_0", "-1_0", "0_0", "0_0", "1_0"]


def test_a_tile_that_only_touches_the_geometry_is_none_of_it():
    grid = Grid("EPSG:32633", (10.0, 10.0), (0.0, 0.0), 20, 4)
    ix, iy = grid.tiles(box(200, -400, 400, -200))
    assert list(zip(ix, iy, strict=True)) == [(1, 1)]


def test_boxes_and_geoboxes_are_the_same_place():
    grid = Grid("EPSG:32633", (10.0, 20.0), (3.5, 7.25), 20, 4)
    ix, iy = np.array([0, 3]), np.array([-2, 5])
    for outline, x, y in zip(grid.boxes(ix, iy), ix, iy, strict=True):
        assert outline.bounds == pytest.approx(tuple(grid.tile_geobox(int(x), int(y)).boundingbox))


def test_a_region_crs_needs_a_resolution_from_somewhere(make_scene):
    named = Region("r", make_scene(DAY).footprint, crs="EPSG:3006")
    with pytest.raises(InputError, match="no resolution"):
        region_grid(named, [make_scene(DAY)])
