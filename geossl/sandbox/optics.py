"""Light and air: where the sun stands, shade of terrain and canopies, haze, clouds and their shadows.

Angles in degrees. Fields are (y, x) float32 on 10 m pixels, north up. Reflectance tables are over ``spectra.BANDS``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from geossl.sandbox.noise import Field, fractal, smoothstep

PIXEL_M = 10.0
HAZE = np.array([0.080, 0.058, 0.036, 0.021, 0.018, 0.016, 0.013, 0.011, 0.010, 0.010, 0.003, 0.0015], np.float32)
"""Light that one unit of haze adds to a band."""
CLOUD = np.array([0.66, 0.66, 0.65, 0.66, 0.67, 0.68, 0.69, 0.70, 0.70, 0.58, 0.50, 0.36], np.float32)
SHADE_LEFT = np.array([0.50, 0.46, 0.38, 0.31, 0.29, 0.27, 0.26, 0.25, 0.25, 0.24, 0.18, 0.15], np.float32)
"""Share of the light that is left in a cloud's shadow: the sky still lights the blue."""


@dataclass(frozen=True)
class Sun:
    """Where the sun stands."""

    elevation: float
    azimuth: float


def sun_position(latitude: float, day: int, hour: float) -> Sun:
    """The sun at ``hour`` of solar time on a day of the year (declination after Spencer 1971, good to 0.05°)."""
    year = 2 * np.pi * (day - 1) / 365
    declination = 0.006918 - 0.399912 * np.cos(year) + 0.070257 * np.sin(year)
    declination += -0.006758 * np.cos(2 * year) + 0.000907 * np.sin(2 * year)
    declination += -0.002697 * np.cos(3 * year) + 0.00148 * np.sin(3 * year)
    turn, lat = np.radians(15 * (hour - 12)), np.radians(latitude)
    up = np.sin(lat) * np.sin(declination) + np.cos(lat) * np.cos(declination) * np.cos(turn)
    east = -np.cos(declination) * np.sin(turn)
    north = np.cos(lat) * np.sin(declination) - np.sin(lat) * np.cos(declination) * np.cos(turn)
    return Sun(float(np.degrees(np.arcsin(up))), float(np.degrees(np.arctan2(east, north)) % 360))


def away_from_sun(sun: Sun, length_px: float) -> tuple[float, float]:
    """The (row, column) step that points from the sun, as long as a shadow falls."""
    azimuth = np.radians(sun.azimuth)
    return float(np.cos(azimuth) * length_px), float(-np.sin(azimuth) * length_px)


def terrain_light(elevation: Field, sun: Sun) -> Field:
    """Light on slopes relative to flat ground (Minnaert, k = 0.6)."""
    fall_y, fall_x = np.gradient(elevation, PIXEL_M)
    azimuth, height = np.radians(sun.azimuth), np.radians(sun.elevation)
    # The ground's normal is (-dz/dx, -dz/dnorth, 1); rows run south.
    incidence = (np.sin(height) + np.cos(height) * (-fall_x * np.sin(azimuth) + fall_y * np.cos(azimuth))) / np.sqrt(
        1 + fall_x**2 + fall_y**2
    )
    return np.clip((np.clip(incidence, 0.05, None) / np.sin(height)) ** 0.6, 0.5, 1.5).astype(np.float32)


def canopy_light(height: Field, sun: Sun) -> Field:
    """0.45…1.15: shadows that trees throw on what lies behind them, and brighter sunlit edges."""
    rise = PIXEL_M * np.tan(np.radians(sun.elevation))
    dark = np.zeros_like(height)
    for step in (0.7, 1.4, 2.3):
        down, right = away_from_sun(sun, step)
        towards = ndimage.shift(height, (down, right), order=1, mode="nearest")
        dark = np.maximum(dark, np.clip((towards - height - step * rise * 0.55) / 14, 0, 1))
    down, right = away_from_sun(sun, 1.0)
    lit = np.clip(height - ndimage.shift(height, (down, right), order=1, mode="nearest"), -10, 10) / 10
    return np.clip(1 - 0.62 * dark + 0.07 * lit, 0.4, 1.15).astype(np.float32)


