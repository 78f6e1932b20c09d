"""A head and a region to one layer: ``python -m flows.map --head DIR --region malardalen --period 2018-07``."""

from __future__ import annotations

from typing import Any

from prefect import flow

from flows import parameters as given
from flows import steps
from flows.command import run_here


@flow(name="map", log_prints=False)
def make_map(
    head: given.Head,
    region: given.MaybeRegion = None,
    chips: given.Chips = None,
    block: given.Block = None,
    product: given.Product = None,
    period: given.Period = None,
    months: given.Months = None,
    out: given.Out = None,
) -> Any:
    """Map a region (or a block of ready chips) with a head; a map that was cut off goes on."""
    return steps.draw(
        head, region=region, chips=chips, block=block, product=product, period=period, months=months, out=out
    )


if __name__ == "__main__":
    run_here(make_map)
