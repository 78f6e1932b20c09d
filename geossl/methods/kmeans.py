"""Spherical k-means: clusters of unit vectors by cosine, none of them empty."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_AT_ONCE = 8192


@torch.no_grad()
def spherical_kmeans(
    rows: Tensor, clusters: int, generator: torch.Generator, iterations: int = 10
) -> tuple[Tensor, Tensor]:
    """Centroids (K, d) of unit length and the cluster (N,) int64 of each row, that of the most similar centroid.

    Starts from K random rows, and stops where no row changes its cluster. A cluster that loses all its rows is
    given the row that fits its own cluster worst, so that K stays what it is (as scikit-learn does).

    Args:
        rows: (N, d) unit vectors, float32.
        clusters: K, at most N.
        generator: chooses the start; on the CPU.
        iterations: at most so many times are all centroids moved.
    """
    start = torch.randperm(len(rows), generator=generator)[:clusters].to(rows.device)
    centroids = rows[start].clone()
    labels, fit = assign(rows, centroids)
    _refill(rows, centroids, labels, fit)
    for _ in range(iterations):
        centroids = F.normalize(torch.zeros_like(centroids).index_add_(0, labels, rows), dim=1)
        before = labels
        labels, fit = assign(rows, centroids)
        _refill(rows, centroids, labels, fit)
        if torch.equal(labels, before):
            break
    return centroids, labels


@torch.no_grad()
def assign(rows: Tensor, centroids: Tensor) -> tuple[Tensor, Tensor]:
    """The most similar centroid of each row (N,) int64, and how similar it is (N,)."""
    best = [(part @ centroids.T).max(dim=1) for part in rows.split(_AT_ONCE)]
    return torch.cat([one.indices for one in best]), torch.cat([one.values for one in best])


def _refill(rows: Tensor, centroids: Tensor, labels: Tensor, fit: Tensor) -> None:
    """Give each empty cluster the worst-fitting row of a cluster that has more than one, in place."""
    sizes = labels.bincount(minlength=len(centroids)).tolist()
    empty = [cluster for cluster, size in enumerate(sizes) if size == 0]
    if not empty:
        return
    owners = labels.tolist()
    for row in fit.argsort(stable=True).tolist():
        if sizes[owners[row]] > 1:
            sizes[owners[row]] -= 1
            cluster = empty.pop()
            labels[row], centroids[cluster] = cluster, rows[row]
            if not empty:
                return
