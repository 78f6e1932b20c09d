"""``build_tiles``: from scenes in the cube to chips in a store; what is there already is not read again."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
import pandas as pd

from geossl import artefacts
from geossl.chips.grid import to_degrees
from geossl.chips.intent import BuildPlan, make_plan
from geossl.chips.reading import Chip, Reads, read_chips
from geossl.chips.store import SHARD, STORED, ChipStore, empty_rows, part_files, part_hashes
from geossl.chips.writer import LOCK, StoreWriter, prepare_store, write_store_manifest
from geossl.errors import InputError, WorkError
from geossl.products import Flag
from geossl.progress import say, track, warn
from geossl.regions import Period, Region, load_region

if TYPE_CHECKING:
    pass

MIN_CLEAR = 0.1
"""Chips with a smaller share of clear pixels are recorded, not stored."""
MAX_FAILED = 0.05
"""Above this share of failed reads a build ends as failed (what was read is kept)."""
_READ_RATE = 100e6  # pixels x bands a second, and
_WRITE_RATE = 180e6  # bytes a second: measured on two cores; only the estimate of a dry run rests on them


@dataclass(frozen=True)
class TilesResult:
    """What a build did, or with ``dry_run`` would do. Counts are chips unless named otherwise."""

    store: Path
    region: str
    product: str
    new: int
    """Chips to read (dry run), or read on this occasion."""
    skipped: int
    """Chips of the plan that an earlier run had done."""
    stored: int = 0
    cloudy: int = 0
    empty: int = 0
    failed: int = 0
    """Chips that could not be read; the next run tries them again."""
    failed_reads: tuple[str, ...] = ()
    """One line a failed read: scene, band, file, reason."""
    bytes: int = 0
    """Pixels and flags of the new chips, uncompressed."""
    estimated_s: float = 0.0
    """Estimated duration of reading and writing the new chips."""
    seconds: float = 0.0
    dates: int = 0
    """Solar days of the plan."""
    tiles: int = 0
    """Tiles of the plan."""
    blocks: int = 0
    chips: int = 0
    """Stored chips in the whole store afterwards."""
    reads: int = 0
    """Areas that are read at once."""
    dry_run: bool = False


def build_tiles(
    region: str | Region,
    *,
    product: str | None = None,
    period: str | Period | None = None,
    months: str | Sequence[int] | None = None,
    bands: Sequence[str] | None = None,
    max_chips: int = 20_000,
    out: str | Path | None = None,
    dry_run: bool = False,
    tile_px: int | None = None,
    block_tiles: int | None = None,
) -> TilesResult:
    """Read chips of a region from the cube into a chip store, by default ``$GEOSSL_HOME/chips/<region>/<product>``.

    At most ``max_chips`` chips of the asked-for dates, stratified by block and quarter of the year. Chips that the
    store has are skipped, new dates are appended, a build that was killed goes on. ``bands`` are common names, by
    default the store's or all of the product's. ``tile_px`` and ``block_tiles`` are fixed by the first build.

    Raises:
        InputError: unknown region, product or band; no scenes; a store of another kind at ``out``; a build under way.
        WorkError: disk full, or more than 5 % of the reads failed (what was read is kept).
    """
    started = time.monotonic()
    area = region if isinstance(region, Region) else load_region(region)
    if max_chips < 1:
        raise InputError("nothing to draw", where="--max-chips", expected="at least 1", found=max_chips)
    if tile_px is not None or block_tiles is not None:
        area = area.with_grid(tile_px=tile_px, block_tiles=block_tiles)
    plan = make_plan(area, product, period, months, bands, max_chips, out, (tile_px, block_tiles))
    if dry_run:
        return _result(plan, len(plan.todo), dry_run=True)
    if not plan.todo:
        return _result(plan, 0, seconds=time.monotonic() - started, **_tidy(plan))
    plan.path.mkdir(parents=True, exist_ok=True)
    with artefacts.lock(plan.path / LOCK, "another process builds this chip store"):
        if part_files(plan.path) != list(plan.parts):  # another build has finished since the plan was made
            plan = make_plan(area, product, period, months, bands, max_chips, out, (tile_px, block_tiles))
        prepare_store(
            plan.path,
            region=plan.region.name,
            product=plan.product.name,
            bands=plan.bands,
            encoding=plan.product.encoding,
            grid=plan.grid,
        )
        return _build(plan, started)


def _tidy(plan: BuildPlan) -> dict[str, Any]:
    """Nothing to read: bring the store's manifest up to date where a killed build left it behind."""
    store = ChipStore(plan.path)
    if store.manifest["parts"] == part_hashes(plan.path):
        return {"chips": len(store.table)}
    with artefacts.lock(plan.path / LOCK, "another process builds this chip store"):
        StoreWriter(plan.path)
        write_store_manifest(plan.path, plan.facts() | {"region": store.region})
    return {"chips": len(store.table)}


