"""What a call of ``build_tiles`` comes to: product, grid, bands, the chips that are drawn and those still to read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from odc.geo import CRS

from geossl import artefacts, config
from geossl.chips.grid import Grid, on_grid, region_grid
from geossl.chips.plan import Candidates, Panel, chip_keys, draw, find_candidates, panel_side, panels
from geossl.chips.reading import bytes_per_pixel
from geossl.chips.store import ChipStore, empty_rows, part_files, read_parts
from geossl.chips.writer import check_same
from geossl.errors import InputError, unknown_name
from geossl.regions import Period, Region, parse_months, parse_period

if TYPE_CHECKING:
    from geossl.cube.connect import Product


@dataclass(frozen=True)
class BuildPlan:
    """What one call of ``build_tiles`` is to do."""

    region: Region
    product: Product
    grid: Grid
    bands: tuple[str, ...]
    path: Path
    candidates: Candidates
    chosen: np.ndarray
    """The drawn candidates, done or not."""
    todo: tuple[int, ...]
    """Those to read."""
    known: dict[int, float]
    """Candidates that have a row in the store: their share of unread pixels."""
    work: tuple[Panel, ...]
    parts: tuple[Path, ...]
    """The commits that the plan knows of."""

    def facts(self) -> dict[str, Any]:
        """What the store's manifest says of itself."""
        return {
            "region": self.region.name,
            "product": self.product.name,
            "bands": list(self.bands),
            "encoding": self.product.encoding.as_dict(),
            "grid": self.grid.as_dict(),
        }

    @property
    def raw_bytes(self) -> int:
        """Pixels and flags of the chips to read, uncompressed."""
        return len(self.todo) * self.grid.tile_px**2 * bytes_per_pixel(self.bands, self.product.encoding)


def default_store(region: Region, product: str) -> Path:
    """Where the chips of a region and product lie when no ``--out`` is given."""
    return config.geossl_home() / "chips" / region.name / product


def make_plan(
    region: Region,
    product: str | None,
    period: str | Period | None,
    months: str | Sequence[int] | None,
    bands: Sequence[str] | None,
    max_chips: int,
    out: str | Path | None,
    asked_grid: tuple[int | None, int | None],
) -> BuildPlan:
    """Find the scenes, lay the grid, draw the chips, leave out what the store has (see ``build_tiles``)."""
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
    parts = tuple(part_files(path)) if store else ()
    rows = read_parts(path) if store else empty_rows()
    known = _known(candidates, rows)
    done = np.zeros(len(candidates), dtype=bool)
    done[list(known)] = True
    chosen = draw(candidates, grid, max_chips, done)
    todo = tuple(int(number) for number in chosen if known.get(int(number), 1.0) > 0)
    native = all(on_grid(grid, scene) for day in candidates.scenes for scene in day)
    side = panel_side(bytes_per_pixel(names, chosen_product.encoding), native)
    wanted = set(todo)
    work = tuple(p for p in panels(candidates, grid, chosen, side) if wanted.intersection(p.chips)) if wanted else ()
    plan = BuildPlan(region, chosen_product, grid, names, path, candidates, chosen, todo, known, work, parts)
    if store:
        check_same(path, plan.facts())
    return plan


def _known(candidates: Candidates, rows: pd.DataFrame) -> dict[int, float]:
    """The candidates that have a row, and their share of unread pixels."""
    days = pd.to_datetime(rows["solar_day"]).map(pd.Timestamp.toordinal).to_numpy(np.int64)
    keys = chip_keys(rows["ix"].to_numpy(np.int64), rows["iy"].to_numpy(np.int64), days)
    there, of_candidates, of_rows = np.intersect1d(candidates.keys(), keys, assume_unique=True, return_indices=True)
    shares = rows["failed"].to_numpy()
    return {int(c): float(shares[r]) for c, r in zip(of_candidates, of_rows, strict=True)} if len(there) else {}


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
