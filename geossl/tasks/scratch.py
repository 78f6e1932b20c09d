"""Networks learnt by steps from the training labels alone, and the one nobody pretrained: supervised from scratch.

The control that says what pretraining is worth. Fixed steps; the learning rate is chosen on the validation part after
a short trial of each, and the chosen one trains anew from the same first weights. Heads whose decoder or encoder learns
(:mod:`geossl.tasks.strategies`) are tried and trained in the same way, with as many rates and steps.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from geossl.encoders.saved import Encoder, untrained_twin
from geossl.progress import track
from geossl.tasks.compare import quick_score
from geossl.tasks.decoders import DeepNet, deep_form
from geossl.tasks.examples import ChipExamples, PixelExamples
from geossl.tasks.heads import ChipNet, PixelNet, TaskNet, make_net
from geossl.tasks.keeping import Learning
from geossl.tasks.losses import Loss, class_weights, make_loss
from geossl.tasks.series import load_series
from geossl.tasks.spec import TaskSpec
from geossl.tasks.steps import Batch, Learns, cropped, dihedral, run_steps
from geossl.training.compute import choose_compute

RATES = (3e-4, 1e-3, 3e-3)
TRIAL_STEPS, STEPS = 20, 150
BATCH = 16
MOST_DATES = 8
"""Dates of a series that a training step sees at most, drawn anew each time; predictions see all."""
Net = TaskNet


@dataclass(frozen=True)
class Manner:
    """How a network learns: ``title`` on the progress bar, ``rates`` that are tried, what ``learns``
    (:func:`geossl.tasks.steps.run_steps`), and whether the network was ``taught`` the task's unit before.
    """

    title: str
    rates: tuple[float, ...]
    learns: Learns = "all"
    taught: bool = False


@dataclass(frozen=True)
class Trained:
    """A trained network, and the learning rate of those tried that was best on validation."""

    net: Net
    rate: float
    rates: tuple[float, ...]

    @property
    def note(self) -> str:
        """For the report."""
        tried = ", ".join(f"{one:g}" for one in self.rates)
        return f"{STEPS} steps of {BATCH}, learning rate {self.rate:g} of {tried}"


def first_net(spec: TaskSpec, encoder: Encoder, seed: int) -> Net:
    """The network that a task asks for around an encoder, what reads it with first weights of ``seed``."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make_net(spec, encoder, deep_form(spec)) if spec.is_deep else make_net(spec, encoder)


def untrained(spec: TaskSpec, like: Encoder, seed: int) -> Net:
    """The head's network with first weights of ``seed``, and the encoder's normalisation."""
    return first_net(spec, untrained_twin(like, seed), seed)


def from_scratch() -> Manner:
    """Everything learns alike."""
    return Manner("supervised from scratch", RATES)


