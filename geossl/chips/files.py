"""Raster files of ready chips: headers, pixels, and the same work on many files at once."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyproj
import rasterio
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from shapely.geometry import box
from shapely.geometry.base import BaseGeometry
from shapely.ops import transform

from geossl.errors import InputError

Result = TypeVar("Result")
_THREADS = min(4, os.cpu_count() or 1)


@dataclass(frozen=True)
class Header:
    """What the raster files say about themselves."""

    shape: tuple[int, int]
    count: int
    descriptions: tuple[str | None, ...]
    dtype: str
    crs: str | None
    left: float
    top: float
    geometry: BaseGeometry | None


def threaded(work: Callable[[Any], Result], items: Sequence[Any]) -> list[Result]:
    """``work`` of every item, in order, on a few threads."""
    if len(items) < 4:
        return [work(item) for item in items]
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(work, items))


def read_header(path: Path) -> Header:
    """What a raster says about itself, without its pixels; raises ``InputError`` where it cannot be opened."""
    with _opened(path) as source:
        crs = source.crs.to_string() if source.crs else None
        outline = None
        if crs:
            outline = transform(_to_degrees(crs).transform, box(*source.bounds))
        left, top = (source.transform.c, source.transform.f) if crs else (np.nan, np.nan)
        return Header(
            source.shape, source.count, source.descriptions, source.dtypes[0], crs, float(left), float(top), outline
        )


def _opened(path: Path) -> rasterio.DatasetReader:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            return rasterio.open(path)
    except RasterioError as error:
        raise InputError("cannot open this chip", where=path, found=error) from None


def read_pixels(path: Path, positions: list[int]) -> np.ndarray:
    """The bands at 1-based ``positions``, (band, y, x); raises ``InputError`` naming a file that cannot be read."""
    with _opened(path) as source:
        try:
            return source.read(positions)
        except RasterioError as error:
            raise InputError(
                "cannot read this chip", where=path, found=error, remedy="replace the file or drop its row"
            ) from None


@cache
def _to_degrees(crs: str) -> pyproj.Transformer:
    return pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
