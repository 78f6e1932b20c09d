"""New scenes into the cube: ``python -m flows.ingest --source SOURCE`` (or ``--sandbox malardalen``)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from prefect import flow

from flows import parameters as given
from flows import steps
from flows.command import run_here
from geossl.errors import InputError


@dataclass(frozen=True)
class Ingested:
    """What came into the cube."""

    added: int
    """Scenes that are new."""
    products: tuple[str, ...]
    refused: int = 0


@flow(name="ingest", log_prints=False)
def ingest(
    source: given.Source = None,
    sandbox: given.Sandbox = None,
    product: given.Product = None,
    profile: given.Profile = None,
    region: given.MaybeRegion = None,
    period: given.Period = None,
) -> Ingested:
    """Index what is new in a source of scenes, or in a simulated region; again: nothing is indexed twice."""
    check(source=source, sandbox=sandbox)
    return take_in(source, sandbox, product, profile, region, period)


def take_in(
    source: str | None,
    sandbox: str | None,
    product: str | None,
    profile: str | None,
    region: str | None,
    period: str | None,
) -> Ingested:
    """The step itself, for other flows."""
    if sandbox is not None:
        made = steps.sandbox(sandbox)
        return Ingested(made.indexed or 0, (made.product,))
    result = steps.index(str(source), product, profile, region, period)
    return Ingested(result.added, tuple(one.name for one in result.products), len(result.refused))


def check(source: str | None = None, sandbox: str | None = None, **_: Any) -> None:
    """Exactly one of the two names where scenes come from."""
    if (source is None) == (sandbox is None):
        raise InputError("one source of scenes is needed", expected="source or sandbox", remedy="give one of the two")


if __name__ == "__main__":
    run_here(ingest, check)
