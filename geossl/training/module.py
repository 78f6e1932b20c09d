"""The one Lightning module of all methods: views of a batch in, the method's loss out. Knows no particular method."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn

from geossl.errors import WorkError
from geossl.methods.parts import processes
from geossl.methods.protocol import Method
from geossl.training.balance import balance_due, balance_weights
from geossl.training.data import Batches, step_seed
from geossl.training.optim import OptimizerSettings, Schedule, make_optimizer, set_rate


class PretrainModule(pl.LightningModule):
    """Trains ``method`` on ``batches`` along ``schedule``; a training batch is nothing but its number.

    ``step_chips`` chips of all devices make an optimiser step, in ``accumulate`` batches; ``optimizer_state`` continues
    an earlier run. With ``balance`` chips are drawn evenly over clusters of their embeddings
    (:mod:`geossl.training.balance`), unless the method weighs them itself. After each batch ``loss``, ``logs`` and
    ``embeddings`` (n_views, n, D) hold detached tensors on the device; reading them makes the host wait, so callbacks
    do it every few steps only.
    """

    def __init__(
        self,
        method: Method,
        batches: Batches,
        schedule: Schedule,
        optimizer: OptimizerSettings,
        step_chips: int,
        *,
        accumulate: int = 1,
        balance: bool = False,
        optimizer_state: dict | None = None,
    ) -> None:
        super().__init__()
        self.method = method.to(memory_format=torch.channels_last)
        self.batches, self.schedule, self.accumulate = batches, schedule, accumulate
        self._optimizer, self._step_chips, self._optimizer_state = optimizer, step_chips, optimizer_state
        self._balance = balance
        self._step = 0
        self.rate = 0.0
        self.loss: Tensor = torch.zeros(())
        self.logs: dict[str, Tensor] = {}
        self.embeddings: Tensor | None = None

    @property
    def steps_per_epoch(self) -> float:
        """Optimiser steps in a pass over the training chips."""
        return self.batches.steps_per_epoch / self.accumulate

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The optimiser of :mod:`geossl.training.optim`, as it was where the run is continued."""
        optimizer = make_optimizer(self.method, self._step_chips, self._optimizer)
        if self._optimizer_state is not None:
            optimizer.load_state_dict(self._optimizer_state)
            self._optimizer_state = None
        return optimizer

    def on_train_batch_start(self, batch: int, batch_idx: int) -> None:
        """What a method, or a balanced draw, does before an epoch. A run continued in mid-epoch has it behind it."""
        epoch, place = divmod(int(batch), self.batches.steps_per_epoch)
        if place:
            return
        torch.manual_seed(step_seed(self.batches.seed, -10 - epoch))
        if self.method.needs_epochs:
            self.method.begin_epoch(epoch, self.batches.embed)
            self.batches.set_weights(self.method.chip_weights())
        elif self._balance and self._balance_due(epoch):
            embeddings = self.batches.embed(self.method.backbone)
            self.batches.set_weights(balance_weights(embeddings, step_seed(self.batches.seed, -10 - epoch)))

    def _balance_due(self, epoch: int) -> bool:
        total = self.schedule.total  # a timed run starts to balance once it knows its length
        return total is not None and balance_due(epoch, total / self.steps_per_epoch)

    def training_step(self, batch: int) -> Tensor:
        """The loss of one batch. Everything random comes from (seed, batch), methods that use torch's own included."""
        number = int(batch)
        step = self._step = number // self.accumulate
        rank = self.batches.sampler.shard[0]
        torch.manual_seed(step_seed(self.batches.seed, number) + rank)
        self.rate = self._optimizer.peak_rate(self._step_chips) * self.schedule.factor(step)
        set_rate(self.trainer.optimizers[0], self.rate)
        with torch.autocast(self.device.type, enabled=False):
            views = self.batches.views(number)
        result = self.method.step(views, self.schedule.progress(step), self.batches.places(number))
        self.loss, self.logs, self.embeddings = result.loss.detach(), result.logs, result.embeddings
        return result.loss

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """The optimiser, then what a method does after it (moving averages, queues), before any callback looks."""
        super().optimizer_step(*args, **kwargs)
        self.method.after_step(self.schedule.progress(self._step))

    def on_train_end(self) -> None:
        """Processes that trained together must have ended with the same weights: only the first one's are kept."""
        if processes() > 1:
            check_alike(self.method)


def check_alike(network: nn.Module) -> None:
    """Compare the parameters of all processes.

    Raises:
        WorkError: they differ, so gradients were not shared.
    """
    sums = torch.stack([p.detach().double().sum() for p in network.parameters()])
    everyones = [torch.empty_like(sums) for _ in range(processes())]
    torch.distributed.all_gather(everyones, sums)
    apart = [rank for rank, found in enumerate(everyones) if not torch.equal(found, everyones[0])]
    if apart:
        raise WorkError(
            "the processes of this run have different weights",
            found=f"process {', '.join(map(str, apart))} differs from the first",
            remedy="train on one device, and report this",
        )
