"""What lies between sensor and ground: haze, clouds with shadows, and pixels of another size.

Shared by the Kornia operations and the fused generator; all on batches, without loops over images or bands.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

CLOUD_PUFFS = 6
"""Round parts a cloud is made of."""
AIRLIGHT = 0.5
"""Reflectance that a view tends to as haze gets thick."""
_ANGSTROM = 1.3
_REFERENCE_UM = 0.55
_NOT_FORWARDS = 0.25
_EDGE = 14.0


def transmittance(thickness: Tensor, wavelengths_um: Sequence[float] | None) -> Tensor:
    """Share of the light (n, band) that passes haze of optical ``thickness`` (n,) at 0.55 micrometres.

    ``T = exp(-0.25 * thickness * (wavelength / 0.55) ** -1.3)``: Beer's law with Ångström's exponent of continental
    aerosol, for the quarter or so of the scattered light that does not go on forwards. Without wavelengths (n, 1): as
    at 0.55 micrometres in all bands. The hazy view is ``T * view + (1 - T) * AIRLIGHT`` (Koschmieder's law), with one T
    over the whole view, as aerosol varies over kilometres: thickness 0.4 brightens dark ground by 0.06 in blue and by
    0.01 at 1.6 micrometres.
    """
    if wavelengths_um is None:
        return torch.exp(-_NOT_FORWARDS * thickness)[:, None]
    return torch.exp(-_NOT_FORWARDS * thickness[:, None] * _relative_thickness(tuple(wavelengths_um), thickness.device))


@lru_cache(maxsize=16)
def _relative_thickness(wavelengths_um: tuple[float, ...], device: torch.device) -> Tensor:
    """Thickness of haze in each band (band,) against 0.55 micrometres; kept, as a copy to a GPU makes the host wait."""
    return (torch.tensor(wavelengths_um, device=device) / _REFERENCE_UM) ** -_ANGSTROM


def cover(field: Tensor) -> Tensor:
    """Opacity 0 … 1 from the summed puffs of a cloud: its outline is where they sum to 0.5, a soft edge."""
    return torch.sigmoid(_EDGE * (field - 0.5))


def coarsen_matrix(factor: Tensor, size: int) -> Tensor:
    """Matrices (n, size, size) that see one axis with pixels ``factor`` (n,) times as large, factor >= 1.

    The axis is averaged over coarse pixels, laid from its start and cut at its end, and interpolated linearly between
    their centres back to ``size``; the outermost centres hold on to the border. Factor 1 is the identity.
    """
    factor = factor[:, None, None]
    fine = torch.arange(size, device=factor.device, dtype=torch.float32)
    start = fine[:, None] * factor  # (n, coarse, 1): as many as fine ones, those past the end are never read
    overlap = (torch.minimum(start + factor, fine + 1) - torch.maximum(start, fine)).clamp(min=0)
    average = overlap / overlap.sum(dim=2, keepdim=True).clamp(min=1e-6)
    last = torch.ceil(size / factor - 1e-4) - 1
    place = ((fine[:, None] + 0.5) / factor - 0.5).clamp(min=0).minimum(last)  # (n, fine, 1)
    between = (1 - (place - fine).abs()).clamp(min=0)  # (n, fine, coarse): a hat a coarse pixel
    return torch.bmm(between, average)
