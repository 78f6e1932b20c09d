"""The random numbers of a view, drawn at once from one generator on the device of the images.

The fused generator and the Kornia pipeline both work from these, so that they can be compared pixel by pixel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from geossl.errors import InputError
from geossl.views.boxes import fit_turned, turned
from geossl.views.optics import CLOUD_PUFFS, transmittance
from geossl.views.recipe import Recipe

_REDRAWS = 8
_U_PER_BOX = 4
_U_FIXED = 7
_U_CLOUD = 6
CLOUD_NUMBERS = _U_CLOUD + 3 * CLOUD_PUFFS
"""Uniform numbers that make a cloud."""
_SHARE_POINTS = 16
_BANK_SEED = 20_051


@dataclass(frozen=True)
class Cloud:
    """A cloud and its shadow in each of ``k`` images, in units of the view's side.

    ``puffs``: (k, puff, 3) y and x of the centre, and radius. ``shift``: (k, 2) how far down and right the shadow lies.
    ``level``: (k,) reflectance of the cloud. ``shade``: (k,) share of the light that the shadow takes.
    """

    puffs: Tensor
    shift: Tensor
    level: Tensor
    shade: Tensor


@dataclass(frozen=True)
class ViewParams:
    """Parameters of one view of each of ``n`` images; those of operations that the recipe leaves out are None.

    ``box``: (n, 4) float32 top, left, bottom, right: the centres of the outermost source pixels, in source pixels.
    ``angle``: (n,) radians by which the box is turned clockwise about its centre, or None.
    ``turns``: (n,) counter-clockwise quarter-turns after the horizontal ``flip`` (n,) bool.
    ``haze``: (n, band) transmittance, or None. ``gain`` (n, band), ``contrast`` (n,), ``offset`` (n,): radiometry.
    ``drop``: (n,) band index, or -1.
    ``gray``, ``clouded`` and ``blur``: the slice of images these are done to; ``cloud`` holds those of the slice.
    ``gsd``: (n,) factor of the pixel size, at least 1, or None. ``sigma``: (n,) width of the blur in pixels.
    ``noise``: (n, size, size, band) to be added, or None.
    """

    box: Tensor
    angle: Tensor | None
    turns: Tensor
    flip: Tensor
    haze: Tensor | None
    gain: Tensor
    contrast: Tensor
    offset: Tensor
    drop: Tensor
    gray: slice
    clouded: slice
    cloud: Cloud | None
    gsd: Tensor | None
    blur: slice
    sigma: Tensor
    noise: Tensor | None


def draw_params(clear: Tensor, bands: int, recipe: Recipe, generator: torch.Generator, view: int = 0) -> ViewParams:
    """Draw the parameters of one view for images with validity ``clear`` (n, y, x) bool.

    Blur, gray and clouds act on fixed slices of the batch instead of on chance subsets: the batch is in random order
    already, and shapes stay static. ``view`` (0, 1, …) alternates which end is blurred, so that the two views of a pair
    differ.

    Raises:
        InputError: the recipe was made for another number of bands.
    """
    if recipe.bands and len(recipe.bands) != bands:
        raise InputError(
            "the recipe of the views is for other bands",
            where="views: bands",
            expected=f"{len(recipe.bands)} bands: {', '.join(recipe.bands)}",
            found=f"chips of {bands} bands",
        )
    n, height, width = clear.shape
    device = clear.device

    def uniform(columns: int) -> Tensor:
        return torch.rand((n, columns), generator=generator, device=device)

    boxes = _U_PER_BOX * _REDRAWS
    u = uniform(boxes + _U_FIXED + bands)
    angle = math.radians(recipe.rotation_deg) * (2 * uniform(1)[:, 0] - 1) if recipe.rotation_deg > 0 else None
    candidates = _boxes(u[:, :boxes].view(n, _REDRAWS, _U_PER_BOX), height, width, recipe, angle)
    box = _choose_boxes(candidates, angle, clear, recipe)
    eighths, image_gain, contrast, offset, dropped, which, sigma = u[:, boxes : boxes + _U_FIXED].unbind(1)
    eighth = (eighths * 8).long() if recipe.dihedral else torch.zeros(n, dtype=torch.long, device=device)
    log_gain = recipe.gain * (2 * image_gain[:, None] - 1) + recipe.band_gain * (2 * u[:, boxes + _U_FIXED :] - 1)
    low, high = map(math.log, recipe.contrast)
    blurred, grayed, clouded = round(recipe.blur * n), round(recipe.gray * n), _clouded(n, recipe, view)
    first_blurred = view % 2 == 0
    return ViewParams(
        box=box,
        angle=angle,
        turns=eighth % 4,
        flip=eighth >= 4,
        haze=transmittance(recipe.haze * uniform(1)[:, 0], recipe.wavelengths_um()) if recipe.haze > 0 else None,
        gain=log_gain.exp(),
        contrast=(low + (high - low) * contrast).exp(),
        offset=recipe.offset * (2 * offset - 1),
        drop=torch.where(dropped < recipe.band_drop, (which * bands).long().clamp(max=bands - 1), -1),
        gray=slice(n - grayed, n) if first_blurred else slice(0, grayed),
        clouded=clouded,
        cloud=cloud_of(uniform(CLOUD_NUMBERS)[clouded]) if clouded.stop > clouded.start else None,
        gsd=(recipe.gsd * uniform(1)[:, 0]).exp() if recipe.gsd > 0 else None,
        blur=slice(0, blurred) if first_blurred else slice(n - blurred, n),
        sigma=recipe.blur_sigma_px[0] + (recipe.blur_sigma_px[1] - recipe.blur_sigma_px[0]) * sigma,
        noise=_noise((n, recipe.size, recipe.size, bands), generator, device) if recipe.noise > 0 else None,
    )


def blur_radius(sigma_max: float, size: int) -> int:
    """Radius of the blur kernel in pixels: three standard deviations, and never past a reflection at both borders."""
    return max(1, min(math.ceil(3 * sigma_max), size - 1))


def cloud_of(u: Tensor) -> Cloud:
    """A cumulus cloud anywhere in the view and its shadow beside it, from uniform numbers (k, CLOUD_NUMBERS)."""
    k = len(u)
    centre, away, distance, level, shade = u[:, :2], u[:, 2], u[:, 3], u[:, 4], u[:, 5]
    puff = u[:, _U_CLOUD:].view(k, CLOUD_PUFFS, 3)
    around = centre[:, None] + 0.35 * (puff[..., :2] - 0.5)
    angle, reach = 2 * math.pi * away, 0.15 + 0.2 * distance
    return Cloud(
        puffs=torch.cat([around, 0.06 + 0.08 * puff[..., 2:]], dim=-1),
        shift=torch.stack([reach * angle.sin(), reach * angle.cos()], dim=-1),
        level=0.35 + 0.4 * level,
        shade=0.4 + 0.3 * shade,
    )


def _clouded(n: int, recipe: Recipe, view: int) -> slice:
    """The images with a cloud: next to the middle of the batch, before it in even views and after it in odd ones."""
    count = round(recipe.cloud * n)
    start = max(0, n // 2 - count) if view % 2 == 0 else min(n // 2, n - count)
    return slice(start, start + count)


def _boxes(u: Tensor, height: int, width: int, recipe: Recipe, angle: Tensor | None) -> Tensor:
    """Candidate boxes (n, redraws + 1, 4) from uniform numbers (n, redraws, 4), the last the whole chip.

    Area and ratio as in Inception's crop. Boxes that would leave the chip when turned by ``angle`` are made smaller.
    """
    area = height * width * (recipe.crop_area[0] + (recipe.crop_area[1] - recipe.crop_area[0]) * u[..., 0])
    low, high = map(math.log, recipe.crop_ratio)
    ratio = (low + (high - low) * u[..., 1]).exp()
    # From the first to the last pixel centre, in pixels; (n, redraws + 1), the last the whole chip.
    tall = F.pad((area / ratio).sqrt().clamp(2, height) - 1, (0, 1), value=height - 1)
    wide = F.pad((area * ratio).sqrt().clamp(2, width) - 1, (0, 1), value=width - 1)
    outer_tall, outer_wide = tall, wide
    if angle is not None:
        tall, wide, outer_tall, outer_wide = fit_turned(tall, wide, angle[:, None], height, width)
    place = F.pad(u[..., 2:], (0, 0, 0, 1), value=0.5)
    top = place[..., 0] * (height - 1 - outer_tall) + (outer_tall - tall) / 2
    left = place[..., 1] * (width - 1 - outer_wide) + (outer_wide - wide) / 2
    return torch.stack([top, left, top + tall, left + wide], dim=-1)


def _choose_boxes(candidates: Tensor, angle: Tensor | None, clear: Tensor, recipe: Recipe) -> Tensor:
    """The first candidate with enough clear pixels; the whole chip where none has, unless a candidate is clearer."""
    share = _clear_share(candidates, clear) if angle is None else _clear_share_turned(candidates, angle, clear)
    order = torch.arange(candidates.shape[1], 0, -1, device=clear.device)
    score = torch.where(share >= recipe.min_valid, 1 + order, share)
    return candidates[torch.arange(len(clear), device=clear.device), score.argmax(dim=1)]


def _clear_share(boxes: Tensor, clear: Tensor) -> Tensor:
    """Share of clear pixels (n, k) in boxes (n, k, 4), by a summed-area table: four look-ups a box."""
    n, height, width = clear.shape
    table = torch.zeros((n, height + 1, width + 1), device=clear.device)
    table[:, 1:, 1:] = clear.to(torch.float32).cumsum(1).cumsum(2)
    top, left, bottom, right = boxes.round().long().unbind(-1)
    flat = table.view(n, -1)

    def up_to(y: Tensor, x: Tensor) -> Tensor:
        return flat.gather(1, y * (width + 1) + x)

    inside = up_to(bottom + 1, right + 1) - up_to(top, right + 1) - up_to(bottom + 1, left) + up_to(top, left)
    return inside / ((bottom + 1 - top) * (right + 1 - left))


def _clear_share_turned(boxes: Tensor, angle: Tensor, clear: Tensor) -> Tensor:
    """Share of clear pixels (n, k) in turned boxes, at 16 x 16 points spread over each."""
    n, height, width = clear.shape
    steps = (torch.arange(_SHARE_POINTS, device=clear.device) + 0.5) / _SHARE_POINTS - 0.5
    top, left, bottom, right = boxes[..., None, None].unbind(2)
    y, x = turned(steps[:, None] * (bottom - top), steps * (right - left), angle[:, None, None, None])
    row = ((top + bottom) / 2 + y).round().long().clamp(0, height - 1)
    column = ((left + right) / 2 + x).round().long().clamp(0, width - 1)
    lit = clear.reshape(n, -1).gather(1, (row * width + column).view(n, -1))
    return lit.view(n, boxes.shape[1], -1).float().mean(dim=-1)


def _noise(shape: tuple[int, int, int, int], generator: torch.Generator, device: torch.device) -> Tensor:
    """White noise of unit variance: drawn on a GPU; on a CPU, where drawing is slow, read from a bank at random."""
    if device.type != "cpu":
        return torch.randn(shape, generator=generator, device=device)
    needed = math.prod(shape)
    bank = _noise_bank(needed)
    start = int(torch.randint(len(bank) - needed + 1, (), generator=generator))
    return bank[start : start + needed].view(shape)


@lru_cache(maxsize=4)
def _noise_bank(needed: int) -> Tensor:
    """A fixed stretch of noise, its length (and so its content) a function of ``needed`` alone."""
    return torch.randn(needed + 2**20, generator=torch.Generator().manual_seed(_BANK_SEED))
