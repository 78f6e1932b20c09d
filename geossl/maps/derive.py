"""Layers made from a finished layer of values: where it lies above a limit, and what has changed against a raster."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from odc.geo.geobox import GeoBox
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window

from geossl import rasters
from geossl.artefacts import (
    atomic_directory,
    check_place,
    disk_errors,
    hash_json,
    is_complete,
    lock,
    read_manifest,
    write_manifest,
    write_run,
)
from geossl.errors import InputError
from geossl.maps.areas import class_areas, write_areas
from geossl.maps.layers import LayerFacts, write_layer
from geossl.maps.legend import NODATA, Legend, LegendClass
from geossl.maps.sources import inside_mask
from geossl.progress import say

CHANGES = ("in neither", "in both", "gained", "lost")
_CHANGE_COLOURS = ("#e9e4d4", "#5aae61", "#1b4f9c", "#d6604d")
DIFFERENCE_RAMP = ("#8c510a", "#dfc27d", "#f5f5f5", "#80cdc1", "#01665e")
Block = Callable[[Window], np.ndarray]
"""Reads a window of the layer's grid."""


@dataclass(frozen=True)
class Derived:
    """A layer to be made: what it is called, its legend, the file it is made of, and how.

    ``compute``: (values of the base layer float32 with NaN, window) → (y, x), uint8 classes with :data:`NODATA`, or
    float32 with NaN. The values are (y, x), of a base layer with several planes (plane, y, x). ``inputs``: all it
    depends on besides the base layer.
    """

    name: str
    legend: Legend
    compute: Callable[[np.ndarray, Window], np.ndarray]
    inputs: dict[str, Any]


@dataclass(frozen=True)
class _Finished:
    legend: Legend
    paths: dict[str, Path]


def extent_legend(title: str, below: str, above: str) -> Legend:
    """Two classes: 0 where the values are at most the limit, 1 where they lie above."""
    return Legend(title, "derived", (LegendClass(0, below, "#b9d6ec"), LegendClass(1, above, "#1b7837")))


def change_legend(title: str) -> Legend:
    """Four classes: in neither picture, in both, gained, lost."""
    pairs = zip(CHANGES, _CHANGE_COLOURS, strict=True)
    return Legend(title, "derived", tuple(LegendClass(value, *pair) for value, pair in enumerate(pairs)))


def extent(values: np.ndarray, limit: float, inside: np.ndarray) -> np.ndarray:
    """(y, x) uint8: 1 where ``values`` lie above ``limit``, 0 elsewhere, nodata where not seen or not ``inside``."""
    return np.where(np.isfinite(values) & inside, values > limit, NODATA).astype(np.uint8)


def change(now: np.ndarray, then: np.ndarray) -> np.ndarray:
    """Classes of :data:`CHANGES` from two extents (1 there, 0 not, 255 not known); nodata where either is not known."""
    known = (now != NODATA) & (then != NODATA)
    code = np.select([(now == 1) & (then == 1), now == 1, then == 1], [1, 2, 3], 0)
    return np.where(known, code, NODATA).astype(np.uint8)


def derive_layer(base: Path, derived: Derived, facts: LayerFacts, out: Path) -> tuple[Path, list[dict[str, Any]]]:
    """Publish a layer made from ``base``, the folder of a finished layer of values; nothing is done where it is there.

    Returns its folder and its rows of areas (none for a quantity). ``facts`` are those of the base layer.

    Raises:
        InputError: something else lies at ``out``.
        WorkError: disk full.
    """
    started = time.monotonic()
    manifest = read_manifest(base, "layer")
    legend = derived.legend
    inputs = {
        **manifest["inputs"],
        "task": derived.name,
        "base": manifest["inputs_hash"],
        "legend": [[entry.value, entry.name, entry.colour] for entry in legend.classes] or legend.unit,
        "derived": {"title": legend.title, **derived.inputs},
    }
    identity = hash_json(inputs)
    check_place(out, "layer")
    out.parent.mkdir(parents=True, exist_ok=True)
    with lock(out.with_name(f".{out.name}.lock"), "another process is making this layer"):
        if is_complete(out) and read_manifest(out, "layer").get("inputs_hash") == identity:
            say(f"this layer is there already: {out}")
            return out, read_manifest(out, "layer")["areas"]
        main = "class" if legend.classes else "value"
        work = out.with_name(f".{out.name}.work")
        shutil.rmtree(work, ignore_errors=True)
        with disk_errors(out), rasters.full_disk_told(out):
            work.mkdir()
            path = _compute(base / "value.tif", derived, work / f"{main}.tif", facts)
        own = replace(
            facts,
            layer_id=facts.layer_id.replace(facts.task, derived.name, 1),
            task=derived.name,
            head_path=base,
        )
        areas = class_areas(path, legend.names) if legend.classes else []
        with atomic_directory(out) as folder, rasters.full_disk_told(out):
            files = write_layer(folder, _Finished(legend, {main: path}), own)
            if areas:
                write_areas(folder, areas)
                files = tuple(sorted((*files, "areas.csv", "areas.json")))
            write_run(folder, seconds=time.monotonic() - started)
            kept = {name: manifest[name] for name in ("clear_days", "clear_share", "failed_reads", "windows")}
            write_manifest(
                folder, "layer", inputs=inputs, inputs_hash=identity, files=files, areas=areas, base=base.name, **kept
            )
        shutil.rmtree(work)
    return out, areas


