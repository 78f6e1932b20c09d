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
from geossl.config import config_names

if TYPE_CHECKING:
    from geossl.training.pretrain import PretrainResult

_EPILOG = (
    "Examples: geossl pretrain --region malardalen --max-minutes 30   |   "
    "geossl pretrain --chips ../shared/data/bigearthnet-finland --method moco2 --epochs 20 --out encoder   |   "
    "geossl pretrain --region malardalen --encoder resnet50 --weights resnet50.pth --weights-bands red,green,blue"
)


def pretrain(
    region: RegionOption = None,
    chips: Annotated[
        str | None, typer.Option("--chips", help="A chip store or an index of ready chips; no cube is needed.")
    ] = None,
    method: Annotated[
        str, typer.Option("--method", help=f"{', '.join(config_names('methods'))}, or a method's .yaml.")
    ] = "simclr",
    epochs: Annotated[int | None, typer.Option("--epochs", help="Passes over the training chips.")] = None,
    max_minutes: Annotated[
        float | None, typer.Option("--max-minutes", help="Time limit instead of epochs; settled after the first steps.")
    ] = None,
    product: ProductOption = None,
    period: PeriodOption = None,
    months: MonthsOption = None,
    encoder: Annotated[
        str, typer.Option("--encoder", help="Backbone: resnet18, resnet50, resnet152, vit-s, vit-b.")
    ] = "resnet18",
    stem: Annotated[
        str, typer.Option("--stem", help="small: a residual network without the stem's max-pool, for small chips.")
    ] = "maxpool",
    weights: Annotated[
        str | None,
        typer.Option(
            "--weights", help="Initial weights: torchgeo's name of them, .pth, .ckpt, .safetensors, encoder directory."
        ),
    ] = None,
    weights_bands: Annotated[
        str | None,
        typer.Option(
            "--weights-bands",
            help="Bands of a file of weights in its order: red,green,blue; or same (as the chips).",
        ),
    ] = None,
    allow_partial_weights: Annotated[
        bool, typer.Option("--allow-partial-weights", help="Take weights that do not cover the whole backbone.")
    ] = False,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", help="Chips of a forward pass, over all devices.")
    ] = None,
    accumulate: Annotated[
        int, typer.Option("--accumulate", help="Batches an optimiser step takes, where memory is short.")
    ] = 1,
    devices: Annotated[
        int, typer.Option("--devices", help="Processes that share chips and batches: one a GPU, or on the CPU.")
    ] = 1,
    pairs: Annotated[
        str | None,
        typer.Option(
            "--pairs", help="Second view: same (chip), N-days (same tile, at most N days away), other-season."
        ),
    ] = None,
    balance: Annotated[
        bool, typer.Option("--balance", help="Draw chips evenly over clusters of their embeddings, after a warm-up.")
    ] = False,
    max_chips: Annotated[int, typer.Option("--max-chips", help="Most chips built for a region.")] = 20_000,
    probe_labels: Annotated[
        str | None, typer.Option("--probe-labels", help="Column of the chip table for a kNN score during training.")
    ] = None,
    all_blocks: Annotated[
        bool, typer.Option("--all-blocks", help="Hold no block out; recorded as transductive.")
    ] = False,
    log: Annotated[
        str | None, typer.Option("--log", help="mlflow: send the figures to MLFLOW_TRACKING_URI as well.")
    ] = None,
    out: OutOption = None,
    seed: SeedOption = 0,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Learn an encoder without labels: tiles that are missing are built, then the network trains.

    The same command continues a run that died. The encoder directory holds the weights, a manifest, metrics.csv,
    TensorBoard files and report.html.
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
            "stem": stem,
            "weights": weights,
            "weights_bands": weights_bands,
            "allow_partial_weights": allow_partial_weights,
            "batch_size": batch_size,
            "accumulate": accumulate,
            "devices": devices,
            "pairs": pairs,
            "balance": balance,
            "out": out,
            "seed": seed,
            "probe_labels": probe_labels,
            "all_blocks": all_blocks,
            "max_chips": max_chips,
            "log": log,
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
