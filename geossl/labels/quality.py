"""What the neighbours in a feature space say of each label: keep it, look at it, or remove it.

Two witnesses that err differently are heard: the vote of the nearest labels, and a linear model that has not seen the
label's block. What they say for a label is measured by what they usually say for labels of its class (as confident
learning does, Northcutt et al. 2021, arXiv:1911.00068). Under a quarter of the usual on average: remove. Under half:
look at it. Numbers: both witnesses far from the label, or one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GroupKFold
from sklearn.neighbors import NearestNeighbors

KEEP, LOOK, REMOVE = "keep", "look at", "remove"
NEIGHBOURS = 10
FEWEST = 6
"""Labels below which nothing can be said."""
_FOLDS = 5
_FAR = 3.5
"""Robust standard scores beyond which a number, or a distance, is an outlier."""
_LITTLE, _SOME = 0.25, 0.5
"""Support, as a share of the usual one, below which a label is to be removed, or looked at."""


@dataclass(frozen=True)
class Verdicts:
    """A verdict a label.

    ``verdict`` (n,) text; ``agreement`` (n,) share of the neighbours with the label's class (numbers: minus the robust
    score of the difference); ``instead`` (n,) the class or number that the neighbours say (see
    :func:`judge_several` for several labels); ``outlier`` (n,) bool,
    unlike all other labels; ``doubt`` (n,) float: larger is more suspicious, to sort by.
    """

    verdict: np.ndarray
    agreement: np.ndarray
    instead: np.ndarray
    outlier: np.ndarray
    doubt: np.ndarray


def judge(features: np.ndarray, values: np.ndarray, blocks: np.ndarray) -> Verdicts | None:
    """Verdicts of labels.

    Args:
        features: (n, d) of comparable scale.
        values: (n,) int64 class indices, or float numbers.
        blocks: (n,) names; a label's block is held out of the linear model that is asked about it.

    Returns:
        None where there are fewer than :data:`FEWEST` labels, or one class only: nothing can disagree.
    """
    numbers = values.dtype.kind == "f"
    if len(values) < FEWEST or len(np.unique(values)) < 2:
        return None
    index, outlier = _neighbourhood(features, 1 if numbers else len(np.unique(values)))
    if numbers:
        near = values[index].mean(axis=1)
        votes, model = np.abs(_scores(values - near)), np.abs(_scores(values - _ridge(features, values, blocks)))
        against = np.column_stack([votes > _FAR, model > _FAR])
        verdict = np.where(against.all(axis=1), REMOVE, np.where(against.any(axis=1) | outlier, LOOK, KEEP))
        return Verdicts(verdict, -votes, near, outlier, votes + model)
    classes, codes = np.unique(values, return_inverse=True)
    support, agreement, other = _support(features, index, codes, blocks)
    verdict = np.where(support < _LITTLE, REMOVE, np.where((support < _SOME) | outlier, LOOK, KEEP))
    return Verdicts(verdict, agreement, classes[other], outlier, 1 - support)


def judge_several(features: np.ndarray, values: np.ndarray, blocks: np.ndarray) -> Verdicts | None:
    """Verdicts of items that carry any of several labels, each label (yes or no) judged by itself.

    Little support for two labels of an item, or more: remove. For one, or unlike all others: look at. Labels that fewer
    than three items have, or lack, are not judged.

    Args:
        features: (n, d) of comparable scale.
        values: (n, K) 0/1.
        blocks: (n,) names.

    Returns:
        ``agreement`` is the mean over the labels, ``doubt`` the largest; ``instead`` (n, K) int8 is 1 where a label
        seems to be missing, -1 where it seems to be too much. None with too few items, or where no label can be judged.
    """
    rare = 3
    yes = values.sum(axis=0)
    judged = np.flatnonzero((yes >= rare) & (yes <= len(values) - rare))
    if len(values) < FEWEST or not len(judged):
        return None
    index, outlier = _neighbourhood(features, 2)
    instead = np.zeros(values.shape, dtype=np.int8)
    agreement, support = np.zeros((2, len(judged), len(values)))
    for place, label in enumerate(judged):
        codes = values[:, label].astype(np.int64)
        support[place], agreement[place], _ = _support(features, index, codes, blocks)
        instead[:, label] = np.where(support[place] < _LITTLE, 1 - 2 * codes, 0)
    wrong = (instead != 0).sum(axis=1)
    verdict = np.where(wrong >= 2, REMOVE, np.where((wrong == 1) | outlier, LOOK, KEEP))
    return Verdicts(verdict, agreement.mean(axis=0), instead, outlier, 1 - support.min(axis=0))


def _neighbourhood(features: np.ndarray, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """The nearest others of each (n, k), at most half of what a class has, and which are unlike all others (n,)."""
    k = min(NEIGHBOURS, max(3, len(features) // (2 * classes)))
    distance, index = NearestNeighbors(n_neighbors=k + 1).fit(features).kneighbors(features)
    own = index == np.arange(len(features))[:, None]
    own[~own.any(axis=1), -1] = True  # more than k twins: itself is not among them
    index, distance = index[~own].reshape(-1, k), distance[~own].reshape(-1, k)
    return index, _scores(np.log(distance.mean(axis=1) + 1e-9)) > _FAR


def _support(
    features: np.ndarray, index: np.ndarray, codes: np.ndarray, blocks: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What speaks for each class index (n,), 1 as usual for its class; the votes for it; the class named instead.

    Votes and model are each held against what labels of the same class usually get, so that a rare or difficult class,
    outvoted everywhere, is not suspected as a whole. A witness that knows nothing of a class is not heard on it.
    """
    every = np.arange(int(codes.max()) + 1)
    own = every == codes[:, None]
    share = (codes[index][:, :, None] == every).mean(axis=1)
    sure = _logistic(features, codes, len(every), blocks)
    ratios = np.full((2, len(codes)), np.nan)
    for ratio, said, least in zip(ratios, (share, sure), (0.05, 0.02), strict=True):
        usual = np.array([said[codes == one, one].mean() for one in every])[codes]
        ratio[usual >= least] = said[own][usual >= least] / usual[usual >= least]
    heard = np.isfinite(ratios)
    support = np.where(heard.any(axis=0), np.nansum(ratios, axis=0) / np.maximum(heard.sum(axis=0), 1), 1.0)
    return support, share[own], np.where(own, -1.0, share + sure).argmax(axis=1)


