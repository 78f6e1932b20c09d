"""Plants that stand out of a lake: reeds and floating leaves, where they can grow, and how green they are on a day.

The outer edge of the reeds moves from year to year, bay by bay: out in some, back in others.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from geossl.sandbox.classes import Aquatic, Shore
from geossl.sandbox.noise import Field, fractal, generator, smoothstep
from geossl.sandbox.waterscape import Waterscape

HISTORICAL = "1988-2002"
"""The period that ``labels/historical_vegetation.tif`` speaks of."""
VISIBLE = 0.4
"""A plant counts as there in a month from this share of the pixel on that it covers with green."""


@dataclass(frozen=True)
class Stands:
    """Where the water plants of a lake stand, (y, x) float32 each."""

    site: Field
    """0…1: how dense reeds can be here, whatever the depth."""
    spread: Field
    """Standard normal: bays in which reeds go out over the years (positive) or come back."""
    lilies: Field
    """0…1: how dense floating leaves can be."""
    depth: Field


def make_stands(scape: Waterscape, seed: int) -> Stands:
    """Reeds on flat, calm shores; water lilies before them."""
    side, rng = scape.side, generator(seed, 66)
    reedy = (scape.shore == Shore.REED).astype(np.float32)
    gaps = fractal(side, rng, 26, slope=2.8) + 0.3 * scape.texture
    near = 1 - smoothstep(np.abs(scape.distance), 180, 320)
    site = reedy * smoothstep(gaps, -1.3, 0.1) * near
    patches = fractal(side, rng, 20, slope=2.8)
    lilies = reedy * smoothstep(patches, -0.1, 0.7) * near * (1 - smoothstep(scape.exposure, 0.66, 0.85))
    return Stands(
        site=site.astype(np.float32),
        spread=fractal(side, rng, 130, slope=4.0),
        lilies=lilies.astype(np.float32),
        depth=scape.depth,
    )


def _edge_depth(stands: Stands, seed: int, year: int | None) -> Field:
    """Metres below the mean level to which reeds reach in a year; ``None``: in the historical period."""
    if year is None:
        return np.asarray(0.85 - 0.32 * stands.spread, np.float32)
    wobble = float(generator(seed, 67, year).normal(0, 0.05))
    return np.asarray(0.85 + wobble + 0.035 * (year - 2020) * stands.spread, np.float32)


def reed_density(stands: Stands, seed: int, year: int | None) -> Field:
    """0…1: share of each pixel that reeds cover when they are fully grown."""
    edge = np.maximum(_edge_depth(stands, seed, year), 0.1)
    out = 1 - smoothstep(stands.depth - edge, -0.15, 0.12)
    up = smoothstep(stands.depth, -0.7, -0.35)
    return np.asarray(0.95 * stands.site * out * up, np.float32)


def greenness(day: float) -> tuple[float, float]:
    """How green reeds are and how far water lilies are grown on a day of the year, 0…1 each."""

    def rise(middle: float, days: float) -> float:
        return float(1 / (1 + np.exp(-(day - middle) / days)))

    reeds = 0.04 + 0.96 * rise(152, 8) * (1 - 0.85 * rise(268, 9))
    lilies = rise(163, 7) * (1 - rise(262, 7))
    return reeds, lilies


def extent(stands: Stands, seed: int, year: int, month: int) -> np.ndarray:
    """uint8 of :class:`Aquatic`: what stands green out of the water in the middle of a month."""
    reeds, lilies = greenness(30.44 * (month - 0.5))
    kinds = np.zeros(stands.site.shape, np.uint8)
    kinds[lily_density(stands, seed, year) * lilies > VISIBLE] = Aquatic.FLOATING
    kinds[reed_density(stands, seed, year) * reeds > VISIBLE] = Aquatic.REED
    return kinds


def lily_density(stands: Stands, seed: int, year: int) -> Field:
    """0…1: share of each pixel that floating leaves cover in high summer, outside the reeds."""
    inner = _edge_depth(stands, seed, year)
    fit = smoothstep(stands.depth - inner, -0.1, 0.15) * (1 - smoothstep(stands.depth - inner, 0.7, 1.1))
    return np.asarray(0.85 * stands.lilies * fit, np.float32)


def historical(stands: Stands, seed: int) -> np.ndarray:
    """uint8: 1 where reeds stood in the historical period, 0 elsewhere."""
    return (reed_density(stands, seed, None) > VISIBLE).astype(np.uint8)
