"""Labels onto the pixels of tiles. What carries no label is 255 (or NaN), never background."""

from __future__ import annotations

from dataclasses import dataclass

import geopandas as gpd
import numpy as np
import shapely
from affine import Affine
from rasterio.features import rasterize
from shapely import STRtree, box
from shapely.geometry import mapping

from geossl.labels.read import Labels

IGNORE = 255
"""Mask value of a pixel without a label."""
NO_LABEL = -1
"""Place value of a pixel without a label."""
_AREAL = (shapely.GeometryType.POLYGON, shapely.GeometryType.MULTIPOLYGON)


@dataclass(frozen=True)
class Burned:
    """Labels of one chip.

    ``values``: (y, x) uint8 class indices with 255 where unlabelled, or float32 with NaN. ``places``: (y, x) int32,
    which row of the labels' frame each pixel belongs to, -1 where none. ``conflicts``: pixels that two different
    labels claim; they are left unlabelled. ``contradicted``: positions of those labels (at least two a pixel).
    """

    values: np.ndarray
    places: np.ndarray
    conflicts: int
    contradicted: np.ndarray


def burn(frame: gpd.GeoDataFrame, shape: tuple[int, int], transform: Affine, classes: bool) -> Burned:
    """Burn labels (in the CRS of ``transform``) into a mask of ``shape``.

    Polygons claim the pixels whose centre they cover (and at least one, however small they are), points and lines
    every pixel they touch. Where labels of different classes overlap, nobody is believed. The work grows with the
    number of labels and the pixels they cover, not with their product.

    Args:
        frame: columns ``value`` and ``geometry``; its positional index is what ``places`` holds.
        shape: rows and columns.
        transform: pixel to CRS.
        classes: whether values are class indices (else numbers; equal numbers may overlap).
    """
    shapes, values = frame.geometry.to_numpy(), frame["value"].to_numpy()
    areal = np.isin(shapely.get_type_id(shapes), _AREAL)
    outlines, order = _outlines(shapes), np.arange(len(shapes))
    places = _last(outlines, areal, order, shape, transform)
    small = [one for one in np.setdiff1d(order[areal], places) if not _covers_a_centre(shapes[one], shape, transform)]
    if small:  # polygons that cover no centre of a pixel become a point within them
        areal[small] = False
        outlines[small] = _outlines(shapely.point_on_surface(shapes[small]))
        places = _last(outlines, areal, order, shape, transform)
    highest = lowest = places
    if not np.array_equal(places, _last(outlines, areal, order[::-1], shape, transform)):  # labels overlap
        upwards = np.argsort(values, kind="stable")
        highest, lowest = (_last(outlines, areal, one, shape, transform) for one in (upwards, upwards[::-1]))
    labelled = places >= 0
    clash = labelled & (values[np.maximum(highest, 0)] != values[np.maximum(lowest, 0)])
    places[clash] = NO_LABEL
    labelled &= ~clash
    if classes:
        burned = np.full(shape, IGNORE, dtype=np.uint8)
    else:
        burned = np.full(shape, np.nan, dtype=np.float32)
    burned[labelled] = values[places[labelled]]
    return Burned(burned, places, int(clash.sum()), np.unique([highest[clash], lowest[clash]]))


def _outlines(shapes: np.ndarray) -> np.ndarray:
    """(n,) GeoJSON mappings: made once for all burns, and fast for polygons without holes, which are the most."""
    found = np.empty(len(shapes), dtype=object)
    plain = (shapely.get_type_id(shapes) == shapely.GeometryType.POLYGON) & (
        shapely.get_num_interior_rings(shapes) == 0
    )
    corners, owner = shapely.get_coordinates(shapes[plain], return_index=True)
    rings = np.split(corners, np.flatnonzero(np.diff(owner)) + 1)
    for place, ring in zip(
        np.flatnonzero(plain), rings, strict=False
    ):  # without a plain polygon there is one empty ring
        found[place] = {"type": "Polygon", "coordinates": [ring.tolist()]}
    for place in np.flatnonzero(~plain):
        found[place] = mapping(shapes[place])
    return found


def _last(
    outlines: np.ndarray, areal: np.ndarray, order: np.ndarray, shape: tuple[int, int], transform: Affine
) -> np.ndarray:
    """(y, x) int32: which of the shapes, laid down in this order, lies on top; -1 where none does."""
    top = np.zeros(shape, dtype=np.int32)  # 1 + place in the order
    for some, touched in ((areal, False), (~areal, True)):
        turns = np.flatnonzero(some[order])
        if len(turns):
            burnt = ((outlines[order[turn]], int(turn) + 1) for turn in turns)
            top = np.maximum(top, rasterize(burnt, shape, transform=transform, all_touched=touched, dtype="int32"))
    return np.where(top > 0, order[np.maximum(top - 1, 0)], NO_LABEL).astype(np.int32)


def _covers_a_centre(polygon: shapely.Geometry, shape: tuple[int, int], transform: Affine) -> bool:
    """As :func:`rasterize` sees it, looking only at the rows and columns of the polygon's bounds."""
    left, bottom, right, top = polygon.bounds
    columns, rows = zip(*(~transform * corner for corner in ((left, top), (right, bottom))), strict=True)
    x0, x1 = (int(np.clip(np.floor(one), 0, shape[1])) for one in (min(columns), max(columns) + 1))
    y0, y1 = (int(np.clip(np.floor(one), 0, shape[0])) for one in (min(rows), max(rows) + 1))
    if x1 <= x0 or y1 <= y0:
        return False
    window = transform * Affine.translation(x0, y0)
    return bool(rasterize([(polygon, 1)], (y1 - y0, x1 - x0), transform=window, dtype="uint8").any())


def touching(labels: Labels, left: np.ndarray, top: np.ndarray, width: float, height: float) -> list[np.ndarray]:
    """The labels that touch each tile (corner ``left``, ``top`` in the labels' CRS, of ``width`` x ``height``)."""
    tree = STRtree(labels.frame.geometry.to_numpy())
    tiles = box(left, top - height, left + width, top)
    return [np.sort(tree.query(tile, predicate="intersects")) for tile in tiles]
