"""DeepCluster: cluster the chips by their features each epoch, then learn to tell the clusters from views (Caron et al.
2018, arXiv:1807.05520), in the second form of Caron et al. 2020 (arXiv:2006.09882, sec. 4 and appendix D)."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from lightly.models.modules.heads import SwaVProjectionHead
from pydantic import Field
from torch import Tensor, distributed, nn

from geossl.config import Settings
from geossl.methods.kmeans import spherical_kmeans
from geossl.methods.parts import (
    embedding_width,
    forward_views,
    group_count,
    in_float32,
    processes,
    seen_by_health,
    unit_rows,
)
from geossl.methods.protocol import Method, StepResult, register

_NOT_YET = -1


class DeepClusterSettings(Settings):
    """``settings:`` of a DeepCluster YAML."""

    temperature: float = Field(0.1, gt=0)
    clusters: int | None = Field(None, ge=2)
    """None: one a 30 training chips."""
    iterations: int = Field(10, ge=1)
    """Of k-means, each epoch."""
    hidden_dim: int = Field(512, ge=1)
    output_dim: int = Field(128, ge=2)


@in_float32
def cluster_loss(features: Tensor, centroids: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of picking the cluster (n,) of each chip among the centroids (K, d), mean over views (V, n, d)."""
    logits = features @ centroids.T / temperature  # (V, n, K)
    return F.cross_entropy(logits.flatten(0, 1), labels.repeat(len(features)))


@register("deepcluster")
class DeepCluster(Method):
    """Spherical k-means on the projections of all training chips before each epoch; every view predicts its cluster.

    The classifier is the centroids themselves: every clustering sets it anew, nothing of it is learnt, and so the
    numbers of the clusters need no matching between epochs. Chips are drawn uniformly over clusters, not over chips.
    ``labels`` (N,) and ``centroids`` (K, d) are in the state dict, and so is ``nmi``, the normalised mutual
    information of the last two clusterings (1: nothing has changed), logged from the second one on.
    """

    settings_type: ClassVar[type[Settings]] = DeepClusterSettings
    takes_small_views = True
    needs_epochs = True
    centroids: Tensor
    labels: Tensor
    nmi: Tensor

    def __init__(self, backbone: nn.Module, settings: Settings) -> None:
        super().__init__(backbone, settings)
        self.options = cast(DeepClusterSettings, settings)
        dim = self.options.output_dim
        self.projector = SwaVProjectionHead(embedding_width(backbone), self.options.hidden_dim, dim)
        self.register_buffer("centroids", torch.zeros(self.options.clusters or 1, dim))
        self.register_buffer("labels", torch.full((1,), _NOT_YET))
        self.register_buffer("nmi", torch.tensor(torch.nan))
        self._logs: dict[str, Tensor] | None = None

    def prepare(self, batch_size: int, chips: int) -> None:
        """Also settle the number of clusters and make room for every chip's.

        Raises:
            InputError: also where more clusters are asked for than there are chips.
        """
        super().prepare(batch_size, chips)
        count = group_count(self.options.clusters, chips, "clusters")
        self.centroids = self.centroids.new_zeros(count, self.options.output_dim)
        self.labels = self.labels.new_full((chips,), _NOT_YET)

    def begin_epoch(self, epoch: int, embed: Callable[[nn.Module], Tensor]) -> None:
        """Cluster all training chips anew; the start of k-means depends on the epoch alone."""
        rows = unit_rows(embed(nn.Sequential(self.backbone, self.projector))).to(self.centroids.device)
        generator = torch.Generator().manual_seed(epoch)
        centroids, labels = spherical_kmeans(rows, len(self.centroids), generator, self.options.iterations)
        if processes() > 1:  # sums may round differently in each process
            distributed.broadcast(centroids, 0)
            distributed.broadcast(labels, 0)
        if self._clustered():
            self.nmi.fill_(_mutual_information(self.labels, labels))
            self._logs = None
        self.centroids.copy_(centroids)
        self.labels.copy_(labels)

    def chip_weights(self) -> Tensor | None:
        """(N,) float32 with the same sum for every cluster and mean 1; None before the first clustering."""
        if not self._clustered():
            return None
        sizes = self.labels.bincount(minlength=len(self.centroids))
        return len(self.labels) / (len(self.centroids) * sizes[self.labels].float())

    def step(self, views: list[Tensor], progress: float, places: Tensor | None = None) -> StepResult:
        """Cross-entropy of the clusters of the chips at ``places``, over all views."""
        if places is None:
            raise ValueError("deepcluster needs the places of the chips of a batch")
        embedded = forward_views(self.backbone, views)
        projected = self.projector(torch.cat(embedded)).view(len(views), len(places), -1)
        labels = self.labels[places]
        loss = cluster_loss(unit_rows(projected), self.centroids, labels, self.options.temperature)
        if self._logs is None:  # once an epoch: to look makes the host wait
            self._logs = {} if bool(self.nmi.isnan()) else {"nmi": self.nmi}
        return StepResult(loss, self._logs, seen_by_health(embedded, self.n_views))

    def _clustered(self) -> bool:
        return bool((self.labels != _NOT_YET).all())


def _mutual_information(before: Tensor, after: Tensor) -> float:
    from sklearn.metrics import normalized_mutual_info_score

    return float(normalized_mutual_info_score(before.cpu().numpy(), after.cpu().numpy()))
