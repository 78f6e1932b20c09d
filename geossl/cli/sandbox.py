"""``geossl sandbox``: simulated regions whose truth is known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from geossl.cli.common import JsonOption, OutOption, run_verb

if TYPE_CHECKING:
    from geossl.sandbox.create import SandboxResult

app = typer.Typer(no_args_is_help=True, help="A simulated region whose truth is known: scenes, truth, sparse labels.")


@app.callback()
def _group() -> None:
    """A simulated region whose truth is known: scenes, truth, sparse labels."""


@app.command("create")
def create(
    name: Annotated[
        str, typer.Argument(help="A shipped sandbox (malardalen, vanern, bohuslan), or a .yaml file of the same form.")
    ],
    out: OutOption = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Another landscape and other weather.")] = None,
    size_km: Annotated[
        float | None, typer.Option("--size-km", help="Side of the square, a multiple of 0.8 km (default 12.8).")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write Sentinel-2-like scenes of a simulated region, with truth and labels, and index them.

    malardalen: fields, forests and drought. vanern: a regulated lake, its gauges and reeds. bohuslan: an archipelago,
    its sea bed seen through the water.

    Example: geossl sandbox create malardalen
    """

    def work() -> SandboxResult:
        from geossl.sandbox.create import create_sandbox

        return create_sandbox(name, out=out, seed=seed, size_km=size_km)

    run_verb(work, as_json, _text)


def _text(result: SandboxResult) -> str:
    dry = f", dry years: {', '.join(map(str, result.dry_years))}" if result.dry_years else ""
    return "\n".join(
        [
            f"sandbox {result.name}: {result.scenes} scenes of {result.size_km:g} km a side, "
            f"{result.years[0]} to {result.years[-1]}{dry} ({result.bytes / 1e6:.0f} MB)",
            f"  written  {result.written} scenes now, {result.scenes - result.written} were there",
            f"  indexed  {result.indexed} new scenes as product {result.product}",
            f"  catalog  {result.catalog}",
            f"  truth    {result.truth}",
            f"  labels   {', '.join(str(path) for path in result.labels)}",
            f"  preview  {result.preview}",
        ]
    )
