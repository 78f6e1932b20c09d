"""Given features and targets; then the fit equals scikit-learn's, whatever the shape, in raw units."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge

from geossl.errors import InputError
from geossl.tasks.linear import Linear, Scaling, fit_linear


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
    halved = Scaling.of(pool, [100, 4]).weighed(4, 0.5)(pool)
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


def test_a_useless_wide_kind_beside_an_informative_narrow_one_costs_nothing() -> None:
    rng = np.random.default_rng(3)
    told = rng.normal(size=(600, 5))
    y = (told[:, :3] + rng.normal(0, 0.3, (600, 3))).argmax(1)
    both = np.concatenate([rng.normal(size=(600, 500)), told], axis=1).astype(np.float32)
    learn, val, test = slice(0, 150), slice(150, 350), slice(350, 600)

    def fitted(x: np.ndarray, widths: list[int], last: int | None) -> tuple[Linear, float]:
        model = fit_linear(
            "multinomial", x[learn], y[learn], 3, Scaling.of(x[learn], widths), balanced=True, last=last,
            judge=lambda one: float((one.predict(x[val]) == y[val]).mean()),
        )  # fmt: skip
        return model, float((model.predict(x[test]) == y[test]).mean())

    joined, accuracy = fitted(both, [500, 5], 5)
    _, alone = fitted(both[:, 500:], [5], None)
    assert joined.balance < 0.25
    assert alone > 0.75
    assert accuracy >= alone - 0.02


def test_an_informative_wide_kind_is_kept() -> None:
    rng = np.random.default_rng(4)
    told = rng.normal(size=(500, 40))
    y = (told @ rng.normal(size=(40, 3))).argmax(1)
    x = np.concatenate([told, rng.normal(size=(500, 3))], axis=1).astype(np.float32)
    model = fit_linear(
        "multinomial", x[:300], y[:300], 3, Scaling.of(x[:300], [40, 3]), balanced=True, last=3,
        judge=lambda one: float((one.predict(x[300:]) == y[300:]).mean()),
    )  # fmt: skip
    assert model.balance > 0
    assert (model.predict(x[300:]) == y[300:]).mean() > 0.8
