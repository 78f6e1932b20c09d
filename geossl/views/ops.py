"""Augmentations of multispectral reflectance as Kornia operations, for use in ``AugmentationSequential``.

Kornia's own brightness, contrast and colour operations assume values in [0, 1] and clamp; these never do. Each takes
images (B, bands, H, W), leaves masks alone, draws its parameters when none are given, and takes ``params=`` otherwise.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from kornia.augmentation import IntensityAugmentationBase2D
from torch import Tensor

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
