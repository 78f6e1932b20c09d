"""The Lightning module on a toy network: accumulated batches, epochs of a method, autocast, and what runs when."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor, nn

from geossl.config import Settings
from geossl.methods.protocol import Method, StepResult
from geossl.training.compute import Compute
from geossl.training.fit import BatchNumbers, Place, run_lightning
from geossl.training.module import PretrainModule
from geossl.training.optim import OptimizerSettings, Schedule

CHIPS = torch.randn(16, 3, 4, 4, generator=torch.Generator().manual_seed(1))


class ToyBatches:
    """Batches of :data:`CHIPS` in their order; one view."""

    def __init__(self, batch_size: int) -> None:
        self.batch_size, self.seed = batch_size, 0
        self.sampler = SimpleNamespace(shard=(0, 1))
        self.steps_per_epoch = len(CHIPS) // batch_size
        self.weights: Tensor | None = None

    def set_weights(self, weights: Tensor | None) -> None:
        self.weights = weights

    def places(self, number: int) -> Tensor:
        first = number % self.steps_per_epoch * self.batch_size
        return torch.arange(first, first + self.batch_size)

    def views(self, number: int) -> list[Tensor]:
        return [CHIPS[self.places(number)]]

    def embed(self, network: nn.Module) -> Tensor:
        with torch.no_grad():
            return network(CHIPS)


class ToyMethod(Method):
    """Least squares; writes down what is asked of it."""

    def __init__(self) -> None:
        super().__init__(nn.Sequential(nn.Flatten(), nn.Linear(48, 4, bias=False)), Settings())
        nn.init.constant_(self.backbone[1].weight, 0.01)  # type: ignore[index]
        self.seen: list[tuple[str, Any]] = []

    def step(self, views: list[Tensor], progress: float, places: Tensor | None = None) -> StepResult:
        assert places is not None
        self.seen.append(("step", places.tolist()))
        found = self.backbone(views[0])
        self.dtypes = (views[0].dtype, found.dtype)
        return StepResult((found.float() - 1).square().mean(), {}, found.detach().float()[None])

    def after_step(self, progress: float) -> None:
        self.seen.append(("after", round(progress, 3)))

    def begin_epoch(self, epoch: int, embed: Callable[[nn.Module], Tensor]) -> None:
        self.seen.append(("epoch", epoch))
        self.found = embed(self.backbone)

    def chip_weights(self) -> Tensor | None:
        return self.found[:, 0].abs()


def fit(
    method: ToyMethod,
    batch_size: int,
    steps: int,
    accumulate: int = 1,
    first: int = 0,
    precision: str = "32-true",
    callback: pl.Callback | None = None,
) -> PretrainModule:
    settings = OptimizerSettings(rate=1.0, warm_up=0.0)
    step_chips = batch_size * accumulate
    module = PretrainModule(
        method,
        ToyBatches(batch_size),  # type: ignore[arg-type]
        Schedule(steps, warm_up=0.0),
        settings,
        step_chips,
        accumulate=accumulate,
    )
    plan: Any = SimpleNamespace(options=SimpleNamespace(accumulate=accumulate))
    compute = Compute(torch.device("cpu"), precision, "as the test says", 8)
    run_lightning(module, callback or pl.Callback(), first, plan, compute, Place())
    return module


def test_accumulated_batches_make_the_step_of_one_large_batch() -> None:
    whole, parts = ToyMethod(), ToyMethod()
    fit(whole, batch_size=8, steps=5)
    fit(parts, batch_size=2, steps=5, accumulate=4)
    torch.testing.assert_close(parts.backbone.state_dict(), whole.backbone.state_dict(), rtol=1e-5, atol=1e-7)
    after = [("after", progress) for progress in (0.0, 0.2, 0.4, 0.6, 0.8)]
    assert [what for what in parts.seen if what[0] == "after"] == after
    assert [what[0] for what in parts.seen[:5]] == ["step", "step", "step", "step", "after"]


def test_the_rate_follows_the_chips_of_a_step() -> None:
    module = fit(ToyMethod(), batch_size=4, steps=2, accumulate=2)
    assert module.steps_per_epoch == 2.0
    assert module.rate == pytest.approx(1.0 * 8 / 128 * module.schedule.factor(1))


def test_a_continued_run_takes_whole_steps() -> None:
    assert list(BatchNumbers(2, Schedule(4), 3)) == [6, 7, 8, 9, 10, 11]
    method = ToyMethod()
    fit(method, batch_size=4, steps=4, accumulate=2, first=2)
    assert [what[0] for what in method.seen] == ["step", "step", "after"] * 2


def test_batches_end_where_the_schedule_says_even_when_it_is_set_on_the_way() -> None:
    schedule = Schedule(None, timed=True)
    numbers = iter(BatchNumbers(5, schedule, 1))
    assert [next(numbers) for _ in range(3)] == [5, 6, 7]
    schedule.total = 9
    assert list(numbers) == [8]


def test_a_method_with_epochs_is_told_before_their_first_batch_and_weighs_the_chips() -> None:
    method = ToyMethod()
    method.needs_epochs = True
    module = fit(method, batch_size=8, steps=4)
    kinds = [what for what in method.seen if what[0] != "after"]
    assert [what[0] for what in kinds] == ["epoch", "step", "step", "epoch", "step", "step"]
    assert [what[1] for what in kinds if what[0] == "epoch"] == [0, 1]
    assert torch.equal(module.batches.weights, method.found[:, 0].abs())  # type: ignore[arg-type]


def test_a_run_continued_in_mid_epoch_does_not_begin_it_again() -> None:
    method = ToyMethod()
    method.needs_epochs = True
    fit(method, batch_size=8, steps=4, first=1)
    assert [what for what in method.seen if what[0] == "epoch"] == [("epoch", 1)]


def test_a_method_without_epochs_is_not_told() -> None:
    method = ToyMethod()
    module = fit(method, batch_size=8, steps=4)
    assert not [what for what in method.seen if what[0] == "epoch"]
    assert module.batches.weights is None


def test_under_bfloat16_networks_compute_narrow_and_views_weights_and_loss_stay_float32() -> None:
    method = ToyMethod()
    module = fit(method, batch_size=8, steps=2, precision="bf16-mixed")
    assert method.dtypes == (torch.float32, torch.bfloat16)
    assert module.loss.dtype == torch.float32 and torch.isfinite(module.loss)
    assert {p.dtype for p in method.parameters()} == {torch.float32}
    state = module.optimizers().state  # type: ignore[union-attr]
    assert {value["momentum_buffer"].dtype for value in state.values()} == {torch.float32}
