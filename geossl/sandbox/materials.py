"""Reflectance of beds, bare shores and water plants, in the twelve bands of ``spectra.BANDS``.

Wet beds and plants under water: irradiance reflectance just above the bed. Plants in air: as the sensor sees them.
Rounded from what spectral libraries of northern coasts show.
"""

from __future__ import annotations

import numpy as np


def _table(*rows: tuple[float, ...]) -> np.ndarray:
    return np.array(rows, np.float32)


#                443    490    560    665    704    740    783    842    865    945    1610   2190
GROUND_WET = _table(
    (0.085, 0.110, 0.152, 0.190, 0.202, 0.212, 0.220, 0.226, 0.230, 0.224, 0.160, 0.105),  # sand
    (0.036, 0.044, 0.060, 0.076, 0.084, 0.094, 0.100, 0.106, 0.110, 0.106, 0.070, 0.045),  # mud
    (0.050, 0.059, 0.072, 0.084, 0.089, 0.094, 0.098, 0.102, 0.105, 0.105, 0.105, 0.085),  # rock
)
"""(ground, band) of :class:`geossl.sandbox.waterscape.Ground` under water or soaked."""
GROUND_DRY = _table(
    (0.120, 0.152, 0.204, 0.252, 0.272, 0.290, 0.303, 0.316, 0.325, 0.328, 0.372, 0.322),
    (0.058, 0.070, 0.095, 0.120, 0.135, 0.155, 0.168, 0.180, 0.188, 0.190, 0.215, 0.160),
    (0.078, 0.090, 0.109, 0.130, 0.139, 0.150, 0.157, 0.165, 0.170, 0.173, 0.208, 0.176),
)
GROWTH = _table(
    (0.000, 0.000, 0.000, 0.000, 0.000, 0.000, 0.000, 0.000, 0.000, 0.000, 0.000, 0.000),
    (0.018, 0.023, 0.047, 0.026, 0.062, 0.150, 0.205, 0.225, 0.235, 0.225, 0.080, 0.035),  # seagrass
    (0.016, 0.021, 0.037, 0.032, 0.055, 0.130, 0.185, 0.205, 0.215, 0.205, 0.070, 0.030),  # macroalgae
    (0.029, 0.034, 0.043, 0.048, 0.056, 0.070, 0.078, 0.085, 0.088, 0.085, 0.050, 0.030),  # mussels
    (0.020, 0.026, 0.058, 0.033, 0.075, 0.180, 0.235, 0.255, 0.265, 0.255, 0.085, 0.035),  # stonewort
)
"""(growth, band) of :class:`geossl.sandbox.waterscape.Growth`."""
REED_GREEN = _table((0.014, 0.021, 0.052, 0.028, 0.085, 0.215, 0.285, 0.302, 0.315, 0.315, 0.140, 0.064))[0]
REED_OLD = _table((0.048, 0.064, 0.094, 0.128, 0.152, 0.176, 0.194, 0.212, 0.226, 0.232, 0.262, 0.176))[0]
FLOATING = _table((0.022, 0.032, 0.082, 0.038, 0.118, 0.335, 0.420, 0.440, 0.452, 0.448, 0.160, 0.062))[0]
