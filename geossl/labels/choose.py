"""Which unlabelled places to label next: where a model is unsure, unlike each other, spread over blocks."""

from __future__ import annotations

import numpy as np
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neighbors import NearestNeighbors

_AXES = 32
"""Principal axes on which candidates are clustered at most."""
_NEAR = 20
"""Neighbours whose distance says how typical a place is."""
_COMMITTEE = 10


def choose(
    features: np.ndarray,
    doubt: np.ndarray,
    blocks: np.ndarray,
    count: int,
    seed: int,
    known: np.ndarray | None = None,
) -> np.ndarray:
    """Typical places of what is not labelled yet (after TypiClust, Hacohen et al. 2022, arXiv:2202.02794), by doubt.

    With few labels the least sure places are odd ones, which teach less than places at random. So candidates and
    labelled places are clustered by k-means, into as many clusters as there are labels and wishes (twice the wishes
    without labels); of the clusters
    without a label those with the most doubt in sum come first, and of each the place that is typical (near to its
    neighbours) and in doubt is taken. No block gets more than twice its share while others have candidates.

    Args:
        features: (n, d) of comparable scale.
        doubt: (n,) at least 0; all alike counts as none.
        blocks: (n,) names.
        count: how many.
        seed: of k-means.
        known: (m, d) features of labelled places, on the same scale.

    Returns:
        Indices, the least sure first; fewer than ``count`` only where there are fewer candidates.
    """
    count = min(count, len(features))
    if count == 0:
        return np.empty(0, dtype=np.int64)
    labelled = features[:0] if known is None else known
    points = np.concatenate([features, labelled])
    axes = min(_AXES, *points.shape)
    if axes < features.shape[1]:
        points = PCA(axes, random_state=seed).fit_transform(points)
    doubting = np.ptp(doubt) > 1e-9
    spare = min(len(labelled), 4 * count) if len(labelled) else count if doubting else 0
    clusters = min(count + spare, len(points))
    member = KMeans(clusters, n_init=1, random_state=seed).fit(points).labels_
    covered = np.isin(np.arange(clusters), member[len(features) :])
    points, member = points[: len(features)], member[: len(features)]
    near = NearestNeighbors(n_neighbors=min(_NEAR, len(points))).fit(points).kneighbors(points)[0].mean(axis=1)
    weight = doubt if doubting else np.ones(len(features))
    worth = weight / (near + 1e-9)
    first = np.lexsort((-np.bincount(member, weights=weight, minlength=clusters), covered))
    code = np.unique(blocks, return_inverse=True)[1]
    held, most = np.zeros(code.max() + 1, dtype=int), max(1, int(np.ceil(2 * count / (code.max() + 1))))
    free, taken = np.ones(len(features), dtype=bool), list[int]()
    # Cluster by cluster, from blocks that are not full; again while places are wanted; at last from any block.
    while len(taken) < count:
        before = len(taken)
        for cluster in first:
            allowed = free & (member == cluster) & (held[code] < most)
            if len(taken) < count and allowed.any():
                place = int(np.where(allowed, worth, -np.inf).argmax())
                taken.append(place)
                free[place] = False
                held[code[place]] += 1
        if len(taken) == before:
            most = count
    chosen = np.array(taken, dtype=np.int64)
    return chosen[np.argsort(-doubt[chosen], kind="stable")]


def entropy(probabilities: np.ndarray, several: bool = False) -> np.ndarray:
    """(n,) doubt of probabilities (n, K), from 0 (sure) to 1 (every class alike).

    The entropy of the classes; where ``several`` may hold at once, the mean entropy of each yes and no.
    """
    p = np.clip(probabilities.astype(np.float64), 1e-12, 1)
    if several:
        q = np.clip(1 - p, 1e-12, 1)
        both: np.ndarray = -(p * np.log(p) + q * np.log(q)).mean(axis=1) / np.log(2)
        return both
    found: np.ndarray = -(p * np.log(p)).sum(axis=1) / np.log(max(p.shape[1], 2))
    return found


def learned_doubt(known: np.ndarray, values: np.ndarray, candidates: np.ndarray, seed: int) -> np.ndarray | None:
    """Doubt (n,) about candidates (n, d) of a quick model of the labels there are (``known`` (m, d) features).

    Class indices (int): the entropy of a logistic model. Several labels (m, K): the same of one a label. Numbers
    (float): the spread of ridge models on bootstrap resamples, over the spread of the labels.

    Returns:
        None where the labels show one class or one number only: nothing can be learnt from them.
    """
    if values.ndim == 2:
        used = [one for one in values.T if 0 < one.sum() < len(one)]
        if not used:
            return None
        sure = [_logistic(known, one).predict_proba(candidates)[:, 1] for one in used]
        return entropy(np.column_stack(sure), several=True)
    if len(np.unique(values)) < 2:
        return None
    if values.dtype.kind != "f":
        return entropy(_logistic(known, values).predict_proba(candidates))
    rng = np.random.default_rng(seed)
    said = []
    for _ in range(_COMMITTEE):
        some = rng.integers(0, len(values), len(values))
        said.append(Ridge(alpha=1.0).fit(known[some], values[some]).predict(candidates))
    spread: np.ndarray = np.std(said, axis=0) / np.std(values)
    return spread


def _logistic(features: np.ndarray, codes: np.ndarray) -> LogisticRegression:
    return LogisticRegression(C=10.0, class_weight="balanced", max_iter=300).fit(features, codes)
