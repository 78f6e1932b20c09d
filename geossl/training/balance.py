"""Cluster-balanced sampling: chips of what is common are drawn less often, on the model's own features.

After a warm-up all training chips are embedded and clustered; a chip's weight falls with the size of its cluster (Vo
et al. 2024, arXiv:2405.15613, balance a data set once beforehand; here the features are the run's own, refreshed on the
way). Without it a sea or a forest that fills half of a region also fills half of every batch.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from sklearn.cluster import MiniBatchKMeans
from threadpoolctl import threadpool_limits
from torch import Tensor

from geossl.errors import WorkError

WARM_UP = 0.25
"""Share of the run's epochs after which the features are good enough to cluster."""
REFRESH = 0.1
"""Share of the run's epochs between two clusterings."""
TEMPER = 0.5
"""Weight = cluster size ** -TEMPER: 1 would draw every cluster equally often, 0 every chip."""
CHIPS_A_CLUSTER = 30
MOST_CLUSTERS = 512
SMALLEST = 0.25
"""Clusters below this share of the mean size count as so large: they are often odd chips, such as cloud edges."""


def balance_due(epoch: int, epochs: float) -> bool:
    """Whether weights are to be computed before the first step of ``epoch`` (from 0) in a run of ``epochs`` epochs.

    For the first time after the warm-up, at the earliest before the second epoch, then at every refresh.
    """
    first = max(math.ceil(WARM_UP * epochs), 1)
    every = max(round(REFRESH * epochs), 1)
    return first <= epoch < epochs and (epoch - first) % every == 0


def balance_weights(embeddings: Tensor, seed: int) -> Tensor:
    """Weights (N,) float32 on the CPU, mean 1, of chips with ``embeddings`` (N, d); a function of both arguments.

    K-means on the unit sphere, a cluster for every 30 chips (2 to 512 clusters).

    Raises:
        WorkError: embeddings that are no numbers.
    """
    found = embeddings.detach().float().cpu().numpy()
    if not np.isfinite(found).all():
        raise WorkError(
            "the embeddings of the training chips are not all numbers, so they cannot be balanced",
            where="cluster-balanced sampling",
            found=f"{int((~np.isfinite(found).all(axis=1)).sum())} of {len(found)} chips",
            remedy="check scale and offset of the product, or take a smaller --batch-size",
        )
    n = len(found)
    unit = found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)
    clusters = min(max(n // CHIPS_A_CLUSTER, 2), MOST_CLUSTERS, n)
    with threadpool_limits(1):  # sums in parallel would depend on the number of threads
        means = MiniBatchKMeans(clusters, random_state=seed % 2**32, n_init=3, batch_size=1024, max_iter=50)
        which = means.fit_predict(unit)
    sizes = np.bincount(which, minlength=clusters).astype(np.float64)
    weights = np.maximum(sizes, SMALLEST * n / clusters)[which] ** -TEMPER
    return torch.from_numpy((weights / weights.mean()).astype(np.float32))
