"""``geossl labels``: label files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from geossl.cli.common import (
    JsonOption,
    MonthsOption,
    OutOption,
    PeriodOption,
    ProductOption,
    RegionOption,
    SeedOption,
    run_verb,
)

if TYPE_CHECKING:
    from geossl.tasks.labels_check import LabelsCheckResult
    from geossl.tasks.labels_suggest import SuggestResult
    from geossl.tasks.template import TemplateResult

app = typer.Typer(no_args_is_help=True, help="Label files: an empty one to fill in, a check, and where to label next.")


@app.callback()
def _group() -> None:
    """Label files: an empty one to fill in, a check, and where to label next."""


@app.command("template")
def template(
    task: Annotated[str, typer.Option("--task", "-t", help="A shipped task, or the .yaml of your own.")],
    out: Annotated[str | None, typer.Option("--out", "-o", help="The new file (.gpkg).")] = None,
    as_json: JsonOption = False,
) -> None:
    """Write an empty GeoPackage with the fields of a task's labels, to be filled in QGIS.

    Example: geossl labels template --task drought --out labels.gpkg
    """

    def work() -> TemplateResult:
        from geossl.tasks.template import label_template

        return label_template(task, out)

    run_verb(work, as_json, _text)


def _text(result: TemplateResult) -> str:
    classes = ", ".join(result.classes) or "names of your own, or numbers"
    return f"{result.path}\n  columns  {', '.join(result.columns)}\n  classes  {classes}"


@app.command("check")
def check(
    file: Annotated[str | None, typer.Argument(help="Label file; without it the labels of ready --chips.")] = None,
    task: Annotated[str, typer.Option("--task", "-t", help="A shipped task, or the .yaml of your own.")] = ...,  # type: ignore[assignment]
    out: OutOption = None,
    region: RegionOption = None,
    chips: Annotated[str | None, typer.Option("--chips", help="A chip store, or an index of ready chips.")] = None,
    encoder: Annotated[
        str | None, typer.Option("--encoder", "-e", help="Also judge each label by its neighbours in these features.")
    ] = None,
    product: ProductOption = None,
    period: PeriodOption = None,
    months: MonthsOption = None,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Say what finetune would do with a label file, and which labels look wrong.

    Example: geossl labels check labels.gpkg --task drought --region malardalen --encoder ENCODER
    """

    def work() -> LabelsCheckResult:
        from geossl.tasks.labels_check import check_labels

        return check_labels(
            file,
            task,
            out=out,
            region=region,
            chips=chips,
            encoder=encoder,
            product=product,
            period=period,
            months=months,
            seed=seed,
        )

    run_verb(work, as_json, _checked)


@app.command("suggest")
def suggest(
    encoder: Annotated[str, typer.Option("--encoder", "-e", help="An encoder that geossl pretrain wrote.")],
    task: Annotated[str, typer.Option("--task", "-t", help="A shipped task, or the .yaml of your own.")],
    out: Annotated[str, typer.Option("--out", "-o", help="The new file to fill in (.gpkg).")],
    head: Annotated[str | None, typer.Option("--head", help="A head of this task: look where it is unsure.")] = None,
    labels: Annotated[str | None, typer.Option("--labels", "-l", help="What is labelled already.")] = None,
    region: RegionOption = None,
    chips: Annotated[str | None, typer.Option("--chips", help="A chip store, or an index of ready chips.")] = None,
    count: Annotated[int, typer.Option("--count", "-n", help="How many places.")] = 50,
    product: ProductOption = None,
    period: PeriodOption = None,
    months: MonthsOption = None,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Choose the places where the next labels help most, as a GeoPackage to fill in, with a page of pictures.

    Example: geossl labels suggest -e ENCODER --head HEAD -l labels.gpkg -t water --region malaren -o next.gpkg
    """

    def work() -> SuggestResult:
        from geossl.tasks.labels_suggest import suggest_labels

        return suggest_labels(
            task,
            encoder=encoder,
            out=out,
            head=head,
            labels=labels,
            region=region,
            chips=chips,
            count=count,
            product=product,
            period=period,
            months=months,
            seed=seed,
        )

    run_verb(work, as_json, _suggested)


def _suggested(result: SuggestResult) -> str:
    return "\n".join(
        [
            f"{result.path}",
            f"  places     {result.count} of {result.candidates} candidates, in {len(result.blocks)} blocks",
            f"  doubt      {result.doubt_from}",
            f"  blocks     {result.rule}",
            f"  look at    {result.report}",
        ]
    )


def _checked(result: LabelsCheckResult) -> str:
    lines = [f"report: {result.report}", f"  labels     {result.labels}: {_listed(result.counts)}"]
    lines += [f"  fate       {_listed(result.fate)}", f"  duplicates {result.duplicates}, conflicts {result.conflicts}"]
    if result.verdicts:
        lines.append(f"  verdicts   {_listed(result.verdicts)}")
    return "\n".join([*lines, f"  split      {result.split}"])


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())
