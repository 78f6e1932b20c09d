"""The fused view generator: one resampling and one radiometric pass a view, no loop over samples or bands.

Images lie bands last, so that the four taps of a bilinear sample are four contiguous reads over all bands;
``embedding_bag`` is exactly that weighted gather. Flips and quarter-turns swap the steps of rows and columns inside
the same gather, and invalid pixels get no weight in it (normalised convolution), so their values never enter a view.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from geossl.errors import InputError
from geossl.views.boxes import turned
from geossl.views.optics import AIRLIGHT, coarsen_matrix, cover
from geossl.views.params import Cloud, ViewParams, blur_radius, draw_params
from geossl.views.recipe import Recipe


def make_views(
    values: Tensor,
    clear: Tensor,
    recipe: Recipe,
    generator: torch.Generator,
    n_views: int = 2,
    first_view: int = 0,
) -> list[Tensor]:
    """Random views of a batch of chips.

    Args:
        values: (n, band, y, x) float32 reflectance, fastest in ``channels_last`` memory; pixels that are not clear may
            hold anything, NaN included.
        clear: (n, y, x) bool, on the same device.
        recipe: what may happen to a view.
        generator: the only source of randomness, on the same device; its state determines the views.
        n_views: how many views to make of each chip.
        first_view: number of the first of them, where the views of a step come from several calls (chips of other
            dates): even and odd ones are blurred at different ends of the batch.

    Returns:
        ``n_views`` tensors (n, band, size, size) float32 reflectance in ``channels_last`` memory. Pixels that rest on
        invalid ones hold the mean of their band over the view's valid pixels (0 where a chip has none).
    """
    return _make(values, clear, generator, [(first_view + i, recipe.of_view(first_view + i)) for i in range(n_views)])


def make_small_views(values: Tensor, clear: Tensor, recipe: Recipe, generator: torch.Generator) -> list[Tensor]:
    """The small views of multi-crop, ``recipe.small_views`` tensors (n, band, small_size, small_size).

    Arguments and what invalid pixels hold are those of :func:`make_views`.
    """
    return _make(values, clear, generator, [(i, recipe.of_small()) for i in range(recipe.small_views)])


def _make(values: Tensor, clear: Tensor, generator: torch.Generator, wanted: list[tuple[int, Recipe]]) -> list[Tensor]:
    """A view for each number and recipe, in order."""
    if values.ndim != 4 or clear.shape != (values.shape[0], *values.shape[2:]) or min(values.shape[2:]) < 2:
        raise InputError(
            "these are no chips to make views of",
            where="make_views",
            expected="values (n, band, y, x) and clear (n, y, x), at least 2 x 2 pixels",
            found=f"values {tuple(values.shape)}, clear {tuple(clear.shape)}",
        )
    with torch.no_grad(), torch.autocast(values.device.type, enabled=False):
        views = []
        for number, recipe in wanted:
            params = draw_params(clear, values.shape[1], recipe, generator, number)
            views.append(apply_view(values, clear, params, recipe))
        return views


def apply_view(values: Tensor, clear: Tensor, params: ViewParams, recipe: Recipe) -> Tensor:
    """One view of each chip with given parameters, by the recipe's pipeline; shapes as in :func:`make_views`."""
    if recipe.pipeline == "kornia":
        from geossl.views.kornia_pipeline import apply_kornia

        return apply_kornia(values, clear, params, recipe)
    return apply_fused(values, clear, params, recipe)


