"""Features that need no learning: what every trained encoder has to beat, on the same chips and labels.

Chips are reflectance (n, band, y, x) with ``clear`` (n, y, x) bool; pixels that are not clear are never used.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from torchgeo.models import RCF

from geossl.errors import InputError, unknown_name

INDICES: dict[str, tuple[str, str]] = {
    "ndvi": ("nir", "red"),
    "ndmi": ("nir", "swir16"),
    "ndwi": ("green", "nir"),
    "mndwi": ("green", "swir16"),
    "ndre": ("nir", "rededge071"),
    "nbr": ("nir", "swir22"),
    "ndti": ("red", "green"),
}
"""Normalised differences (a - b) / (a + b) by STAC common names: vegetation (Rouse 1974), moisture (Gao 1996), water
(McFeeters 1996; Xu 2006), red edge (Gitelson 1994), burn ratio (Key & Benson 2006), turbidity (Lacaux 2007)."""

_AT_ONCE = 4
"""Chips convolved at once: the responses of more do not stay in the processor's cache."""


def spectral_index(name: str, values: np.ndarray, bands: Sequence[str]) -> np.ndarray:
    """A normalised difference of reflectance (..., band, y, x): (..., y, x) float32 in -1 to 1.

    Never scaled by a scene's own minimum and maximum, so dates can be compared. Where the two bands sum to nothing
    (under 1e-4 of reflectance, as over deep water) the index is NaN; reflectance below 0 can only reach -1 or 1.

    Raises:
        InputError: unknown index, or a band it needs is missing.
    """
    if name not in INDICES:
        raise unknown_name("index", name, INDICES)
    missing = [band for band in INDICES[name] if band not in bands]
    if missing:
        raise InputError(
            f"the index {name} needs band {', '.join(missing)}",
            expected=" and ".join(INDICES[name]),
            found=", ".join(bands),
        )
    first, second = (values[..., list(bands).index(band), :, :].astype(np.float32) for band in INDICES[name])
    total = first + second
    with np.errstate(invalid="ignore", divide="ignore"):
        index = np.where(total > 1e-4, (first - second) / total, np.nan)
    return np.clip(index, -1, 1)


def available_indices(bands: Sequence[str]) -> list[str]:
    """Names of the indices that these bands allow."""
    return [name for name, needs in INDICES.items() if set(needs) <= set(bands)]


def image_statistics(values: np.ndarray, clear: np.ndarray) -> np.ndarray:
    """Mean, standard deviation, 10th and 90th percentile of each band over clear pixels: (n, 4 * band) float32.

    Order: all means, all deviations, all 10th, all 90th percentiles. A chip without clear pixels has zeros.
    """
    n, bands = values.shape[:2]
    pixels = np.where(clear[:, None], values, np.nan).reshape(n, bands, -1).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # all-NaN slices: chips without clear pixels, dealt with below
        low, high = _percentiles(pixels)
        parts = [np.nanmean(pixels, axis=2), np.nanstd(pixels, axis=2), low, high]
    return np.nan_to_num(np.concatenate(parts, axis=1)).astype(np.float32)


def rich_statistics(values: np.ndarray, clear: np.ndarray, bands: Sequence[str]) -> np.ndarray:
    """:func:`image_statistics` of bands and of all spectral indices, and each band's gradient spread (texture).

    (n, 5 * band + 4 * index) float32. The gradient spread is the root mean square difference of neighbouring clear
    pixels.
    """
    parts = [image_statistics(values, clear)]
    for name in available_indices(bands):
        index = spectral_index(name, values, bands)
        parts.append(image_statistics(index[:, None], clear & np.isfinite(index)))
    pixels = np.where(clear[:, None], values, np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        down = np.nanmean(np.diff(pixels, axis=2) ** 2, axis=(2, 3))
        across = np.nanmean(np.diff(pixels, axis=3) ** 2, axis=(2, 3))
    parts.append(np.nan_to_num(np.sqrt((down + across) / 2)))
    return np.concatenate(parts, axis=1).astype(np.float32)


def _percentiles(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """10th and 90th percentile over the last axis, NaN left out; ``nanpercentile`` loops over rows in Python."""
    ordered = np.sort(pixels, axis=2)  # NaN sorts last
    count = (~np.isnan(pixels)).sum(axis=2, keepdims=True)
    found = []
    for share in (0.1, 0.9):
        place = share * np.maximum(count - 1, 0)
        before = np.floor(place).astype(int)
        after = np.minimum(before + 1, np.maximum(count - 1, 0))
        low, high = np.take_along_axis(ordered, before, 2), np.take_along_axis(ordered, after, 2)
        found.append((low + (high - low) * (place - before))[..., 0])
    return found[0], found[1]


class RandomConvolutions:
    """Random 3 x 3 patches of training chips, whitened, as convolutions; pooled over the chip (Coates & Ng 2012; Rolf
    et al. 2021, doi 10.1038/s41467-021-24638-z). torchgeo's RCF on standardised bands; a fixed function of the seed.
    """

    def __init__(self, values: np.ndarray, clear: np.ndarray, seed: int, patches: int = 512) -> None:
        """Take patches and band statistics from training chips (n, band, y, x) with validity (n, y, x)."""
        pixels = np.moveaxis(values, 1, -1)[clear]  # (pixels, band)
        if not len(pixels):
            raise InputError("no clear pixel to take patches from", where="random convolutions")
        self.mean = pixels.mean(axis=0).astype(np.float32)[:, None, None]
        self.std = np.maximum(pixels.std(axis=0), 1e-6).astype(np.float32)[:, None, None]
        chips = _Images(self._standardised(values, clear))
        # RCF takes seed 0 for no seed; twice as many features as patches, one for each sign of the response.
        self.net = RCF(values.shape[1], 2 * patches, 3, seed=seed + 1, mode="empirical", dataset=chips)

    def features(self, values: np.ndarray, clear: np.ndarray) -> np.ndarray:
        """Mean positive and negative response to each patch: (n, 2 * patches) float32."""
        parts = []
        for start in range(0, len(values), _AT_ONCE):
            rows = slice(start, start + _AT_ONCE)
            parts.append(self.net(torch.from_numpy(self._standardised(values[rows], clear[rows]))).numpy())
        return np.concatenate(parts)

    def _standardised(self, values: np.ndarray, clear: np.ndarray) -> np.ndarray:
        """Bands to mean 0 and deviation 1 over the training pixels; pixels that are not clear become 0."""
        filled = np.where(clear[:, None], values, self.mean)
        return np.ascontiguousarray((filled - self.mean) / self.std, dtype=np.float32)


class _Images:
    """What RCF needs of a dataset."""

    def __init__(self, images: np.ndarray) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> dict[str, np.ndarray]:
        return {"image": self.images[row]}
