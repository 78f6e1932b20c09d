"""One scene's pixels: the landscape under the date's season, soil water, light and air, as the sensor stores them.

Rendered band by band in strips of rows, so that memory stays near that of the landscape's own layers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy import ndimage

from geossl.sandbox import optics
from geossl.sandbox.classes import Cover
from geossl.sandbox.dates import Acquisition
from geossl.sandbox.landscape import Landscape
from geossl.sandbox.noise import Field, fractal, generator, smoothstep
from geossl.sandbox.phenology import State, describe
from geossl.sandbox.seasons import Moisture, Seasons, moisture
from geossl.sandbox.spectra import BANDS, CANOPY_CONTRAST, spectrum

STRIP = 240
"""Rows rendered at once; a multiple of 6, so that strips are whole pixels of 60 m."""
_HALO = 6
_PSF_PX = 0.55
_TEXTURE: dict[int, float] = {
    Cover.SPRUCE: 0.19,
    Cover.PINE: 0.17,
    Cover.PLANTATION: 0.17,
    Cover.BROADLEAF: 0.12,
    Cover.MIXED: 0.16,
    Cover.CLEAR_CUT: 0.11,
    Cover.ARABLE: 0.022,
    Cover.GRASSLAND: 0.035,
    Cover.MIRE: 0.07,
    Cover.BUILT_UP: 0.12,
    Cover.WATER: 0.03,
}


@dataclass(frozen=True)
class Rendered:
    """A scene in memory: stored integers by band key at native size (padded to whole 60 m pixels), and its truth."""

    bands: dict[str, np.ndarray]
    """uint16, ``reflectance * 10000 + 1000``, 0 = no data."""
    scl: np.ndarray
    """uint8 at 20 m: the scene classification as delivered, with its errors."""
    moisture: Moisture
    vegetated: np.ndarray
    """Bool at 10 m."""
    sky: np.ndarray
    """uint8 at 10 m, the truth: 0 no data, 1 clear, 2 cloud, 3 shadow."""


class Surface(Protocol):
    """Water that lies over a landscape on one date: what :mod:`geossl.sandbox.surface` makes of a lake or a sea."""

    @property
    def wet(self) -> Field:
        """(y, x) share of each pixel that is under water."""

    def cover(self, value: Field, index: int, rows: slice) -> Field:
        """Reflectance of a strip of rows in band ``index``: ``value`` is that of the land, water comes over it."""


@dataclass(frozen=True)
class _Light:
    """What the pixels of one date have in common for all bands, at 10 m."""

    drive: Field
    thin: Field
    light: Field
    bloom: Field
    ripple: Field
    sky: optics.Sky
    swath: np.ndarray | None
    surface: Surface | None


def render(
    land: Landscape,
    seasons: Seasons,
    rain: Field,
    acquisition: Acquisition,
    seed: int,
    surface: Surface | None = None,
) -> Rendered:
    """All bands, the scene classification and the truth of one acquisition.

    Args:
        land: the static layers, side a multiple of 6.
        seasons: weather tables that hold the acquisition's year.
        rain: the year's rain pattern, (y, x).
        acquisition: what to render.
        seed: the sandbox's seed; scenes do not depend on each other.
        surface: water with a bed below it, where the sandbox has one.
    """
    year, day = acquisition.datetime.year, acquisition.day
    state = describe(land, year, day, seasons.shift_days[year])
    water = moisture(land, seasons, rain, year, day)
    vegetated = state.vegetated[land.number] & (land.built.asphalt + land.built.gravel + land.built.river < 0.5)
    rng = generator(seed, 40, acquisition.number)
    common = _common(land, state, water, acquisition, rng, surface)
    gains = 1 + np.clip(rng.normal(0, 0.012, len(BANDS)), -0.03, 0.03)
    noise_seeds = rng.integers(0, 2**31, len(BANDS))
    bands = {
        band.key: _band(land, state, common, index, float(gains[index]), np.random.default_rng(noise_seeds[index]))
        for index, band in enumerate(BANDS)
    }
    sky = np.where(common.sky.cloudy, 2, np.where(common.sky.shaded, 3, 1)).astype(np.uint8)
    if common.swath is not None:
        sky[~common.swath] = 0
    wet = surface.wet if surface else (land.cover == Cover.WATER).astype(np.float32)
    scl = classify(land, bands, common.sky, common.swath, generator(seed, 41, acquisition.number), wet)
    return Rendered(bands, scl, water, vegetated, sky)


def _common(
    land: Landscape,
    state: State,
    water: Moisture,
    acquisition: Acquisition,
    rng: np.random.Generator,
    surface: Surface | None,
) -> _Light:
    side, day = land.side, acquisition.day
    sky = optics.make_sky(side, rng, acquisition.sun, acquisition.cover, acquisition.cirrus, acquisition.haze)
    swath = optics.swath(side, rng) if acquisition.edge else None
    drive = np.where(state.vegetated[land.number], water.stress, water.dryness).astype(np.float32)
    # Where plants stand thin drought thins them further.
    thin = land.vigour * state.uneven[land.number] * -(1 + 1.3 * water.stress)
    light = optics.terrain_light(land.elevation, acquisition.sun) * optics.canopy_light(land.height, acquisition.sun)
    is_water = (land.cover == Cover.WATER).astype(np.float32)
    light = np.where(is_water > 0, 1, light)
    summer = np.exp(-(((day - 215) / 32) ** 2)) * rng.uniform(0, 1)
    swirl = fractal(side, rng, 90, slope=3.2, stretch=3, angle=rng.uniform(0, np.pi))
    bloom = (is_water * summer * smoothstep(swirl, -0.4, 2.0)).astype(np.float32)
    ripple = (1 + 0.05 * fractal(side, rng, 160, slope=3)) * rng.lognormal(0, 0.12)
    return _Light(
        drive, np.clip(thin, -0.2, 0.5).astype(np.float32), light.astype(np.float32), bloom,
        ripple.astype(np.float32), sky, swath, surface,
    )  # fmt: skip


def _band(
    land: Landscape, state: State, common: _Light, index: int, gain: float, rng: np.random.Generator
) -> np.ndarray:
    """One band at its native size, uint16."""
    band, side = BANDS[index], land.side
    step = band.gsd_m // 10
    stored = np.empty((side // step, side // step), np.uint16)
    for start in range(0, side, STRIP):
        stop = min(start + STRIP, side)
        low, high = max(0, start - _HALO), min(side, stop + _HALO)
        values = _reflectance(land, state, common, index, slice(low, high)) * np.float32(gain)
        values = ndimage.gaussian_filter(values, _PSF_PX if step == 1 else 0.7, mode="nearest", truncate=3)
        values = _mean(values[start - low : stop - low], step)
        values += rng.standard_normal(values.shape, np.float32) * (0.0009 + 0.0045 * np.abs(values))
        digits = np.clip(np.rint(values * 10000 + 1000), 1, 65535).astype(np.uint16)
        if common.swath is not None:
            digits[~_all(common.swath[start:stop], step)] = 0
        stored[start // step : stop // step] = digits
    return stored


def _mean(values: Field, step: int) -> Field:
    """Means of blocks of ``step`` × ``step`` pixels."""
    if step == 1:
        return values
    rows, columns = values.shape
    return values.reshape(rows // step, step, columns // step, step).mean(axis=(1, 3), dtype=np.float32)


def _all(mask: np.ndarray, step: int) -> np.ndarray:
    rows, columns = mask.shape
    return np.asarray(mask.reshape(rows // step, step, columns // step, step).all(axis=(1, 3)))


def _reflectance(land: Landscape, state: State, common: _Light, index: int, rows: slice) -> Field:
    """Reflectance at 10 m of a strip of rows, before blur and noise."""
    number, cover, built, sky = land.number[rows], land.cover[rows], land.built, common.sky
    value = state.fresh[:, index][number]
    value += common.drive[rows] * (state.parched[:, index] - state.fresh[:, index])[number]
    value += common.thin[rows] * (state.thin[:, index][number] - value)

    strip = 0.6 * spectrum("grass")[index] + 0.4 * spectrum("straw")[index]
    value += land.margin[rows] * (strip - value)
    amplitude = np.zeros(256, np.float32)
    for kind, size in _TEXTURE.items():
        amplitude[kind] = size
    value *= np.clip(1 + amplitude[cover] * CANOPY_CONTRAST[index] * land.texture[rows], 0.3, 1.8)

    trees = built.trees[rows] * 0.5
    value += trees * (spectrum("leaves")[index] - value) * (cover == Cover.BUILT_UP)
    tone = built.roof_tone[rows]
    felt, tiles, metal = (spectrum(name)[index] for name in ("felt_roof", "tile_roof", "metal_roof"))
    roof = np.where(tone < 0.35, felt, np.where(tone < 0.72, tiles, metal)) * (0.8 + 0.4 * tone)
    value += built.gravel[rows] * (spectrum("gravel")[index] - value)
    value += built.asphalt[rows] * (spectrum("asphalt")[index] - value)
    value += built.roof[rows] * (roof - value)
    value += built.river[rows] * (spectrum("water")[index] - value)
    value *= common.light[rows]

    bloom = common.bloom[rows]
    value += bloom * (spectrum("bloom")[index] - value)
    value *= np.where(cover == Cover.WATER, common.ripple[rows], 1)
    if common.surface:
        value = common.surface.cover(value, index, rows)

    value *= 1 - sky.shade[rows] * (1 - optics.SHADE_LEFT[index])
    value += sky.haze[rows] * optics.HAZE[index] * (1 - value)
    veil = sky.cirrus[rows]
    value += veil * (0.85 * optics.CLOUD[index] - value)
    value += sky.cloud[rows] * (optics.CLOUD[index] * sky.bright[rows] - value)
    return value.astype(np.float32)


def classify(
    land: Landscape,
    bands: dict[str, np.ndarray],
    sky: optics.Sky,
    swath: np.ndarray | None,
    rng: np.random.Generator,
    water: Field,
) -> np.ndarray:
    """The scene classification at 20 m (codes of Sen2Cor), with the errors such masks have.

    Thin parts of clouds are missed in places, masks swell by a pixel in others, bright roofs pass for clouds and dark
    slopes for shadows.
    """
    half = land.side // 2
    red, nir = (_mean(bands[key].astype(np.float32), 2) / 10000 - 0.1 for key in ("red", "nir"))
    swir = bands["swir16"].astype(np.float32) / 10000 - 0.1
    ndvi = (nir - red) / np.maximum(nir + red, 0.02)
    wet = _mean(water, 2)
    uneven, spots = fractal(half, rng, 40, slope=2.8), fractal(half, rng, 5, slope=2.2)
    scl = np.where(ndvi > 0.44, 4, 5)
    scl = np.where((ndvi > 0.38) & (ndvi <= 0.44) & (spots > 0.9), 7, scl)
    scl = np.where((nir < 0.10) & (swir < 0.06), 2, scl)
    scl = np.where((wet > 0.5) & (nir < 0.12), 6, scl)
    shade, cloud, veil = (_mean(field, 2) for field in (sky.shade, sky.cloud, sky.cirrus))
    seen = cloud * np.exp(0.45 * uneven)
    shaded = shade * np.exp(0.35 * uneven) > 0.24
    shaded |= (spots > 2.7) & (nir < 0.16) & (wet < 0.5)
    swell = uneven > 0.8
    shaded |= ndimage.binary_dilation(shaded, iterations=1) & swell
    scl = np.where(shaded, 3, scl)
    scl = np.where(veil * np.exp(0.4 * uneven) > 0.11, 10, scl)
    cloudy = seen > 0.15
    cloudy |= ndimage.binary_dilation(cloudy, iterations=1) & swell
    roofs = _mean(land.built.roof * (land.built.roof_tone > 0.86), 2) > 0.55
    scl = np.where(cloudy | roofs, 8, scl)
    scl = np.where(seen > 0.45, 9, scl)
    if swath is not None:
        scl = np.where(_all(swath, 2), scl, 0)
    return scl.astype(np.uint8)
