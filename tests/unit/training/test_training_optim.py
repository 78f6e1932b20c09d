"""The schedule warms up, falls to nothing, and does not depend on when a timed run learnt its length."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from lightly.utils.lars import LARS
from torch import nn

from geossl.config import parse
from geossl.errors import InputError
from geossl.training.callbacks import evaluation_interval, steps_in_time
from geossl.training.optim import MEASURED_STEPS, Lars, OptimizerSettings, Schedule, make_optimizer, set_rate


def test_rate_is_linear_in_the_batch() -> None:
    assert OptimizerSettings().peak_rate(128) == pytest.approx(0.06)
    assert OptimizerSettings().peak_rate(64) == pytest.approx(0.03)
    assert OptimizerSettings(rate=0.2).peak_rate(256) == pytest.approx(0.4)


def test_warm_up_then_cosine_to_zero() -> None:
    schedule = Schedule(1000)
    factors = [schedule.factor(step) for step in range(1000)]
    assert factors[0] == pytest.approx(1 / 80)
    assert max(factors) == pytest.approx(1.0) and factors.index(max(factors)) in (79, 80)
    assert all(a < b for a, b in pairwise(factors[:80]))
    assert all(a > b for a, b in pairwise(factors[80:]))
    assert factors[540] == pytest.approx(0.5 * (1 + math.cos(math.pi / 2)))
    assert factors[-1] < 1e-4


def test_a_timed_run_starts_alike_whatever_its_length_turns_out_to_be() -> None:
    unknown, short, long = Schedule(None, timed=True), Schedule(60, timed=True), Schedule(5000, timed=True)
    for step in range(MEASURED_STEPS):
        assert unknown.factor(step) == short.factor(step) == long.factor(step)


@pytest.mark.parametrize("total", [60, 100, 300, 5000])
def test_a_timed_schedule_has_no_jump_and_ends_at_zero(total: int) -> None:
    factors = [Schedule(total, timed=True).factor(step) for step in range(total)]
    assert all(0 <= factor <= 1 + 1e-12 for factor in factors)
    assert max(factors) > 0.99 and factors[-1] < 0.01
    assert max(abs(a - b) for a, b in pairwise(factors)) < 0.15


def test_progress_runs_from_nothing_to_one() -> None:
    assert Schedule(None, timed=True).progress(10) == 0.0
    assert Schedule(40).progress(10) == 0.25
    assert Schedule(40).progress(50) == 1.0


def test_the_share_of_the_warm_up_is_a_setting() -> None:
    assert Schedule(1000, warm_up=0.2).factor(199) == pytest.approx(1.0)
    assert Schedule(1000, warm_up=0.0).factor(0) == pytest.approx(1.0)


@pytest.mark.parametrize("warm_up", [0.08, 0.25])
def test_the_schedule_is_torchs_linear_warm_up_and_cosine(warm_up: float) -> None:
    """The oracle: torch's own schedulers, one after the other."""
    total = 200
    warm = round(warm_up * total)
    oracle = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    rising = torch.optim.lr_scheduler.LinearLR(oracle, 1 / warm, 1.0, warm - 1)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(oracle, total - warm)
    both = torch.optim.lr_scheduler.SequentialLR(oracle, [rising, falling], [warm])
    for step in range(total):
        assert Schedule(total, warm_up=warm_up).factor(step) == pytest.approx(oracle.param_groups[0]["lr"], abs=1e-6)
        oracle.step()
        both.step()


def network(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(64, 5)).double()
    nn.init.zeros_(net[3].weight)  # a weight without a size, as some heads start
    return net


def test_lars_is_lightlys() -> None:
    """Ten steps beside an independent implementation, in float64: adapted weights, plain biases and normalisation."""
    ours, theirs = network(0), network(0)
    settings = OptimizerSettings(name="lars", weight_decay=1e-3)
    optimizer = make_optimizer(ours, 256, settings)
    decays = ([p for p in theirs.parameters() if p.ndim > 1], [p for p in theirs.parameters() if p.ndim <= 1])
    groups = [{"params": decays[0], "weight_decay": 1e-3}, {"params": decays[1], "weight_decay": 0.0}]
    oracle = LARS(groups, lr=0.3, momentum=0.9)
    assert isinstance(optimizer, Lars) and optimizer.param_groups[0]["lr"] == pytest.approx(0.3)
    generator = torch.Generator().manual_seed(3)
    for step in range(10):
        images = torch.randn(6, 3, 6, 6, generator=generator, dtype=torch.float64)
        for net, one in ((ours, optimizer), (theirs, oracle)):
            set_rate(one, 0.03 * (10 - step))
            one.zero_grad()
            (net(images) - 1).square().mean().backward()
            one.step()
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict(), rtol=1e-7, atol=1e-12)


