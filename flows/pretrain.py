"""The main job as a Prefect flow: ``python -m flows.pretrain --region malardalen``.

Tiles, then pretraining, each a task with retries; a task that is run again continues from what the artefacts on disk
say is done. Without ``PREFECT_API_URL`` Prefect starts a server for the time of the run and stops it afterwards.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact

import geossl
from geossl.errors import GeosslError, InputError
from geossl.training.pretrain import PretrainResult


def worth_retrying(_task: object, _run: object, state: object) -> bool:
    """Retry what may pass (a read, a full disk somebody clears), never wrong input."""
    try:
        state.result()  # type: ignore[attr-defined]
    except InputError:
        return False
    except Exception:
        return True
    return False


@task(name="tiles", retries=2, retry_delay_seconds=30, retry_condition_fn=worth_retrying)
def tiles(region: str, product: str | None, period: str | None, months: str | None, max_chips: int) -> Path:
    """Build the tiles that are missing; returns the chip store."""
    logger = get_run_logger()
    result = geossl.build_tiles(region, product=product, period=period, months=months, max_chips=max_chips)
    logger.info("tiles: %s new, %s already there, in %s", result.new, result.skipped, result.store)
    return Path(result.store)


@task(name="pretrain", retries=2, retry_delay_seconds=30, retry_condition_fn=worth_retrying)
def train(
    chips: Path, method: str, epochs: int | None, max_minutes: float | None, out: str, seed: int
) -> PretrainResult:
    """Train the encoder, or continue where an earlier attempt died."""
    logger = get_run_logger()
    result = geossl.pretrain(
        chips=str(chips), method=method, epochs=epochs, max_minutes=max_minutes, out=out, seed=seed
    )
    logger.info("encoder in %s, report %s", result.encoder, result.report)
    return result


@flow(name="pretrain", log_prints=False)
def pretrain(
    region: str | None = None,
    chips: str | None = None,
    method: str = "simclr",
    product: str | None = None,
    period: str | None = None,
    months: str | None = None,
    epochs: int | None = None,
    max_minutes: float | None = None,
    max_chips: int = 20_000,
    out: str | None = None,
    seed: int = 0,
) -> PretrainResult:
    """From a region (or ready chips) to an encoder directory with its report."""
    check_source(region, chips)
    name = region if chips is None else Path(chips).name
    folder = out or str(geossl_folder(name or "chips", method))
    store = Path(chips) if chips else tiles(str(region), product, period, months, max_chips)
    result = train(store, method, epochs, max_minutes, folder, seed)
    create_markdown_artifact(
        markdown=f"# Encoder `{method}` for {name}\n\n- directory: `{result.encoder}`\n- report: `{result.report}`\n",
        key="encoder",
        description="what this run made",
    )
    return result


def check_source(region: str | None, chips: str | None) -> None:
    """Exactly one of the two names where chips come from."""
    if (region is None) == (chips is None):
        raise InputError("one source of chips is needed", expected="--region or --chips", remedy="give one of the two")


def geossl_folder(name: str, method: str) -> Path:
    """Where the encoder goes when no ``--out`` is given."""
    from geossl.config import geossl_home

    return geossl_home() / "encoders" / f"{name}-{method}"


def main(
    region: Annotated[str | None, typer.Option("--region", "-r")] = None,
    chips: Annotated[str | None, typer.Option("--chips", help="A chip store or an index of ready chips.")] = None,
    method: Annotated[str, typer.Option("--method")] = "simclr",
    product: Annotated[str | None, typer.Option("--product")] = None,
    period: Annotated[str | None, typer.Option("--period")] = None,
    months: Annotated[str | None, typer.Option("--months")] = None,
    epochs: Annotated[int | None, typer.Option("--epochs")] = None,
    max_minutes: Annotated[float | None, typer.Option("--max-minutes")] = None,
    max_chips: Annotated[int, typer.Option("--max-chips")] = 20_000,
    out: Annotated[str | None, typer.Option("--out", "-o")] = None,
    seed: Annotated[int, typer.Option("--seed")] = 0,
) -> None:
    """Run the flow once, here."""
    try:
        check_source(region, chips)  # before Prefect starts anything
        result = pretrain(region, chips, method, product, period, months, epochs, max_minutes, max_chips, out, seed)
    except GeosslError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(error.exit_code) from None
    print(f"encoder: {result.encoder}\nreport:  {result.report}")


if __name__ == "__main__":
    typer.run(main)
