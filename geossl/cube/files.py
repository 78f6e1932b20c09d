"""Open raster files, kept open between reads: opening costs more than reading a small window.

A file is borrowed by one thread at a time (GDAL datasets are not thread-safe), and a local file that has changed on
disk is opened anew.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import rasterio
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader

_MOST_OPEN = 96
_Key = tuple[str, int, int]

os.environ.setdefault("GDAL_CACHEMAX", "128")
"""MB for all of GDAL, read once at its first use. Files stay open here, so that with GDAL's own limit (a share of all
memory) the blocks of every file read so far would pile up."""

GDAL_OPTIONS = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",  # no listing of a bucket for every file
    "CPL_VSIL_CURL_ALLOWED_EXTENSIONS": ".tif,.tiff,.jp2,.TIF,.TIFF,.JP2",
    "GDAL_HTTP_MULTIPLEX": "YES",
    "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES",
    "GDAL_HTTP_TIMEOUT": "60",
    "GDAL_INGESTED_BYTES_AT_OPEN": "32768",
}

_lock = threading.Lock()
_idle: OrderedDict[_Key, list[DatasetReader]] = OrderedDict()
_count = 0


@contextmanager
def opened(uri: str) -> Iterator[DatasetReader]:
    """Borrow an open file; it is closed instead of kept where the block fails."""
    global _count
    key = _key(uri)
    file: DatasetReader | None = None
    with _lock:
        if key in _idle:
            file = _idle[key].pop()
            _count -= 1
            if not _idle[key]:
                del _idle[key]
    if file is None:
        file = rasterio.open(uri)
    try:
        yield file
    except BaseException:
        _close(file)
        raise
    surplus: list[DatasetReader] = []
    with _lock:
        _idle.setdefault(key, []).append(file)
        _idle.move_to_end(key)
        _count += 1
        while _count > _MOST_OPEN:
            oldest = next(iter(_idle))
            surplus.append(_idle[oldest].pop(0))
            _count -= 1
            if not _idle[oldest]:
                del _idle[oldest]
    for old in surplus:
        _close(old)


def close_all() -> None:
    """Close every file that is not in use."""
    global _count
    with _lock:
        files = [file for files in _idle.values() for file in files]
        _idle.clear()
        _count = 0
    for file in files:
        _close(file)


def _close(file: DatasetReader) -> None:
    with suppress(RasterioError):
        file.close()


def _key(uri: str) -> _Key:
    if "://" in uri or uri.startswith("/vsi"):
        return (uri, 0, 0)
    try:
        found = os.stat(uri)  # noqa: PTH116  (ten times as fast as Path.stat, and called for every read)
    except OSError:
        return (uri, 0, 0)
    return (uri, found.st_mtime_ns, found.st_size)


def _forget_after_fork() -> None:
    """A forked child must not touch its parent's GDAL handles: drop them without closing."""
    global _idle, _lock, _count
    _leaked.extend(file for files in _idle.values() for file in files)
    _idle, _lock, _count = OrderedDict(), threading.Lock(), 0


_leaked: list[DatasetReader] = []
"""Keeps a parent's handles from being collected, hence closed, in a forked child."""
os.register_at_fork(after_in_child=_forget_after_fork)
