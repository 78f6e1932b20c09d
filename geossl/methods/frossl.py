"""FroSSL: views agree while the Frobenius norm of each view's covariance is small, so that all directions are used
(Skean et al. 2023, arXiv:2310.02903). No negatives, no eigenvalues, linear in the number of views."""

from __future__ import annotations

from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from geossl.config import Settings
from geossl.methods.parts import embedding_width, forward_views, gather, in_float32, seen_by_health
from geossl.methods.protocol import Method, StepResult, register


class FroSSLSettings(Settings):
    """``settings:`` of a FroSSL YAML."""

    invariance: float = Field(1.0, gt=0)
    """Weight of the agreement of views against the spread of each. As published 1, but the agreement grows with
    views times ``output_dim`` over the chips of a batch: two views of 64 chips need about 0.1, else agreement is all
    that counts."""
    hidden_dim: int = Field(1024, ge=1)
    output_dim: int = Field(1024, ge=2)


@in_float32
def frossl(projected: Tensor, invariance: float = 1.0) -> Tensor:
    """The objective for projections (V, n, d) of V views.

    The columns of each view are scaled to unit length over the batch. Then, summed over views: the logarithm of the
    squared Frobenius norm of the covariance of trace 1, and ``V d`` times the mean squared distance to the mean of all
    views. Of the covariance (d, d) and the Gram matrix (n, n), which have one norm, the smaller is made.
    """
    projected = gather(projected.transpose(0, 1).contiguous()).transpose(0, 1)
    views, n, d = projected.shape
    z = F.normalize(projected, dim=1)
    covariance = z.transpose(1, 2) @ z if n > d else z @ z.transpose(1, 2)
    norm = (covariance / d).square().sum(dim=(1, 2))  # the trace is d: every column has length 1
    distance = (z - z.mean(dim=0)).square().mean(dim=(1, 2))
    return norm.log().sum() + invariance * views * d * distance.sum()


@register("frossl")
class FroSSL(Method):
    """Any number of views, small ones included."""

    settings_type: ClassVar[type[Settings]] = FroSSLSettings
    takes_small_views = True

    def __init__(self, backbone: nn.Module, settings: Settings) -> None:
        super().__init__(backbone, settings)
        self.options = cast(FroSSLSettings, settings)
        hidden = self.options.hidden_dim
        self.projector = nn.Sequential(
            nn.Linear(embedding_width(backbone), hidden, bias=False),
            nn.BatchNorm1d(hidden),
            nn.ReLU(),
            nn.Linear(hidden, self.options.output_dim),
        )

    def step(self, views: list[Tensor], progress: float, places: Tensor | None = None) -> StepResult:
        """The objective of the projections of all views."""
        embedded = forward_views(self.backbone, views)
        projected = self.projector(torch.cat(embedded)).view(len(views), len(views[0]), -1)
        loss = frossl(projected, self.options.invariance)
        return StepResult(loss, {}, seen_by_health(embedded, self.n_views))
