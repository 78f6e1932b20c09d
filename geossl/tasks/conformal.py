"""Sets of classes and intervals of values that hold the truth as often as they claim, measured on validation blocks.

Classes: a class belongs to a pixel's set where its probability reaches a limit that 1 - level of the validation labels
of that class fall below (least ambiguous sets, class by class: Sadinle et al. 2019, arXiv:1609.00451). A set may be
empty: then even the likeliest class is less sure than labels usually are. Values: ``predicted ± half width``, the
half width being that quantile of the validation errors among similar predicted values (split conformal, Lei et al.
2018, arXiv:1604.04173).

Pixels of one block resemble each other, so n of them are not n pieces of evidence. Every validation block is therefore
left out in turn: the quantile of the other blocks is taken as far out as it must be for the labels of the blocks left
out to be held as often as the level says, and the limit is that quantile of all blocks. Where no quantile reaches that,
a class falls back on the limit of all classes, and a level is not offered at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from geossl.evaluation.intervals import Interval
from geossl.tasks.metrics import Resamples

LEVELS = (0.8, 0.9, 0.95)
SHOWN = 0.9
"""The level that maps show."""
MIN_BLOCKS = 3
MIN_OWN = 20
"""Validation labels from which a class, or a range of predicted values, has a limit of its own."""
_RANGES = 4
_STEPS = 41


@dataclass(frozen=True)
class ClassSets:
    """``limits`` (L, K): the probability from which a class is in the set of each level; ``own`` (L, K) whether the
    limit is of the class's own labels, or of those of all classes.
    """

    levels: tuple[float, ...]
    limits: np.ndarray
    own: np.ndarray

    def members(self, probability: np.ndarray, level: float) -> np.ndarray:
        """(n, K) bool, which classes are in each set."""
        inside: np.ndarray = probability >= self.limits[self.levels.index(level)]
        return inside


@dataclass(frozen=True)
class ValueRanges:
    """``edges`` (R - 1,): limits between ranges of predicted values; ``half_widths`` (L, R) in the task's unit."""

    levels: tuple[float, ...]
    edges: np.ndarray
    half_widths: np.ndarray

    def around(self, predicted: np.ndarray, level: float) -> np.ndarray:
        """Half width (n,) of the interval around each predicted value."""
        found: np.ndarray = self.half_widths[self.levels.index(level)][np.searchsorted(self.edges, predicted)]
        return found


def upper_limit(scores: np.ndarray, blocks: np.ndarray, level: float) -> float | None:
    """The value that ``level`` of the scores of a new block stay at or below; None where the blocks are too few to say.

    ``scores`` (n,): larger is stranger.
    """
    names = np.unique(blocks)
    if len(names) < MIN_BLOCKS:
        return None
    further = level + (1 - level) * np.linspace(0, 1, _STEPS)
    held = np.zeros(_STEPS)
    for name in names:
        mine = blocks == name
        limits = np.quantile(scores[~mine], further, method="higher")
        held += np.searchsorted(np.sort(scores[mine]), limits, side="right")
    enough = np.flatnonzero(held >= level * len(scores))
    return float(np.quantile(scores, further[enough[0]], method="higher")) if len(enough) else None


def class_sets(
    probability: np.ndarray, truth: np.ndarray, blocks: np.ndarray, levels: Sequence[float] = LEVELS
) -> ClassSets | None:
    """Limits from validation items; None where no level can be offered.

    Args:
        probability: (n, K).
        truth: (n,) class indices, or (n, K) 0/1: then every label that an item has counts as one.
        blocks: (n,) block of each item.
        levels: shares of true classes that sets shall hold.
    """
    items, classes = np.nonzero(truth) if truth.ndim == 2 else (np.arange(len(truth)), truth)
    strange, where = -probability[items, classes], blocks[items]
    kept: list[tuple[float, np.ndarray, np.ndarray]] = []
    for level in levels:
        common = upper_limit(strange, where, level)
        limits, own = np.full(probability.shape[1], np.nan), np.zeros(probability.shape[1], dtype=bool)
        for number in range(probability.shape[1]):
            mine = classes == number
            limit = upper_limit(strange[mine], where[mine], level) if mine.sum() >= MIN_OWN else None
            own[number] = limit is not None
            chosen = common if limit is None else limit
            limits[number] = np.nan if chosen is None else -chosen
        if np.isfinite(limits).all():
            kept.append((level, limits, own))
    if not kept:
        return None
    return ClassSets(tuple(one[0] for one in kept), np.stack([k[1] for k in kept]), np.stack([k[2] for k in kept]))


