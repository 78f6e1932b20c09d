"""Pseudo-labels: a linear head's own confident answers on unlabelled ground teach it a second time.

Lee 2013, "Pseudo-Label"; the confidence limit as in Sohn et al. 2020, arXiv:2001.07685. Unlabelled ground is that of
training blocks alone. Every limit is tried, and what it gives is kept only where it is better on validation: with few
labels a head is sure of mistakes too.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from geossl.tasks.examples import MIN_CLEAR, ChipData, PixelExamples
from geossl.tasks.linear import Linear

LIMITS = (0.99, 0.95, 0.9)
"""Probabilities from which an answer counts as confident."""
A_CLASS = 3
"""At most so many times the labels a class has in the mean become pseudo-labels of each class."""
LEAST = 20
CHIPS, PIXELS = 64, 100
"""Unlabelled ground is looked at in so many chips at most, and so many pixels of each."""


def refit(
    model: Linear,
    features: np.ndarray,
    targets: np.ndarray,
    unlabelled: np.ndarray,
    fit: Callable[[np.ndarray, np.ndarray], Linear],
    score: Callable[[Linear], float] | None,
) -> tuple[Linear, str]:
    """The best fit on labels and pseudo-labels, or ``model`` itself, and a sentence that says which and why.

    Args:
        model: the head of the labels alone (``multinomial`` or ``multilabel``).
        features, targets: of the labels: (n, F), and (n,) class indices, (n, K) proportions, or (n, K) 0/1.
        unlabelled: features (m, F).
        fit: makes a head of features and targets.
        score: a head's figure on the validation part, None where there is none.
    """
    if score is None:
        return model, "no validation labels to try pseudo-labels on: the frozen head stays"
    if not len(unlabelled):
        return model, "no unlabelled ground in training blocks: the frozen head stays"
    before = score(model)
    best = (before, model, "pseudo-labels were no better on validation: the frozen head stays")
    tried: set[tuple[int, ...]] = set()
    for limit in LIMITS:
        rows, said = confident(model, unlabelled, limit, len(features))
        if not len(rows) or tuple(rows.tolist()) in tried:
            continue
        tried.add(tuple(rows.tolist()))
        hot = said if targets.ndim == 2 or model.kind == "multilabel" else said.argmax(axis=1)
        again = fit(np.concatenate([features, unlabelled[rows]]), np.concatenate([targets, hot.astype(targets.dtype)]))
        after = score(again)
        if after > best[0] + 1e-9:
            sentence = f"{len(rows)} pseudo-labels from {limit:g}; on validation {before:.3f} before, {after:.3f} after"
            best = (after, again, sentence)
    return best[1], best[2]


def confident(model: Linear, features: np.ndarray, limit: float, labels: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of which the model is sure, the surest of each class first in number, and its answers (n, K) 0/1.

    ``labels``: how many there are, by which the number of pseudo-labels is limited.
    """
    scores = model.scores(features).astype(np.float64)
    if model.kind == "multilabel":
        chance = 0.5 * (1 + np.tanh(scores / 2))
        sure = np.maximum(chance, 1 - chance).min(axis=1)
        rows = np.flatnonzero(sure >= limit)
        rows = rows[np.argsort(-sure[rows], kind="stable")[: max(A_CLASS * labels, LEAST)]]
        rows = np.sort(rows)
        return rows, (chance[rows] > 0.5).astype(np.float64)
    exp = np.exp(scores - scores.max(axis=1, keepdims=True))
    chance = exp / exp.sum(axis=1, keepdims=True)
    said, sure = chance.argmax(axis=1), chance.max(axis=1)
    most = max(A_CLASS * labels // chance.shape[1], LEAST)
    kept = []
    for number in range(chance.shape[1]):
        here = np.flatnonzero((said == number) & (sure >= limit))
        kept.append(here[np.argsort(-sure[here], kind="stable")[:most]])
    rows = np.sort(np.concatenate(kept))
    return rows, np.eye(chance.shape[1])[said[rows]]


def unlabelled_pixels(examples: PixelExamples, chosen: np.ndarray, seed: int) -> PixelExamples:
    """Clear pixels of chips in training blocks, labelled chips or not, drawn by ``seed``; those of ``chosen`` are not
    among them, and nobody looks at labels that others may have.
    """
    data, table = examples.data, examples.data.chips.table
    training = np.isin(table["block"].astype(str).to_numpy(), np.unique(data.block[data.side == "train"]))
    rng = np.random.default_rng(seed)
    rows = np.flatnonzero(training & (table["clear"].to_numpy(dtype=float) >= MIN_CLEAR))
    rows = np.sort(rng.permutation(rows)[:CHIPS])
    block = table["block"].astype(str).to_numpy()[rows]
    side = np.full(len(rows), "train")
    pool = ChipData(data.chips, rows, block, side, data.references, data.season_days)
    chips, ys, xs = [], [], []
    for position, row in enumerate(rows):
        _, clear = pool.load(np.array([position]))
        free = clear[0].numpy().copy()
        own = chosen[data.rows[examples.chip[chosen]] == row]
        free[examples.y[own], examples.x[own]] = False
        y, x = np.nonzero(free)
        some = rng.permutation(len(y))[:PIXELS]
        chips.append(np.full(len(some), position))
        ys.append(y[some])
        xs.append(x[some])
    chip, y, x = (np.concatenate(one) if one else np.zeros(0, dtype=np.int64) for one in (chips, ys, xs))
    nothing = np.zeros(len(chip), dtype=np.int64)
    return PixelExamples(pool, chip, y, x, nothing, nothing)
