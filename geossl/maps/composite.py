"""Layers without a model: a spectral index of many dates as one picture.

An index is a normalised difference of reflectance, never scaled by a scene's own minimum and maximum, so the same
ground gives the same number on every date and in every map. Composites are of each pixel's clear dates:

- ``median``: the median of the index;
- ``max``: its largest value (the largest extent of vegetation in a period is where the highest NDVI is high);
- ``best``: its value on one date, that with the least cloud around the pixel; of equally clear dates the one nearest
  to the middle of the series (a pixel-based best-available-pixel rule after White et al. 2014, two of its criteria);
- ``frequency``: the share of clear dates on which it lies above 0 (of MNDWI: how often there is water).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Literal, get_args

import numpy as np
import torch
from scipy.ndimage import uniform_filter
from torch import Tensor

from geossl.errors import unknown_name
from geossl.evaluation.controls import INDICES
from geossl.maps.legend import RAMP, Legend
from geossl.maps.sources import WindowRead, WindowSource
from geossl.maps.stream import Predictor, WindowSizes
from geossl.maps.windows import Window
from geossl.tasks.spec import TaskSpec

Composite = Literal["median", "max", "best", "frequency"]
COMPOSITES: tuple[str, ...] = get_args(Composite)
HALO_PX = 15
"""``best`` looks at the cloud this far around a pixel (150 m at 10 m): a box of 31 pixels."""
NEARBY = "cloud_nearby"
_CLOUD_STEPS = 20
"""Shares of cloud that differ by less than a twentieth count as equal."""
_GREEN = ("#8c6d46", "#d9c48f", "#f4f1d0", "#7fbf6b", "#1b6e2f")
_WET = ("#a5602b", "#e6c189", "#f2f0e6", "#74a9cf", "#0b4a8f")
_DRAWN: dict[str, tuple[tuple[str, ...], tuple[float, float]]] = {
    "ndvi": (_GREEN, (-0.2, 0.9)),
    "ndre": (_GREEN, (-0.2, 0.7)),
    "ndmi": (_WET, (-0.4, 0.6)),
    "ndwi": (_WET, (-0.8, 0.8)),
    "mndwi": (_WET, (-0.8, 0.8)),
}
"""Colours and the values at their ends, the same for every date and region, so that pictures can be compared too."""
_TITLES = {
    "median": "Median {0}",
    "max": "Highest {0}",
    "best": "{0} on the clearest date of each pixel",
    "frequency": "Share of clear dates with {0} above 0",
}


class WithoutHead(ABC):
    """What stands where a map has a head, and is told from all dates of each single pixel at once.

    Those that derive from it have ``bands``, ``id``, ``task``, ``legend`` and ``predict`` as a head's map has them.
    """

    channels = 1
    cell_px = 1
    per_date = False
    least_px = 1
    sizes = WindowSizes(256, 0, 1)
    """All dates of a window are in memory at once, so windows are small; pixels are alone, so they need no overlap."""
    bands: tuple[str, ...]

    @property
    @abstractmethod
    def legend(self) -> Legend:
        """What its values mean."""

    def bands_in(self, there: Sequence[str]) -> tuple[str, ...]:
        """Its bands as a product or chip set names them: ``nir08`` stands for ``nir`` where there is no ``nir``."""
        other = "nir08" if "nir" not in there and "nir08" in there else "nir"
        return tuple(other if band == "nir" else band for band in self.bands)

    @abstractmethod
    def on(self, days: Sequence[date | None]) -> Predictor:
        """What predicts a map of these days, given to it in this order."""


@dataclass(frozen=True)
class IndexComposite(WithoutHead):
    """An index and how its dates become one: stands where a map has a head (it predicts single pixels)."""

    index: str
    composite: str

    def __post_init__(self) -> None:
        if self.index not in INDICES:
            raise unknown_name("index", self.index, INDICES, where="--index")
        if self.composite not in COMPOSITES:
            raise unknown_name("composite", self.composite, COMPOSITES, where="--composite")

    @property
    def bands(self) -> tuple[str, ...]:  # type: ignore[override]
        """The two bands of the index."""
        return INDICES[self.index]

    def on(self, days: Sequence[date | None]) -> Predictor:
        """Itself: it does not matter which days these are."""
        return self

    @property
    def id(self) -> str:
        """What a layer's identity says of it."""
        return f"{self.index}-{self.composite}"

    @property
    def title(self) -> str:
        """In words, for titles of layers."""
        return _TITLES[self.composite].format(self.index.upper())

    @property
    def task(self) -> TaskSpec:
        """The layer as a task: a number a pixel, from all dates at once."""
        return TaskSpec(name=self.id, title=self.title, kind="regression", temporal="composite")

    @property
    def legend(self) -> Legend:
        """How its values are drawn."""
        ramp, limits = (RAMP, (0.0, 1.0)) if self.composite == "frequency" else _DRAWN.get(self.index, (RAMP, (-1, 1)))
        return Legend(self.title, "regression", (), "", ramp, limits)

    def predict(self, values: Tensor, clear: Tensor) -> Tensor:
        """Values (B, T, C, H, W), clear (B, T, H, W) → (B, 1, H, W); NaN where the index is defined on no clear date.

        The first two bands are those of the index; ``best`` takes :data:`NEARBY` as a third.
        """
        index, seen = normalised_difference(values, clear)
        if self.composite == "median":
            found = torch.where(seen, index, torch.nan).nanquantile(0.5, dim=1)
        elif self.composite == "max":
            found = torch.where(seen, index, -torch.inf).amax(1)
        elif self.composite == "frequency":
            found = (seen & (index > 0)).sum(1) / seen.sum(1)
        else:
            found = index.gather(1, best_date(values[:, :, 2], seen)[:, None])[:, 0]
        return torch.where(seen.any(1), found, torch.nan)[:, None]