def apply_fused(values: Tensor, clear: Tensor, params: ViewParams, recipe: Recipe) -> Tensor:
    """One view of each chip with given parameters; shapes as in :func:`make_views`."""
    view, valid = resample(values, clear, params, recipe.size)  # (n, size, size, band), (n, size * size) or None
    n, size, _, bands = view.shape
    mean = view.view(n, size, size * bands).mean(dim=1).view(n, size, bands).mean(dim=1)  # (n, band)
    if valid is not None:  # the others are 0 so far: they get the mean of the valid ones
        mean = torch.where(valid.any(dim=1, keepdim=True), mean / valid.float().mean(dim=1, keepdim=True), 0.0)
        view.view(n, size * size, bands).baddbmm_((~valid)[:, :, None].to(view.dtype), mean[:, None])
    # Haze, gain, contrast about the band mean, offset and band drop are one affine map a band.
    contrast = torch.where(
        params.drop[:, None] == torch.arange(bands, device=view.device), 0.0, params.contrast[:, None]
    )
    scale = params.gain * contrast
    shift = params.gain * mean * (1 - contrast) + params.offset[:, None]
    if params.haze is not None:  # gain * (contrast about the mean of (T view + (1 - T) A)) + offset
        veil = (1 - params.haze) * AIRLIGHT
        shift = params.gain * (params.haze * mean * (1 - contrast) + veil) + params.offset[:, None]
        scale = scale * params.haze
    rows = view.view(n, size, size * bands)  # long rows: an inner loop of 12 bands alone would be slow
    rows = torch.addcmul(shift.repeat(1, size)[:, None], rows, scale.repeat(1, size)[:, None], out=rows)
    view = rows.view(n, size, size, bands)
    if params.gray.stop > params.gray.start:
        part = view[params.gray]
        part.copy_(part.mean(dim=-1, keepdim=True).expand_as(part))
    if params.cloud is not None:
        _hide(view[params.clouded], params.cloud)
    view = _soften(view, params, recipe)
    if params.noise is not None:
        view.add_(params.noise, alpha=recipe.noise)
    return view.permute(0, 3, 1, 2)


def _hide(images: Tensor, cloud: Cloud) -> None:
    """Shade, then cover images (k, size, size, band) in place."""
    size = images.shape[1]
    shadow = 1 - cloud.shade[:, None, None] * cover(_puffs(cloud.puffs, cloud.shift, size))
    opaque = cover(_puffs(cloud.puffs, torch.zeros_like(cloud.shift), size))
    images.mul_((shadow * (1 - opaque))[..., None]).add_((opaque * cloud.level[:, None, None])[..., None])


def _puffs(puffs: Tensor, shift: Tensor, size: int) -> Tensor:
    """Sum of round Gaussian puffs (k, size, size), each a product of one along rows and one along columns."""
    place = (torch.arange(size, device=puffs.device) + 0.5) / size
    centre, radius = puffs[..., :2] + shift[:, None], puffs[..., 2:]
    along = torch.exp(-((place - centre[..., None]) ** 2) / (2 * radius[..., None] ** 2))  # (k, puff, 2, size)
    return torch.bmm(along[:, :, 0].transpose(1, 2), along[:, :, 1])


def _soften(view: Tensor, params: ViewParams, recipe: Recipe) -> Tensor:
    """Larger pixels, then blur: both are matrices along either axis, so that they are one pass together."""
    blurred = params.blur.stop > params.blur.start
    if params.gsd is None:
        if blurred:
            view[params.blur] = blur(view[params.blur], params.sigma[params.blur], recipe.blur_sigma_px[1])
        return view
    matrix = coarsen_matrix(params.gsd, view.shape[1])
    if blurred:
        after = _blur_matrix(params.sigma[params.blur], recipe.blur_sigma_px[1], view.shape[1])
        matrix[params.blur] = torch.bmm(after, matrix[params.blur])
    return _along_both_axes(matrix, view).contiguous()


def resample(values: Tensor, clear: Tensor, params: ViewParams, size: int) -> tuple[Tensor, Tensor | None]:
    """Crop, flip and turn by one bilinear gather.

    Returns:
        The view (n, size, size, band), 0 where it does not rest on clear pixels by at least half of the bilinear
        weight, and where it does (n, size * size); None where it does everywhere and that was free to find out.
    """
    n, bands, height, width = values.shape
    source = values.permute(0, 2, 3, 1).contiguous().view(n * height * width, bands)
    index, weight = _taps(params, height, width, size)
    # On a GPU the question would make the host wait for the device; the careful path costs little there.
    if clear.device.type == "cpu" and bool(clear.all()):
        return _gather(source, index, weight).view(n, size, size, bands), None
    lit = clear.reshape(-1)
    tap_lit = lit.index_select(0, index.view(-1)).view(-1, 4)
    weight = torch.where(tap_lit, weight, 0.0)
    share = weight.mv(weight.new_ones(4))  # (n * size * size,)
    valid = share >= 0.5
    # Sum and outer product as matrix products: an inner loop over four taps alone would be slow.
    weight.mul_(torch.outer(torch.where(valid, 1 / share, 0.0), weight.new_ones(4)))
    # No weight is not enough for NaN: unlit taps read some lit pixel of the batch instead.
    index = torch.where(tap_lit, index, lit.to(torch.uint8).argmax().to(index.dtype))
    view = _gather(source, index, weight).view(n, size, size, bands)
    return view, valid.view(n, size * size)


