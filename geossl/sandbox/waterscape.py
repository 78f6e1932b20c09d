"""The ground of a lake or an archipelago: bathymetry, shores of varying slope, what covers the bed.

Fields are (y, x) float32 on 10 m pixels, heights in metres above the sandbox's datum. Near the water's edge the ground
is known on cells of 2 m as well, so that a level that moves by centimetres moves the edge by less than a pixel.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np
from scipy import ndimage

from geossl.sandbox.classes import Bottom, Shore
from geossl.sandbox.harbours import breakwaters
from geossl.sandbox.noise import Field, fractal, gaussian, generator, ranks, smoothstep
from geossl.sandbox.shoreline import ShoreCells, make_cells
from geossl.sandbox.spec import WaterSettings
from geossl.sandbox.terrain import Terrain, make_soil, without_specks


class Ground(IntEnum):
    """What the bed and the bare shore are made of; rows of ``materials.GROUND``."""

    SAND = 0
    MUD = 1
    ROCK = 2


class Growth(IntEnum):
    """What grows on the bed under water; rows of ``materials.GROWTH``. 0 is nothing."""

    SEAGRASS = 1
    MACROALGAE = 2
    MUSSELS = 3
    STONEWORT = 4


@dataclass(frozen=True)
class Form:
    """How the shores of a layout differ: share of the water's edge, slope, roughness, bank; by kind of shore."""

    shares: dict[Shore, float]
    slopes: dict[Shore, float]
    rough_m: dict[Shore, float]
    bank_m: dict[Shore, float]
    """How far above the highest level the bare shore reaches."""
    deepest_m: float
    offshore: tuple[float, float]
    """Depth of the open bed: metres at the shore, and metres a metre of distance."""
    hills_m: float


FORMS = {
    "lake": Form(
        shares={Shore.REED: 0.36, Shore.SAND: 0.34, Shore.ROCK: 0.30},
        slopes={Shore.REED: 0.010, Shore.SAND: 0.026, Shore.ROCK: 0.24},
        rough_m={Shore.REED: 0.03, Shore.SAND: 0.015, Shore.ROCK: 0.16},
        bank_m={Shore.REED: 0.2, Shore.SAND: 0.30, Shore.ROCK: 0.7},
        deepest_m=32.0,
        offshore=(2.2, 0.011),
        hills_m=34.0,
    ),
    "archipelago": Form(
        shares={Shore.REED: 0.15, Shore.SAND: 0.13, Shore.ROCK: 0.72},
        slopes={Shore.REED: 0.014, Shore.SAND: 0.030, Shore.ROCK: 0.28},
        rough_m={Shore.REED: 0.03, Shore.SAND: 0.02, Shore.ROCK: 0.25},
        bank_m={Shore.REED: 0.25, Shore.SAND: 0.5, Shore.ROCK: 2.4},
        deepest_m=15.0,
        offshore=(2.2, 0.034),
        hills_m=48.0,
    ),
}
_OUTER = 0.62
"""Exposure from which land is an outer skerry."""
_WALL_M = 1.5
"""Height of breakwaters above the highest level."""


@dataclass(frozen=True)
class Waterscape:
    """The static layers of water and shore, (y, x) each."""

    layout: str
    level_m: float
    low_m: float
    high_m: float
    """The lowest and the highest level there can be."""
    elevation: Field
    """Of the ground: the bed under water, the land above it."""
    distance: Field
    """Metres to the water's edge at the mean level; negative on the water."""
    exposure: Field
    """0…1: how much open water lies around."""
    shore: np.ndarray
    """uint8 of :class:`Shore`: what the nearest shore is like."""
    bank: Field
    """0…1: share of bare shore, which hides what the land is covered with; 1 where water can stand."""
    ground: np.ndarray
    """uint8 of :class:`Ground`."""
    growth: np.ndarray
    """uint8 of :class:`Growth`, and the share of the bed that it covers at its height."""
    growth_share: Field
    texture: Field
    """Standard normal: patches of the bed."""
    cells: ShoreCells

    @property
    def side(self) -> int:
        """Pixels a side."""
        return self.elevation.shape[0]

    @property
    def depth(self) -> Field:
        """Metres below the mean level; negative on land."""
        return self.level_m - self.elevation

    def bottom(self) -> np.ndarray:
        """uint8 of :class:`Bottom`: what covers most of each pixel of the bed; 0 where the mean level leaves it dry."""
        kinds = np.array([Bottom.SAND, Bottom.MUD, Bottom.MACROALGAE], np.uint8)[self.ground]
        for growth, kind in (
            (Growth.SEAGRASS, Bottom.SEAGRASS),
            (Growth.MACROALGAE, Bottom.MACROALGAE),
            (Growth.MUSSELS, Bottom.MUSSEL_BED),
        ):
            kinds[(self.growth == growth) & (self.growth_share >= 0.5)] = kind
        kinds[self.depth <= 0] = 0
        return kinds