def train_pixels(
    spec: TaskSpec,
    like: Encoder,
    examples: PixelExamples,
    pixels: np.ndarray,
    seed: int,
    start: Net | None = None,
    manner: Manner | None = None,
) -> Trained:
    """Learn from these labelled pixels; others are ignored, never background.

    ``start``: a network to begin from (it is left as it is), else an untrained one with the encoder of ``like``.
    """
    first = untrained(spec, like, seed) if start is None else start
    chips = np.unique(examples.chip[pixels])
    mean, spread = _scale(spec, examples.value[pixels])

    def batch(rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        some = chips[rng.integers(len(chips), size=BATCH)]
        values, clear = _inputs(first, examples, some, rng)
        make = examples.mask if examples.soft is None else examples.soft_mask
        masks = torch.from_numpy(np.stack([make(pixels, int(chip)) for chip in some]))
        masks = (masks - mean) / spread if spec.kind == "regression" else masks
        return dihedral(*cropped(values, clear, masks, rng), rng)

    wanted = examples.value[pixels] if examples.soft is None else examples.soft[pixels]
    loss = make_loss(spec, class_weights(spec, wanted))
    val = examples.part("val")

    def score(net: Net) -> float:
        return quick_score(spec, examples.value[val], predict_pixels(spec, net, examples, val)) if len(val) else 0.0

    return _train(first, batch, loss, score, seed, manner or from_scratch(), mean, spread)


def predict_pixels(spec: TaskSpec, net: Net, examples: PixelExamples, pixels: np.ndarray) -> np.ndarray:
    """Class indices or values (N,) of pixels."""
    found = np.zeros(len(pixels), dtype=np.float32 if spec.kind == "regression" else np.int64)
    device, chips = choose_compute().device, np.unique(examples.chip[pixels])
    net.to(device).eval()
    with torch.inference_mode():
        at_once = 1 if net.takes_dates else BATCH
        for start in range(0, len(chips), at_once):
            some = chips[start : start + at_once]
            values, clear = _inputs(net, examples, some)
            logits = net(values.to(device), clear.to(device))
            said = (logits[:, 0] if spec.kind == "regression" else logits.argmax(1)).cpu().numpy()
            for number, chip in enumerate(some):
                here = np.flatnonzero(examples.chip[pixels] == chip)
                found[here] = said[number][examples.y[pixels[here]], examples.x[pixels[here]]]
    net.to("cpu")
    return found


def train_chips(
    spec: TaskSpec,
    like: Encoder,
    examples: ChipExamples,
    chips: np.ndarray,
    seed: int,
    start: Net | None = None,
    manner: Manner | None = None,
) -> Trained:
    """Learn from these labelled chips; ``start`` and ``manner`` as in :func:`train_pixels`."""
    first = untrained(spec, like, seed) if start is None else start
    values, clear = examples.data.load(chips, first.encoder.select(examples.data.chips.bands))
    wanted = examples.target[chips] if examples.soft is None else examples.soft[chips]
    mean, spread = _scale(spec, examples.target[chips])
    target = torch.from_numpy(wanted)
    target = ((target - mean) / spread).float() if spec.kind == "regression" else target

    def batch(rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        some = torch.from_numpy(rng.integers(len(chips), size=BATCH))
        flipped = dihedral(values[some], clear[some], clear[some], rng)
        return flipped[0], flipped[1], target[some]

    loss = make_loss(spec, class_weights(spec, wanted))
    val = examples.part("val")

    def score(net: Net) -> float:
        return quick_score(spec, examples.target[val], predict_chips(spec, net, examples, val)) if len(val) else 0.0

    return _train(first, batch, loss, score, seed, manner or from_scratch(), mean, spread)


def predict_chips(spec: TaskSpec, net: Net, examples: ChipExamples, chips: np.ndarray) -> np.ndarray:
    """Class indices or values (n,), or label scores (n, K), of chips."""
    bands, device = net.encoder.select(examples.data.chips.bands), choose_compute().device
    net.to(device).eval()
    with torch.inference_mode():
        batches = examples.data.batches(chips, bands)
        logits = torch.cat([net(values.to(device), clear.to(device)).cpu() for _, values, clear in batches])
    net.to("cpu")
    if spec.kind == "regression":
        return logits[:, 0].numpy()
    return logits.numpy() if spec.kind == "multilabel" else logits.argmax(1).numpy()


def rescale(net: Net, spread: float, mean: float) -> None:
    """Make a network say ``spread`` times what it said, plus ``mean``, by its last layers alone."""
    if isinstance(net, ChipNet):
        layers: list[nn.Module | None] = [net.reader]
    elif isinstance(net, PixelNet):
        layers = [*net.readers, net.planes, net.anomalies, net.responses]
    else:
        assert isinstance(net, DeepNet)
        layers = [*net.readers, net.planes, net.last]
    with torch.no_grad():
        for layer in layers:
            if layer is None:
                continue
            assert isinstance(layer, nn.Conv2d | nn.Linear)
            layer.weight.mul_(spread)
            if layer.bias is not None:
                layer.bias.mul_(spread).add_(mean)


def _inputs(
    net: Net, examples: PixelExamples, positions: np.ndarray, rng: np.random.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """What a network takes of chips: images, or series where it takes dates (with ``rng``: some of them)."""
    bands = net.encoder.select(examples.data.chips.bands)
    if not isinstance(net, DeepNet) or not net.takes_dates:
        return examples.data.load(positions, bands)
    most = None if rng is None else MOST_DATES
    return load_series(examples.data, positions, bands, net.temporal == "attention", most, rng)


def _scale(spec: TaskSpec, values: np.ndarray) -> tuple[float, float]:
    """Mean and spread of a quantity's training labels, by which it is learnt; 0 and 1 for classes."""
    if spec.kind != "regression":
        return 0.0, 1.0
    return float(values.mean()), float(values.std()) or 1.0


def _train(
    first: Net,
    batch: Batch,
    loss: Loss,
    score: Callable[[Net], float],
    seed: int,
    manner: Manner,
    mean: float,
    spread: float,
) -> Trained:
    compute = choose_compute()
    kept = Learning.of(first, manner, seed, compute.device.type)
    known = {} if kept is None else kept.scores

    def learnt(rate: float, steps: int) -> Net:
        net = copy.deepcopy(first)
        if manner.taught:
            rescale(net, 1 / spread, -mean / spread)
        state = None if kept is None else kept.run(rate, steps)
        run_steps(net, batch, loss, rate, steps, seed, compute, bar, manner.learns, state)
        rescale(net, spread, mean)
        return net

    with track(manner.title, len(manner.rates) * TRIAL_STEPS + STEPS) as bar:
        best = (-np.inf, manner.rates[0])
        for rate in manner.rates:
            if rate in known:
                bar.advance(TRIAL_STEPS)
            else:
                known[rate] = score(learnt(rate, TRIAL_STEPS))
                if kept is not None:
                    kept.keep(rate, known[rate])
            best = max(best, (known[rate], rate), key=lambda pair: pair[0])
        net = learnt(best[1], STEPS)
    return Trained(net.eval(), best[1], manner.rates)
