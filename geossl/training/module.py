"""The one Lightning module of all methods: views of a step in, the method's loss out. Knows no particular method."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from geossl.methods.protocol import Method
from geossl.training.data import Batches, step_seed
from geossl.training.optim import Schedule, base_rate, make_optimizer, set_rate


class PretrainModule(pl.LightningModule):
    """Trains ``method`` on ``batches`` along ``schedule``; a training batch is nothing but the number of its step.

    ``optimizer_state`` continues an earlier run. After each step ``loss``, ``logs`` and ``embeddings`` (n_views, n, D)
    hold detached tensors on the device; reading them makes the host wait, so callbacks do it every few steps only.
    """

    def __init__(
        self, method: Method, batches: Batches, schedule: Schedule, optimizer_state: dict | None = None
    ) -> None:
        super().__init__()
        self.method = method.to(memory_format=torch.channels_last)
        self.batches, self.schedule = batches, schedule
        self._optimizer_state = optimizer_state
        self._step = 0
        self.rate = 0.0
        self.loss: Tensor = torch.zeros(())
        self.logs: dict[str, Tensor] = {}
        self.embeddings: Tensor | None = None

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """SGD with Nesterov momentum (:mod:`geossl.training.optim`), as it was where the run is continued."""
        optimizer = make_optimizer(self.method, self.batches.batch_size)
        if self._optimizer_state is not None:
            optimizer.load_state_dict(self._optimizer_state)
            self._optimizer_state = None
        return optimizer

    def training_step(self, step: int) -> Tensor:
        """The loss of one step. Everything random comes from (seed, step), methods that use torch's own included."""
        step = self._step = int(step)
        torch.manual_seed(step_seed(self.batches.seed, step))
        self.rate = base_rate(self.batches.batch_size) * self.schedule.factor(step)
        set_rate(self.trainer.optimizers[0], self.rate)
        with torch.autocast(self.device.type, enabled=False):
            views = self.batches.views(step)
        result = self.method.step(views, self.schedule.progress(step))
        self.loss, self.logs, self.embeddings = result.loss.detach(), result.logs, result.embeddings
        return result.loss

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """The optimiser, then what a method does after it (moving averages, queues), before any callback looks."""
        super().optimizer_step(*args, **kwargs)
        self.method.after_step(self.schedule.progress(self._step))
