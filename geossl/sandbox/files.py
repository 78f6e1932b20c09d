"""How a sandbox's rasters reach the disk: COGs made in memory, written atomically, a full disk named as such."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import rasterio
from rasterio.io import MemoryFile

from geossl.artefacts import atomic_file, disk_errors
from geossl.sandbox.spec import Frame

_BLOCK_M = 3200
"""Side of a file's blocks on the ground: four tiles of 80 pixels."""


def encode_cog(
    values: np.ndarray,
    frame: Frame,
    gsd_m: int,
    *,
    nodata: float | None,
    overviews: str,
    colours: Mapping[int, tuple[int, int, int, int]] | None = None,
) -> bytes:
    """``values`` (y, x) on the sandbox's grid of ``gsd_m`` metres as the bytes of a cloud-optimised GeoTIFF."""
    rows, columns = frame.shape(gsd_m)
    values = np.ascontiguousarray(values[:rows, :columns])
    block = min(_BLOCK_M // gsd_m, max(rows, 64))
    profile = {
        "driver": "COG",
        "height": rows,
        "width": columns,
        "count": 1,
        "dtype": values.dtype.name,
        "nodata": nodata,
        "crs": frame.crs,
        "transform": frame.transform(gsd_m),
        "compress": "ZSTD",
        "level": 1,
        "predictor": "YES",
        "blocksize": -(-block // 16) * 16,
        "overview_resampling": overviews,
    }
    with rasterio.Env(GDAL_CACHEMAX=64), MemoryFile() as memory:
        with memory.open(**profile) as target:
            if colours:
                target.write_colormap(1, dict(colours))
            target.write(values, 1)
        return memory.read()


def write_bytes(path: Path, data: bytes) -> None:
    """``data`` to a new file; a full disk becomes a :class:`geossl.errors.WorkError`."""
    with disk_errors(path):
        path.write_bytes(data)


def write_truth(
    path: Path,
    values: np.ndarray,
    frame: Frame,
    *,
    nodata: float | None = None,
    overviews: str = "nearest",
    colours: Mapping[int, tuple[int, int, int, int]] | None = None,
    gsd_m: int = 10,
) -> None:
    """A truth raster, atomically."""
    data = encode_cog(values, frame, gsd_m, nodata=nodata, overviews=overviews, colours=colours)
    with atomic_file(path) as temporary:
        temporary.write_bytes(data)


def read_raster(path: Path, shrink: int = 1) -> np.ndarray:
    """The only band of a raster, (y, x); with ``shrink`` every n-th pixel in both directions, nearest."""
    with rasterio.open(path) as source:
        shape = (-(-source.height // shrink), -(-source.width // shrink))
        return source.read(1, out_shape=shape)
