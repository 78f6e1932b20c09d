"""``geossl pretrain``."""

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
    SeedOption,
    run_verb,
)

if TYPE_CHECKING:
    from geossl.training.pretrain import PretrainResult

_EPILOG = (
    "Examples: geossl pretrain --region malardalen --max-minutes 30   |   "
    "geossl pretrain --chips ../shared/data/bigearthnet-finland --method moco2 --epochs 20 --out encoder"
)


def pretrain(
    region: RegionOption = None,
    chips: Annotated[
        str | None, typer.Option("--chips", help="A chip store or an index of ready chips; no cube is needed.")
    ] = None,
    method: Annotated[str, typer.Option("--method", help="simclr, moco2, or a method's .yaml.")] = "simclr",
    epochs: Annotated[int | None, typer.Option("--epochs", help="Passes over the training chips.")] = None,
    max_minutes: Annotated[
        float | None, typer.Option("--max-minutes", help="Time limit instead of epochs; settled after the first steps.")
    ] = None,
    product: ProductOption = None,
    period: PeriodOption = None,
    months: MonthsOption = None,
    encoder: Annotated[str, typer.Option("--encoder", help="Backbone: resnet18, resnet50, …")] = "resnet18",
    batch_size: Annotated[int | None, typer.Option("--batch-size", help="Chips a step.")] = None,
    max_chips: Annotated[int, typer.Option("--max-chips", help="Most chips built for a region.")] = 20_000,
    probe_labels: Annotated[
        str | None, typer.Option("--probe-labels", help="Column of the chip table for a kNN score during training.")
    ] = None,
    all_blocks: Annotated[
        bool, typer.Option("--all-blocks", help="Hold no block out; recorded as transductive.")
    ] = False,
    out: OutOption = None,
    seed: SeedOption = 0,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Learn an encoder without labels: tiles that are missing are built, then the network trains.

    The same command continues a run that died. The encoder directory holds the weights, a manifest, metrics.csv and
    report.html.
    """

    def work() -> Any:
        arguments: dict[str, Any] = {
            "chips": chips,
            "method": method,
            "product": product,
            "period": period,
            "months": months,
            "epochs": epochs,
            "max_minutes": max_minutes,
            "encoder": encoder,
            "batch_size": batch_size,
            "out": out,
            "seed": seed,
            "probe_labels": probe_labels,
            "all_blocks": all_blocks,
            "max_chips": max_chips,
        }
        from geossl.training import pretrain as training

        if dry_run:
            return training.foresee(region, **arguments)
        return training.pretrain(region, **arguments)

    run_verb(work, as_json, str if dry_run else _text)


pretrain.__doc__ = f"{pretrain.__doc__}\n    {_EPILOG}\n"


def _text(result: PretrainResult) -> str:
    probes = [
        f"{name} {value:.3f}"
        for name, value in (("recall@1", result.recall_at_1), ("kNN", result.knn))
        if value is not None
    ]
    signs = [f"signs of collapse: {'; '.join(result.collapse)}"] if result.collapse else []
    return "\n".join(
        [
            f"encoder: {result.encoder}",
            f"report:  {result.report}",
            ", ".join(
                [
                    f"{result.method}, {result.steps} steps ({result.epochs:.1f} epochs)",
                    f"{result.samples_per_s:.0f} samples/s",
                    f"{result.seconds:.0f} s",
                    *probes,
                ]
            ),
            *signs,
        ]
    )
