"""Heads whose answer is followed by how far to trust it: the planes of ``trust.tif``."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from geossl.errors import InputError
from geossl.tasks.heads import Head
from geossl.tasks.temporal import median_composite
from geossl.tasks.trust import Trust

MEANINGS = {
    "confidence": "how sure, from 0 to 1",
    "set_size": "number of classes in the set that holds the truth that often",
    "half_width": "half width of the interval that holds the truth that often",
    "unlike": "distance to what was taught over its limit; above 1: unlike it",
}
"""What a plane says, by the part of its name before the level."""


class TrustedHead(nn.Module):
    """A head as maps use it (:class:`geossl.maps.predictors.MapHead`), its channels followed by its trust's planes.

    Sets and intervals are of single dates, or of what the head sees at once: over several dates they are averaged like
    the probabilities.
    """

    def __init__(self, head: Head) -> None:
        """Takes a head that has trust.

        Raises:
            InputError: the head was made without trust, or on too few labels for any.
        """
        super().__init__()
        if head.trust is None or not head.trust.planes:
            raise InputError(
                "nothing is known of how far this head can be trusted",
                where="--trust",
                expected="a head of geossl finetune with validation blocks enough",
                found="a head made before there was trust" if head.trust is None else "too few labels",
                remedy="run geossl finetune again, with more labels, or map without --trust",
            )
        self.head = head
        self.trust: Trust = head.trust
        self.task, self.bands, self.meta, self.chip_px = head.task, head.bands, head.meta, head.chip_px

    @property
    def planes(self) -> tuple[str, ...]:
        """Names of the channels behind the head's own."""
        return self.trust.planes

    @torch.inference_mode()
    def predict(self, values: torch.Tensor, clear: torch.Tensor) -> torch.Tensor:
        """(B, T, C, H, W) reflectance and (B, T, H, W) clear → (B, K + planes, H, W)."""
        if self.task.temporal == "composite":
            values, clear = (one[:, None] for one in median_composite(values, clear))
        said = self.head.predict(values, clear)
        return torch.cat([said, self.trust.judge(self.head.net.encoder, said, values, clear)], 1)


def trusted(head: Any) -> TrustedHead:
    """The head with the planes of its trust behind its answer.

    Raises:
        InputError: see :class:`TrustedHead`; something that is no head of ``geossl finetune``.
    """
    if not isinstance(head, Head):
        raise InputError("only a head of geossl finetune can be trusted", where="--trust", found=type(head).__name__)
    return TrustedHead(head)


def meaning(plane: str) -> str:
    """What a plane says, in plain words."""
    name, _, level = plane.rpartition("_")
    return MEANINGS[plane] if plane in MEANINGS else f"{MEANINGS[name]} ({level} %)"
