"""Given items of a known distribution; then sets and intervals hold the truth as often as they claim, or are not
offered."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geossl.tasks.calibration import probabilities
from geossl.tasks.conformal import (
    class_sets,
    interval_coverage,
    set_coverage,
    upper_limit,
    value_ranges,
)
from geossl.tasks.metrics import Resamples


def world(n: int, blocks: int, seed: int, alike: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities (n, 3), classes drawn from them after each block has shifted its logits, and blocks."""
    rng = np.random.default_rng(seed)
    block = np.arange(n) % blocks
    logits = rng.normal(0, 2, (n, 3))
    shifted = logits + alike * rng.normal(0, 1, (blocks, 3))[block]
    chance = probabilities(shifted, 1.0, False)
    truth = (chance.cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
    return probabilities(logits, 1.0, False), truth, block


@pytest.mark.parametrize("alike", [0.0, 1.5])
def test_sets_hold_the_true_class_as_often_as_they_claim_on_other_blocks(alike: float) -> None:
    covered: dict[float, list[float]] = {}
    for seed in range(40):
        sets = class_sets(*world(600, 15, seed, alike))
        if sets is None:
            continue
        chance, truth, block = world(3000, 30, 1000 + seed, alike)
        for one in set_coverage(sets, chance, truth, Resamples(block, 0, 10)):
            covered.setdefault(one.level, []).append(one.value)
    for level, values in covered.items():
        assert np.mean(values) == pytest.approx(level, abs=0.02), (level, len(values))
    assert 0.9 in covered


def test_each_class_with_labels_enough_is_covered_by_itself() -> None:
    chance, truth, block = world(3000, 30, 0)
    chance[:, 0] *= 0.3  # the head is shy of the first class
    chance /= chance.sum(axis=1, keepdims=True)
    half = np.arange(3000) < 1500
    sets = class_sets(chance[half], truth[half], block[half])
    assert sets is not None and sets.own.all()
    found = set_coverage(sets, chance[~half], truth[~half], Resamples(block[~half], 0))[1]
    assert found.level == 0.9
    np.testing.assert_allclose(found.per_class, 0.9, atol=0.05)
    assert found.interval is not None and found.interval.low < 0.9 < found.interval.high


def test_a_class_with_few_labels_takes_the_limit_of_all_and_says_so() -> None:
    chance, truth, block = world(600, 20, 0)
    truth[truth == 2] = 1
    truth[:5] = 2
    sets = class_sets(chance, truth, block)
    assert sets is not None and sets.own[:, :2].all() and not sets.own[:, 2].any()


def test_sets_of_labels_hold_the_labels_an_item_has() -> None:
    rng = np.random.default_rng(0)
    chance = rng.random((2000, 3))
    truth = (rng.random((2000, 3)) < chance).astype(int)
    half, block = np.arange(2000) < 1000, np.arange(2000) % 25
    sets = class_sets(chance[half], truth[half], block[half])
    assert sets is not None
    found = set_coverage(sets, chance[~half], truth[~half], Resamples(block[~half], 0))
    assert [one.value for one in found] == pytest.approx([0.8, 0.9, 0.95], abs=0.03)


@pytest.mark.parametrize(("n", "blocks"), [(1, 1), (500, 2), (12, 4)])
def test_levels_that_few_labels_cannot_carry_are_not_offered(n: int, blocks: int) -> None:
    rng = np.random.default_rng(0)
    assert upper_limit(rng.random(n), np.arange(n) % blocks, 0.95) is None


def test_pixels_of_a_block_that_say_the_same_count_as_one() -> None:
    rng = np.random.default_rng(0)
    # Eight blocks of identical pixels are eight pieces of evidence: none for 95 %, however many pixels.
    assert upper_limit(np.repeat(rng.random(8), 500), np.repeat(np.arange(8), 500), 0.95) is None
    blocks = np.repeat(np.arange(8), 500)
    assert upper_limit(rng.random(4000), blocks, 0.95) == pytest.approx(0.95, abs=0.02)
    alike = upper_limit(rng.random(4000) + 0.5 * rng.random(8)[blocks], blocks, 0.8)
    assert alike is not None and alike > 0.8


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.8, 0.9]))
def test_a_limit_lies_among_the_scores_and_never_below_the_plain_quantile(seed: int, level: float) -> None:
    rng = np.random.default_rng(seed)
    scores, blocks = rng.normal(size=200), rng.integers(0, 20, 200)
    limit = upper_limit(scores, blocks, level)
    assert limit is None or (limit in scores and limit >= np.quantile(scores, level, method="higher"))


def test_intervals_are_wider_where_errors_are_larger_and_hold_what_they_claim() -> None:
    rng = np.random.default_rng(0)
    predicted = rng.uniform(0, 10, 4000)
    truth = predicted + rng.normal(0, 0.2 + 0.2 * predicted)
    half, block = np.arange(4000) < 2000, np.arange(4000) % 40
    ranges = value_ranges(predicted[half], truth[half], block[half])
    assert ranges is not None and (np.diff(ranges.half_widths, axis=1) > 0).all()
    found = interval_coverage(ranges, predicted[~half], truth[~half], Resamples(block[~half], 0))
    assert [one.value for one in found] == pytest.approx([0.8, 0.9, 0.95], abs=0.03)


def test_one_interval_for_all_where_labels_are_few_and_none_where_they_say_nothing() -> None:
    rng = np.random.default_rng(0)
    predicted = rng.uniform(0, 10, 60)
    truth, block = predicted + rng.normal(0, 1, 60), np.arange(60) % 20
    ranges = value_ranges(predicted, truth, block)
    assert ranges is not None and len(ranges.edges) < 3
    assert value_ranges(predicted[:4], truth[:4], block[:4]) is None
