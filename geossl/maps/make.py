"""``make_map``: from a head and a region (or a block of ready chips) to a published layer."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geossl import rasters, stac
from geossl.artefacts import (
    atomic_directory,
    check_place,
    disk_errors,
    hash_json,
    is_complete,
    lock,
    read_manifest,
    work_folder,
    write_manifest,
    write_run,
)
from geossl.errors import WorkError
from geossl.maps.areas import write_zones
from geossl.maps.layers import LayerFacts, LayerSink, write_layer
from geossl.maps.plan import MapPlan, Workpieces, make_plan
from geossl.maps.predictors import MapHead
from geossl.maps.stream import Progress, load_progress, stream_map
from geossl.progress import say, warn
from geossl.regions import Period, Region

if TYPE_CHECKING:
    from geossl.chips.chipset import ChipSet

KIND = "layer"


@dataclass(frozen=True)
class FailedRead:
    """A band of a scene that could not be read: masked where nothing else covers it."""

    scene: str
    band: str
    uri: str
    reason: str


@dataclass(frozen=True)
class MapResult:
    """A published layer.

    Attributes:
        layer: its folder.
        files: names of its files.
        task: name of the task.
        dates: days whose clear pixels went in.
        shape: rows and columns.
        crs: CRS of the map.
        windows: windows of the whole map.
        windows_now: windows predicted by this run (fewer where an earlier run was cut off, 0 where it was finished).
        clear_share: share of the map's cells that were clear on at least one date.
        failed_reads: scenes and bands that could not be read.
        seconds: time this run took.
        zones: the table of areas in zones, where zones were given.
    """

    layer: Path
    files: tuple[str, ...]
    task: str
    dates: tuple[date, ...]
    shape: tuple[int, int]
    crs: str
    windows: int
    windows_now: int
    clear_share: float
    failed_reads: tuple[FailedRead, ...]
    seconds: float
    zones: Path | None = None


def make_map(
    head: str | Path | MapHead,
    *,
    region: str | Path | Region | None = None,
    chips: str | Path | ChipSet | None = None,
    block: str | None = None,
    product: str | None = None,
    period: str | Period | None = None,
    months: str | Sequence[int] | None = None,
    out: str | Path | None = None,
    zones: str | Path | None = None,
    zone_name: str | None = None,
    trust: bool = False,
    other_pixels: bool = False,
) -> MapResult:
    """Map a region with a head and publish the layer.

    Tasks of single dates (``temporal: date``) give one layer for the period: each clear date is predicted alone, and
    a pixel's probabilities are the mean over the dates on which it was clear; ``clear_dates.tif`` counts them. Other
    tasks get all dates at once. A pixel that no date shows clear is nodata. The map is on the region's grid, or on
    the pixel grid of the scenes where the region names none, and is cut to the region.

    The same command continues a run that was cut off and gives the same files (``run.json`` aside); where the layer
    is there already, nothing is done.

    Args:
        head: a head's folder, or an opened head.
        region: region to read from the cube: a shipped name, a vector file, ``west,south,east,north``, or a Region.
        chips: instead of a region: an INDEX of ready chips, georeferenced; ``block`` is mapped.
        block: the block of ``chips`` whose chips are joined.
        product: ODC product, where several have scenes over the region.
        period: days to use; without it the region's own period, else all.
        months: months of the year to use.
        out: the layer's folder; by default ``$GEOSSL_HOME/maps/<task>-<region>/<period>``.
        zones: vector file of polygons: ``zones.csv`` beside the layer gives the areas in each; ``zone_name`` is the
            column with their names.
        trust: also ``trust.tif``: confidence, size of the conformal set (half width of the interval), and how unlike
            a place is to what was taught (:mod:`geossl.maps.trusted`).
        other_pixels: map pixels of another size than the head has learnt from.

    Raises:
        InputError: nothing to read, bands missing, pixels of another size, another artefact at ``out``.
        WorkError: disk full, or more than 5 % of the reads failed.
    """
    started = time.monotonic()
    pieces = make_plan(
        head,
        region=region,
        chips=chips,
        block=block,
        product=product,
        period=period,
        months=months,
        out=out,
        trust=trust,
        other_pixels=other_pixels,
    )
    made = carry_out(pieces, started)
    return made if zones is None else replace(made, zones=write_zones(made.layer, zones, zone_name))


def carry_out(pieces: Workpieces, started: float) -> MapResult:
    """Make the map that was planned, unless it is there; ``started`` is when, by the monotonic clock."""
    plan = pieces.plan
    identity = hash_json(plan.inputs)
    check_place(plan.out, KIND)
    plan.out.parent.mkdir(parents=True, exist_ok=True)
    with lock(plan.out.with_name(f".{plan.out.name}.lock"), "another process is making this map"):
        if is_complete(plan.out) and read_manifest(plan.out, KIND).get("inputs_hash") == identity:
            say(f"this map is there already: {plan.out}")
            return _result(plan, read_manifest(plan.out, KIND), 0, time.monotonic() - started)
        work = work_folder(plan.out, identity)
        before = load_progress(work)
        if before.rows_done:
            say("an earlier run was cut off: going on where it was")
        sink = _open_sink(pieces, work)
        progress = _stream(pieces, sink, work)
        manifest = _publish(pieces, sink, identity, progress, started)
        shutil.rmtree(work)
    if progress.failures:
        warn(f"{progress.failed} of {progress.reads} reads failed and were masked; run.json lists the files")
    return _result(plan, manifest, progress.windows_done - before.windows_done, time.monotonic() - started)


def plan_map(head: str | Path | MapHead, **where: Any) -> MapPlan:
    """What :func:`make_map` would do with the same arguments, without reading a pixel."""
    plan = make_plan(head, **where).plan
    check_place(plan.out, KIND)
    return plan


def _open_sink(pieces: Workpieces, work: Path) -> LayerSink:
    first, last = pieces.span
    tags = {
        "geossl_task": pieces.plan.task,
        "geossl_head": pieces.head_id,
        "geossl_source": pieces.plan.source,
        "period": f"{first.isoformat()}/{last.isoformat()}",
    }
    with disk_errors(pieces.plan.out), rasters.full_disk_told(pieces.plan.out):
        return LayerSink(
            work, rasters.Grid(*pieces.plan.shape, pieces.plan.crs, pieces.grid.affine), pieces.legend, tags
        )


def _stream(pieces: Workpieces, sink: LayerSink, work: Path) -> Progress:
    """Predict what is left."""
    try:
        with disk_errors(pieces.plan.out), rasters.full_disk_told(pieces.plan.out), closing(sink):
            return stream_map(pieces.pixels, pieces.predictor, sink, pieces.layout, work, f"map {pieces.plan.region}")
    except WorkError as error:
        if "reads failed" in error.what:
            shutil.rmtree(work, ignore_errors=True)  # what could not be read must be tried again
        raise


def _publish(pieces: Workpieces, sink: LayerSink, identity: str, progress: Progress, started: float) -> dict[str, Any]:
    """Turn finished work into the layer's folder; the manifest is written last."""
    plan = pieces.plan
    facts = layer_facts(pieces, tuple(plan.days[index] for index in progress.clear_days))
    with atomic_directory(plan.out) as folder, rasters.full_disk_told(plan.out):
        files = write_layer(folder, sink, facts)
        write_run(folder, seconds=time.monotonic() - started, runs=progress.runs, failed_reads=progress.failures)
        return write_manifest(
            folder,
            KIND,
            inputs=plan.inputs,
            inputs_hash=identity,
            files=files,
            windows=plan.windows,
            clear_days=[day for day in facts.days if day is not None],
            clear_share=progress.clear_cells / (plan.shape[0] * plan.shape[1]),
            failed_reads=progress.failures,
        )


