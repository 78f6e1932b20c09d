"""``build_tiles``: from scenes in the cube to chips in a store; what is there already is not read again."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
from odc.geo import CRS

from geossl import artefacts, config
from geossl.chips.grid import Grid, region_grid
from geossl.chips.plan import Candidates, Panel, draw, find_candidates, panel_side, panels
from geossl.chips.reading import Chip, Reads, bytes_per_pixel, read_chips
from geossl.chips.store import SHARD, STORED, ChipStore, empty_rows, read_parts
from geossl.chips.writer import LOCK, StoreWriter, check_same, prepare_store, write_store_manifest
from geossl.errors import InputError, WorkError, unknown_name
from geossl.products import Flag
from geossl.progress import say, track, warn
from geossl.regions import Period, Region, load_region, parse_months, parse_period

if TYPE_CHECKING:
    from geossl.cube.connect import Product

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


@dataclass(frozen=True)
class _Plan:
    region: Region
    product: Product
    grid: Grid
    bands: tuple[str, ...]
    path: Path
    candidates: Candidates
    chosen: np.ndarray
    todo: tuple[int, ...]
    ids: np.ndarray
    known: dict[str, float]
    """Chips of the plan that have a row: share of failed pixels."""
    work: tuple[Panel, ...]

    def facts(self) -> dict[str, Any]:
        return {
            "region": self.region.name,
            "product": self.product.name,
            "bands": list(self.bands),
            "encoding": self.product.encoding.as_dict(),
            "grid": self.grid.as_dict(),
        }


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
    plan = _plan(area, product, period, months, bands, max_chips, out, (tile_px, block_tiles))
    if dry_run:
        return _result(plan, len(plan.todo), dry_run=True)
    if not plan.todo:
        return _result(plan, 0, seconds=time.monotonic() - started, **_tidy(plan))
    plan.path.mkdir(parents=True, exist_ok=True)
    with artefacts.lock(plan.path / LOCK, "another process builds this chip store"):
        # Another build may have finished since the plan was made: what counts is the store under the lock.
        plan = _plan(area, product, period, months, bands, max_chips, out, (tile_px, block_tiles))
        prepare_store(
            plan.path,
            region=plan.region.name,
            product=plan.product.name,
            bands=plan.bands,
            encoding=plan.product.encoding,
            grid=plan.grid,
        )
        return _build(plan, started)


def default_store(region: Region, product: str) -> Path:
    """Where the chips of a region and product lie when no ``--out`` is given."""
    return config.geossl_home() / "chips" / region.name / product


def _plan(
    region: Region,
    product: str | None,
    period: str | Period | None,
    months: str | Sequence[int] | None,
    bands: Sequence[str] | None,
    max_chips: int,
    out: str | Path | None,
    asked_grid: tuple[int | None, int | None],
) -> _Plan:
    from geossl.cube.connect import choose_product

    span = parse_period(period) if isinstance(period, str) else period or region.period
    which = parse_months(months) if isinstance(months, str) else tuple(months) if months else region.months
    cube, chosen_product = choose_product(region, product)
    with cube:
        path = Path(out) if out else default_store(region, chosen_product.name)
        store = ChipStore(path) if artefacts.is_complete(path) else None
        scenes = cube.find(chosen_product, region.geometry, span, which)
        if not scenes:
            raise InputError(
                f"no scenes of {chosen_product.name} over this region at this time",
                where=f"region {region.name}",
                found=f"period {span or 'any'}, months {which or 'any'}",
                remedy="choose another --period or --months ('geossl cube status' lists what there is)",
            )
        # Without a CRS the corner of the grid comes from all scenes, so that it does not depend on the period.
        native = region.crs is None and store is None
        grid = (
            store.grid
            if store
            else region_grid(region, cube.find(chosen_product, region.geometry) if native else scenes)
        )
    if store:
        _check_grid(store, region, asked_grid)
    names = _bands(chosen_product, bands, store)
    candidates = find_candidates(region, grid, scenes)
    if not len(candidates):
        raise InputError("no tile of this region lies in a scene", where=f"region {region.name}")
    ids = candidates.chip_ids()
    rows = read_parts(path) if store else empty_rows()
    known = {chip: float(share) for chip, share in zip(rows["chip"], rows["failed"], strict=True)}
    complete = np.fromiter((chip in known for chip in ids), dtype=bool, count=len(ids))
    chosen = draw(candidates, grid, max_chips, complete)
    todo = tuple(int(number) for number in chosen if known.get(ids[number], 1.0) > 0)
    side = panel_side(bytes_per_pixel(names, chosen_product.encoding))
    wanted = set(todo)
    work = tuple(p for p in panels(candidates, grid, chosen, side) if wanted.intersection(p.chips)) if wanted else ()
    plan = _Plan(region, chosen_product, grid, names, path, candidates, chosen, todo, ids, known, work)
    if store:
        check_same(path, plan.facts())
    return plan


def _check_grid(store: ChipStore, region: Region, asked: tuple[int | None, int | None]) -> None:
    """A store keeps the grid of its first build; asking for another one is an error."""
    there = store.grid
    pairs = [("--tile-px", asked[0], there.tile_px), ("--block-tiles", asked[1], there.block_tiles)]
    for name, wanted, found in pairs:
        if wanted is not None and wanted != found:
            raise InputError(
                "this chip store was built on another grid",
                where=store.path,
                expected=f"{name} {found}",
                found=f"{name} {wanted}",
                remedy=f"leave {name} out, or choose another --out",
            )
    if region.crs is not None and CRS(region.crs) != CRS(there.crs):
        raise InputError(
            "this chip store was built in another CRS",
            where=store.path,
            expected=there.crs,
            found=region.crs,
            remedy="choose another --out",
        )


def _bands(product: Product, bands: Sequence[str] | None, store: ChipStore | None) -> tuple[str, ...]:
    names = tuple(bands) if bands else store.bands if store else product.bands
    for name in names:
        if name not in product.bands:
            raise unknown_name("band", name, product.bands, where=f"product {product.name}")
    if len(set(names)) != len(names):
        raise InputError("a band is named twice", where="--bands", found=", ".join(names))
    return names


def _tidy(plan: _Plan) -> dict[str, Any]:
    """Nothing to read: bring the store's manifest up to date where a killed build left it behind."""
    with artefacts.lock(plan.path / LOCK, "another process builds this chip store"):
        StoreWriter(plan.path)
        write_store_manifest(plan.path, plan.facts() | {"region": ChipStore(plan.path).region})
    return {"chips": len(ChipStore(plan.path).table)}


