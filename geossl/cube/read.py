"""Scenes of one solar day onto a grid: read, decoded to one encoding, masked, and merged.

On a scene's own grid (same CRS, same pixels) the numbers are the file's own; otherwise bilinear for measurements and
nearest for masks, and a pixel without value never gets into a neighbour. Works from documents and files alone.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio
from odc.geo.overlap import compute_reproject_roi
from rasterio.errors import RasterioError
from rasterio.windows import Window

from geossl.cube import documents, files, radiometry
from geossl.cube.resample import resample
from geossl.errors import unknown_name
from geossl.products import Flag, MaskSpec, ProductProfile

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox
    from odc.geo.overlap import ReprojectInfo

    from geossl.cube.connect import Product, Scene

_RETRIES = 2
_PAUSE_S = 0.2
_UNUSABLE = Flag.NODATA | Flag.READ_FAILED


@dataclass(frozen=True)
class ReadFailure:
    """A band of a scene that could not be read, after retries; its pixels are flagged ``READ_FAILED``."""

    scene_id: str
    band: str
    uri: str
    reason: str


@dataclass(frozen=True)
class Pixels:
    """One solar day on one grid."""

    data: np.ndarray
    """(band, y, x) in the product's encoding."""
    flags: np.ndarray
    """(y, x) uint8 of ``products.Flag``; 0 is clear."""
    failures: tuple[ReadFailure, ...]


@dataclass(frozen=True)
class _Band:
    """What to read: a measurement of one scene."""

    name: str
    uri: str
    index: int
    grid: GeoBox | None
    scaling: radiometry.Scaling | None
    """``None`` for the mask."""


def read_scenes(
    scenes: Sequence[Scene],
    product: Product,
    geobox: GeoBox,
    bands: Sequence[str] | None = None,
    threads: int = 2,
) -> Pixels:
    """Read one solar day's scenes as one mosaic on ``geobox``.

    A pixel comes, all bands and mask together, from the first scene that has a value there; of scenes processed twice
    the newer baseline comes first. Radiometry is settled per scene before that. A failed read is tried again twice,
    then its pixels are flagged and it is named in ``failures``; it is never a zero that counts as a value.

    Args:
        scenes: of one product and day; may be empty (all ``NODATA``).
        product: of the scenes.
        geobox: the grid to read onto, in any CRS.
        bands: common names in the order wanted; default: all of the product.
        threads: bands read at once.

    Raises:
        InputError: a band the product does not have.
    """
    wanted = tuple(bands) if bands is not None else product.bands
    measurements = _measurements(product.profile, wanted)
    encoding = product.encoding
    height, width = geobox.shape.yx
    fill = 0 if encoding.nodata is None else encoding.nodata
    data = np.full((len(wanted), height, width), fill, encoding.dtype)
    flags = np.full((height, width), int(Flag.NODATA), np.uint8)
    failures: list[ReadFailure] = []
    first = True
    for scene in sorted(scenes, key=_precedence):
        if not first and not (flags & int(_UNUSABLE)).any():
            break
        pixels, marks, failed = _read_scene(scene, product, geobox, wanted, measurements, threads)
        failures.extend(failed)
        if first:
            data, flags, first = pixels, marks, False
            continue
        takes = ((flags & int(_UNUSABLE)) != 0) & ((marks & int(_UNUSABLE)) == 0)
        takes |= (
            ((flags & int(Flag.READ_FAILED)) == 0)
            & ((marks & int(Flag.READ_FAILED)) != 0)
            & ((flags & int(Flag.NODATA)) != 0)
        )
        data[:, takes] = pixels[:, takes]
        flags[takes] = marks[takes]
    return Pixels(data, flags, tuple(failures))


def _precedence(scene: Scene) -> tuple[float, Any, str]:
    baseline = radiometry.s2_baseline(scene.dataset.metadata_doc.get("properties", {})) or 0.0
    return -baseline, scene.datetime, scene.id


def _measurements(profile: ProductProfile, wanted: Sequence[str]) -> tuple[str, ...]:
    """The profile's measurement of each common name."""
    by_common = {band.common: name for name, band in profile.bands.items()}
    for band in wanted:
        if band not in by_common:
            raise unknown_name("band", band, by_common, where=profile.title)
    return tuple(by_common[band] for band in wanted)


