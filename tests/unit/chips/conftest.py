"""A made cube: scenes whose pixel values are known functions of place and day, without database or files."""

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time

import numpy as np
import pytest
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox

from geossl.cube.connect import Product, Scene
from geossl.cube.read import Pixels, ReadFailure
from geossl.products import BandSpec, Flag, ProductProfile
from geossl.regions import Region

ORIGIN = (500_003.5, 6_600_007.25)  # no multiple of the pixel
CRS = "EPSG:32633"


def profile() -> ProductProfile:
    bands = {name: BandSpec(common=name) for name in ("blue", "red", "nir")}
    return ProductProfile(title="made", family="sentinel-2-l2a", bands=bands)


def scene(day: date, number: int = 0, column: int = 0, width: int = 100, height: int = 60, cloud=0.0) -> Scene:
    left = ORIGIN[0] + 10 * column
    box = GeoBox((height, width), Affine(10, 0, left, 0, -10, ORIGIN[1]), CRS)
    footprint = box.extent.to_crs("EPSG:4326").geom
    return Scene(
        id=f"{day:%Y%m%d}-{number}",
        product="made",
        datetime=datetime.combine(day, time(10, 0, number), UTC),
        solar_day=day,
        footprint=footprint,
        geobox=box,
        cloud_cover=cloud,
        baseline="05.10",
        dataset=None,
    )


def truth(band: int, column: np.ndarray, row: np.ndarray, day: date) -> np.ndarray:
    """What the pixel of a global place (counted from ORIGIN) and day is."""
    return (1000 + 7 * column + 13 * row + 101 * band + day.timetuple().tm_yday).astype(np.uint16)


@dataclass
class MadeCube:
    scenes: list[Scene]
    cloudy_days: set[date] = field(default_factory=set)
    broken: set[str] = field(default_factory=set)
    """Scenes that cannot be read."""
    windows: list[tuple[str, int, int, int, int]] = field(default_factory=list)
    """Every read: scene, column, row, width, height."""
    name: str = "made"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def find(self, product, geometry=None, period=None, months=None):
        kept = [s for s in self.scenes if period is None or period.contains(s.solar_day)]
        kept = [s for s in kept if months is None or s.solar_day.month in months]
        return [s for s in kept if geometry is None or geometry.intersects(s.footprint)]

    def read(self, scenes, product, geobox, bands=None, threads=2):
        height, width = geobox.shape.yx
        column = round((geobox.transform.c - ORIGIN[0]) / 10)
        row = round((ORIGIN[1] - geobox.transform.f) / 10)
        x, y = np.meshgrid(np.arange(column, column + width), np.arange(row, row + height))
        data = np.zeros((len(bands), height, width), np.uint16)
        flags = np.full((height, width), int(Flag.NODATA), np.uint8)
        failures = []
        for one in scenes:
            self.windows.append((one.id, column, row, width, height))
            left = round((one.geobox.transform.c - ORIGIN[0]) / 10)
            inside = (x >= left) & (x < left + one.geobox.shape.x) & (y >= 0) & (y < one.geobox.shape.y)
            if one.id in self.broken:
                failures.append(ReadFailure(one.id, "red", f"{one.id}.tif", "torn"))
                flags[inside] = int(Flag.READ_FAILED)
                continue
            for number, band in enumerate(bands):
                band_number = ("blue", "red", "nir").index(band)
                data[number][inside] = truth(band_number, x[inside], y[inside], one.solar_day)
            flags[inside] = int(Flag.CLOUD) if one.solar_day in self.cloudy_days else 0
        return Pixels(data, flags, tuple(failures))


@pytest.fixture
def made(monkeypatch):
    """Install a made cube: ``made(scenes)``."""

    def install(scenes):
        cube = MadeCube(list(scenes))
        monkeypatch.setattr("geossl.cube.connect.choose_product", lambda r, p: (cube, Product("made", profile())))
        monkeypatch.setattr("geossl.cube.read.read_scenes", cube.read)
        return cube

    return install


@pytest.fixture
def region():
    """The whole made scene, without a grid of its own."""
    return Region("made", scene(date(2018, 5, 1)).footprint, tile_px=20, block_tiles=2)


@pytest.fixture
def days():
    return [date(2018, month, 3) for month in range(1, 9)]


@pytest.fixture
def make_scene():
    return scene


@pytest.fixture
def pixel_truth():
    return truth


@pytest.fixture
def box_region():
    """A region of a pixel window of the made scene."""

    def cut(column, row, width, height):
        box = GeoBox((height, width), Affine(10, 0, ORIGIN[0] + 10 * column, 0, -10, ORIGIN[1] - 10 * row), CRS)
        outline = box.extent.to_crs("EPSG:4326").geom
        return Region("cut", shapely.Polygon(outline.exterior), tile_px=20, block_tiles=2)

    return cut