def value_ranges(
    predicted: np.ndarray, truth: np.ndarray, blocks: np.ndarray, levels: Sequence[float] = LEVELS
) -> ValueRanges | None:
    """Half widths from validation items (n,), by quarters of the predicted values where there are labels enough in
    each; None where no level can be offered."""
    if not len(predicted):
        return None
    error = np.abs(predicted - truth)
    for ranges in range(_RANGES, 0, -1):
        edges = np.unique(np.quantile(predicted, np.arange(1, ranges) / ranges)) if ranges > 1 else np.empty(0)
        place = np.searchsorted(edges, predicted)
        if len(predicted) < MIN_OWN * (len(edges) + 1):
            continue
        rows = [
            [upper_limit(error[place == part], blocks[place == part], level) for part in range(len(edges) + 1)]
            for level in levels
        ]
        whole = [(level, row) for level, row in zip(levels, rows, strict=True) if None not in row]
        if len(whole) == len(levels) or (ranges == 1 and whole):
            widths = np.array([row for _, row in whole], dtype=np.float64)
            return ValueRanges(tuple(level for level, _ in whole), edges, widths)
    return None


@dataclass(frozen=True)
class Coverage:
    """How often sets or intervals held the truth on other blocks, and how large they were."""

    level: float
    value: float
    interval: Interval | None
    size: float
    """Mean number of classes, or mean half width in the task's unit."""
    empty: float
    """Share of sets without a class."""
    per_class: tuple[float, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain data for a manifest; classes that no item has are None."""
        interval = None if self.interval is None else [round(self.interval.low, 5), round(self.interval.high, 5)]
        return {
            "level": self.level,
            "coverage": round(self.value, 5),
            "interval": interval,
            "size": round(self.size, 5),
            "empty": round(self.empty, 5),
            "per_class": [None if np.isnan(one) else round(one, 5) for one in self.per_class],
        }


def set_coverage(sets: ClassSets, probability: np.ndarray, truth: np.ndarray, again: Resamples) -> list[Coverage]:
    """Coverage of each level: the share of true classes (or labels) that lie in their item's set."""
    items, classes = np.nonzero(truth) if truth.ndim == 2 else (np.arange(len(truth)), truth)
    found = []
    for level in sets.levels:
        inside = sets.members(probability, level)
        held = inside[items, classes].astype(np.float64)
        value, interval = _share(held, again.block_of[items], again)
        size = inside.sum(axis=1)
        per_class = tuple(
            float(held[classes == number].mean()) if (classes == number).any() else float("nan")
            for number in range(probability.shape[1])
        )
        found.append(Coverage(level, value, interval, float(size.mean()), float((size == 0).mean()), per_class))
    return found


def interval_coverage(
    ranges: ValueRanges, predicted: np.ndarray, truth: np.ndarray, again: Resamples
) -> list[Coverage]:
    """Coverage of each level: the share of true values within their interval."""
    found = []
    for level in ranges.levels:
        widths = ranges.around(predicted, level)
        held = (np.abs(predicted - truth) <= widths).astype(np.float64)
        value, interval = _share(held, again.block_of, again)
        found.append(Coverage(level, value, interval, float(widths.mean()), 0.0))
    return found


def _share(held: np.ndarray, block: np.ndarray, again: Resamples) -> tuple[float, Interval | None]:
    """A share and its 95 % interval by resampled blocks."""
    if not len(held):
        return float("nan"), None
    count, hits = (np.bincount(block, part, again.blocks) for part in (np.ones_like(held), held))
    value = float(held.mean())
    if again.blocks < 2:
        return value, None
    with np.errstate(invalid="ignore", divide="ignore"):
        draws = (again.counts @ hits) / (again.counts @ count)
    low, high = np.nanpercentile(draws, [2.5, 97.5])
    return value, Interval(value, float(low), float(high), again.blocks, len(draws))
