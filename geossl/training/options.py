"""What a user asks of a pretraining run, before anything is looked up: the arguments of ``pretrain``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from geossl.errors import InputError, unknown_name

LOGS = ("mlflow",)


@dataclass(frozen=True)
class Options:
    """The arguments of :func:`geossl.training.pretrain.pretrain`, where they are explained.

    Raises:
        InputError: numbers that make no run, or arguments that exclude each other.
    """

    chips: str | Path | None = None
    method: str = "simclr"
    product: str | None = None
    period: str | None = None
    months: str | None = None
    epochs: int | None = None
    max_minutes: float | None = None
    encoder: str = "resnet18"
    stem: Literal["maxpool", "small"] = "maxpool"
    weights: str | None = None
    weights_bands: str | None = None
    allow_partial_weights: bool = False
    batch_size: int | None = None
    accumulate: int = 1
    devices: int = 1
    pairs: str | None = None
    balance: bool = False
    out: str | Path | None = None
    seed: int = 0
    probe_labels: str | None = None
    all_blocks: bool = False
    max_chips: int = 20_000
    log: str | None = None

    def __post_init__(self) -> None:
        if self.epochs is not None and self.max_minutes is not None:
            raise InputError("a run has one length", expected="--epochs or --max-minutes", remedy="give one of the two")
        for name in ("epochs", "max_minutes", "max_chips", "accumulate", "devices"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise InputError("this must be more than nothing", where=f"--{name.replace('_', '-')}", found=value)
        if self.log is not None and self.log not in LOGS:
            raise unknown_name("log", self.log, LOGS, where="--log")
        for name in ("allow_partial_weights", "weights_bands"):
            if getattr(self, name) and self.weights is None:
                raise InputError("no weights are given", where=f"--{name.replace('_', '-')}", expected="--weights")
