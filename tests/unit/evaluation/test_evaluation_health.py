"""Representation health on embeddings whose state is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from geossl.evaluation.health import collapse_signs, effective_rank, representation_health

RNG = np.random.default_rng(0)
SPREAD = RNG.normal(size=(400, 16))


def test_evenly_spread_embeddings_are_healthy():
    health = representation_health(SPREAD)
    assert health["feature_std"] == pytest.approx(1, abs=0.03)
    assert health["effective_rank"] > 15
    assert health["uniformity"] == pytest.approx(-3.5, abs=0.4)
    assert health["duplicates"] == 0 and health["finite"] == 1
    assert collapse_signs(health) == []


def test_scale_does_not_matter_but_shift_does():
    assert representation_health(SPREAD * 100) == pytest.approx(representation_health(SPREAD))
    assert representation_health(SPREAD + 100)["feature_std"] < 0.05


@pytest.mark.parametrize("count", [1, 3, 10])
def test_the_effective_rank_counts_equally_strong_directions(count):
    x = np.zeros((64, 12))
    signs = np.array([[1, -1][bit >> k & 1] for bit in range(64) for k in range(6)]).reshape(64, 6)
    x[:, : min(count, 6)] = signs[:, : min(count, 6)]
    assert effective_rank(x) == pytest.approx(min(count, 6))


def test_the_rank_does_not_depend_on_which_side_is_longer():
    wide = RNG.normal(size=(10, 40))
    wide -= wide.mean(0)
    singular = np.linalg.svd(wide, compute_uv=False)
    share = singular[singular > 1e-9] / singular.sum()
    expected = math.exp(-(share * np.log(share)).sum())
    assert effective_rank(wide) == pytest.approx(expected)
    assert effective_rank(np.concatenate([wide] * 9)) == pytest.approx(expected)


def test_alignment_is_the_squared_distance_of_positives():
    turned = np.roll(np.eye(4), 1, axis=0)
    assert representation_health(np.eye(4), np.eye(4))["alignment"] == pytest.approx(0)
    assert representation_health(np.eye(4), turned)["alignment"] == pytest.approx(2)


def test_duplicates_are_the_share_of_rows_that_another_row_equals():
    x = SPREAD.copy()
    x[:100] = x[0]
    assert representation_health(x)["duplicates"] == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("embeddings", "sign"),
    [
        (np.ones((50, 8)), "hardly vary"),
        (np.ones((50, 8)) + 1e-5 * RNG.normal(size=(50, 8)), "hardly vary"),
        (np.outer(RNG.normal(size=50), np.arange(1, 9.0)) + 1e-3 * RNG.normal(size=(50, 8)), "one direction"),
        (np.repeat(RNG.normal(size=(5, 8)), 10, axis=0), "same embedding"),
        (np.where(RNG.random((50, 8)) < 0.1, np.nan, 1.0), "not finite"),
        (np.full((50, 8), np.nan), "not finite"),
        (np.zeros((50, 8)), "hardly vary"),
    ],
)
def test_collapse_is_named(embeddings, sign):
    assert any(sign in text for text in collapse_signs(representation_health(embeddings)))


def test_an_untrained_encoder_on_similar_chips_is_no_collapse():
    import torch

    from geossl.encoders.build import seeded_encoder

    chips = 0.3 + 0.02 * torch.randn(48, 4, 32, 32, generator=torch.Generator().manual_seed(0))
    chips += 0.05 * torch.randn(48, 4, 1, 1, generator=torch.Generator().manual_seed(1))
    normal = (chips - chips.mean((0, 2, 3), keepdim=True)) / chips.std((0, 2, 3), keepdim=True)
    with torch.no_grad():
        embeddings = seeded_encoder("resnet18", "abcd", 0).eval()(normal)
    assert collapse_signs(representation_health(embeddings.numpy())) == []
