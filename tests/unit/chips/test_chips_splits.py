"""Splits: by block, by hash, the same everywhere."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geossl.chips.splits import fold_blocks, split_blocks
from geossl.errors import InputError

blocks = st.lists(st.text("0123456789_", min_size=1, max_size=6), min_size=1, max_size=60)
shares = st.floats(0.0, 0.45)


@given(blocks, st.integers(0, 2**31), shares, shares)
def test_every_block_has_exactly_one_split_and_training_is_never_empty(names, seed, val, test):
    split = split_blocks(names, seed, val, test)
    assert set(split) == set(names)
    assert set(split.values()) <= {"train", "val", "test"}
    assert "train" in split.values()
    if val == 0:
        assert "val" not in split.values()
    if test == 0:
        assert "test" not in split.values()


@given(blocks, st.integers(0, 2**31))
def test_three_blocks_or_more_fill_all_splits_near_their_shares(names, seed):
    split = split_blocks(names, seed, 0.15, 0.15)
    n = len(split)
    sizes = {name: list(split.values()).count(name) for name in ("train", "val", "test")}
    if n >= 3:
        assert min(sizes.values()) >= 1
    if n >= 10:
        assert abs(sizes["val"] / n - 0.15) <= 1 / n and abs(sizes["test"] / n - 0.15) <= 1 / n


@given(blocks, st.integers(0, 2**31), st.randoms())
def test_the_order_and_number_of_chips_do_not_matter(names, seed, random):
    shuffled = names * 2
    random.shuffle(shuffled)
    assert split_blocks(shuffled, seed) == split_blocks(names, seed)


def test_the_split_is_the_same_on_every_machine():
    split = split_blocks([f"{x}_{y}" for x in range(4) for y in range(5)], seed=0)
    assert sorted(b for b, s in split.items() if s == "test") == ["1_1", "3_2", "3_4"]
    assert split != split_blocks(split, seed=1)


def test_two_blocks_train_and_test_one_block_trains():
    assert sorted(split_blocks(["a", "b"], 3).values()) == ["test", "train"]
    assert split_blocks(["a"], 3) == {"a": "train"}


def test_nothing_to_split_and_impossible_shares_are_refused():
    with pytest.raises(InputError, match="no blocks"):
        split_blocks([], 0)
    with pytest.raises(InputError, match="shares"):
        split_blocks(["a", "b"], 0, val=0.5, test=0.5)


@given(st.integers(2, 8), st.integers(0, 99), st.integers(0, 40))
def test_folds_are_even_and_cover_every_block(k, seed, extra):
    names = [f"b{i}" for i in range(k + extra)]
    fold = fold_blocks(names, k, seed)
    sizes = [list(fold.values()).count(i) for i in range(k)]
    assert set(fold) == set(names) and max(sizes) - min(sizes) <= 1


def test_more_folds_than_blocks_are_refused():
    with pytest.raises(InputError, match="2 to 3 folds"):
        fold_blocks(["a", "b", "c"], 4, 0)
