"""The schedule warms up, falls to nothing, and does not depend on when a timed run learnt its length."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from geossl.training.callbacks import evaluation_interval, steps_in_time
from geossl.training.optim import MEASURED_STEPS, WEIGHT_DECAY, Schedule, base_rate, make_optimizer


def test_rate_is_linear_in_the_batch() -> None:
    assert base_rate(128) == pytest.approx(0.06)
    assert base_rate(64) == pytest.approx(0.03)


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


def test_biases_and_normalisation_do_not_decay_and_frozen_parts_are_left_out() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))
    net[2].requires_grad_(False)
    optimizer = make_optimizer(net, 128)
    decayed, plain = optimizer.param_groups
    assert [p.ndim for p in decayed["params"]] == [4] and decayed["weight_decay"] == WEIGHT_DECAY
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
