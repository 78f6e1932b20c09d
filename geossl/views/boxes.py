"""Crop boxes, (n, 4) top, left, bottom, right: the centres of the outermost pixels; and such boxes turned."""

from __future__ import annotations

import torch
from torch import Tensor


def turned(y: Tensor, x: Tensor, angle: Tensor) -> tuple[Tensor, Tensor]:
    """Offsets from the centre of a box (down, right) turned clockwise by ``angle`` radians."""
    cos, sin = angle.cos(), angle.sin()
    return y * cos + x * sin, x * cos - y * sin


def fit_turned(
    tall: Tensor, wide: Tensor, angle: Tensor, height: int, width: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Sides of boxes turned by ``angle`` (at most 90 degrees), made smaller where they would leave the chip.

    Returns:
        ``tall`` and ``wide`` (from the first to the last pixel centre, pixels), and those of the upright box around.
    """
    cos, sin = angle.cos(), angle.sin().abs()
    outer_tall, outer_wide = tall * cos + wide * sin, wide * cos + tall * sin
    fit = torch.minimum((height - 1) / outer_tall, (width - 1) / outer_wide).clamp(max=1)
    return tall * fit, wide * fit, outer_tall * fit, outer_wide * fit


def box_corners(box: Tensor, angle: Tensor | None = None) -> Tensor:
    """Boxes, turned clockwise by ``angle`` (n,) radians, as Kornia's corners (n, 4, 2): x, y of top left, top right,
    bottom right, bottom left."""
    top, left, bottom, right = box[:, None].unbind(2)
    y = torch.cat([top, top, bottom, bottom], dim=1)
    x = torch.cat([left, right, right, left], dim=1)
    if angle is not None:
        middle_y, middle_x = (top + bottom) / 2, (left + right) / 2
        y, x = turned(y - middle_y, x - middle_x, angle[:, None])
        y, x = y + middle_y, x + middle_x
    return torch.stack([x, y], dim=-1)
