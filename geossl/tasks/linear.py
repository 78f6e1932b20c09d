"""Linear heads fitted to frozen features: multinomial logistic, one logistic a label, or ridge; C swept on validation.

Features come as kinds (an encoder's maps, spectral planes, …). Each feature is standardised over the training pool and
each kind divided by the root of its width, so that a kind with many features does not drown one with few; then one L2
penalty holds for all. The fitted weights are given back in the units of the raw features, ready for a 1 x 1
convolution.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.optimize import minimize

from geossl.errors import InputError

LinearKind = Literal["multinomial", "multilabel", "ridge"]
BALANCES = (0.0, 0.06, 0.25, 1.0)
"""Weights of the first kinds of features against the last that are tried; 0 leaves the first ones out, so that joining
kinds is never worse on the validation part than the last ones alone. Of equal scores the smallest weight wins."""
STRENGTHS = tuple(10.0**power for power in range(-2, 5))
"""Inverse regularisation C that is tried; larger bends more to the labels."""
_ITERATIONS = 150


@dataclass(frozen=True)
class Scaling:
    """How raw features become comparable: ``(x - mean) * factor``; a feature that never varies has factor 0."""

    mean: np.ndarray
    factor: np.ndarray

    def weighed(self, last: int, balance: float) -> Scaling:
        """The same, every kind but the last (of ``last`` features) multiplied by ``balance``."""
        factor = self.factor.copy()
        factor[: len(factor) - last] *= balance
        return Scaling(self.mean, factor)

    @classmethod
    def of(cls, pool: np.ndarray, widths: Sequence[int]) -> Scaling:
        """From a pool of features (n, sum of ``widths``); ``widths`` are the numbers of features of each kind."""
        mean = pool.mean(axis=0, dtype=np.float64)
        std = pool.std(axis=0, dtype=np.float64)
        root = np.repeat(np.sqrt(np.asarray(widths, dtype=np.float64)), widths)
        factor = np.where(std > 1e-6, 1 / np.maximum(std, 1e-6), 0.0) / root
        return cls(mean, factor)

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Scaled features, float32."""
        return ((features - self.mean.astype(np.float32)) * self.factor.astype(np.float32)).astype(np.float32)


