"""Probabilities that mean what they say: one temperature, fitted on validation blocks, and how far they are off.

Logits are divided by a temperature before they become probabilities (Guo et al. 2017, arXiv:1706.04599). That leaves
the order of the classes, and so the class of a pixel, as it is. The expected calibration error (ECE) compares how sure
a head is with how often it is right, in :data:`BINS` bins of equal width.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import log_softmax

from geossl.evaluation.intervals import Interval
from geossl.tasks.metrics import Resamples

BINS = 15
MIN_BLOCKS = 3
"""Validation blocks below which a temperature would be that of two places; it then stays at 1."""
MIN_ITEMS = 30
_LIMITS = (-3.0, 3.0)
"""Logarithm (base e) of the coldest and the hottest temperature: 0.05 and 20."""


@dataclass(frozen=True)
class Temperature:
    """``value`` is 1 where it could not be fitted; ``sentence`` says on what it rests, or why there is none."""

    value: float
    sentence: str
    fitted: bool


def fit_temperature(logits: np.ndarray, truth: np.ndarray, blocks: np.ndarray) -> Temperature:
    """The temperature under which the head is, on average, as sure of validation items as it is right.

    (Expectation consistency, Clarté et al. 2023, arXiv:2303.02644.) The likeliest temperature, which is more usual, is
    set by the few labels that are most surely wrong, and those lie together in one or two blocks.

    Args:
        logits: (n, K).
        truth: (n,) class indices, or (n, K) 0/1 labels, each of which is then a yes or no of its own.
        blocks: (n,) block of each item. At least :data:`MIN_BLOCKS` with :data:`MIN_ITEMS` items in all are needed.
    """
    multilabel, count, items = truth.ndim == 2, len(np.unique(blocks)), len(logits)
    if count < MIN_BLOCKS or items < MIN_ITEMS:
        return Temperature(
            1.0,
            f"Not calibrated: {items} validation labels in {count} blocks are too few "
            f"(at least {MIN_ITEMS} in {MIN_BLOCKS} blocks are needed).",
            False,
        )
    right = ((logits > 0) == (truth > 0)).ravel() if multilabel else logits.argmax(axis=1) == truth
    # A head that is always right on n answers is not surer than n answers can show (Laplace's rule).
    target = (right.sum() + 1) / (len(right) + 2)

    def surplus(power: float) -> float:
        chance = probabilities(logits, float(np.exp(power)), multilabel)
        sure = np.maximum(chance, 1 - chance) if multilabel else chance.max(axis=1)
        return float(sure.mean() - target)

    cold, hot = _LIMITS
    if surplus(cold) <= 0:
        power = cold
    elif surplus(hot) >= 0:
        power = hot
    else:
        power = float(brentq(surplus, cold, hot, xtol=1e-5))
    value = float(np.exp(power))
    return Temperature(value, f"Temperature {value:.3g}, fitted on {items} validation labels in {count} blocks.", True)


def probabilities(logits: np.ndarray, temperature: float, multilabel: bool) -> np.ndarray:
    """Probabilities (n, K) float64 of logits (n, K)."""
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    if multilabel:
        return 0.5 * (1 + np.tanh(scaled / 2))
    probability: np.ndarray = np.exp(log_softmax(scaled, axis=1))
    return probability


@dataclass(frozen=True)
class Reliability:
    """How sure against how right. ``confidence``, ``accuracy`` and ``share`` have one value a bin (NaN where empty).

    ``floor``: the ECE that perfectly calibrated predictions would be expected to show on as many independent items,
    since few items in a bin are never right exactly as often as they should be. (Mean of the half-normal distribution:
    sqrt(2 / pi) times the spread of a bin's sum.)
    """

    ece: float
    floor: float
    interval: Interval | None
    confidence: np.ndarray
    accuracy: np.ndarray
    share: np.ndarray

    def as_dict(self) -> dict[str, object]:
        """Plain data for a manifest; empty bins are left out."""
        bins = [
            {"confidence": round(float(c), 5), "accuracy": round(float(a), 5), "share": round(float(s), 5)}
            for c, a, s in zip(self.confidence, self.accuracy, self.share, strict=True)
            if s > 0
        ]
        interval = None if self.interval is None else [round(self.interval.low, 5), round(self.interval.high, 5)]
        return {"ece": round(self.ece, 5), "floor": round(self.floor, 5), "interval": interval, "bins": bins}


def reliability(probability: np.ndarray, truth: np.ndarray, again: Resamples) -> Reliability:
    """The reliability diagram and the ECE with its 95 % interval by resampled blocks.

    For classes, how sure is the probability of the most probable class; for labels that are a yes or no each, the
    probability of every label counts. A resample repeats whole blocks, which adds noise to each bin, so intervals lie
    rather above the figure than around it.

    Args:
        probability: (n, K).
        truth: (n,) class indices or (n, K) 0/1.
        again: resamples of the n items by their blocks.
    """
    if truth.ndim == 2:
        sure, right = probability.ravel(), truth.ravel().astype(np.float64)
        block = np.repeat(again.block_of, probability.shape[1])
    else:
        sure, right = probability.max(axis=1), (probability.argmax(axis=1) == truth).astype(np.float64)
        block = again.block_of
    place = np.clip((sure * BINS).astype(int), 0, BINS - 1) + BINS * block
    size = again.blocks * BINS
    sums = np.stack([np.bincount(place, part, size) for part in (np.ones_like(sure), sure, right)])
    sums = sums.reshape(3, again.blocks, BINS)
    count, confident, correct = sums.sum(axis=1)
    ece = float(np.abs(confident - correct).sum() / count.sum())
    noise = np.bincount(place % BINS, sure * (1 - sure), BINS)
    floor = float(np.sqrt(2 / np.pi * noise).sum() / count.sum())
    drawn = np.einsum("rb,sbk->srk", again.counts, sums)
    draws = np.abs(drawn[1] - drawn[2]).sum(axis=1) / drawn[0].sum(axis=1)
    low, high = np.percentile(draws, [2.5, 97.5])
    interval = Interval(ece, float(low), float(high), again.blocks, len(draws)) if again.blocks > 1 else None
    with np.errstate(invalid="ignore", divide="ignore"):
        return Reliability(ece, floor, interval, confident / count, correct / count, count / count.sum())