def make_waterscape(side: int, seed: int, layout: str, settings: WaterSettings) -> tuple[Terrain, Waterscape]:
    """The ground of a square of ``side`` pixels: what the land is built on, and what lies under and along the water."""
    form, rng = FORMS[layout], generator(seed, 60)
    relief, rank_noise = _relief(side, rng, layout)
    water = _one_water(relief < np.quantile(relief, settings.share))
    distance = _signed_distance(water)
    exposure = ndimage.gaussian_filter(water.astype(np.float32), 28, mode="nearest")
    shore = _shores(distance, exposure, form, rng)
    rank = np.zeros((side, side), np.float32)
    rank[~water] = ranks((relief + rank_noise)[~water])
    height = _heights(distance, shore, rank, form, rng)
    elevation = (settings.level_m + height).astype(np.float32)
    half = settings.range_m / 2
    low, high = settings.level_m - half, settings.level_m + half
    wall = breakwaters(distance, shore, exposure, generator(seed, 68))
    elevation += wall * np.maximum(high + _WALL_M - elevation, 0)
    shore[wall > 0] = Shore.ROCK
    rough = ndimage.gaussian_filter(_by_shore(form.rough_m, shore), 2)
    cells = make_cells(elevation, rough, low, high, generator(seed, 61))
    elevation.ravel()[cells.pixels] = cells.ground.mean(axis=1)
    soil_rng = generator(seed, 62)
    hollow, clay, capacity = make_soil(rank, np.zeros_like(rank), soil_rng)
    terrain = Terrain(
        elevation=np.maximum(elevation, high),  # the light on land knows no bed
        rank=np.where((exposure > _OUTER) & ~water, 0.9, rank).astype(np.float32),  # nobody builds or ploughs out there
        smooth=relief,
        water=elevation < high + 0.05,
        esker=np.zeros_like(rank),
        hollow=hollow,
        clay=clay,
        capacity=capacity,
    )
    scape = Waterscape(
        layout=layout,
        level_m=settings.level_m,
        low_m=low,
        high_m=high,
        elevation=elevation,
        distance=distance,
        exposure=exposure,
        shore=shore,
        bank=_bank(elevation, exposure, shore, high, form, layout, generator(seed, 63)),
        ground=np.zeros((side, side), np.uint8),
        growth=np.zeros((side, side), np.uint8),
        growth_share=np.zeros((side, side), np.float32),
        texture=gaussian(fractal(side, generator(seed, 64), 7, slope=2.4)),
        cells=cells,
    )
    dress = _sea_bed if layout == "archipelago" else _lake_bed
    ground, growth, share = dress(scape, generator(seed, 65))
    return terrain, replace(scape, ground=ground, growth=growth, growth_share=share)


def _relief(side: int, rng: np.random.Generator, layout: str) -> tuple[Field, Field]:
    """The field whose lowest part is water, and noise that tells high from low land."""
    x = (np.arange(side, dtype=np.float32) / side - 0.5)[None, :]
    y = x.T
    if layout == "lake":
        towards = rng.uniform(-2.6, -1.6)  # land to the south-east, with bays; open water to the north-west
        base = fractal(side, rng, 330, slope=4.2)
        knolls = fractal(side, rng, 75, slope=3.3, stretch=1.8, angle=rng.uniform(0.9, 1.3))
        rocks = fractal(side, rng, 18, slope=2.8)
        relief = 1.7 * -(x * np.cos(towards) - y * np.sin(towards)) + 0.85 * base + 0.34 * knolls + 0.05 * rocks
    else:
        strike = rng.uniform(1.1, 1.4)  # ridges run a little east of north, as along the Skagerrak
        base = fractal(side, rng, 240, slope=3.6, stretch=2.2, angle=strike)
        knolls = fractal(side, rng, 62, slope=3.1, stretch=1.7, angle=strike)
        rocks = fractal(side, rng, 15, slope=2.6)
        relief = 1.9 * x + 0.3 * y + 0.62 * base + 0.66 * knolls + 0.16 * rocks
    # A few long waves make long straight shores along the axes of the square: bend them.
    rows, columns = np.indices((side, side), dtype=np.float32)
    down, right = (7 * fractal(side, rng, 130, slope=4.6) for _ in range(2))
    bent = ndimage.map_coordinates(relief, [rows + down, columns + right], order=1, mode="reflect")
    return bent.astype(np.float32), (0.3 * knolls + 0.05 * rocks).astype(np.float32)


