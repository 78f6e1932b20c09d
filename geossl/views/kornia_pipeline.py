"""The same views as a plain Kornia pipeline: easy to read, to extend and to check the fused generator against.

Kornia draws from the global generator; here every operation gets the parameters that the fused one would use.
"""

from __future__ import annotations

import kornia.augmentation as K
import torch
from kornia.augmentation.container.params import ParamItem
from torch import Tensor

from geossl.views.ops import (
    RandomBandContrast,
    RandomBandDrop,
    RandomBandGain,
    RandomBandGray,
    RandomGain,
    RandomOffset,
    RandomSensorNoise,
)
from geossl.views.params import ViewParams, blur_radius
from geossl.views.recipe import Recipe


def geometry(recipe: Recipe) -> K.AugmentationSequential:
    """Crop, flip and quarter-turn of a recipe, corner-aligned bilinear."""
    return K.AugmentationSequential(
        K.RandomResizedCrop(
            (recipe.size, recipe.size),
            scale=recipe.crop_area,
            ratio=recipe.crop_ratio,
            align_corners=True,
            cropping_mode="resample",
        ),
        K.RandomHorizontalFlip(p=0.5 if recipe.dihedral else 0.0),
        K.RandomRotation90(times=(-1, 2), p=1.0 if recipe.dihedral else 0.0),
        data_keys=["input"],
    )


def radiometry(recipe: Recipe) -> K.AugmentationSequential:
    """The radiometric operations of a recipe, in its order."""
    kernel = 2 * blur_radius(recipe.blur_sigma_px[1], recipe.size) + 1
    return K.AugmentationSequential(
        RandomGain(recipe.gain),
        RandomBandGain(recipe.band_gain),
        RandomBandContrast(recipe.contrast),
        RandomBandDrop(p=recipe.band_drop),
        RandomOffset(recipe.offset),
        RandomBandGray(p=recipe.gray),
        K.RandomGaussianBlur((kernel, kernel), recipe.blur_sigma_px, p=recipe.blur),
        RandomSensorNoise(recipe.noise),
        data_keys=["input"],
    )


def apply_kornia(values: Tensor, clear: Tensor, params: ViewParams, recipe: Recipe) -> Tensor:
    """One view of each chip with given parameters; shapes as in :func:`geossl.views.fused.make_views`."""
    lit = clear[:, None].to(values.dtype)
    # Validity goes through the same geometry as one more band, and what it weighs is divided out again.
    stack = torch.cat([torch.where(clear[:, None], values, 0.0), lit], dim=1).contiguous()
    pipeline = geometry(recipe)
    stack = pipeline(stack, params=_geometry_params(pipeline, params, stack, recipe.size))
    share = stack[:, -1:]
    valid = share >= 0.5
    view = torch.where(valid, stack[:, :-1] / share, 0.0)
    mean = view.sum(dim=(2, 3), keepdim=True) / valid.sum(dim=(2, 3), keepdim=True).clamp(min=1)
    view = torch.where(valid, view, mean)
    pipeline = radiometry(recipe)
    view = pipeline(view, params=_radiometry_params(pipeline, params, view))
    return view.contiguous(memory_format=torch.channels_last)


def _corners(top: Tensor, left: Tensor, bottom: Tensor, right: Tensor) -> Tensor:
    """Boxes as Kornia's (n, 4, 2) corners: x, y of top left, top right, bottom right, bottom left."""
    points = [(left, top), (right, top), (right, bottom), (left, bottom)]
    return torch.stack([torch.stack(point, dim=-1) for point in points], dim=1)


def _items(pipeline: K.AugmentationSequential, data: list[dict[str, Tensor]], shape: torch.Size) -> list[ParamItem]:
    """One parameter set for each operation; those without ``batch_prob`` are done to every image."""
    shape_of = torch.tensor(shape, dtype=torch.long)
    everyone = torch.ones(shape[0])
    names = [name for name, _ in pipeline.named_children()]
    return [
        ParamItem(name, {"batch_prob": everyone, "forward_input_shape": shape_of, **one})
        for name, one in zip(names, data, strict=True)
    ]


def _geometry_params(
    pipeline: K.AugmentationSequential, params: ViewParams, stack: Tensor, size: int
) -> list[ParamItem]:
    n, channels = stack.shape[:2]
    zero = torch.zeros(n, device=stack.device)
    last = zero + size - 1
    crop = {"src": _corners(*params.box.unbind(1)), "dst": _corners(zero, zero, last, last)}
    inside = torch.Size((n, channels, size, size))
    first = _items(pipeline, [crop, {}, {}], stack.shape)[:1]
    rest = _items(pipeline, [{}, {"batch_prob": params.flip.float()}, {"times": params.turns.float()}], inside)[1:]
    return first + rest


def _radiometry_params(pipeline: K.AugmentationSequential, params: ViewParams, view: Tensor) -> list[ParamItem]:
    n = len(view)
    gray, blurred = torch.zeros(n), torch.zeros(n)
    gray[params.gray], blurred[params.blur] = 1.0, 1.0
    noise = torch.zeros_like(view) if params.noise is None else params.noise.permute(0, 3, 1, 2)
    return _items(
        pipeline,
        [
            {"gain": torch.ones(n, device=view.device)},  # the image's gain is part of the bands' gains
            {"band_gain": params.gain},
            {"contrast": params.contrast},
            {"batch_prob": (params.drop >= 0).float(), "band": params.drop},
            {"offset": params.offset},
            {"batch_prob": gray},
            {"batch_prob": blurred, "sigma": params.sigma},
            {"noise": noise},
        ],
        view.shape,
    )
