"""The one error type of geossl: what happened, where, what was expected, what was found, and the remedy.

``InputError`` (exit 2) means wrong usage or input and that nothing was started; ``WorkError`` (exit 1) means that
work failed on the way (disk full, too many failed reads, a collapsed run). The CLI prints either as plain text.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class GeosslError(Exception):
    """An error a user can act on. ``str(error)`` is the full message, one fact a line after the first."""

    exit_code = 1

    def __init__(
        self,
        what: str,
        *,
        where: object = None,
        expected: object = None,
        found: object = None,
        remedy: str | None = None,
    ) -> None:
        self.what, self.where, self.expected, self.found, self.remedy = what, where, expected, found, remedy
        facts = [("where", where), ("expected", expected), ("found", found), ("remedy", remedy)]
        super().__init__("\n".join([what, *(f"  {name}: {value}" for name, value in facts if value is not None)]))


class InputError(GeosslError):
    """Wrong usage or input; nothing was started and nothing was changed (exit 2)."""

    exit_code = 2


class WorkError(GeosslError):
    """Work failed on the way; what was finished stays and the same command continues (exit 1)."""

    exit_code = 1


def unknown_name(kind: str, name: str, known: Iterable[str], *, where: object = None, remedy: str = "") -> InputError:
    """An ``InputError`` for a name that is not among the known ones, with the nearest as a hint."""
    names = sorted(known)
    close = get_close_matches(name, names, n=1, cutoff=0.6)
    hint = f"did you mean '{close[0]}'? " if close else ""
    return InputError(
        f"unknown {kind} '{name}'",
        where=where,
        expected=", ".join(names) if names else f"no {kind} is known yet",
        remedy=(hint + remedy).strip() or None,
    )
