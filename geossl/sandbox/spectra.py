"""Reflectance of the materials a pixel is mixed from, in the twelve bands of Sentinel-2 L2A.

Rounded from what such surfaces show in Sentinel-2 L2A scenes of northern summers; canopies include their shadows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Band:
    """One band: asset key, ESA's name, pixel size in metres, centre wavelength and width in micrometres, STAC name."""

    key: str
    esa: str
    gsd_m: int
    wavelength_um: float
    width_um: float
    common: str
    title: str


BANDS = (
    Band("coastal", "B01", 60, 0.443, 0.027, "coastal", "Coastal aerosol (band 1)"),
    Band("blue", "B02", 10, 0.49, 0.098, "blue", "Blue (band 2)"),
    Band("green", "B03", 10, 0.56, 0.045, "green", "Green (band 3)"),
    Band("red", "B04", 10, 0.665, 0.038, "red", "Red (band 4)"),
    Band("rededge1", "B05", 20, 0.704, 0.019, "rededge", "Red edge 1 (band 5)"),
    Band("rededge2", "B06", 20, 0.74, 0.018, "rededge", "Red edge 2 (band 6)"),
    Band("rededge3", "B07", 20, 0.783, 0.028, "rededge", "Red edge 3 (band 7)"),
    Band("nir", "B08", 10, 0.842, 0.145, "nir", "NIR 1 (band 8)"),
    Band("nir08", "B8A", 20, 0.865, 0.033, "nir08", "NIR 2 (band 8A)"),
    Band("nir09", "B09", 60, 0.945, 0.026, "nir09", "NIR 3 (band 9)"),
    Band("swir16", "B11", 20, 1.61, 0.143, "swir16", "SWIR 1 (band 11)"),
    Band("swir22", "B12", 20, 2.19, 0.242, "swir22", "SWIR 2 (band 12)"),
)
"""In the order of every (n, 12) table of this room."""

_MATERIALS: dict[str, tuple[float, ...]] = {
    #           443    490    560    665    704    740    783    842    865    945    1610   2190
    "crop": (0.014, 0.021, 0.054, 0.023, 0.085, 0.310, 0.425, 0.445, 0.465, 0.470, 0.185, 0.082),
    "grass": (0.018, 0.027, 0.063, 0.034, 0.103, 0.275, 0.350, 0.370, 0.388, 0.390, 0.215, 0.108),
    "spruce": (0.010, 0.013, 0.025, 0.015, 0.040, 0.122, 0.155, 0.166, 0.176, 0.178, 0.072, 0.031),
    "pine": (0.012, 0.017, 0.033, 0.022, 0.053, 0.142, 0.178, 0.190, 0.203, 0.206, 0.102, 0.049),
    "leaves": (0.012, 0.017, 0.042, 0.019, 0.073, 0.262, 0.350, 0.372, 0.390, 0.392, 0.168, 0.068),
    "moss": (0.019, 0.027, 0.053, 0.046, 0.090, 0.180, 0.215, 0.232, 0.245, 0.248, 0.170, 0.088),
    "twigs": (0.026, 0.031, 0.041, 0.052, 0.070, 0.098, 0.113, 0.125, 0.138, 0.142, 0.165, 0.108),
    "litter": (0.030, 0.038, 0.056, 0.070, 0.094, 0.132, 0.155, 0.175, 0.190, 0.198, 0.232, 0.160),
    "straw": (0.052, 0.070, 0.108, 0.146, 0.176, 0.212, 0.240, 0.262, 0.280, 0.288, 0.335, 0.235),
    "flower": (0.020, 0.030, 0.142, 0.122, 0.190, 0.345, 0.410, 0.440, 0.455, 0.460, 0.215, 0.100),
    "wet_soil": (0.032, 0.039, 0.053, 0.066, 0.076, 0.087, 0.097, 0.107, 0.116, 0.120, 0.140, 0.112),
    "dry_soil": (0.062, 0.077, 0.104, 0.132, 0.150, 0.166, 0.180, 0.196, 0.210, 0.216, 0.275, 0.235),
    "gravel": (0.090, 0.106, 0.132, 0.152, 0.163, 0.173, 0.183, 0.194, 0.203, 0.206, 0.245, 0.222),
    "asphalt": (0.075, 0.082, 0.093, 0.099, 0.104, 0.109, 0.114, 0.120, 0.126, 0.128, 0.146, 0.136),
    "felt_roof": (0.058, 0.066, 0.078, 0.088, 0.093, 0.098, 0.104, 0.110, 0.116, 0.118, 0.145, 0.140),
    "tile_roof": (0.062, 0.075, 0.098, 0.168, 0.185, 0.197, 0.208, 0.220, 0.232, 0.238, 0.290, 0.255),
    "metal_roof": (0.225, 0.245, 0.268, 0.285, 0.292, 0.298, 0.304, 0.312, 0.320, 0.318, 0.335, 0.300),
    "water": (0.026, 0.026, 0.030, 0.019, 0.015, 0.009, 0.008, 0.007, 0.006, 0.006, 0.003, 0.002),
    "bloom": (0.024, 0.026, 0.050, 0.030, 0.044, 0.030, 0.030, 0.026, 0.024, 0.020, 0.006, 0.004),
}
MATERIALS = tuple(_MATERIALS)
SPECTRA = np.array(list(_MATERIALS.values()), np.float32)
"""(material, band) reflectance."""


def spectrum(material: str) -> np.ndarray:
    """(12,) float32 reflectance of a material."""
    return SPECTRA[MATERIALS.index(material)]


def stressed(response: float) -> np.ndarray:
    """(material, band): the spectra when plants lack water: paler in the red, darker in the near infrared, brighter
    in the shortwave infrared, as strongly as ``response`` (0…1) says."""
    factor = np.ones((len(MATERIALS), len(BANDS)), np.float32)
    change = np.array([1.10, 1.12, 1.08, 1.34, 1.16, 0.96, 0.90, 0.88, 0.88, 0.88, 1.34, 1.58], np.float32)
    for name in ("crop", "grass", "spruce", "pine", "leaves", "moss"):
        factor[MATERIALS.index(name)] = 1 + response * (change - 1)
    return SPECTRA * factor


CANOPY_CONTRAST = np.array([0.55, 0.65, 0.85, 0.75, 0.9, 1, 1, 1, 1, 1, 0.95, 0.85], np.float32)
"""How strongly crown texture shows in each band, relative to the near infrared: scattered skylight softens blue."""
