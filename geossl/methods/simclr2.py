"""SimCLR v2: a deeper projection head whose first layer is kept, and optionally a memory of further negatives (Chen et
al. 2020, arXiv:2006.10029). Its other two steps are fine-tuning from the kept layer, and distillation."""

from __future__ import annotations

from typing import ClassVar, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from geossl.config import Settings
from geossl.methods.parts import frozen_copy, gather, move_towards, unit_rows
from geossl.methods.protocol import StepResult, register
from geossl.methods.ring import random_ring
from geossl.methods.simclr import SimCLR, SimCLRSettings


class SimCLR2Settings(SimCLRSettings):
    """``settings:`` of a SimCLR v2 YAML."""

    queue: int = Field(0, ge=0)
    """Projections by a moving average of the network kept as further negatives; 0: none, and no second network. Never
    more than half of the training chips, else they hold the chip's own."""
    momentum: float = Field(0.99, ge=0, lt=1)
    """Share of itself that the moving average keeps each step."""


@register("simclr2")
class SimCLR2(SimCLR):
    """Three layers, each with batch norm; the first (linear, batch norm, ReLU) belongs to the encoder that is kept."""

    settings_type: ClassVar[type[Settings]] = SimCLR2Settings
    head_layers = 3

    def __init__(self, backbone: nn.Module, settings: Settings) -> None:
        super().__init__(backbone, settings)
        self._remember = cast(SimCLR2Settings, settings)
        if self._remember.queue:
            self.key_backbone = frozen_copy(self.backbone)
            self.key_projector = frozen_copy(self.projector)
            self.queue = random_ring(self._remember.queue, self.options.output_dim)

    def kept_projection(self) -> nn.Sequential:
        """The first layer of the head with its batch norm and ReLU, (B, out_dim) to (B, hidden_dim); shares weights."""
        return cast(nn.Sequential, self.projector.layers[:3])

    def prepare(self, batch_size: int, chips: int) -> None:
        """Also cut the memory to half of the training chips."""
        super().prepare(batch_size, chips)
        if self._remember.queue:
            self.queue.cut(chips // 2)

    def memory(self) -> Tensor | None:
        """Projections (K, d) of earlier batches, where a memory is asked for."""
        return self.queue.items if self._remember.queue else None

    def step(self, views: list[Tensor], progress: float, places: Tensor | None = None) -> StepResult:
        """NT-Xent (or DCL) of the projections of two views, against the memory too."""
        result = super().step(views, progress, places)
        if self._remember.queue:
            with torch.no_grad():
                self.queue.keep(gather(unit_rows(self.key_projector(self.key_backbone(views[0])))))
        return result

    def after_step(self, progress: float) -> None:
        """The moving average follows; its projections of the first view replace the oldest of the memory."""
        if self._remember.queue:
            move_towards(self.key_backbone, self.backbone, self._remember.momentum)
            move_towards(self.key_projector, self.projector, self._remember.momentum)
            self.queue.add_kept()
