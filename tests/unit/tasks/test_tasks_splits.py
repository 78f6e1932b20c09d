"""Given labelled blocks and where the encoder has learnt; then nothing is tested where it has."""

from __future__ import annotations

from typing import Any

import pytest

from geossl.errors import InputError
from geossl.tasks.splits import split_labelled

PRETRAINED = {"train": ["b0", "b1", "b2", "b3", "b4"], "val": ["b5"], "test": ["b6", "b7"]}


def meta(store: Any, **facts: Any) -> dict[str, Any]:
    return {"chips": {"name": store.name, "id": store.id}, "splits": PRETRAINED, **facts}


def test_blocks_held_out_of_pretraining_test_and_the_others_train_or_choose(store: Any) -> None:
    split = split_labelled([f"b{n}" for n in range(8)], store, meta(store), seed=0)
    assert split.blocks("test") == ["b5", "b6", "b7"]
    assert sorted([*split.blocks("train"), *split.blocks("val")]) == PRETRAINED["train"] and split.blocks("val")


@pytest.mark.parametrize("seed", range(5))
def test_a_block_of_pretraining_never_tests_whichever_blocks_carry_labels(store: Any, seed: int) -> None:
    split = split_labelled(["b1", "b3", "b4", "b6"], store, meta(store), seed)
    assert split.blocks("test") == ["b6"]


def test_a_store_that_has_grown_is_still_the_same_ground(store: Any) -> None:
    grown = meta(store)
    grown["chips"]["id"] = "another"
    assert split_labelled(["b1", "b2", "b6"], store, grown, 0).blocks("test") == ["b6"]


def test_other_chips_are_split_by_hash_and_a_transductive_encoder_is_named(store: Any) -> None:
    blocks = [f"b{n}" for n in range(8)]
    elsewhere = meta(store) | {"chips": {"name": "other", "id": "other"}}
    split = split_labelled(blocks, store, elsewhere, seed=0)
    assert {len(split.blocks(side)) > 0 for side in ("train", "val", "test")} == {True}
    assert "has not seen" in split.sentence
    assert "transductive" in split_labelled(blocks, store, meta(store, transductive=True), seed=0).sentence


def test_labels_in_trained_blocks_alone_or_in_one_block_are_refused(store: Any) -> None:
    with pytest.raises(InputError, match="held out of pretraining") as caught:
        split_labelled(["b0", "b1"], store, meta(store), 0)
    assert "b5, b6, b7" in str(caught.value)
    with pytest.raises(InputError, match="in one block"):
        split_labelled(["b0", "b0"], store, {}, 0)
