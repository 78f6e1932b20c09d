"""The command line: thin verbs that parse, call one function of the library, and print.

``geossl --help`` must answer at once: heavy imports happen inside the verb that needs them.
"""

from __future__ import annotations

import os
from typing import Annotated

import typer

from geossl import __version__
from geossl.cli import (
    areas,
    cube,
    distill,
    doctor,
    embed,
    evaluate,
    finetune,
    labels,
    maps,
    pretrain,
    sandbox,
    tiles,
    views,
    water,
)

app = typer.Typer(
    name="geossl",
    help="From an archive of satellite scenes and a handful of labels to maps.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(cube.app, name="cube")
app.add_typer(sandbox.app, name="sandbox")
app.add_typer(tiles.app, name="tiles")
app.add_typer(labels.app, name="labels")
app.add_typer(views.app, name="views")
app.command("pretrain")(pretrain.pretrain)
app.command("finetune")(finetune.finetune)
app.command("evaluate")(evaluate.evaluate)
app.command("distill")(distill.distill)
app.command("map")(maps.make_map)
app.command("embed")(embed.embed)
app.command("level")(water.level)
app.command("areas")(areas.areas)
app.command("doctor")(doctor.doctor)


def _version(show: bool) -> None:
    if show:
        print(f"geossl {__version__}")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options that stand before the verb."""
    from geossl.progress import set_quiet

    if debug:
        os.environ["GEOSSL_DEBUG"] = "1"
    set_quiet(quiet)


def main() -> None:
    """Entry point of the ``geossl`` command."""
    app()
