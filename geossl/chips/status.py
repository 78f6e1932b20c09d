"""What a chip store holds, in figures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from geossl import artefacts, config
from geossl.chips.store import ChipStore
from geossl.errors import InputError
from geossl.regions import load_region


@dataclass(frozen=True)
class StoreStatus:
    """Figures of one chip store."""

    store: Path
    region: str
    product: str
    id: str
    bands: tuple[str, ...]
    crs: str
    resolution_m: float
    tile_px: int
    block_tiles: int
    chips: int
    dates: int
    first: str | None
    last: str | None
    tiles: int
    blocks: int
    clear: float | None
    """Mean share of clear pixels of the stored chips."""
    cloudy: int
    """Chips that were read and not stored: too few clear pixels."""
    empty: int
    """Chips that were read and not stored: no data."""
    partial: int
    """Stored chips with pixels that could not be read."""
    bytes: int
    """On disk."""
    by_month: dict[str, int]
    """Stored chips by year and month."""

    def text(self) -> str:
        """For people."""
        crs = self.crs if len(self.crs) < 40 else "a CRS without a code"
        lines = [
            f"{self.region} / {self.product}: {self.chips} chips, {self.dates} dates"
            + (f" from {self.first} to {self.last}" if self.first else ""),
            f"  {self.tiles} tiles of {self.tile_px} px at {self.resolution_m:g} m ({crs}), {self.blocks} blocks of "
            f"{self.block_tiles} x {self.block_tiles} tiles",
            f"  bands {', '.join(self.bands)}",
            f"  clear {100 * self.clear:.0f} % on average" if self.clear is not None else "  nothing stored",
            f"  not stored: {self.cloudy} too cloudy, {self.empty} without data; {self.partial} stored with gaps",
            f"  {self.bytes / 2**20:.1f} MiB in {self.store}",
        ]
        months = [f"{month} {count}" for month, count in self.by_month.items()]
        lines += ["  " + "  ".join(months[start : start + 6]) for start in range(0, len(months), 6)]
        return "\n".join(lines)


def store_status(path: Path) -> StoreStatus:
    """The figures of the chip store at ``path``.

    Raises:
        InputError: no chip store there.
    """
    store = ChipStore(path)
    table, counts = store.table, store.rows["status"].value_counts()
    days = sorted(set(table["solar_day"]))
    months = table["solar_day"].str[:7].value_counts().sort_index() if len(table) else {}
    return StoreStatus(
        store=path,
        region=store.region,
        product=store.product,
        id=store.id,
        bands=store.bands,
        crs=store.grid.crs,
        resolution_m=round(store.resolution_m, 3),
        tile_px=store.grid.tile_px,
        block_tiles=store.grid.block_tiles,
        chips=len(table),
        dates=len(days),
        first=days[0] if days else None,
        last=days[-1] if days else None,
        tiles=int(table["tile"].nunique()),
        blocks=int(table["block"].nunique()),
        clear=round(float(table["clear"].mean()), 4) if len(table) else None,
        cloudy=int(counts.get("cloudy", 0)),
        empty=int(counts.get("empty", 0)),
        partial=int(counts.get("partial", 0)),
        bytes=sum(file.stat().st_size for file in path.rglob("*") if file.is_file()),
        by_month={str(month): int(count) for month, count in dict(months).items()},
    )


def find_stores(region: str | None, product: str | None, out: str | None) -> list[Path]:
    """The store at ``out``, or the default stores of a region (of one product, or of all it has).

    Raises:
        InputError: none there.
    """
    if out is not None:
        return [Path(out)]
    folder = config.geossl_home() / "chips" / load_region(str(region)).name
    found = [path for path in sorted(folder.glob("*")) if artefacts.is_complete(path)]
    if product is not None:
        found = [path for path in found if path.name == product]
    if not found:
        raise InputError(
            "no chip store of this region",
            where=folder,
            remedy=f"geossl tiles build --region {region}" + (f" --product {product}" if product else ""),
        )
    return found
