"""The optimiser and its schedule: SGD with Nesterov momentum, linear scaling, warm-up and cosine by the step.

Learning rate 0.06 a 128 chips of batch, weight decay 5e-4 but none on biases and normalisation (the usual recipe for
contrastive learning at batches below 1024, e.g. Chen et al. 2020, arXiv:2002.05709, and lightly's benchmarks).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn

BASE_RATE = 0.06
BASE_BATCH = 128
MOMENTUM = 0.9
WEIGHT_DECAY = 5e-4
WARM_UP_SHARE = 0.08
COLD_STEPS = 3
"""First steps that allocate and tune; never timed."""
TIMED_STEPS = 20
MEASURED_STEPS = COLD_STEPS + TIMED_STEPS
"""Steps after which a run with a time limit knows how many it will do."""
_OPEN_RAMP = 100
_LEAST_WARM_UP = 0.15  # of what is left after timing, so that a short run does not jump to its full rate


@dataclass
class Schedule:
    """How many steps a run does; ``total`` is None until a run with a time limit has been timed.

    Once set, ``total`` is kept with the run's state, so that a resumed run follows the same schedule.
    """

    total: int | None
    timed: bool = False

    def progress(self, step: int) -> float:
        """Share of the run that is done before ``step``, 0 to 1 (0 while the total is unknown)."""
        return 0.0 if self.total is None else min(step / self.total, 1.0)

    def factor(self, step: int) -> float:
        """Learning rate of ``step`` as a share of the base rate.

        Linear warm-up over 8 % of the steps, then a cosine to 0. In a timed run the first steps cannot depend on a
        total nobody knows yet: they follow a ramp of fixed slope, from whose end the warm-up goes on.
        """
        if self.timed and step < MEASURED_STEPS:
            return (step + 1) / _OPEN_RAMP
        if self.total is None:
            raise ValueError("the schedule has no total yet")
        first, low = (MEASURED_STEPS, MEASURED_STEPS / _OPEN_RAMP) if self.timed else (0, 0.0)
        least = round(_LEAST_WARM_UP * (self.total - first)) if self.timed else 0
        warm = max(round(WARM_UP_SHARE * self.total), first + max(least, 1))
        if step < warm:
            return low + (1 - low) * (step + 1 - first) / (warm - first)
        return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(self.total - warm, 1)))


def base_rate(batch_size: int) -> float:
    """The learning rate at the end of the warm-up, linear in the batch."""
    return BASE_RATE * batch_size / BASE_BATCH


def make_optimizer(module: nn.Module, batch_size: int) -> torch.optim.SGD:
    """SGD over the parameters of ``module`` that learn; no weight decay on vectors (biases and normalisation)."""
    learning = [p for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in learning if p.ndim > 1], "weight_decay": WEIGHT_DECAY},
        {"params": [p for p in learning if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.SGD(
        [group for group in groups if group["params"]],
        lr=base_rate(batch_size),
        momentum=MOMENTUM,
        nesterov=True,
        fused=True,
    )


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every parameter group this learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate
