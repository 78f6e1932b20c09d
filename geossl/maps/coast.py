"""Zones along a shore from the clear dates of a period: water, intertidal, built, vegetated shore, other land.

A rule of thumb that needs no labels: how often there is water (MNDWI above 0, Xu 2006) tells water, what is wet at
times and land; NDVI tells plants, the built-up index NDBI = -NDMI above 0 (Zha et al. 2003) with few plants what is
built. Bare sand and rock look built to it. A head taught with labels of the task is the other way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from geossl.maps.composite import WithoutHead, normalised_difference
from geossl.maps.legend import RAMP, Legend
from geossl.tasks.spec import TaskSpec

PLANES = (
    "share of clear dates with water",
    "clear dates",
    "median MNDWI",
    "median MNDWI of the first, third, … date",
    "median MNDWI of the second, fourth, … date",
    "median NDVI",
    "median NDMI",
)
ZONES = ("land", "water", "intertidal", "built", "vegetated shore")
"""Classes that the task's YAML names too, in this order."""
EDGE_SHARE, EDGE_DATES = 0.1, 2
"""Wet at times: on more than this share of the clear dates and dry on more, each on so many dates."""
PLANTS_NDVI, BARE_NDVI = 0.4, 0.25


@dataclass(frozen=True)
class CoastDates(WithoutHead):
    """Numbers about the dates of each pixel of a coast (:data:`PLANES`); stands where a map has a head.

    Pixels with fewer clear dates than ``min_dates`` are masked.
    """

    min_dates: int
    channels = len(PLANES)
    bands = ("green", "red", "nir", "swir16")

    @property
    def id(self) -> str:
        """What a layer's identity says of it."""
        return f"coast-dates-{self.min_dates}"

    @property
    def task(self) -> TaskSpec:
        """The layer as a task: numbers a pixel, from all dates at once."""
        return TaskSpec(name="coastal-zone-values", title=self.legend.title, kind="regression", temporal="composite")

    @property
    def legend(self) -> Legend:
        """How the first plane is drawn, and what the others are."""
        return Legend("Share of clear dates with water", "derived", (), "", RAMP, (0.0, 1.0), planes=PLANES)

    def on(self, days: Sequence[date | None]) -> CoastDates:
        """Itself: dates matter by their order alone."""
        return self

    def predict(self, values: Tensor, clear: Tensor) -> Tensor:
        """Values (B, T, 4, H, W), clear (B, T, H, W) → (B, planes, H, W); NaN with too few clear dates."""
        mndwi, seen = normalised_difference(values[:, :, [0, 3]], clear)
        ndvi, plants = normalised_difference(values[:, :, [2, 1]], clear)
        ndmi, moist = normalised_difference(values[:, :, [2, 3]], clear)
        count = seen.sum(1)
        odd = seen & (seen.cumsum(1) % 2 == 1)
        planes = [
            (seen & (mndwi > 0)).sum(1) / count.clamp_min(1),
            count.float(),
            _median(mndwi, seen),
            _median(mndwi, odd),
            _median(mndwi, seen & ~odd),
            _median(ndvi, plants),
            _median(ndmi, moist),
        ]
        return torch.where((count >= self.min_dates)[:, None], torch.stack(planes, 1), torch.nan)


def _median(index: Tensor, seen: Tensor) -> Tensor:
    return torch.where(seen, index, torch.nan).nanquantile(0.5, dim=1)


def coast_zones(planes: np.ndarray, reach_px: float) -> np.ndarray:
    """Values of :data:`ZONES` (y, x) uint8 from planes (plane, y, x), 255 where they are NaN.

    Args:
        planes: the bands of ``value.tif``.
        reach_px: how far from water that is there at times plants belong to the shore, pixels.
    """
    share, count, ndvi, ndmi = (planes[number] for number in (0, 1, 5, 6))
    with np.errstate(invalid="ignore"):
        wet_dates = share * count
        least = np.maximum(EDGE_DATES - 0.5, EDGE_SHARE * count)
        at_times = (wet_dates > least) & (count - wet_dates > least)
        water = ~at_times & (share > 0.5)
        near = distance_transform_edt(~(water | at_times)) <= reach_px if (water | at_times).any() else at_times
        plants = ~water & near & (ndvi > PLANTS_NDVI)
        built = ~at_times & ~water & (ndvi < BARE_NDVI) & (ndmi < 0)
        found = np.select([water, plants, at_times, built], [1, 4, 2, 3], default=0)
    return np.where(np.isfinite(share), found, 255).astype(np.uint8)
