"""Labels to a head: ``python -m flows.finetune --task drought --encoder DIR --labels FILE --region malardalen``."""

from __future__ import annotations

from typing import Any

from prefect import flow

from flows import parameters as given
from flows import steps
from flows.command import run_here


@flow(name="finetune", log_prints=False)
def finetune(
    task: given.Task,
    encoder: given.Encoder,
    labels: given.Labels = None,
    region: given.MaybeRegion = None,
    chips: given.Chips = None,
    product: given.Product = None,
    period: given.Period = None,
    months: given.Months = None,
    out: given.Out = None,
    seed: given.Seed = 0,
    labels_per_class: given.LabelsPerClass = None,
) -> Any:
    """Teach a head for a task on a frozen encoder, beside its controls, with a report."""
    return steps.teach(
        task,
        encoder,
        labels=labels,
        region=region,
        chips=chips,
        product=product,
        period=period,
        months=months,
        out=out,
        seed=seed,
        labels_per_class=labels_per_class,
    )


if __name__ == "__main__":
    run_here(finetune)
