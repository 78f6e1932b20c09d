"""``embed``: from an encoder and a region (or chips) to embeddings of chips (GeoParquet) and of pixel cells (COG)."""

from __future__ import annotations

import shutil
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geossl import rasters
from geossl.artefacts import (
    atomic_directory,
    check_place,
    disk_errors,
    hash_file,
    hash_json,
    is_complete,
    lock,
    read_manifest,
    work_folder,
    write_manifest,
    write_run,
)
from geossl.chips.chipset import ChipSet
from geossl.errors import InputError
from geossl.maps.embed_cells import CellPredictor, CellSink, Components, fit_components, sample_cells
from geossl.maps.embed_chips import embed_chips, join_parts
from geossl.maps.embed_layer import COMPONENT_FILE, TABLE, write_cells
from geossl.maps.embed_neighbours import write_neighbours
from geossl.maps.embed_plan import EmbedPlan, EmbedWork, make_work, preview_region
from geossl.maps.stream import load_progress, make_layout, stream_map
from geossl.progress import say, warn
from geossl.regions import Region

KIND = "embeddings"


@dataclass(frozen=True)
class EmbedResult:
    """Embeddings that lie in a folder.

    Attributes:
        folder: the folder.
        files: names of its files.
        chips: rows of ``embeddings.parquet``.
        left_out: chips without a clear pixel, which have no row.
        chips_now: chips embedded by this run (fewer where an earlier run was cut off, 0 where it was finished).
        dimensions: length of an embedding.
        cells: rows and columns of ``cells.tif``; None where there is none.
        no_cells: why there is no ``cells.tif``.
        components: share of variance that each band of ``cells.tif`` holds.
        neighbours: picture and table of neighbours, where a point was given.
        seconds: time this run took.
    """

    folder: Path
    files: tuple[str, ...]
    chips: int
    left_out: int
    chips_now: int
    dimensions: int
    cells: tuple[int, int] | None
    no_cells: str | None
    components: tuple[float, ...]
    neighbours: tuple[Path, Path] | None
    seconds: float


def embed(
    encoder: str | Path,
    *,
    out: str | Path,
    region: str | Region | None = None,
    chips: str | Path | ChipSet | None = None,
    product: str | None = None,
    period: str | None = None,
    months: str | None = None,
    neighbours_of: tuple[float, float] | None = None,
) -> EmbedResult:
    """Embed the chips of a region or of a chip set.

    ``embeddings.parquet`` has one row a chip (tile and date) with its embedding. ``cells.tif`` has the principal
    components of the encoder's maps in cells of its finest stride, averaged over the clear dates; it is left out, and
    that is said, where the chips do not form one picture. The same call continues a run that was cut off; where the
    result is there already, only the picture of neighbours is made.

    Args:
        encoder: an encoder's folder.
        out: folder of the result.
        region: region to read from the cube: a shipped name, a vector file, ``west,south,east,north``, or a Region.
            Tiles that are missing are built first.
        chips: instead of a region: a chip store or an INDEX of ready chips.
        product: ODC product, where several have scenes over the region.
        period: days to use; without it the region's own period, else all.
        months: months of the year to use.
        neighbours_of: longitude and latitude of a point: a picture of the latest clear chip there and its nearest
            neighbours on other tiles.

    Raises:
        InputError: no such encoder, its bands are missing, nothing clear, the point lies on no chip, another artefact
            at ``out``.
        WorkError: disk full, or a chip cannot be read.
    """
    started = time.monotonic()
    _one_source(region, chips)
    check_place(Path(out), KIND)
    work = make_work(
        encoder, region=region, chips=chips, out=out, product=product, period=period, months=months, point=neighbours_of
    )
    folder, identity = work.plan.out, hash_json(work.inputs)
    folder.parent.mkdir(parents=True, exist_ok=True)
    chips_now = 0
    with lock(folder.with_name(f".{folder.name}.lock"), "another process is embedding to this folder"):
        if is_complete(folder) and read_manifest(folder, KIND)["inputs_hash"] == identity:
            say(f"these embeddings are there already: {folder}")
        else:
            chips_now = _make(work, identity, started)
        manifest = read_manifest(folder, KIND)
        neighbours = None
        if work.query is not None and neighbours_of is not None:
            chip = str(work.chips.table["chip"].iloc[work.query])
            with disk_errors(folder):
                neighbours = write_neighbours(folder, work.chips, chip, neighbours_of)
    if manifest["no_cells"]:
        warn(f"no raster of cells: {manifest['no_cells']}")
    if not manifest["georeferenced"]:
        warn("these chips have no coordinates: embeddings.parquet is a plain table without geometry")
    return _result(work.plan, manifest, chips_now, neighbours, time.monotonic() - started)


