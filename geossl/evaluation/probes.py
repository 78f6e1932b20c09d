"""What embeddings know: nearest neighbours and linear probes. Rows are chips; nothing here is trained end to end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import r2_score

from geossl.errors import InputError

Blocks = np.ndarray | Sequence[np.ndarray]
"""Features (n, d), or several kinds of features of the same chips, each of which then weighs the same."""
Kind = Literal["multiclass", "multilabel", "regression"]

STRENGTHS = tuple(10.0 ** np.arange(-2, 4.5, 0.5))
"""Inverse regularisation C that is tried on validation chips."""
_AT_ONCE = 1024


def knn_predict(train: np.ndarray, labels: np.ndarray, test: np.ndarray, k: int = 20) -> np.ndarray:
    """What the ``k`` nearest training chips by cosine say about each test chip.

    Args:
        train, test: embeddings (n, d) and (m, d).
        labels: (n,) classes, or (n, L) values to be averaged (0/1 labels, numbers).
        k: neighbours; fewer where there are fewer training chips.

    Returns:
        (m,) classes by majority, the nearest neighbour deciding ties, or (m, L) means over the neighbours.
    """
    nearest = _nearest(_unit(test), _unit(train), min(k, len(train)))
    found = np.asarray(labels)[nearest]  # (m, k) or (m, k, L)
    if found.ndim == 3:
        return found.mean(axis=1)
    names, codes = np.unique(np.asarray(labels), return_inverse=True)
    votes = np.zeros((len(test), len(names)))
    rows = np.arange(len(test))
    for rank in range(nearest.shape[1]):
        # A nearer neighbour's vote counts a little more: too little to outvote, enough to break ties.
        votes[rows, codes[nearest[:, rank]]] += 1 + 1e-6 * (nearest.shape[1] - rank)
    return names[votes.argmax(axis=1)]


def knn_score(
    train: np.ndarray, train_labels: np.ndarray, test: np.ndarray, test_labels: np.ndarray, k: int = 20
) -> float:
    """Accuracy of :func:`knn_predict` for classes (n,), macro average precision for 0/1 labels (n, L)."""
    predicted = knn_predict(train, train_labels, test, k)
    if predicted.ndim == 2:
        return macro_average_precision(test_labels, predicted)
    return float((predicted == np.asarray(test_labels)).mean())


def recall_at_1(embeddings: np.ndarray, groups: np.ndarray, dates: np.ndarray | None = None) -> float:
    """How often the nearest other chip is the same tile on another date.

    Args:
        embeddings: (n, d).
        groups: (n,) tile of each chip.
        dates: (n,) date of each chip. Chips of the query's own date are then no candidates: they share its light and
            weather, and would make the question a different one. Without dates, only the chip itself is left out.

    Returns:
        Share of the chips that have their tile on another date among the candidates; NaN where none has.
    """
    unit = _unit(embeddings)
    tile = np.unique(np.asarray(groups).astype(str), return_inverse=True)[1]
    day = np.arange(len(tile)) if dates is None else np.unique(np.asarray(dates).astype(str), return_inverse=True)[1]
    hits = asked = 0
    for start in range(0, len(unit), _AT_ONCE):
        rows = slice(start, start + _AT_ONCE)
        candidate: np.ndarray = np.not_equal.outer(day[rows], day)
        matches: np.ndarray = candidate & np.equal.outer(tile[rows], tile)
        similarity = np.where(candidate, unit[rows] @ unit.T, -np.inf)
        nearest = similarity.argmax(axis=1)
        answerable = matches.any(axis=1)
        hits += int(matches[np.arange(len(nearest)), nearest][answerable].sum())
        asked += int(answerable.sum())
    return hits / asked if asked else float("nan")


def macro_average_precision(truth: np.ndarray, scores: np.ndarray) -> float:
    """Mean over labels of the average precision of ``scores`` (n, L) for 0/1 ``truth`` (n, L).

    Labels that no chip, or every chip, of these rows has are left out; NaN where that leaves none.
    """
    per_label = average_precisions(truth, scores)
    return float(np.nanmean(per_label)) if np.isfinite(per_label).any() else float("nan")


def average_precisions(truth: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Average precision of each label (L,), NaN where ``truth`` (n, L) is constant."""
    truth = np.asarray(truth).astype(bool)
    return np.array([_average_precision(truth[:, i], np.asarray(scores)[:, i]) for i in range(truth.shape[1])])


def _average_precision(truth: np.ndarray, scores: np.ndarray) -> float:
    """As scikit-learn's (sum over thresholds of recall gained times precision), without its checks: a bootstrap asks
    some ten thousand times."""
    positives = truth.sum()
    if positives in (0, len(truth)):
        return float("nan")
    order = np.argsort(-scores)
    last_of_ties = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    found = truth[order].cumsum()[last_of_ties]
    gained = np.diff(found, prepend=0)
    return float((gained * found / (last_of_ties + 1)).sum() / positives)


@dataclass(frozen=True)
class ProbeResult:
    """A linear probe on test chips: its figure, what it predicted, and the strength chosen on validation chips."""

    metric: str
    score: float
    predicted: np.ndarray
    """Classes (m,), label probabilities (m, L), or numbers (m,)."""
    strength: float
    val_score: float


