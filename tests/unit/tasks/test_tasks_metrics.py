"""Given predictions of known worth; then the figures are scikit-learn's, and differences are paired."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, balanced_accuracy_score, f1_score, jaccard_score, r2_score

from geossl.tasks.metrics import Resamples, class_figures, label_figures, value_figures, weighted_precision

RNG = np.random.default_rng(5)
BLOCKS = np.repeat(np.arange(12), 25)
TRUTH = RNG.integers(0, 3, 300)
SAID = np.where(RNG.random(300) < 0.7, TRUTH, RNG.integers(0, 3, 300))


def test_class_figures_are_scikit_learns() -> None:
    figures = class_figures(TRUTH, [SAID], 3, Resamples(BLOCKS, 0))
    assert figures.values["macro_f1"] == pytest.approx(f1_score(TRUTH, SAID, average="macro"))
    assert figures.values["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(TRUTH, SAID))
    assert [one["iou"] for one in figures.per_class] == pytest.approx(jaccard_score(TRUTH, SAID, average=None))


def test_a_class_that_is_not_tested_does_not_count_as_missed() -> None:
    figures = class_figures(TRUTH, [TRUTH], 5, Resamples(BLOCKS, 0))
    assert figures.values["macro_f1"] == 1 and np.isnan(figures.per_class[4]["f1"])


def test_average_precision_is_scikit_learns_ties_and_weights_included() -> None:
    truth, scores = (TRUTH == 0).astype(int), np.round(RNG.random(300) + 0.3 * (TRUTH == 0), 1)
    weights = RNG.integers(0, 4, (3, 300)).astype(float)
    expected = [average_precision_score(truth, scores, sample_weight=one) for one in weights]
    assert weighted_precision(truth, scores, weights) == pytest.approx(expected)


def test_a_constant_answer_has_the_share_of_positives_as_average_precision() -> None:
    truth = np.stack([TRUTH == 0, TRUTH == 1], 1).astype(int)
    figures = label_figures(truth, [np.zeros((300, 2))], Resamples(BLOCKS, 0))
    assert figures.values["macro_ap"] == pytest.approx(truth.mean())


def test_value_figures_are_scikit_learns() -> None:
    truth = RNG.normal(size=300)
    said = truth + RNG.normal(0, 0.3, 300)
    figures = value_figures(truth, [said], Resamples(BLOCKS, 0))
    assert figures.values["r2"] == pytest.approx(r2_score(truth, said))
    assert figures.values["rmse"] == pytest.approx(np.sqrt(((said - truth) ** 2).mean()))


def test_blocks_that_vary_widen_the_interval_beyond_that_of_single_items() -> None:
    good = np.repeat(RNG.random(12) < 0.5, 25)
    said = np.where(good, TRUTH, (TRUTH + 1) % 3)
    by_block = class_figures(TRUTH, [said], 3, Resamples(BLOCKS, 0)).interval("accuracy")
    by_item = class_figures(TRUTH, [said], 3, Resamples(np.arange(300), 0)).interval("accuracy")
    assert by_block is not None and by_item is not None
    assert by_block.half_width > 2 * by_item.half_width


def test_a_row_does_not_differ_from_itself_and_paired_differences_are_narrow() -> None:
    again = Resamples(BLOCKS, 0)
    one = class_figures(TRUTH, [SAID], 3, again)
    slightly = SAID.copy()
    slightly[::50] = TRUTH[::50]
    other = class_figures(TRUTH, [slightly], 3, again)
    same, apart, alone = one.minus(one, "macro_f1"), other.minus(one, "macro_f1"), one.interval("macro_f1")
    assert same is not None and (same.low, same.high) == (0, 0)
    assert apart is not None and alone is not None and apart.half_width < alone.half_width / 2


def test_several_draws_give_their_mean_and_one_block_gives_no_interval() -> None:
    again = Resamples(np.zeros(300), 0)
    both = class_figures(TRUTH, [TRUTH, SAID], 3, again)
    alone = class_figures(TRUTH, [SAID], 3, again)
    assert both.values["macro_f1"] == pytest.approx((1 + alone.values["macro_f1"]) / 2)
    assert both.interval("macro_f1") is None
