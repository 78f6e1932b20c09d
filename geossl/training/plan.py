"""What a pretraining run will do, settled before anything is trained: chips, split, batch, steps, place, settings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geossl.artefacts import hash_file
from geossl.chips.chipset import ChipSet
from geossl.chips.pairs import PairPolicy, pair_policy
from geossl.config import geossl_home, parse
from geossl.encoders.build import encoder_names
from geossl.errors import InputError, unknown_name
from geossl.methods.protocol import MethodConfig
from geossl.regions import Period
from geossl.training.compute import Compute
from geossl.training.data import Split, split_chips
from geossl.training.optim import OptimizerSettings
from geossl.training.options import Options
from geossl.views.recipe import Recipe

DEFAULT_SAMPLES = 30_000
"""Chips seen in a run without ``epochs`` and ``max_minutes`` (some minutes on two cores)."""
_DEFAULT_EPOCHS = (2, 100)
_SMALLEST_BATCH = 4


@dataclass(frozen=True)
class Plan:
    """A settled run: what was asked (``options``) and what came of it.

    ``batch_size`` counts the chips of a forward pass over all devices; an optimiser step takes ``accumulate`` of them.
    ``epochs`` is None where a time limit will decide.
    """

    options: Options
    chips: ChipSet
    split: Split
    method_config: MethodConfig
    recipe: Recipe
    optimizer: OptimizerSettings
    pairing: PairPolicy | None
    batch_size: int
    epochs: int | None
    period: Period | None
    months: tuple[int, ...] | None
    out: Path
    name: str

    @property
    def method(self) -> str:
        """Name of the method."""
        return self.method_config.method

    @property
    def seed(self) -> int:
        """Of the split, the first weights, the order of chips and the views."""
        return self.options.seed

    @property
    def step_chips(self) -> int:
        """Chips of one optimiser step."""
        return self.batch_size * self.options.accumulate

    @property
    def device_batch(self) -> int:
        """Chips that one device takes at once."""
        return self.batch_size // self.options.devices

    @property
    def batches_per_epoch(self) -> int:
        """Whole batches in one pass over the training chips, as many on every device."""
        return len(self.split.train) // self.options.devices // self.device_batch

    @property
    def steps_per_epoch(self) -> float:
        """Optimiser steps in one pass over the training chips."""
        return self.batches_per_epoch / self.options.accumulate

    @property
    def steps(self) -> int | None:
        """Optimiser steps of the run, None where a time limit will decide."""
        return None if self.epochs is None else max(int(self.epochs * self.steps_per_epoch), 1)

    @property
    def pairs(self) -> str:
        """The pair policy in words, for the manifest."""
        return "same chip" if self.pairing is None else str(self.pairing)

    @property
    def config(self) -> dict[str, Any]:
        """The settings that make two runs the same run, as plain JSON values."""
        asked = self.options
        return {
            "method": self.method,
            "settings": self.method_config.settings,
            "optimizer": self.optimizer.model_dump(mode="json"),
            "pairs": self.pairs,
            "balance": asked.balance,
            "views": self.recipe.model_dump(mode="json"),
            "encoder": asked.encoder,
            "stem": asked.stem,
            "weights": None if asked.weights is None else weights_id(asked.weights),
            "weights_bands": asked.weights_bands,
            "allow_partial_weights": asked.allow_partial_weights,
            "chips": self.chips.id,
            "batch_size": self.batch_size,
            "accumulate": asked.accumulate,
            "devices": asked.devices,
            "epochs": self.epochs,
            "max_minutes": asked.max_minutes,
            "seed": asked.seed,
            "all_blocks": asked.all_blocks,
            "probe_labels": asked.probe_labels,
            "period": None if self.period is None else str(self.period),
            "months": None if self.months is None else list(self.months),
        }

    def describe(self) -> str:
        """A few lines for people: what will be trained, on what, for how long."""
        asked = self.options
        length = (
            f"{asked.max_minutes:g} minutes" if self.epochs is None else f"{self.epochs} epochs, {self.steps} steps"
        )
        left_out = f", {self.split.cloudy} too cloudy" if self.split.cloudy else ""
        blocks = {kind: len(names) for kind, names in self.split.blocks.items()}
        held = (
            "every block trains (transductive)"
            if asked.all_blocks
            else f"blocks: {blocks['train']} train, {blocks['val']} val, {blocks['test']} test"
        )
        size = f"{len(self.chips.bands)} bands of {self.chips.shape[0]} x {self.chips.shape[1]} px"
        batch = f"batch {self.batch_size}"
        batch += f" on {asked.devices} devices" if asked.devices > 1 else ""
        batch += f", {asked.accumulate} batches a step" if asked.accumulate > 1 else ""
        stem = ", small-image stem" if asked.stem == "small" else ""
        start = f", from the weights of {asked.weights}" if asked.weights else ""
        drawn = "drawn evenly over clusters of their features" if asked.balance else "each drawn once an epoch"
        return "\n".join(
            [
                f"{self.method} with {asked.encoder}{stem}{start} on {self.name}: "
                f"{len(self.split.train)} chips, {size}{left_out}",
                held,
                f"pairs: {self.pairs}; chips: {drawn}",
                f"{batch}, {self.steps_per_epoch:g} steps an epoch, {length}, {self.optimizer.name}, seed {asked.seed}",
                f"encoder directory: {self.out}",
            ]
        )


def weights_id(source: str) -> str:
    """What names initial weights in a run's identity: the hash of a file (of an encoder directory: its weights), or
    the name itself."""
    path = Path(source)
    files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path] if path.is_file() else []
    return "+".join(hash_file(file) for file in files) or source


def make_plan(
    chips: ChipSet,
    compute: Compute,
    options: Options,
    *,
    name: str,
    method_config: MethodConfig,
    recipe: Recipe,
    period: Period | None,
    months: tuple[int, ...] | None,
) -> Plan:
    """Settle a run on opened chips.

    Raises:
        InputError: impossible numbers, an unknown encoder, stem, label column or pair policy, fewer chips than a batch.
    """
    if options.encoder not in encoder_names():
        raise unknown_name("encoder", options.encoder, encoder_names(), where="--encoder")
    if options.stem not in ("maxpool", "small"):
        raise unknown_name("stem", options.stem, ("maxpool", "small"), where="--stem")
    if options.probe_labels is not None and options.probe_labels not in chips.table.columns:
        columns = map(str, chips.table.columns)
        raise unknown_name("label column", options.probe_labels, columns, where="--probe-labels")
    optimizer = parse(OptimizerSettings, method_config.optimizer, f"{options.method}: optimizer")
    pairing = pair_policy(method_config.pairs if options.pairs is None else options.pairs)
    split = split_chips(chips, options.seed, options.all_blocks, period, months)
    count = len(split.train)
    epochs = options.epochs
    if epochs is None and options.max_minutes is None:
        low, high = _DEFAULT_EPOCHS
        epochs = min(max(round(DEFAULT_SAMPLES / count), low), high)
    return Plan(
        options=options,
        chips=chips,
        split=split,
        method_config=method_config,
        recipe=recipe.for_bands(chips.bands),
        optimizer=optimizer,
        pairing=pairing,
        batch_size=_batch_size(options, compute, count),
        epochs=epochs,
        period=period,
        months=months,
        out=Path(options.out or geossl_home() / "encoders" / f"{name}-{method_config.method}").absolute(),
        name=name,
    )


def _batch_size(options: Options, compute: Compute, count: int) -> int:
    """The batch over all devices, checked against the training chips."""
    devices = options.devices
    asked = options.batch_size
    if asked is None:
        asked = min(compute.default_batch * devices, count) // devices * devices
    smallest = _SMALLEST_BATCH * devices
    if not smallest <= asked <= count:
        raise InputError(
            "more chips in a batch than there are" if asked > count else "this batch is too small",
            where="--batch-size",
            expected=f"{smallest} to {count} (the training chips)",
            found=asked,
            remedy="take a smaller --batch-size, more chips, or --all-blocks"
            if asked > count
            else "take a larger --batch-size, or more chips",
        )
    if asked % devices:
        raise InputError(
            "every device takes an equal part of the batch",
            where="--batch-size",
            expected=f"a multiple of {devices} (--devices)",
            found=asked,
            remedy=f"take --batch-size {max(asked // devices * devices, smallest)}",
        )
    return asked
