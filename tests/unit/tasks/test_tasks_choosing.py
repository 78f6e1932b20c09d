"""Given validation labels; then fits are told apart by the headline figure, and by how sure they are of the truth."""

from __future__ import annotations

import numpy as np
import pytest

from geossl.tasks.choosing import WEIGHING_BLOCKS, Labelled, fit_head, judge_of, validation_judge
from geossl.tasks.linear import Folds, Linear, LinearKind, Scaling
from geossl.tasks.spec import TaskSpec

CLASSES = TaskSpec.model_validate(
    {"name": "t", "title": "T", "kind": "classification", "classes": [{"name": "a"}, {"name": "b"}]}
)
LABELS = CLASSES.model_copy(update={"kind": "multilabel"})
NUMBERS = TaskSpec.model_validate({"name": "t", "title": "T", "kind": "regression", "unit": "m"})
X = np.array([[-2.0], [-1.0], [1.0], [2.0]], dtype=np.float32)
Y = np.array([0, 0, 1, 1])


def model(weight: list[float], kind: LinearKind = "multinomial", bias: float = 0.0) -> Linear:
    return Linear(kind, np.array(weight)[:, None], np.full(len(weight), bias), 1.0)


def score(spec: TaskSpec, one: Linear, truth: np.ndarray, soft: np.ndarray | None = None) -> float:
    judge = validation_judge(spec, Labelled(X, truth, None, soft))
    assert judge is not None
    return judge(one)


def test_without_validation_labels_nothing_judges() -> None:
    assert validation_judge(CLASSES, Labelled(X[:0], Y[:0])) is None
    alone = Labelled(X, Y, np.zeros(4))
    assert judge_of(CLASSES, alone, Labelled(X[:0], Y[:0])) is None, "one block has no folds"


def test_of_fits_that_say_the_same_the_surer_one_wins_and_a_wrong_one_never() -> None:
    unsure, sure, wrong = (score(CLASSES, model([-w, w]), Y) for w in (0.1, 3.0, -0.1))
    assert sure > unsure > wrong


def test_a_fit_that_is_sure_of_something_wrong_pays_for_it() -> None:
    noisy = np.array([0, 1, 1, 1])
    assert score(CLASSES, model([-1.0, 1.0]), noisy) > score(CLASSES, model([-30.0, 30.0]), noisy)


def test_a_rare_class_counts_as_much_as_a_frequent_one_where_the_task_is_balanced() -> None:
    rare = np.array([0, 1, 1, 1])
    leaning = [
        score(CLASSES, model([0.0, 0.0]), rare),
        score(CLASSES, Linear("multinomial", np.zeros((2, 1)), np.array([0.0, 1.0]), 1.0), rare),
    ]
    plain = CLASSES.model_copy(update={"balanced": False})
    assert leaning[1] - leaning[0] < score(
        plain, Linear("multinomial", np.zeros((2, 1)), np.array([0.0, 1.0]), 1.0), rare
    ) - score(plain, model([0.0, 0.0]), rare)


def test_labels_and_numbers_are_judged_by_their_own_figures() -> None:
    hot = np.stack([1 - Y, Y], 1)
    assert score(LABELS, model([-3.0, 3.0], "multilabel"), hot) > score(LABELS, model([3.0, -3.0], "multilabel"), hot)
    numbers = 2.0 * X[:, 0]
    assert score(NUMBERS, model([2.0], "ridge"), numbers) == pytest.approx(0, abs=1e-6)
    assert score(NUMBERS, model([1.0], "ridge"), numbers) < -1


def test_soft_labels_are_met_best_by_their_own_proportions() -> None:
    share = 1 / (1 + np.exp(-2 * X[:, 0].astype(float)))
    soft = np.stack([1 - share, share], 1)
    met, flat, steep = (score(CLASSES, model([-w, w]), Y, soft) for w in (1.0, 0.1, 10.0))
    assert met > flat and met > steep


KINDS = {"useful": 1, "lucky": 1}