def _scores(values: np.ndarray) -> np.ndarray:
    """Robust standard scores (median and median absolute deviation)."""
    centred = values - np.median(values)
    spread = 1.4826 * np.median(np.abs(centred))
    scores: np.ndarray = centred / max(float(spread), 1e-9)
    return scores


def _folds(features: np.ndarray, blocks: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Held-out blocks; held-out labels where there is one block only."""
    groups = np.unique(blocks, return_inverse=True)[1] if len(np.unique(blocks)) > 1 else np.arange(len(blocks))
    return list(GroupKFold(min(_FOLDS, len(np.unique(groups)))).split(features, groups=groups))


def _logistic(features: np.ndarray, codes: np.ndarray, classes: int, blocks: np.ndarray) -> np.ndarray:
    """(n, K) probabilities of models that did not see the label's block; a fold of one class says that class."""
    found = np.zeros((len(codes), classes))
    for train, test in _folds(features, blocks):
        there = np.unique(codes[train])
        if len(there) == 1:
            found[test, there[0]] = 1.0
            continue
        model = LogisticRegression(C=1.0, class_weight="balanced", max_iter=200).fit(features[train], codes[train])
        found[np.ix_(test, there)] = model.predict_proba(features[test])
    return found


def _ridge(features: np.ndarray, values: np.ndarray, blocks: np.ndarray) -> np.ndarray:
    found = np.empty(len(values))
    for train, test in _folds(features, blocks):
        found[test] = Ridge(alpha=1.0).fit(features[train], values[train]).predict(features[test])
    return found
