"""``geossl evaluate``: what a head is worth elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from geossl.cli.common import (
    JsonOption,
    MonthsOption,
    OtherPixelsOption,
    OutOption,
    PeriodOption,
    ProductOption,
    RegionOption,
    SeedOption,
    run_verb,
)

if TYPE_CHECKING:
    from geossl.tasks.evaluate import EvaluateResult


def evaluate(
    head: Annotated[str, typer.Option("--head", help="A head's directory (geossl finetune).")],
    labels: Annotated[
        str | None, typer.Option("--labels", "-l", help="Vector file (points, polygons) or raster of labels.")
    ] = None,
    region: RegionOption = None,
    chips: Annotated[
        str | None, typer.Option("--chips", help="A chip store, or an index of ready chips with labels.")
    ] = None,
    leave_out: Annotated[
        str | None,
        typer.Option("--leave-out", help="year or site: figures of each, and of a read-out fitted without it."),
    ] = None,
    other_pixels: OtherPixelsOption = False,
    product: ProductOption = None,
    period: PeriodOption = None,
    months: MonthsOption = None,
    out: OutOption = None,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Score a head on labels it has not learnt from: another region, year by year, or site by site.

    Figures have 95 % intervals by resampled blocks; the head's calibration, sets and outlier score are judged there
    too. The directory holds report.html and all figures in manifest.json.

    Example: geossl evaluate --head heads/drought-malardalen --labels labels.gpkg --region vanern --leave-out year
    """

    def work() -> EvaluateResult:
        from geossl.tasks.evaluate import evaluate as score

        return score(
            head,
            labels=labels,
            region=region,
            chips=chips,
            product=product,
            period=period,
            months=months,
            leave_out=leave_out,
            other_pixels=other_pixels,
            out=out,
            seed=seed,
        )

    run_verb(work, as_json, _text)


def _text(result: EvaluateResult) -> str:
    name = result.headline.replace("_", " ")
    within = f" [{result.interval[0]:.3f}, {result.interval[1]:.3f}]" if result.interval else ""
    home = "" if result.at_home is None else f" (on its own test blocks {result.at_home:.3f})"
    lines = [
        f"{result.task}: {name} {result.value:.3f}{within} on {result.items} labels in {result.blocks} blocks{home}",
        f"report: {result.report}",
    ]
    if result.ece is not None:
        lines.append(f"  calibration error {result.ece:.3f}")
    lines += [f"  {level} sets or intervals hold the truth in {100 * v:.1f} %" for level, v in result.coverage.items()]
    if result.unlike is not None:
        lines.append(f"  {100 * result.unlike:.1f} % of the labels are at places unlike what was taught")
    for row in result.groups:
        group, score, anew = next(iter(row.values())), row["as it is"], row["anew"]
        shown = ["–" if one is None else f"{one:.3f}" for one in (score, anew)]
        lines.append(f"  {group!s:<20} {row['items']:>6} labels  {name} {shown[0]}, fitted without it {shown[1]}")
    return "\n".join(lines)
