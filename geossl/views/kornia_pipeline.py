"""The same views as a plain Kornia pipeline: easy to read, to extend and to check the fused generator against.

Kornia draws from the global generator; here every operation gets the parameters that the fused one would use.
"""

from __future__ import annotations

import kornia.augmentation as K
import torch
from kornia.augmentation.container.params import ParamItem
from torch import Tensor

from geossl.views.boxes import box_corners
from geossl.views.ops import (
    RandomBandContrast,
    RandomBandDrop,
    RandomBandGain,
    RandomBandGray,
    RandomCloudShadow,
    RandomGain,
    RandomGSD,
    RandomHaze,
    RandomOffset,
    RandomRotatedCrop,
    RandomSensorNoise,
)
from geossl.views.params import CLOUD_NUMBERS, ViewParams, blur_radius, cloud_of
from geossl.views.recipe import Recipe


def geometry(recipe: Recipe) -> K.AugmentationSequential:
    """Crop with its small rotation, flip and quarter-turn of a recipe, corner-aligned bilinear."""
    return K.AugmentationSequential(
        RandomRotatedCrop(
            (recipe.size, recipe.size), scale=recipe.crop_area, ratio=recipe.crop_ratio, degrees=recipe.rotation_deg
        ),
        K.RandomHorizontalFlip(p=0.5 if recipe.dihedral else 0.0),
        K.RandomRotation90(times=(-1, 2), p=1.0 if recipe.dihedral else 0.0),
        data_keys=["input"],
    )


def radiometry(recipe: Recipe) -> K.AugmentationSequential:
    """The radiometric operations of a recipe, in its order."""
    kernel = 2 * blur_radius(recipe.blur_sigma_px[1], recipe.size) + 1
    return K.AugmentationSequential(
        RandomHaze(recipe.haze, recipe.wavelengths_um()),
        RandomGain(recipe.gain),
        RandomBandGain(recipe.band_gain),
        RandomBandContrast(recipe.contrast),
        RandomBandDrop(p=recipe.band_drop),
        RandomOffset(recipe.offset),
        RandomBandGray(p=recipe.gray),
        RandomCloudShadow(p=recipe.cloud),
        RandomGSD(recipe.gsd),
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
    whole = params.box.new_tensor([0, 0, size - 1, size - 1]).expand(n, 4)
    crop = {"src": box_corners(params.box, params.angle), "dst": box_corners(whole)}
    inside = torch.Size((n, channels, size, size))
    first = _items(pipeline, [crop, {}, {}], stack.shape)[:1]
    rest = _items(pipeline, [{}, {"batch_prob": params.flip.float()}, {"times": params.turns.float()}], inside)[1:]
    return first + rest


def _radiometry_params(pipeline: K.AugmentationSequential, params: ViewParams, view: Tensor) -> list[ParamItem]:
    n = len(view)
    gray, clouded, blurred = torch.zeros(n), torch.zeros(n), torch.zeros(n)
    gray[params.gray], clouded[params.clouded], blurred[params.blur] = 1.0, 1.0, 1.0
    one = torch.ones(n, device=view.device)
    noise = torch.zeros_like(view) if params.noise is None else params.noise.permute(0, 3, 1, 2)
    return _items(
        pipeline,
        [
            {"transmittance": one[:, None] if params.haze is None else params.haze},
            {"gain": one},  # the image's gain is part of the bands' gains
            {"band_gain": params.gain},
            {"contrast": params.contrast},
            {"batch_prob": (params.drop >= 0).float(), "band": params.drop},
            {"offset": params.offset},
            {"batch_prob": gray},
            {"batch_prob": clouded, **_cloud_params(params, n, view.device)},
            {"factor": one if params.gsd is None else params.gsd},
            {"batch_prob": blurred, "sigma": params.sigma},
            {"noise": noise},
        ],
        view.shape,
    )


def _cloud_params(params: ViewParams, n: int, device: torch.device) -> dict[str, Tensor]:
    """A cloud for every image, as Kornia selects those with ``batch_prob`` itself; outside the slice it is not used."""
    spare = cloud_of(torch.full((n, CLOUD_NUMBERS), 0.5, device=device))
    fields = {name: getattr(spare, name).clone() for name in ("puffs", "shift", "level", "shade")}
    if params.cloud is not None:
        for name, value in fields.items():
            value[params.clouded] = getattr(params.cloud, name)
    return fields
