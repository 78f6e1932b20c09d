"""How a date differs from the same season of other years, a pixel at a time: what a single date cannot show.

Drought is a departure: the same NDMI is a wet year on one field and a dry one on another. For each index the planes
are its difference from the median of the reference dates, that difference in their standard deviations, and the mean
of the latter over 5 x 5 pixels; one plane more says whether there are references at all. Training reads references from
the chip store and maps from the cube; both come through :func:`anomaly_planes`.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from datetime import date

import numpy as np
from scipy.ndimage import uniform_filter

from geossl.evaluation.controls import INDICES, spectral_index

MIN_REFERENCES = 2
"""Clear reference dates that a pixel needs."""
MIN_SPREAD = 0.03
"""The least standard deviation that a difference is divided by: a few dates may agree by chance."""
PER_INDEX = 3
_NEIGHBOURHOOD = 5
_MOST_SPREADS = 5.0


def plane_count(references: Sequence[str]) -> int:
    """Planes of these indices: three each, and one for whether there are references; none without indices."""
    return PER_INDEX * len(references) + 1 if references else 0


def reference_bands(references: Sequence[str]) -> tuple[str, ...]:
    """Bands that the indices need, each once."""
    return tuple(dict.fromkeys(band for name in references for band in INDICES[name]))


def same_season(day: date, others: Sequence[date], season_days: int) -> list[int]:
    """Which of ``others`` lie in other years, within ``season_days`` of the day of the year (over New Year too)."""
    found = []
    for number, other in enumerate(others):
        apart = abs(day.timetuple().tm_yday - other.timetuple().tm_yday)
        if other.year != day.year and min(apart, 365.25 - apart) <= season_days:
            found.append(number)
    return found


def index_stack(values: np.ndarray, clear: np.ndarray, bands: Sequence[str], references: Sequence[str]) -> np.ndarray:
    """Indices (..., I, y, x) of reflectance (..., band, y, x), NaN where not ``clear`` (..., y, x)."""
    planes = [np.where(clear, spectral_index(name, values, bands), np.float32(np.nan)) for name in references]
    return np.stack(planes, axis=-3)


def anomaly_planes(now: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Planes (P, y, x) float32 of the indices of a date (I, y, x) and of its reference dates (D, I, y, x), NaN: unseen.

    Where the date or enough references are not seen, all planes are 0.
    """
    count = len(now)
    planes = np.zeros((PER_INDEX * count + 1, *now.shape[1:]), np.float32)
    if len(others) < MIN_REFERENCES:
        return planes
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # pixels without any reference: dealt with below
        median, spread = np.nanmedian(others, 0), np.nanstd(others, 0)
    known = (np.isfinite(others).sum(0) >= MIN_REFERENCES) & np.isfinite(now)
    difference = np.where(known, now - median, 0)
    spreads = (difference / np.maximum(np.nan_to_num(spread), MIN_SPREAD)).clip(-_MOST_SPREADS, _MOST_SPREADS)
    size = (1, _NEIGHBOURHOOD, _NEIGHBOURHOOD)
    share = uniform_filter(known.astype(np.float32), size, mode="constant")
    around = uniform_filter(spreads.astype(np.float32), size, mode="constant") / np.maximum(share, 1e-3)
    planes[0:count], planes[count : 2 * count], planes[2 * count : 3 * count] = difference, spreads, around
    planes[2 * count : 3 * count][~known] = 0
    planes[-1] = known.all(0)
    return planes
