"""BYOL: predict what a moving average of the network says of the other view; no negatives (Grill et al. 2020,
arXiv:2006.07733)."""

from __future__ import annotations

from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from lightly.models.modules.heads import BYOLPredictionHead, BYOLProjectionHead
from pydantic import Field
from torch import Tensor, nn

from geossl.config import Settings
from geossl.methods.parts import (
    cosine_momentum,
    embedding_width,
    forward_views,
    frozen_copy,
    in_float32,
    move_towards,
    seen_by_health,
)
from geossl.methods.protocol import Method, StepResult, register


class BYOLSettings(Settings):
    """``settings:`` of a BYOL YAML."""

    momentum: float = Field(0.99, ge=0, lt=1)
    """Share of itself that the target keeps in the first step; rises to 1 along a cosine."""
    hidden_dim: int = Field(1024, ge=1)
    """Of the projector and of the predictor."""
    output_dim: int = Field(256, ge=2)


@in_float32
def cosine_distance(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean of ``2 - 2 cos`` over rows (n, d), the squared distance of unit vectors; no gradient through ``target``."""
    return 2 - 2 * F.cosine_similarity(predicted, target.detach(), dim=1).mean()


@register("byol")
class BYOL(Method):
    """The online network (backbone, projector, predictor) learns; the target (backbone, projector) follows it.

    Each view predicts the other. The target runs in training mode: its batch norm uses statistics of the batch, as the
    online network's does, and its running statistics are those of its own activations. The online backbone is kept.
    """

    settings_type: ClassVar[type[Settings]] = BYOLSettings

    def __init__(self, backbone: nn.Module, settings: Settings) -> None:
        super().__init__(backbone, settings)
        self.options = cast(BYOLSettings, settings)
        hidden, dim = self.options.hidden_dim, self.options.output_dim
        self.projector = BYOLProjectionHead(embedding_width(backbone), hidden, dim)
        self.predictor = BYOLPredictionHead(dim, hidden, dim)
        self.target_backbone = frozen_copy(self.backbone)
        self.target_projector = frozen_copy(self.projector)

    def step(self, views: list[Tensor], progress: float, places: Tensor | None = None) -> StepResult:
        """Mean of both directions' distance between prediction and target, 0 to 4."""
        embedded = forward_views(self.backbone, views)
        predicted = torch.cat(forward_views(self.predictor, forward_views(self.projector, embedded)))
        with torch.no_grad():
            target = forward_views(self.target_projector, forward_views(self.target_backbone, views))
        loss = cosine_distance(predicted, torch.cat([target[1], target[0]]))
        return StepResult(loss, {}, seen_by_health(embedded, 2))

    def after_step(self, progress: float) -> None:
        """The target moves towards the online network, ever more slowly."""
        momentum = cosine_momentum(self.options.momentum, progress)
        move_towards(self.target_backbone, self.backbone, momentum)
        move_towards(self.target_projector, self.projector, momentum)
