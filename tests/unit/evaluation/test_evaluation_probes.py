"""Probes against scikit-learn and against arrangements whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score
from sklearn.neighbors import KNeighborsClassifier

from geossl.errors import InputError
from geossl.evaluation.probes import (
    average_precisions,
    few_label_subsets,
    knn_predict,
    knn_score,
    linear_probe,
    macro_average_precision,
    normalise_together,
    recall_at_1,
)

RNG = np.random.default_rng(0)


def clusters(n: int = 120, d: int = 8, classes: int = 3, spread: float = 0.5, seed: int = 0):
    rng = np.random.default_rng(seed)
    y = rng.integers(classes, size=n)
    centres = 3 * np.random.default_rng(42).normal(size=(classes, d))
    return centres[y] + spread * rng.normal(size=(n, d)), y


# --- nearest neighbours -----------------------------------------------------------------------------------------------


def test_knn_equals_scikit_learn_with_cosine_distance():
    x, y = clusters(spread=4.0)
    test, truth = clusters(spread=4.0, seed=1)
    oracle = KNeighborsClassifier(5, metric="cosine", algorithm="brute").fit(x, y)
    mine = knn_predict(x, y, test, k=5)
    votes = oracle.predict_proba(test)
    untied = np.sort(votes, axis=1)[:, -1] > np.sort(votes, axis=1)[:, -2]
    assert untied.mean() > 0.7
    np.testing.assert_array_equal(mine[untied], oracle.predict(test)[untied])
    assert knn_score(x, y, test, truth, k=5) == pytest.approx((mine == truth).mean())


def test_the_nearest_neighbour_decides_a_tie():
    train = np.array([[1.0, 0.0], [1.0, 0.2], [1.0, 0.5], [1.0, 0.6]])
    assert knn_predict(train, np.array(["a", "b", "b", "a"]), np.array([[1.0, 0.0]]), k=2) == ["a"]
    assert knn_predict(train, np.array(["a", "b", "b", "a"]), np.array([[1.0, 0.19]]), k=4) == ["b"]


def test_several_labels_are_averaged_over_the_neighbours():
    train = np.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]])
    labels = np.array([[1, 0], [0, 0], [1, 1]])
    np.testing.assert_allclose(knn_predict(train, labels, np.array([[1.0, 0.05]]), k=2), [[0.5, 0.0]])


def test_more_neighbours_than_training_chips_is_all_of_them():
    assert knn_predict(np.eye(2), np.array([1, 1]), np.eye(2), k=20).tolist() == [1, 1]


def test_recall_finds_the_same_tile_on_another_date():
    tiles = np.array(["a", "a", "b", "b", "c"])
    x = np.array([[1, 0.0, 0], [1, 0.1, 0], [0, 1, 0.0], [0, 0, 1], [0, 1, 0.1]])
    # a finds a twice; b's dates find c and something else; c has no other date and is not asked.
    assert recall_at_1(x, tiles) == pytest.approx(0.5)


def test_chips_of_the_querys_own_date_are_no_candidates():
    tiles, dates = np.array(["a", "b", "a", "b"]), np.array([1, 1, 2, 2])
    # Light of the day dominates: each chip is nearest to the other tile of its own day.
    x = np.array([[1, 0, 0.2, 0], [1, 0, 0, 0.2], [0, 1, 0.2, 0], [0, 1, 0, 0.2]])
    assert recall_at_1(x, tiles) == 0
    assert recall_at_1(x, tiles, dates) == 1


def test_without_a_second_date_there_is_no_recall():
    assert np.isnan(recall_at_1(np.eye(3), np.array(["a", "b", "c"])))


def test_random_embeddings_score_chance():
    tiles = np.repeat(np.arange(60), 2)
    assert recall_at_1(RNG.normal(size=(120, 32)), tiles) < 0.08


# --- average precision ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ties", [False, True])
def test_average_precision_equals_scikit_learn(ties):
    truth = RNG.random((200, 5)) < [0.05, 0.2, 0.5, 0.8, 0.95]
    scores = RNG.random((200, 5)) + 0.3 * truth
    scores = scores.round(1) if ties else scores
    expected = [average_precision_score(truth[:, i], scores[:, i]) for i in range(5)]
    np.testing.assert_allclose(average_precisions(truth, scores), expected)
    assert macro_average_precision(truth, scores) == pytest.approx(np.mean(expected))


def test_labels_without_contrast_are_left_out_of_the_macro_average():
    truth = np.array([[1, 0, 1], [0, 0, 1], [1, 0, 1]])
    scores = np.array([[0.9, 0.5, 0.1], [0.1, 0.5, 0.2], [0.8, 0.5, 0.3]])
    assert macro_average_precision(truth, scores) == 1.0
    assert np.isnan(macro_average_precision(truth[:, 1:], scores[:, 1:]))


# --- linear probes ----------------------------------------------------------------------------------------------------


def test_a_probe_separates_what_is_separable():
    (x, y), (v, vy), (t, ty) = (clusters(seed=seed) for seed in range(3))
    result = linear_probe("multiclass", x, y, v, vy, t, ty)
    assert result.metric == "accuracy" and result.score > 0.97
    assert result.score == pytest.approx((result.predicted == ty).mean())


def test_a_multilabel_probe_ranks_each_label_and_survives_a_label_without_contrast():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(300, 6))
    y = np.stack([x[:, 0] > 0.5, x[:, 1] + x[:, 2] > 1, np.zeros(300)], axis=1).astype(int)
    result = linear_probe("multilabel", x[:200], y[:200], x[200:250], y[200:250], x[250:], y[250:])
    assert result.score > 0.9 and result.predicted.shape == (50, 3)


def test_a_regression_probe_finds_a_line():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(200, 4))
    y = x @ [1, -2, 0, 0.5] + 3
    result = linear_probe("regression", x[:100], y[:100], x[100:150], y[100:150], x[150:], y[150:])
    assert result.metric == "R2" and result.score > 0.999


def test_the_strength_is_chosen_on_validation_chips():
    rng = np.random.default_rng(0)
    x, v, t = (rng.normal(size=(n, 60)) for n in (80, 400, 400))
    y, vy, ty = (a[:, 0] + rng.normal(size=len(a)) for a in (x, v, t))
    honest = linear_probe("regression", x, y, v, vy, t, ty)
    overfitted = linear_probe("regression", x, y, x, y, t, ty)  # training chips choose
    assert honest.strength < overfitted.strength and honest.score > overfitted.score + 0.1


def test_kinds_of_features_weigh_the_same_however_wide_they_are():
    wide, narrow = 100 * RNG.normal(size=(50, 400)) + 7, 0.01 * RNG.normal(size=(50, 4))
    joined = normalise_together([wide, narrow])[0]
    assert (joined[:, :400] ** 2).sum() == pytest.approx((joined[:, 400:] ** 2).sum())
    assert joined.shape == (50, 404)


def test_test_chips_are_normalised_by_training_statistics_and_constant_features_are_silent():
    train = np.array([[0.0, 5.0], [2.0, 5.0]])
    first, second = normalise_together(train, np.array([[1.0, 9.0], [3.0, 5.0]]))
    np.testing.assert_allclose(first, [[-1 / np.sqrt(2), 0], [1 / np.sqrt(2), 0]])
    np.testing.assert_allclose(second, [[0, 0], [2 / np.sqrt(2), 0]])


def test_one_class_is_no_probe():
    x, y = np.eye(4), np.zeros(4)
    with pytest.raises(InputError, match="two classes"):
        linear_probe("multiclass", x, y, x, y, x, y)


# --- few labels -------------------------------------------------------------------------------------------------------


def test_subsets_are_nested_and_stratified():
    y = np.repeat([0, 1, 2], [100, 30, 4])
    subsets = few_label_subsets(y, [1, 5, 10], seed=0)
    assert [np.bincount(y[subsets[size]], minlength=3).tolist() for size in (1, 5, 10)] == [
        [1, 1, 1],
        [5, 5, 4],
        [10, 10, 4],
    ]
    assert set(subsets[1]) < set(subsets[5]) < set(subsets[10])


def test_shares_keep_the_classes_proportions():
    y = np.repeat([0, 1], [200, 50])
    subsets = few_label_subsets(y, [0.01, 0.1, 1.0], seed=0)
    assert [np.bincount(y[rows]).tolist() for rows in subsets.values()] == [[2, 1], [20, 5], [200, 50]]


def test_every_label_of_multilabel_chips_gets_its_positives():
    labels = RNG.random((300, 4)) < [0.5, 0.2, 0.1, 0.03]
    subsets = few_label_subsets(labels, [3, 8], seed=0)
    for size in (3, 8):
        assert (labels[subsets[size]].sum(0) >= np.minimum(size, labels.sum(0))).all()
        assert len(subsets[size]) <= 4 * size
    assert set(subsets[3]) <= set(subsets[8])


def test_seeds_draw_differently_and_repeatably():
    y = np.repeat([0, 1], 50)
    a, b, c = (few_label_subsets(y, [5], seed)[5] for seed in (0, 0, 1))
    assert np.array_equal(a, b) and not np.array_equal(a, c)
