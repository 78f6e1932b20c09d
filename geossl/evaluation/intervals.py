"""How sure a figure is: bootstrap over blocks, because chips of one block are not independent of each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from geossl.errors import InputError

Statistic = Callable[[np.ndarray], float]
"""A figure of the chips with these row numbers; NaN where it is undefined (a label without a positive)."""


@dataclass(frozen=True)
class Interval:
    """A figure of all chips and where it lies in 95 % of the resamples of blocks."""

    value: float
    low: float
    high: float
    blocks: int
    resamples: int

    @property
    def half_width(self) -> float:
        """Half the width of the interval: the ± beside the value."""
        return (self.high - self.low) / 2

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def block_bootstrap(
    statistic: Statistic, blocks: Sequence[object] | np.ndarray, *, seed: int = 0, resamples: int = 1000
) -> Interval:
    """Percentile interval of a statistic under resampling of whole blocks with replacement.

    Args:
        statistic: takes row numbers (with repeats) into the caller's arrays.
        blocks: block of each row.
        seed: of the resampling; equal seeds draw equal resamples.
        resamples: how many. Those where the statistic is undefined are left out.

    Raises:
        InputError: fewer than two blocks.
    """
    rows = _rows_by_block(blocks)
    draws = np.array([statistic(drawn) for drawn in _resampled(rows, seed, resamples)])
    return _interval(statistic(np.arange(len(blocks))), draws, len(rows))


def paired_difference(
    first: Statistic,
    second: Statistic,
    blocks: Sequence[object] | np.ndarray,
    *,
    seed: int = 0,
    resamples: int = 1000,
) -> Interval:
    """Interval of ``first - second`` with both taken on the same resamples, so that common ups and downs cancel."""
    return block_bootstrap(lambda rows: first(rows) - second(rows), blocks, seed=seed, resamples=resamples)


def _rows_by_block(blocks: Sequence[object] | np.ndarray) -> list[np.ndarray]:
    names, which = np.unique(np.asarray(blocks).astype(str), return_inverse=True)
    if len(names) < 2:
        raise InputError(
            "an interval needs at least two blocks",
            where="block bootstrap",
            found=f"{len(names)} block(s) of {len(which)} chips",
            remedy="evaluate on more blocks, or give the figure without an interval",
        )
    return [np.flatnonzero(which == number) for number in range(len(names))]


def _resampled(rows: list[np.ndarray], seed: int, resamples: int) -> list[np.ndarray]:
    generator = np.random.default_rng(seed)
    chosen = generator.integers(len(rows), size=(resamples, len(rows)))
    return [np.concatenate([rows[block] for block in one]) for one in chosen]


def _interval(value: float, draws: np.ndarray, blocks: int) -> Interval:
    known = draws[np.isfinite(draws)]
    low, high = np.percentile(known, [2.5, 97.5]) if len(known) else (np.nan, np.nan)
    return Interval(float(value), float(low), float(high), blocks, len(known))