@dataclass(frozen=True)
class Sky:
    """The air over the square on one date, (y, x) float32 each."""

    cloud: Field
    """0…1: opacity of clouds."""
    bright: Field
    """Brightness of the clouds, about 1."""
    cirrus: Field
    """0…1: opacity of thin cirrus."""
    shade: Field
    """0…1: depth of cloud shadow on the ground."""
    haze: Field
    """Units of :data:`HAZE`."""

    @property
    def cloudy(self) -> np.ndarray:
        """Bool: clouds that matter for the ground below (truth, before the errors of any mask)."""
        return (self.cloud > 0.12) | (self.cirrus > 0.10)

    @property
    def shaded(self) -> np.ndarray:
        """Bool: in the shadow of a cloud, and not under one."""
        return (self.shade > 0.18) & ~self.cloudy


def make_sky(side: int, rng: np.random.Generator, sun: Sun, cover: float, cirrus: float, haze: float) -> Sky:
    """Clouds over about a share ``cover`` of the square, cirrus over ``cirrus``, and haze of mean ``haze``."""
    height_m = rng.uniform(900, 2400)
    size = rng.uniform(45, 170)
    down, right = away_from_sun(sun, height_m / np.tan(np.radians(sun.elevation)) / PIXEL_M)
    # Clouds outside the square throw shadows into it: the field is larger on the side where the sun stands.
    wide = side + int(np.ceil(max(abs(down), abs(right)))) + 2
    top, left = int(np.ceil(max(0.0, down))), int(np.ceil(max(0.0, right)))
    nothing = np.zeros((side, side), np.float32)
    cloud = shade = nothing
    bright = np.ones((side, side), np.float32)
    if cover > 0.002:
        field = fractal(wide, rng, size, slope=3.3) + 0.25 * fractal(wide, rng, 420, slope=4)
        edge = np.quantile(field, 1 - min(cover, 0.985))
        body = smoothstep(field, edge - 0.12, edge + 0.5)
        square = (slice(top, top + side), slice(left, left + side))
        cloud = body[square].copy()
        shade = ndimage.shift(body, (down, right), order=1, mode="nearest")[square].copy()
        depth = np.clip(field[square] - edge, 0, 1.4)
        slope_y, slope_x = np.gradient(ndimage.gaussian_filter(field[square], 1.2))
        to_sun = np.array(away_from_sun(sun, 1.0))
        bright = 0.62 + 0.30 * depth + 1.1 * (slope_y * to_sun[0] + slope_x * to_sun[1]).clip(-0.2, 0.2)
        bright = np.clip(bright, 0.5, 1.3).astype(np.float32)
    veil = nothing
    if cirrus > 0.002:
        field = fractal(side, rng, 420, slope=3.7, stretch=2.6, angle=rng.uniform(0, np.pi))
        edge = np.quantile(field, 1 - min(cirrus, 0.98))
        veil = (0.24 * smoothstep(field, edge - 0.5, edge + 2.0)).astype(np.float32)
    mist = haze * np.clip(1 + 0.35 * fractal(side, rng, 600, slope=4), 0.2, 2)
    return Sky(cloud.astype(np.float32), bright, veil, shade.astype(np.float32), mist.astype(np.float32))


def swath(side: int, rng: np.random.Generator) -> np.ndarray:
    """Bool (y, x): inside the swath; its edge crosses the square a little off north, like a descending orbit's."""
    tilt = np.tan(np.radians(rng.uniform(12, 16)))
    at = rng.uniform(0.22, 0.62) * side
    rows = np.arange(side, dtype=np.float32)[:, None]
    columns = np.arange(side, dtype=np.float32)[None, :]
    line = at + (side / 2 - rows) * tilt
    return columns > line if rng.random() < 0.5 else columns < line + 0.3 * side
