"""Given places without labels; then those are suggested that are doubtful, unlike each other and spread over blocks."""

from __future__ import annotations

import numpy as np
import pytest

from geossl.labels.choose import choose, entropy, learned_doubt
from tests.benchmarks.suggest import Campaign, curve

SHARES = (0.46, 0.24, 0.12, 0.08, 0.04, 0.03, 0.02, 0.01)


def made(seed: int) -> Campaign:
    """Eight classes of very unequal shares in ten dimensions, in twelve blocks."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(scale=1.6, size=(len(SHARES), 10))
    truth = rng.choice(len(SHARES), 3000, p=SHARES)
    features = centres[truth] + rng.normal(size=(3000, 10))
    block = np.array([f"b{one}" for one in rng.integers(0, 12, 3000)])
    return Campaign(features[:1500], truth[:1500], block[:1500], features[1500:], truth[1500:])


def test_suggested_labels_teach_more_than_as_many_random_ones() -> None:
    gains = []
    for seed in range(6):
        campaign = made(seed)
        ends = {way: curve(campaign, way, seed, 10, 10, 5)[1:] for way in ("suggest", "random")}
        gains.append(np.mean(ends["suggest"]) - np.mean(ends["random"]))
    assert np.mean(gains) > 0.05 and np.sum(np.array(gains) > 0) >= 5


def test_the_same_seed_suggests_the_same_places_and_each_once() -> None:
    campaign = made(0)
    doubt = np.random.default_rng(0).random(1500)
    chosen = choose(campaign.features, doubt, campaign.block, 40, 3)
    assert np.array_equal(chosen, choose(campaign.features, doubt, campaign.block, 40, 3))
    assert len(np.unique(chosen)) == 40 and (np.diff(doubt[chosen]) <= 0).all()
    assert len(choose(campaign.features[:5], doubt[:5], campaign.block[:5], 40, 3)) == 5
    assert len(choose(campaign.features[:0], doubt[:0], campaign.block[:0], 40, 3)) == 0


def test_no_block_gets_more_than_twice_its_share_while_others_have_candidates() -> None:
    rng = np.random.default_rng(0)
    block = np.array(["big"] * 180 + ["a"] * 10 + ["b"] * 10)
    chosen = choose(rng.normal(size=(200, 4)), np.zeros(200), block, 9, 0)
    assert (block[chosen] == "big").sum() <= 6
    alone = choose(rng.normal(size=(200, 4)), np.zeros(200), np.full(200, "one"), 9, 0)
    assert len(alone) == 9


def test_without_doubt_every_group_is_met_once() -> None:
    rng = np.random.default_rng(1)
    group = np.repeat(np.arange(5), [300, 100, 30, 10, 5])
    features = 20 * np.eye(5)[group] + rng.normal(size=(445, 5))
    chosen = choose(features, np.zeros(445), np.full(445, "b"), 5, 0)
    assert sorted(group[chosen]) == [0, 1, 2, 3, 4]


def test_doubt_is_one_where_all_classes_are_alike_and_nothing_where_one_is_certain() -> None:
    assert entropy(np.array([[0.25] * 4, [1, 0, 0, 0]])) == pytest.approx([1, 0], abs=1e-9)
    assert entropy(np.array([[0.5, 0.5], [1.0, 0.0]]), several=True) == pytest.approx([1, 0], abs=1e-9)


def test_a_model_of_the_labels_doubts_between_them_and_far_from_them() -> None:
    known = np.array([[-1.0], [-0.9], [0.9], [1.0]])
    between = np.array([[-1.0], [0.0], [1.0]])
    assert learned_doubt(known, np.array([0, 0, 1, 1]), between, 0).argmax() == 1  # type: ignore[union-attr]
    both = np.array([[0, 1], [0, 1], [1, 1], [1, 1]])
    assert learned_doubt(known, both, between, 0).argmax() == 1  # type: ignore[union-attr]
    numbers = learned_doubt(known, np.array([0.0, 0.3, 0.9, 1.0]), np.array([[0.0], [9.0]]), 0)
    assert numbers is not None and numbers[1] > numbers[0]
    assert learned_doubt(known, np.array([1, 1, 1, 1]), between, 0) is None
