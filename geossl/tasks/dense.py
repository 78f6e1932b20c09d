"""Maps of an encoder at several strides brought to the pixels of the image, exactly where they belong.

The convolutions of a residual network keep cell ``i`` of a map of stride ``s`` centred on pixel ``i * s``. Plain
bilinear upsampling would put it at ``(i + 0.5) * s - 0.5`` and shift coarse maps by half a cell; here it is not.
Upsampling is linear, so a linear head is applied on the small maps and only its K channels are upsampled.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def pad_to(values: Tensor, multiple: int) -> Tensor:
    """Images (B, C, H, W) with edge pixels repeated on the right and below up to a multiple of ``multiple``."""
    down, right = -values.shape[-2] % multiple, -values.shape[-1] % multiple
    return F.pad(values, (0, right, 0, down), mode="replicate") if down or right else values


def upsample(maps: Tensor, stride: int) -> Tensor:
    """Maps (B, C, h, w) of ``stride`` on the pixels: (B, C, h * stride, w * stride), cell i at pixel i * stride."""
    height, width = maps.shape[-2:]
    edged = F.pad(maps, (0, 1, 0, 1), mode="replicate")
    full = F.interpolate(edged, size=(height * stride + 1, width * stride + 1), mode="bilinear", align_corners=True)
    return full[..., :-1, :-1]


def sample(maps: Sequence[Tensor], strides: Sequence[int], rows: Tensor, columns: Tensor) -> Tensor:
    """What :func:`upsample` gives at single pixels of one image, without the rest: (N, sum of channels).

    ``maps``: (1, C, h, w) each; ``rows`` and ``columns``: (N,) pixels of the image.
    """
    parts = []
    for one, stride in zip(maps, strides, strict=True):
        edged = F.pad(one, (0, 1, 0, 1), mode="replicate")
        height, width = edged.shape[-2:]
        x = 2 * (columns.float() / stride) / max(width - 1, 1) - 1
        y = 2 * (rows.float() / stride) / max(height - 1, 1) - 1
        grid = torch.stack([x, y], -1)[None, None]  # (1, 1, N, 2)
        values = F.grid_sample(edged, grid, mode="bilinear", padding_mode="border", align_corners=True)
        parts.append(values[0, :, 0].T)
    return torch.cat(parts, 1)
