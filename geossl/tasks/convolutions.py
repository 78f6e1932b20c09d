"""Random convolutions as features of a head: whitened patches of training chips, pooled over a chip or locally.

Coates & Ng 2012; Rolf et al. 2021, doi 10.1038/s41467-021-24638-z. The patches are those of
:class:`geossl.evaluation.controls.RandomConvolutions`; here they are a module, so that they lie with the head's weights
and predict wherever the head does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geossl.encoders.saved import Encoder
from geossl.evaluation.controls import RandomConvolutions
from geossl.tasks.spectral import fill

if TYPE_CHECKING:
    from geossl.tasks.examples import ChipData

CHIP_PATCHES, PIXEL_PATCHES = 512, 64
"""Patches of a head for chips (as many as the control has) and of one for pixels, where every response is a plane."""
_CHIPS, _NUMBERS = 256, 20_000_000
"""Training chips, and numbers in them, that patches are taken from at most."""
_NEIGHBOURHOOD = 5
_AT_ONCE = 4
"""Chips convolved at once: the responses of more do not stay in the processor's cache."""


class Convolutions(nn.Module):
    """Positive and negative responses to 3 x 3 patches, of reflectance (B, C, H, W) with clear (B, H, W) bool.

    Buffers: ``mean`` and ``std`` (C,) of reflectance, ``weight`` (patches, C, 3, 3), ``bias`` (patches,). Pixels that
    are not clear count as the band's mean.
    """

    mean: Tensor
    std: Tensor
    weight: Tensor
    bias: Tensor

    def __init__(self, mean: Tensor, std: Tensor, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        for name, tensor in (("mean", mean), ("std", std), ("weight", weight), ("bias", bias)):
            self.register_buffer(name, tensor.detach().clone().float())

    @classmethod
    def empty(cls, bands: int, patches: int) -> Convolutions:
        """Of the right shape, for weights that are loaded."""
        return cls(torch.zeros(bands), torch.ones(bands), torch.zeros(patches, bands, 3, 3), torch.zeros(patches))

    @property
    def patches(self) -> int:
        """How many patches."""
        return len(self.weight)

    @property
    def width(self) -> int:
        """Features: one for each sign of the response to each patch."""
        return 2 * self.patches

    def pooled(self, values: Tensor, clear: Tensor) -> Tensor:
        """Mean positive, then mean negative response over each chip (B, width)."""
        parts = []
        for some, seen in zip(values.split(_AT_ONCE), clear.split(_AT_ONCE), strict=True):
            response = F.conv2d(self._standardised(some, seen), self.weight, self.bias)
            parts.append(torch.cat([response.clamp_min(0).mean((2, 3)), (-response.clamp_max(0)).mean((2, 3))], 1))
        return torch.cat(parts)

    def local(self, values: Tensor, clear: Tensor, reader: Tensor | None = None) -> Tensor:
        """Mean responses over the clear pixels of each pixel's 5 x 5 neighbourhood: (B, width, H, W).

        With ``reader`` (K, width, 1, 1): what a 1 x 1 convolution says of them, (B, K, H, W), without making them.
        """
        parts = []
        for some, seen in zip(values.split(_AT_ONCE), clear.split(_AT_ONCE), strict=True):
            edged = F.pad(self._standardised(some, seen), (1, 1, 1, 1), mode="replicate")
            response = F.conv2d(edged, self.weight, self.bias)
            positive, negative = response.clamp_min(0), -response.clamp_max(0)
            if reader is None:
                parts.append(torch.cat([positive, negative], 1))
            else:
                told = F.conv2d(positive, reader[:, : self.patches])
                parts.append(told + F.conv2d(negative, reader[:, self.patches :]))
        planes = torch.cat(parts)
        weight = clear[:, None].to(planes.dtype)
        pad = _NEIGHBOURHOOD // 2
        sums = F.avg_pool2d(planes * weight, _NEIGHBOURHOOD, 1, pad)
        return sums / F.avg_pool2d(weight, _NEIGHBOURHOOD, 1, pad).clamp_min(1e-6)

    def _standardised(self, values: Tensor, clear: Tensor) -> Tensor:
        return (fill(values, clear, self.mean) - self.mean[:, None, None]) / self.std[:, None, None]


def draw_convolutions(encoder: Encoder, data: ChipData, train: np.ndarray, patches: int, seed: int) -> Convolutions:
    """Patches of the ``train`` chips (positions in ``data``), in the order of the encoder's bands.

    Raises:
        InputError: no clear pixel in these chips.
    """
    chosen, (height, width) = np.unique(train), data.chips.shape
    most = max(1, min(_CHIPS, _NUMBERS // (len(data.chips.bands) * height * width)))
    if len(chosen) > most:
        chosen = chosen[np.linspace(0, len(chosen) - 1, most).astype(int)]
    values, clear = data.load(chosen, encoder.select(data.chips.bands))
    values = values[:, : len(encoder.bands)]  # without anomaly planes
    drawn = RandomConvolutions(values.numpy(), clear.numpy(), seed, patches)
    mean, std = (torch.from_numpy(one).reshape(-1) for one in (drawn.mean, drawn.std))
    return Convolutions(mean, std, drawn.net.weights, drawn.net.biases)
