"""How unlike a place is to those a head has learnt from: distance to the nearest of them in the encoder's features.

Features are those of one stage of the encoder, each with unit spread, on their principal axes; the distance is the mean
over the :data:`NEAREST` nearest training cells (after Sun et al. 2022, arXiv:2204.06507). Its limit is what 95 % of
labelled cells lie within when no training cell of their own block may be near them, so it allows for the change from
block to block that a map meets. Scores are distances over that limit: above 1 a place is unlike what was taught.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from geossl.encoders.saved import Encoder
from geossl.tasks.dense import pad_to
from geossl.tasks.spectral import fill
from geossl.tasks.temporal import clear_share

STAGE = 2
"""Stage of the encoder that is compared (stride 16 in residual networks): wide enough to see a place, not a pixel."""
NEAREST = 5
WITHIN = 0.95
_AXES = 32
_SPREAD = 0.95
"""Axes are taken until they hold this share of the spread, :data:`_AXES` at most."""
_REFERENCES = 1000
_ROWS = 65_536


@dataclass(frozen=True)
class Outliers:
    """``mean`` (D,) and ``axes`` (D, d) bring features to ``references`` (m, d); ``limit`` is the distance of score
    1. All float32.
    """

    mean: Tensor
    axes: Tensor
    references: Tensor
    limit: float

    def scores(self, features: Tensor) -> Tensor:
        """Scores (n,) of features (n, D), on their device."""
        mean, axes, references = (one.to(features) for one in (self.mean, self.axes, self.references))
        parts = [_distance((some - mean) @ axes, references) for some in features.split(_ROWS)]
        return torch.cat(parts) / self.limit if parts else features.new_zeros(0)


def _distance(points: Tensor, references: Tensor) -> Tensor:
    near = torch.cdist(points, references).topk(min(NEAREST, len(references)), largest=False)
    return near.values.mean(1)


def cell_features(encoder: Encoder, values: Tensor, clear: Tensor) -> Tensor:
    """Features (B, D, h, w) at the stride of the stage; those of several dates are averaged, each as far as it is clear
    in the cell.

    Args:
        encoder: whose features.
        values: (B, T, C, H, W) reflectance, C at least the encoder's bands (the first ones).
        clear: (B, T, H, W) bool.
    """
    seen = clear.flatten(0, 1)
    filled = fill(values.flatten(0, 1)[:, : len(encoder.bands)], seen, encoder.mean)
    maps = encoder.features(pad_to(filled, max(encoder.strides)))[STAGE].unflatten(0, clear.shape[:2])
    if clear.shape[1] == 1:
        return maps[:, 0]
    weight = clear_share(clear, encoder.strides[STAGE]).to(maps)[:, :, None, : maps.shape[-2], : maps.shape[-1]]
    weight = F.pad(weight, (0, maps.shape[-1] - weight.shape[-1], 0, maps.shape[-2] - weight.shape[-2]))
    total = weight.sum(1)
    return torch.where(total > 0, (maps * weight).sum(1) / total.clamp_min(1e-6), maps.mean(1))


def nearest_cell(pixels: Tensor, stride: int, cells: int) -> Tensor:
    """Along one axis the cell each pixel belongs to: cell i is centred on pixel i * stride."""
    return ((pixels + stride // 2) // stride).clamp_max(cells - 1)


def fit_outliers(
    train: np.ndarray, train_blocks: np.ndarray, val: np.ndarray, val_blocks: np.ndarray, seed: int
) -> Outliers | None:
    """From features (n, D) of labelled training and validation cells; None with fewer than two blocks or 20 cells.

    Args:
        train: of training cells, which become the references (a thousand of them at most).
        train_blocks: (n,) block of each.
        val: of validation cells; they only widen the limit's evidence.
        val_blocks: block of each.
        seed: of the choice of references.
    """
    blocks = np.unique(np.concatenate([train_blocks, val_blocks]))
    if len(train) < 20 or len(blocks) < 2:
        return None
    mean, scale = train.mean(axis=0, dtype=np.float64), train.std(axis=0, dtype=np.float64)
    unit = np.where(scale > 1e-6, 1 / np.maximum(scale, 1e-6), 0.0)
    centred = train.astype(np.float64) - mean
    _, spread, directions = np.linalg.svd(centred * unit, full_matrices=False)
    variance = np.cumsum(spread**2)
    if variance[-1] <= 0:
        return None
    count = min(int(np.searchsorted(variance / variance[-1], _SPREAD)) + 1, _AXES)
    axes = unit[:, None] * directions[:count].T
    chosen = np.sort(np.random.default_rng(seed).permutation(len(train))[:_REFERENCES])
    points = torch.from_numpy((centred @ axes).astype(np.float32))
    references, where = points[chosen], train_blocks[chosen]
    distances = []
    for block in np.unique(where):  # as if the block were new: none of its own cells is near
        others, mine = torch.from_numpy(where != block), torch.from_numpy(train_blocks == block)
        if bool(others.any()):
            distances.append(_distance(points[mine], references[others]).numpy())
    if len(val):
        there = torch.from_numpy(((val.astype(np.float64) - mean) @ axes).astype(np.float32))
        distances.append(_distance(there, references).numpy())
    if not distances:
        return None
    limit = float(np.quantile(np.concatenate(distances), WITHIN))
    if limit <= 0:
        return None
    return Outliers(
        torch.from_numpy(mean.astype(np.float32)), torch.from_numpy(axes.astype(np.float32)), references, limit
    )