@dataclass
class _Batch:
    """Chips waiting for their commit: rows of all, pixels of those that are stored."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    data: list[np.ndarray] = field(default_factory=list)
    flags: list[np.ndarray] = field(default_factory=list)

    def commit(self, writer: StoreWriter, plan: _Plan) -> None:
        """Write and start anew. A commit ends with its 256th stored chip, so commits do not depend on restarts."""
        if not self.rows:
            return
        table = gpd.GeoDataFrame(self.rows, geometry="geometry", crs="EPSG:4326")[list(empty_rows().columns)]
        table = table.astype({"clear": np.float32, "failed": np.float32, "index": np.int64})
        side, count = plan.grid.tile_px, len(plan.bands)
        data = np.stack(self.data) if self.data else np.empty((0, count, side, side), plan.product.encoding.dtype)
        flags = np.stack(self.flags) if self.flags else np.empty((0, side, side), np.uint8)
        writer.commit(table, data, flags)
        self.rows, self.data, self.flags = [], [], []


def _build(plan: _Plan, started: float) -> TilesResult:
    writer, batch, reads = StoreWriter(plan.path), _Batch(), Reads()
    counts = dict.fromkeys(("ok", "partial", "cloudy", "empty", "failed"), 0)
    wanted = set(plan.todo)
    say(f"reading {len(wanted)} chips of {plan.product.name} in {len(plan.work)} areas, {_mib(_raw_bytes(plan))} MiB")
    with track("tiles", total=len(plan.chosen), unit="chips", done=len(plan.chosen) - len(wanted)) as bar:
        chips = read_chips(plan.work, wanted, plan.candidates, plan.grid, plan.product, plan.bands, reads)
        for chip in chips:
            status = _status(chip)
            bar.advance(note=f"{counts['ok'] + counts['partial']} stored")
            before = plan.known.get(plan.ids[chip.number])
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


def _row(plan: _Plan, chip: Chip, status: str) -> dict[str, Any]:
    ix, iy = int(plan.candidates.ix[chip.number]), int(plan.candidates.iy[chip.number])
    left, top = plan.grid.corner(ix * plan.grid.tile_px, iy * plan.grid.tile_px)
    baselines = sorted({scene.baseline for scene in chip.scenes if scene.baseline})
    return {
        "chip": plan.ids[chip.number],
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
        "geometry": plan.grid.tile_geobox(ix, iy).geographic_extent.geom,
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


def _raw_bytes(plan: _Plan) -> int:
    pixel = bytes_per_pixel(plan.bands, plan.product.encoding)
    return len(plan.todo) * plan.grid.tile_px**2 * pixel


def _mib(count: float) -> str:
    return f"{count / 2**20:.1f}"


def _result(plan: _Plan, new: int, **facts: Any) -> TilesResult:
    candidates, chosen = plan.candidates, plan.chosen
    tiles = set(zip(candidates.ix[chosen].tolist(), candidates.iy[chosen].tolist(), strict=True))
    pixels = sum(panel.width * panel.height for panel in plan.work)
    return TilesResult(
        store=plan.path,
        region=plan.region.name,
        product=plan.product.name,
        new=new,
        skipped=len(chosen) - len(plan.todo),
        bytes=_raw_bytes(plan),
        estimated_s=round(pixels * len(plan.bands) / _READ_RATE + _raw_bytes(plan) / _WRITE_RATE, 1),
        dates=len(np.unique(candidates.day[chosen])),
        tiles=len(tiles),
        blocks=len({plan.grid.block_of(ix, iy) for ix, iy in tiles}),
        reads=len(plan.work),
        **facts,
    )


def scenes_of_chips(chips: ChipStore) -> set[str]:
    """The ODC ids of every scene that a stored chip came from."""
    return {name for text in chips.table["datasets"] for name in str(text).split(",") if name}
