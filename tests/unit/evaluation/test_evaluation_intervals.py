"""Block bootstrap: known spreads, dependence within blocks, and differences that cancel."""

from __future__ import annotations

import numpy as np
import pytest

from geossl.errors import InputError
from geossl.evaluation.intervals import block_bootstrap, paired_difference


def mean_of(values):
    return lambda rows: float(values[rows].mean())


def test_the_interval_of_a_mean_is_two_standard_errors_of_the_blocks():
    rng = np.random.default_rng(0)
    values = rng.normal(size=200)
    interval = block_bootstrap(mean_of(values), np.arange(200), resamples=4000)
    assert interval.value == pytest.approx(values.mean())
    assert interval.half_width == pytest.approx(1.96 * values.std() / np.sqrt(200), rel=0.08)
    assert interval.low < interval.value < interval.high and interval.blocks == 200


def test_chips_of_one_block_are_not_counted_as_independent():
    rng = np.random.default_rng(0)
    blocks = np.repeat(np.arange(20), 25)
    values = rng.normal(size=20)[blocks]
    by_block = block_bootstrap(mean_of(values), blocks)
    by_chip = block_bootstrap(mean_of(values), np.arange(500))
    assert by_block.half_width > 3 * by_chip.half_width


def test_95_percent_intervals_cover_the_truth_about_that_often():
    rng = np.random.default_rng(1)
    blocks = np.repeat(np.arange(25), 4)
    covered = 0
    for seed in range(150):
        values = rng.normal(size=25)[blocks] + rng.normal(size=100)
        interval = block_bootstrap(mean_of(values), blocks, seed=seed, resamples=200)
        covered += interval.low <= 0 <= interval.high
    assert 0.86 <= covered / 150 <= 0.99


def test_a_paired_difference_cancels_what_both_share():
    rng = np.random.default_rng(0)
    hard = rng.normal(size=60)
    first, second = hard + 0.1 + 0.01 * rng.normal(size=60), hard
    paired = paired_difference(mean_of(first), mean_of(second), np.arange(60))
    assert paired.value == pytest.approx(0.1, abs=0.01) and paired.low > 0.09
    assert paired.half_width < 0.1 * block_bootstrap(mean_of(first), np.arange(60)).half_width


def test_equal_seeds_give_equal_intervals():
    values = np.random.default_rng(0).normal(size=30)
    a, b, c = (block_bootstrap(mean_of(values), np.arange(30), seed=seed) for seed in (0, 0, 1))
    assert a == b and a != c


def test_resamples_without_an_answer_are_left_out_and_counted():
    blocks = np.array(["a", "a", "b", "b"])
    interval = block_bootstrap(lambda rows: float("nan") if 0 not in rows else 1.0, blocks, resamples=400)
    assert interval.low == interval.high == 1.0 and 250 < interval.resamples < 350


def test_one_block_gives_no_interval():
    with pytest.raises(InputError, match="at least two blocks"):
        block_bootstrap(mean_of(np.ones(4)), ["a"] * 4)


def test_an_interval_reads_as_value_and_limits():
    assert str(block_bootstrap(mean_of(np.ones(4)), [1, 1, 2, 2])) == "1.000 [1.000, 1.000]"
