"""Where a command keeps networks that are learning by steps, so that it goes on after kill -9 and ends the same.

A head's table has several such networks (from scratch, fine-tuned, transferred), each with some rates on trial. Every
one is known by what it begins from and how it learns, so the code that trains it need not know which command asked.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from geossl.artefacts import write_json
from geossl.progress import warn
from geossl.tasks.heads import TaskNet
from geossl.tasks.steps import Kept


@dataclass(frozen=True)
class _Place:
    folder: Path
    identity: str


_PLACE: ContextVar[_Place | None] = ContextVar("place", default=None)


@contextmanager
def keeping(folder: Path, identity: str) -> Iterator[None]:
    """Within this, training is kept in ``folder``; whoever has the result in place removes it.

    Args:
        folder: made when there is something to keep.
        identity: of all that the result depends on; what another one has kept is not used.
    """
    token = _PLACE.set(_Place(folder, identity))
    try:
        yield
    finally:
        _PLACE.reset(token)


@dataclass(frozen=True)
class Learning:
    """What is kept of one network: ``scores`` by learning rate of the trials that are over, and the run at work."""

    folder: Path
    identity: str

    @classmethod
    def of(cls, first: TaskNet, *manner: object) -> Learning | None:
        """Of a network that begins at ``first`` and learns in this manner; None where nothing is kept."""
        place = _PLACE.get()
        if place is None:
            return None
        digest = hashlib.sha256(repr((place.identity, manner)).encode())
        for name, one in sorted(first.state_dict().items()):
            digest.update(name.encode() + one.detach().cpu().contiguous().numpy().tobytes())
        return cls(place.folder, digest.hexdigest()[:24])

    def run(self, rate: float, steps: int) -> Kept:
        """Of one run; its batches are drawn from the run's own random numbers alone."""
        file = self.folder / f"{self.identity}.pt"
        return Kept(file, f"{self.identity} {rate} {steps}", lambda done: None)

    @property
    def scores(self) -> dict[float, float]:
        """Of the trials that are over; a file that cannot be read is told of and not used."""
        if not self._file.is_file():
            return {}
        try:
            told = json.loads(self._file.read_text(encoding="utf-8"))
            return {float(rate): float(score) for rate, score in told.items()}
        except (OSError, ValueError, AttributeError, TypeError) as error:
            warn(f"learning rates tried in {self._file} cannot be read and are tried anew ({type(error).__name__})")
            return {}

    def keep(self, rate: float, score: float) -> None:
        """A trial is over. A score that is no number is not kept: JSON has none."""
        if not math.isfinite(score):
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self._file, {str(one): value for one, value in {**self.scores, rate: score}.items()})

    @property
    def _file(self) -> Path:
        return self.folder / f"{self.identity}.json"
