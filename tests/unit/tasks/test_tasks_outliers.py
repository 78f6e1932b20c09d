"""Given features of what was taught; then places like them score below 1, and others above."""

from __future__ import annotations

import numpy as np
import torch

from geossl.encoders.saved import Encoder
from geossl.tasks.outliers import STAGE, Outliers, cell_features, fit_outliers, nearest_cell


def features(n: int, seed: int, shift: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Two clouds in 16 dimensions (nothing lies between them), ten blocks a little apart."""
    rng = np.random.default_rng(seed)
    block = np.arange(n) % 10
    cloud = np.where(rng.random(n) < 0.5, -5.0, 5.0)
    found = rng.normal(0, 1, (n, 16)) + shift
    found[:, :6] += cloud[:, None]
    return found.astype(np.float32), np.array([f"b{seed}{one}" for one in block])


def fitted(seed: int = 0) -> Outliers:
    made = fit_outliers(*features(600, 1), *features(200, 2), seed)
    assert made is not None
    return made


def test_places_like_those_taught_lie_within_the_limit_and_others_beyond() -> None:
    outliers = fitted()
    like, far = (torch.from_numpy(features(1000, 3, shift)[0]) for shift in (0.0, 4.0))
    assert 0.01 < float((outliers.scores(like) > 1).float().mean()) < 0.12
    assert float((outliers.scores(far) > 1).float().mean()) > 0.95


def test_what_lies_between_two_classes_is_like_neither() -> None:
    between = np.random.default_rng(0).normal(0, 1, (200, 16)).astype(np.float32)
    assert float((fitted().scores(torch.from_numpy(between)) > 1).float().mean()) > 0.5


def test_the_same_seed_gives_the_same_references_and_few_cells_give_none() -> None:
    assert torch.equal(fitted().references, fitted().references)
    some, blocks = features(10, 1)
    assert fit_outliers(some, blocks, some, blocks, 0) is None
    many, _ = features(100, 1)
    assert fit_outliers(many, np.full(100, "b"), many[:0], np.empty(0, dtype=str), 0) is None
    assert fit_outliers(np.ones((100, 4), np.float32), np.arange(100).astype(str), many[:0], blocks[:0], 0) is None


def test_no_score_of_nothing(encoder: Encoder) -> None:
    assert fitted().scores(torch.zeros(0, 16)).shape == (0,)


def test_masked_pixels_do_not_change_the_features_and_every_pixel_has_a_cell(encoder: Encoder) -> None:
    values = torch.rand(1, 4, 40, 40)
    clear = torch.ones(1, 40, 40, dtype=torch.bool)
    clear[0, :8, :8] = False
    other = values.clone()
    other[:, :, :8, :8] = 7.0
    assert torch.equal(
        cell_features(encoder, values[:, None], clear[:, None]), cell_features(encoder, other[:, None], clear[:, None])
    )
    cells = cell_features(encoder, values[:, None], clear[:, None]).shape[-1]
    found = nearest_cell(torch.arange(40), encoder.strides[STAGE], cells)
    assert found[0] == 0 and int(found.max()) < cells and (found.diff() >= 0).all()
