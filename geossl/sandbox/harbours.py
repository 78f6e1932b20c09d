"""Breakwaters: stone walls that run out from the shore and bend, as those of small harbours do."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from geossl.sandbox.classes import Shore
from geossl.sandbox.noise import Field
from geossl.sandbox.settlements import line_share

_WALL_M = 16.0
_OUT_PX = 11
_ALONG_PX = 9
_APART_PX = 90
_KM2_A_HARBOUR = 14


def breakwaters(distance: Field, shore: np.ndarray, exposure: Field, rng: np.random.Generator) -> Field:
    """(y, x) share of each pixel that a breakwater covers; on firm, half open shores, one in some 14 km²."""
    side = distance.shape[0]
    share = np.zeros((side, side), np.float32)
    fit = (np.abs(distance) < 8) & (shore != Shore.REED) & (exposure > 0.38) & (exposure < 0.62)
    margin = _OUT_PX + _ALONG_PX + 4
    inner = np.zeros_like(fit)
    inner[margin:-margin, margin:-margin] = True
    at = np.argwhere(fit & inner)
    out_y, out_x = np.gradient(-ndimage.gaussian_filter(distance, 4))
    built: list[np.ndarray] = []
    for index in rng.permutation(len(at)):
        if len(built) >= max(1, round((side / 100) ** 2 / _KM2_A_HARBOUR)):
            break
        start = at[index].astype(float)
        if any(np.hypot(*(start - other)) < _APART_PX for other in built):
            continue
        out = np.array([out_y[tuple(at[index])], out_x[tuple(at[index])]])
        length = float(np.hypot(*out))
        if length < 1e-6:
            continue
        out /= length
        turned = np.array([-out[1], out[0]]) * rng.choice([-1, 1])
        knee = start + _OUT_PX * out
        head = knee + _ALONG_PX * (0.94 * turned + 0.34 * out)
        if distance[tuple(knee.astype(int))] > -60 or distance[tuple(head.astype(int))] > -40:
            continue  # it would end on land
        share = np.maximum(share, line_share(np.stack([start - 2 * out, knee, head]), _WALL_M, side))
        built.append(start)
    return share