@dataclass
class _Batch:
    """Chips waiting for their commit: rows of all, pixels of those that are stored."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    data: list[np.ndarray] = field(default_factory=list)
    flags: list[np.ndarray] = field(default_factory=list)

    def commit(self, writer: StoreWriter, plan: BuildPlan) -> None:
        """Write and start anew. A commit ends with its 256th stored chip, so commits do not depend on restarts."""
        if not self.rows:
            return
        facts = pd.DataFrame(self.rows)
        outlines = to_degrees(plan.grid.boxes(facts["ix"].to_numpy(), facts["iy"].to_numpy()), plan.grid.crs)
        table = gpd.GeoDataFrame(facts, geometry=outlines, crs="EPSG:4326")[list(empty_rows().columns)]
        table = table.astype({"clear": np.float32, "failed": np.float32, "index": np.int64})
        side, count = plan.grid.tile_px, len(plan.bands)
        data = np.stack(self.data) if self.data else np.empty((0, count, side, side), plan.product.encoding.dtype)
        flags = np.stack(self.flags) if self.flags else np.empty((0, side, side), np.uint8)
        writer.commit(table, data, flags)
        self.rows, self.data, self.flags = [], [], []


def _build(plan: BuildPlan, started: float) -> TilesResult:
    writer, batch, reads = StoreWriter(plan.path), _Batch(), Reads()
    counts = dict.fromkeys(("ok", "partial", "cloudy", "empty", "failed"), 0)
    wanted = set(plan.todo)
    say(f"reading {len(wanted)} chips of {plan.product.name} in {len(plan.work)} areas, {_mib(plan.raw_bytes)} MiB")
    with track("tiles", total=len(plan.chosen), unit="chips", done=len(plan.chosen) - len(wanted)) as bar:
        chips = read_chips(plan.work, wanted, plan.candidates, plan.grid, plan.product, plan.bands, reads)
        for chip in chips:
            status = _status(chip)
            bar.advance(note=f"{counts['ok'] + counts['partial']} stored")
            before = plan.known.get(chip.number)
            failed = chip.share(Flag.READ_FAILED)
            if status == "failed" or (before is not None and failed >= before):
                counts["failed"] += 1
                continue  # no row: the next build tries again
            counts[status] += 1
            batch.rows.append(_row(plan, chip, status))
            if status in STORED:
                batch.data.append(chip.data)
                batch.flags.append(chip.flags)
            if len(batch.data) == SHARD:
                batch.commit(writer, plan)
        batch.commit(writer, plan)
    write_store_manifest(plan.path, plan.facts() | {"region": ChipStore(plan.path).region})
    failed_reads = tuple(f"{f.scene_id} {f.band}: {f.uri}: {f.reason}" for f in reads.failures)
    seconds = time.monotonic() - started
    result = _result(
        plan,
        sum(counts.values()),
        stored=counts["ok"] + counts["partial"],
        cloudy=counts["cloudy"],
        empty=counts["empty"],
        failed=counts["failed"],
        failed_reads=failed_reads,
        seconds=round(seconds, 3),
        chips=len(ChipStore(plan.path).table),
    )
    artefacts.write_run(
        plan.path, seconds=seconds, counts=counts, areas=len(plan.work), failed_reads=list(failed_reads)
    )
    _judge(failed_reads, reads.asked, plan.path)
    return result


def _status(chip: Chip) -> str:
    failed = chip.share(Flag.READ_FAILED) > 0
    if chip.clear >= MIN_CLEAR:
        return "partial" if failed else "ok"
    if failed:
        return "failed"
    return "empty" if chip.share(Flag.NODATA) == 1.0 else "cloudy"


def _row(plan: BuildPlan, chip: Chip, status: str) -> dict[str, Any]:
    ix, iy = int(plan.candidates.ix[chip.number]), int(plan.candidates.iy[chip.number])
    left, top = plan.grid.corner(ix * plan.grid.tile_px, iy * plan.grid.tile_px)
    baselines = sorted({scene.baseline for scene in chip.scenes if scene.baseline})
    return {
        "chip": plan.candidates.chip_id(chip.number),
        "tile": f"{ix}_{iy}",
        "ix": ix,
        "iy": iy,
        "block": plan.grid.block_of(ix, iy),
        "datetime": chip.scenes[0].datetime,
        "solar_day": plan.candidates.days[plan.candidates.day[chip.number]].isoformat(),
        "clear": chip.clear,
        "failed": chip.share(Flag.READ_FAILED),
        "status": status,
        "index": 0 if status in STORED else -1,  # the writer numbers the stored ones
        "left": left,
        "top": top,
        "datasets": ",".join(scene.id for scene in chip.scenes),
        "baseline": ",".join(baselines),
    }


def _judge(failed: tuple[str, ...], asked: int, path: Path) -> None:
    """Name the failed reads; too many are an error."""
    if not failed:
        return
    shown = "; ".join(failed[:3]) + ("; …" if len(failed) > 3 else "")
    if len(failed) > MAX_FAILED * asked:
        raise WorkError(
            f"{len(failed)} of {asked} reads failed",
            where=path,
            expected=f"at most {100 * MAX_FAILED:g} %",
            found=shown,
            remedy="what was read is kept; check the files and run the same command again",
        )
    warn(f"{len(failed)} of {asked} reads failed; their pixels are masked: {shown} (all in {path / artefacts.RUN})")


def _mib(count: float) -> str:
    return f"{count / 2**20:.1f}"


def _result(plan: BuildPlan, new: int, **facts: Any) -> TilesResult:
    candidates, chosen = plan.candidates, plan.chosen
    tiles = set(zip(candidates.ix[chosen].tolist(), candidates.iy[chosen].tolist(), strict=True))
    pixels = sum(panel.width * panel.height for panel in plan.work)
    return TilesResult(
        store=plan.path,
        region=plan.region.name,
        product=plan.product.name,
        new=new,
        skipped=len(chosen) - len(plan.todo),
        bytes=plan.raw_bytes,
        estimated_s=round(pixels * len(plan.bands) / _READ_RATE + plan.raw_bytes / _WRITE_RATE, 1),
        dates=len(np.unique(candidates.day[chosen])),
        tiles=len(tiles),
        blocks=len({plan.grid.block_of(ix, iy) for ix, iy in tiles}),
        reads=len(plan.work),
        **facts,
    )
