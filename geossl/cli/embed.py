"""``geossl embed``: embeddings of chips and of pixel cells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from geossl.cli.common import (
    DryRunOption,
    JsonOption,
    MonthsOption,
    PeriodOption,
    ProductOption,
    RegionOption,
    run_verb,
)

if TYPE_CHECKING:
    from geossl.maps.embed import EmbedResult
    from geossl.maps.embed_plan import EmbedPlan


def embed(
    encoder: Annotated[str, typer.Option("--encoder", help="An encoder's directory (geossl pretrain).")],
    out: Annotated[str, typer.Option("--out", "-o", help="Directory for the result.")],
    region: RegionOption = None,
    chips: Annotated[
        str | None, typer.Option("--chips", help="A chip store or an INDEX of ready chips, instead of a region.")
    ] = None,
    product: ProductOption = None,
    period: PeriodOption = None,
    months: MonthsOption = None,
    neighbours_of: Annotated[
        str | None,
        typer.Option(
            "--neighbours-of", metavar="LON,LAT", help="Picture and table of the chips most like the one at this point."
        ),
    ] = None,
    as_json: JsonOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Embeddings of a region's chips as GeoParquet, and of its pixel cells as a COG with a picture and a STAC item.

    Example: geossl embed --encoder encoders/malardalen-simclr --region malardalen --period 2018-06/2018-08 --out emb
    --neighbours-of 16.5,59.6
    """

    def work() -> EmbedResult | EmbedPlan:
        from geossl.maps.embed import embed, plan_embed

        arguments: dict[str, Any] = {
            "out": out,
            "region": region,
            "chips": chips,
            "product": product,
            "period": period,
            "months": months,
            "neighbours_of": parse_point(neighbours_of) if neighbours_of else None,
        }
        return plan_embed(encoder, **arguments) if dry_run else embed(encoder, **arguments)

    run_verb(work, as_json, _plan_text if dry_run else _text)


def parse_point(text: str) -> tuple[float, float]:
    """``LON,LAT`` in degrees."""
    from geossl.errors import InputError

    try:
        longitude, latitude = (float(part) for part in text.split(","))
        if not (-180 <= longitude <= 180 and -90 <= latitude <= 90):
            raise ValueError(text)
    except ValueError:
        raise InputError(
            "not a point on the globe", where="--neighbours-of", expected="longitude,latitude in degrees", found=text
        ) from None
    return longitude, latitude


def _plan_text(plan: EmbedPlan) -> str:
    lines = [f"would embed {plan.chips} chips of {plan.tiles} tiles of {plan.name}: {plan.dimensions} numbers a chip"]
    if plan.to_build:
        lines.append(f"  tiles    {plan.to_build} chips are read from the cube first")
    if plan.cells:
        lines.append(f"  cells    {plan.cells[0]} × {plan.cells[1]}")
    if plan.no_cells:
        lines.append(f"  cells    none: {plan.no_cells}")
    return "\n".join([*lines, f"  folder   {plan.out}"])


def _text(result: EmbedResult) -> str:
    now = f"{result.chips_now} in this run, {result.seconds:.1f} s"
    lines = [f"embeddings of {result.chips} chips, {result.dimensions} numbers each ({now})"]
    if result.left_out:
        lines.append(f"  left out {result.left_out} chips without a clear pixel")
    lines.append(f"  table    {result.folder / 'embeddings.parquet'}")
    if result.cells:
        share = 100 * sum(result.components)
        size = f"{result.cells[0]} × {result.cells[1]} cells, {len(result.components)} components"
        lines.append(f"  cells    {result.folder / 'cells.tif'} ({size}: {share:.0f} % of the variance)")
        lines.append(f"  picture  {result.folder / 'quicklook.png'}")
    else:
        lines.append(f"  cells    none: {result.no_cells}")
    if result.neighbours:
        lines += [f"  alike    {file}" for file in result.neighbours]
    return "\n".join(lines)
