"""SimCLR: two views of a chip attract, all other chips of the batch repel (Chen et al. 2020, arXiv:2002.05709)."""

from __future__ import annotations

from typing import ClassVar, cast

from lightly.models.modules.heads import SimCLRProjectionHead
from pydantic import Field
from torch import Tensor, nn

from geossl.config import Settings
from geossl.methods.parts import embedding_width, forward_views, nt_xent, seen_by_health
from geossl.methods.protocol import Method, StepResult, register


class SimCLRSettings(Settings):
    """``settings:`` of a SimCLR YAML."""

    temperature: float = Field(0.2, gt=0)
    hidden_dim: int | None = Field(None, ge=1)
    """Width of the projector's hidden layers; None: as wide as the embedding."""
    output_dim: int = Field(128, ge=2)
    dcl: bool = False
    """Decoupled loss: the positive pair is left out of the denominator."""


@register("simclr")
class SimCLR(Method):
    """Both views go through the network in one forward pass, so batch statistics are taken over both."""

    settings_type: ClassVar[type[Settings]] = SimCLRSettings
    head_layers = 2

    def __init__(self, backbone: nn.Module, settings: Settings) -> None:
        super().__init__(backbone, settings)
        self.options = cast(SimCLRSettings, settings)
        width = embedding_width(backbone)
        hidden = self.options.hidden_dim or width
        self.projector = SimCLRProjectionHead(width, hidden, self.options.output_dim, num_layers=self.head_layers)

    def memory(self) -> Tensor | None:
        """Further negatives (K, d) of unit length; none here."""
        return None

    def step(self, views: list[Tensor], progress: float, places: Tensor | None = None) -> StepResult:
        """NT-Xent (or DCL) of the projections of two views."""
        embedded = forward_views(self.backbone, views)
        first, second = forward_views(self.projector, embedded)
        loss = nt_xent(first, second, self.options.temperature, self.options.dcl, self.memory())
        return StepResult(loss, {}, seen_by_health(embedded, 2))
