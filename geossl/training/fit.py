"""One process of a run: method, sampler and module for its part of the chips, and the Lightning fit over them."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.plugins.environments import ClusterEnvironment
from lightning.pytorch.strategies import DDPStrategy
from torch.utils.data import DataLoader, IterableDataset

from geossl.chips.streamed import open_sampler
from geossl.encoders.build import seeded_encoder
from geossl.encoders.weights import WeightsReport, load_weights
from geossl.errors import WorkError
from geossl.methods.protocol import Method, build_method
from geossl.progress import say
from geossl.training.compute import Compute
from geossl.training.data import Batches, step_seed
from geossl.training.module import PretrainModule
from geossl.training.optim import Schedule
from geossl.training.plan import Plan
from geossl.training.state import Checkpoint, Workspace, restore

_PATIENCE = timedelta(hours=2)
"""How long processes wait for each other: the first one evaluates and writes while the others stand still."""


@dataclass(frozen=True)
class Place:
    """Which process of a run this is: ``rank`` of ``world``, meeting on ``port`` of this machine."""

    rank: int = 0
    world: int = 1
    port: int = 0


def make_method(
    plan: Plan, mean: list[float] | None = None, std: list[float] | None = None
) -> tuple[Method, WeightsReport | None]:
    """The method around a fresh backbone, or one with the given weights; its first weights depend on the seed alone.

    ``mean`` and ``std``: normalisation of the training chips, to which given weights are fitted. The global generator
    is used and left where it comes to stand.

    Raises:
        InputError: weights that do not fit, a batch too small or too few chips for the method.
    """
    asked = plan.options
    backbone = seeded_encoder(asked.encoder, plan.chips.bands, plan.seed, stem=asked.stem, image_px=plan.recipe.size)
    report = None
    if asked.weights is not None:
        report = load_weights(
            backbone,
            asked.weights,
            allow_partial=asked.allow_partial_weights,
            bands=asked.weights_bands,
            mean=mean,
            std=std,
        )
    torch.manual_seed(step_seed(plan.seed, -2))  # the heads
    method = build_method(plan.method_config, backbone)
    chips = len(plan.split.train)
    method.prepare(plan.device_batch, chips)
    if plan.step_chips != plan.device_batch:  # lengths that a method counts in steps follow the chips of a step
        method.prepare(min(plan.step_chips, chips), chips)
    return method, report


def prepare(
    plan: Plan,
    compute: Compute,
    place: Place,
    workspace: Workspace,
    method: Method,
    mean: list[float],
    std: list[float],
) -> tuple[PretrainModule, Checkpoint | None]:
    """The module of this process, continued from the workspace's checkpoint where there is one."""
    earlier = workspace.load()
    if earlier is not None:
        restore(method, earlier)
    part = (place.rank, place.world)
    sampler = open_sampler(plan.chips, plan.split.train, compute.device, plan.seed, workspace.chips_memory, part)
    batches = Batches(
        sampler,
        plan.recipe,
        torch.tensor(mean),
        torch.tensor(std),
        plan.device_batch,
        method.n_views,
        plan.seed,
        plan.pairing,
    )
    if earlier is not None:
        batches.set_weights(earlier.weights)
    module = PretrainModule(
        method,
        batches,
        workspace.schedule(plan.steps, plan.optimizer.warm_up),
        plan.optimizer,
        plan.step_chips,
        accumulate=plan.options.accumulate,
        balance=plan.options.balance,
        optimizer_state=earlier.optimizer if earlier else None,
    )
    return module, earlier


class BatchNumbers(IterableDataset):
    """What the loader hands to Lightning: numbers of batches, ``accumulate`` a step, until the last step is done."""

    def __init__(self, first_step: int, schedule: Schedule, accumulate: int) -> None:
        self.first_step, self.schedule, self.accumulate = first_step, schedule, accumulate

    def __iter__(self) -> Iterator[int]:
        step = self.first_step
        while self.schedule.total is None or step < self.schedule.total:
            yield from range(step * self.accumulate, (step + 1) * self.accumulate)
            step += 1


def run_lightning(
    module: PretrainModule, callback: pl.Callback, first_step: int, plan: Plan, compute: Compute, place: Place
) -> None:
    """One Lightning fit over the remaining steps; Lightning's own logging and checkpoints stay out of it."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)
    cuda = compute.device.type == "cuda"
    together: dict[str, Any] = {"devices": [compute.device.index or 0] if cuda else 1}
    if place.world > 1:
        if not cuda and place.rank == 0:
            say("batch statistics are each process's own: torch synchronises them on GPUs only")
        together = {
            "devices": place.world,
            "plugins": [_Meeting(place)],
            "strategy": DDPStrategy(process_group_backend="nccl" if cuda else "gloo", timeout=_PATIENCE),
            "sync_batchnorm": cuda,
        }
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        trainer = pl.Trainer(
            accelerator=compute.accelerator,
            precision=compute.precision,
            max_epochs=1,
            accumulate_grad_batches=plan.options.accumulate,
            callbacks=[callback],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            **together,
        )
        numbers = BatchNumbers(first_step, module.schedule, plan.options.accumulate)
        try:
            trainer.fit(module, DataLoader(numbers, batch_size=None))
        except SystemExit:  # how Lightning ends after ctrl-C
            raise KeyboardInterrupt from None
        finally:
            if place.world > 1 and torch.distributed.is_initialized():
                torch.distributed.destroy_process_group()


@contextmanager
def memory_errors(plan: Plan) -> Iterator[None]:
    """Say what to do when the memory of a device or of the host is full.

    Raises:
        WorkError: instead of torch's or Python's own error.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise _out_of_memory(plan, error) from error
    except RuntimeError as error:
        if "DefaultCPUAllocator" in str(error):  # torch's own way to say that the host's memory is full
            raise _out_of_memory(plan, error) from error
        raise


def _out_of_memory(plan: Plan, error: BaseException) -> WorkError:
    half, twice = max(plan.batch_size // 2, 4), 2 * plan.options.accumulate
    return WorkError(
        "memory is full",
        where=f"batch of {plan.batch_size}, {len(plan.split.train)} resident chips",
        found=str(error).splitlines()[0] if str(error) else type(error).__name__,
        remedy=f"try --batch-size {half} --accumulate {twice} with another --out (fewer chips at once, as many a step; "
        "in-batch negatives become fewer), or fewer --max-chips",
    )


class _Meeting(ClusterEnvironment):
    """Tells Lightning that the processes are there already, and where they meet."""

    def __init__(self, place: Place) -> None:
        super().__init__()
        self._place = place

    @property
    def creates_processes_externally(self) -> bool:
        return True

    @property
    def main_address(self) -> str:
        return "127.0.0.1"

    @property
    def main_port(self) -> int:
        return self._place.port

    @staticmethod
    def detect() -> bool:
        return False

    def world_size(self) -> int:
        return self._place.world

    def set_world_size(self, size: int) -> None:
        """Fixed from the start."""

    def global_rank(self) -> int:
        return self._place.rank

    def set_global_rank(self, rank: int) -> None:
        """Fixed from the start."""

    def local_rank(self) -> int:
        return self._place.rank

    def node_rank(self) -> int:
        return 0
