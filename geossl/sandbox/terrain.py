"""The ground: relief of a fault-line landscape, lakes, zones of clay plain and till, soil water capacity.

All fields are (y, x) float32 on 10 m pixels; heights in metres above the sea.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from geossl.sandbox.noise import Field, fractal, ranks, smoothstep

WATER_SHARE = 0.085
FOREST_FROM = 0.47
"""Rank of the ground above which till and forest begin; below lies clay plain."""


@dataclass(frozen=True)
class Terrain:
    """Relief and soil."""

    elevation: Field
    """Metres."""
    rank: Field
    """0…1, the rank of the ground with roughness: low plain to high till."""
    smooth: Field
    """The relief without detail, for directions of fields."""
    water: np.ndarray
    """Bool: lakes and ponds."""
    esker: Field
    """0…1: gravel ridge."""
    hollow: Field
    """Standard normal; low in wet hollows."""
    clay: Field
    """0…1: clay content of the soil."""
    capacity: Field
    """Plant-available water of the soil, millimetres a metre of rooting depth."""


def make_terrain(side: int, rng: np.random.Generator) -> Terrain:
    """The ground of a square of ``side`` pixels."""
    strike = np.radians(rng.uniform(5, 30))  # valleys run a little north of east, as around the real lake
    base = fractal(side, rng, 430, slope=4.2, stretch=2.2, angle=strike)
    knolls = fractal(side, rng, 70, slope=3.2)
    rocks = fractal(side, rng, 16, slope=2.6)
    rank = ranks(base + 0.36 * knolls + 0.025 * rocks)

    shore = base + 0.16 * knolls + 0.03 * rocks
    water = shore < np.quantile(shore, WATER_SHARE)
    ponds = fractal(side, rng, 60, slope=4.0)
    water |= (ponds < np.quantile(ponds, 0.006)) & (rank > 0.4)
    water = without_specks(water, 40)
    water = ~without_specks(~water, 25)

    hills = smoothstep(rank, FOREST_FROM - 0.12, 1.0)
    elevation = 1.5 + 14 * rank + 46 * hills * (1 + 0.10 * knolls) + 1.4 * hills * rocks
    elevation = ndimage.gaussian_filter(elevation.astype(np.float32), 1.2)
    level = np.float32(0.9)
    elevation = np.maximum(elevation, level + 0.3)
    elevation[water] = level if not water.any() else np.minimum(elevation, np.float32(elevation[water].mean()))[water]

    wander = fractal(side, rng, 300, slope=4.0)
    column = np.arange(side, dtype=np.float32)[None, :] - side * (0.55 + 0.05 * wander)
    esker = (np.exp(-((column / (9 + 4 * knolls.clip(-1, 2))) ** 2)) * smoothstep(rank, 0.12, 0.25)).astype(np.float32)

    hollow, clay, capacity = make_soil(rank, esker, rng)
    return Terrain(
        elevation=elevation.astype(np.float32),
        rank=rank,
        smooth=base,
        water=water,
        esker=esker,
        hollow=hollow,
        clay=clay,
        capacity=capacity,
    )


def make_soil(rank: Field, esker: Field, rng: np.random.Generator) -> tuple[Field, Field, Field]:
    """Hollows, clay content and water capacity of the ground (see :class:`Terrain`)."""
    side = rank.shape[0]
    hollow = fractal(side, rng, 50, slope=3.8)
    patches = fractal(side, rng, 40, slope=3.6)
    clay = np.clip(0.92 - 1.05 * smoothstep(rank, 0.15, FOREST_FROM + 0.15) + 0.16 * patches - 0.8 * esker, 0.02, 1)
    wet = np.clip(-0.35 * hollow - 0.2 * (rank - 0.5), -0.4, 0.8)
    capacity = np.clip((72 + 92 * clay) * (1 + 0.50 * wet + 0.20 * patches), 26, 300)
    return hollow, clay.astype(np.float32), capacity.astype(np.float32)


def without_specks(mask: np.ndarray, smallest_px: int) -> np.ndarray:
    """The mask without connected parts smaller than ``smallest_px`` pixels."""
    parts, count = ndimage.label(mask)
    sizes = np.bincount(parts.ravel(), minlength=count + 1)
    keep = sizes >= smallest_px
    keep[0] = False
    return keep[parts]


def zones(terrain: Terrain, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Bool masks that part the land: ``arable``, ``grass``, ``mire``, ``forest`` (water is none of them)."""
    side = terrain.rank.shape[0]
    edge = fractal(side, rng, 40, slope=3.0)
    fine = fractal(side, rng, 12, slope=3.0)
    open_land = terrain.rank + 0.035 * edge + 0.006 * fine < FOREST_FROM
    islands = fractal(side, rng, 22, slope=3.6)
    open_land &= islands < np.quantile(islands, 0.965)  # outcrops with trees in the fields
    clearings = fractal(side, rng, 55, slope=3.6)
    open_land |= (clearings > np.quantile(clearings, 0.965)) & (terrain.rank < 0.85)
    open_land &= ~terrain.water
    open_land = without_specks(ndimage.binary_opening(open_land, iterations=2), 90)
    open_land = ~without_specks(~open_land, 18) & ~terrain.water

    meadow = fractal(side, rng, 50, slope=3.2)
    shore = ndimage.distance_transform_edt(~terrain.water) if terrain.water.any() else np.full((side, side), 1e6)
    inside = ndimage.distance_transform_edt(open_land)
    score = meadow + 1.5 * np.exp(-shore / 8) + 0.9 * np.exp(-inside / 5)
    grass = open_land & (score > np.quantile(score[open_land], 0.86) if open_land.any() else False)
    arable = open_land & ~grass
    small = arable & ~without_specks(ndimage.binary_opening(arable, iterations=1), 120)
    arable, grass = arable & ~small, grass | small

    wooded = ~open_land & ~terrain.water
    wet = terrain.hollow + 0.25 * fine + 1.2 * terrain.esker
    mire = wooded & (wet < np.quantile(wet[wooded], 0.055) if wooded.any() else False)
    reeds = wooded & (shore < 3.5) & (edge > 0.2)
    mire = without_specks(ndimage.binary_opening(mire), 40) | reeds
    return {"arable": arable, "grass": grass, "mire": mire, "forest": wooded & ~mire}
