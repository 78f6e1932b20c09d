"""What can be told of pixels without a network: spectral indices, local mean and spread, statistics of whole chips.

Tensors: values (B, C, H, W) reflectance, clear (B, H, W) bool. Where a pixel is not clear its values are replaced, so
whatever stands there (zero, NaN) has no influence on clear pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from geossl.evaluation.controls import INDICES

__all__ = [
    "INDICES",
    "band_position",
    "chip_statistics",
    "fill",
    "index_names",
    "normalised_difference",
    "pixel_planes",
    "plane_names",
    "statistic_count",
]

_ALTERNATIVES = {"nir": "nir08", "nir08": "nir"}
_NEIGHBOURHOOD = 5


def band_position(name: str, bands: Sequence[str]) -> int | None:
    """Where a band lies; the two near infrared bands stand in for each other; None where there is neither."""
    for one in (name, _ALTERNATIVES.get(name, name)):
        if one in bands:
            return list(bands).index(one)
    return None


def index_names(bands: Sequence[str]) -> tuple[str, ...]:
    """The indices that these bands allow."""
    return tuple(name for name, pair in INDICES.items() if all(band_position(one, bands) is not None for one in pair))


def normalised_difference(values: Tensor, name: str, bands: Sequence[str]) -> Tensor:
    """One index of reflectance (B, C, H, W): (B, H, W), -1 to 1; 0 where both bands are dark (sum below 0.001).

    Slightly negative reflectance, as atmospheric correction leaves over water, counts as zero.
    """
    first, second = (band_position(one, bands) for one in INDICES[name])
    if first is None or second is None:
        raise ValueError(f"{name} needs bands {INDICES[name]}, there are {tuple(bands)}")
    a, b = values[:, first].clamp_min(0), values[:, second].clamp_min(0)
    total = a + b
    return torch.where(total > 1e-3, (a - b) / total.clamp_min(1e-3), torch.zeros_like(total))


def fill(values: Tensor, clear: Tensor, mean: Tensor) -> Tensor:
    """Values (B, C, H, W) with the band's ``mean`` (C,) wherever the pixel is not clear."""
    return torch.where(clear[:, None], values, mean[:, None, None].to(values))


def plane_names(bands: Sequence[str], local: bool) -> tuple[str, ...]:
    """What the channels of :func:`pixel_planes` are."""
    names = [*bands, *index_names(bands)]
    if local:
        names += [f"{name} mean" for name in bands] + [f"{name} spread" for name in bands]
    return tuple(names)


def pixel_planes(values: Tensor, clear: Tensor, bands: Sequence[str], mean: Tensor, std: Tensor, local: bool) -> Tensor:
    """Planes (B, P, H, W) a pixel: normalised bands, indices and, with ``local``, mean and spread of each band.

    Local figures are over the clear pixels of a 5 x 5 neighbourhood.
    """
    filled = fill(values, clear, mean)
    scaled = (filled - mean[:, None, None]) / std[:, None, None]
    indices = [normalised_difference(filled, name, bands)[:, None] for name in index_names(bands)]
    planes = [scaled, *indices]
    if local:
        weight = clear[:, None].to(scaled.dtype)
        pad = _NEIGHBOURHOOD // 2
        sums = F.avg_pool2d(torch.cat([weight, scaled * weight, scaled.square() * weight], 1), _NEIGHBOURHOOD, 1, pad)
        count = sums[:, :1].clamp_min(1e-6)
        average = sums[:, 1 : 1 + len(bands)] / count
        variance = sums[:, 1 + len(bands) :] / count - average.square()
        planes += [average, variance.clamp_min(0).sqrt()]
    return torch.cat(planes, 1)


def statistic_count(bands: Sequence[str]) -> int:
    """How many numbers :func:`chip_statistics` gives."""
    return 5 * len(bands) + 4 * len(index_names(bands))


def chip_statistics(values: Tensor, clear: Tensor, bands: Sequence[str], mean: Tensor, std: Tensor) -> Tensor:
    """Statistics (B, S) of a chip's clear pixels: mean, spread, 10th and 90th percentile of each normalised band and
    index, and each band's gradient spread (root mean square step between neighbours).

    Percentiles are of every second pixel in both directions, which costs a quarter. A chip without a clear pixel has
    the statistics of the band means.
    """
    planes = pixel_planes(values, clear, bands, mean, std, local=False)  # (B, P, H, W)
    weight = clear[:, None].to(planes.dtype)
    blank = weight.sum((2, 3), keepdim=True) == 0
    weight = torch.where(blank, torch.ones_like(weight), weight)
    count = weight.sum((2, 3))
    average = (planes * weight).sum((2, 3)) / count
    spread = ((planes - average[..., None, None]).square() * weight).sum((2, 3)).div(count).sqrt()
    scaled = planes[:, : len(bands)]
    steps = [(scaled.diff(dim=axis).square() * _both(weight, axis), _both(weight, axis)) for axis in (-2, -1)]
    pairs = [(step.sum((2, 3)), both.sum((2, 3))) for step, both in steps]
    gradient = sum(total / number.clamp_min(1) for total, number in pairs)
    assert isinstance(gradient, Tensor)
    low, high = _percentiles(planes[..., ::2, ::2], weight[..., ::2, ::2] > 0)
    return torch.cat([average, spread, low, high, (gradient / 2).sqrt()], 1)


def _both(weight: Tensor, axis: int) -> Tensor:
    """Whether a pixel and the one before it along an axis are both clear."""
    length = weight.shape[axis] - 1
    return weight.narrow(axis, 1, length) * weight.narrow(axis, 0, length)


def _percentiles(planes: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
    """10th and 90th percentile (B, P) of seen pixels, linear between neighbours; 0 where none is seen."""
    flat = torch.where(seen, planes, torch.inf).flatten(2).sort(-1).values
    last = (seen.flatten(2).sum(-1) - 1).expand(flat.shape[:2])  # (B, P)
    found = []
    for share in (0.1, 0.9):
        place = share * last.clamp_min(0)
        below = place.floor()
        low = flat.gather(-1, below.long()[..., None])[..., 0]
        high = flat.gather(-1, torch.minimum(below + 1, last.clamp_min(0)).long()[..., None])[..., 0]
        value = torch.lerp(low, high, (place - below).to(flat.dtype))
        found.append(torch.where(last >= 0, value, torch.zeros_like(value)))
    return found[0], found[1]
