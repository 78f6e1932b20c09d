"""The main job as a Prefect flow: ``python -m flows.pretrain --region malardalen``.

Tiles, then pretraining, each a task with retries; a task that is run again continues from what the artefacts on disk
say is done. Without ``PREFECT_API_URL`` Prefect starts a server for the time of the run and stops it afterwards.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow

from flows import parameters as given
from flows import steps
from flows.command import run_here
from geossl.config import geossl_home
from geossl.errors import InputError
from geossl.regions import load_region


@flow(name="pretrain", log_prints=False)
def pretrain(
    region: given.MaybeRegion = None,
    chips: given.Chips = None,
    method: given.Method = "simclr",
    product: given.Product = None,
    period: given.Period = None,
    months: given.Months = None,
    epochs: given.Epochs = None,
    max_minutes: given.MaxMinutes = None,
    max_chips: given.MaxChips = 20_000,
    out: given.Out = None,
    seed: given.Seed = 0,
) -> Any:
    """From a region (or ready chips) to an encoder directory with its report."""
    check(region, chips)
    store = Path(chips) if chips else steps.tiles(str(region), product, period, months, max_chips).store
    name = Path(chips).name if chips else load_region(str(region)).name
    folder = out or str(geossl_home() / "encoders" / f"{name}-{method}")
    return steps.train(store, method, epochs, max_minutes, folder, seed)


def check(region: str | None = None, chips: str | None = None, **_: Any) -> None:
    """Exactly one of the two names where chips come from."""
    if (region is None) == (chips is None):
        raise InputError("one source of chips is needed", expected="--region or --chips", remedy="give one of the two")


if __name__ == "__main__":
    run_here(pretrain, check)
