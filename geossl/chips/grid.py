"""The tile grid of a region: where tiles lie, what they are called, which block they belong to.

Tile ``ix_iy`` counts columns to the east and rows to the south from the grid's origin. The origin lies on the pixel
corners of the product's scenes, so that on a scene's own grid no pixel is resampled.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pyproj
import shapely
from affine import Affine
from odc.geo import CRS
from odc.geo.geobox import GeoBox
from odc.geo.gridspec import GridSpec
from odc.geo.types import resxy_, xy_

from geossl.errors import InputError
from geossl.regions import Region

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

    from geossl.cube.connect import Scene

_METRES_PER_DEGREE = 111_320.0
_OFF_GRID = 0.01
_SAME_PIXEL = 1e-3  # in pixels: two grids closer than this are one


@dataclass(frozen=True)
class Grid:
    """Tiles of ``tile_px`` x ``tile_px`` pixels; ``origin`` is the upper left corner of tile ``0_0`` in CRS units."""

    crs: str
    """``EPSG:n``, or WKT for a CRS without a code."""
    resolution: tuple[float, float]
    """Pixel width and height in CRS units, both positive."""
    origin: tuple[float, float]
    tile_px: int
    block_tiles: int

    @property
    def spec(self) -> GridSpec:
        """The same grid as odc.geo's GridSpec (its tile indices are ours)."""
        (x, y), (rx, ry) = self.origin, self.resolution
        corner = xy_(x, y - self.tile_px * ry)
        return GridSpec(self.crs, (self.tile_px, self.tile_px), resxy_(rx, -ry), origin=corner, flipy=True)

    @property
    def resolution_m(self) -> float:
        """Pixel height in metres (at the equator for a grid in degrees)."""
        crs = pyproj.CRS.from_user_input(self.crs)
        factor = _METRES_PER_DEGREE if crs.is_geographic else crs.axis_info[0].unit_conversion_factor
        return self.resolution[1] * factor

    def as_dict(self) -> dict[str, Any]:
        """For manifests; :meth:`from_dict` reads it back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, facts: dict[str, Any]) -> Grid:
        """The grid of a manifest."""
        return cls(**{**facts, "resolution": tuple(facts["resolution"]), "origin": tuple(facts["origin"])})

    def window(self, column: int, row: int, width: int, height: int) -> GeoBox:
        """The geobox of a pixel window; ``column`` and ``row`` count pixels from the origin."""
        left, top = self.corner(column, row)
        rx, ry = self.resolution
        return GeoBox((height, width), Affine(rx, 0.0, left, 0.0, -ry, top), self.crs)

    def tile_geobox(self, ix: int, iy: int) -> GeoBox:
        """The geobox of one tile."""
        return self.window(ix * self.tile_px, iy * self.tile_px, self.tile_px, self.tile_px)

    def corner(self, column: float, row: float) -> tuple[float, float]:
        """CRS coordinates of a pixel's upper left corner."""
        return self.origin[0] + column * self.resolution[0], self.origin[1] - row * self.resolution[1]

    def block_of(self, ix: int, iy: int) -> str:
        """The block of a tile: ``bx_by`` of ``block_tiles`` x ``block_tiles`` tiles."""
        return f"{ix // self.block_tiles}_{iy // self.block_tiles}"

    def boxes(self, ix: np.ndarray, iy: np.ndarray) -> np.ndarray:
        """Outlines of tiles in the grid's CRS, an array of shapely polygons."""
        width, height = self.tile_px * self.resolution[0], self.tile_px * self.resolution[1]
        left, top = self.origin[0] + ix * width, self.origin[1] - iy * height
        return shapely.box(left, top - height, left + width, top)

    def tiles(self, geometry: BaseGeometry) -> tuple[np.ndarray, np.ndarray]:
        """Column and row indices (int64) of the tiles that share area with a geometry in the grid's CRS, row by row."""
        if geometry.is_empty:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        west, south, east, north = geometry.bounds
        side_x, side_y = self.tile_px * self.resolution[0], self.tile_px * self.resolution[1]
        columns = np.arange(
            np.floor((west - self.origin[0]) / side_x), np.floor((east - self.origin[0]) / side_x) + 1, dtype=np.int64
        )
        rows = np.arange(
            np.floor((self.origin[1] - north) / side_y), np.floor((self.origin[1] - south) / side_y) + 1, dtype=np.int64
        )
        iy, ix = (part.ravel() for part in np.meshgrid(rows, columns, indexing="ij"))
        shapely.prepare(geometry)
        boxes = self.boxes(ix, iy)
        inside = shapely.intersects(geometry, boxes) & ~shapely.touches(geometry, boxes)
        return ix[inside], iy[inside]


