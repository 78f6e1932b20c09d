"""What the real sets share: groups left out in turn, models tuned inside the training groups, rows with intervals."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.model_selection import GridSearchCV, GroupKFold

from geossl.tasks.metrics import Figures, Resamples, class_figures, value_figures

DATA = Path(os.environ.get("GEOSSL_REAL_DATA", "../shared/data"))


@dataclass
class Table:
    """One real set: ``rows`` of name and figures (value, low, high; None where there is no interval)."""

    name: str
    title: str
    command: str
    protocol: str
    columns: list[str]
    rows: list[dict[str, Any]]
    reading: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def row(name: str, figures: Figures, columns: Sequence[str], reference: Figures | None = None) -> dict[str, Any]:
    """A row's figures with 95 % intervals, and its first figure minus the reference row's on the same resamples."""
    cells: dict[str, Any] = {"name": name}
    for column in columns:
        interval = figures.interval(column)
        cells[column] = [figures.values[column], *((interval.low, interval.high) if interval else (None, None))]
    if reference is not None and (difference := figures.minus(reference, columns[0])):
        cells["difference"] = [difference.value, difference.low, difference.high]
    return cells


def held_out(
    model: BaseEstimator,
    grid: dict[str, list[Any]],
    x: np.ndarray,
    y: np.ndarray,
    groups: np.ndarray,
    folds: int | None,
    scoring: str,
) -> np.ndarray:
    """Predictions for every row by a model that saw no row of its group.

    ``folds`` None leaves each group out in turn. Every model is tuned alike: its grid is searched by three folds of
    groups inside the training groups.
    """
    predicted = np.empty_like(y)
    for test in fold_rows(groups, folds):
        train = np.setdiff1d(np.arange(len(y)), test)
        inner = GroupKFold(min(3, len(np.unique(groups[train]))))
        search = GridSearchCV(clone(model), grid, scoring=scoring, cv=inner, n_jobs=1)
        search.fit(x[train], y[train], groups=groups[train])
        predicted[test] = search.predict(x[test])
    return predicted


def fold_rows(groups: np.ndarray, folds: int | None) -> list[np.ndarray]:
    """Test rows of each fold; all rows of a group lie in one fold."""
    count = folds or len(np.unique(groups))
    return [test for _, test in GroupKFold(count).split(np.zeros(len(groups)), groups=groups)]


def constant(y: np.ndarray, groups: np.ndarray, folds: int | None, answer: Callable[[np.ndarray], Any]) -> np.ndarray:
    """The same answer for a whole fold, taken from the other folds: commonest class or mean."""
    predicted = np.empty_like(y)
    for test in fold_rows(groups, folds):
        predicted[test] = answer(np.delete(y, test))
    return predicted


def commonest(y: np.ndarray) -> Any:
    """The most frequent value."""
    names, count = np.unique(y, return_counts=True)
    return names[count.argmax()]


def of_classes(y: np.ndarray, predicted: np.ndarray, blocks: np.ndarray) -> Figures:
    """Figures of class names, resampled by block."""
    names = np.unique(y)
    codes = {name: code for code, name in enumerate(names)}
    truth, said = (np.array([codes[value] for value in values]) for values in (y, predicted))
    return class_figures(truth, [said], len(names), Resamples(blocks, seed=0))


def of_values(y: np.ndarray, predicted: np.ndarray, blocks: np.ndarray) -> Figures:
    """Figures of numbers, resampled by block."""
    return value_figures(y, [predicted], Resamples(blocks, seed=0))


def grid_cell(x: np.ndarray, y: np.ndarray, side: float) -> np.ndarray:
    """Name of the square cell that each point lies in."""
    return np.array(
        [f"{i}_{j}" for i, j in zip(np.floor(x / side).astype(int), np.floor(y / side).astype(int), strict=True)]
    )
