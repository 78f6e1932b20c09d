"""What every verb shares: options that mean the same everywhere, errors as text, one JSON line on request."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import asdict, is_dataclass
from typing import Annotated, Any

import typer

from geossl.errors import GeosslError

RegionOption = Annotated[
    str | None,
    typer.Option("--region", "-r", help="A shipped region, a vector file, or west,south,east,north in degrees."),
]
ProductOption = Annotated[str | None, typer.Option("--product", help="ODC product; needed where several fit.")]
PeriodOption = Annotated[
    str | None, typer.Option("--period", help="2018, 2018-07 or 2018-05-01/2018-09-30 (both ends included).")
]
MonthsOption = Annotated[str | None, typer.Option("--months", help="Months of the year to use: 5-9 or 4,6,8.")]
OutOption = Annotated[str | None, typer.Option("--out", "-o", help="Directory for the result.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one machine-readable line on stdout at the end.")]
OtherPixelsOption = Annotated[
    bool,
    typer.Option("--other-pixels", help="Take pixels of another size or radiometry than was learnt from, as they are."),
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]
SeedOption = Annotated[int, typer.Option("--seed", help="Seed of everything random.")]


def run_verb(work: Callable[[], Any], as_json: bool, text: Callable[[Any], str]) -> None:
    """Do the work of a verb and print its result; a ``GeosslError`` becomes its message and its exit code.

    ``text`` renders the result for people; with ``--json`` the result's own fields go out as one line instead.
    """
    try:
        result = work()
    except GeosslError as error:
        if os.environ.get("GEOSSL_DEBUG"):
            traceback.print_exc()
        print(f"error: {error}", file=sys.stderr, flush=True)
        raise typer.Exit(error.exit_code) from None
    except KeyboardInterrupt:
        print("stopped; the same command continues where this one was", file=sys.stderr)
        raise typer.Exit(130) from None
    except Exception as error:
        if os.environ.get("GEOSSL_DEBUG"):
            raise
        print(f"error: {type(error).__name__}: {error}", file=sys.stderr)
        print("  remedy: this is a fault of geossl; run again with --debug and report what it prints", file=sys.stderr)
        raise typer.Exit(1) from None
    if as_json:
        print(one_line_json(result), flush=True)
    else:
        print(text(result), flush=True)


def one_line_json(result: Any) -> str:
    """A typed result as one line of JSON."""
    import json

    from geossl.artefacts import to_json

    fields = asdict(result) if is_dataclass(result) and not isinstance(result, type) else result
    return json.dumps(json.loads(to_json(fields)), ensure_ascii=False)
