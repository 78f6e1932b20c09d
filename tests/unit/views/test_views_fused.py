"""Fused views: geometry, radiometry, validity and reproducibility, each against something computed otherwise."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from geossl.errors import InputError
from geossl.views.fused import apply_fused, blur, make_views, resample
from geossl.views.kornia_pipeline import apply_kornia
from geossl.views.params import draw_params
from geossl.views.recipe import Recipe

STILL = {
    "gain": 0.0,
    "band_gain": 0.0,
    "contrast": (1.0, 1.0),
    "offset": 0.0,
    "band_drop": 0.0,
    "gray": 0.0,
    "blur": 0.0,
    "noise": 0.0,
}
"""A recipe without radiometry."""
WHOLE = {"crop_area": (1.0, 1.0), "crop_ratio": (1.0, 1.0)}


def chips(n: int = 6, bands: int = 4, height: int = 32, width: int = 32, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    values = torch.rand((n, bands, height, width), generator=generator) * 0.5
    return values, torch.ones((n, height, width), dtype=torch.bool)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# --- geometry ---------------------------------------------------------------------------------------------------------


def test_a_whole_crop_without_radiometry_is_the_chip_itself():
    values, clear = chips()
    view = make_views(values, clear, Recipe(size=32, dihedral=False, **STILL, **WHOLE), generator(), 1)[0]
    assert torch.equal(view, values)


def test_whole_crops_are_the_eight_flips_and_turns_pixel_by_pixel_and_equally_likely():
    values, clear = chips(400, 2, 8, 8)
    view = make_views(values, clear, Recipe(size=8, **STILL, **WHOLE), generator(), 1)[0]
    eight = [torch.rot90(image, k, (2, 3)) for image in (values, values.flip(3)) for k in range(4)]
    which = torch.stack([(view == image).flatten(1).all(1) for image in eight])  # (8, n)
    assert (which.sum(0) == 1).all()
    assert which.sum(1).min() > 25 and which.sum(1).max() < 80


@pytest.mark.parametrize(("height", "width", "size"), [(40, 40, 24), (30, 50, 32), (24, 24, 48)])
def test_a_crop_equals_grid_sample_over_the_same_box(height, width, size):
    values, clear = chips(5, 3, height, width)
    recipe = Recipe(size=size, dihedral=False, **STILL)
    params = draw_params(clear, 3, recipe, generator())
    view = apply_fused(values, clear, params, recipe)
    top, left, bottom, right = params.box.unbind(1)
    steps = torch.linspace(0, 1, size)
    y = (top[:, None] + steps * (bottom - top)[:, None]) / (height - 1) * 2 - 1
    x = (left[:, None] + steps * (right - left)[:, None]) / (width - 1) * 2 - 1
    grid = torch.stack([x[:, None].expand(-1, size, -1), y[:, :, None].expand(-1, -1, size)], dim=-1)
    torch.testing.assert_close(view, F.grid_sample(values, grid, align_corners=True), rtol=0, atol=2e-5)


def test_boxes_stay_in_the_chip_and_cover_the_wanted_share():
    _, clear = chips(500, 1, 40, 60)
    box = draw_params(clear, 1, Recipe(crop_area=(0.3, 0.7)), generator()).box
    top, left, bottom, right = box.unbind(1)
    assert (top >= 0).all() and (left >= 0).all() and (bottom <= 39).all() and (right <= 59).all()
    share = (bottom - top + 1) * (right - left + 1) / (40 * 60)
    assert share.min() >= 0.29 and share.max() <= 0.71 and share.std() > 0.08


def test_memory_layout_changes_nothing_and_views_come_out_bands_last():
    values, clear = chips()
    recipe = Recipe(size=16)
    first = make_views(values, clear, recipe, generator())
    second = make_views(values.contiguous(memory_format=torch.channels_last), clear, recipe, generator())
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a, b) and a.is_contiguous(memory_format=torch.channels_last)


# --- equality with the plain Kornia pipeline --------------------------------------------------------------------------


@pytest.mark.parametrize("view", [0, 1])
@pytest.mark.parametrize("holes", [False, True])
def test_the_kornia_pipeline_gives_the_same_views_for_the_same_parameters(holes, view):
    values, clear = chips(12, 5, 40, 48)
    if holes:
        clear = F.interpolate(torch.rand((12, 1, 5, 6), generator=generator(3)), size=(40, 48))[:, 0] > 0.2
        values = torch.where(clear[:, None], values, torch.nan)
    recipe = Recipe(size=32, band_drop=0.4, gray=0.2, blur=0.5)
    params = draw_params(clear, 5, recipe, generator(), view)
    fused = apply_fused(values, clear, params, recipe)
    torch.testing.assert_close(apply_kornia(values, clear, params, recipe), fused, rtol=0, atol=1e-4)


def test_quarter_turns_on_the_chips_own_grid_are_equal_but_for_rounding():
    values, clear = chips(16, 3)
    recipe = Recipe(size=32, **STILL, **WHOLE)
    params = draw_params(clear, 3, recipe, generator())
    torch.testing.assert_close(
        apply_kornia(values, clear, params, recipe), apply_fused(values, clear, params, recipe), rtol=0, atol=1e-5
    )


def test_the_recipe_selects_the_pipeline():
    values, clear = chips()
    for a, b in zip(
        make_views(values, clear, Recipe(size=16), generator()),
        make_views(values, clear, Recipe(size=16, pipeline="kornia"), generator()),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-4)


# --- radiometry -------------------------------------------------------------------------------------------------------


def test_gain_contrast_and_offset_follow_their_formula():
    values, clear = chips()
    recipe = Recipe(size=32, dihedral=False, **{**STILL, "gain": 0.3, "band_gain": 0.1, "offset": 0.05}, **WHOLE)
    recipe = recipe.model_copy(update={"contrast": (0.5, 2.0)})
    params = draw_params(clear, 4, recipe, generator())
    bright = values * params.gain[:, :, None, None]
    mean = bright.mean((2, 3), keepdim=True)
    expected = mean + (bright - mean) * params.contrast[:, None, None, None] + params.offset[:, None, None, None]
    torch.testing.assert_close(apply_fused(values, clear, params, recipe), expected)


def test_strengths_stay_in_their_limits():
    _, clear = chips(2000, 1, 8, 8)
    params = draw_params(clear, 3, Recipe(gain=0.25, band_gain=0.08, offset=0.01, contrast=(0.8, 1.25)), generator())
    log_gain = params.gain.log()
    assert log_gain.abs().max() <= 0.33 and log_gain.mean().abs() < 0.02
    assert (log_gain - log_gain.mean(1, keepdim=True)).abs().max() <= 0.16
    assert params.offset.abs().max() <= 0.01 and params.contrast.min() >= 0.8 and params.contrast.max() <= 1.25


def test_reflectance_is_never_clamped():
    values, clear = chips()
    values = values * 4 - 1  # brighter than white, darker than black
    views = torch.cat(make_views(values, clear, Recipe(size=32, gain=0.0), generator()))
    assert views.max() > 1.2 and views.min() < -0.5


def test_a_dropped_band_is_flat_at_its_mean_and_the_share_is_kept():
    values, clear = chips(1000, 4, 8, 8)
    recipe = Recipe(size=8, **{**STILL, "band_drop": 0.3}, **WHOLE)
    view = make_views(values, clear, recipe, generator(), 1)[0]
    flat = view.flatten(2).std(2) < 1e-5  # (n, band)
    assert flat.sum(1).max() == 1
    assert 0.25 < flat.any(1).float().mean() < 0.35 and (flat.sum(0) > 40).all()
    torch.testing.assert_close(view.mean((2, 3)), values.mean((2, 3)))


def test_gray_views_have_equal_bands_in_the_wanted_share():
    values, clear = chips(40)
    view = make_views(values, clear, Recipe(size=32, **{**STILL, "gray": 0.25}), generator(), 1)[0]
    gray = (view == view[:, :1]).flatten(1).all(1)
    assert gray.sum() == 10


def test_blur_equals_a_gaussian_convolution_with_reflected_borders():
    images = chips(3, 2, 20, 20)[0].permute(0, 2, 3, 1)
    sigma = torch.tensor([0.4, 1.0, 1.5])
    out = blur(images, sigma, 1.5)
    reach = torch.arange(-5, 6.0)
    for image, width, blurred in zip(images, sigma, out, strict=True):
        kernel = torch.exp(-(reach**2) / (2 * width**2))
        kernel = torch.outer(kernel, kernel) / kernel.sum() ** 2
        padded = F.pad(image.permute(2, 0, 1)[:, None], (5, 5, 5, 5), mode="reflect")
        expected = F.conv2d(padded, kernel[None, None])[:, 0].permute(1, 2, 0)
        torch.testing.assert_close(blurred, expected, rtol=1e-4, atol=1e-6)


def test_the_two_views_of_a_pair_are_blurred_at_different_ends_of_the_batch():
    _, clear = chips(10)
    first, second = (draw_params(clear, 4, Recipe(blur=0.3), generator(), view) for view in (0, 1))
    assert (first.blur, second.blur) == (slice(0, 3), slice(7, 10))


def test_noise_has_the_wanted_spread_and_differs_between_chips_and_views():
    values, clear = chips(8)
    recipe = Recipe(size=32, dihedral=False, **{**STILL, "noise": 0.02}, **WHOLE)
    first, second = (view - values for view in make_views(values, clear, recipe, generator()))
    assert first.std().item() == pytest.approx(0.02, rel=0.05) and abs(first.mean().item()) < 1e-3
    flat = torch.cat([first, second]).flatten(1)
    correlation = torch.corrcoef(flat) - torch.eye(16)
    assert correlation.abs().max() < 0.1


# --- validity ---------------------------------------------------------------------------------------------------------


def test_values_of_invalid_pixels_never_enter_a_view():
    values, clear = chips(12)
    clear[:, 5:15, 8:20] = False
    hole = ~clear[:, None].expand_as(values)
    recipe = Recipe(size=24)
    expected = make_views(values, clear, recipe, generator())
    for filling in (torch.nan, torch.inf, 1e6, -0.1):
        filled = torch.where(hole, torch.tensor(filling), values)
        for a, b in zip(make_views(filled, clear, recipe, generator()), expected, strict=True):
            assert torch.equal(a, b)


def test_invalid_pixels_hold_the_mean_of_the_views_valid_ones():
    values, clear = chips()
    clear[:, :10] = False
    recipe = Recipe(size=32, dihedral=False, min_valid=0.0, **STILL, **WHOLE)
    view = make_views(values, clear, recipe, generator(), 1)[0]
    assert torch.equal(view[:, :, 10:], values[:, :, 10:])
    mean = values[:, :, 10:].mean((2, 3))
    torch.testing.assert_close(view[:, :, :10], mean[:, :, None, None].expand(-1, -1, 10, 32))


def test_the_mask_goes_through_the_same_geometry_as_the_pixels():
    values, clear = chips(20, 2, 32, 32)
    clear[:, 4:14, 6:22] = False
    values = torch.where(clear[:, None], values, 9.0)
    recipe = Recipe(size=32, min_valid=0.0, **STILL)
    params = draw_params(clear, 2, recipe, generator())
    _, valid = resample(values, clear, params, 32)
    everywhere = torch.ones_like(clear)
    share = resample(clear[:, None].float(), everywhere, params, 32)[0][..., 0]
    assert torch.equal(valid.view(20, 32, 32)[(share - 0.5).abs() > 1e-3], share[(share - 0.5).abs() > 1e-3] > 0.5)


def test_crops_with_too_few_valid_pixels_are_drawn_again():
    _, clear = chips(300, 1, 40, 40)
    clear[:, :, 20:] = False  # half of every chip is cloud
    recipe = Recipe(size=16, crop_area=(0.1, 0.2), min_valid=0.6)
    top, left, bottom, right = draw_params(clear, 1, recipe, generator()).box.round().long().unbind(1)
    share = torch.stack(
        [clear[i, top[i] : bottom[i] + 1, left[i] : right[i] + 1].float().mean() for i in range(len(clear))]
    )
    assert (share >= 0.6).float().mean() > 0.98


def test_where_no_crop_is_clear_enough_the_clearest_is_taken():
    _, clear = chips(50, 1, 40, 40)
    clear[:] = False
    clear[:, ::2] = True  # every crop is half valid
    box = draw_params(clear, 1, Recipe(size=16, crop_area=(0.2, 0.5), min_valid=0.9), generator()).box
    assert box.isfinite().all()
    values = torch.rand(50, 1, 40, 40)
    assert make_views(values, clear, Recipe(size=16, min_valid=0.9), generator(), 1)[0].isfinite().all()


def test_a_chip_without_any_valid_pixel_gives_a_finite_view_and_harms_no_other():
    values, clear = chips(4)
    recipe = Recipe(size=16)
    expected = make_views(values, clear, recipe, generator(), 1)[0]
    clear[1] = False
    values[1] = torch.nan
    view = make_views(values, clear, recipe, generator(), 1)[0]
    assert view.isfinite().all()
    torch.testing.assert_close(view[[0, 2, 3]], expected[[0, 2, 3]])
    assert make_views(values, torch.zeros_like(clear), recipe, generator(), 1)[0].isfinite().all()


# --- reproducibility --------------------------------------------------------------------------------------------------


def test_one_generator_decides_everything():
    values, clear = chips()
    torch.manual_seed(1)
    first = make_views(values, clear, Recipe(size=16), generator(7))
    torch.manual_seed(2)
    again, other = (make_views(values, clear, Recipe(size=16), generator(seed)) for seed in (7, 8))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0]) and not torch.equal(first[0], first[1])


def test_views_do_not_depend_on_what_was_made_before():
    values, clear = chips()
    make_views(*chips(3, 4, 64, 64), Recipe(size=64), generator())  # another need of noise
    first = make_views(values, clear, Recipe(size=16), generator())
    second = make_views(values, clear, Recipe(size=16), generator())
    assert torch.equal(first[0], second[0])


def test_autocast_around_the_call_changes_nothing():
    values, clear = chips()
    clear[:, :5] = False
    plain = make_views(values, clear, Recipe(size=16), generator())[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(make_views(values, clear, Recipe(size=16), generator())[0], plain)


def test_the_chips_themselves_stay_as_they_are():
    values, clear = chips()
    values = values.contiguous(memory_format=torch.channels_last)
    before = values.clone()
    make_views(values, clear, Recipe(size=32, dihedral=False, **WHOLE), generator())
    assert torch.equal(values, before)


@pytest.mark.parametrize("shape", [(2, 3, 8), (2, 3, 8, 9), (2, 3, 1, 8)])
def test_shapes_that_are_no_chips_are_refused(shape):
    with pytest.raises(InputError, match="no chips"):
        make_views(torch.rand(shape), torch.ones((2, 8, 8), dtype=torch.bool), Recipe(size=8), generator())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_makes_valid_views_from_its_own_generator():
    values, clear = chips(8)
    clear[:, :7] = False
    values = torch.where(clear[:, None], values, torch.nan)
    made = [
        make_views(values.cuda(), clear.cuda(), Recipe(size=24), torch.Generator("cuda").manual_seed(0))
        for _ in range(2)
    ]
    assert all(view.isfinite().all() for view in made[0]) and torch.equal(made[0][0], made[1][0])
    assert math.isfinite(made[0][1].std().item())
