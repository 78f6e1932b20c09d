"""Given validation labels; then fits are told apart by the headline figure, and by how sure they are of the truth."""

from __future__ import annotations

import numpy as np
import pytest

from geossl.tasks.choosing import judge_of
from geossl.tasks.linear import Linear, LinearKind
from geossl.tasks.spec import TaskSpec

CLASSES = TaskSpec.model_validate(
    {"name": "t", "title": "T", "kind": "classification", "classes": [{"name": "a"}, {"name": "b"}]}
)
LABELS = CLASSES.model_copy(update={"kind": "multilabel"})
NUMBERS = TaskSpec.model_validate({"name": "t", "title": "T", "kind": "regression", "unit": "m"})
X = np.array([[-2.0], [-1.0], [1.0], [2.0]], dtype=np.float32)
Y = np.array([0, 0, 1, 1])


def model(weight: list[float], kind: LinearKind = "multinomial", bias: float = 0.0) -> Linear:
    return Linear(kind, np.array(weight)[:, None], np.full(len(weight), bias), 1.0)


def score(spec: TaskSpec, one: Linear, truth: np.ndarray, soft: np.ndarray | None = None) -> float:
    judge = judge_of(spec, X, truth, soft)
    assert judge is not None
    return judge(one)


def test_without_validation_labels_nothing_judges() -> None:
    assert judge_of(CLASSES, X[:0], Y[:0]) is None


def test_of_fits_that_say_the_same_the_surer_one_wins_and_a_wrong_one_never() -> None:
    unsure, sure, wrong = (score(CLASSES, model([-w, w]), Y) for w in (0.1, 3.0, -0.1))
    assert sure > unsure > wrong


def test_a_fit_that_is_sure_of_something_wrong_pays_for_it() -> None:
    noisy = np.array([0, 1, 1, 1])
    assert score(CLASSES, model([-1.0, 1.0]), noisy) > score(CLASSES, model([-30.0, 30.0]), noisy)


def test_a_rare_class_counts_as_much_as_a_frequent_one_where_the_task_is_balanced() -> None:
    rare = np.array([0, 1, 1, 1])
    leaning = [
        score(CLASSES, model([0.0, 0.0]), rare),
        score(CLASSES, Linear("multinomial", np.zeros((2, 1)), np.array([0.0, 1.0]), 1.0), rare),
    ]
    plain = CLASSES.model_copy(update={"balanced": False})
    assert leaning[1] - leaning[0] < score(
        plain, Linear("multinomial", np.zeros((2, 1)), np.array([0.0, 1.0]), 1.0), rare
    ) - score(plain, model([0.0, 0.0]), rare)


def test_labels_and_numbers_are_judged_by_their_own_figures() -> None:
    hot = np.stack([1 - Y, Y], 1)
    assert score(LABELS, model([-3.0, 3.0], "multilabel"), hot) > score(LABELS, model([3.0, -3.0], "multilabel"), hot)
    numbers = 2.0 * X[:, 0]
    assert score(NUMBERS, model([2.0], "ridge"), numbers) == pytest.approx(0, abs=1e-6)
    assert score(NUMBERS, model([1.0], "ridge"), numbers) < -1


def test_soft_labels_are_met_best_by_their_own_proportions() -> None:
    share = 1 / (1 + np.exp(-2 * X[:, 0].astype(float)))
    soft = np.stack([1 - share, share], 1)
    met, flat, steep = (score(CLASSES, model([-w, w]), Y, soft) for w in (1.0, 0.1, 10.0))
    assert met > flat and met > steep
