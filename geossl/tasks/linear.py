"""Linear heads fitted to frozen features: multinomial logistic, one logistic a label, or ridge; C swept on validation.

Features come as kinds (an encoder's maps, spectral planes, random convolutions, …). Each feature is standardised over
the training pool and each kind divided by the root of its width, so that a kind with many features does not drown one
with few; then one L2 penalty holds for all. How much each kind weighs beside the others is chosen on validation too,
and every kind alone is among the candidates: joined features are never worse there than the best single kind. Where
validation is small, :class:`Folds` judge candidates on the training labels as well, by cross-validation. The fitted
weights are given back in the units of the raw features, ready for a 1 x 1 convolution.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeVar

import numpy as np
from scipy.optimize import minimize

from geossl.errors import InputError

LinearKind = Literal["multinomial", "multilabel", "ridge"]
KIND_WEIGHTS = (0.0, 0.06, 0.25, 1.0)
"""Weights of a kind of features against the others that are tried; 0 leaves it out. Only their ratios matter, since C
is tried too, so the largest is 1."""
STRENGTHS = tuple(10.0**power for power in range(-2, 5))
"""Inverse regularisation C that is tried; larger bends more to the labels."""
_ITERATIONS = 150
_PATIENCE = 2
"""Strengths in a row without a better score after which weaker penalties, the slowest to fit, are not tried."""
_EXACT = 200_000
"""Numbers in a matrix of features up to which fits are in double precision."""
_SEARCH_ROWS = 600
"""Rows on which weights of kinds are searched at most; the kinds alone and the weights found are fitted to all rows."""
_OF_A_CLASS = 20
"""Rows of each class that are among them, as far as there are so many."""
_PASSES = 2


@dataclass(frozen=True)
class Scaling:
    """How raw features become comparable: ``(x - mean) * factor``; a feature that never varies has factor 0."""

    mean: np.ndarray
    factor: np.ndarray

    def weighed(self, kinds: Sequence[int], weights: Sequence[float]) -> Scaling:
        """The same, every kind (of so many features) multiplied by its weight."""
        return Scaling(self.mean, self.factor * np.repeat(np.asarray(weights, dtype=np.float64), kinds))

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
    weights: Mapping[str, float] = field(default_factory=dict)
    """Of each kind of features against the others, where there are several; the largest is 1."""

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


Judge = Callable[[Linear], float]
"""How well a fit does on validation labels, higher is better."""


@dataclass(frozen=True)
class Folds:
    """Cross-validation: training rows are judged by a fit that has not seen their fold.

    ``number`` (n,) is the fold of each training row, -1 of those that are learnt from alone. ``beside`` (m, F) are raw
    features of further rows, judged by the fit to all training rows. Both callables take scores (judged + m, K), those
    of training rows first: ``worth`` says how well a candidate does, higher is better; ``surely(first, second)``
    whether the first is better than the second by more than chance.
    """

    number: np.ndarray
    beside: np.ndarray
    worth: Callable[[np.ndarray], float]
    surely: Callable[[np.ndarray, np.ndarray], bool]


def settled(models: Sequence[Linear]) -> str:
    """What validation chose for these fits, for the report."""
    said = ["C " + _each(model.strength for model in models)]
    weighed = [model.weights for model in models if len(model.weights) > 1]
    said += [f"{name} x {_each(one[name] for one in weighed)}" for name in (weighed[0] if weighed else {})]
    return "; ".join(said)


def _each(values: Iterable[float]) -> str:
    return ", ".join(f"{one:g}" for one in sorted(set(values)))


def fit_linear(
    kind: LinearKind,
    features: np.ndarray,
    targets: np.ndarray,
    outputs: int,
    scaling: Scaling,
    *,
    balanced: bool,
    judge: Judge | Folds | None,
    kinds: Mapping[str, int] | None = None,
    strengths: Sequence[float] = STRENGTHS,
) -> Linear:
    """Fit with every strength, and several weights of kinds, and keep the fit that ``judge`` likes best.

    Candidates are each kind alone, narrow kinds first, and then the weights that a coordinate search from equal weights
    (or from the best single kind) ends at; a later one is taken only where its score is higher. With folds, candidates
    are equal weights and each kind alone, and a kind is alone only where that is surely better (Breiman et al. 1984:
    the simpler choice stays within one standard error).

    Args:
        kind: ``multinomial`` (targets (n,) class indices, or (n, K) proportions of classes, rows summing to 1, whose
            cross-entropy is minimised), ``multilabel`` ((n, K) 0/1), ``ridge`` ((n,) numbers).
        features: (n, F) float32, raw.
        targets: as said.
        outputs: K.
        scaling: of the training pool.
        balanced: multinomial only: every class weighs the same in the loss.
        judge: the validation score, or folds of the training rows; None where there is no validation part; then C = 1
            and kinds weigh alike.
        kinds: names of the kinds of features and how many of each, in their order; without it they are one kind.
        strengths: what is tried, weakest fit first; of equal scores the stronger penalty wins.

    Raises:
        InputError: the training labels show fewer than two classes.
    """
    named = dict(kinds) if kinds is not None else {"features": features.shape[1]}
    wanted = _wanted(kind, targets, outputs)
    problem = _Problem(kind, features, scaling(features), wanted, outputs, balanced, scaling, named)
    if judge is None:
        return next(problem.fits((1.0,) * len(named), (1.0,)))
    if isinstance(judge, Folds):
        return _by_folds(problem, strengths, judge)
    best = max((problem.best(weights, strengths, judge) for weights in problem.alone()), key=lambda found: found[0])
    if len(named) > 1:
        if len(features) <= _SEARCH_ROWS:
            joined = _searched(problem, strengths, judge, best)
        else:
            fewer = problem.thinned()
            found = _searched(fewer, strengths, judge, fewer.best(_weights(best[1]), strengths, judge))
            joined = problem.best(_weights(found[1]), strengths, judge)
        best = joined if joined[0] > best[0] + _EVEN else best
    return best[1]


Found = tuple[float, Linear]
T = TypeVar("T")
_EVEN = 1e-9


def _best(scored: Iterable[tuple[float, T]]) -> tuple[float, T]:
    """The highest score and what it is of; of equal scores the first. A few without a better one end the search."""
    found: tuple[float, T] | None = None
    waited = 0
    for score, one in scored:
        waited += 1
        if found is None or score > found[0] + _EVEN:
            found, waited = (score, one), 0
        if waited >= _PATIENCE:
            break
    assert found is not None
    return found


def _by_folds(problem: _Problem, strengths: Sequence[float], folds: Folds) -> Linear:
    """Equal weights, or the best kind alone where that is surely better."""

    def best(weights: tuple[float, ...]) -> tuple[float, tuple[Linear, np.ndarray]]:
        return _best((folds.worth(said), (model, said)) for model, said in problem.crossed(weights, strengths, folds))

    _, (joined, said) = best((1.0,) * len(problem.kinds))
    if len(problem.kinds) == 1:
        return joined
    _, (single, other) = max((best(weights) for weights in problem.alone()), key=lambda found: found[0])
    return single if folds.surely(other, said) else joined


def _searched(problem: _Problem, strengths: Sequence[float], judge: Judge, alone: Found) -> Found:
    """The best weights by coordinates: from equal weights, or from the best kind alone where that is better."""
    equal, start = (1.0,) * len(problem.kinds), _weights(alone[1])
    best = problem.best(equal, strengths, judge)
    if alone[0] > best[0] + _EVEN:
        best = alone
    tried = {equal, start}
    for _ in range(_PASSES):
        before = best[0]
        for place in range(len(start)):
            for value in KIND_WEIGHTS:
                weights = list(_weights(best[1]))
                weights[place] = value
                top = max(weights)
                candidate = tuple(one / top for one in weights) if top else start
                if candidate in tried:
                    continue
                tried.add(candidate)
                found = problem.best(candidate, _near(best[1].strength, strengths), judge)
                best = found if found[0] > best[0] + _EVEN else best
        if best[0] <= before + _EVEN:
            break
    return best


def _weights(model: Linear) -> tuple[float, ...]:
    return tuple(model.weights.values())


def _near(strength: float, strengths: Sequence[float]) -> Sequence[float]:
    """A strength and those beside it."""
    place = list(strengths).index(strength)
    return strengths[max(place - 1, 0) : place + 2]


def _wanted(kind: LinearKind, targets: np.ndarray, outputs: int) -> np.ndarray:
    """Targets as float64: (n, K), or (n,) of a ridge."""
    if kind != "multinomial" or targets.ndim == 2:
        return np.asarray(targets, dtype=np.float64)
    hot = np.zeros((len(targets), outputs))
    hot[np.arange(len(targets)), targets] = 1.0
    return hot


@dataclass(frozen=True)
class _Problem:
    """All raw features, scaled ones (n, F) of the rows that are fitted with their targets as :func:`_wanted` gives
    them, and what stands in :func:`fit_linear`.
    """

    kind: LinearKind
    raw: np.ndarray
    x: np.ndarray
    wanted: np.ndarray
    outputs: int
    balanced: bool
    scaling: Scaling
    kinds: dict[str, int]

    def thinned(self) -> _Problem:
        """About :data:`_SEARCH_ROWS` rows, drawn once and for all, some of every class among them."""
        order = np.random.default_rng(0).permutation(len(self.x))
        chosen = [order[:_SEARCH_ROWS]]
        if self.wanted.ndim == 2:
            chosen += [order[self.wanted[order, number] > 0][:_OF_A_CLASS] for number in range(self.outputs)]
        return self.only(np.unique(np.concatenate(chosen)))

    def only(self, some: np.ndarray) -> _Problem:
        """Some of the rows, by position or as a mask."""
        return replace(self, x=self.x[some], wanted=self.wanted[some])

    def alone(self) -> list[tuple[float, ...]]:
        """Weights of each kind alone, narrow kinds first."""
        order = np.argsort(list(self.kinds.values()), kind="stable")
        return [tuple(float(place == other) for other in range(len(order))) for place in order]

    def best(self, weights: tuple[float, ...], strengths: Sequence[float], judge: Judge) -> Found:
        """The highest score and its fit; of equal scores the stronger penalty."""
        return _best((judge(model), model) for model in self.fits(weights, strengths))

    def crossed(
        self, weights: tuple[float, ...], strengths: Sequence[float], folds: Folds
    ) -> Iterator[tuple[Linear, np.ndarray]]:
        """The fit of each strength, and the scores that :class:`Folds` judge it by."""
        judged = folds.number >= 0
        numbers = np.unique(folds.number[judged])
        others = [self.only(folds.number != one).fits(weights, strengths) for one in numbers]
        for model, *parts in zip(self.fits(weights, strengths), *others, strict=True):
            scores = np.empty((len(self.raw), self.outputs), dtype=np.float32)
            for one, part in zip(numbers, parts, strict=True):
                here = folds.number == one
                scores[here] = part.scores(self.raw[here])
            yield model, np.concatenate([scores[judged], model.scores(folds.beside)])

    def fits(self, weights: tuple[float, ...], strengths: Sequence[float]) -> Iterator[Linear]:
        """A fit a strength, with these weights of the kinds, made as they are asked for."""
        weight_of = np.repeat(weights, list(self.kinds.values()))
        used = np.flatnonzero(weight_of)
        basis, x = _row_space(self.x[:, used] * weight_of[used].astype(np.float32))
        if self.kind == "ridge":
            found = _ridge(x, self.wanted, strengths)
        else:
            found = _logistic(self.kind, x, self.wanted, strengths, self.balanced)
        factor = self.scaling.factor[used] * weight_of[used]
        for strength, (weight, bias) in zip(strengths, found, strict=False):
            raw = np.zeros((self.outputs, len(weight_of)))
            raw[:, used] = (weight if basis is None else weight @ basis) * factor
            named = dict(zip(self.kinds, weights, strict=True))
            yield Linear(self.kind, raw, bias - raw @ self.scaling.mean, float(strength), named)


Fit = tuple[np.ndarray, np.ndarray]


def _row_space(x: np.ndarray) -> tuple[np.ndarray | None, np.ndarray]:
    """With far fewer rows than features: an orthonormal basis of the rows and x in it.

    The solution of an L2-penalised fit lies in the span of the rows, so nothing is lost and few labels fit at once.
    """
    if 2 * len(x) >= x.shape[1]:
        return None, x.astype(np.float64) if x.size < _EXACT else x
    basis, triangle = np.linalg.qr(x.T.astype(np.float64))  # (F, n), (n, n)
    return basis.T, triangle.T if triangle.size < _EXACT else triangle.T.astype(np.float32)


def _ridge(x: np.ndarray, y: np.ndarray, strengths: Sequence[float]) -> Iterator[Fit]:
    """Closed form with an unpenalised intercept."""
    mean_x, mean_y = x.mean(axis=0), float(np.mean(y))
    centred = (x - mean_x).astype(np.float64)
    gram, moment = centred.T @ centred, centred.T @ (y - mean_y)
    for strength in strengths:
        weight = np.linalg.solve(gram + np.eye(x.shape[1]) / strength, moment)
        yield weight[None], np.array([mean_y - mean_x @ weight])


def _logistic(
    kind: LinearKind, x: np.ndarray, wanted: np.ndarray, strengths: Sequence[float], balanced: bool
) -> Iterator[Fit]:
    """Minimise sum of losses + |w|^2 / 2C by L-BFGS, each strength from the one before it; biases are not penalised.

    The scale of the loss is that of scikit-learn's LogisticRegression.
    """
    (n, width), outputs = x.shape, wanted.shape[1]
    absent = np.zeros(outputs, dtype=bool)
    if kind == "multinomial":
        counts = wanted.sum(axis=0)
        absent = counts == 0
        if (~absent).sum() < 2:
            raise InputError(
                "the training labels show one class only",
                expected="labels of at least two classes in the training blocks",
                found=f"class {int(counts.argmax())} alone, {n} times",
                remedy="give labels of other classes, spread over more tiles",
            )
        if balanced:
            wanted = wanted * np.where(absent, 0.0, n / np.where(absent, 1.0, counts * (~absent).sum()))
    mass = wanted.sum(axis=1, keepdims=True)

    def loss(flat: np.ndarray, strength: float) -> tuple[float, np.ndarray]:
        theta = flat.reshape(outputs, width + 1)
        logits = x @ theta[:, :-1].T.astype(x.dtype) + theta[:, -1]
        if kind == "multinomial":
            logits = np.where(absent, -1e9, logits)
            top = logits.max(axis=1, keepdims=True)
            exp = np.exp(logits - top)
            total = exp.sum(axis=1, keepdims=True)
            losses = (np.log(total) + top) * mass - (wanted * logits).sum(axis=1, keepdims=True)
            slope = exp / total * mass - wanted
        else:
            losses = np.logaddexp(0, logits) - wanted * logits
            slope = 0.5 * (1 + np.tanh(logits / 2)) - wanted
        gradient = np.empty_like(theta)
        gradient[:, :-1] = slope.T.astype(x.dtype) @ x + theta[:, :-1] / strength
        gradient[:, -1] = slope.sum(axis=0)
        value = float(losses.sum()) + float((theta[:, :-1] ** 2).sum()) / (2 * strength)
        return value / n, gradient.ravel() / n

    theta = np.zeros((outputs, width + 1))
    for strength in strengths:
        options = {"maxiter": _ITERATIONS, "gtol": 1e-5}
        done = minimize(loss, theta.ravel(), args=(strength,), jac=True, method="L-BFGS-B", options=options)
        theta = np.asarray(done.x).reshape(outputs, width + 1)
        if absent.any():
            theta[absent, -1] = -1e4  # a class nobody has labelled is never predicted
            theta[absent, :-1] = 0.0
        yield theta[:, :-1].copy(), theta[:, -1].copy()