def linear_probe(
    kind: Kind, train: Blocks, train_y: np.ndarray, val: Blocks, val_y: np.ndarray, test: Blocks, test_y: np.ndarray
) -> ProbeResult:
    """Logistic regression (L-BFGS, L2) or ridge on frozen features; C swept on the validation chips.

    Features are standardised on the training chips, each kind then divided by the root of its width. ``kind`` says what
    y is: (n,) classes scored by accuracy, (n, L) 0/1 labels scored by macro average precision, (n,) numbers by R².

    Raises:
        InputError: the training chips show fewer than two classes.
    """
    x, x_val, x_test = normalise_together(train, val, test)
    best: tuple[float, float, _Model] | None = None
    for strength in STRENGTHS:
        model = _Model(kind, x, np.asarray(train_y), strength)
        score = _score(kind, val_y, model.predict(x_val))
        if best is None or score > best[0]:
            best = (score, strength, model)
    assert best is not None
    predicted = best[2].predict(x_test)
    return ProbeResult(_METRICS[kind], _score(kind, test_y, predicted), predicted, best[1], best[0])


_METRICS = {"multiclass": "accuracy", "multilabel": "macro average precision", "regression": "R2"}


class _Model:
    """One fitted probe: a classifier, one classifier a label, or a ridge."""

    def __init__(self, kind: Kind, x: np.ndarray, y: np.ndarray, strength: float) -> None:
        self.kind = kind
        self.constant: np.ndarray | None = None
        if kind == "regression":
            self.models = [Ridge(alpha=1 / strength).fit(x, y)]
        elif kind == "multiclass":
            if len(np.unique(y)) < 2:
                raise InputError("a probe needs two classes", where="training chips", found=np.unique(y).tolist())
            self.models = [_logistic(strength).fit(x, y)]
        else:
            self.constant = y.mean(axis=0)
            self.models = [
                _logistic(strength).fit(x, y[:, i]) if 0 < self.constant[i] < 1 else None for i in range(y.shape[1])
            ]

    def predict(self, x: np.ndarray) -> np.ndarray:
        if self.kind != "multilabel":
            return self.models[0].predict(x)
        columns = [
            np.full(len(x), self.constant[i]) if model is None else model.predict_proba(x)[:, 1]  # type: ignore[index]
            for i, model in enumerate(self.models)
        ]
        return np.stack(columns, axis=1)


def _logistic(strength: float) -> LogisticRegression:
    return LogisticRegression(C=strength, max_iter=1000, tol=1e-3)


def _score(kind: Kind, truth: np.ndarray, predicted: np.ndarray) -> float:
    if kind == "multiclass":
        return float((np.asarray(truth) == predicted).mean())
    if kind == "multilabel":
        return macro_average_precision(truth, predicted)
    return float(r2_score(truth, predicted))


def normalise_together(train: Blocks, *others: Blocks) -> list[np.ndarray]:
    """Each kind of features standardised on the training chips, scaled to the same total variance, and joined."""
    kinds = _as_list(train)
    mean = [kind.mean(axis=0) for kind in kinds]
    std = [kind.std(axis=0) for kind in kinds]
    joined = []
    for features in (train, *others):
        parts = [
            # A feature that is constant in training says nothing: it is silenced instead of blown up.
            np.where(s > 1e-8, (kind - m) / np.maximum(s, 1e-8), 0.0) / np.sqrt(kind.shape[1])
            for kind, m, s in zip(_as_list(features), mean, std, strict=True)
        ]
        joined.append(np.concatenate(parts, axis=1))
    return joined


def _as_list(features: Blocks) -> list[np.ndarray]:
    kinds = [features] if isinstance(features, np.ndarray) else list(features)
    return [np.asarray(kind, dtype=np.float64) for kind in kinds]


def few_label_subsets(labels: np.ndarray, sizes: Sequence[int | float], seed: int) -> dict[int | float, np.ndarray]:
    """Nested stratified subsets of training rows: each holds all smaller ones.

    Args:
        labels: (n,) classes or (n, L) 0/1 labels.
        sizes: positives a class or label (int), or shares of those there are (float below or equal 1).
        seed: of the draw.

    Returns:
        Size to sorted row numbers. The rarest label is filled first; a label with fewer chips gives all it has.
    """
    labels = np.asarray(labels)
    has = labels.astype(bool) if labels.ndim == 2 else labels[:, None] == np.unique(labels)[None]
    order = np.random.default_rng(seed).permutation(len(has))
    there = has.sum(axis=0)
    wanted = {size: _positives(size, there) for size in sizes}
    taken = np.zeros(len(has), dtype=bool)
    subsets: dict[int | float, np.ndarray] = {}
    for size in sorted(sizes, key=lambda size: int(wanted[size].sum())):
        for label in np.argsort(there, kind="stable"):
            lacking = int(wanted[size][label] - has[taken, label].sum())
            free = order[has[order, label] & ~taken[order]]
            taken[free[: max(lacking, 0)]] = True
        subsets[size] = np.flatnonzero(taken)
    return subsets


def _positives(size: int | float, there: np.ndarray) -> np.ndarray:
    wanted = np.ceil(size * there) if isinstance(size, float) else np.full(len(there), size)
    return np.minimum(wanted, there).astype(int)


def _nearest(queries: np.ndarray, gallery: np.ndarray, k: int) -> np.ndarray:
    """Row numbers (m, k) of the nearest gallery rows, nearest first."""
    parts = []
    for start in range(0, len(queries), _AT_ONCE):
        similarity = queries[start : start + _AT_ONCE] @ gallery.T
        parts.append(np.argsort(-similarity, axis=1, kind="stable")[:, :k])
    return np.concatenate(parts)


def _unit(x: np.ndarray) -> np.ndarray:
    x = np.asarray(x, dtype=np.float32)
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
