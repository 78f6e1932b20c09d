"""The optimiser and its schedule: SGD, LARS or AdamW, linear scaling, warm-up and cosine to zero by the step.

By default SGD with Nesterov momentum, learning rate 0.06 a 128 chips, weight decay 5e-4 (the usual recipe for
contrastive learning at batches below 1024, e.g. Chen et al. 2020, arXiv:2002.05709, and lightly's benchmarks). Biases
and normalisation never decay, and LARS does not adapt their rate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from geossl.config import Settings

BASE_BATCH = 128
WARM_UP_SHARE = 0.08
COLD_STEPS = 3
"""First steps that allocate and tune; never timed."""
TIMED_STEPS = 20
MEASURED_STEPS = COLD_STEPS + TIMED_STEPS
"""Steps after which a run with a time limit knows how many it will do."""
_OPEN_RAMP = 100
_LEAST_WARM_UP = 0.15  # of what is left after timing, so that a short run does not jump to its full rate
_TRUST = 0.001
_RATES = {"sgd": 0.06, "lars": 0.15, "adamw": 5e-4}
_DECAYS = {"sgd": 5e-4, "lars": 1e-6, "adamw": 1e-4}


class OptimizerSettings(Settings):
    """``optimizer:`` of a method's YAML."""

    name: Literal["sgd", "lars", "adamw"] = "sgd"
    """SGD with Nesterov momentum; LARS for batches of 1024 and more; AdamW for transformers."""
    rate: float | None = Field(default=None, gt=0)
    """Learning rate a 128 chips of the batch; None: 0.06 (sgd), 0.15 (lars), 5e-4 (adamw)."""
    weight_decay: float | None = Field(default=None, ge=0)
    """None: 5e-4 (sgd), 1e-6 (lars), 1e-4 (adamw)."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Of SGD and LARS."""
    warm_up: float = Field(default=WARM_UP_SHARE, ge=0, lt=1)
    """Share of the steps over which the rate rises."""

    def peak_rate(self, batch_size: int) -> float:
        """The learning rate at the end of the warm-up, linear in the chips of an optimiser step."""
        return (self.rate or _RATES[self.name]) * batch_size / BASE_BATCH

    @property
    def decay(self) -> float:
        """Weight decay of weights (matrices and kernels)."""
        return _DECAYS[self.name] if self.weight_decay is None else self.weight_decay


@dataclass
class Schedule:
    """How many optimiser steps a run does; ``total`` is None until a run with a time limit has been timed.

    Once set, ``total`` is kept with the run's state, so that a resumed run follows the same schedule.
    """

    total: int | None
    timed: bool = False
    warm_up: float = WARM_UP_SHARE

    def progress(self, step: int) -> float:
        """Share of the run that is done before ``step``, 0 to 1 (0 while the total is unknown)."""
        return 0.0 if self.total is None else min(step / self.total, 1.0)

    def factor(self, step: int) -> float:
        """Learning rate of ``step`` as a share of the peak rate.

        Linear warm-up over ``warm_up`` of the steps, then a cosine to 0. In a timed run the first steps cannot depend
        on a total nobody knows yet: they follow a ramp of fixed slope, from whose end the warm-up goes on.
        """
        if self.timed and step < MEASURED_STEPS:
            return (step + 1) / _OPEN_RAMP
        if self.total is None:
            raise ValueError("the schedule has no total yet")
        first, low = (MEASURED_STEPS, MEASURED_STEPS / _OPEN_RAMP) if self.timed else (0, 0.0)
        least = round(_LEAST_WARM_UP * (self.total - first)) if self.timed else 0
        warm = max(round(self.warm_up * self.total), first + max(least, 1))
        if step < warm:
            return low + (1 - low) * (step + 1 - first) / (warm - first)
        return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(self.total - warm, 1)))


class Lars(torch.optim.Optimizer):
    """Layer-wise adaptive rates (You et al. 2017, arXiv:1708.03888, eq. 6) over SGD with momentum.

    A weight w with gradient g moves by ``rate * ratio * (g + decay * w)``, with ``ratio = 0.001 |w| / (|g| + decay
    |w|)``. Groups with ``adapt`` False take plain steps. All norms are taken at once and stay on the device.
    """

    def __init__(self, params: Iterable[dict[str, Any]], lr: float, momentum: float) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": 0.0, "adapt": True})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """One step; ``closure``, where given, computes the gradients first (Lightning hands it over this way)."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            weights = [p for p in group["params"] if p.grad is not None]
            if weights:
                self._move(weights, group)
        return loss

    def _move(self, weights: list[Tensor], group: dict[str, Any]) -> None:
        gradients: list[Tensor] = [p.grad for p in weights if p.grad is not None]
        if group["adapt"]:
            decay = group["weight_decay"]
            size, slope = torch.stack(torch._foreach_norm(weights)), torch.stack(torch._foreach_norm(gradients))
            ratio = _TRUST * size / (slope + decay * size + 1e-8)
            # A weight of nothing has no scale to adapt to; one without a gradient stays where it is.
            ratio = torch.where(size > 0, torch.where(slope > 0, ratio, 0.0), 1.0)
            gradients = list(torch._foreach_add(gradients, weights, alpha=decay))
            torch._foreach_mul_(gradients, list(ratio.unbind()))
        for weight in weights:
            if "momentum_buffer" not in self.state[weight]:
                self.state[weight]["momentum_buffer"] = torch.zeros_like(weight)
        buffers = [self.state[weight]["momentum_buffer"] for weight in weights]
        torch._foreach_mul_(buffers, group["momentum"])
        torch._foreach_add_(buffers, gradients)
        torch._foreach_add_(weights, buffers, alpha=-group["lr"])


def make_optimizer(
    module: nn.Module, batch_size: int, settings: OptimizerSettings | None = None
) -> torch.optim.Optimizer:
    """The optimiser of ``settings`` over the parameters of ``module`` that learn.

    ``batch_size``: chips of an optimiser step, over all devices and accumulated batches. Vectors (biases and
    normalisation) have a group of their own without weight decay.
    """
    settings = settings or OptimizerSettings()
    learning = [p for p in module.parameters() if p.requires_grad]
    weights, vectors = [p for p in learning if p.ndim > 1], [p for p in learning if p.ndim <= 1]
    groups: list[dict[str, Any]] = [
        {"params": weights, "weight_decay": settings.decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    rate = settings.peak_rate(batch_size)
    if settings.name == "lars":
        groups[1]["adapt"] = False
    groups = [group for group in groups if group["params"]]
    if settings.name == "lars":
        return Lars(groups, rate, settings.momentum)
    if settings.name == "adamw":
        return torch.optim.AdamW(groups, lr=rate, fused=True)
    return torch.optim.SGD(groups, lr=rate, momentum=settings.momentum, nesterov=settings.momentum > 0, fused=True)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every parameter group this learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate
