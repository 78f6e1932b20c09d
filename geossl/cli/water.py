"""``geossl level``: the level of a lake on every date."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from geossl.cli.common import (
    JsonOption,
    MonthsOption,
    OutOption,
    PeriodOption,
    ProductOption,
    SeedOption,
    run_verb,
)

if TYPE_CHECKING:
    from geossl.maps.level import LevelResult


def level(
    region: Annotated[
        str,
        typer.Option("--region", "-r", help="A shipped region, a vector file, or west,south,east,north in degrees."),
    ],
    gauge: Annotated[
        str, typer.Option("--gauge", "-g", help="CSV of dates and levels in metres (a gauge's readings).")
    ],
    period: PeriodOption = None,
    months: MonthsOption = None,
    product: ProductOption = None,
    out: OutOption = None,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """The water level of a lake on every date: its shore's elevations are learnt on dates with a gauge reading.

    Gives series.csv with errors and "not observable", a plot, the waterline of each date, and figures on left-out dates
    against the area-level curve, climatology and persistence.

    Example: geossl level --region vanern --gauge gauge.csv --months 5-9
    """

    def work() -> LevelResult:
        from geossl.maps.level import map_level

        return map_level(gauge, region=region, product=product, period=period, months=months, out=out, seed=seed)

    run_verb(work, as_json, _text)


def _text(result: LevelResult) -> str:
    lines = [f"water level: {result.observable} of {result.dates} dates observable, {result.seconds:.0f} s"]
    if result.last:
        lines.append(f"  newest   {result.last['date']}: {result.last['level_m']:.2f} ± {result.last['error_m']:.2f} m")
    for name, row in sorted(result.metrics["rows"].items(), key=lambda item: float(item[1]["rmse_m"])):
        lines.append(f"  RMSE     {row['rmse_m']:.3f} m  {name} ({result.metrics['dates']} dates left out in turn)")
    lines += [f"  series   {result.series}", f"  report   {result.folder / 'report.html'}"]
    return "\n".join(lines)