def _read_scene(
    scene: Scene, product: Product, geobox: GeoBox, wanted: Sequence[str], measurements: Sequence[str], threads: int
) -> tuple[np.ndarray, np.ndarray, list[ReadFailure]]:
    """One scene on the grid: (band, y, x), flags (y, x), failures."""
    encoding, mask = product.encoding, product.profile.mask
    height, width = geobox.shape.yx
    data = np.empty((len(wanted), height, width), encoding.dtype)
    flags = np.zeros((height, width), np.uint8)
    failures: list[ReadFailure] = []
    together = threading.Lock()
    fill = 0 if encoding.nodata is None else encoding.nodata
    nowhere = np.full((height, width), int(Flag.READ_FAILED), np.uint8)

    def add(marks: np.ndarray, failure: ReadFailure | None = None) -> None:
        with together:
            np.bitwise_or(flags, marks, out=flags)
            if failure is not None:
                failures.append(failure)

    def measure(number: int) -> None:
        source = _source(scene, product.profile, measurements[number])
        if source is None or source.scaling is None:
            add(nowhere, _absent(scene, wanted[number]))
            data[number] = fill
            return
        out = data[number]
        dn, missing, reason = _read(source, geobox, product.profile.resampling, source.scaling.nodata, out)
        if reason is not None:
            data[number] = fill
            add(_failed(source, geobox), ReadFailure(scene.id, wanted[number], source.uri, reason))
            return
        stored = radiometry.encode(dn, missing, source.scaling, encoding)
        if stored is not out:
            out[...] = stored
        if missing.any():
            add(missing.astype(np.uint8) * np.uint8(Flag.NODATA))

    def classify(spec: MaskSpec) -> None:
        source = _source(scene, product.profile, spec.band)
        if source is None:
            add(nowhere, _absent(scene, spec.band))
            return
        values, missing, reason = _read(source, geobox, "nearest", None)
        if reason is not None:
            add(_failed(source, geobox), ReadFailure(scene.id, spec.band, source.uri, reason))
            return
        marks = mask_flags(values, spec)
        marks[missing] = int(Flag.NODATA)
        add(marks)

    jobs: list[Callable[[], None]] = [partial(measure, number) for number in range(len(measurements))]
    if mask is not None:
        jobs.append(partial(classify, mask))

    def run(job: Callable[[], None]) -> None:
        with rasterio.Env(**files.GDAL_OPTIONS):
            job()

    if threads <= 1 or len(jobs) == 1:
        for job in jobs:
            run(job)
    else:
        with ThreadPoolExecutor(min(threads, len(jobs))) as pool:
            list(pool.map(run, jobs))
    failures.sort(key=lambda failure: failure.band)
    return data, flags, failures


def _source(scene: Scene, profile: ProductProfile, measurement: str) -> _Band | None:
    """Where a profile's measurement lies in a scene and how its numbers are read, whoever indexed it."""
    dataset = scene.dataset
    name = _name_in(dataset, profile, measurement)
    if name is None:
        return None
    uri, index = documents.measurement_uri(dataset, name)
    scaling: radiometry.Scaling | None = None
    if measurement in profile.bands:
        properties = dataset.metadata_doc.get("properties", {})
        stored = properties.get(documents.RADIOMETRY, {}).get(measurement)
        if stored is not None:
            scaling = radiometry.Scaling(**stored)
        else:
            nodata = dataset.product.measurements.get(name, {}).get("nodata")
            scaling = radiometry.settle(profile, properties, nodata=None if nodata is None else float(nodata))
    return _Band(measurement, uri, index, documents.band_geobox(dataset, name), scaling)


def _name_in(dataset: Any, profile: ProductProfile, measurement: str) -> str | None:
    """A profile's measurement under the name the dataset has for it."""
    band = profile.bands.get(measurement)
    names = (measurement,) if band is None else (measurement, *band.aliases, band.common)
    there = {name.lower(): name for name in dataset.measurements}
    return next((there[name.lower()] for name in names if name.lower() in there), None)


def _absent(scene: Scene, band: str) -> ReadFailure:
    return ReadFailure(
        scene.id, band, scene.dataset.uri or "", f"the scene has no such band: {', '.join(scene.dataset.measurements)}"
    )


def mask_flags(values: np.ndarray, spec: MaskSpec) -> np.ndarray:
    """Mask band values (any integer type and shape) as ``products.Flag`` (uint8, same shape)."""
    if values.dtype == np.uint8:
        return _table(spec, 256)[values]
    if values.dtype == np.uint16:
        return _table(spec, 65536)[values]
    marks = np.zeros(values.shape, np.uint8)
    for flag, entries in _entries(spec):
        for entry in entries:
            hit = values == entry if spec.kind == "classes" else (values.astype(np.int64) >> entry) & 1 == 1
            marks[hit] |= np.uint8(flag)
    return marks