def test_lars_leaves_alone_what_has_no_gradient() -> None:
    net = nn.Linear(3, 3, bias=False)
    before = net.weight.detach().clone()
    optimizer = make_optimizer(net, 128, OptimizerSettings(name="lars", weight_decay=0.1))
    optimizer.step()
    net.weight.grad = torch.zeros_like(net.weight)
    optimizer.step()
    assert torch.equal(net.weight, before)


@pytest.mark.parametrize("name", ["sgd", "lars", "adamw"])
def test_an_optimiser_goes_on_from_its_state(name: str) -> None:
    def steps(net: nn.Module, optimizer: torch.optim.Optimizer, count: int) -> None:
        for _ in range(count):
            optimizer.zero_grad()
            (net(torch.ones(2, 3, 6, 6, dtype=torch.float64)) - 1).square().sum().backward()
            optimizer.step()

    settings = OptimizerSettings.model_validate({"name": name})
    whole, halves = network(1), network(1)
    steps(whole, make_optimizer(whole, 128, settings), 4)
    first = make_optimizer(halves, 128, settings)
    steps(halves, first, 2)
    second = make_optimizer(halves, 128, settings)
    second.load_state_dict(first.state_dict())
    steps(halves, second, 2)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), halves.parameters(), strict=True))


@pytest.mark.parametrize(("name", "kind"), [("sgd", torch.optim.SGD), ("lars", Lars), ("adamw", torch.optim.AdamW)])
def test_no_optimiser_decays_vectors(name: str, kind: type) -> None:
    settings = OptimizerSettings.model_validate({"name": name, "weight_decay": 0.1})
    optimizer = make_optimizer(network(0), 128, settings)
    assert isinstance(optimizer, kind)
    for group in optimizer.param_groups:
        assert group["weight_decay"] == (0.1 if all(p.ndim > 1 for p in group["params"]) else 0.0)
        assert len({p.ndim > 1 for p in group["params"]}) == 1


def test_unknown_optimiser_settings_are_refused() -> None:
    with pytest.raises(InputError, match=r"optimizer[\s\S]*'sgd', 'lars' or 'adamw'"):
        parse(OptimizerSettings, {"name": "adam"}, "simclr: optimizer")


def test_biases_and_normalisation_do_not_decay_and_frozen_parts_are_left_out() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))
    net[2].requires_grad_(False)
    optimizer = make_optimizer(net, 128)
    decayed, plain = optimizer.param_groups
    assert [p.ndim for p in decayed["params"]] == [4] and decayed["weight_decay"] == 5e-4
    assert [p.ndim for p in plain["params"]] == [1, 1, 1] and plain["weight_decay"] == 0
    assert isinstance(optimizer, torch.optim.SGD) and optimizer.defaults["nesterov"]


@pytest.mark.parametrize(("total", "epoch"), [(22, 11), (300, 11), (300, 1000), (5000, 312), (5, 2)])
def test_evaluations_are_few_and_not_too_far_apart(total: int, epoch: int) -> None:
    every = evaluation_interval(total, epoch)
    assert every >= 10
    assert total / every <= 12
    if total >= 40:
        assert total / every >= 4


def test_time_becomes_steps_that_leave_room_for_evaluations() -> None:
    assert steps_in_time(100, step_s=1.0, evaluation_s=0.0, steps_per_epoch=50) == 100
    with_evaluations = steps_in_time(100, step_s=1.0, evaluation_s=5.0, steps_per_epoch=50)
    assert 60 <= with_evaluations < 100
    assert steps_in_time(-5, step_s=1.0, evaluation_s=1.0, steps_per_epoch=50) == 2
