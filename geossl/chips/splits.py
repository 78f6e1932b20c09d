"""Which block belongs to training, validation or test: by hash, so that it is the same on every machine and run.

Blocks, never chips, are split: neighbouring chips look alike, and a random split of chips flatters every figure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from geossl.errors import InputError

TRAIN, VAL, TEST = "train", "val", "test"


def block_order(blocks: Iterable[str], seed: int) -> list[str]:
    """The distinct blocks in an order that depends on ``seed`` and their names only (not on their input order)."""
    return sorted({str(block) for block in blocks}, key=lambda block: (_rank(seed, block), block))


def split_blocks(blocks: Iterable[str], seed: int, val: float = 0.15, test: float = 0.15) -> dict[str, str]:
    """Each distinct block's split: ``'train'``, ``'val'`` or ``'test'``.

    Blocks are ordered by hash(seed, block); the first ``test`` share is for testing, the next ``val`` share for
    validation. With three blocks or more every split whose share is positive has at least one block; two blocks give
    one for training and one for testing; a single block is for training.

    Raises:
        InputError: no blocks, or shares that leave nothing for training.
    """
    order = block_order(blocks, seed)
    if not order:
        raise InputError("no blocks to split", remedy="the chip set is empty: build tiles or check the index")
    if not (val >= 0 and test >= 0 and val + test < 1):
        raise InputError(
            "shares of a split", expected="val and test of at least 0, together below 1", found=(val, test)
        )
    n_test, n_val = _quota(test, len(order)), _quota(val, len(order))
    if len(order) < 3:
        n_test, n_val = (min(n_test, len(order) - 1), 0)
    while n_test + n_val >= len(order):
        if n_test >= n_val and n_test > 1:
            n_test -= 1
        else:
            n_val -= 1
    return {
        block: TEST if place < n_test else VAL if place < n_test + n_val else TRAIN for place, block in enumerate(order)
    }


def fold_blocks(blocks: Iterable[str], k: int, seed: int) -> dict[str, int]:
    """Each distinct block's fold, 0 to ``k - 1``; fold sizes differ by one block at most.

    Raises:
        InputError: fewer blocks than folds, or fewer than two folds.
    """
    order = block_order(blocks, seed)
    if not 2 <= k <= len(order):
        raise InputError("folds by block", expected=f"2 to {len(order)} folds ({len(order)} blocks)", found=k)
    return {block: place % k for place, block in enumerate(order)}


def _quota(share: float, n: int) -> int:
    return max(1, round(share * n)) if share > 0 else 0


def _rank(seed: int, block: str) -> bytes:
    return hashlib.sha256(f"{seed}:{block}".encode()).digest()