def to_grid_crs(geometry: BaseGeometry, crs: str) -> BaseGeometry:
    """A geometry in EPSG:4326 in another CRS; long edges are divided first so that they bend as they should."""
    change = _transformer("EPSG:4326", crs)
    west, south, east, north = geometry.bounds
    step = max(east - west, north - south) / 64
    dense = shapely.segmentize(geometry, step) if step > 0 else geometry
    return shapely.transform(dense, change.transform, interleaved=False)


def to_degrees(outlines: np.ndarray, crs: str) -> np.ndarray:
    """Small outlines (tiles) in a grid's CRS, corner by corner in EPSG:4326; arrays of shapely geometries."""
    return shapely.transform(outlines, _transformer(crs, "EPSG:4326").transform, interleaved=False)


@cache
def _transformer(source: str, target: str) -> pyproj.Transformer:
    return pyproj.Transformer.from_crs(source, target, always_xy=True)  # costs a tenth of a second


def crs_text(crs: CRS) -> str:
    """``EPSG:n`` where the CRS has a code, its WKT otherwise."""
    return f"EPSG:{crs.epsg}" if crs.epsg else crs.to_wkt()


def region_grid(region: Region, scenes: Sequence[Scene]) -> Grid:
    """The grid of a region for a product with these scenes.

    With ``region.crs`` the tiles count from that CRS's zero, moved by less than a pixel onto the scenes' pixel
    corners where they share the CRS. Without, CRS, pixel and corner are those of the scenes (of the most frequent
    grid, where they have several).

    Raises:
        InputError: no scenes and no CRS; scenes without a CRS or turned against its axes; a resolution in metres for
            scenes in degrees.
    """
    natives = [native for scene in scenes if (native := _native(scene)) is not None]
    if region.crs is None:
        return _scene_grid(region, natives)
    resolution = region.resolution_m or next((n.resolution[1] for n in natives if n.crs == region.crs), None)
    if resolution is None:
        raise InputError("this region names a CRS but no resolution", where=f"region {region.name}: resolution_m")
    target = CRS(region.crs)
    crs, pixel = crs_text(target), (float(resolution), float(resolution))
    same = Counter(
        native.phase for native in natives if native.crs == crs and np.allclose(native.resolution, pixel, rtol=1e-9)
    )
    phase = same.most_common(1)[0][0] if same else (0.0, 0.0)
    return Grid(crs, pixel, phase, region.tile_px, region.block_tiles)


def on_grid(grid: Grid, scene: Scene) -> bool:
    """Whether the grid's pixels are the scene's own (of its finest bands)."""
    native = _native(scene)
    if native is None or native.crs != grid.crs or not np.allclose(native.resolution, grid.resolution, rtol=1e-6):
        return False
    apart = [abs(a - b) / step for a, b, step in zip(native.corner, grid.origin, grid.resolution, strict=True)]
    return all(abs(pixels - round(pixels)) < _OFF_GRID for pixels in apart)


@dataclass(frozen=True)
class _Native:
    crs: str
    resolution: tuple[float, float]
    corner: tuple[float, float]

    @property
    def phase(self) -> tuple[float, float]:
        """Where the pixel corners lie between 0 and one pixel."""
        return _phase(self.corner[0], self.resolution[0]), _phase(self.corner[1], self.resolution[1])


def _phase(value: float, step: float) -> float:
    rest = value % step
    return 0.0 if min(rest, step - rest) < _SAME_PIXEL * step else round(rest, 9)


def _native(scene: Scene) -> _Native | None:
    box = scene.geobox
    if box.crs is None or not box.axis_aligned:
        return None
    transform = box.transform
    left = min(transform.c, transform.c + transform.a * box.shape.x)
    top = max(transform.f, transform.f + transform.e * box.shape.y)
    return _Native(crs_text(box.crs), (abs(transform.a), abs(transform.e)), (left, top))


def _scene_grid(region: Region, natives: Sequence[_Native]) -> Grid:
    if not natives:
        raise InputError(
            "no scene says on which grid its pixels lie",
            where=f"region {region.name}",
            expected="scenes with a CRS and axis-parallel pixels",
            remedy="use a shipped region, or a region file (.yaml) that names a CRS and a resolution",
        )
    counted = Counter((native.crs, native.resolution) for native in natives)
    (crs, resolution), _ = max(counted.items(), key=lambda item: (item[1], item[0]))
    if region.resolution_m is not None:
        if CRS(crs).geographic:
            raise InputError(
                "a resolution in metres does not fit scenes in degrees",
                where=f"region {region.name}",
                remedy="name a CRS in metres too, or no resolution",
            )
        resolution = (region.resolution_m, region.resolution_m)
    corners = [native.corner for native in natives if native.crs == crs]
    west, north = min(corner[0] for corner in corners), max(corner[1] for corner in corners)
    # The corner furthest to the west and north, on the pixel corners of the scene it came from: one scene's left and
    # another's top lie on the same pixels in any product that is a grid at all.
    return Grid(crs, resolution, (west, north), region.tile_px, region.block_tiles)