@dataclass(frozen=True)
class Linear:
    """A linear map on raw features: ``features @ weight.T + bias``; weight (K, F), bias (K,), float64."""

    kind: LinearKind
    weight: np.ndarray
    bias: np.ndarray
    strength: float
    balance: float = 1.0

    def scores(self, features: np.ndarray) -> np.ndarray:
        """Logits or values (n, K) of raw features (n, F)."""
        return features @ self.weight.T.astype(np.float32) + self.bias.astype(np.float32)

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Class indices (n,), label probabilities (n, K), or values (n,)."""
        scores = self.scores(features)
        if self.kind == "multinomial":
            return scores.argmax(axis=1)
        if self.kind == "multilabel":
            return 1 / (1 + np.exp(-scores))
        return scores[:, 0]


def settled(models: Sequence[Linear]) -> str:
    """What validation chose for these fits, for the report."""
    strengths = ", ".join(f"{one:g}" for one in sorted({model.strength for model in models}))
    balances = sorted({model.balance for model in models})
    return f"C {strengths}" + (f"; encoder x {', '.join(f'{one:g}' for one in balances)}" if balances != [1.0] else "")


def fit_linear(
    kind: LinearKind,
    features: np.ndarray,
    targets: np.ndarray,
    outputs: int,
    scaling: Scaling,
    *,
    balanced: bool,
    judge: Callable[[Linear], float] | None,
    last: int | None = None,
    strengths: Sequence[float] = STRENGTHS,
) -> Linear:
    """Fit with every strength (and balance) and keep the fit that ``judge``, the validation score, likes best.

    Args:
        kind: ``multinomial`` (targets (n,) class indices), ``multilabel`` ((n, K) 0/1), ``ridge`` ((n,) numbers).
        features: (n, F) float32, raw.
        targets: as said.
        outputs: K.
        scaling: of the training pool.
        balanced: multinomial only: every class weighs the same in the loss.
        judge: None where there is no validation part; then C = 1.
        last: width of the last kind of features, whose weight against the others is then tried too.
        strengths: what is tried, weakest fit first; of equal scores the stronger penalty wins.

    Raises:
        InputError: the training labels show fewer than two classes.
    """
    best: tuple[float, Linear] | None = None
    for balance in BALANCES if last is not None and judge is not None else (1.0,):
        weighed = scaling if last is None else scaling.weighed(last, balance)
        basis, x = _row_space(weighed(features))
        start: np.ndarray | None = None
        for strength in strengths if judge is not None else (1.0,):
            if kind == "ridge":
                weight, bias = _ridge(x, targets, strength)
            else:
                start = _logistic(kind, x, targets, outputs, strength, balanced, start)
                weight, bias = start[:, :-1], start[:, -1]
            weight = weight if basis is None else weight @ basis
            raw = weight * weighed.factor
            model = Linear(kind, raw, bias - raw @ scaling.mean, float(strength), balance)
            score = judge(model) if judge is not None else 0.0
            if best is None or score > best[0] + 1e-9:
                best = (score, model)
    assert best is not None
    return best[1]


def _row_space(x: np.ndarray) -> tuple[np.ndarray | None, np.ndarray]:
    """With fewer rows than features: an orthonormal basis of the rows and x in it.

    The solution of an L2-penalised fit lies in the span of the rows, so nothing is lost and few labels fit at once.
    """
    if len(x) >= x.shape[1]:
        return None, x.astype(np.float64) if x.size < 20_000_000 else x
    basis, triangle = np.linalg.qr(x.T.astype(np.float64))  # (F, n), (n, n)
    return basis.T, triangle.T


def _ridge(x: np.ndarray, y: np.ndarray, strength: float) -> tuple[np.ndarray, np.ndarray]:
    """Closed form with an unpenalised intercept."""
    mean_x, mean_y = x.mean(axis=0), float(np.mean(y))
    centred = (x - mean_x).astype(np.float64)
    gram = centred.T @ centred + np.eye(x.shape[1]) / strength
    weight = np.linalg.solve(gram, centred.T @ (np.asarray(y, dtype=np.float64) - mean_y))
    return weight[None], np.array([mean_y - mean_x @ weight])


def _logistic(
    kind: LinearKind,
    x: np.ndarray,
    y: np.ndarray,
    outputs: int,
    strength: float,
    balanced: bool,
    start: np.ndarray | None,
) -> np.ndarray:
    """Minimise sum of losses + |w|^2 / 2C by L-BFGS: (K, F + 1), the last column is the unpenalised bias.

    The scale of the loss is that of scikit-learn's LogisticRegression.
    """
    n, width = x.shape
    if kind == "multinomial":
        counts = np.bincount(y, minlength=outputs)
        if (counts > 0).sum() < 2:
            raise InputError(
                "the training labels show one class only",
                expected="labels of at least two classes in the training blocks",
                found=f"class {int(counts.argmax())} alone, {n} times",
                remedy="give labels of other classes, spread over more tiles",
            )
        weights = np.where(counts > 0, n / (np.maximum(counts, 1) * (counts > 0).sum()), 0.0)[y] if balanced else 1.0
        hot = np.zeros((n, outputs))
        hot[np.arange(n), y] = 1.0
        weights = np.broadcast_to(np.asarray(weights, dtype=np.float64), (n,))[:, None]
        absent = counts == 0
    else:
        hot, weights, absent = y.astype(np.float64), np.ones((n, 1)), np.zeros(outputs, dtype=bool)

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        theta = flat.reshape(outputs, width + 1)
        logits = x @ theta[:, :-1].T.astype(x.dtype) + theta[:, -1]
        if kind == "multinomial":
            logits = np.where(absent, -1e9, logits)
            top = logits.max(axis=1, keepdims=True)
            exp = np.exp(logits - top)
            total = exp.sum(axis=1, keepdims=True)
            losses = (np.log(total) + top - (hot * logits).sum(axis=1, keepdims=True)) * weights
            slope = (exp / total - hot) * weights
        else:
            losses = np.logaddexp(0, logits) - hot * logits
            slope = 0.5 * (1 + np.tanh(logits / 2)) - hot
        gradient = np.empty_like(theta)
        gradient[:, :-1] = slope.T.astype(x.dtype) @ x + theta[:, :-1] / strength
        gradient[:, -1] = slope.sum(axis=0)
        value = float(losses.sum()) + float((theta[:, :-1] ** 2).sum()) / (2 * strength)
        return value / n, gradient.ravel() / n

    first = np.zeros((outputs, width + 1)) if start is None else start
    found = minimize(loss, first.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": _ITERATIONS, "gtol": 1e-5})
    theta = np.asarray(found.x).reshape(outputs, width + 1)
    if kind == "multinomial" and absent.any():
        theta[absent, -1] = -1e4  # a class nobody has labelled is never predicted
        theta[absent, :-1] = 0.0
    return theta
