"""Augmentations of multispectral reflectance as Kornia operations, for use in ``AugmentationSequential``.

Kornia's own brightness, contrast and colour operations assume values in [0, 1] and clamp; these never do. Each takes
images (B, bands, H, W), leaves masks alone, draws its parameters when none are given, and takes ``params=`` otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import kornia.augmentation as K
import torch
from kornia.augmentation import IntensityAugmentationBase2D
from torch import Tensor

from geossl.views.boxes import box_corners, fit_turned
from geossl.views.optics import AIRLIGHT, coarsen_matrix, cover, transmittance
from geossl.views.params import CLOUD_NUMBERS, cloud_of

Params = dict[str, Tensor]


class _BandOp(IntensityAugmentationBase2D):
    """Base: ``draw`` gives the parameters for a batch of shape (B, bands, H, W)."""

    def draw(self, shape: tuple[int, ...]) -> Params:
        """Parameters of one call, from torch's global generator."""
        return {}

    def generate_parameters(self, batch_shape: tuple[int, ...]) -> Params:
        """Kornia's name for :meth:`draw`."""
        return self.draw(tuple(batch_shape))


def _log_uniform(low: float, high: float, shape: tuple[int, ...]) -> Tensor:
    return torch.empty(shape).uniform_(math.log(low), math.log(high)).exp()


class RandomGain(_BandOp):
    """Multiply the image by ``gain`` (B,) = exp U(-strength, strength): illumination, atmosphere."""

    def __init__(self, strength: float, p: float = 1.0) -> None:
        super().__init__(p=p)
        self.strength = strength

    def draw(self, shape: tuple[int, ...]) -> Params:
        """``gain``: (B,)."""
        return {"gain": _log_uniform(math.exp(-self.strength), math.exp(self.strength), shape[:1])}

    def apply_transform(
        self, input: Tensor, params: Params, flags: dict[str, Any], transform: Tensor | None = None
    ) -> Tensor:
        """The image times its gain."""
        return input * params["gain"].to(input)[:, None, None, None]


class RandomBandGain(_BandOp):
    """Multiply each band by its own ``band_gain`` (B, bands) = exp U(-strength, strength): calibration, haze."""

    def __init__(self, strength: float, p: float = 1.0) -> None:
        super().__init__(p=p)
        self.strength = strength

    def draw(self, shape: tuple[int, ...]) -> Params:
        """``band_gain``: (B, bands)."""
        return {"band_gain": _log_uniform(math.exp(-self.strength), math.exp(self.strength), shape[:2])}

    def apply_transform(
        self, input: Tensor, params: Params, flags: dict[str, Any], transform: Tensor | None = None
    ) -> Tensor:
        """Each band times its gain."""
        return input * params["band_gain"].to(input)[:, :, None, None]


class RandomOffset(_BandOp):
    """Add ``offset`` (B,) = U(-strength, strength), in reflectance, to all bands."""

    def __init__(self, strength: float, p: float = 1.0) -> None:
        super().__init__(p=p)
        self.strength = strength

    def draw(self, shape: tuple[int, ...]) -> Params:
        """``offset``: (B,)."""
        return {"offset": torch.empty(shape[:1]).uniform_(-self.strength, self.strength)}

    def apply_transform(
        self, input: Tensor, params: Params, flags: dict[str, Any], transform: Tensor | None = None
    ) -> Tensor:
        """The image plus its offset."""
        return input + params["offset"].to(input)[:, None, None, None]


class RandomBandContrast(_BandOp):
    """Multiply deviations from each band's mean by ``contrast`` (B,), log-uniform in ``limits``; means stay."""

    def __init__(self, limits: tuple[float, float], p: float = 1.0) -> None:
        super().__init__(p=p)
        self.limits = limits

    def draw(self, shape: tuple[int, ...]) -> Params:
        """``contrast``: (B,)."""
        return {"contrast": _log_uniform(*self.limits, shape[:1])}

    def apply_transform(
        self, input: Tensor, params: Params, flags: dict[str, Any], transform: Tensor | None = None
    ) -> Tensor:
        """Each band stretched about its own mean."""
        mean = input.mean(dim=(2, 3), keepdim=True)
        return torch.lerp(mean, input, params["contrast"].to(input)[:, None, None, None])


class RandomBandDrop(_BandOp):
    """Flatten one ``band`` (B,) to its mean: its pattern is gone, yet no value appears that no sensor would measure."""

    def draw(self, shape: tuple[int, ...]) -> Params:
        """``band``: (B,) integer."""
        return {"band": torch.randint(shape[1], shape[:1])}

    def apply_transform(
        self, input: Tensor, params: Params, flags: dict[str, Any], transform: Tensor | None = None
    ) -> Tensor:
        """The image with one band flat."""
        chosen = params["band"].to(input.device)[:, None] == torch.arange(input.shape[1], device=input.device)
        return torch.where(chosen[:, :, None, None], input.mean(dim=(2, 3), keepdim=True), input)


class RandomBandGray(_BandOp):
    """Give every band the mean of all bands: what is left is shape and brightness."""

    def apply_transform(
        self, input: Tensor, params: Params, flags: dict[str, Any], transform: Tensor | None = None
    ) -> Tensor:
        """The image in shades of one band."""
        return input.mean(dim=1, keepdim=True).expand_as(input)


