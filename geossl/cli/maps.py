"""``geossl map``: a head and a region become a published layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from geossl.cli.common import (
    DryRunOption,
    JsonOption,
    MonthsOption,
    OtherPixelsOption,
    OutOption,
    PeriodOption,
    ProductOption,
    RegionOption,
    run_verb,
)

if TYPE_CHECKING:
    from geossl.maps.index import IndexMapResult
    from geossl.maps.make import MapResult
    from geossl.maps.plan import MapPlan


def make_map(
    head: Annotated[str | None, typer.Option("--head", help="A head's directory (geossl finetune).")] = None,
    task: Annotated[
        str | None,
        typer.Option("--task", "-t", help="What a task gives without a head: aquatic-vegetation, surface-water, …"),
    ] = None,
    index: Annotated[
        str | None, typer.Option("--index", help="Instead of a head: ndvi, ndmi, ndwi, mndwi, ndre, nbr or ndti.")
    ] = None,
    composite: Annotated[
        str | None,
        typer.Option("--composite", help="With --index: median (default), max, best (clearest date) or frequency."),
    ] = None,
    threshold: Annotated[
        float | None, typer.Option("--threshold", help="With --index: also the extent above it, with areas.")
    ] = None,
    within: Annotated[
        str | None,
        typer.Option("--within", help="With --threshold: polygons, a raster, or 'water' (as the scenes show it)."),
    ] = None,
    per_month: Annotated[bool, typer.Option("--per-month", help="With --index: a layer for each month.")] = False,
    against: Annotated[
        str | None, typer.Option("--against", help="Also the change against this raster (with --task or --index).")
    ] = None,
    region: RegionOption = None,
    period: PeriodOption = None,
    months: MonthsOption = None,
    product: ProductOption = None,
    chips: Annotated[
        str | None, typer.Option("--chips", help="Ready chips (an INDEX) instead of the cube; with --block.")
    ] = None,
    block: Annotated[str | None, typer.Option("--block", help="The block of --chips to join to one map.")] = None,
    zones: Annotated[
        str | None, typer.Option("--zones", help="Polygons (municipalities): areas in each as zones.csv.")
    ] = None,
    zone_name: Annotated[
        str | None, typer.Option("--zone-name", help="The column of --zones with their names.")
    ] = None,
    trust: Annotated[
        bool,
        typer.Option("--trust", help="With --head: also how far to trust each pixel (trust.tif)."),
    ] = False,
    other_pixels: OtherPixelsOption = False,
    out: OutOption = None,
    as_json: JsonOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Map a region with a head, or without any model what a task's rule says or a spectral index: COGs with colours and
    class names, QGIS style, STAC, quick-look picture.

    Examples: geossl map --head heads/drought-malardalen --region malardalen --period 2018-06/2018-08   |   geossl map
    --task surface-water --region vanern --period 2018/2022   |   geossl map --index ndvi --composite max --months 5-9
    --threshold 0.3 --within water --per-month --region vanern
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
    tables: dict[str, Any] = {"zones": zones, "zone_name": zone_name}
    only_index = {
        "--composite": composite, "--threshold": threshold, "--within": within, "--per-month": per_month or None,
        "--against": against,
    }  # fmt: skip

    def work() -> MapResult | MapPlan | IndexMapResult:
        from geossl.errors import InputError

        if (head is None and task is None) == (index is None):
            raise InputError(
                "say what to map",
                expected="--head DIR, --task NAME, or --index NAME",
                found="none of them" if index is None else "several",
            )
        if (trust or other_pixels) and (head is None or task is not None):
            raise InputError("--trust and --other-pixels are for maps of a head alone", where="--trust")
        asked: dict[str, Any] = {"threshold": threshold, "within": within, "per_month": per_month, "against": against}
        if task is not None:
            from geossl.maps.task_map import make_task_map, plan_task_map

            if composite is not None:
                raise InputError("--composite: the task's rule says it", where="--task")
            if dry_run:
                return plan_task_map(task, head=head, **arguments)
            return make_task_map(task, head=head, **arguments, **asked, **tables)
        if head is not None:
            from geossl.maps.make import make_map, plan_map

            used = [name for name, value in only_index.items() if value is not None]
            if used:
                raise InputError(f"{', '.join(used)}: only for a map with --index", where="--head")
            of_head: dict[str, Any] = {**arguments, "trust": trust, "other_pixels": other_pixels}
            return plan_map(head, **of_head) if dry_run else make_map(head, **of_head, **tables)
        from geossl.maps.index import make_index_map, plan_index_map

        assert index is not None
        if dry_run:
            return plan_index_map(index, composite or "median", **arguments)
        return make_index_map(index, composite or "median", **arguments, **asked, **tables)

    run_verb(work, as_json, _plan_text if dry_run else _text)


def _text(result: MapResult | IndexMapResult) -> str:
    from geossl.maps.make import MapResult

    return _result_text(result) if isinstance(result, MapResult) else _index_text(result)


def _index_text(result: IndexMapResult) -> str:
    lines = [_result_text(made) for made in result.maps] if len(result.maps) == 1 else []
    for row in result.areas:
        month = "" if row["month"] is None else f"month {row['month']:>2}  "
        lines.append(f"  {month}{row['class']:<24} {row['hectares']:>12,.1f} ha  ({row['layer']})")
    lines += [f"  layer    {layer}" for layer in result.layers]
    lines += [f"  change   {result.change}"] if result.change else []
    lines += [f"  table    {table}" for table in ((result.table,) if result.table else ()) + result.zones]
    return "\n".join(lines)


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
    if result.zones is not None:
        lines.append(f"  zones    {result.zones}")
    if result.failed_reads:
        lines.insert(2, f"  masked   {len(result.failed_reads)} bands of scenes could not be read")
        lines += [f"           {read.scene} {read.band}: {read.reason} ({read.uri})" for read in result.failed_reads]
    return "\n".join(lines)
