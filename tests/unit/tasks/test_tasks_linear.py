"""Given features and targets; then the fit equals scikit-learn's, whatever the shape, in raw units."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge

from geossl.errors import InputError
from geossl.tasks.linear import KIND_WEIGHTS, Linear, Scaling, fit_linear, settled


def data(n: int, width: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(3, [0.1, 50, *np.ones(width - 2)], (n, width)).astype(np.float32)
    noisy = np.stack([x[:, 0] * 10, x[:, 1] / 50, x[:, 2]], 1) + rng.normal(0, 0.5, (n, 3))
    return x, (noisy - noisy.mean(0)).argmax(1)


@pytest.mark.parametrize(("n", "width"), [(200, 6), (40, 120)])
def test_the_multinomial_fit_is_scikit_learns_also_with_more_features_than_rows(n: int, width: int) -> None:
    x, y = data(n, width)
    scaling = Scaling.of(x, [width])
    ours = fit_linear("multinomial", x, y, 3, scaling, balanced=True, judge=lambda model: -abs(model.strength - 10))
    theirs = LogisticRegression(C=10, class_weight="balanced", max_iter=5000, tol=1e-8).fit(scaling(x), y)
    probabilities = np.exp(ours.scores(x) - ours.scores(x).max(1, keepdims=True))
    probabilities /= probabilities.sum(1, keepdims=True)
    assert ours.strength == 10
    assert np.abs(probabilities - theirs.predict_proba(scaling(x))).max() < 0.02
    assert (ours.predict(x) == theirs.predict(scaling(x))).mean() > 0.99


def test_label_fits_are_independent_logistic_regressions() -> None:
    x, y = data(150, 5)
    targets = np.stack([y == 0, y == 1], 1).astype(np.uint8)
    scaling = Scaling.of(x, [5])
    ours = fit_linear("multilabel", x, targets, 2, scaling, balanced=True, judge=None)
    for label in range(2):
        theirs = LogisticRegression(C=1, max_iter=5000, tol=1e-8).fit(scaling(x), targets[:, label])
        assert np.abs(ours.predict(x)[:, label] - theirs.predict_proba(scaling(x))[:, 1]).max() < 0.01


def test_ridge_is_scikit_learns() -> None:
    x, _ = data(50, 8)
    y = x[:, 0] * 4 + x[:, 1] / 25
    scaling = Scaling.of(x, [8])
    ours = fit_linear("ridge", x, y, 1, scaling, balanced=False, judge=None)
    assert np.allclose(ours.predict(x), Ridge(alpha=1).fit(scaling(x), y).predict(scaling(x)), atol=1e-2)


def test_a_kind_with_many_features_does_not_drown_one_with_few() -> None:
    rng = np.random.default_rng(1)
    pool = rng.normal(size=(100, 104)).astype(np.float32)
    scaled = Scaling.of(pool, [100, 4])(pool)
    assert np.allclose([(scaled[:, :100] ** 2).sum(1).mean(), (scaled[:, 100:] ** 2).sum(1).mean()], 1, atol=1e-3)
    halved = Scaling.of(pool, [100, 4]).weighed([100, 4], [0.5, 1])(pool)
    assert np.allclose(halved[:, :100], scaled[:, :100] / 2) and np.allclose(halved[:, 100:], scaled[:, 100:])


def test_a_constant_feature_is_silent_and_a_class_without_labels_is_never_said() -> None:
    x, y = data(80, 5)
    x[:, 4] = 7
    model = fit_linear("multinomial", x, y, 4, Scaling.of(x, [5]), balanced=True, judge=None)
    assert (model.weight[:3, 4] == 0).all()
    assert 3 not in model.predict(np.random.default_rng(0).normal(0, 1000, (500, 5)).astype(np.float32))


def test_one_class_alone_is_refused() -> None:
    x, _ = data(20, 5)
    with pytest.raises(InputError, match="one class only"):
        fit_linear("multinomial", x, np.ones(20, int), 3, Scaling.of(x, [5]), balanced=True, judge=None)


def test_of_equal_scores_the_stronger_penalty_wins() -> None:
    x, y = data(60, 5)
    model = fit_linear("multinomial", x, y, 3, Scaling.of(x, [5]), balanced=False, judge=lambda one: 0.5)
    assert isinstance(model, Linear) and model.strength == pytest.approx(0.01)


def judged_on(x: np.ndarray, y: np.ndarray) -> Callable[[Linear], float]:
    return lambda model: float((model.predict(x) == y).mean())


def test_a_useless_wide_kind_beside_an_informative_narrow_one_costs_nothing() -> None:
    rng = np.random.default_rng(3)
    told = rng.normal(size=(600, 5))
    y = (told[:, :3] + rng.normal(0, 0.3, (600, 3))).argmax(1)
    both = np.concatenate([rng.normal(size=(600, 500)), told], axis=1).astype(np.float32)
    learn, val, test = slice(0, 150), slice(150, 350), slice(350, 600)

    def fitted(x: np.ndarray, kinds: dict[str, int]) -> tuple[Linear, float]:
        model = fit_linear(
            "multinomial", x[learn], y[learn], 3, Scaling.of(x[learn], list(kinds.values())), balanced=True,
            kinds=kinds, judge=judged_on(x[val], y[val]),
        )  # fmt: skip
        return model, judged_on(x[test], y[test])(model)

    joined, accuracy = fitted(both, {"noise": 500, "told": 5})
    _, alone = fitted(both[:, 500:], {"told": 5})
    assert joined.weights["noise"] < 0.25 and joined.weights["told"] == 1
    assert alone > 0.75
    assert accuracy >= alone - 0.02


def test_an_informative_wide_kind_is_kept() -> None:
    rng = np.random.default_rng(4)
    told = rng.normal(size=(500, 40))
    y = (told @ rng.normal(size=(40, 3))).argmax(1)
    x = np.concatenate([told, rng.normal(size=(500, 3))], axis=1).astype(np.float32)
    model = fit_linear(
        "multinomial", x[:300], y[:300], 3, Scaling.of(x[:300], [40, 3]), balanced=True,
        kinds={"told": 40, "noise": 3}, judge=judged_on(x[300:], y[300:]),
    )  # fmt: skip
    assert model.weights["told"] == 1
    assert judged_on(x[300:], y[300:])(model) > 0.8


@pytest.mark.parametrize(
    ("kind", "rows"), [("multinomial", 60), ("multilabel", 60), ("ridge", 60), ("multinomial", 1700)]
)
def test_joined_kinds_are_never_worse_on_validation_than_the_best_of_them(kind: str, rows: int) -> None:
    """Also where weights are searched on fewer rows than there are."""
    rng = np.random.default_rng(rows)
    x = rng.normal(size=(rows + 300, 14)).astype(np.float32)
    hidden = x[:, [0, 5, 11]] + 0.4 * x[:, [1, 6, 12]] + rng.normal(0, 0.5, (len(x), 3))
    y = {"multinomial": hidden.argmax(1), "multilabel": (hidden > 0).astype(float), "ridge": hidden.sum(1)}[kind]
    kinds = {"one": 5, "two": 6, "three": 3}

    def judge_for(columns: slice) -> Callable[[Linear], float]:
        seen, truth = x[rows:, columns], y[rows:]
        if kind == "ridge":
            return lambda model: -float(((model.predict(seen) - truth) ** 2).mean())
        return lambda model: (
            float(((model.predict(seen) > 0.5) == truth).mean())
            if kind == "multilabel"
            else judged_on(seen, truth)(model)
        )

    def score(columns: slice, some: dict[str, int]) -> tuple[float, Linear]:
        judge = judge_for(columns)
        model = fit_linear(
            kind, x[:rows, columns], y[:rows], 1 if kind == "ridge" else 3,  # type: ignore[arg-type]
            Scaling.of(x[:rows, columns], list(some.values())), balanced=True, kinds=some, judge=judge,
            strengths=(0.1, 1.0, 10.0),
        )  # fmt: skip
        return judge(model), model

    joined, model = score(slice(0, 14), kinds)
    alone = [score(part, {"it": part.stop - part.start})[0] for part in (slice(0, 5), slice(5, 11), slice(11, 14))]
    assert joined > max(alone) if kind == "ridge" else joined >= max(alone)
    assert max(model.weights.values()) == 1 and set(model.weights.values()) <= set(KIND_WEIGHTS)


def test_proportions_teach_what_one_class_a_label_cannot() -> None:
    """Half and half of two classes: a hard label is wrong by half; the proportions are met."""
    rng = np.random.default_rng(6)
    mix = rng.uniform(size=400)
    x = np.stack([mix, rng.normal(size=400)], 1).astype(np.float32)
    shares = np.stack([1 - mix, mix, np.zeros(400)], 1)

    def error(targets: np.ndarray) -> float:
        model = fit_linear(
            "multinomial", x, targets, 3, Scaling.of(x, [2]), balanced=False, judge=None, strengths=(100.0,)
        )
        scores = model.scores(x)
        said = np.exp(scores - scores.max(1, keepdims=True))
        said /= said.sum(1, keepdims=True)
        assert (said[:, 2] < 1e-6).all()
        return float(np.abs(said - shares).mean())

    assert error(shares) < 0.04 < 0.1 < error(shares.argmax(1))


def test_certain_proportions_are_classes() -> None:
    x, y = data(80, 5)
    soft, hard = (
        fit_linear("multinomial", x, targets, 3, Scaling.of(x, [5]), balanced=True, judge=None)
        for targets in (np.eye(3)[y], y)
    )
    assert np.allclose(soft.weight, hard.weight, atol=1e-6)


def test_draws_that_weigh_kinds_and_draws_that_do_not_are_told_together() -> None:
    weight, bias = np.zeros((2, 2)), np.zeros(2)
    alike = Linear("multinomial", weight, bias, 1.0, {"features": 1.0})
    weighed = Linear("multinomial", weight, bias, 10.0, {"encoder": 0.25, "spectral": 1.0})
    assert settled([alike, weighed]) == "C 1, 10; encoder x 0.25; spectral x 1"
    assert settled([alike]) == "C 1"
