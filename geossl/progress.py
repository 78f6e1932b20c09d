"""Progress and messages on stderr: a bar on a terminal, plain lines otherwise.

Everything a verb tells about its work goes through here, so that stdout stays free for results (and ``--json``).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

_PLAIN_EVERY_S = 10.0
_quiet = False
_listeners: list[Callable[[str, float | None], None]] = []


def set_quiet(quiet: bool) -> None:
    """Silence ``say`` and the bars (warnings stay)."""
    global _quiet
    _quiet = quiet


@contextmanager
def heard_by(listener: Callable[[str, float | None], None]) -> Iterator[None]:
    """Give every line to ``listener`` as well: the text, and of a bar the share that is done (0..1, else None)."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def _tell(message: str, share: float | None = None) -> None:
    for listener in _listeners:
        listener(message, share)


def say(message: str) -> None:
    """A line about the work, to stderr."""
    _tell(message)
    if not _quiet:
        print(message, file=sys.stderr, flush=True)


def warn(message: str) -> None:
    """A line about something the user should look at, to stderr, never silenced."""
    _tell(f"warning: {message}")
    print(f"warning: {message}", file=sys.stderr, flush=True)


@dataclass
class Track:
    """Counts finished units of one piece of work; made by :func:`track`."""

    description: str
    total: int | None
    unit: str
    done: int = 0
    note: str = ""
    _started: float = field(default_factory=time.monotonic)
    _printed: float = field(default_factory=time.monotonic)
    _terminal: bool = field(default_factory=lambda: sys.stderr.isatty())

    def advance(self, n: int = 1, note: str | None = None) -> None:
        """Count ``n`` more units; ``note`` is shown behind the count (a loss, a file name)."""
        self.done += n
        if note is not None:
            self.note = note
        now = time.monotonic()
        if (not _quiet or _listeners) and now - self._printed > (0.2 if self._terminal else _PLAIN_EVERY_S):
            self._printed = now
            self._print()

    def _line(self) -> str:
        spent = time.monotonic() - self._started
        rate = self.done / spent if spent > 0 else 0.0
        if self.total:
            left = (self.total - self.done) / rate if rate > 0 else float("inf")
            eta = f", {_clock(left)} left" if self.done < self.total and left < 1e6 else ""
            head = f"{self.description}: {self.done}/{self.total} {self.unit} ({100 * self.done / self.total:.0f} %)"
        else:
            eta, head = "", f"{self.description}: {self.done} {self.unit}"
        return f"{head}, {_clock(spent)}{eta}{', ' + self.note if self.note else ''}"

    def _print(self, end: bool = False) -> None:
        _tell(self._line(), self.done / self.total if self.total else None)
        if _quiet:
            return
        if self._terminal:
            print(f"\r\x1b[K{self._line()}", end="\n" if end else "", file=sys.stderr, flush=True)
        else:
            print(self._line(), file=sys.stderr, flush=True)


def _clock(seconds: float) -> str:
    seconds = int(seconds)
    return f"{seconds // 60}:{seconds % 60:02d}"


@contextmanager
def track(description: str, total: int | None = None, unit: str = "steps", done: int = 0) -> Iterator[Track]:
    """Show the progress of a piece of work; ``done`` is what an earlier run already finished."""
    bar = Track(description, total, unit, done)
    try:
        yield bar
    finally:
        bar._print(end=True)
