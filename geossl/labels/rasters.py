"""Label rasters (tree-cover percent, a class raster) as sparse labels: points at pixel centres, the same in each run.

A raster that covers a region densely would drown everything else; a stratified sample of its pixels is what the few
labels of a field campaign would be.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import geopandas as gpd
import numpy as np
import pandas as pd
import rasterio
from rasterio.errors import RasterioError
from rasterio.transform import xy
from shapely import points

from geossl.artefacts import hash_file
from geossl.errors import InputError
from geossl.labels.read import Labels, inside

if TYPE_CHECKING:
    from geossl.regions import Region

_MOST_PIXELS = 400_000_000


def read_raster_labels(
    path: str | Path,
    classes: Sequence[str],
    *,
    seed: int,
    samples: int,
    thresholds: Sequence[float] = (),
    values: Mapping[float, str] | None = None,
    nodata: Sequence[float] = (),
    region: Region | None = None,
) -> Labels:
    """A stratified sample of a raster's pixels as point labels without a date, in the raster's CRS.

    Args:
        path: a raster; its first band is read.
        classes: class names; empty for a quantity, whose values are taken as they are.
        seed: of the sample.
        samples: pixels a class (pixels in all for a quantity); fewer where there are fewer.
        thresholds: ascending limits between the classes: class k has ``thresholds[k-1] <= value < thresholds[k]``.
        values: instead of thresholds: pixel value and class name; other values carry no label.
        nodata: values without a label, besides the raster's own nodata.
        region: where given, pixels outside it are dropped.

    Raises:
        InputError: unreadable raster, no CRS, no labelled pixel, no pixel in the region.
    """
    file = Path(path)
    pixels, transform, crs = _read(file, nodata)
    if not classes:
        strata = np.where(np.isfinite(pixels), 0, -1)
    elif values is not None:
        strata = np.full(pixels.shape, -1)
        for value, name in values.items():
            strata[pixels == value] = list(classes).index(name)
    else:
        strata = np.where(np.isfinite(pixels), np.digitize(pixels, thresholds), -1)
    labels = _sample(file, pixels, strata, classes, transform, crs, seed, samples, region)
    if not len(labels):
        raise InputError(
            "no pixel of this raster carries a label",
            where=file,
            expected=", ".join(classes) or "finite values",
            found=f"values {np.nanmin(pixels):g} to {np.nanmax(pixels):g}"
            if np.isfinite(pixels).any()
            else "nodata only",
            remedy="check the raster rules in the task's YAML",
        )
    return labels


def _read(file: Path, nodata: Sequence[float]) -> tuple[np.ndarray, rasterio.Affine, str]:
    """First band as float64 with NaN where there is no label."""
    if not file.is_file():
        raise InputError("no such label file", where=file, remedy="check --labels")
    try:
        with rasterio.open(file) as source:
            if source.crs is None:
                raise InputError("this label raster names no CRS", where=file, remedy="write the raster with its CRS")
            if source.width * source.height > _MOST_PIXELS:
                raise InputError(
                    "this label raster is too large to sample at once",
                    where=file,
                    expected=f"at most {_MOST_PIXELS:,} pixels",
                    found=f"{source.height} x {source.width}",
                    remedy="cut it to the region first",
                )
            pixels = source.read(1).astype(np.float64)
            absent = [*nodata, *([source.nodata] if source.nodata is not None else [])]
            transform, crs = source.transform, source.crs.to_wkt()
    except RasterioError as error:
        raise InputError("cannot read this label raster", where=file, found=error) from None
    pixels[np.isin(pixels, absent)] = np.nan
    return pixels, transform, crs


def _sample(
    file: Path,
    pixels: np.ndarray,
    strata: np.ndarray,
    classes: Sequence[str],
    transform: rasterio.Affine,
    crs: str,
    seed: int,
    samples: int,
    region: Region | None,
) -> Labels:
    """Points of every stratum; the region is applied before sampling, so its sample is full where it can be."""
    rng = np.random.default_rng(seed)
    usable = strata >= 0
    if region is not None and usable.any():
        usable &= _inside_mask(region, pixels.shape, transform, crs)
        if not usable.any():
            return inside(_labels(file, pixels, strata, strata >= 0, classes, transform, crs, 1), region)
    chosen = np.zeros(pixels.shape, dtype=bool)
    for stratum in np.unique(strata[usable]):
        places = np.flatnonzero((strata == stratum) & usable)
        chosen.flat[rng.choice(places, min(samples, len(places)), replace=False)] = True
    return _labels(file, pixels, strata, chosen, classes, transform, crs, None)


def _labels(
    file: Path,
    pixels: np.ndarray,
    strata: np.ndarray,
    chosen: np.ndarray,
    classes: Sequence[str],
    transform: rasterio.Affine,
    crs: str,
    most: int | None,
) -> Labels:
    rows, columns = np.nonzero(chosen)
    if most is not None:
        rows, columns = rows[:most], columns[:most]
    x, y = xy(transform, rows, columns)
    frame = gpd.GeoDataFrame(
        {
            "value": strata[rows, columns].astype(np.int64) if classes else pixels[rows, columns],
            "date": pd.Series(pd.NaT, index=range(len(rows)), dtype="datetime64[ns]"),
            "confidence": np.ones(len(rows)),
            "row": np.arange(1, len(rows) + 1),
        },
        geometry=points(np.atleast_1d(x), np.atleast_1d(y)),
        crs=crs,
    )
    return replace(Labels(frame, tuple(classes), file, ""), id=hash_file(file))


def _inside_mask(region: Region, shape: tuple[int, ...], transform: rasterio.Affine, crs: str) -> np.ndarray:
    from rasterio.features import geometry_mask

    area = region.geometry_in(crs)
    return geometry_mask([area], out_shape=shape, transform=transform, invert=True)