def _one_water(water: np.ndarray) -> np.ndarray:
    """The largest connected water, without islets of less than three pixels: all of it has one level."""
    water = ~without_specks(~water, 3)
    parts, count = ndimage.label(water)
    if count == 0:
        return water
    return np.asarray(parts == 1 + int(np.argmax(np.bincount(parts.ravel())[1:])))


def _signed_distance(water: np.ndarray) -> Field:
    """Metres to the edge of the water, negative within it, smooth across pixels."""
    outside = ndimage.distance_transform_edt(~water)
    inside = ndimage.distance_transform_edt(water)
    metres = 10 * np.where(water, 0.5 - inside, outside - 0.5).astype(np.float32)
    return ndimage.gaussian_filter(metres, 1.2)


def _shores(distance: Field, exposure: Field, form: Form, rng: np.random.Generator) -> np.ndarray:
    """Which kind the nearest shore is: reed in sheltered bays, the rest sand or rock in stretches of some 500 m."""
    side = distance.shape[0]
    edge = np.abs(distance) < 40
    calm = -exposure + 0.09 * fractal(side, rng, 60, slope=3.6)
    firm = fractal(side, rng, 70, slope=3.6) + 1.5 * exposure
    reed = calm > np.quantile(calm[edge], 1 - form.shares[Shore.REED])
    rock_share = form.shares[Shore.ROCK] / (form.shares[Shore.ROCK] + form.shares[Shore.SAND])
    rock = firm > np.quantile(firm[edge & ~reed], 1 - rock_share)
    kinds = np.where(reed, int(Shore.REED), np.where(rock, int(Shore.ROCK), int(Shore.SAND)))
    return kinds.astype(np.uint8)


def _by_shore(values: dict[Shore, float], shore: np.ndarray) -> Field:
    table = np.zeros(256, np.float32)
    for kind, value in values.items():
        table[kind] = value
    return table[shore]


def _softmin(a: Field, b: Field | float, power: float) -> Field:
    """The smaller of two positive fields, rounded where they cross."""
    return np.asarray((np.maximum(a, 1e-3) ** -power + np.maximum(b, 1e-3) ** -power) ** (-1 / power))


def _heights(distance: Field, shore: np.ndarray, rank: Field, form: Form, rng: np.random.Generator) -> Field:
    """Metres above (below) the mean level: the shore's own slope near the edge, hills and basins away from it."""
    side = distance.shape[0]
    spread = 0.35 * fractal(side, rng, 45, slope=3.4)
    slope = np.exp(ndimage.gaussian_filter(np.log(_by_shore(form.slopes, shore)), 3.5) + spread)
    away = np.abs(distance)
    near, slant = form.offshore
    basin = (near * (1 + 5 * slope) + slant * away) * np.exp(0.5 * fractal(side, rng, 110, slope=4.0))
    depth = _softmin(_softmin(slope * away, basin, 3), form.deepest_m, 6)
    shoal = smoothstep(fractal(side, rng, 44, slope=4.2), 1.7, 2.9) * smoothstep(away, 30, 120)
    depth *= 1 - 0.86 * shoal
    knobs = fractal(side, rng, 14, slope=2.8)
    hills = 1.6 + 0.25 * form.hills_m * rank + form.hills_m * smoothstep(rank, 0.4, 1.0) * (1 + 0.12 * knobs)
    rise = _softmin(np.minimum(slope, 0.3) * away + 0.00016 * away**2, hills, 4)
    return np.where(distance > 0, rise, -depth).astype(np.float32)


