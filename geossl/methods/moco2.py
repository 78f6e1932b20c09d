"""MoCo v2: a query network learns to recognise its key among a queue of earlier keys (He et al. 2020,
arXiv:1911.05722; Chen et al. 2020, arXiv:2003.04297)."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from lightly.models.modules.heads import MoCoProjectionHead
from pydantic import Field
from torch import Tensor, nn

from geossl.config import Settings
from geossl.methods.parts import frozen_copy, info_nce, move_towards
from geossl.methods.protocol import Method, StepResult, register


class MoCo2Settings(Settings):
    """``settings:`` of a MoCo v2 YAML."""

    temperature: float = Field(0.2, gt=0)
    momentum: float = Field(0.99, ge=0, lt=1)
    """Share of itself that the key network keeps each step; 0.99 for short runs, 0.999 for long ones."""
    queue: int = Field(4096, ge=1)
    """Keys kept as negatives; never more than half of the training chips, else they hold the query's own chip."""
    hidden_dim: int = Field(2048, ge=1)
    output_dim: int = Field(128, ge=2)
    bn_splits: int = Field(2, ge=1)
    """Groups of the shuffled batch that the key network normalises separately."""


@register("moco2")
class MoCo2(Method):
    """The first view asks, the second is the key; the key network follows the query network as a moving average.

    Batch statistics would tell a query its key ("cheating"): keys pass through their network in another order and in
    ``bn_splits`` groups, so that a query and its key share no statistics (MoCo's shuffled BN, on one device). The
    ``queue`` (K, d) is a ring of unit-length keys and ``pointer`` the place of the oldest; both are in the state dict.
    """

    settings_type = MoCo2Settings
    queue: Tensor
    pointer: Tensor

    def __init__(self, backbone: nn.Module, settings: Settings) -> None:
        super().__init__(backbone, settings)
        self.options = cast(MoCo2Settings, settings)
        self.min_batch = 2 * self.options.bn_splits
        width = int(cast(int, backbone.out_dim))
        self.projector = MoCoProjectionHead(width, self.options.hidden_dim, self.options.output_dim)
        self.key_backbone = frozen_copy(self.backbone)
        self.key_projector = frozen_copy(self.projector)
        self.register_buffer("queue", _random_keys(self.options.queue, self.options.output_dim))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.long))
        self._fresh: Tensor | None = None

    def prepare(self, batch_size: int, chips: int) -> None:
        """Also cut the queue to half of the training chips: a longer one would hold the query's own chip."""
        super().prepare(batch_size, chips)
        longest = max(chips // 2, 1)
        if len(self.queue) > longest:
            self.queue = self.queue[:longest].clone()

    def step(self, views: list[Tensor], progress: float) -> StepResult:
        """InfoNCE of the queries of view 0 against the keys of view 1 and the queue."""
        embedded = self.backbone(views[0])
        query = F.normalize(self.projector(embedded).float(), dim=1)
        embedded_key, key = self._keys(views[1])
        loss = info_nce(query, key, self.queue, self.options.temperature)
        self._fresh = key
        return StepResult(loss, {}, torch.stack([embedded.detach().float(), embedded_key.float()]))

    def after_step(self, progress: float) -> None:
        """The key network moves towards the query network; the new keys replace the oldest of the queue."""
        move_towards(self.key_backbone, self.backbone, self.options.momentum)
        move_towards(self.key_projector, self.projector, self.options.momentum)
        if self._fresh is not None:
            self.enqueue(self._fresh)
            self._fresh = None

    @torch.no_grad()
    def enqueue(self, keys: Tensor) -> None:
        """Write keys (n, d) over the oldest ones; of more keys than places the last ones stay."""
        keys = keys[-len(self.queue) :]
        place = (self.pointer + torch.arange(len(keys), device=keys.device)) % len(self.queue)
        self.queue.index_copy_(0, place, keys.to(self.queue.dtype))
        self.pointer.copy_((self.pointer + len(keys)) % len(self.queue))

    @torch.no_grad()
    def _keys(self, view: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings (n, D) and unit-length keys (n, d) by the key network, in shuffled groups."""
        order = torch.randperm(len(view), device=view.device)
        back = order.argsort()
        groups = [self.key_backbone(group) for group in view[order].chunk(self.options.bn_splits)]
        embedded = torch.cat(groups)[back]
        return embedded, F.normalize(self.key_projector(embedded).float(), dim=1)


def _random_keys(count: int, dim: int) -> Tensor:
    """Unit vectors (count, dim) from torch's global generator: what the queue holds before the first keys."""
    return F.normalize(torch.randn(count, dim), dim=1)