def _gather(source: Tensor, index: Tensor, weight: Tensor) -> Tensor:
    return F.embedding_bag(index, source, per_sample_weights=weight, mode="sum")


def _taps(params: ViewParams, height: int, width: int, size: int) -> tuple[Tensor, Tensor]:
    """Flat source positions and weights (n * size * size, 4) of the bilinear taps of each pixel of the view.

    Corner-aligned: the outermost pixel centres of the view fall onto those of the box, so no tap leaves the chip, and a
    box of ``size`` pixels at a whole position is copied unchanged.
    """
    if params.angle is not None:
        return _taps_turned(params, params.angle, height, width, size)
    top, left, bottom, right = (edge[:, None] for edge in params.box.unbind(1))
    steps = torch.arange(size, device=params.box.device, dtype=torch.float32)[None]  # (1, size)
    back = size - 1 - steps
    turns = params.turns[:, None]
    up = (turns == 2) | (turns == 3)
    mirrored = ((turns == 1) | (turns == 2)) ^ params.flip[:, None]
    y = top + torch.where(up, back, steps) * ((bottom - top) / (size - 1))  # (n, size): source row by step along it
    x = left + torch.where(mirrored, back, steps) * ((right - left) / (size - 1))
    odd = turns % 2 == 1  # rows of the view run along columns of the source
    step_i, step_j = torch.where(odd, 1, width), torch.where(odd, width, 1)  # (n, 1)
    i, frac_i = _whole_and_fraction(torch.where(odd, x, y), torch.where(odd, width, height))
    j, frac_j = _whole_and_fraction(torch.where(odd, y, x), torch.where(odd, height, width))
    image = torch.arange(len(turns), device=turns.device)[:, None] * (height * width)
    first = image + i * step_i  # (n, size)
    # Taps in the order (i, j), (i, j + 1), (i + 1, j), (i + 1, j + 1); (n, size * 4), the same for all i.
    beside = torch.stack([j * step_j, (j + 1) * step_j, j * step_j + step_i, (j + 1) * step_j + step_i], dim=-1)
    at_zero = torch.stack([1 - frac_j, frac_j, torch.zeros_like(frac_j), torch.zeros_like(frac_j)], dim=-1)
    slope = torch.stack([frac_j - 1, -frac_j, 1 - frac_j, frac_j], dim=-1)
    small = len(turns) * height * width < 2**31
    kind = torch.int32 if small else torch.int64
    index = first.to(kind)[:, :, None] + beside.to(kind).flatten(1)[:, None, :]
    weight = torch.addcmul(at_zero.flatten(1)[:, None, :], frac_i[:, :, None], slope.flatten(1)[:, None, :])
    return index.view(-1, 4), weight.view(-1, 4)


