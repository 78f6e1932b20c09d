"""``geossl labels``: label files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from geossl.cli.common import JsonOption, run_verb

if TYPE_CHECKING:
    from geossl.tasks.template import TemplateResult

app = typer.Typer(no_args_is_help=True, help="Label files: an empty one to fill in.")


@app.callback()
def _group() -> None:
    """Label files: an empty one to fill in."""


@app.command("template")
def template(
    task: Annotated[str, typer.Option("--task", "-t", help="A shipped task, or the .yaml of your own.")],
    out: Annotated[str | None, typer.Option("--out", "-o", help="The new file (.gpkg).")] = None,
    as_json: JsonOption = False,
) -> None:
    """Write an empty GeoPackage with the fields of a task's labels, to be filled in QGIS.

    Example: geossl labels template --task drought --out labels.gpkg
    """

    def work() -> TemplateResult:
        from geossl.tasks.template import label_template

        return label_template(task, out)

    run_verb(work, as_json, _text)


def _text(result: TemplateResult) -> str:
    classes = ", ".join(result.classes) or "names of your own, or numbers"
    return f"{result.path}\n  columns  {', '.join(result.columns)}\n  classes  {classes}"
