"""Haze, clouds, larger pixels and small rotations: each against a formula of its own, and both pipelines alike."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from geossl.errors import InputError
from geossl.views.fused import apply_fused, make_small_views, make_views, resample
from geossl.views.kornia_pipeline import apply_kornia
from geossl.views.optics import coarsen_matrix, transmittance
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
WHOLE = {"crop_area": (1.0, 1.0), "crop_ratio": (1.0, 1.0), "dihedral": False}
BANDS = ("blue", "green", "red", "nir", "swir16")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def chips(n: int = 12, bands: int = 5, height: int = 40, width: int = 48):
    values = torch.rand((n, bands, height, width), generator=generator()) * 0.5
    return values, torch.ones((n, height, width), dtype=torch.bool)


# --- both pipelines ---------------------------------------------------------------------------------------------------

NEW = [
    {"haze": 0.8},
    {"haze": 0.8, "bands": BANDS},
    {"cloud": 0.5},
    {"gsd": 1.2},
    {"gsd": 1.2, "blur": 0.0},
    {"rotation_deg": 20.0},
    {"haze": 0.4, "cloud": 0.7, "gsd": 0.7, "rotation_deg": 45.0, "gray": 0.3, "blur": 0.5, "band_drop": 0.5},
]


@pytest.mark.parametrize("view", [0, 1])
@pytest.mark.parametrize("holes", [False, True])
@pytest.mark.parametrize("fields", NEW, ids=lambda fields: "-".join(fields))
def test_fused_and_kornia_give_the_same_views_for_the_same_parameters(fields, holes, view):
    values, clear = chips()
    if holes:
        clear = F.interpolate(torch.rand((12, 1, 5, 6), generator=generator(3)), size=(40, 48))[:, 0] > 0.2
        values = torch.where(clear[:, None], values, torch.nan)
    recipe = Recipe(size=32, **fields)
    params = draw_params(clear, 5, recipe, generator(1), view)
    fused = apply_fused(values, clear, params, recipe)
    assert fused.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(apply_kornia(values, clear, params, recipe), fused, rtol=0, atol=1e-4)


@pytest.mark.parametrize("fields", NEW, ids=lambda fields: "-".join(fields))
def test_a_seed_reproduces_a_batch_and_another_gives_others(fields):
    values, clear = chips()
    recipe = Recipe(size=24, **fields)
    first, again, other = (make_views(values, clear, recipe, generator(seed)) for seed in (7, 7, 8))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])


@pytest.mark.parametrize("fields", NEW, ids=lambda fields: "-".join(fields))
def test_values_of_invalid_pixels_never_enter_a_view(fields):
    values, clear = chips()
    clear[:, 5:20, 8:30] = False
    recipe = Recipe(size=24, **fields)
    expected = make_views(values, clear, recipe, generator())
    for filling in (torch.nan, 1e6):
        filled = torch.where(clear[:, None], values, torch.tensor(filling))
        for a, b in zip(make_views(filled, clear, recipe, generator()), expected, strict=True):
            assert torch.equal(a, b)


def test_operations_that_are_off_change_no_random_number_of_the_others():
    _, clear = chips()
    plain = draw_params(clear, 5, Recipe(noise=0.0), generator())
    everything = draw_params(clear, 5, Recipe(noise=0.0, haze=0.3, cloud=0.5, gsd=0.5), generator())
    assert torch.equal(plain.box, everything.box) and torch.equal(plain.gain, everything.gain)
    assert plain.haze is None and plain.cloud is None and plain.gsd is None and plain.angle is None


# --- rotation ---------------------------------------------------------------------------------------------------------


def test_a_turned_crop_samples_the_turned_box():
    values, clear = chips(8, 3)
    recipe = Recipe(size=24, rotation_deg=30, dihedral=False, **STILL)
    params = draw_params(clear, 3, recipe, generator())
    view = apply_fused(values, clear, params, recipe)
    for i in range(len(values)):  # pixel by pixel, with the formula of a turned rectangle
        top, left, bottom, right = params.box[i].double().tolist()
        angle = float(params.angle[i])
        for row, column in ((0, 0), (0, 23), (23, 0), (11, 7)):
            down, across = (row / 23 - 0.5) * (bottom - top), (column / 23 - 0.5) * (right - left)
            y = (top + bottom) / 2 + down * math.cos(angle) + across * math.sin(angle)
            x = (left + right) / 2 + across * math.cos(angle) - down * math.sin(angle)
            i0, j0 = min(int(y), 38), min(int(x), 46)
            fy, fx = y - i0, x - j0
            patch = values[i, :, i0 : i0 + 2, j0 : j0 + 2].double()
            expected = (1 - fy) * ((1 - fx) * patch[:, 0, 0] + fx * patch[:, 0, 1]) + fy * (
                (1 - fx) * patch[:, 1, 0] + fx * patch[:, 1, 1]
            )
            torch.testing.assert_close(view[i, :, row, column].double(), expected, rtol=0, atol=2e-5)


def test_turned_boxes_never_leave_the_chip_and_turn_both_ways():
    _, clear = chips(400, 1, 30, 50)
    params = draw_params(clear, 1, Recipe(crop_area=(0.3, 1.0), rotation_deg=45), generator())
    top, left, bottom, right = params.box.double().unbind(1)
    cos, sin = params.angle.double().cos(), params.angle.double().sin().abs()
    half_tall = ((bottom - top) * cos + (right - left) * sin) / 2
    half_wide = ((right - left) * cos + (bottom - top) * sin) / 2
    middle_y, middle_x = (top + bottom) / 2, (left + right) / 2
    assert (middle_y - half_tall).min() > -1e-3 and (middle_y + half_tall).max() < 29 + 1e-3
    assert (middle_x - half_wide).min() > -1e-3 and (middle_x + half_wide).max() < 49 + 1e-3
    assert -45 < params.angle.rad2deg().min() < -40 and 40 < params.angle.rad2deg().max() < 45


def test_turned_crops_with_too_few_valid_pixels_are_drawn_again():
    _, clear = chips(300, 1, 40, 40)
    clear[:, :, 20:] = False  # half of every chip is cloud
    recipe = Recipe(size=16, crop_area=(0.1, 0.2), rotation_deg=30, **STILL)
    params = draw_params(clear, 1, recipe, generator())
    _, valid = resample(clear[:, None].float(), clear, params, 16)
    assert (valid.float().mean(dim=1) >= 0.55).float().mean() > 0.97


def test_no_rotation_within_rotations_is_the_plain_crop():
    values, clear = chips()
    recipe = Recipe(size=32, **STILL)
    params = draw_params(clear, 5, recipe, generator())
    upright = vars(params) | {"angle": torch.zeros(12)}
    torch.testing.assert_close(
        apply_fused(values, clear, type(params)(**upright), recipe),
        apply_fused(values, clear, params, recipe),
        rtol=0,
        atol=2e-5,
    )


# --- haze -------------------------------------------------------------------------------------------------------------


def test_haze_is_a_veil_that_is_thicker_in_blue_than_in_the_infrared():
    values, clear = chips()
    recipe = Recipe(size=40, haze=0.5, **STILL, **WHOLE).for_bands(BANDS)
    params = draw_params(clear[..., :40], 5, recipe, generator())
    view = apply_fused(values[..., :40], clear[..., :40], params, recipe)
    passed = params.haze[:, :, None, None]
    torch.testing.assert_close(view, passed * values[..., :40] + (1 - passed) * 0.5)
    assert (params.haze[:, :-1] < params.haze[:, 1:]).all()  # the bands are in order of wavelength


def test_haze_follows_angstroms_law():
    thickness = torch.tensor([0.0, 0.2, 0.4])
    passed = transmittance(thickness, [0.55, 1.1])
    assert torch.equal(passed[0], torch.ones(2))
    torch.testing.assert_close(passed[:, 0], torch.exp(-0.25 * thickness))
    torch.testing.assert_close(passed[:, 1].log(), passed[:, 0].log() * 2**-1.3)
    assert 0.04 < (1 - transmittance(thickness, [0.49])[2, 0]) * 0.5 < 0.07


def test_haze_lowers_contrast_about_the_hazy_mean():
    """Haze first, then gain, then contrast, as the order of the fields says."""
    values, clear = chips(width=40)
    fields = {**STILL, "gain": 0.3, "contrast": (0.5, 2.0), "offset": 0.02}
    recipe = Recipe(size=40, haze=1.0, **fields, **WHOLE)
    params = draw_params(clear, 5, recipe, generator())
    hazy = params.haze[:, :, None, None] * values + (1 - params.haze[:, :, None, None]) * 0.5
    bright = hazy * params.gain[:, :, None, None]
    mean = bright.mean((2, 3), keepdim=True)
    expected = mean + (bright - mean) * params.contrast[:, None, None, None] + params.offset[:, None, None, None]
    torch.testing.assert_close(apply_fused(values, clear, params, recipe), expected)


def test_haze_needs_bands_of_known_wavelength_only_where_it_is_asked_for():
    radar = Recipe(size=16, pipeline="kornia").for_bands(["vv", "vh"])
    assert radar.bands == ("vv", "vh")
    assert make_views(*chips(bands=2), radar, generator())[0].isfinite().all()
    for recipe in (Recipe(haze=0.1), Recipe(second={"haze": 0.1})):
        with pytest.raises(InputError, match="band vv"):
            recipe.for_bands(["red", "vv"])


def test_a_recipe_for_other_bands_is_refused():
    values, clear = chips()
    with pytest.raises(InputError, match="3 bands: blue, green, red"):
        make_views(values, clear, Recipe(size=16).for_bands(BANDS[:3]), generator())


# --- clouds -----------------------------------------------------------------------------------------------------------


def test_clouds_hide_part_of_the_wanted_share_of_views_and_cast_a_shadow():
    values, clear = torch.full((40, 3, 32, 32), 0.2), torch.ones((40, 32, 32), dtype=torch.bool)
    recipe = Recipe(size=32, cloud=0.25, **STILL, **WHOLE)
    views = make_views(values, clear, recipe, generator())
    for view in views:
        touched = ((view - 0.2).abs() > 1e-4).flatten(1).any(1)
        assert touched.sum() == 10
        hit = view[touched, 0]
        covered = (hit > 0.28).float().mean((1, 2))
        shaded = (hit < 0.17).float().mean((1, 2))
        assert 0.05 < covered.mean() < 0.3 and covered.max() < 0.5
        assert 0.03 < shaded.mean() < 0.3
        assert hit.max() < 0.76 and hit.min() > 0.2 * 0.29
    both = [((view - 0.2).abs() > 1e-4).flatten(1).any(1) for view in views]
    assert not (both[0] & both[1]).any()  # the two views of a pair differ


def test_the_shadow_has_the_clouds_shape_beside_it():
    recipe = Recipe(size=48, cloud=1.0, **STILL, **WHOLE)
    clear = torch.ones((20, 48, 48), dtype=torch.bool)
    params = draw_params(clear, 1, recipe, generator(5))
    cloud = vars(params.cloud) | {"level": torch.full((20,), 0.2)}  # as bright as the ground: only the shadow shows
    alone = vars(params) | {"cloud": type(params.cloud)(**cloud)}
    view = apply_fused(torch.full((20, 1, 48, 48), 0.2), clear, type(params)(**alone), recipe)
    assert view.max() <= 0.2 + 1e-6 and view.min() < 0.13
    distance = params.cloud.shift.norm(dim=1)
    assert distance.min() >= 0.15 - 1e-6 and distance.max() <= 0.35 + 1e-6


# --- ground sampling distance -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [2, 4])
def test_whole_factors_are_block_means_interpolated_back(factor):
    images = torch.rand((2, 3, 24, 24), generator=generator())
    matrix = coarsen_matrix(torch.full((2,), float(factor)), 24)[:, None]
    blocks = F.avg_pool2d(images, factor)
    expected = F.interpolate(blocks, scale_factor=factor, mode="bilinear", align_corners=False)
    torch.testing.assert_close(matrix @ images @ matrix.transpose(-1, -2), expected)


def test_factor_one_is_the_identity_and_every_factor_keeps_flat_fields_and_averages():
    torch.testing.assert_close(coarsen_matrix(torch.ones(1), 17)[0], torch.eye(17))
    matrix = coarsen_matrix(torch.linspace(1, 3.7, 28), 20)
    torch.testing.assert_close(matrix.sum(2), torch.ones(28, 20))
    assert matrix.min() >= 0
    sharpness = matrix.diagonal(dim1=1, dim2=2).mean(1)
    assert (sharpness[1:] < sharpness[:-1] + 0.02).all() and sharpness[-1] < 0.4


def test_the_factor_is_log_uniform_up_to_the_strength():
    _, clear = chips(2000, 1, 8, 8)
    factor = draw_params(clear, 1, Recipe(size=8, gsd=0.7), generator()).gsd
    assert factor.min() >= 1 and factor.max() <= math.exp(0.7)
    assert factor.log().mean().item() == pytest.approx(0.35, abs=0.02)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("fields", [{}, *NEW], ids=lambda fields: "-".join(fields))
def test_a_gpu_never_makes_the_host_wait(fields):
    values, clear = chips()
    clear[:, :7] = False
    values, clear = values.cuda().contiguous(memory_format=torch.channels_last), clear.cuda()
    recipe, on_gpu = Recipe(size=24, small_views=1, small_size=16, **fields), torch.Generator("cuda").manual_seed(0)
    make_views(values, clear, recipe, on_gpu)
    try:
        torch.cuda.set_sync_debug_mode("error")
        made = make_views(values, clear, recipe, on_gpu) + make_small_views(values, clear, recipe, on_gpu)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(view.isfinite().all() for view in made)