def _taps_turned(params: ViewParams, angle: Tensor, height: int, width: int, size: int) -> tuple[Tensor, Tensor]:
    """:func:`_taps` of boxes turned about their centres: the source position is a sum of a part of the view's row and
    one of its column, and no longer apart along both axes."""
    top, left, bottom, right = (edge[:, None] for edge in params.box.unbind(1))
    n = len(top)
    steps = torch.arange(size, device=params.box.device, dtype=torch.float32)[None] / (size - 1) - 0.5
    turns = params.turns[:, None]
    up = (turns == 2) | (turns == 3)
    mirrored = ((turns == 1) | (turns == 2)) ^ params.flip[:, None]
    y = torch.where(up, -steps, steps) * (bottom - top)  # (n, size), offsets from the centre along the box's sides
    x = torch.where(mirrored, -steps, steps) * (right - left)
    zero = torch.zeros_like(y)
    down_y, down_x = turned(y, zero, angle[:, None])
    right_y, right_x = turned(zero, x, angle[:, None])
    odd = turns % 2 == 1  # rows of the view run along columns of the source
    by_row = torch.where(odd, right_y, down_y), torch.where(odd, right_x, down_x)
    by_column = torch.where(odd, down_y, right_y), torch.where(odd, down_x, right_x)
    y = ((top + bottom) / 2 + by_row[0])[:, :, None] + by_column[0][:, None]  # (n, size, size)
    x = ((left + right) / 2 + by_row[1])[:, :, None] + by_column[1][:, None]
    i, j = y.floor().clamp_(0, height - 2), x.floor().clamp_(0, width - 2)
    down, right = y.sub_(i).clamp_(0, 1), x.sub_(j).clamp_(0, 1)
    kind = torch.int32 if n * height * width < 2**31 else torch.int64
    image = torch.arange(n, device=y.device, dtype=kind)[:, None, None] * (height * width)
    first = torch.add(image + j.to(kind), i.to(kind), alpha=width)
    # Each tap goes straight to its place: stacking four would copy them once more.
    index, weight = first.new_empty((n, size, size, 4)), y.new_empty((n, size, size, 4))
    for tap, offset in enumerate((0, 1, width, width + 1)):
        torch.add(first, offset, out=index[..., tap])
    both = torch.mul(down, right, out=weight[..., 3])
    torch.sub(down, both, out=weight[..., 2])
    across = torch.sub(right, both, out=weight[..., 1])
    torch.sub(1 - down, across, out=weight[..., 0])
    return index.view(-1, 4), weight.view(-1, 4)


def _whole_and_fraction(position: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
    """Pixel before ``position`` and how far beyond it, so that pixel + 1 still lies inside ``length``."""
    whole = torch.minimum(position.floor().clamp(min=0), (length - 2).to(position.dtype))
    return whole.long(), (position - whole).clamp(0, 1)


def blur(images: Tensor, sigma: Tensor, sigma_max: float) -> Tensor:
    """Gaussian blur of images (k, size, size, band), each with its own ``sigma`` (k,) px; borders are reflected.

    Done as products with one small matrix an image, so that any number of widths costs the same.
    """
    return _along_both_axes(_blur_matrix(sigma, sigma_max, images.shape[1]), images)


def _along_both_axes(matrix: Tensor, images: Tensor) -> Tensor:
    """Images (k, size, size, band) times their matrix (k, size, size) along rows and columns."""
    k, size, _, bands = images.shape
    rows = torch.bmm(matrix, images.reshape(k, size, size * bands)).view(k, size, size, bands)
    # Columns as rows: one wide product is far faster than one of width ``bands`` for every row.
    columns = torch.bmm(matrix, rows.transpose(1, 2).reshape(k, size, size * bands))
    return columns.view(k, size, size, bands).transpose(1, 2)


def _blur_matrix(sigma: Tensor, sigma_max: float, size: int) -> Tensor:
    """Matrices (k, size, size) that blur along one axis with reflected borders (as ``F.pad(mode='reflect')``)."""
    radius = blur_radius(sigma_max, size)
    reach = torch.arange(-radius, radius + 1, device=sigma.device)
    kernel = torch.exp(-(reach.to(sigma.dtype) ** 2) / (2 * sigma[:, None] ** 2))
    kernel = kernel / kernel.sum(dim=1, keepdim=True)  # (k, 2 r + 1)
    target = (torch.arange(size, device=sigma.device)[:, None] + reach).abs()
    target = (size - 1) - ((size - 1) - target).abs()  # (size, 2 r + 1)
    matrix = sigma.new_zeros((len(sigma), size, size))
    shape = (len(sigma), *target.shape)
    return matrix.scatter_add_(2, target.expand(shape), kernel[:, None].expand(shape))