def _compute(values: Path, derived: Derived, path: Path, facts: LayerFacts) -> Path:
    """The working raster of a derived layer, window by window."""
    legend = derived.legend
    with rasterio.open(values) as source:
        grid = rasters.Grid(source.height, source.width, facts.placement.crs, source.transform)
        dtype, nodata = ("uint8", float(NODATA)) if legend.classes else ("float32", float("nan"))
        tags = {"geossl_task": derived.name, "geossl_source": facts.source, "period": f"{facts.first}/{facts.last}"}
        named = {f"class_{value}": name for value, name in legend.names.items()}
        rasters.create_raster(
            path, grid, 1, dtype, nodata, descriptions=[legend.title], tags={**tags, **named, "title": legend.title},
            colours=legend.colours if legend.classes else None,
        )  # fmt: skip
        with rasters.open_rasters([path]) as (target,):
            for window in _windows(source.height, source.width):
                planes = source.read(window=window)
                found = derived.compute(planes if source.count > 1 else planes[0], window)
                rasters.write_block(target, found[None], window.row_off, window.col_off)
    return path


def _windows(height: int, width: int) -> Iterator[Window]:
    step = rasters.BLOCK_PX
    for y in range(0, height, step):
        for x in range(0, width, step):
            yield Window(x, y, min(step, width - x), min(step, height - y))


@contextmanager
def mask_reader(within: Path | None, geobox: GeoBox) -> Iterator[Block]:
    """Reads where a layer speaks: inside the polygons of a vector file, where a raster is not 0, or everywhere.

    Raises:
        InputError: a file that is neither, without CRS, or beside the map.
    """
    if within is None:
        yield lambda window: np.ones((window.height, window.width), bool)
        return
    from geossl.labels.read import is_raster

    if is_raster(within):
        with warped(within, geobox) as read:
            yield lambda window: np.nan_to_num(read(window)) > 0
        return
    from geossl.regions import load_region

    shape = load_region(within).geometry_in(str(geobox.crs))
    if not shape.intersects(geobox.extent.geom):
        raise InputError("this area lies beside the map", where=within, remedy="check --within")
    yield lambda window: inside_mask(shape, _part(geobox, window))


def _part(geobox: GeoBox, window: Window) -> GeoBox:
    return geobox[window.row_off : window.row_off + window.height, window.col_off : window.col_off + window.width]


@contextmanager
def warped(raster: Path, geobox: GeoBox) -> Iterator[Block]:
    """Reads the first band of any raster on a grid: float32, NaN where it has no value.

    Whole numbers are classes and are taken from the nearest pixel, quantities are interpolated (bilinear).
    """
    if not raster.is_file():
        raise InputError("no such raster", where=raster)
    with ExitStack() as stack:
        try:
            source = stack.enter_context(rasterio.open(raster))
        except rasterio.errors.RasterioIOError as error:
            raise InputError("cannot read this raster", where=raster, found=error) from None
        if source.crs is None:
            raise InputError("this raster names no CRS", where=raster)
        bounds = rasterio.warp.transform_bounds(source.crs, geobox.crs.to_wkt() if geobox.crs else None, *source.bounds)
        west, south, east, north = geobox.boundingbox.bbox
        if bounds[0] >= east or bounds[2] <= west or bounds[1] >= north or bounds[3] <= south:
            raise InputError("this raster lies beside the map", where=raster)
        floating = np.dtype(source.dtypes[0]).kind == "f"
        view = stack.enter_context(
            WarpedVRT(
                source,
                crs=str(geobox.crs),
                transform=geobox.affine,
                height=geobox.height,
                width=geobox.width,
                resampling=Resampling.bilinear if floating else Resampling.nearest,
                add_alpha=source.nodata is None,
            )
        )

        def read(window: Window) -> np.ndarray:
            values = view.read(1, window=window).astype(np.float32)
            return np.where(view.dataset_mask(window=window) > 0, values, np.float32(np.nan))

        yield read


def is_quantity(raster: Path) -> bool:
    """Whether a raster holds numbers with a fraction (an index), not whole numbers (an extent or classes)."""
    with rasterio.open(raster) as source:
        return np.dtype(source.dtypes[0]).kind == "f"
