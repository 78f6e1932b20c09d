"""SimCLR: two views of a chip attract, all other chips of the batch repel (Chen et al. 2020, arXiv:2002.05709)."""

from __future__ import annotations

from typing import cast

import torch
from lightly.models.modules.heads import SimCLRProjectionHead
from pydantic import Field
from torch import Tensor, nn

from geossl.config import Settings
from geossl.methods.parts import nt_xent
from geossl.methods.protocol import Method, StepResult, register


class SimCLRSettings(Settings):
    """``settings:`` of a SimCLR YAML."""

    temperature: float = Field(0.2, gt=0)
    hidden_dim: int | None = Field(None, ge=1)
    """Width of the projector's hidden layer; None: as wide as the embedding."""
    output_dim: int = Field(128, ge=2)
    dcl: bool = False
    """Decoupled loss: the positive pair is left out of the denominator."""


@register("simclr")
class SimCLR(Method):
    """Both views go through the network in one forward pass, so batch statistics are taken over both."""

    settings_type = SimCLRSettings

    def __init__(self, backbone: nn.Module, settings: Settings) -> None:
        super().__init__(backbone, settings)
        self.options = cast(SimCLRSettings, settings)
        width = int(cast(int, backbone.out_dim))
        hidden = self.options.hidden_dim or width
        self.projector = SimCLRProjectionHead(width, hidden, self.options.output_dim)

    def step(self, views: list[Tensor], progress: float) -> StepResult:
        """NT-Xent (or DCL) of the projections of two views."""
        embeddings = self.backbone(torch.cat(views))
        first, second = self.projector(embeddings).chunk(2)
        loss = nt_xent(first, second, self.options.temperature, decoupled=self.options.dcl)
        return StepResult(loss, {}, embeddings.detach().float().view(2, len(views[0]), -1))
