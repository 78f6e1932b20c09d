"""Where water ends: thresholds of a water index, and the waterline between pixels.

A line drawn by marching squares at a fixed limit of the index runs between pixel centres and is several times nearer
to the true waterline than the edges of whole pixels (Bishop-Taylor et al. 2019, doi 10.3390/rs11242984, who found a
fixed limit of zero or a tuned one better than Otsu's at 10 m).
"""

from __future__ import annotations

import numpy as np
from affine import Affine
from contourpy import LineType, contour_generator

from geossl.errors import InputError

ZERO = 0.0
OTSU_BINS = 256
"""Bins of an index from -1 to 1."""


def shorelines(index: np.ndarray, transform: Affine, limit: float = ZERO) -> list[np.ndarray]:
    """Lines where an index (y, x) crosses ``limit``, by marching squares with linear interpolation.

    Pixels that are NaN (cloud, no data) cut the lines: no line is drawn along the edge of a cloud.

    Args:
        index: values at pixel centres.
        transform: pixel corner → CRS, as rasterio has it.
        limit: water lies above it.

    Returns:
        Arrays (n, 2) of x and y in the CRS; a closed line ends where it begins.
    """
    if min(index.shape) < 2:
        return []
    lines = contour_generator(z=np.ma.masked_invalid(index), corner_mask=False, line_type=LineType.Separate).lines(
        limit
    )
    found = []
    for line in lines:
        column, row = np.asarray(line).T + 0.5
        x = transform.a * column + transform.b * row + transform.c
        y = transform.d * column + transform.e * row + transform.f
        found.append(np.stack([x, y], 1))
    return found


def index_counts(index: np.ndarray) -> np.ndarray:
    """How often each of :data:`OTSU_BINS` steps of an index from -1 to 1 occurs (NaN left out): int64."""
    counts, _ = np.histogram(index[np.isfinite(index)], OTSU_BINS, (-1, 1))
    return counts.astype(np.int64)


def otsu_limit(counts: np.ndarray) -> float:
    """The limit that parts a histogram of :func:`index_counts` with the largest variance between the parts (Otsu 1979).

    Raises:
        InputError: all values lie in one bin, so nothing can be parted.
    """
    centres = (np.arange(len(counts)) + 0.5) / len(counts) * 2 - 1
    share = np.cumsum(counts) / max(counts.sum(), 1)
    mean = np.cumsum(counts * centres) / max(counts.sum(), 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        between = (mean[-1] * share - mean) ** 2 / (share * (1 - share))
    between = np.where((share > 1e-12) & (share < 1 - 1e-12), between, -1)
    if counts.sum() == 0 or between.max() < 0:
        raise InputError("Otsu's limit needs values on both sides", found="an index with a single value, or none")
    best = np.flatnonzero(between >= between.max() * (1 - 1e-12))  # a gap in the histogram gives several: its middle
    return float((centres[best[0]] + centres[best[-1]]) / 2 + 1 / len(counts))