@cache
def _table(spec: MaskSpec, size: int) -> np.ndarray:
    """The flags of every value a mask can have."""
    return mask_flags(np.arange(size, dtype=np.int64), spec)


def _entries(spec: MaskSpec) -> tuple[tuple[Flag, tuple[int, ...]], ...]:
    return (
        (Flag.NODATA, spec.nodata),
        (Flag.CLOUD, spec.cloud),
        (Flag.SHADOW, spec.shadow),
        (Flag.SNOW, spec.snow),
        (Flag.SATURATED, spec.saturated),
    )


def _failed(source: _Band, geobox: GeoBox) -> np.ndarray:
    """``READ_FAILED`` where the band would have been, ``NODATA`` elsewhere; everywhere if that is not known."""
    if source.grid is None:
        return np.full(geobox.shape.yx, int(Flag.READ_FAILED), np.uint8)
    marks = np.full(geobox.shape.yx, int(Flag.NODATA), np.uint8)
    marks[_roi(_plan(source.grid, geobox).roi_dst)] = int(Flag.READ_FAILED)
    return marks


def _read(
    source: _Band, geobox: GeoBox, resampling: str, nodata: float | None, out: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, str | None]:
    """Digital numbers on the grid, where they are missing, and why it failed (``None``: it did not).

    The numbers are read straight into ``out`` (and are ``out``) where its type is the file's and nothing is resampled.
    """
    reason = ""
    for attempt in range(_RETRIES + 1):
        if attempt:
            time.sleep(_PAUSE_S * attempt)
        try:
            with files.opened(source.uri) as file:
                return *_read_file(file, source, geobox, resampling, nodata, out), None
        except (RasterioError, OSError, IndexError) as error:
            reason = str(error) or type(error).__name__
        except ValueError as error:
            reason = str(error)
            break  # not as indexed: trying again does not help
    return np.empty(0), np.empty(0, bool), reason


def _read_file(
    file: Any, source: _Band, geobox: GeoBox, resampling: str, nodata: float | None, out: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    from odc.geo.geobox import GeoBox as Box

    grid = source.grid if source.grid is not None else Box.from_rio(file)
    if tuple(file.shape) != tuple(grid.shape.yx):
        raise ValueError(
            f"the file has {file.height} x {file.width} pixels, the index says {grid.shape.y} x {grid.shape.x}; "
            "index it again"
        )
    shape = geobox.shape.yx
    plan = _plan(grid, geobox)
    into, window = _roi(plan.roi_dst), _roi(plan.roi_src)
    dtype = np.dtype(file.dtypes[source.index - 1])
    if any(roi.start >= roi.stop for roi in (*into, *window)):
        return np.zeros(shape, dtype), np.ones(shape, bool)
    if plan.paste_ok and plan.read_shrink == 1:
        whole = (into[0].stop - into[0].start, into[1].stop - into[1].start) == shape
        target = out if whole and out is not None and out.dtype == dtype else None
        part = file.read(source.index, window=_window(window), out=target)
        missing = radiometry.is_nodata(part, nodata)
        if whole:
            return (part if target is None else target), missing
        values, nothing = np.zeros(shape, dtype), np.ones(shape, bool)
        values[into], nothing[into] = part, missing
        return values, nothing
    margin = 3 + math.ceil(plan.scale)
    rows, columns = (slice(roi.start - margin, roi.stop + margin) for roi in window)
    inside = rows.start >= 0 and columns.start >= 0 and rows.stop <= grid.shape.y and columns.stop <= grid.shape.x
    rows, columns = (
        slice(max(0, cut.start), min(size, cut.stop)) for cut, size in ((rows, grid.shape.y), (columns, grid.shape.x))
    )
    part = file.read(source.index, window=_window((rows, columns)))
    missing = radiometry.is_nodata(part, nodata)
    return resample(part, missing, grid[rows, columns], geobox, resampling, inside=inside)


_Roi = tuple[slice, slice]


def _roi(roi: Any) -> _Roi:
    rows, columns = roi
    return slice(rows.start, rows.stop), slice(columns.start, columns.stop)


def _window(roi: _Roi) -> Window:
    rows, columns = roi
    return Window(columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start)


_plans: dict[tuple[Any, Any], ReprojectInfo] = {}


def _plan(grid: GeoBox, geobox: GeoBox) -> ReprojectInfo:
    """Which part of a grid falls into which part of the other; the bands of a scene ask the same question."""
    key = (grid, geobox)
    plan = _plans.get(key)
    if plan is None:
        if len(_plans) > 512:
            _plans.clear()
        plan = _plans[key] = compute_reproject_roi(grid, geobox)
    return plan
