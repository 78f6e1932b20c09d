"""Figures of predictions on held-out blocks, with intervals by resampling blocks.

All rows of a comparison are resampled alike, so differences between rows are paired. Several draws of few labels give
several predictions of the same items; a figure is then the mean over draws, within each resample too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from geossl.evaluation.intervals import Interval

RESAMPLES = 1000
LOWER_IS_BETTER = frozenset({"rmse", "mae"})


class Resamples:
    """How often each block stands in each resample: (resamples, blocks), drawn with replacement from a seed."""

    def __init__(self, blocks: np.ndarray, seed: int, resamples: int = RESAMPLES) -> None:
        """``blocks``: block of each test item."""
        names, self.block_of = np.unique(np.asarray(blocks).astype(str), return_inverse=True)
        self.blocks = len(names)
        drawn = np.random.default_rng(seed).integers(self.blocks, size=(resamples, self.blocks))
        self.counts = np.stack([np.bincount(one, minlength=self.blocks) for one in drawn]).astype(np.float64)


@dataclass(frozen=True)
class Figures:
    """Figures of one row of a comparison.

    ``values``: name to figure of all test items. ``resampled``: name to (resamples,). ``per_class``: for each class
    its figures. ``confusion``: (K, K) truth by prediction, the mean over draws, where there are classes.
    """

    values: dict[str, float]
    resampled: dict[str, np.ndarray] = field(repr=False)
    per_class: list[dict[str, float]] = field(default_factory=list)
    confusion: np.ndarray | None = None
    blocks: int = 0

    def interval(self, name: str) -> Interval | None:
        """95 % interval of a figure, None where there is a single block."""
        return _interval(self.values[name], self.resampled[name], self.blocks)

    def minus(self, other: Figures, name: str) -> Interval | None:
        """95 % interval of this row's figure minus the other's, on the same resamples."""
        difference = self.resampled[name] - other.resampled[name]
        return _interval(self.values[name] - other.values[name], difference, self.blocks)


def _interval(value: float, draws: np.ndarray, blocks: int) -> Interval | None:
    known = draws[np.isfinite(draws)]
    if blocks < 2 or not len(known):
        return None
    low, high = np.percentile(known, [2.5, 97.5])
    return Interval(float(value), float(low), float(high), blocks, len(known))


def class_figures(truth: np.ndarray, predictions: Sequence[np.ndarray], classes: int, again: Resamples) -> Figures:
    """Macro F1, balanced accuracy, mean IoU and accuracy of class indices.

    Classes that no test item has are left out of the means. One that a single resample has no item of counts there with
    its figure of all items: leaving it out would lift the mean wherever a rare, hard class happens to be missing.

    Args:
        truth: (n,) class indices.
        predictions: (n,) class indices for each draw.
        classes: K.
        again: resamples of the n items.
    """
    per_draw = []
    for predicted in predictions:
        cells = np.zeros((again.blocks, classes, classes))
        np.add.at(cells, (again.block_of, truth, predicted), 1)
        per_draw.append(cells)
    blocks = np.stack(per_draw)  # (draw, block, K, K)
    whole = blocks.sum(axis=1)  # (draw, K, K)
    drawn = np.einsum("rb,dbij->rdij", again.counts, blocks, optimize=True)
    values, classwise = _from_confusion(whole, None)
    resampled, classwise_again = _from_confusion(drawn, classwise)
    per_class = []
    for number in range(classes):
        one = {name: float(np.mean(part[:, number])) for name, part in classwise.items()}
        for name in ("f1", "iou"):
            interval = _interval(one[name], classwise_again[name][..., number].mean(axis=1), again.blocks)
            one |= {f"{name}_low": interval.low, f"{name}_high": interval.high} if interval else {}
        per_class.append({**one, "items": float(whole[0, number].sum())})
    return Figures(
        {name: float(part.mean()) for name, part in values.items()},
        {name: part.mean(axis=1) for name, part in resampled.items()},
        per_class,
        whole.mean(axis=0),
        again.blocks,
    )


def _from_confusion(
    cells: np.ndarray, otherwise: dict[str, np.ndarray] | None
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Figures of confusion matrices (..., truth, predicted): over classes (...), and of each class (..., K).

    ``otherwise``: figures that stand in for those of classes which these matrices have no item of.
    """
    right = np.diagonal(cells, axis1=-2, axis2=-1)
    there, said = cells.sum(axis=-1), cells.sum(axis=-2)
    with np.errstate(invalid="ignore", divide="ignore"):
        recall = right / there  # NaN for classes without an item
        classwise = {
            "f1": np.where(there > 0, 2 * right / (there + said), np.nan),
            "iou": np.where(there > 0, right / (there + said - right), np.nan),
            "recall": recall,
            "precision": np.where(said > 0, right / said, np.nan),
        }
        accuracy = right.sum(axis=-1) / there.sum(axis=-1)
    if otherwise is not None:
        classwise = {name: np.where(there > 0, part, otherwise[name]) for name, part in classwise.items()}
    means = {
        "macro_f1": _nanmean(classwise["f1"]),
        "balanced_accuracy": _nanmean(classwise["recall"]),
        "mean_iou": _nanmean(classwise["iou"]),
        "accuracy": accuracy,
    }
    return means, classwise


