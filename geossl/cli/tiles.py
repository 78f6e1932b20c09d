"""``geossl tiles``: build and look at chip stores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from geossl.cli.common import (
    DryRunOption,
    JsonOption,
    MonthsOption,
    OutOption,
    PeriodOption,
    ProductOption,
    RegionOption,
    run_verb,
)
from geossl.errors import InputError

if TYPE_CHECKING:
    from geossl.chips.build import TilesResult

app = typer.Typer(no_args_is_help=True, help="Chips of a region: read from the cube once, trained on many times.")


@app.command("build")
def build(
    region: RegionOption = None,
    product: ProductOption = None,
    period: PeriodOption = None,
    months: MonthsOption = None,
    bands: Annotated[
        str | None, typer.Option("--bands", help="Common names, comma-separated: blue,green,red. Default: all.")
    ] = None,
    max_chips: Annotated[int, typer.Option("--max-chips", help="Draw at most so many chips.")] = 20_000,
    tile_px: Annotated[
        int | None, typer.Option("--tile-px", help="Tile side in pixels (fixed by the first build).")
    ] = None,
    block_tiles: Annotated[
        int | None, typer.Option("--block-tiles", help="Block side in tiles (fixed by the first build).")
    ] = None,
    out: OutOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Read chips of a region from the cube into a chip store; what is there is not read again.

    Example: geossl tiles build --region malardalen --period 2018 --months 5-9
    """

    def work() -> TilesResult:
        from geossl.chips.build import build_tiles

        return build_tiles(
            _required(region),
            product=product,
            period=period,
            months=months,
            bands=[name.strip() for name in bands.split(",") if name.strip()] if bands else None,
            max_chips=max_chips,
            out=out,
            dry_run=dry_run,
            tile_px=tile_px,
            block_tiles=block_tiles,
        )

    run_verb(work, as_json, _build_text)


@app.command("status")
def status(
    region: RegionOption = None,
    product: ProductOption = None,
    out: Annotated[str | None, typer.Option("--out", "-o", help="The chip store's directory.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Say what a chip store holds: chips, dates, tiles, blocks, clear share, size, chips by month.

    Example: geossl tiles status --region malardalen
    """

    def work() -> Any:
        from geossl.chips.status import find_stores, store_status

        if out is None and region is None:
            raise InputError("which chip store?", remedy="give --region, or --out with its directory")
        return [store_status(path) for path in find_stores(region, product, out)]

    run_verb(work, as_json, lambda stores: "\n\n".join(store.text() for store in stores))


def _required(region: str | None) -> str:
    if region is None:
        raise InputError("no region given", remedy="give --region: a shipped name, a vector file, or a box in degrees")
    return region


def _build_text(result: TilesResult) -> str:
    megabytes = f"{result.bytes / 2**20:.1f} MiB"
    plan = f"{result.tiles} tiles in {result.blocks} blocks on {result.dates} dates of {result.product}"
    if result.dry_run:
        return (
            f"{plan}\nnew {result.new}, skip {result.skipped}, {megabytes} uncompressed in {result.reads} reads, "
            f"about {result.estimated_s:.0f} s\nwould go to {result.store}"
        )
    return (
        f"{plan}\nnew {result.new}, skip {result.skipped}, {megabytes} uncompressed: {result.stored} stored, "
        f"{result.cloudy} too cloudy, {result.empty} without data, {result.failed} failed; {result.seconds:.0f} s\n"
        f"{result.chips} chips in {result.store}"
    )