def plan_embed(
    encoder: str | Path,
    *,
    out: str | Path,
    region: str | Region | None = None,
    chips: str | Path | ChipSet | None = None,
    product: str | None = None,
    period: str | None = None,
    months: str | None = None,
    neighbours_of: tuple[float, float] | None = None,
) -> EmbedPlan:
    """What :func:`embed` would do with the same arguments; no pixel is read and nothing is written."""
    _one_source(region, chips)
    check_place(Path(out), KIND)
    if region is not None:
        return preview_region(encoder, region, out, product, period, months)
    return make_work(
        encoder, region=None, chips=chips, out=out, product=product, period=period, months=months, point=neighbours_of
    ).plan


def _one_source(region: str | Region | None, chips: str | Path | ChipSet | None) -> None:
    if (region is None) == (chips is None):
        raise InputError(
            "one source of chips is needed",
            expected="--region (read from the cube), or --chips",
            found="neither" if region is None else "both",
        )


def _make(work: EmbedWork, identity: str, started: float) -> int:
    """Embed and publish; returns how many chips were embedded now."""
    plan = work.plan
    unfinished = work_folder(plan.out, identity)
    with disk_errors(plan.out), rasters.full_disk_told(plan.out):
        parts, chips_now = embed_chips(work, unfinished)
    if chips_now < plan.chips:
        say(f"an earlier run was cut off: {plan.chips - chips_now} chips were embedded already")
    cells = _cells(work, unfinished) if work.mosaic is not None else None
    with atomic_directory(plan.out) as folder, rasters.full_disk_told(plan.out):
        rows = join_parts(parts, folder / TABLE)
        facts: dict[str, Any] = {"cells": None, "components": None, "georeferenced": False}
        facts["georeferenced"] = bool(work.table["geometry"].notna().any())
        if cells is not None:
            sink, components, days = cells
            components.save(folder / COMPONENT_FILE)
            write_cells(folder, work, sink, components, days)
            facts["cells"] = {"shape": plan.cells, "cell_px": work.encoder.strides[0], "days": days}
            facts["components"] = {
                "file": COMPONENT_FILE,
                "hash": hash_file(folder / COMPONENT_FILE),
                "explained": components.explained,
                "channels": work.encoder.channels,
                "strides": work.encoder.strides,
            }
        files = sorted(file.name for file in folder.iterdir())
        write_run(folder, seconds=time.monotonic() - started)
        write_manifest(
            folder, KIND, inputs=work.inputs, inputs_hash=identity, files=files, chips=rows, left_out=plan.chips - rows,
            dimensions=plan.dimensions, bands=work.encoder.bands, no_cells=plan.no_cells, source=work.chips.name,
            **facts,
        )  # fmt: skip
    shutil.rmtree(unfinished)
    return chips_now


def _cells(work: EmbedWork, folder: Path) -> tuple[CellSink, Components, list[Any]]:
    """The working rasters of cells, and the days on which something was clear."""
    assert work.mosaic is not None and work.plan.cells is not None
    file = folder / COMPONENT_FILE
    if not file.exists():
        with disk_errors(folder):
            fit_components(sample_cells(work), work.encoder.channels).save(file)
    components = Components.load(file)
    predictor = CellPredictor(work.encoder, components)
    geobox = work.mosaic.geobox
    layout = make_layout((geobox.height, geobox.width), predictor.sizes, predictor.cell_px)
    grid = geobox.zoom_out(predictor.cell_px)
    if load_progress(folder).rows_done:
        say("cells of an earlier run are kept: going on where it was")
    with disk_errors(work.plan.out), rasters.full_disk_told(work.plan.out):
        tags = {"geossl_encoder": work.inputs["encoder"], "geossl_source": work.chips.name}
        sink = CellSink(folder, rasters.Grid(*work.plan.cells, str(grid.crs), grid.affine), components, tags)
        with closing(sink):
            progress = stream_map(work.mosaic, predictor, sink, layout, folder, f"cells of {work.plan.name}")
    return sink, components, [work.mosaic.days[index] for index in progress.clear_days]


def _result(
    plan: EmbedPlan, manifest: dict[str, Any], chips_now: int, neighbours: tuple[Path, Path] | None, seconds: float
) -> EmbedResult:
    cells, components = manifest["cells"], manifest["components"]
    return EmbedResult(
        folder=plan.out,
        files=tuple(manifest["files"]),
        chips=manifest["chips"],
        left_out=manifest["left_out"],
        chips_now=chips_now,
        dimensions=manifest["dimensions"],
        cells=(cells["shape"][0], cells["shape"][1]) if cells else None,
        no_cells=manifest["no_cells"],
        components=tuple(components["explained"]) if components else (),
        neighbours=neighbours,
        seconds=round(seconds, 1),
    )
