"""Labels onto the pixels of tiles. What carries no label is 255 (or NaN), never background."""

from __future__ import annotations

from dataclasses import dataclass

import geopandas as gpd
import numpy as np
from affine import Affine
from rasterio.features import rasterize
from shapely import STRtree, box

from geossl.labels.read import Labels

IGNORE = 255
"""Mask value of a pixel without a label."""
NO_LABEL = -1
"""Place value of a pixel without a label."""


@dataclass(frozen=True)
class Burned:
    """Labels of one chip.

    ``values``: (y, x) uint8 class indices with 255 where unlabelled, or float32 with NaN. ``places``: (y, x) int32,
    which row of the labels' frame each pixel belongs to, -1 where none. ``conflicts``: pixels that two different
    labels claim; they are left unlabelled.
    """

    values: np.ndarray
    places: np.ndarray
    conflicts: int


def burn(frame: gpd.GeoDataFrame, shape: tuple[int, int], transform: Affine, classes: bool) -> Burned:
    """Burn labels (in the CRS of ``transform``) into a mask of ``shape``.

    Polygons claim the pixels whose centre they cover (and at least one, however small they are), points and lines
    every pixel they touch. Where labels of different classes overlap, nobody is believed.

    Args:
        frame: columns ``value`` and ``geometry``; its positional index is what ``places`` holds.
        shape: rows and columns.
        transform: pixel to CRS.
        classes: whether values are class indices (else numbers; equal numbers may overlap).
    """
    places = np.full(shape, NO_LABEL, dtype=np.int32)
    clash = np.zeros(shape, dtype=bool)
    values = frame["value"].to_numpy()
    for number, geometry in enumerate(frame.geometry):
        claimed = _claimed(geometry, shape, transform)
        taken = claimed & (places >= 0)
        if taken.any():
            clash |= taken & (values[np.maximum(places, 0)] != values[number])
        places[claimed] = number
    places[clash] = NO_LABEL
    labelled = places >= 0
    if classes:
        burned = np.full(shape, IGNORE, dtype=np.uint8)
    else:
        burned = np.full(shape, np.nan, dtype=np.float32)
    burned[labelled] = values[places[labelled]]
    return Burned(burned, places, int(clash.sum()))


def _claimed(geometry: object, shape: tuple[int, int], transform: Affine) -> np.ndarray:
    areal = str(getattr(geometry, "geom_type", "")).endswith("Polygon")
    mask = rasterize([(geometry, 1)], shape, transform=transform, all_touched=not areal, dtype="uint8").astype(bool)
    if areal and not mask.any():  # smaller than a pixel, or between centres: the pixel of a point within it
        inner = geometry.representative_point()  # type: ignore[attr-defined]
        mask = rasterize([(inner, 1)], shape, transform=transform, all_touched=True, dtype="uint8").astype(bool)
    return mask


def touching(labels: Labels, left: np.ndarray, top: np.ndarray, width: float, height: float) -> list[np.ndarray]:
    """The labels that touch each tile (corner ``left``, ``top`` in the labels' CRS, of ``width`` x ``height``)."""
    tree = STRtree(labels.frame.geometry.to_numpy())
    pairs = tree.query(box(left, top - height, left + width, top), predicate="intersects")
    return [np.sort(pairs[1][pairs[0] == tile]) for tile in range(len(left))]
