"""``geossl finetune``."""

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
    from geossl.tasks.finetune import FinetuneResult

_EPILOG = (
    "Examples: geossl finetune --task drought --encoder ENCODER --labels labels.gpkg --region malardalen   |   "
    "geossl finetune --task land-cover --encoder ENCODER --chips ../shared/data/bigearthnet-finland"
)


def finetune(
    task: Annotated[str, typer.Option("--task", "-t", help="A shipped task, or the .yaml of your own.")],
    encoder: Annotated[str, typer.Option("--encoder", "-e", help="Directory that geossl pretrain wrote.")],
    labels: Annotated[
        str | None, typer.Option("--labels", "-l", help="Vector file (points, polygons) or raster of labels.")
    ] = None,
    region: RegionOption = None,
    chips: Annotated[
        str | None,
        typer.Option("--chips", help="A chip store, or an index of ready chips with labels; no cube is needed."),
    ] = None,
    labels_per_class: Annotated[
        int | None, typer.Option("--labels-per-class", help="Use only so many labels of each class.")
    ] = None,
    leave_out: Annotated[
        str | None, typer.Option("--leave-out", help="year: also withhold the labels of each year in turn.")
    ] = None,
    strategy: Annotated[
        str | None,
        typer.Option(
            "--strategy",
            help="frozen: the encoder stays as it is (usual). finetune: it learns on. pseudo: the head's own confident"
            " answers teach it too.",
        ),
    ] = None,
    decoder: Annotated[
        str | None, typer.Option("--decoder", help="linear (usual), fpn or unet; for tasks of pixels.")
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            "--weights",
            help="Compare with these weights in the encoder's place: torchgeo's name, .pth, .safetensors, directory.",
        ),
    ] = None,
    weights_bands: Annotated[
        str | None, typer.Option("--weights-bands", help="Bands of a file of weights in its order: red,green,blue.")
    ] = None,
    other_pixels: OtherPixelsOption = False,
    product: ProductOption = None,
    period: PeriodOption = None,
    months: MonthsOption = None,
    out: OutOption = None,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Teach a head for a task from sparse labels, and see what it is worth on held-out blocks.

    A head is a linear layer on a frozen encoder, unless --strategy, --decoder or the task's YAML say otherwise. Its
    directory holds the weights, a manifest, and report.html with the controls beside it: a random encoder, learning
    from scratch, spectral statistics, and the task's own indices.
    """

    def work() -> FinetuneResult:
        from geossl.tasks.finetune import finetune as teach

        return teach(
            task,
            encoder=encoder,
            labels=labels,
            region=region,
            chips=chips,
            product=product,
            period=period,
            months=months,
            out=out,
            seed=seed,
            labels_per_class=labels_per_class,
            leave_out=leave_out,
            strategy=strategy,
            decoder=decoder,
            weights=weights,
            weights_bands=weights_bands,
            other_pixels=other_pixels,
        )

    run_verb(work, as_json, _text)


finetune.__doc__ = f"{finetune.__doc__}\n    {_EPILOG}\n"


def _text(result: FinetuneResult) -> str:
    name = result.headline.replace("_", " ")
    within = f" [{result.interval[0]:.3f}, {result.interval[1]:.3f}]" if result.interval else ""
    lines = [
        f"head:   {result.head}",
        f"report: {result.report}",
        f"{result.task}: {name} {result.value:.3f}{within} on test blocks, {result.seconds:.0f} s",
    ]
    for row in result.rows:
        budget = "all" if row["labels_per_class"] is None else f"{row['labels_per_class']}/class"
        value = row[result.headline]
        difference = row["ours_minus_row"]
        apart = ""
        if difference:
            bounds = difference["interval"] or (float("nan"), float("nan"))
            apart = f"  ours − row {difference['value']:+.3f} [{bounds[0]:+.3f}, {bounds[1]:+.3f}]"
        shown = "–" if value is None else f"{value:.3f}"
        lines.append(f"  {budget:>9}  {row['row']:<42} {shown}{apart}")
    for row in result.leave_out:
        dry = (
            ""
            if row.get("hits") is None
            else f"  driest third: hits {row['hits']:.2f}, false {row['false_alarms']:.2f}"
        )
        lines.append(f"  without {row['year']}  {row['row']:<46} macro f1 {row['macro_f1']:.3f}{dry}")
    lines += [f"  left out: {row} ({why})" for row, why in result.left_out.items()]
    return "\n".join(lines)