def label_figures(truth: np.ndarray, predictions: Sequence[np.ndarray], again: Resamples) -> Figures:
    """Macro average precision of label scores; labels that no test chip (or every one) has are left out.

    Args:
        truth: (n, K) 0/1.
        predictions: (n, K) scores for each draw.
        again: resamples of the n chips.
    """
    one = np.ones((1, len(truth)))
    weights = again.counts[:, again.block_of]  # (resamples, n)
    point, drawn = [], []
    for scores in predictions:
        point.append(np.stack([weighted_precision(t, s, one) for t, s in zip(truth.T, scores.T, strict=True)], 1)[0])
        drawn.append(np.stack([weighted_precision(t, s, weights) for t, s in zip(truth.T, scores.T, strict=True)], 1))
    per_label, resampled = np.stack(point), np.stack(drawn)  # (draw, K), (draw, resamples, K)
    resampled = np.where(np.isfinite(resampled), resampled, per_label[:, None])  # as in class_figures
    per_class = []
    for number in range(truth.shape[1]):
        value = float(per_label[:, number].mean())
        interval = _interval(value, resampled[..., number].mean(axis=0), again.blocks)
        bounds = {"ap_low": interval.low, "ap_high": interval.high} if interval else {}
        per_class.append(
            {"ap": value, **bounds, "share": float(truth[:, number].mean()), "items": float(truth[:, number].sum())}
        )
    return Figures(
        {"macro_ap": float(_nanmean(per_label).mean())},
        {"macro_ap": _nanmean(resampled).mean(axis=0)},
        per_class,
        None,
        again.blocks,
    )


def weighted_precision(truth: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Average precision of one label under each row of item weights (r, n): (r,).

    The sum over score thresholds of precision times the gain in recall, items of equal score falling together, as
    scikit-learn's ``average_precision_score``. NaN where a row has no positive or nothing else.
    """
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order]) != 0), len(order) - 1)
    weight = weights[:, order]
    positives = np.cumsum(weight * truth[order], axis=1)[:, ends]
    said = np.cumsum(weight, axis=1)[:, ends]
    total = positives[:, -1:]
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.where(said > 0, positives / said, 0.0)
        gains = np.diff(positives, axis=1, prepend=0.0) / total
        found = (precision * gains).sum(axis=1)
    return np.where((total[:, 0] > 0) & (total[:, 0] < said[:, -1]), found, np.nan)


def value_figures(truth: np.ndarray, predictions: Sequence[np.ndarray], again: Resamples) -> Figures:
    """RMSE, MAE and R² of numbers (n,), in the unit of the task."""
    per_draw = []
    for predicted in predictions:
        error = predicted - truth
        parts = [np.ones_like(truth), error**2, np.abs(error), truth, truth**2]
        sums = [np.bincount(again.block_of, weights=part, minlength=again.blocks) for part in parts]
        per_draw.append(np.stack(sums, 1))
    blocks = np.stack(per_draw)  # (draw, block, 5)
    values = _from_sums(blocks.sum(axis=1))
    resampled = _from_sums(np.einsum("rb,dbk->rdk", again.counts, blocks))
    return Figures(
        {name: float(part.mean()) for name, part in values.items()},
        {name: part.mean(axis=1) for name, part in resampled.items()},
        blocks=again.blocks,
    )


def _from_sums(sums: np.ndarray) -> dict[str, np.ndarray]:
    n, square, absolute, total, total_square = np.moveaxis(sums, -1, 0)
    spread = total_square - total**2 / n
    with np.errstate(invalid="ignore", divide="ignore"):
        r2 = np.where(spread > 0, 1 - square / spread, np.nan)
    return {"rmse": np.sqrt(square / n), "mae": absolute / n, "r2": r2}


def _nanmean(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis without NaN; NaN where there is nothing else."""
    known = np.isfinite(values)
    count = known.sum(axis=-1)
    total = np.where(known, values, 0.0).sum(axis=-1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