class RandomSensorNoise(_BandOp):
    """Add white ``noise`` (B, bands, H, W) of unit variance times ``sigma``, in reflectance."""

    def __init__(self, sigma: float, p: float = 1.0) -> None:
        super().__init__(p=p)
        self.sigma = sigma

    def draw(self, shape: tuple[int, ...]) -> Params:
        """``noise``: (B, bands, H, W)."""
        return {"noise": torch.randn(shape)}

    def apply_transform(
        self, input: Tensor, params: Params, flags: dict[str, Any], transform: Tensor | None = None
    ) -> Tensor:
        """The image plus noise."""
        return input + self.sigma * params["noise"].to(input)


class RandomHaze(_BandOp):
    """A veil over the image: ``T * image + (1 - T) * 0.5`` with ``transmittance`` T (B, bands).

    Its optical thickness at 0.55 micrometres is U(0, thickness); see :func:`geossl.views.optics.transmittance` for the
    law along ``wavelengths_um``, one a band (None: equally thick in all).
    """

    def __init__(self, thickness: float, wavelengths_um: Sequence[float] | None = None, p: float = 1.0) -> None:
        super().__init__(p=p)
        self.thickness, self.wavelengths_um = thickness, wavelengths_um

    def draw(self, shape: tuple[int, ...]) -> Params:
        """``transmittance``: (B, bands), or (B, 1) without wavelengths."""
        return {"transmittance": transmittance(self.thickness * torch.rand(shape[:1]), self.wavelengths_um)}

    def apply_transform(
        self, input: Tensor, params: Params, flags: dict[str, Any], transform: Tensor | None = None
    ) -> Tensor:
        """The image behind the veil."""
        passed = params["transmittance"].to(input)[:, :, None, None]
        return passed * input + (1 - passed) * AIRLIGHT


class RandomCloudShadow(_BandOp):
    """Hide part of the image under a cumulus cloud and darken another by its shadow, both with soft edges.

    Parameters are those of :class:`geossl.views.params.Cloud`: ``puffs`` (B, puff, 3), ``shift`` (B, 2), ``level`` (B,)
    and ``shade`` (B,).
    """

    def draw(self, shape: tuple[int, ...]) -> Params:
        """``puffs``, ``shift``, ``level``, ``shade``."""
        return vars(cloud_of(torch.rand((shape[0], CLOUD_NUMBERS)))).copy()

    def apply_transform(
        self, input: Tensor, params: Params, flags: dict[str, Any], transform: Tensor | None = None
    ) -> Tensor:
        """The image under its cloud."""
        puffs, shift, level, shade = (params[name].to(input) for name in ("puffs", "shift", "level", "shade"))

        def opacity(centre: Tensor) -> Tensor:  # (B, puff, 2) -> (B, 1, H, W)
            height, width = input.shape[-2:]
            y = (torch.arange(height, device=input.device) + 0.5)[:, None] / height - centre[..., :1, None]
            x = (torch.arange(width, device=input.device) + 0.5) / width - centre[..., 1:, None]
            return cover(torch.exp(-(y**2 + x**2) / (2 * puffs[..., 2:, None] ** 2)).sum(dim=1))[:, None]

        shadow, cloud = opacity(puffs[..., :2] + shift[:, None]), opacity(puffs[..., :2])
        shaded = input * (1 - shade[:, None, None, None] * shadow)
        return torch.lerp(shaded, level[:, None, None, None].expand_as(input), cloud)


class RandomGSD(_BandOp):
    """See the image with pixels ``factor`` (B,) = exp U(0, strength) times as large, interpolated back to its size."""

    def __init__(self, strength: float, p: float = 1.0) -> None:
        super().__init__(p=p)
        self.strength = strength

    def draw(self, shape: tuple[int, ...]) -> Params:
        """``factor``: (B,)."""
        return {"factor": _log_uniform(1.0, math.exp(self.strength), shape[:1])}

    def apply_transform(
        self, input: Tensor, params: Params, flags: dict[str, Any], transform: Tensor | None = None
    ) -> Tensor:
        """The image, coarser."""
        factor = params["factor"].to(input)
        rows, columns = (coarsen_matrix(factor, size)[:, None] for size in input.shape[-2:])
        return rows @ input @ columns.transpose(-1, -2)


class RandomRotatedCrop(K.RandomResizedCrop):
    """Kornia's resized crop of a box that is turned by U(-degrees, degrees): one bilinear resampling for both.

    The turned box is made smaller and moved where it would leave the image, so no pixel has to be invented.
    """

    def __init__(
        self, size: tuple[int, int], scale: tuple[float, float], ratio: tuple[float, float], degrees: float
    ) -> None:
        super().__init__(size, scale=scale, ratio=ratio, align_corners=True, cropping_mode="resample")
        self.degrees = degrees

    def generate_parameters(self, batch_shape: tuple[int, ...]) -> Params:
        """Kornia's boxes, turned: ``src`` (B, 4, 2) corners in the image, ``dst`` in the crop."""
        params = super().generate_parameters(batch_shape)
        if self.degrees == 0:
            return params
        height, width = batch_shape[-2:]
        angle = torch.empty(batch_shape[0]).uniform_(-self.degrees, self.degrees).deg2rad()
        (left, top), (right, bottom) = (params["src"][:, corner].float().unbind(1) for corner in (0, 2))
        tall, wide, outer_tall, outer_wide = fit_turned(bottom - top, right - left, angle, height, width)
        y = torch.minimum(((top + bottom) / 2).maximum(outer_tall / 2), height - 1 - outer_tall / 2)
        x = torch.minimum(((left + right) / 2).maximum(outer_wide / 2), width - 1 - outer_wide / 2)
        box = torch.stack([y - tall / 2, x - wide / 2, y + tall / 2, x + wide / 2], dim=-1)
        return {**params, "src": box_corners(box, angle).to(params["src"])}
