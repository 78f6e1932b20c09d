"""What a pretraining run will do, settled before anything is trained: chips, split, batch, steps, place, settings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geossl.chips.chipset import ChipSet
from geossl.config import geossl_home
from geossl.encoders.build import encoder_names
from geossl.errors import InputError, unknown_name
from geossl.methods.protocol import MethodConfig
from geossl.regions import Period
from geossl.training.compute import Compute
from geossl.training.data import Split, split_chips
from geossl.views.recipe import Recipe

DEFAULT_SAMPLES = 30_000
"""Chips seen in a run without ``epochs`` and ``max_minutes`` (some minutes on two cores)."""
_DEFAULT_EPOCHS = (2, 100)
_SMALLEST_BATCH = 4


@dataclass(frozen=True)
class Plan:
    """A settled run. ``steps`` is None where a time limit will decide; ``config`` is the run's identity."""

    chips: ChipSet
    split: Split
    method: str
    method_config: MethodConfig
    recipe: Recipe
    encoder: str
    batch_size: int
    epochs: int | None
    max_minutes: float | None
    seed: int
    all_blocks: bool
    probe_labels: str | None
    period: Period | None
    months: tuple[int, ...] | None
    out: Path
    name: str

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in one pass over the training chips."""
        return len(self.split.train) // self.batch_size

    @property
    def steps(self) -> int | None:
        """Steps of the run, None where a time limit will decide."""
        return None if self.epochs is None else self.epochs * self.steps_per_epoch

    @property
    def pair_days(self) -> int | None:
        """Largest distance in days of the two chips of a pair; None: both views come from the same chip."""
        days = self.method_config.pairs.get("max_days")
        return None if days is None else int(days)

    @property
    def pairs(self) -> str:
        """The pair policy in words, for the manifest."""
        return "same chip" if self.pair_days is None else f"same tile within {self.pair_days} days"

    @property
    def config(self) -> dict[str, Any]:
        """The settings that make two runs the same run, as plain JSON values."""
        return {
            "method": self.method,
            "settings": self.method_config.settings,
            "pairs": self.method_config.pairs,
            "views": self.recipe.model_dump(mode="json"),
            "encoder": self.encoder,
            "chips": self.chips.id,
            "batch_size": self.batch_size,
            "epochs": self.epochs,
            "max_minutes": self.max_minutes,
            "seed": self.seed,
            "all_blocks": self.all_blocks,
            "probe_labels": self.probe_labels,
            "period": None if self.period is None else str(self.period),
            "months": None if self.months is None else list(self.months),
        }

    def describe(self) -> str:
        """A few lines for people: what will be trained, on what, for how long."""
        length = f"{self.max_minutes:g} minutes" if self.epochs is None else f"{self.epochs} epochs, {self.steps} steps"
        left_out = f", {self.split.cloudy} too cloudy" if self.split.cloudy else ""
        blocks = {kind: len(names) for kind, names in self.split.blocks.items()}
        held = (
            "every block trains (transductive)"
            if self.all_blocks
            else f"blocks: {blocks['train']} train, {blocks['val']} val, {blocks['test']} test"
        )
        size = f"{len(self.chips.bands)} bands of {self.chips.shape[0]} x {self.chips.shape[1]} px"
        return "\n".join(
            [
                f"{self.method} with {self.encoder} on {self.name}: {len(self.split.train)} chips, {size}{left_out}",
                held,
                f"batch {self.batch_size}, {self.steps_per_epoch} steps an epoch, {length}, seed {self.seed}",
                f"encoder directory: {self.out}",
            ]
        )


def make_plan(
    chips: ChipSet,
    compute: Compute,
    *,
    name: str,
    method: str,
    method_config: MethodConfig,
    recipe: Recipe,
    encoder: str,
    batch_size: int | None,
    epochs: int | None,
    max_minutes: float | None,
    seed: int,
    all_blocks: bool,
    probe_labels: str | None,
    period: Period | None,
    months: tuple[int, ...] | None,
    out: Path | None,
) -> Plan:
    """Settle a run on opened chips.

    Raises:
        InputError: impossible numbers, an unknown encoder or label column, fewer chips than a batch.
    """
    if encoder not in encoder_names():
        raise unknown_name("encoder", encoder, encoder_names(), where="--encoder")
    if probe_labels is not None and probe_labels not in chips.table.columns:
        raise unknown_name("label column", probe_labels, map(str, chips.table.columns), where="--probe-labels")
    split = split_chips(chips, seed, all_blocks, period, months)
    count = len(split.train)
    if batch_size is None:
        batch_size = min(compute.default_batch, count)
    if not _SMALLEST_BATCH <= batch_size <= count:
        raise InputError(
            "more chips in a batch than there are" if batch_size > count else "this batch is too small",
            where="--batch-size",
            expected=f"{_SMALLEST_BATCH} to {count} (the training chips)",
            found=batch_size,
            remedy="take a smaller --batch-size, more chips, or --all-blocks" if batch_size > count else "more chips",
        )
    if epochs is None and max_minutes is None:
        low, high = _DEFAULT_EPOCHS
        epochs = min(max(round(DEFAULT_SAMPLES / count), low), high)
    return Plan(
        chips,
        split,
        method,
        method_config,
        recipe,
        encoder,
        batch_size,
        epochs,
        max_minutes,
        seed,
        all_blocks,
        probe_labels,
        period,
        months,
        (out or geossl_home() / "encoders" / f"{name}-{method}").absolute(),
        name,
    )