def two_kinds(blocks: int, a_block: int, seed: int, lucky: bool) -> Labelled:
    """Labels of some blocks; ``useful`` tells classes apart with some noise, ``lucky`` does by chance or not at all."""
    rng = np.random.default_rng(seed)
    truth = np.tile([0, 1], blocks * a_block // 2)
    useful = (2 * truth - 1) + rng.normal(0, 1.2, len(truth))
    other = (2 * truth - 1) + rng.normal(0, 0.1, len(truth)) if lucky else rng.normal(0, 1, len(truth))
    block = np.repeat([f"{seed}-{number}" for number in range(blocks)], a_block)
    return Labelled(np.stack([useful, other], 1).astype(np.float32), truth, block)


def test_one_validation_block_is_not_believed_against_all_training_blocks() -> None:
    """Found on the demo: three validation blocks chose convolutions alone by chance, worth nothing elsewhere."""
    train, val = two_kinds(8, 20, 0, lucky=False), two_kinds(1, 20, 1, lucky=True)
    scaling = Scaling.of(train.features, (1, 1))
    assert isinstance(judge_of(CLASSES, train, val), Folds)
    assert fit_head(CLASSES, train, val, scaling, KINDS).weights["useful"] == 1.0
    many = two_kinds(WEIGHING_BLOCKS, 20, 1, lucky=True)
    assert not isinstance(judge_of(CLASSES, train, many), Folds), "enough blocks choose alone"


def test_labels_of_fewer_than_five_blocks_do_not_weigh_kinds() -> None:
    train, val = two_kinds(2, 40, 0, lucky=False), two_kinds(WEIGHING_BLOCKS - 3, 20, 1, lucky=True)
    assert set(fit_head(CLASSES, train, val, Scaling.of(train.features, (1, 1)), KINDS).weights) == {"features"}


def a_misleading_kind(noise: float) -> Labelled:
    """Labels of eight blocks: one feature tells them by itself, twenty others tell the class in half of the blocks and
    the opposite in the other half, with some noise.
    """
    rng = np.random.default_rng(5)
    truth, block = np.tile([0, 1], 160), np.repeat(np.arange(8), 40)
    side = 2.0 * truth - 1
    turn = np.where(block % 2, -1.0, 1.0) * side
    good = side + rng.normal(0, 0.8, len(truth))
    misleading = turn[:, None] + rng.normal(0, noise, (len(truth), 20))
    return Labelled(np.concatenate([good[:, None], misleading], 1).astype(np.float32), truth, block)


def test_a_kind_is_alone_where_that_is_better_by_more_than_one_standard_error_and_else_kinds_weigh_alike() -> None:
    """Found on the demo: convolutions alone were ahead by half an error in its blocks, and far behind in others."""
    kinds = {"good": 1, "misleading": 20}
    for train, alone in ((a_misleading_kind(0.3), 0.0), (two_kinds(8, 20, 0, lucky=False), 1.0)):
        widths = (1, train.features.shape[1] - 1)
        nothing = Labelled(train.features[:0], train.truth[:0], train.truth[:0])
        names = kinds if widths[1] == 20 else KINDS
        model = fit_head(CLASSES, train, nothing, Scaling.of(train.features, widths), names)
        assert list(model.weights.values()) == [1.0, alone]


def test_better_is_sure_where_it_is_so_in_most_blocks_and_not_where_one_block_makes_the_difference() -> None:
    blocks = np.repeat(np.arange(8), 20)
    truth = np.tile([0, 1], 80)
    perfect = np.stack([-(2.0 * truth - 1), 2.0 * truth - 1], 1).astype(np.float32) * 3
    wrong_everywhere, wrong_in_one = perfect.copy(), perfect.copy()
    wrong_everywhere[::5] *= -1
    wrong_in_one[blocks == 0] *= -1
    train = Labelled(np.zeros((160, 1), dtype=np.float32), truth, blocks)
    folds = judge_of(CLASSES, train, Labelled(train.features[:0], truth[:0], blocks[:0]))
    assert isinstance(folds, Folds)
    assert folds.worth(perfect) > folds.worth(wrong_in_one)
    assert folds.surely(perfect, wrong_everywhere) and not folds.surely(wrong_everywhere, perfect)
    assert not folds.surely(perfect, wrong_in_one) and not folds.surely(perfect, perfect)


def test_folds_judge_the_rows_of_every_block_by_fits_that_have_not_seen_it() -> None:
    """Labels at random within blocks, but constant features per block: only a fit that saw the block could tell."""
    rng = np.random.default_rng(3)
    blocks = np.repeat(np.arange(10), 2)
    features = rng.normal(size=(10, 30)).repeat(2, 0).astype(np.float32)
    train = Labelled(features, rng.integers(0, 2, 10).repeat(2), blocks)
    val = Labelled(features[:0], train.truth[:0], blocks[:0])
    folds = judge_of(CLASSES, train, val)
    assert isinstance(folds, Folds)
    model = fit_head(CLASSES, train, val, Scaling.of(features, (30,)), {"features": 30})
    assert (model.predict(features) == train.truth).all(), "the fit itself knows every block"
    assert model.strength < 1, "but nothing holds beyond the block, so the strongest penalties win"


def test_a_fold_that_leaves_one_class_is_not_judged() -> None:
    blocks = np.array(["a", "a", "b", "b"])
    train = Labelled(X, np.array([0, 1, 1, 1]), blocks)
    model = fit_head(CLASSES, train, Labelled(X[:0], Y[:0], blocks[:0]), Scaling.of(X, (1,)), {"features": 1})
    assert np.isfinite(model.weight).all()
