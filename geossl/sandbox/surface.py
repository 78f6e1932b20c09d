"""The water of one date: how far it stands, how clear it is, what grows out of it, and its reflectance in each band."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from geossl.sandbox import column, materials
from geossl.sandbox.aquatic import Stands, greenness, lily_density, reed_density
from geossl.sandbox.column import Optics
from geossl.sandbox.dates import Acquisition
from geossl.sandbox.noise import Field, fractal, generator, smoothstep
from geossl.sandbox.spec import WaterSettings
from geossl.sandbox.waterscape import Waterscape

_WET_M = 0.12
"""Height above the level to which a shore is soaked."""


@dataclass(frozen=True)
class WaterSurface:
    """Water over a landscape on one date; a :class:`geossl.sandbox.render.Surface`. Fields (y, x) float32."""

    scape: Waterscape
    level_m: float
    wet: Field
    """Share of each pixel under water."""
    depth: Field
    """Mean depth of what is under water, metres."""
    soaked: Field
    """0…1: how wet the bare shore is."""
    optics: Optics
    glint: Field
    growth_scale: float
    """How far what grows on the bed is grown, 0…1."""
    reeds: Field
    """Share of each pixel that reeds cover, and how green they are."""
    reed_green: float
    lilies: Field

    def cover(self, value: Field, index: int, rows: slice) -> Field:
        """Reflectance of a strip of rows in band ``index``: ``value`` is that of the land, water comes over it."""
        scape, wet = self.scape, self.wet[rows]
        uneven = 1 + 0.10 * np.clip(scape.texture[rows], -2.5, 2.5)
        ground = scape.ground[rows]
        soaked_bed = materials.GROUND_WET[:, index][ground] * uneven
        share = scape.growth_share[rows] * self.growth_scale
        bed = soaked_bed + share * (materials.GROWTH[:, index][scape.growth[rows]] * uneven - soaked_bed)
        dry = materials.GROUND_DRY[:, index][ground] * uneven
        shore = dry + self.soaked[rows] * (soaked_bed - dry)
        land = value + scape.bank[rows] * (shore - value)
        water = column.seen_through(bed, self.depth[rows], self.optics, index, rows)
        water += self.glint[rows] * column.GLINT[index]
        value = land + wet * (water - land)
        reeds = materials.REED_OLD[index] + self.reed_green * (materials.REED_GREEN[index] - materials.REED_OLD[index])
        value += self.reeds[rows] * (reeds * uneven - value)
        value += self.lilies[rows] * (materials.FLOATING[index] * uneven - value)
        return np.asarray(value, np.float32)


def make_surface(
    scape: Waterscape, stands: Stands | None, settings: WaterSettings, scene: Acquisition, level: float, seed: int
) -> WaterSurface:
    """The water of one acquisition at a level in metres above the datum."""
    side, rng = scape.side, generator(seed, 42, scene.number)
    wet, depth = scape.cells.flood(scape.elevation, level)
    year, day = scene.datetime.year, scene.day
    nothing = np.zeros((side, side), np.float32)
    reed_green, lily_growth = greenness(day)
    wind = float(rng.gamma(2.5, 0.4))
    return WaterSurface(
        scape=scape,
        level_m=level,
        wet=wet,
        depth=depth,
        soaked=np.exp(-np.maximum(scape.elevation - level, 0) / _WET_M).astype(np.float32),
        optics=Optics(_turbidity(scape, settings, depth, wind, rng), settings.yellow * float(rng.lognormal(0, 0.15))),
        glint=_glint(scape, settings, scene.sun.elevation, wind, rng),
        growth_scale=_grown(scape, day),
        # Last year's stems are thinner than this summer's leaves.
        reeds=nothing if stands is None else reed_density(stands, seed, year) * np.float32(0.5 + 0.5 * reed_green),
        reed_green=reed_green,
        lilies=nothing if stands is None else lily_density(stands, seed, year) * np.float32(lily_growth),
    )


def _turbidity(
    scape: Waterscape, settings: WaterSettings, depth: Field, wind: float, rng: np.random.Generator
) -> Field:
    """Clearer outside than in bays, in streaks, and stirred up over shallow ground when the wind blows."""
    side = scape.side
    mean = settings.turbidity * float(rng.lognormal(0, 0.38))
    swirl = fractal(side, rng, 150, slope=3.4, stretch=2.5, angle=float(rng.uniform(0, np.pi)))
    inner = 1 + 0.9 * smoothstep(0.75 - scape.exposure, 0.0, 0.4)
    stirred = 1 + 0.35 * wind * np.exp(-depth / 1.2)
    return (mean * inner * stirred * np.exp(0.22 * swirl)).clip(0.15, 12).astype(np.float32)


def _glint(scape: Waterscape, settings: WaterSettings, sun: float, wind: float, rng: np.random.Generator) -> Field:
    """Sun in the waves: strongest under a high sun, grows across the swath, streaks along the wind, calm in bays."""
    side = scape.side
    strength = settings.glint * float(rng.gamma(1.4, 1 / 1.4)) * float(smoothstep(np.array(sun), 24, 54))
    x = np.linspace(-0.5, 0.5, side, dtype=np.float32)[None, :]
    angle = float(rng.uniform(0, np.pi))
    streaks = fractal(side, rng, 60, slope=3.0, stretch=4, angle=angle)
    waves = fractal(side, rng, 4, slope=2.0, stretch=3, angle=angle + np.pi / 2)
    exposed = 0.35 + 0.65 * smoothstep(scape.exposure, 0.3, 0.85)
    ripples = np.exp(0.22 * streaks + 0.30 * min(wind, 1.6) * exposed * waves)
    return (strength * (1 + 0.7 * x) * exposed * ripples + 0.0012 * ripples).clip(0, 0.15).astype(np.float32)


def _grown(scape: Waterscape, day: int) -> float:
    """Stoneworts come up in June; what grows in the sea changes little."""
    if scape.layout == "archipelago":
        return float(0.86 + 0.14 / (1 + np.exp(-(day - 150) / 12)))
    return float(1 / (1 + np.exp(-(day - 165) / 9)) * (1 - 0.7 / (1 + np.exp(-(day - 275) / 9))))
