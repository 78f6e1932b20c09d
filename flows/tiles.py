"""Scenes to chips: ``python -m flows.tiles --region malardalen``."""

from __future__ import annotations

from typing import Any

from prefect import flow

from flows import parameters as given
from flows import steps
from flows.command import run_here


@flow(name="tiles", log_prints=False)
def tiles(
    region: given.Region,
    product: given.Product = None,
    period: given.Period = None,
    months: given.Months = None,
    max_chips: given.MaxChips = 20_000,
) -> Any:
    """Read the chips of a region that its store does not have yet."""
    return steps.tiles(region, product, period, months, max_chips)


if __name__ == "__main__":
    run_here(tiles)
