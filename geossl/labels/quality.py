"""What the neighbours in a feature space say of each label: keep it, look at it, or remove it.

Two witnesses that err differently are heard: the vote of the nearest labels, and a linear model that has not seen the
label's block (confident learning, Northcutt et al. 2021, arXiv:1911.00068: a class is only named against the label
where the model is at least as sure as it usually is of that class). Both against a label: remove. One: look at it.
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


@dataclass(frozen=True)
class Verdicts:
    """A verdict a label.

    ``verdict`` (n,) text; ``agreement`` (n,) share of the neighbours with the label's class (numbers: minus the robust
    score of the difference); ``instead`` (n,) the class or number that the neighbours say; ``outlier`` (n,) bool,
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
    k = min(NEIGHBOURS, len(values) - 1)
    distance, index = NearestNeighbors(n_neighbors=k + 1).fit(features).kneighbors(features)
    own = index == np.arange(len(values))[:, None]
    own[~own.any(axis=1), -1] = True  # more than k twins: itself is not among them
    index, distance = index[~own].reshape(-1, k), distance[~own].reshape(-1, k)
    outlier = _scores(np.log(distance.mean(axis=1) + 1e-9)) > _FAR
    if numbers:
        near = values[index].mean(axis=1)
        votes, model = np.abs(_scores(values - near)), np.abs(_scores(values - _ridge(features, values, blocks)))
        against = np.column_stack([votes > _FAR, model > _FAR])
        agreement, instead, doubt = -votes, near, votes + model
    else:
        classes, codes = np.unique(values, return_inverse=True)
        own_class = np.arange(len(classes)) == codes[:, None]
        share = (codes[index][:, :, None] == np.arange(len(classes))).mean(axis=1)
        # A rare class is outvoted wherever it meets a common one: votes count against its frequency.
        weighed = share / (own_class.mean(axis=0) ** 0.5)
        sure = _logistic(features, codes, len(classes), blocks)
        usual = np.array([sure[codes == one, one].mean() for one in range(len(classes))])
        other = np.where(own_class, -1.0, sure)
        named = other.argmax(axis=1)
        given = sure[np.arange(len(codes)), codes]
        by_model = (other.max(axis=1) >= np.minimum(usual[named], 0.9)) & (other.max(axis=1) > given)
        by_votes = np.where(own_class, -1, weighed).max(axis=1) > 2 * weighed[own_class]
        against = np.column_stack([by_votes, by_model])
        agreement, instead = share[own_class], classes[weighed.argmax(axis=1)]
        doubt = 2 - share[own_class] - given
    verdict = np.where(against.all(axis=1), REMOVE, np.where(against.any(axis=1) | outlier, LOOK, KEEP))
    return Verdicts(verdict, agreement, instead, outlier, doubt)


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