def normalised_difference(values: Tensor, clear: Tensor) -> tuple[Tensor, Tensor]:
    """(a - b) / (a + b) of the first two bands of values (B, T, C, H, W), and where it is clear and defined.

    The rule of :func:`geossl.evaluation.controls.spectral_index`: not defined where the bands sum to under 1e-4.
    """
    a, b = values[:, :, 0], values[:, :, 1]
    total = a + b
    seen = clear & (total > 1e-4)
    return ((a - b) / torch.where(seen, total, 1.0)).clamp(-1, 1), seen


def best_date(cloud: Tensor, seen: Tensor) -> Tensor:
    """Which date each pixel is taken from: (B, H, W) from the share of cloud nearby (B, T, H, W) and where it is seen.

    Least cloud in steps of a twentieth; of equals the date nearest to the middle of the series, the earlier of two.
    """
    dates = cloud.shape[1]
    place = torch.arange(dates, dtype=cloud.dtype, device=cloud.device)
    off_middle = (place - (dates - 1) / 2).abs() / (dates + 1) + place * 1e-6  # below one step of cloud
    score = (cloud * _CLOUD_STEPS).floor() + off_middle[:, None, None]
    return torch.where(seen, score, torch.inf).argmin(1)


class NearbyCloudSource:
    """Another source with one band more: the share of pixels around each that are not clear on that day (0 to 1).

    Windows are read with a margin, so that a pixel's share does not depend on where windows end.
    """

    def __init__(self, source: WindowSource) -> None:
        self._source = source
        self.geobox, self.days, self.footprint = source.geobox, source.days, source.footprint
        self.bands, self.available = (*source.bands, NEARBY), source.available
        self.scene_ids, self.reads_per_window, self.origin = source.scene_ids, source.reads_per_window, source.origin

    def read(self, window: Window, days: Sequence[int]) -> WindowRead:
        """The other source's window and the new band."""
        margin = HALO_PX
        wide = replace(
            window,
            y=window.y - margin,
            x=window.x - margin,
            height=window.height + 2 * margin,
            width=window.width + 2 * margin,
        )
        read = self._source.read(wide, days)
        size = (1, 2 * margin + 1, 2 * margin + 1)
        cloud = uniform_filter((~read.clear).astype(np.float32), size, mode="nearest").clip(0, 1)
        inner = (..., slice(margin, margin + window.height), slice(margin, margin + window.width))
        values = np.concatenate([read.values, cloud[:, None]], 1)[inner]
        return replace(
            read, values=np.ascontiguousarray(values), clear=read.clear[inner].copy(), inside=read.inside[inner].copy()
        )
