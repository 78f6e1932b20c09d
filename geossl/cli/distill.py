"""``geossl distill``."""

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
    from geossl.tasks.distill import DistillResult

_EPILOG = (
    "Examples: geossl distill --teacher HEAD --student resnet18 --region malardalen   |   "
    "geossl distill --teacher HEAD --student ENCODER --chips ../shared/data/bigearthnet-finland --epochs 10"
)


def distill(
    teacher: Annotated[str, typer.Option("--teacher", "-T", help="Head that geossl finetune wrote.")],
    student: Annotated[
        str, typer.Option("--student", "-s", help="Architecture of the student, or an encoder directory to start from.")
    ] = "resnet18",
    region: RegionOption = None,
    chips: Annotated[
        str | None, typer.Option("--chips", help="A chip store, or an index of ready chips; no cube is needed.")
    ] = None,
    labels: Annotated[
        str | None, typer.Option("--labels", "-l", help="Labels to score teacher and student on; none are learnt from.")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option("--epochs", help="Passes over the chips; by default about 10,000 chips are seen.")
    ] = None,
    temperature: Annotated[
        float, typer.Option("--temperature", help="Softens the teacher's probabilities; above 1 softer.")
    ] = 1.0,
    product: ProductOption = None,
    period: PeriodOption = None,
    months: MonthsOption = None,
    out: OutOption = None,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Teach a smaller network what a head says of unlabelled chips (SimCLR v2).

    The student learns the teacher's softened probabilities on chips of the teacher's training blocks. The result is a
    head directory that geossl map reads like any other, with the student's agreement with its teacher.
    """

    def work() -> DistillResult:
        from geossl.tasks.distill import distill as teach

        return teach(
            teacher,
            student=student,
            region=region,
            chips=chips,
            labels=labels,
            product=product,
            period=period,
            months=months,
            epochs=epochs,
            temperature=temperature,
            out=out,
            seed=seed,
        )

    run_verb(work, as_json, _text)


distill.__doc__ = f"{distill.__doc__}\n    {_EPILOG}\n"


def _text(result: DistillResult) -> str:
    sizes = result.parameters
    lines = [
        f"head:   {result.head}",
        f"report: {result.report}",
        f"{result.task}: {result.student} ({sizes['student'] / 1e6:.1f} million parameters) learnt from"
        f" {result.teacher} ({sizes['teacher'] / 1e6:.1f}) on {result.chips} unlabelled chips, {result.steps} steps,"
        f" {result.seconds:.0f} s",
    ]
    if result.agreement is not None:
        before, after = result.agreement["before"], result.agreement["after"]
        lines.append(f"agreement with the teacher: {after:.3f} on {result.agreement_on} (untaught {before:.3f})")
    if result.scores is not None and result.headline is not None:
        scores, name = result.scores, result.headline.replace("_", " ")
        apart = scores["student_minus_teacher"]
        difference = "" if apart is None else f"; difference {apart[0]:+.3f} [{apart[1]:+.3f}, {apart[2]:+.3f}]"
        lines.append(
            f"{name}: student {scores['student']:.3f}, teacher {scores['teacher']:.3f} on {scores['on']}{difference}"
        )
    return "\n".join(lines)
