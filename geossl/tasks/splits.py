"""Which labelled blocks train, choose and test a head, so that nothing is tested where the encoder has learnt."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from geossl.chips.chipset import ChipSet
from geossl.chips.splits import split_blocks
from geossl.errors import InputError

VAL_SHARE, TEST_SHARE = 0.2, 0.3


@dataclass(frozen=True)
class LabelSplit:
    """Each labelled block's part (``train``, ``val`` or ``test``) and one sentence on how it came about."""

    sides: dict[str, str]
    sentence: str

    def blocks(self, side: str) -> list[str]:
        """The blocks of one part, sorted."""
        return sorted(block for block, part in self.sides.items() if part == side)


def split_labelled(blocks: Iterable[str], chips: ChipSet, encoder_meta: dict[str, Any], seed: int) -> LabelSplit:
    """Split the blocks that carry labels.

    Where the encoder was pretrained on these very chips, the blocks held out of that (its validation and test blocks,
    neither of which it learnt from) test, and the blocks it trained on train or choose. Otherwise 30 % of the blocks
    test and 20 % choose.

    Raises:
        InputError: labels in one block only, or in no block held out of pretraining.
    """
    labelled = sorted({str(block) for block in blocks})
    if len(labelled) < 2:
        raise InputError(
            "all labels lie in one block, so nothing is left to test on",
            where=chips.path,
            found=f"block {labelled[0]}" if labelled else "no block",
            remedy="give labels that are spread wider, or a region with smaller blocks (block_tiles in its YAML)",
        )
    pretrained = pretrained_on(chips, encoder_meta)
    if pretrained is None:
        sides = split_blocks(labelled, seed, VAL_SHARE, TEST_SHARE)
        transductive = bool(encoder_meta.get("transductive")) and same_chips(chips, encoder_meta)
        return LabelSplit(
            sides,
            "Blocks were split by hash; "
            + (
                "the encoder was pretrained on all of these chips, test blocks included (transductive)."
                if transductive
                else "the encoder has not seen these chips in pretraining."
            ),
        )
    return _held_out(labelled, pretrained, chips, seed)


def _held_out(labelled: list[str], pretrained: dict[str, list[str]], chips: ChipSet, seed: int) -> LabelSplit:
    """Blocks outside pretraining's training part test; the others train, and some of them choose."""
    trained = set(pretrained.get("train", []))
    testing = [block for block in labelled if block not in trained]
    training = [block for block in labelled if block in trained]
    if not testing:
        held = sorted([*pretrained.get("test", []), *pretrained.get("val", [])])
        raise InputError(
            "no label lies in a block that was held out of pretraining",
            where=chips.path,
            expected=f"labels in blocks {', '.join(held[:8])}",
            found=f"labels in {len(labelled)} blocks, all of them trained on",
            remedy="add labels there, or use an encoder pretrained elsewhere or with another --seed",
        )
    if not training:
        raise InputError(
            "no label lies in a training block",
            where=chips.path,
            found=f"labels in {len(labelled)} blocks, all of them held out of pretraining",
            remedy="give labels that are spread wider",
        )
    sides = dict.fromkeys(testing, "test") | split_blocks(training, seed, VAL_SHARE if len(training) > 2 else 0.0, 0.0)
    return LabelSplit(sides, "Test blocks are those that were held out of pretraining; no other block is tested on.")


def same_chips(chips: ChipSet, meta: dict[str, Any]) -> bool:
    """By name too: a store that has grown since has another id, but its blocks are the same ground."""
    known = meta.get("chips") or {}
    return bool(known) and (known.get("id") == chips.id or known.get("name") == chips.name)


def pretrained_on(chips: ChipSet, meta: dict[str, Any]) -> dict[str, list[str]] | None:
    """The encoder's split where it was pretrained on these chips and held blocks out; else None."""
    if meta.get("transductive") or not same_chips(chips, meta):
        return None
    splits = meta.get("splits")
    return {part: [str(block) for block in names] for part, names in splits.items()} if splits else None
