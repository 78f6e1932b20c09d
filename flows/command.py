"""``python -m flows.NAME``: a flow's own parameters as options, its errors as text, its result as text."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any, get_args, get_type_hints

import typer
from prefect.flows import Flow

from flows.parameters import Described
from geossl.cli.common import one_line_json
from geossl.errors import GeosslError, WorkError


def run_here(flow: Flow[..., Any], check: Callable[..., None] | None = None) -> None:
    """Run a flow once in this process, with the words of the command line.

    Args:
        flow: the flow; each of its parameters becomes an option with the parameter's description.
        check: called with the parameters before Prefect starts anything; raises ``InputError`` on wrong ones.
    """
    function = flow.fn
    hints = get_type_hints(function, include_extras=True)

    @wraps(function)
    def command(**parameters: Any) -> None:
        try:
            if check is not None:
                check(**parameters)
            check_server()
            result = flow(**parameters)
        except GeosslError as error:
            print(f"error: {error}", file=sys.stderr)
            raise typer.Exit(error.exit_code) from None
        print(one_line_json(result))

    signature = inspect.signature(function)
    options = [
        parameter.replace(annotation=_option(hints[name]), kind=inspect.Parameter.KEYWORD_ONLY)
        for name, parameter in signature.parameters.items()
    ]
    command.__signature__ = signature.replace(parameters=options, return_annotation=None)  # type: ignore[attr-defined]
    command.__annotations__ = {option.name: option.annotation for option in options}
    del command.__wrapped__  # type: ignore[attr-defined]
    typer.run(command)


def _option(hint: Any) -> Any:
    """A parameter's type with a typer option that carries its description."""
    kind, *notes = get_args(hint)
    return Annotated[kind, typer.Option(help=next((note.text for note in notes if isinstance(note, Described)), ""))]


def check_server() -> None:
    """Where a Prefect server is configured, it must answer; without one, a run brings its own.

    Raises:
        WorkError: it does not answer.
    """
    from prefect.settings import PREFECT_API_URL

    from geossl.doctor.scheduler import server_answers

    address = PREFECT_API_URL.value()
    if address and not server_answers(address):
        raise WorkError(
            "the Prefect server does not answer",
            where=address,
            remedy="start it (python -m flows), or unset PREFECT_API_URL: the run then needs no server of its own",
        )
