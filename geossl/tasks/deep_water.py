"""Where nothing of the sea bed comes back: pixels whose visible bands look like that scene's optically deep water.

``R = R_deep (1 - exp(-2Kz)) + R_bed exp(-2Kz)`` (Lyzenga 1978): with depth the signal approaches ``R_deep``, and a
pixel within a few spreads of it says nothing of its bed. A dark bed in shallow water looks the same and is left out
too: "not seen" is not "absent". Examples and maps share these functions; each estimates the signal per scene.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from geossl.evaluation.controls import spectral_index

VISIBLE = ("blue", "green", "red")
NEEDED = ("green", "nir")
"""What water is told by; of the visible bands those are used that a product has."""
MIN_WATER = 500
"""Water pixels that a scene must show for its signal to be estimated."""
_DARKEST = (2.0, 25.0)
"""Percentiles of the visible sum between which water counts as deep; the very darkest is shadow."""
_MAD_TO_SIGMA = 1.4826
_LEAST_SPREAD = 0.001
"""Reflectance; smaller differences than that lie within a sensor's noise."""


@dataclass(frozen=True)
class DeepSignal:
    """Reflectance of a scene's optically deep water: median and robust spread (sigma) of its visible bands (V,)."""

    median: np.ndarray
    spread: np.ndarray

    def hides(self, values: np.ndarray, bands: Sequence[str], sigmas: float) -> np.ndarray:
        """(..., H, W) bool of reflectance (..., C, H, W): no visible band lies above the signal by ``sigmas``."""
        visible = values[..., _visible(bands), :, :]
        limit = (self.median + sigmas * self.spread).astype(np.float32)[:, None, None]
        return np.asarray((visible <= limit).all(axis=-3))


def deep_signal(values: np.ndarray, clear: np.ndarray, bands: Sequence[str]) -> DeepSignal | None:
    """The signal of one scene from a sample of its pixels.

    Args:
        values: (n, C, H, W) reflectance.
        clear: (n, H, W) bool.
        bands: names of the C bands; :data:`NEEDED` are among them.

    Returns:
        None where fewer than :data:`MIN_WATER` clear pixels are water (NDWI above 0): then nothing is left out.
    """
    with np.errstate(invalid="ignore"):
        water = clear & (spectral_index("ndwi", values, bands) > 0)
    if water.sum() < MIN_WATER:
        return None
    visible = np.stack([values[:, band][water] for band in _visible(bands)])  # (V, N)
    total = visible.sum(axis=0)
    low, high = np.percentile(total, _DARKEST)
    dark = visible[:, (total >= low) & (total <= high)]
    median = np.median(dark, axis=1)
    spread = _MAD_TO_SIGMA * np.median(np.abs(dark - median[:, None]), axis=1)
    return DeepSignal(median, np.maximum(spread, _LEAST_SPREAD))


def _visible(bands: Sequence[str]) -> list[int]:
    return [list(bands).index(name) for name in VISIBLE if name in bands]
