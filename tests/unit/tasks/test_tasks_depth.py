"""Depth by two formulas: they invert the optics they come from, and take each date's own deep water."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from geossl.errors import InputError
from geossl.tasks.depth import depth_baseline, lyzenga_logs, stumpf_ratio
from geossl.tasks.examples import ChipData, PixelExamples

BANDS = ("blue", "green", "red", "nir")
FADING = np.array([0.06, 0.10, 0.40])
SIDE = 32


def water(depth: np.ndarray, deep: np.ndarray) -> np.ndarray:
    """Visible bands (3, y, x) of water over sand: R = R_deep + 0.15 exp(-2 k z), Lyzenga's model."""
    return deep[:, None, None] + 0.15 * np.exp(-2 * FADING[:, None, None] * depth)


@pytest.fixture
def soundings(make_store: Any) -> tuple[PixelExamples, np.ndarray]:
    """Pixels of known depth on two dates whose deep water differs, and which of them lie in tiles left out."""
    store = make_store(tiles=4, dates=("2020-06-01", "2021-06-01"))
    rng = np.random.default_rng(4)
    depth = np.where(rng.random((8, SIDE, SIDE)) < 0.3, 40.0, rng.uniform(0.5, 5, (8, SIDE, SIDE)))
    haze = np.where(np.arange(8) % 2, 0.03, 0.0)  # of every other chip: the second date
    deep = np.array([0.03, 0.02, 0.01])[None] + haze[:, None]
    visible = np.stack([water(one, signal) for one, signal in zip(depth, deep, strict=True)])
    values = np.concatenate([visible, np.full((8, 1, SIDE, SIDE), 0.002)], 1)
    values += rng.normal(0, 0.0005, values.shape)
    store.bands, store.stored = BANDS, np.rint(values * 10_000 + 1000).astype(np.uint16)
    block = store.table["block"].to_numpy()
    data = ChipData(store, np.arange(8), block, np.array(["train"] * 4 + ["test"] * 4))
    chip, y, x = (part.ravel() for part in np.meshgrid(np.arange(8), np.arange(SIDE), np.arange(SIDE), indexing="ij"))
    known = depth[chip, y, x] < 30
    chip, y, x = chip[known], y[known], x[known]
    examples = PixelExamples(data, chip, y, x, depth[chip, y, x], np.arange(len(chip)))
    return examples, chip >= 4


def test_the_ratio_falls_and_the_logs_fall_as_water_gets_deeper() -> None:
    depth = np.linspace(0.5, 6, 20)[None]
    visible = water(depth, np.array([0.02, 0.01, 0.005]))[:, 0]
    assert (np.diff(stumpf_ratio(visible[0], visible[1])) > 0).all(), "green fades faster than blue"
    logs = lyzenga_logs(visible.T, np.array([0.02, 0.01, 0.005]))
    np.testing.assert_allclose(np.diff(logs, axis=0) / np.diff(depth[0])[:, None], -2 * FADING[None].repeat(19, 0))


def test_logs_over_each_dates_deep_water_tell_depths_within_a_decimetre(
    soundings: tuple[PixelExamples, np.ndarray],
) -> None:
    examples, held_out = soundings
    train, test = np.flatnonzero(~held_out), np.flatnonzero(held_out)
    truth = examples.value[test]
    error = {name: np.sqrt(np.mean((depth_baseline(name, examples, train, test) - truth) ** 2))
             for name in ("lyzenga", "stumpf")}  # fmt: skip
    assert error["lyzenga"] < 0.15
    assert error["stumpf"] < 0.8 * truth.std()


def test_chips_without_blue_are_refused(make_store: Any) -> None:
    store = make_store()
    data = ChipData(store, np.arange(8), store.table["block"].to_numpy(), np.array(["train"] * 8))
    nothing = np.zeros(1, int)
    examples = PixelExamples(data, nothing, nothing, nothing, np.ones(1), nothing)
    with pytest.raises(InputError, match="needs band blue"):
        depth_baseline("stumpf", examples, nothing, nothing)
