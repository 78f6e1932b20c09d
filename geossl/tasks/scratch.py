"""Supervised from scratch: the head's own network, untrained, learnt end to end from the training labels alone.

The control that says what pretraining is worth. Fixed steps; the learning rate is chosen on the validation part after
a short trial of each, and the chosen one trains anew from the same first weights.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from geossl.encoders.saved import Encoder, untrained_twin
from geossl.progress import Track, track
from geossl.tasks.compare import quick_score
from geossl.tasks.examples import ChipExamples, PixelExamples
from geossl.tasks.heads import ChipNet, PixelNet, make_net
from geossl.tasks.spec import TaskSpec
from geossl.training.compute import Compute, choose_compute

RATES = (3e-4, 1e-3, 3e-3)
TRIAL_STEPS, STEPS = 20, 150
BATCH, CROP = 16, 64
_IGNORE = 255
Net = PixelNet | ChipNet
Batch = Callable[[np.random.Generator], tuple[Tensor, Tensor, Tensor]]


@dataclass(frozen=True)
class Trained:
    """A trained network, and the learning rate that was best on validation."""

    net: Net
    rate: float

    @property
    def note(self) -> str:
        """For the report."""
        return f"{STEPS} steps of {BATCH}, learning rate {self.rate:g} of {', '.join(f'{one:g}' for one in RATES)}"


def untrained(spec: TaskSpec, like: Encoder, seed: int) -> Net:
    """The head's network with first weights of ``seed``, and the encoder's normalisation."""
    twin = untrained_twin(like, seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make_net(spec, twin)


def train_pixels(spec: TaskSpec, like: Encoder, examples: PixelExamples, pixels: np.ndarray, seed: int) -> Trained:
    """Learn from these labelled pixels; others are ignored, never background."""
    bands = like.select(examples.data.chips.bands)
    chips = np.unique(examples.chip[pixels])

    def batch(rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        some = chips[rng.integers(len(chips), size=BATCH)]
        values, clear = examples.data.load(some, bands)
        masks = torch.from_numpy(np.stack([examples.mask(pixels, int(chip)) for chip in some]))
        return dihedral(*_cropped(values, clear, masks, rng), rng)

    weights = _class_weights(spec, examples.value[pixels])

    def loss(logits: Tensor, target: Tensor) -> Tensor:
        if spec.kind == "regression":
            known = torch.isfinite(target)
            return F.mse_loss(logits[:, 0][known], target[known])
        return F.cross_entropy(logits, target, weight=weights, ignore_index=_IGNORE)

    val = examples.part("val")

    def score(net: Net) -> float:
        return quick_score(spec, examples.value[val], predict_pixels(spec, net, examples, val)) if len(val) else 0.0

    return _train(untrained(spec, like, seed), batch, loss, score, seed)


def predict_pixels(spec: TaskSpec, net: Net, examples: PixelExamples, pixels: np.ndarray) -> np.ndarray:
    """Class indices or values (N,) of pixels."""
    bands = net.encoder.select(examples.data.chips.bands)
    found = np.zeros(len(pixels), dtype=np.float32 if spec.kind == "regression" else np.int64)
    net.eval()
    with torch.inference_mode():
        for some, values, clear in examples.data.batches(np.unique(examples.chip[pixels]), bands):
            logits = net(values, clear)
            said = logits[:, 0] if spec.kind == "regression" else logits.argmax(1)
            for number, chip in enumerate(some):
                here = np.flatnonzero(examples.chip[pixels] == chip)
                found[here] = said[number].numpy()[examples.y[pixels[here]], examples.x[pixels[here]]]
    return found


def train_chips(spec: TaskSpec, like: Encoder, examples: ChipExamples, chips: np.ndarray, seed: int) -> Trained:
    """Learn from these labelled chips."""
    bands = like.select(examples.data.chips.bands)
    values, clear = examples.data.load(chips, bands)
    target = torch.from_numpy(examples.target[chips])

    def batch(rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        some = torch.from_numpy(rng.integers(len(chips), size=BATCH))
        flipped = dihedral(values[some], clear[some], clear[some], rng)
        return flipped[0], flipped[1], target[some]

    def loss(logits: Tensor, wanted: Tensor) -> Tensor:
        if spec.kind == "multilabel":
            return F.binary_cross_entropy_with_logits(logits, wanted.float())
        return F.cross_entropy(logits, wanted)

    val = examples.part("val")

    def score(net: Net) -> float:
        return quick_score(spec, examples.target[val], predict_chips(spec, net, examples, val)) if len(val) else 0.0

    return _train(untrained(spec, like, seed), batch, loss, score, seed)


def predict_chips(spec: TaskSpec, net: Net, examples: ChipExamples, chips: np.ndarray) -> np.ndarray:
    """Class indices (n,) or label scores (n, K) of chips."""
    bands = net.encoder.select(examples.data.chips.bands)
    net.eval()
    with torch.inference_mode():
        logits = torch.cat([net(values, clear) for _, values, clear in examples.data.batches(chips, bands)])
    return logits.numpy() if spec.kind == "multilabel" else logits.argmax(1).numpy()


def _train(
    first: Net, batch: Batch, loss: Callable[[Tensor, Tensor], Tensor], score: Callable[[Net], float], seed: int
) -> Trained:
    compute = choose_compute()
    with track("supervised from scratch", len(RATES) * TRIAL_STEPS + STEPS) as bar:
        best = (-np.inf, RATES[0])
        for rate in RATES:
            net = copy.deepcopy(first)
            run_steps(net, batch, loss, rate, TRIAL_STEPS, seed, compute, bar)
            best = max(best, (score(net), rate), key=lambda pair: pair[0])
        net = copy.deepcopy(first)
        run_steps(net, batch, loss, best[1], STEPS, seed, compute, bar)
    return Trained(net.eval(), best[1])


def run_steps(
    net: Net,
    batch: Batch,
    loss: Callable[[Tensor, Tensor], Tensor],
    rate: float,
    steps: int,
    seed: int,
    compute: Compute,
    bar: Track,
) -> None:
    """Train in place: AdamW with a linear warm-up and a cosine to zero; the network ends on the CPU.

    ``batch(rng)`` gives values (B, C, H, W), clear (B, H, W) and targets; ``loss`` takes float32 logits and targets.
    """
    rng = np.random.default_rng(seed)
    net.to(compute.device, memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(net.parameters(), lr=rate, weight_decay=1e-2)
    warm = max(1, steps // 10)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warm, 0.5 * (1 + np.cos(np.pi * step / steps)))
    )
    for _ in range(steps):
        values, clear, target = (one.to(compute.device) for one in batch(rng))
        with torch.autocast(compute.device.type, torch.bfloat16, enabled=compute.mixed):
            logits = net(values, clear)
        one = loss(logits.float(), target)
        optimizer.zero_grad(set_to_none=True)
        one.backward()
        optimizer.step()
        schedule.step()
        bar.advance(note=f"loss {one.item():.3f}")
    net.to("cpu")


def _cropped(values: Tensor, clear: Tensor, masks: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Crops of at most :data:`CROP` pixels around one labelled pixel of each chip."""
    height, width = masks.shape[-2:]
    side_y, side_x = min(CROP, height), min(CROP, width)
    parts = []
    for value, seen, mask in zip(values, clear, masks, strict=True):
        labelled = torch.nonzero(torch.isfinite(mask) if mask.is_floating_point() else mask != _IGNORE)
        y, x = labelled[rng.integers(len(labelled))].tolist()
        top = int(np.clip(y - rng.integers(side_y), 0, height - side_y))
        left = int(np.clip(x - rng.integers(side_x), 0, width - side_x))
        window = (..., slice(top, top + side_y), slice(left, left + side_x))
        parts.append((value[window], seen[window], mask[window]))
    cropped = [torch.stack(one) for one in zip(*parts, strict=True)]
    return cropped[0], cropped[1], cropped[2]


def dihedral(values: Tensor, clear: Tensor, masks: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """One of the eight flips and quarter-turns, the same for the batch."""
    turns, flip = int(rng.integers(4)), bool(rng.integers(2))
    if values.shape[-1] != values.shape[-2]:
        turns = 2 * (turns // 2)
    turned = [torch.rot90(one, turns, (-2, -1)) for one in (values, clear, masks)]
    flipped = [one.flip(-1) if flip else one for one in turned]
    return flipped[0], flipped[1], flipped[2]


def _class_weights(spec: TaskSpec, values: np.ndarray) -> Tensor | None:
    if spec.kind == "regression" or not spec.balanced:
        return None
    counts = np.bincount(values, minlength=spec.outputs)
    weights = np.where(counts > 0, len(values) / (np.maximum(counts, 1) * max((counts > 0).sum(), 1)), 0.0)
    return torch.tensor(weights, dtype=torch.float32, device=choose_compute().device)