def layer_facts(pieces: Workpieces, days: tuple[date | None, ...]) -> LayerFacts:
    """What the layer of a plan is about; ``days`` are those on which something was clear."""
    plan = pieces.plan
    first, last = pieces.span
    return LayerFacts(
        layer_id=f"{plan.task}-{plan.region}-{first.isoformat()}-{last.isoformat()}",
        task=plan.task,
        region=plan.region,
        days=days,
        first=first,
        last=last,
        source=plan.source,
        scene_ids=pieces.pixels.scene_ids,
        head_id=pieces.head_id,
        head_path=pieces.head_path,
        placement=stac.Placement(pieces.pixels.footprint(), plan.crs, plan.shape, pieces.grid.affine),
    )


def _result(plan: MapPlan, manifest: dict[str, Any], windows_now: int, seconds: float) -> MapResult:
    return MapResult(
        layer=plan.out,
        files=tuple(manifest["files"]),
        task=plan.task,
        dates=tuple(date.fromisoformat(str(day)) for day in manifest["clear_days"]),
        shape=plan.shape,
        crs=plan.crs,
        windows=plan.windows,
        windows_now=windows_now,
        clear_share=round(float(manifest["clear_share"]), 4),
        failed_reads=tuple(FailedRead(**failure) for failure in manifest["failed_reads"]),
        seconds=round(seconds, 1),
    )
