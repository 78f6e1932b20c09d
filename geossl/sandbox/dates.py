"""Which scenes there are: dates, platforms, clouds, haze and swath edges, drawn from the seed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import numpy as np

from geossl.sandbox.noise import generator
from geossl.sandbox.optics import Sun, sun_position
from geossl.sandbox.spec import SandboxSpec

_SOLAR_HOUR = 11.6
"""Sentinel-2 crosses 17° E at about 10:20 UTC: 11.5 hours of local solar time."""


@dataclass(frozen=True)
class Acquisition:
    """What is known of a scene before its pixels are made."""

    number: int
    id: str
    datetime: datetime
    platform: str
    sun: Sun
    cover: float
    cirrus: float
    haze: float
    edge: bool
    """Whether the edge of the swath crosses the square."""

    @property
    def day(self) -> int:
        """Day of the year, from 1."""
        return self.datetime.timetuple().tm_yday

    @property
    def date(self) -> str:
        """ISO date."""
        return self.datetime.date().isoformat()


def plan_acquisitions(spec: SandboxSpec) -> list[Acquisition]:
    """All scenes of a sandbox by date. Each year has at least three dates with few clouds, one of them in summer."""
    scenes: list[Acquisition] = []
    for year in spec.years:
        rng = generator(spec.seed, 30, year)
        few, many = spec.scenes_a_year
        count = int(rng.integers(few, many + 1))
        first, last = (date.fromisoformat(f"{year}-{day}") for day in (spec.first_day, spec.last_day))
        step = (last - first).days / count
        days = [first + timedelta(days=round(step * (n + rng.uniform(0.12, 0.88)))) for n in range(count)]
        if rng.random() < spec.shoulder_scene:
            spring = rng.random() < 0.5
            days[0 if spring else -1] = date(year, 4 if spring else 10, int(rng.integers(8, 24)))
        clear = rng.random(count) < 0.5
        summer = [n for n, day in enumerate(days) if 6 <= day.month <= 8]
        clear[rng.permutation(summer)[:2]] = True
        while clear.sum() < min(3, count):
            clear[rng.integers(count)] = True
        for day, is_clear in zip(days, clear, strict=True):
            scenes.append(_acquisition(spec, len(scenes), day, bool(is_clear), rng))
    return scenes


def _acquisition(spec: SandboxSpec, number: int, day: date, is_clear: bool, rng: np.random.Generator) -> Acquisition:
    platform = "a" if day.year < 2017 or rng.random() < 0.5 else "b"  # Sentinel-2B was launched in March 2017
    at = datetime(day.year, day.month, day.day, 10, 20, tzinfo=UTC) + timedelta(seconds=int(rng.integers(0, 900)))
    cover = float(rng.choice([0.0, rng.uniform(0.005, 0.06)])) if is_clear else float(rng.uniform(0.10, 0.72))
    cirrus = float(rng.uniform(0.1, 0.6)) if rng.random() < (0.08 if is_clear else 0.30) else 0.0
    return Acquisition(
        number=number,
        id=f"S2{platform.upper()}_{spec.mgrs_tile}_{day:%Y%m%d}_0_L2A",
        datetime=at,
        platform=f"sentinel-2{platform}",
        sun=sun_position(spec.latitude, day.timetuple().tm_yday, _SOLAR_HOUR),
        cover=cover,
        cirrus=cirrus,
        haze=float(rng.gamma(1.6, 0.12 if is_clear else 0.22)),
        edge=bool(rng.random() < 0.2),
    )
