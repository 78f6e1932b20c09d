"""``geossl map``: a head and a region become a published layer."""

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

if TYPE_CHECKING:
    from geossl.maps.make import MapResult
    from geossl.maps.plan import MapPlan


def make_map(
    head: Annotated[str, typer.Option("--head", help="A head's directory (geossl finetune).")],
    region: RegionOption = None,
    period: PeriodOption = None,
    months: MonthsOption = None,
    product: ProductOption = None,
    chips: Annotated[
        str | None, typer.Option("--chips", help="Ready chips (an INDEX) instead of the cube; with --block.")
    ] = None,
    block: Annotated[str | None, typer.Option("--block", help="The block of --chips to join to one map.")] = None,
    out: OutOption = None,
    as_json: JsonOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Map a region with a head: COGs with colours and class names, QGIS style, STAC, quick-look picture.

    Example: geossl map --head heads/drought-malardalen --region malardalen --period 2018-06/2018-08
    """
    arguments: dict[str, Any] = {
        "region": region,
        "chips": chips,
        "block": block,
        "product": product,
        "period": period,
        "months": months,
        "out": out,
    }

    def work() -> MapResult | MapPlan:
        from geossl.maps.make import make_map, plan_map

        return plan_map(head, **arguments) if dry_run else make_map(head, **arguments)

    run_verb(work, as_json, _plan_text if dry_run else _result_text)


def _plan_text(plan: MapPlan) -> str:
    days = [str(day) for day in plan.days if day is not None]
    dates = f"{len(days)} dates, {days[0]} to {days[-1]}" if days else "date not known"
    return "\n".join(
        [
            f"would map {plan.region} with {plan.task}: {plan.shape[0]} × {plan.shape[1]} cells of "
            f"{plan.resolution_m:g} ({plan.crs})",
            f"  from     {plan.source}: {plan.scenes} scenes or chips, {dates}",
            f"  work     {plan.windows} windows, at most {plan.reads} reads",
            f"  layer    {plan.out}",
        ]
    )


def _result_text(result: MapResult) -> str:
    days = [str(day) for day in result.dates]
    dates = f"{len(days)} dates, {days[0]} to {days[-1]}" if days else "date not known"
    lines = [
        f"map of {result.task}: {result.shape[0]} × {result.shape[1]} cells, {100 * result.clear_share:.0f} % of them "
        f"seen ({dates})",
        f"  windows  {result.windows} ({result.windows_now} in this run), {result.seconds:.1f} s",
        f"  layer    {result.layer}",
        f"  picture  {result.layer / 'quicklook.png'}",
    ]
    if result.failed_reads:
        lines.insert(2, f"  masked   {len(result.failed_reads)} bands of scenes could not be read")
        lines += [f"           {read.scene} {read.band}: {read.reason} ({read.uri})" for read in result.failed_reads]
    return "\n".join(lines)
