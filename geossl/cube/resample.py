"""From one grid to another: bilinear for measurements, nearest for classes, and "no value" never gets into a value."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from affine import Affine
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.warp import reproject

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

_STRIP = 64


def resample(
    part: np.ndarray, missing: np.ndarray, grid: GeoBox, geobox: GeoBox, method: str, *, inside: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Pixels of ``grid`` on ``geobox``.

    Between grids of one CRS a finer grid is interpolated directly (a pixel is missing where the source pixel under its
    centre is); everything else is warped by GDAL, which averages over source pixels when the target is
    coarser. Missing pixels have weight zero in either.

    Args:
        part: (y, x) numbers on ``grid``.
        missing: (y, x) bool, no value there.
        grid: of ``part``; it should reach a few pixels beyond ``geobox``.
        geobox: the target.
        method: ``nearest``, or a GDAL method such as ``bilinear``.
        inside: ``grid`` surrounds ``geobox`` on all sides.

    Returns:
        Numbers (y, x), of the same type (float32 where GDAL warps integers), and where they are missing.
    """
    to_source = ~grid.transform @ geobox.transform if grid.crs == geobox.crs else None
    if to_source is not None and _is_axis_aligned(to_source):
        if method == "nearest":
            return _nearest(part, missing, to_source, geobox.shape.yx)
        if method == "bilinear" and max(to_source.a, to_source.e) <= 1:
            return _interpolated(part, missing, to_source, geobox.shape.yx)
    return _warped(part, missing, grid, geobox, method, inside)


def _is_axis_aligned(transform: Affine) -> bool:
    return bool(transform.a > 0 and transform.e > 0 and abs(transform.b) + abs(transform.d) < 1e-9)


def _under(to_source: Affine, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of the source pixel under the centre of each target row and column."""
    rows = np.floor((np.arange(shape[0]) + 0.5) * to_source.e + to_source.f + 1e-6).astype(np.intp)
    columns = np.floor((np.arange(shape[1]) + 0.5) * to_source.a + to_source.c + 1e-6).astype(np.intp)
    return rows, columns


def _nearest(
    part: np.ndarray, missing: np.ndarray, to_source: Affine, shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    rows, columns = _under(to_source, shape)
    values = part.take(rows, 0, mode="clip").take(columns, 1, mode="clip")
    outside = np.logical_or.outer((rows < 0) | (rows >= part.shape[0]), (columns < 0) | (columns >= part.shape[1]))
    if missing.any():
        outside |= missing.take(rows, 0, mode="clip").take(columns, 1, mode="clip")
    return values, outside


def _interpolated(
    part: np.ndarray, missing: np.ndarray, to_source: Affine, shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    rows = _taps(to_source.e, to_source.f, shape[0], part.shape[0])
    columns = _taps(to_source.a, to_source.c, shape[1], part.shape[1])
    _, outside = _nearest(missing, missing, to_source, shape)
    if not missing.any():
        return _bilinear(part, rows, columns, part.dtype), outside
    floating = np.dtype(np.float64 if part.dtype.itemsize > 2 and part.dtype != np.float32 else np.float32)
    weight = _bilinear((~missing).astype(floating), rows, columns, floating)
    total = _bilinear(np.where(missing, 0, part).astype(floating), rows, columns, floating)
    values = total / np.maximum(weight, floating.type(1e-6))
    if part.dtype.kind in "iu":
        bounds = np.iinfo(part.dtype)
        values = np.clip(np.rint(values), bounds.min, bounds.max)
    return values.astype(part.dtype), outside


_Taps = tuple[np.ndarray, np.ndarray, np.ndarray]


def _taps(step: float, start: float, count: int, size: int) -> _Taps:
    """Per target row (or column): the two source rows between whose centres it lies, and the second one's weight."""
    position = np.clip((np.arange(count) + 0.5) * step + start - 0.5, 0, size - 1)
    first = np.minimum(position.astype(np.intp), max(size - 2, 0))
    return first, np.minimum(first + 1, size - 1), position - first


def _bilinear(part: np.ndarray, rows: _Taps, columns: _Taps, dtype: np.dtype) -> np.ndarray:
    """Separable interpolation, columns first (they are fewer then), rows in strips that fit the processor's cache.

    Eight times as fast as ``scipy.ndimage`` for a whole scene, and equal to it to the last digit of an integer.
    """
    wide = part.dtype.itemsize > 2 and part.dtype != np.float32
    numbers: Any = part.astype(np.float64 if wide else np.float32)
    left, right, weight = columns
    narrow = numbers.take(left, 1)
    step = numbers.take(right, 1)
    step -= narrow
    step *= weight.astype(numbers.dtype)
    narrow += step
    above, below, weight = rows
    share = weight.astype(numbers.dtype)[:, None]
    out = np.empty((len(above), len(left)), dtype)
    for start in range(0, len(above), _STRIP):
        strip = slice(start, start + _STRIP)
        upper = narrow.take(above[strip], 0)
        lower = narrow.take(below[strip], 0)
        lower -= upper
        lower *= share[strip]
        upper += lower
        out[strip] = np.rint(upper, out=upper) if dtype.kind in "iu" else upper
    return out


def _warped(
    part: np.ndarray, missing: np.ndarray, grid: GeoBox, geobox: GeoBox, method: str, inside: bool
) -> tuple[np.ndarray, np.ndarray]:
    # float32 keeps 16-bit numbers exact, and NaN is a nodata value that no number can have
    work = part.astype(np.float64 if part.dtype.itemsize > 2 and part.dtype != np.float32 else np.float32)
    whole = inside and not missing.any()
    work[missing] = np.nan
    values = np.full(geobox.shape.yx, np.nan, work.dtype)
    reproject(
        work,
        values,
        src_transform=grid.transform,
        src_crs=_rio_crs(str(grid.crs)),
        src_nodata=None if whole else np.nan,
        dst_transform=geobox.transform,
        dst_crs=_rio_crs(str(geobox.crs)),
        dst_nodata=None if whole else np.nan,
        resampling=Resampling[method],
        num_threads=1,
    )
    lost = np.isnan(values)
    if part.dtype.kind in "iu":
        values[lost] = 0
        if method == "nearest":
            values = values.astype(part.dtype)
    return values, lost


@cache
def _rio_crs(text: str) -> CRS:
    return CRS.from_user_input(text)