def _bank(
    elevation: Field, exposure: Field, shore: np.ndarray, high: float, form: Form, layout: str, rng: np.random.Generator
) -> Field:
    """Bare ground above the highest level; on outer skerries of the sea all there is."""
    side = elevation.shape[0]
    uneven = np.exp(0.4 * fractal(side, rng, 9, slope=2.6) + 0.7 * fractal(side, rng, 45, slope=3.4))
    reach = ndimage.gaussian_filter(_by_shore(form.bank_m, shore), 2) * uneven
    if layout == "archipelago":
        reach *= 0.35 + 4.0 * np.clip(exposure - 0.35, 0, 0.6)
    bank = 1 - smoothstep((elevation - high) / reach, 0.35, 1.0)
    if layout == "archipelago":
        barren = smoothstep(exposure + 0.10 * fractal(side, rng, 20, slope=2.8), 0.66, 0.9)
        bank = np.maximum(bank, (0.80 + 0.12 * np.tanh(fractal(side, rng, 6, slope=2.2))) * barren)
    return np.where(elevation < high, 1, bank).astype(np.float32)


def _lake_bed(scape: Waterscape, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, Field]:
    """Ground by shore and depth; stoneworts and pondweeds in the shallows of calm bays."""
    side, depth = scape.side, scape.depth
    uneven = np.exp(0.35 * fractal(side, rng, 30, slope=3.0))
    ground = np.full((side, side), int(Ground.MUD), np.uint8)
    ground[(scape.shore == Shore.SAND) & (depth < 5.0 * uneven)] = Ground.SAND
    ground[(scape.shore == Shore.ROCK) & (depth < 2.5 * uneven)] = Ground.ROCK
    patches = fractal(side, rng, 16, slope=2.8)
    calm = smoothstep(0.75 - scape.exposure, 0.0, 0.4)
    share = smoothstep(patches + 1.2 * calm, 0.5, 1.6) * smoothstep(depth, 0.6, 1.1) * (1 - smoothstep(depth, 2.8, 4.0))
    share = np.where(ground == Ground.ROCK, 0, 0.9 * share).astype(np.float32)
    growth = np.where(share > 0, int(Growth.STONEWORT), 0).astype(np.uint8)
    return ground, growth, share


def _sea_bed(scape: Waterscape, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, Field]:
    """Rock with algae on steep and open shores, seagrass on calm soft bottoms, mussels in patches, sand, mud below."""
    side, depth, exposure = scape.side, scape.depth, scape.exposure
    steep = np.hypot(*np.gradient(ndimage.gaussian_filter(scape.elevation, 2.5), 10.0))
    uneven = np.exp(0.35 * fractal(side, rng, 40, slope=3.4))
    rock = (steep * uneven > 0.085) | ((scape.shore == Shore.ROCK) & (depth < 2.2 * uneven))
    rock &= (depth < 11.5 * uneven**0.3) & ((scape.shore == Shore.ROCK) | (steep > 0.12))
    open_bed = exposure + 0.14 * fractal(side, rng, 55, slope=3.8) - 0.06 * depth
    ground = np.where(open_bed > 0.36, int(Ground.SAND), int(Ground.MUD)).astype(np.uint8)
    ground[(scape.shore == Shore.SAND) & (depth < 3.0)] = Ground.SAND
    ground[rock] = Ground.ROCK

    share = np.zeros((side, side), np.float32)
    growth = np.zeros((side, side), np.uint8)
    tufts = fractal(side, rng, 6, slope=2.2)
    algae = np.clip(0.86 - 0.025 * depth + 0.12 * tufts, 0.5, 1.0) * smoothstep(depth, -0.1, 0.4)
    growth[rock], share[rock] = Growth.MACROALGAE, algae[rock]

    meadow = fractal(side, rng, 45, slope=3.6) + 0.12 * tufts
    fit = meadow + 1.6 * (0.62 - exposure) - 0.5 * np.abs(np.log(np.maximum(depth, 0.1) / 2.6))
    soft = ~rock & (depth > 0.6) & (depth < 7.0)
    seagrass = soft & (fit > (np.quantile(fit[soft], 0.62) if soft.any() else 0))
    growth[seagrass], share[seagrass] = Growth.SEAGRASS, np.clip(0.78 + 0.16 * tufts, 0.4, 1.0)[seagrass]

    shells = fractal(side, rng, 24, slope=3.4) - 0.6 * np.abs(np.log(np.maximum(depth, 0.1) / 3.0))
    where = (depth > 0.8) & (depth < 8.0)
    mussels = where & (shells > (np.quantile(shells[where], 0.90) if where.any() else 0))
    growth[mussels], share[mussels] = Growth.MUSSELS, np.clip(0.74 + 0.16 * tufts, 0.35, 1.0)[mussels]
    ground[mussels & rock] = Ground.SAND
    return ground, growth, share
