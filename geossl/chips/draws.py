"""In which order an epoch takes its chips: each once, or some oftener than others by weight."""

from __future__ import annotations

import numpy as np

from geossl.errors import InputError


def weighted_order(
    weights: np.ndarray, batch_size: int, batches: int, windows: list[np.ndarray], generator: np.random.Generator
) -> np.ndarray:
    """Chips of an epoch's batches where each is drawn in proportion to its weight, (batches * batch_size,) int64.

    Systematic draw (Madow 1949): a chip whose share comes to 2.3 appears two or three times, and never twice in one
    batch, so no chip appears oftener than there are whole batches. The chips of each window stand together, the
    windows in the given order; a window gets as many places as its weights' share.

    Args:
        weights: (n,) one a chip, not negative; only their ratios count.
        batch_size, batches: length of the epoch.
        windows: chips (indices into ``weights``) that may stand beside each other; a single one where all may.
        generator: order and rounding are drawn from it.

    Raises:
        InputError: no usable weights, or too few chips of more than no weight to fill a batch.
    """
    weights = np.asarray(weights, dtype=np.float64)
    if not np.isfinite(weights).all() or (weights < 0).any() or not weights.any():
        raise InputError("weights of chips are finite, never negative, and not all 0", where="sampling weights")
    sums = np.array([weights[window].sum() for window in windows])
    ends = np.rint(np.cumsum(sums) / sums.sum() * batches * batch_size).astype(np.int64)
    parts, begin = [], 0
    for window, end in zip(windows, ends.tolist(), strict=True):
        chosen = generator.permutation(window)
        slots = _spread(begin, end, batch_size)
        whole = max(end // batch_size - -(-begin // batch_size), 1)  # a chip's copies go to so many batches
        counts = _counts(weights[chosen], end - begin, whole, generator)
        part = np.empty(end - begin, dtype=np.int64)
        part[slots - begin] = np.repeat(chosen, counts)
        parts.append(part)
        begin = end
    return np.concatenate(parts)


def _counts(weights: np.ndarray, total: int, most: int, generator: np.random.Generator) -> np.ndarray:
    """How often each chip appears: ``total`` in all, each at most ``most`` times, else in proportion to its weight."""
    if total and (weights > 0).sum() * most < total:
        raise InputError(
            "too few chips have a weight to fill batches without repeating one in a batch",
            where="sampling weights",
            expected=f"at least {-(-total // most)} chips of positive weight",
            found=int((weights > 0).sum()),
            remedy="take a smaller batch, or weights that are less uneven",
        )
    expected = np.zeros(len(weights))
    full = np.zeros(len(weights), dtype=bool)
    while True:  # what chips above the limit cannot take goes to the others; ends, since each round fills one more
        open_sum = weights[~full].sum()
        room = total - most * int(full.sum())
        expected[full] = most
        expected[~full] = weights[~full] * (room / open_sum) if open_sum else 0.0
        over = ~full & (expected > most)
        if not over.any():
            break
        full |= over
    edges = np.concatenate([[0.0], np.cumsum(expected)])
    edges *= total / max(edges[-1], 1e-12)
    # Each mark u, u + 1, u + 2 … falls into one chip's stretch; a stretch of x holds floor(x) or ceil(x) of them.
    marks = np.clip(np.ceil(edges - generator.random()), 0, total).astype(np.int64)
    return np.minimum(np.diff(marks), total)


def _spread(begin: int, end: int, batch_size: int) -> np.ndarray:
    """Places begin … end - 1 in an order whose neighbours lie in different batches: first the first place of every
    batch, then the second of every batch. A run no longer than the number of whole batches touches each but once."""
    places = np.arange(begin, end)
    batch = places // batch_size
    rank = places - np.maximum(batch * batch_size, begin)
    return places[np.lexsort((batch, rank))]
