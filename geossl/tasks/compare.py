"""What stands beside a head in its report: rows of the same labels, the same blocks and the same resamples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from geossl.tasks.metrics import Figures, Resamples, class_figures, label_figures, value_figures
from geossl.tasks.spec import TaskSpec

DRAWS = 5
BUDGETS = (5, 10)
"""Labels a class at which rows are compared besides all labels."""


@dataclass(frozen=True)
class Row:
    """One way of predicting at one label budget (``None``: all labels).

    ``draws``: how many draws of labels the figures are the mean of. ``note``: what was tuned, or what it rests on.
    """

    name: str
    budget: int | None
    figures: Figures
    draws: int = 1
    note: str = ""


@dataclass(frozen=True)
class Comparison:
    """All rows; ``ours`` names the one that became the head. ``left_out``: rows that could not be made, and why."""

    rows: list[Row]
    ours: str
    headline: str
    left_out: dict[str, str]

    def row(self, name: str, budget: int | None) -> Row | None:
        """The row of this name and budget, None where there is none."""
        return next((row for row in self.rows if (row.name, row.budget) == (name, budget)), None)

    @property
    def budgets(self) -> list[int | None]:
        """Budgets in the order of their rows."""
        return list(dict.fromkeys(row.budget for row in self.rows))


class Judge:
    """Figures of predictions on test items; the same resamples for every row."""

    def __init__(self, spec: TaskSpec, truth: np.ndarray, blocks: np.ndarray, seed: int) -> None:
        self.spec, self.truth = spec, truth
        self._again = Resamples(blocks, seed)

    def figures(self, predictions: Sequence[np.ndarray]) -> Figures:
        """Figures of one prediction a draw."""
        if self.spec.kind == "multilabel":
            return label_figures(self.truth, predictions, self._again)
        if self.spec.kind == "regression":
            return value_figures(self.truth, predictions, self._again)
        return class_figures(self.truth, predictions, self.spec.outputs, self._again)


def quick_score(spec: TaskSpec, truth: np.ndarray, predicted: np.ndarray) -> float:
    """The task's headline figure without interval, higher is better: what C and learning rates are chosen by."""
    once = Resamples(np.zeros(len(truth)), 0, resamples=1)
    if spec.kind == "multilabel":
        value = label_figures(truth, [predicted], once).values["macro_ap"]
    elif spec.kind == "regression":
        value = -value_figures(truth, [predicted], once).values["rmse"]
    else:
        value = class_figures(truth, [predicted], spec.outputs, once).values["macro_f1"]
    return value if np.isfinite(value) else -np.inf


def possible_budgets(asked: int | None, most: int) -> list[int | None]:
    """Budgets to compare: the one asked for (else :data:`BUDGETS`), as far as there are more labels, and all labels."""
    wanted = (asked,) if asked is not None else BUDGETS
    return [*(budget for budget in wanted if budget < most), None]


def draw_seeds(seed: int, budget: int | None) -> list[int]:
    """Seeds of the draws of a budget; all labels are drawn once."""
    return [seed] if budget is None else [1000 * seed + 17 * budget + draw for draw in range(DRAWS)]
