"""MoCo: a query network learns to recognise its key among a queue of earlier keys (He et al. 2020,
arXiv:1911.05722)."""

from __future__ import annotations

from typing import ClassVar, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from geossl.config import Settings
from geossl.methods.parts import (
    embedding_width,
    frozen_copy,
    gather,
    info_nce,
    move_towards,
    seen_by_health,
    unit_rows,
)
from geossl.methods.protocol import Method, StepResult, register
from geossl.methods.ring import random_ring


class MoCo1Settings(Settings):
    """``settings:`` of a MoCo YAML."""

    temperature: float = Field(0.07, gt=0)
    momentum: float = Field(0.99, ge=0, lt=1)
    """Share of itself that the key network keeps each step; 0.99 for short runs, 0.999 for long ones."""
    queue: int = Field(4096, ge=1)
    """Keys kept as negatives; never more than half of the training chips, else they hold the query's own chip."""
    output_dim: int = Field(128, ge=2)
    bn_splits: int = Field(2, ge=1)
    """Groups of the shuffled batch that the key network normalises separately."""


@register("moco1")
class MoCo1(Method):
    """The first view asks, the second is the key; the key network follows the query network as a moving average.

    Batch statistics would tell a query its key ("cheating"): keys pass through their network in another order and in
    ``bn_splits`` groups, so that a query and its key share no statistics (MoCo's shuffled BN, on one device). ``queue``
    holds unit-length keys of all processes, in the same order in each.
    """

    settings_type: ClassVar[type[Settings]] = MoCo1Settings

    def __init__(self, backbone: nn.Module, settings: Settings) -> None:
        super().__init__(backbone, settings)
        self.options = cast(MoCo1Settings, settings)
        self.min_batch = 2 * self.options.bn_splits
        self.projector = self.head(embedding_width(backbone))
        self.key_backbone = frozen_copy(self.backbone)
        self.key_projector = frozen_copy(self.projector)
        self.queue = random_ring(self.options.queue, self.options.output_dim)

    def head(self, width: int) -> nn.Module:
        """The projection of embeddings (n, width) to (n, ``output_dim``): one linear layer."""
        return nn.Linear(width, self.options.output_dim)

    def prepare(self, batch_size: int, chips: int) -> None:
        """Also cut the queue to half of the training chips: a longer one would hold the query's own chip."""
        super().prepare(batch_size, chips)
        self.queue.cut(chips // 2)

    def step(self, views: list[Tensor], progress: float, places: Tensor | None = None) -> StepResult:
        """InfoNCE of the queries of view 0 against the keys of view 1 and the queue."""
        embedded = self.backbone(views[0])
        query = unit_rows(self.projector(embedded))
        embedded_key, key = self._keys(views[1])
        loss = info_nce(query, key, self.queue.items, self.options.temperature)
        self.queue.keep(gather(key))
        return StepResult(loss, {}, seen_by_health([embedded, embedded_key], 2))

    def after_step(self, progress: float) -> None:
        """The key network moves towards the query network; the new keys replace the oldest of the queue."""
        move_towards(self.key_backbone, self.backbone, self.options.momentum)
        move_towards(self.key_projector, self.projector, self.options.momentum)
        self.queue.add_kept()

    @torch.no_grad()
    def _keys(self, view: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings (n, D) and unit-length keys (n, d) by the key network, in shuffled groups."""
        order = torch.randperm(len(view), device=view.device)
        back = order.argsort()
        groups = [self.key_backbone(group) for group in view[order].chunk(self.options.bn_splits)]
        embedded = torch.cat(groups)[back]
        return embedded, unit_rows(self.key_projector(embedded))
