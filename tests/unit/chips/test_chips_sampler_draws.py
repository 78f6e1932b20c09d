"""Weighted epochs: in proportion to the weights, never a chip twice in a batch, windows kept together."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geossl.chips.draws import weighted_order
from geossl.errors import InputError


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    batch=st.integers(1, 12),
    batches=st.integers(2, 12),
    count=st.integers(1, 3),
    shape=st.floats(0.3, 5),
)
def test_no_batch_holds_a_chip_twice_and_windows_follow_each_other(seed, batch, batches, count, shape):
    generator = np.random.default_rng(seed)
    n = 3 * count * batch * batches
    weights = generator.gamma(shape, size=n) + 1e-3
    windows = np.array_split(generator.permutation(n), count)
    order = weighted_order(weights, batch, batches, windows, generator)
    assert order.shape == (batch * batches,)
    assert all(len(set(one)) == batch for one in order.reshape(batches, batch).tolist())
    number = np.empty(n, dtype=int)
    for place, window in enumerate(windows):
        number[window] = place
    assert (np.diff(number[order]) >= 0).all()


def test_each_chip_comes_as_often_as_its_weight_says_rounded_up_or_down():
    generator = np.random.default_rng(0)
    weights = generator.uniform(0.2, 3, 200)
    expected = weights / weights.sum() * 200
    total = np.zeros(200)
    for epoch in range(300):
        order = weighted_order(weights, 20, 10, [np.arange(200)], np.random.default_rng(epoch))
        counts = np.bincount(order, minlength=200)
        assert (counts >= np.floor(expected)).all() and (counts <= np.ceil(expected)).all()
        total += counts
    assert np.abs(total / 300 - expected).max() < 0.15


def test_equal_weights_take_no_chip_twice():
    order = weighted_order(np.ones(50), 8, 6, [np.arange(50)], np.random.default_rng(0))
    assert len(set(order.tolist())) == 48


def test_a_chip_of_huge_weight_is_in_every_batch_once_and_of_no_weight_in_none():
    weights = np.ones(40)
    weights[3], weights[5] = 1e6, 0
    order = weighted_order(weights, 8, 5, [np.arange(40)], np.random.default_rng(0)).reshape(5, 8)
    assert ((order == 3).sum(axis=1) == 1).all() and not (order == 5).any()


@pytest.mark.parametrize("weights", [np.zeros(9), -np.ones(9), np.full(9, np.nan), np.eye(9)[0]])
def test_useless_weights_are_refused(weights):
    with pytest.raises(InputError, match="weight"):
        weighted_order(weights, 3, 3, [np.arange(9)], np.random.default_rng(0))
