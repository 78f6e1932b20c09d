"""What changes with the date: weather, soil water, drought stress, and what stands on each object on a day of the year.

Soil water is a daily bucket after FAO Irrigation and Drainage Paper 56 (chapter 8): stress coefficient
``Ks = (1 - depletion) / (1 - p)`` below a depletion share ``p``; stress is ``1 - Ks``. Vegetation shows the stress
of the past weeks: an exponential mean over 16 days.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from geossl.sandbox.classes import NOT_APPLICABLE, Cover, Crop, Drought
from geossl.sandbox.landscape import Landscape
from geossl.sandbox.noise import Field, fractal, generator
from geossl.sandbox.spec import SandboxSpec

DAYS = 366
MODERATE, SEVERE = 0.18, 0.50
"""Vegetation drought: stress above what is normal for this soil, class and day of the year by at least this much."""
CAPACITIES_MM = np.array([18, 28, 40, 55, 75, 100, 130, 170, 220, 290, 400, 600], np.float32)
RAIN_FACTORS = np.array([0.7, 1.0, 1.3], np.float32)
_NORMAL_YEARS = 24
_P = 0.5
_LAG_DAYS = 16.0
_TOPSOIL_MM = 22.0
_RAIN_MM_MONTH = np.array([45, 33, 30, 32, 38, 58, 68, 66, 55, 55, 55, 48], np.float32)
_DRY: dict[str, tuple[tuple[int, int, float, float], ...]] = {
    # first and last day of year, share of the rain that falls, factor on evaporation
    "severe": ((126, 218, 0.20, 1.16), (222, 250, 0.7, 1.05)),
    "moderate": ((140, 200, 0.42, 1.08), (200, 240, 0.62, 1.06)),
}
ROOT_M: dict[int, float] = {
    Cover.ARABLE: 1.0,
    Cover.GRASSLAND: 0.75,
    Cover.SPRUCE: 1.9,
    Cover.PINE: 2.6,
    Cover.PLANTATION: 2.6,
    Cover.BROADLEAF: 2.8,
    Cover.MIXED: 2.3,
    Cover.CLEAR_CUT: 1.1,
    Cover.MIRE: 2.4,
    Cover.BUILT_UP: 0.9,
}
"""Rooting depth in metres by cover; a crop's own factor is in ``CROP_ROOT``."""
CROP_ROOT: dict[int, float] = {
    Crop.SPRING_BARLEY: 0.9,
    Crop.WINTER_WHEAT: 1.5,
    Crop.OILSEED_RAPE: 1.6,
    Crop.LEY: 1.0,
}


@dataclass(frozen=True)
class Weather:
    """Daily rain and potential evapotranspiration of one year, mm, (366,) each."""

    rain_mm: np.ndarray
    evaporation_mm: np.ndarray


def make_weather(rng: np.random.Generator, dry: str | None) -> Weather:
    """One year's weather, with a dry spell as ``dry`` says."""
    day = np.arange(DAYS)
    month = np.minimum((day / 30.5).astype(int), 11)
    spell = np.convolve(rng.standard_normal(DAYS + 20), np.ones(9) / 3, "same")[10 : 10 + DAYS]  # wet and dry weeks
    wet = rng.random(DAYS) < np.clip(0.40 + 0.11 * spell, 0.12, 0.8)
    rain = wet * rng.gamma(0.8, 1.0, DAYS) * (_RAIN_MM_MONTH[month] / 30.5 / 0.40 / 0.8)
    rain *= rng.lognormal(0.0, 0.06)
    evaporation = np.clip(3.1 * np.sin((day - 65) / 230 * np.pi), 0.15, None) ** 1.05
    evaporation *= 1 + 0.10 * np.clip(-spell, -1.2, 1.2)
    for first, last, share, factor in _DRY.get(dry or "", ()):
        rain[first:last] *= share
        evaporation[first:last] *= factor
    return Weather(rain.astype(np.float32), evaporation.astype(np.float32))


def run_bucket(weather: Weather) -> tuple[np.ndarray, np.ndarray]:
    """Soil water through one year for every capacity and rain factor.

    Returns:
        Lagged stress and depletion of the top soil, each (366, capacity, rain factor) float32 in 0…1.
    """
    capacity = CAPACITIES_MM[:, None] + np.zeros((1, len(RAIN_FACTORS)), np.float32)
    water, top = capacity.copy(), np.full_like(capacity, _TOPSOIL_MM)
    lagged = np.zeros_like(capacity)
    stress, dryness = (np.empty((DAYS, *capacity.shape), np.float32) for _ in range(2))
    for day in range(DAYS):
        rain = weather.rain_mm[day] * RAIN_FACTORS[None, :]
        ks = np.clip(water / capacity / (1 - _P), 0, 1)
        water = np.clip(water + rain - 0.80 * weather.evaporation_mm[day] * ks, 0, capacity)
        top = np.clip(top + rain - weather.evaporation_mm[day], 0, _TOPSOIL_MM)
        lagged += (1 - ks - lagged) / _LAG_DAYS
        stress[day], dryness[day] = lagged, 1 - top / _TOPSOIL_MM
    return stress, dryness


