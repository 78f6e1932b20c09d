"""What an unfinished run keeps in ``<out>/.work``: its settings, its schedule, and the last checkpoint.

A run that died is continued by the same command: the checkpoint holds the network with the method's buffers, the
optimiser, the next step and the figures so far. Random numbers need no state; they come from (seed, step).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from geossl.artefacts import atomic_file, disk_errors, lock, write_json
from geossl.errors import InputError, WorkError
from geossl.training.optim import Schedule

WORK = ".work"


@dataclass
class Checkpoint:
    """A run between two optimiser steps; ``step`` is the next one to do.

    ``weights`` (training chips,): how often each chip is drawn in this epoch, None where all are drawn once.
    """

    step: int
    method: dict[str, Any]
    optimizer: dict[str, Any]
    figures: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0
    train_seconds: float = 0.0
    attempts: int = 1
    weights: torch.Tensor | None = None


class Workspace:
    """The ``.work`` folder of an encoder directory."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.folder = out / WORK
        self._checkpoint = self.folder / "checkpoint.pt"
        self._config = self.folder / "config.json"
        self._schedule = self.folder / "schedule.json"
        self._memory = self.folder / "memory.json"

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes out while this one trains."""
        with disk_errors(self.out), lock(self.folder / "lock", "another pretraining run writes here"):
            yield

    def check(self, config: dict[str, Any]) -> None:
        """Refuse to continue a run of other settings, naming the differences."""
        if self._config.is_file():
            refuse_other_config(json.loads(self._config.read_text(encoding="utf-8")), config, self.out, "an unfinished")

    def begin(self, config: dict[str, Any], memory: int) -> None:
        """Write down the settings of the run that starts here, and how many bytes its chips may take: a run that is
        continued keeps to the number of its first start, since the order of streamed chips depends on it."""
        write_json(self._config, config)
        if not self._memory.is_file():
            write_json(self._memory, {"chips_bytes": memory})

    @property
    def chips_memory(self) -> int:
        """Bytes that the chips of one process may take."""
        return int(json.loads(self._memory.read_text(encoding="utf-8"))["chips_bytes"])

    def schedule(self, total: int | None, warm_up: float) -> Schedule:
        """The schedule: of ``total`` steps, or, for a run with a time limit, the total stored by an earlier attempt."""
        if total is not None:
            return Schedule(total, warm_up=warm_up)
        stored = json.loads(self._schedule.read_text(encoding="utf-8")) if self._schedule.is_file() else {}
        return Schedule(stored.get("total"), True, warm_up)

    def store_total(self, total: int) -> None:
        """Keep the number of steps that timing gave, once and for all attempts."""
        write_json(self._schedule, {"total": total})

    def save(self, checkpoint: Checkpoint) -> None:
        """Replace the checkpoint, atomically."""
        with atomic_file(self._checkpoint) as temporary:
            torch.save(vars(checkpoint), temporary)

    def load(self) -> Checkpoint | None:
        """The last checkpoint, on the CPU, or None where there is none."""
        if not self._checkpoint.is_file():
            return None
        try:
            return Checkpoint(**torch.load(self._checkpoint, map_location="cpu", weights_only=True))
        except (RuntimeError, EOFError, TypeError, ValueError) as error:
            raise WorkError(
                "this checkpoint cannot be read",
                where=self._checkpoint,
                found=error,
                remedy=f"remove {self.folder} to start again",
            ) from error

    def discard(self) -> None:
        """Forget the run: it is finished, or cannot be continued."""
        shutil.rmtree(self.folder, ignore_errors=True)


def restore(module: nn.Module, checkpoint: Checkpoint) -> None:
    """Put a checkpoint's network and buffers into a method of the same settings."""
    module.load_state_dict(checkpoint.method)


def refuse_other_config(there: dict[str, Any], asked: dict[str, Any], out: Path, state: str) -> None:
    """Raise ``InputError`` where ``asked`` differs from the settings of the run that is ``there``."""
    keys = [key for key in sorted({*there, *asked}) if there.get(key) != _as_json(asked.get(key))]
    if keys:
        raise InputError(
            f"here is {state} encoder of other settings",
            where=out,
            expected="; ".join(f"{key} {there.get(key)}" for key in keys),
            found="; ".join(f"{key} {_as_json(asked.get(key))}" for key in keys),
            remedy="give another --out, or remove this directory to train anew",
        )


def _as_json(value: Any) -> Any:
    return json.loads(json.dumps(value))
