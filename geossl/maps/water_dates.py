"""Where and when there is water: frequency, first and last date and seasonality of each pixel over its clear dates.

Occurrence and seasonality as in the Global Surface Water maps (Pekel et al. 2016, doi 10.1038/nature20584): permanent
water is there in every month of the year that was seen, seasonal water in some. A date's water is told by MNDWI above 0
(Xu 2006; NDWI where there is no short-wave infrared), or by a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date

import numpy as np
import torch
from torch import Tensor

from geossl.errors import InputError
from geossl.evaluation.controls import INDICES
from geossl.maps.composite import WithoutHead, normalised_difference
from geossl.maps.legend import RAMP, Legend, LegendClass
from geossl.maps.predictors import MapHead, PixelPredictor, make_predictor
from geossl.tasks.spec import TaskSpec

WATER = "water"
MIN_WET_DATES, MIN_WET_SHARE = 2, 0.05
"""Less than this is no water: a missed cloud shadow looks like it once, in long series now and then."""
PLANES = (
    "share of clear dates with water",
    "first clear date with water, days since 1970-01-01",
    "last clear date with water, days since 1970-01-01",
    "months of the year with water on half of their clear dates or more",
    "months of the year with a clear date",
    "clear dates with water",
)
SEASONS = (
    ("no water", "#efe6cf"),
    ("water at times", "#c6dbef"),
    ("seasonal water", "#6baed6"),
    ("permanent water", "#08519c"),
)
"""Classes of the layer of seasons, in the order of their values."""


@dataclass(frozen=True)
class WaterDates(WithoutHead):
    """Numbers about the water of each pixel (:data:`PLANES`); stands where a map has a head.

    Attributes:
        min_dates: pixels with fewer clear dates are masked.
        head: says what is water on each date; its task has a class ``water``.
        head_id: which head that is.
        days: the days that :meth:`predict` is given, once they are known.
    """

    min_dates: int
    head: MapHead | None = None
    head_id: str = ""
    days: tuple[date, ...] = field(default=(), repr=False)
    channels = len(PLANES)

    @property
    def id(self) -> str:
        """What a layer's identity says of it."""
        return f"water-dates-{self.min_dates}" + (f"-{self.head_id}" if self.head_id else "")

    @property
    def bands(self) -> tuple[str, ...]:  # type: ignore[override]
        """The bands of MNDWI, or of the head."""
        return INDICES["mndwi"] if self.head is None else tuple(self.head.bands)

    def bands_in(self, there: Sequence[str]) -> tuple[str, ...]:
        """The bands of the water index that these allow; a head's own are taken by their names."""
        if self.head is not None:
            return self.bands
        if set(INDICES["mndwi"]) <= set(there):
            return INDICES["mndwi"]
        return ("green", "nir08") if "nir" not in there and "nir08" in there else INDICES["ndwi"]

    @property
    def task(self) -> TaskSpec:
        """The layer as a task: numbers a pixel, from all dates at once."""
        return TaskSpec(name="surface-water-values", title=self.legend.title, kind="regression", temporal="composite")

    @property
    def legend(self) -> Legend:
        """How the first plane is drawn, and what the others are."""
        return Legend("Share of clear dates with water", "derived", (), "", RAMP, (0.0, 1.0), planes=PLANES)

    def on(self, days: Sequence[date | None]) -> WaterDates:
        """The same for a map of these days.

        Raises:
            InputError: a day is not known.
        """
        known = tuple(day for day in days if day is not None)
        if len(known) != len(days):
            raise InputError(
                "these chips carry no date, so nothing can be said of when there is water",
                expected="dated chips, or scenes of the cube",
            )
        return replace(self, days=known)

    def predict(self, values: Tensor, clear: Tensor) -> Tensor:
        """Values (B, T, C, H, W), clear (B, T, H, W) → (B, planes, H, W); NaN with too few clear dates."""
        wet, seen = self._wet(values, clear)
        return water_planes(wet, seen, self.days, self.min_dates)

    def _wet(self, values: Tensor, clear: Tensor) -> tuple[Tensor, Tensor]:
        if self.head is None:
            index, seen = normalised_difference(values, clear)
            return seen & (index > 0), seen
        names = [str(entry.name) for entry in self.head.task.classes]
        chip_px = getattr(self.head, "chip_px", None)
        asked = make_predictor(self.head, len(names), "segmentation", "date", chip_px)
        assert isinstance(asked, PixelPredictor)
        said = [asked.predict(values[:, [t]], clear[:, [t]]).argmax(1).cpu() for t in range(values.shape[1])]
        return clear & (torch.stack(said, 1) == names.index(WATER)), clear


def water_planes(wet: Tensor, seen: Tensor, days: Sequence[date], min_dates: int) -> Tensor:
    """:data:`PLANES` (B, 6, H, W) float32 from where it is wet and where it is seen, both (B, T, H, W) bool.

    Dates of first and last water are NaN where there was none; all planes are NaN with fewer than ``min_dates``.
    """
    count, wet_count = seen.sum(1), wet.sum(1)
    since = torch.tensor([(day - date(1970, 1, 1)).days for day in days], dtype=torch.float32)[:, None, None]
    first = torch.where(wet, since, torch.inf).amin(1)
    last = torch.where(wet, since, -torch.inf).amax(1)
    month_of = np.array([day.month for day in days])
    wet_months, seen_months = torch.zeros_like(count), torch.zeros_like(count)
    for month in np.unique(month_of):
        here = torch.from_numpy(month_of == month)
        dates, water = seen[:, here].sum(1), wet[:, here].sum(1)
        seen_months += dates > 0
        wet_months += (dates > 0) & (2 * water >= dates)
    ever = wet_count > 0
    nothing = torch.full_like(first, torch.nan)
    planes = [
        wet_count / count.clamp_min(1),
        torch.where(ever, first, nothing),
        torch.where(ever, last, nothing),
        wet_months,
        seen_months,
        wet_count,
    ]
    found = torch.stack([plane.float() for plane in planes], 1)
    return torch.where((count >= min_dates)[:, None], found, torch.nan)


def seasons(planes: np.ndarray) -> np.ndarray:
    """Values of :data:`SEASONS` (y, x) uint8 from planes (plane, y, x), 255 where they are NaN.

    Water at times: on two dates or more and a twentieth of all, but on most dates of no month.
    """
    share, wet_months, seen_months, dates = (planes[number] for number in (0, 3, 4, 5))
    with np.errstate(invalid="ignore"):
        water = (np.rint(dates) >= MIN_WET_DATES) & (share >= MIN_WET_SHARE)
        found = np.select(
            [~water, np.rint(wet_months) == 0, np.rint(wet_months) < np.rint(seen_months)], [0, 1, 2], default=3
        )
    return np.where(np.isfinite(share), found, 255).astype(np.uint8)


def seasons_legend(min_dates: int) -> Legend:
    """Classes of the seasons, and why a pixel may have none."""
    entries = tuple(LegendClass(value, *entry) for value, entry in enumerate(SEASONS))
    return Legend(
        "Seasons of surface water", "derived", entries, unseen=f"fewer than {min_dates} clear dates (or no data)"
    )
