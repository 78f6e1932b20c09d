"""What a water column does to light: absorption, scattering, the bed seen through it, and the sun in the waves.

Optically shallow water after Lee et al. (1998, https://doi.org/10.1364/AO.37.006329) in the form of Lyzenga (1978,
https://doi.org/10.1364/AO.17.000379): ``R = R_inf (1 - exp(-2 K z)) + R_bed exp(-2 K z)`` with the attenuation
``K = D (a + b_b)`` and ``R_inf = 0.33 b_b / (a + b_b)`` (Morel & Prieur 1977), both per band.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from geossl.sandbox.noise import Field
from geossl.sandbox.spectra import BANDS

_NM = np.array([1000 * band.wavelength_um for band in BANDS], np.float32)
WATER_ABSORPTION = np.array([0.007, 0.015, 0.062, 0.429, 0.70, 2.47, 2.40, 4.3, 4.7, 27.0, 600.0, 2200.0], np.float32)
"""1/m, pure water (Pope & Fry 1997, Kou et al. 1993)."""
_WATER_SCATTER = (0.00144 * (500.0 / _NM) ** 4.32).astype(np.float32)
_PARTICLE_ABSORPTION = np.array([0.125, 0.090, 0.045, 0.050, 0.015, 0.005, 0.003, 0, 0, 0, 0, 0], np.float32)
"""1/m for one unit of turbidity: algae and detritus."""
_PARTICLE_SCATTER = (0.0065 * (560.0 / _NM) ** 0.8).astype(np.float32)
"""Backscattering, 1/m for one unit of turbidity."""
_PATH = 1.15
"""Mean path of the light relative to depth."""
THROUGH_SURFACE = 0.54
"""From irradiance reflectance below the surface to reflectance above it."""
SURFACE = 0.0045
"""Sky light that the surface still reflects after the atmospheric correction."""
GLINT = np.array([1.0, 1.0, 1.0, 0.99, 0.98, 0.97, 0.96, 0.95, 0.95, 0.93, 0.88, 0.82], np.float32)
"""The sun in the waves, by band, relative to the blue."""


@dataclass(frozen=True)
class Optics:
    """The water of one date."""

    turbidity: Field
    """(y, x) units of turbidity."""
    yellow: float
    """Absorption by humus at 443 nm, 1/m."""


def attenuation(turbidity: Field | float, yellow: float, index: int) -> Field:
    """Attenuation K of band ``index``, 1/m, of the shape of ``turbidity``."""
    absorption, scatter = _properties(turbidity, yellow, index)
    return np.asarray(_PATH * (absorption + scatter), np.float32)


def deep_reflectance(turbidity: Field | float, yellow: float, index: int) -> Field:
    """Irradiance reflectance below the surface of water without a bed."""
    absorption, scatter = _properties(turbidity, yellow, index)
    return np.asarray(0.33 * scatter / (absorption + scatter), np.float32)


def _properties(turbidity: Field | float, yellow: float, index: int) -> tuple[Field, Field]:
    load = np.asarray(turbidity, np.float32)
    humus = np.float32(yellow * np.exp(-0.0155 * (_NM[index] - 443)))
    absorption = WATER_ABSORPTION[index] + humus + load * _PARTICLE_ABSORPTION[index]
    return absorption, _WATER_SCATTER[index] + load * _PARTICLE_SCATTER[index]


def seen_through(bed: Field, depth: Field, optics: Optics, index: int, rows: slice = slice(None)) -> Field:
    """Reflectance above the surface of water ``depth`` metres deep over a bed of reflectance ``bed``; no glint."""
    turbidity = optics.turbidity[rows]
    deep = deep_reflectance(turbidity, optics.yellow, index)
    left = np.exp(-2 * np.minimum(attenuation(turbidity, optics.yellow, index) * depth, 40))
    return np.asarray(THROUGH_SURFACE * (deep + left * (bed - deep)) + SURFACE, np.float32)


def secchi(turbidity: Field | float, yellow: float) -> Field:
    """Metres at which a white disk is lost from sight: 1.7 / K in the green, the clearest band of such water."""
    green = [band.key for band in BANDS].index("green")
    return np.asarray(1.7 / attenuation(turbidity, yellow, green), np.float32)
