"""Given logits whose true probabilities are known; then the temperature finds them, and ECE measures the rest."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from geossl.tasks.calibration import BINS, fit_temperature, probabilities, reliability
from geossl.tasks.metrics import Resamples


def world(n: int = 4000, classes: int = 3, heat: float = 3.0, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Logits ``heat`` times too large, classes drawn from the true probabilities, twenty blocks."""
    rng = np.random.default_rng(seed)
    true = rng.normal(0, 1.5, (n, classes))
    chance = probabilities(true, 1.0, multilabel=False)
    truth = (chance.cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
    return heat * true, truth, np.array([f"b{one}" for one in np.arange(n) % 20])


def test_overconfident_logits_are_cooled_to_the_temperature_that_made_them_so() -> None:
    logits, truth, blocks = world()
    found = fit_temperature(logits, truth, blocks)
    assert found.fitted and found.value == pytest.approx(3.0, rel=0.06)
    assert "20 blocks" in found.sentence
    again = Resamples(blocks, 0)
    before = reliability(probabilities(logits, 1.0, False), truth, again)
    after = reliability(probabilities(logits, found.value, False), truth, again)
    assert before.ece > 0.1 > 0.03 > after.ece
    assert after.interval is not None and after.interval.low <= after.ece <= after.interval.high


def test_a_temperature_never_changes_the_class() -> None:
    logits, truth, blocks = world()
    value = fit_temperature(logits, truth, blocks).value
    assert (probabilities(logits, value, False).argmax(1) == logits.argmax(1)).all()


def test_labels_that_are_a_yes_or_no_each_share_one_temperature() -> None:
    rng = np.random.default_rng(1)
    true = rng.normal(0, 2, (2000, 4))
    truth = (rng.random(true.shape) < probabilities(true, 1.0, True)).astype(np.int64)
    found = fit_temperature(0.5 * true, truth, np.arange(2000) % 10)
    assert found.value == pytest.approx(0.5, rel=0.1)


@pytest.mark.parametrize(("items", "blocks"), [(29, 10), (4000, 2)])
def test_too_few_labels_or_blocks_leave_the_probabilities_as_they_are_and_say_so(items: int, blocks: int) -> None:
    logits, truth, _ = world()
    found = fit_temperature(logits[:items], truth[:items], np.arange(items) % blocks)
    assert (found.value, found.fitted) == (1.0, False) and "Not calibrated" in found.sentence


def test_one_block_of_surely_wrong_labels_does_not_set_the_temperature() -> None:
    logits, truth, blocks = world(heat=1.0)
    strange = blocks == "b0"
    wrong = logits.copy()
    wrong[strange] = 12 * np.eye(3)[(truth[strange] + 1) % 3]
    found = fit_temperature(wrong, truth, blocks)
    assert 1.0 < found.value < 2.0


def test_a_head_that_is_always_right_is_no_surer_than_its_labels_can_show() -> None:
    truth = np.arange(90) % 3
    found = fit_temperature(np.eye(3)[truth] * 3.0, truth, np.arange(90) % 9)
    sure = probabilities(np.eye(3)[truth] * 3.0, found.value, False).max(1).mean()
    assert sure == pytest.approx(91 / 92, abs=1e-3)


def test_the_error_is_that_of_the_definition() -> None:
    rng = np.random.default_rng(2)
    chance = rng.dirichlet([1, 1, 1], 500)
    truth = rng.integers(0, 3, 500)
    sure, right = chance.max(1), chance.argmax(1) == truth
    bins = torch.bucketize(torch.from_numpy(sure), torch.arange(1, BINS) / BINS, right=True).numpy()
    by_hand = sum(
        (bins == one).mean() * abs(sure[bins == one].mean() - right[bins == one].mean()) for one in np.unique(bins)
    )
    found = reliability(chance, truth, Resamples(np.arange(500) % 5, 0))
    assert found.ece == pytest.approx(by_hand, rel=1e-6)
    assert 0.01 < found.floor < 0.1
    told = found.as_dict()
    assert sum(one["share"] for one in told["bins"]) == pytest.approx(1, abs=1e-3)  # type: ignore[attr-defined]


def test_one_block_has_a_figure_and_no_interval() -> None:
    logits, truth, _ = world(200)
    assert reliability(probabilities(logits, 1.0, False), truth, Resamples(np.zeros(200), 0)).interval is None


def test_the_floor_is_what_a_perfect_head_shows_on_so_few_items() -> None:
    rng = np.random.default_rng(3)
    found = []
    for _ in range(200):
        chance = rng.dirichlet([2, 1, 1], 150)
        truth = (chance.cumsum(1) > rng.random((150, 1))).argmax(1)
        found.append(reliability(chance, truth, Resamples(np.zeros(150), 0, 1)))
    assert np.mean([one.ece for one in found]) == pytest.approx(np.mean([one.floor for one in found]), rel=0.1)
