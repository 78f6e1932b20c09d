"""Cluster-balanced sampling: what is common gets less weight, whenever and wherever it is computed."""

import numpy as np
import pytest
import torch

from geossl.errors import WorkError
from geossl.training.balance import REFRESH, TEMPER, WARM_UP, balance_due, balance_weights


def bunches(sizes: tuple[int, ...], seed: int = 0) -> tuple[torch.Tensor, np.ndarray]:
    """Embeddings in well separated directions, so many chips in each, and which one each chip belongs to."""
    generator = np.random.default_rng(seed)
    which = np.repeat(np.arange(len(sizes)), sizes)
    centres = np.eye(16)[: len(sizes)]
    lengths = generator.uniform(0.1, 10, (len(which), 1))  # only directions count
    points = lengths * (centres[which] + generator.normal(scale=0.02, size=(len(which), 16)))
    return torch.from_numpy(points.astype(np.float32)), which


def test_chips_of_a_common_kind_get_less_weight_and_a_rare_kind_more():
    embeddings, which = bunches((480, 60, 60))
    weights = balance_weights(embeddings, 0).numpy()
    assert weights.dtype == np.float32 and weights.mean() == pytest.approx(1, abs=1e-5) and (weights > 0).all()
    shares = np.array([weights[which == kind].sum() for kind in range(3)]) / len(which)
    assert shares[0] < 0.8 and shares[1] > 0.1 and shares[2] > 0.1


def test_two_kinds_are_weighted_by_the_tempered_size_of_their_cluster():
    embeddings, which = bunches((45, 14))  # two clusters: one for every 30 chips
    weights = balance_weights(embeddings, 0).numpy()
    assert weights[which == 1].mean() / weights[which == 0].mean() == pytest.approx((45 / 14) ** TEMPER, rel=1e-4)


def test_a_few_odd_chips_do_not_fill_the_batches():
    embeddings, which = bunches((58, 1))
    weights = balance_weights(embeddings, 0).numpy()
    assert weights[which == 1].max() <= (59 / 2 * 0.25) ** -TEMPER / 58**-TEMPER * weights[which == 0].max() + 1e-5


def test_weights_are_a_function_of_embeddings_and_seed():
    embeddings, _ = bunches((200, 80, 20))
    assert torch.equal(balance_weights(embeddings, 3), balance_weights(embeddings.clone(), 3))


def test_embeddings_that_are_no_numbers_are_an_error():
    embeddings, _ = bunches((40, 20))
    embeddings[3, 2] = torch.nan
    with pytest.raises(WorkError, match="1 of 60 chips"):
        balance_weights(embeddings, 0)


@pytest.mark.parametrize("epochs", [2, 5, 40, 100, 7.3])
def test_weights_come_after_the_warm_up_and_at_every_refresh(epochs):
    due = [epoch for epoch in range(int(epochs) + 2) if balance_due(epoch, epochs)]
    assert due and due[0] >= max(WARM_UP * epochs, 1) and due[0] < WARM_UP * epochs + 1.01 and due[-1] < epochs
    assert set(np.diff(due)) <= {max(round(REFRESH * epochs), 1)}


def test_a_run_of_one_epoch_is_never_balanced():
    assert not any(balance_due(epoch, 1) for epoch in range(3))
