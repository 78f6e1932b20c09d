"""The level of a lake or a sea day by day, and what its gauges write down of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
from scipy.signal import lfilter

from geossl.sandbox.noise import generator
from geossl.sandbox.spec import SandboxSpec, WaterSettings

GAUGE_ERROR_M = 0.012
"""Standard deviation of one day's reading."""
_MISSING = 0.03
_RIPPLE_M = 0.008


@dataclass(frozen=True)
class Levels:
    """One level a day, metres above the datum, from the first day of the gauges to the last year's end."""

    first: date
    metres: np.ndarray
    """(n,) float64."""

    def on(self, day: date) -> float:
        """The level of a day."""
        return float(self.metres[(day - self.first).days])


def make_levels(spec: SandboxSpec, settings: WaterSettings) -> Levels:
    """A season, departures from it that last (AR(1)), and bounds that the regulation or the coast sets.

    ``level = mean + half · tanh((season + departure) / half)``: near the bounds water is let out or held back.
    """
    first, last = date(settings.gauge_first_year, 1, 1), date(max(spec.years), 12, 31)
    days = np.arange((last - first).days + 1)
    of_year = np.array([(first + timedelta(days=int(n))).timetuple().tm_yday for n in days])
    rng = generator(spec.seed, 70)
    keep = float(np.exp(-1 / settings.memory_days))
    shocks = rng.standard_normal(len(days)) * settings.spread_m * np.sqrt(1 - keep**2)
    shocks[0] = rng.normal(0, settings.spread_m)
    departure = lfilter([1.0], [1.0, -keep], shocks)
    season = settings.season_m * np.cos(2 * np.pi * (of_year - settings.peak_day) / 365.25)
    ripple = _RIPPLE_M * lfilter([1.0], [1.0, -0.6], rng.standard_normal(len(days)))
    half = settings.range_m / 2
    return Levels(first, settings.level_m + half * np.tanh((season + departure + ripple) / half))


def gauge_rows(
    levels: Levels, spec: SandboxSpec, settings: WaterSettings, places: list[tuple[float, float]]
) -> list[tuple[str, str, str, str, str]]:
    """Rows of the gauge CSV (station, lon, lat, time, level_m), as text: with errors, missing days and outages."""
    rows = []
    for number, (station, (lon, lat)) in enumerate(zip(settings.stations, places, strict=True)):
        rng = generator(spec.seed, 71, number)
        count = len(levels.metres)
        read = levels.metres + rng.normal(0, GAUGE_ERROR_M, count)
        there = rng.random(count) > _MISSING
        for _ in range(max(1, count // 1800)):
            start = int(rng.integers(0, count))
            there[start : start + int(rng.integers(15, 50))] = False
        for n in np.flatnonzero(there).tolist():
            day = (levels.first + timedelta(days=n)).isoformat()
            rows.append((station, f"{lon:.5f}", f"{lat:.5f}", day, f"{read[n]:.3f}"))
    return rows