@dataclass(frozen=True)
class Seasons:
    """Tables over day of year, soil capacity and rain factor, for the years of a sandbox and for normal years."""

    stress: dict[int, np.ndarray]
    dryness: dict[int, np.ndarray]
    normal: np.ndarray
    shift_days: dict[int, float]
    """By how many days each year's spring is late (negative: early)."""


def make_seasons(spec: SandboxSpec) -> Seasons:
    """The weather of all years of a sandbox, and what is normal there (the mean of other, undisturbed years)."""
    tables = {}
    for year in spec.years:
        weather = make_weather(generator(spec.seed, 20, year), spec.dry_years.get(year))
        tables[year] = run_bucket(weather)
    normals = [run_bucket(make_weather(generator(spec.seed, 21, n), None))[0] for n in range(_NORMAL_YEARS)]
    shift = {
        year: float(np.clip(generator(spec.seed, 22, year).normal(0, 3.5), -6, 6))
        - (4 if year in spec.dry_years else 0)
        for year in spec.years
    }
    return Seasons(
        stress={year: table[0] for year, table in tables.items()},
        dryness={year: table[1] for year, table in tables.items()},
        normal=np.stack(normals).mean(axis=0, dtype=np.float32),
        shift_days=shift,
    )


@dataclass(frozen=True)
class Moisture:
    """The state of soil and plants on one date, (y, x) float32 each."""

    stress: Field
    """0…1: lagged water stress of the vegetation."""
    anomaly: Field
    """Stress minus what is normal for this soil, class and day."""
    dryness: Field
    """0…1: how dry the top of the soil is."""


def rain_pattern(side: int, seed: int, year: int) -> Field:
    """Which parts of the square a year's showers favoured: a smooth factor around 1."""
    return np.clip(1 + 0.11 * fractal(side, generator(seed, 23, year), 500, slope=4.2), 0.71, 1.29).astype(np.float32)


def root_depth(land: Landscape, year: int) -> np.ndarray:
    """(n,) float32: rooting depth of each object in a year, metres."""
    table = np.zeros(256, np.float32)
    for cover, depth in ROOT_M.items():
        table[cover] = depth
    crops = np.ones(256, np.float32)
    for crop, factor in CROP_ROOT.items():
        crops[crop] = factor
    return np.clip(table[land.objects.cover] * crops[land.objects.crops(year)], 0.3, None)


def moisture(land: Landscape, seasons: Seasons, rain: Field, year: int, day: int) -> Moisture:
    """Soil water and stress of every pixel on a day of the year, from the tables."""
    capacity = land.capacity * root_depth(land, year)[land.number]
    at = np.interp(np.log(capacity), np.log(CAPACITIES_MM), np.arange(len(CAPACITIES_MM))).astype(np.float32)
    across = np.interp(rain, RAIN_FACTORS, np.arange(len(RAIN_FACTORS))).astype(np.float32)
    stress = _bilinear(seasons.stress[year][day], at, across)
    normal = _bilinear(seasons.normal[day], at, np.ones_like(at))
    return Moisture(stress, stress - normal, _bilinear(seasons.dryness[year][day], at, across))


def _bilinear(table: np.ndarray, row: Field, column: Field) -> Field:
    """A table at fractional rows and columns."""
    i = np.minimum(row.astype(np.int32), table.shape[0] - 2)
    j = np.minimum(column.astype(np.int32), table.shape[1] - 2)
    flat, width = table.ravel(), table.shape[1]
    at = i * width + j
    down, right = row - i, column - j
    upper = flat[at] * (1 - right) + flat[at + 1] * right
    lower = flat[at + width] * (1 - right) + flat[at + width + 1] * right
    return (upper * (1 - down) + lower * down).astype(np.float32)


def drought_classes(anomaly: Field, vegetated: np.ndarray) -> np.ndarray:
    """uint8 of :class:`Drought`; ``NOT_APPLICABLE`` where nothing grows on that day."""
    classes = np.full(anomaly.shape, int(Drought.NONE), np.uint8)
    classes[anomaly >= MODERATE] = Drought.MODERATE
    classes[anomaly >= SEVERE] = Drought.SEVERE
    classes[~vegetated] = NOT_APPLICABLE
    return classes
