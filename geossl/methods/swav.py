"""SwaV: predict the code of one view, its assignment to prototypes, from the others (Caron et al. 2020,
arXiv:2006.09882)."""

from __future__ import annotations

from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from lightly.models.modules.heads import SwaVProjectionHead
from pydantic import Field
from torch import Tensor, nn

from geossl.config import Settings
from geossl.methods.parts import (
    embedding_width,
    forward_views,
    gather,
    group_count,
    in_float32,
    own_rows,
    seen_by_health,
    unit_rows,
)
from geossl.methods.protocol import Method, StepResult, register
from geossl.methods.ring import empty_ring
from geossl.methods.sinkhorn import sinkhorn


class SwaVSettings(Settings):
    """``settings:`` of a SwaV YAML."""

    temperature: float = Field(0.1, gt=0)
    epsilon: float = Field(0.05, ge=0.025)
    """Softness of the codes; below 0.025 float32 underflows."""
    iterations: int = Field(3, ge=1)
    """Sinkhorn iterations."""
    prototypes: int | None = Field(None, ge=2)
    """None: one a 30 training chips."""
    hidden_dim: int = Field(512, ge=1)
    output_dim: int = Field(128, ge=2)
    queue: int = Field(0, ge=0)
    """Projections of earlier batches that take part in the codes: for batches smaller than the prototypes are many.
    Never more than half of the training chips."""
    queue_from: float = Field(0.15, ge=0, le=1)
    """Share of the run from which the queue is used: earlier its projections age too fast."""


@in_float32
def swapped_prediction(features: Tensor, prototypes: Tensor, codes: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of each code with the predictions from all other views, averaged over codes and views.

    Args:
        features: (V, n, d) unit-length projections, the L views with codes first.
        prototypes: (K, d) of unit length.
        codes: (L, n, K), rows sum to 1; no gradients.
        temperature: of the predictions.
    """
    log_p = F.log_softmax(features @ prototypes.T / temperature, dim=2)  # (V, n, K)
    others = log_p.sum(dim=0) - log_p[: len(codes)]  # (L, n, K)
    return -(codes * others).sum(dim=2).mean() / (len(features) - 1)


@register("swav")
class SwaV(Method):
    """Codes come from the large views; every view, small ones included, predicts the codes of the other large ones.

    ``prototypes`` (K, d) are the rows of a linear map without bias, scaled to unit length after each step. They do not
    learn during the first epoch (they would collapse on the first features). ``steps_done`` counts on the device, so
    that nothing waits for it. With several processes codes are those of the joined batch.
    """

    settings_type: ClassVar[type[Settings]] = SwaVSettings
    takes_small_views = True
    steps_done: Tensor

    def __init__(self, backbone: nn.Module, settings: Settings) -> None:
        super().__init__(backbone, settings)
        self.options = cast(SwaVSettings, settings)
        dim = self.options.output_dim
        self.projector = SwaVProjectionHead(embedding_width(backbone), self.options.hidden_dim, dim)
        self.prototypes = nn.Parameter(F.normalize(torch.randn(self.options.prototypes or 512, dim), dim=1))
        self.queue = empty_ring(self.options.queue, dim) if self.options.queue else None
        self.register_buffer("steps_done", torch.zeros((), dtype=torch.long))
        self.frozen_steps = 0

    def prepare(self, batch_size: int, chips: int) -> None:
        """Also settle the number of prototypes, the steps in which they are frozen, and the length of the queue.

        Raises:
            InputError: also where more prototypes are asked for than there are chips.
        """
        super().prepare(batch_size, chips)
        count = group_count(self.options.prototypes, chips, "prototypes")
        if count != len(self.prototypes):
            rows = torch.randn(count, self.options.output_dim, device=self.prototypes.device)
            self.prototypes = nn.Parameter(F.normalize(rows, dim=1))
        self.frozen_steps = chips // batch_size
        if self.queue is not None:
            self.queue.cut(chips // 2)

    def step(self, views: list[Tensor], progress: float, places: Tensor | None = None) -> StepResult:
        """Swapped prediction between ``n_views`` large views and any number of small ones."""
        embedded = forward_views(self.backbone, views)
        projected = self.projector(torch.cat(embedded)).view(len(views), len(views[0]), -1)
        features = unit_rows(projected)  # (V, n, d)
        prototypes = torch.where(self.steps_done >= self.frozen_steps, self.prototypes, self.prototypes.detach())
        joined = gather(features[: self.n_views].detach().transpose(0, 1).contiguous())  # (n, L, d) of all processes
        codes = torch.stack([own_rows(self._codes(one, progress)) for one in joined.unbind(1)])  # (L, n, K)
        loss = swapped_prediction(features, prototypes, codes, self.options.temperature)
        if self.queue is not None:
            self.queue.keep(joined.transpose(0, 1).flatten(0, 1))
        return StepResult(loss, {}, seen_by_health(embedded, self.n_views))

    def after_step(self, progress: float) -> None:
        """Prototypes back to unit length, the queue gets the batch's large views, the step is counted."""
        with torch.no_grad():
            self.prototypes.copy_(F.normalize(self.prototypes, dim=1))
        if self.queue is not None:
            self.queue.add_kept()
        self.steps_done += 1

    @torch.no_grad()
    def _codes(self, features: Tensor, progress: float) -> Tensor:
        """Codes (n, K) of one large view (n, d), in the company of the queue where that is in use."""
        count, weights = len(features), None
        if self.queue is not None and progress >= self.options.queue_from:
            filled = self.queue.items.any(dim=1).float()
            weights = torch.cat([filled.new_ones(count), filled])
            features = torch.cat([features, self.queue.items])
        with torch.autocast(features.device.type, enabled=False):
            scores = features @ self.prototypes.T
        return sinkhorn(scores, self.options.epsilon, self.options.iterations, weights)[:count]
