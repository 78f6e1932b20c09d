"""Several dates as one: the median composite of clear pixels, and features pooled over dates, cloudy ones masked.

A date counts at a cell by the share of its pixels there that are clear. Dates that are cloudy everywhere, and dates
that only fill up ragged series, count nothing; a cell that no date shows gets the plain mean, of which nobody asks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geossl.tasks.dense import pad_to

POOLINGS = ("mean", "max", "attention")
_HARMONICS = 4
_YEAR_DAYS = 365.25


def median_composite(values: Tensor, clear: Tensor) -> tuple[Tensor, Tensor]:
    """The median of each band over the clear dates of each pixel (of an even number the lower of the middle two).

    Args:
        values: (B, T, C, H, W).
        clear: (B, T, H, W) bool.

    Returns:
        (B, C, H, W), 0 where no date is clear, and (B, H, W) bool where one is.
    """
    seen = values.masked_fill(~clear[:, :, None], torch.nan)
    return seen.nanmedian(1).values.nan_to_num(), clear.any(1)


def clear_share(clear: Tensor, stride: int, size: tuple[int, int] | None = None) -> Tensor:
    """Share (B, T, ceil(H / stride), ceil(W / stride)) of clear pixels in each cell of ``clear`` (B, T, H, W) bool.

    ``size``: rows and columns of a map of this stride, which may reach further right and down than the pixels; cells
    there count as their neighbours do.
    """
    share = clear.float().flatten(0, 1)[:, None]
    share = share if stride == 1 else F.avg_pool2d(pad_to(share, stride), stride)
    if size is not None:
        share = F.pad(share, (0, size[1] - share.shape[-1], 0, size[0] - share.shape[-2]), mode="replicate")
    return share[:, 0].unflatten(0, clear.shape[:2])


class DatePooling(nn.Module):
    """Maps (B, T, C, h, w) of several strides pooled over dates to (B, C, h, w).

    ``mean`` and ``max`` learn nothing. ``attention`` is a small lightweight temporal attention (L-TAE, Garnot &
    Landrieu 2020, arXiv:2007.00586): every head has one learnt query, keys come from the coarsest map and the day of
    the year, and the weights serve all strides, interpolated and masked at each (U-TAE, Garnot & Landrieu 2021,
    arXiv:2107.07933). Each head pools its own part of the channels. Queries begin at 0, so that untrained attention is
    the masked mean.
    """

    def __init__(self, pooling: str, width: int, heads: int = 4, key: int = 8) -> None:
        """``width``: channels of the coarsest map."""
        super().__init__()
        self.pooling, self.heads = pooling, heads
        if pooling == "attention":
            self.norm = nn.GroupNorm(1, width)
            self.keys = nn.Conv2d(width, heads * key, 1)
            self.days = nn.Linear(2 * _HARMONICS, heads * key, bias=False)
            self.query = nn.Parameter(torch.zeros(heads, key))

    def forward(self, maps: Sequence[Tensor], strides: Sequence[int], clear: Tensor, days: Tensor) -> list[Tensor]:
        """Pool maps of ``strides``; the last must be the coarsest of the encoder where there is attention.

        Args:
            maps: (B, T, C, h, w) each.
            strides: of each map.
            clear: (B, T, H, W) bool, of the pixels.
            days: (B, T) day of the year, 0 where it is not known; only attention looks at it.
        """
        shares = [
            clear_share(clear, stride, (one.shape[-2], one.shape[-1]))
            for one, stride in zip(maps, strides, strict=True)
        ]
        if self.pooling == "max":
            return [_largest(one, share) for one, share in zip(maps, shares, strict=True)]
        if self.pooling == "mean":
            return [
                torch.einsum("btchw,bthw->bchw", one, _weights(share).to(one))
                for one, share in zip(maps, shares, strict=True)
            ]
        scores = self._scores(maps[-1], days)
        return [self._attended(one, share, scores) for one, share in zip(maps, shares, strict=True)]

    def _scores(self, coarse: Tensor, days: Tensor) -> Tensor:
        """(B, T, heads, h, w), float32."""
        batch, dates = coarse.shape[:2]
        keys = self.keys(self.norm(coarse.flatten(0, 1))).unflatten(0, (batch, dates))
        keys = keys + self.days(day_encoding(days).to(keys))[..., None, None]
        keys = keys.unflatten(2, (self.heads, -1)).float()  # (B, T, heads, key, h, w)
        return torch.einsum("btnkhw,nk->btnhw", keys, self.query) / math.sqrt(self.query.shape[1])

    def _attended(self, one: Tensor, share: Tensor, scores: Tensor) -> Tensor:
        batch, dates, channels, height, width = one.shape
        if scores.shape[-2:] != (height, width):
            fine = F.interpolate(scores.flatten(0, 1), size=(height, width), mode="bilinear", align_corners=False)
            scores = fine.unflatten(0, (batch, dates))
        scores = scores - scores.amax(1, keepdim=True).detach()
        weights = _weights(scores.exp() * share[:, :, None])  # (B, T, heads, h, w)
        if channels % self.heads:
            return torch.einsum("btchw,bthw->bchw", one, weights.mean(2).to(one))
        parts = one.unflatten(2, (self.heads, -1))
        return torch.einsum("btnchw,btnhw->bnchw", parts, weights.to(one)).flatten(1, 2)


def day_encoding(days: Tensor) -> Tensor:
    """Sines and cosines (…, 8) of the day of the year and its first four harmonics; 0 where the day is 0, not known."""
    turns = torch.arange(1, _HARMONICS + 1, device=days.device, dtype=torch.float32)
    angle = 2 * math.pi * days[..., None].float() / _YEAR_DAYS * turns
    return torch.cat([angle.sin(), angle.cos()], -1) * (days > 0)[..., None]


def _weights(share: Tensor) -> Tensor:
    """Shares (B, T, …) as weights that sum to 1 over dates; equal ones where all are 0."""
    total = share.sum(1, keepdim=True)
    return torch.where(total > 0, share / total.clamp_min(1e-12), torch.full_like(share, 1 / share.shape[1]))


def _largest(one: Tensor, share: Tensor) -> Tensor:
    """The largest value over dates that are clear at a cell; the mean where none is."""
    largest = one.masked_fill(share[:, :, None] == 0, -torch.inf).amax(1)
    return torch.where(share.amax(1)[:, None] > 0, largest, one.mean(1))
