"""The random numbers of a view, drawn at once from one generator on the device of the images.

The fused generator and the Kornia pipeline both work from these, so that they can be compared pixel by pixel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from geossl.views.recipe import Recipe

_REDRAWS = 8
_U_PER_BOX = 4
_U_FIXED = 7
_BANK_SEED = 20_051


@dataclass(frozen=True)
class ViewParams:
    """Parameters of one view of each of ``n`` images.

    ``box``: (n, 4) float32 top, left, bottom, right: the centres of the outermost source pixels, in source pixels.
    ``turns``: (n,) counter-clockwise quarter-turns after the horizontal ``flip`` (n,) bool.
    ``gain`` (n, band), ``contrast`` (n,), ``offset`` (n,): radiometry. ``drop``: (n,) band index, or -1.
    ``gray`` and ``blur``: the slice of images these are done to; ``sigma`` (n,) in pixels.
    ``noise``: (n, size, size, band) to be added, or None.
    """

    box: Tensor
    turns: Tensor
    flip: Tensor
    gain: Tensor
    contrast: Tensor
    offset: Tensor
    drop: Tensor
    gray: slice
    blur: slice
    sigma: Tensor
    noise: Tensor | None


def draw_params(clear: Tensor, bands: int, recipe: Recipe, generator: torch.Generator, view: int = 0) -> ViewParams:
    """Draw the parameters of one view for images with validity ``clear`` (n, y, x) bool.

    Blur and gray act on fixed slices of the batch instead of on chance subsets: the batch is in random order already,
    and shapes stay static. ``view`` (0, 1, …) alternates which end is blurred, so that the two views of a pair differ.
    """
    n, height, width = clear.shape
    device = clear.device
    boxes = _U_PER_BOX * _REDRAWS
    u = torch.rand((n, boxes + _U_FIXED + bands), generator=generator, device=device)
    box = _choose_boxes(_boxes(u[:, :boxes].view(n, _REDRAWS, _U_PER_BOX), height, width, recipe), clear, recipe)
    eighths, image_gain, contrast, offset, dropped, which, sigma = u[:, boxes : boxes + _U_FIXED].unbind(1)
    eighth = (eighths * 8).long() if recipe.dihedral else torch.zeros(n, dtype=torch.long, device=device)
    log_gain = recipe.gain * (2 * image_gain[:, None] - 1) + recipe.band_gain * (2 * u[:, boxes + _U_FIXED :] - 1)
    low, high = map(math.log, recipe.contrast)
    blurred, grayed = round(recipe.blur * n), round(recipe.gray * n)
    first_blurred = view % 2 == 0
    return ViewParams(
        box=box,
        turns=eighth % 4,
        flip=eighth >= 4,
        gain=log_gain.exp(),
        contrast=(low + (high - low) * contrast).exp(),
        offset=recipe.offset * (2 * offset - 1),
        drop=torch.where(dropped < recipe.band_drop, (which * bands).long().clamp(max=bands - 1), -1),
        gray=slice(n - grayed, n) if first_blurred else slice(0, grayed),
        blur=slice(0, blurred) if first_blurred else slice(n - blurred, n),
        sigma=recipe.blur_sigma_px[0] + (recipe.blur_sigma_px[1] - recipe.blur_sigma_px[0]) * sigma,
        noise=_noise((n, recipe.size, recipe.size, bands), generator, device) if recipe.noise > 0 else None,
    )


def blur_radius(sigma_max: float, size: int) -> int:
    """Radius of the blur kernel in pixels: three standard deviations, and never past a reflection at both borders."""
    return max(1, min(math.ceil(3 * sigma_max), size - 1))


def _boxes(u: Tensor, height: int, width: int, recipe: Recipe) -> Tensor:
    """Candidate boxes (n, redraws, 4) from uniform numbers (n, redraws, 4); area and ratio as in Inception's crop."""
    area = height * width * (recipe.crop_area[0] + (recipe.crop_area[1] - recipe.crop_area[0]) * u[..., 0])
    low, high = map(math.log, recipe.crop_ratio)
    ratio = (low + (high - low) * u[..., 1]).exp()
    box_height = (area / ratio).sqrt().clamp(2, height)
    box_width = (area * ratio).sqrt().clamp(2, width)
    top = u[..., 2] * (height - box_height)
    left = u[..., 3] * (width - box_width)
    return torch.stack([top, left, top + box_height - 1, left + box_width - 1], dim=-1)


def _choose_boxes(candidates: Tensor, clear: Tensor, recipe: Recipe) -> Tensor:
    """The first candidate with enough clear pixels; the whole chip where none has, unless a candidate is clearer."""
    n, height, width = clear.shape
    whole = candidates.new_tensor([0, 0, height - 1, width - 1]).expand(n, 1, 4)
    candidates = torch.cat([candidates, whole], dim=1)
    # Summed-area table: clear pixels in any box by four look-ups.
    table = torch.zeros((n, height + 1, width + 1), device=clear.device)
    table[:, 1:, 1:] = clear.to(torch.float32).cumsum(1).cumsum(2)
    top, left, bottom, right = candidates.round().long().unbind(-1)
    flat = table.view(n, -1)

    def up_to(y: Tensor, x: Tensor) -> Tensor:
        return flat.gather(1, y * (width + 1) + x)

    inside = up_to(bottom + 1, right + 1) - up_to(top, right + 1) - up_to(bottom + 1, left) + up_to(top, left)
    share = inside / ((bottom + 1 - top) * (right + 1 - left))
    order = torch.arange(_REDRAWS + 1, 0, -1, device=clear.device)
    score = torch.where(share >= recipe.min_valid, 1 + order, share)
    chosen = score.argmax(dim=1)
    return candidates[torch.arange(n, device=clear.device), chosen]


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
