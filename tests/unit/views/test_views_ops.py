"""The Kornia operations on their own: composable, unclamped, steered by ``params=``."""

from __future__ import annotations

import kornia.augmentation as K
import pytest
import torch

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

ALL = [
    RandomGain(0.25),
    RandomBandGain(0.1),
    RandomOffset(0.05),
    RandomBandContrast((0.5, 2.0)),
    RandomBandDrop(p=1.0),
    RandomBandGray(p=1.0),
    RandomSensorNoise(0.01),
    RandomHaze(0.4),
    RandomCloudShadow(p=1.0),
    RandomGSD(0.5),
]
IMAGES = torch.rand(4, 12, 16, 16, generator=torch.Generator().manual_seed(0)) * 3 - 1


@pytest.mark.parametrize("op", ALL, ids=lambda op: type(op).__name__)
def test_every_op_changes_all_images_repeats_by_its_parameters_and_never_clamps(op):
    torch.manual_seed(0)
    out = op(IMAGES)
    assert out.shape == IMAGES.shape
    assert ((out - IMAGES).abs().flatten(1).amax(1) > 0).all()
    assert torch.equal(op(IMAGES, params=op._params), out)
    if not isinstance(op, RandomBandGray | RandomGSD):  # these two average
        assert out.max() > 1.3 and out.min() < -0.3


@pytest.mark.parametrize(
    "op",
    [RandomGain(0.25, p=0.5), RandomBandDrop(p=0.5), RandomBandGray(p=0.5), RandomCloudShadow(p=0.5)],
    ids=lambda op: type(op).__name__,
)
def test_images_that_the_probability_skips_are_left_alone(op):
    params = {**op.forward_parameters(IMAGES.shape), "batch_prob": torch.tensor([0.0, 1.0, 0.0, 1.0])}
    changed = (op(IMAGES, params=params) != IMAGES).flatten(1).any(1)
    assert changed.tolist() == [False, True, False, True]


def test_ops_compose_with_kornias_own_and_leave_masks_to_the_geometry():
    torch.manual_seed(0)
    pipeline = K.AugmentationSequential(
        K.RandomHorizontalFlip(p=1.0), *ALL[:4], *ALL[6:], K.RandomVerticalFlip(p=1.0), data_keys=["input", "mask"]
    )
    mask = (torch.rand(4, 1, 16, 16) > 0.5).float()
    out, turned = pipeline(IMAGES, mask)
    assert out.shape == IMAGES.shape and torch.equal(turned, mask.flip(2, 3))


def test_each_op_does_what_it_says():
    flat = IMAGES.flatten(2)
    torch.manual_seed(0)
    gained = RandomGain(0.25)(IMAGES) / IMAGES
    torch.testing.assert_close(gained, gained[:, :1, :1, :1].expand_as(gained))
    assert gained.min() > 0.77 and gained.max() < 1.29
    by_band = RandomBandGain(0.1)(IMAGES) / IMAGES
    torch.testing.assert_close(by_band, by_band[..., :1, :1].expand_as(by_band))
    assert by_band[0, :, 0, 0].std() > 0.01
    added = RandomOffset(0.05)(IMAGES) - IMAGES
    assert added.abs().max() <= 0.0501 and added.flatten(1).std(1).max() < 1e-6
    stretched = RandomBandContrast((2.0, 2.0))(IMAGES).flatten(2)
    torch.testing.assert_close(stretched.mean(2), flat.mean(2))
    torch.testing.assert_close(stretched.std(2), 2 * flat.std(2))
    dropped = RandomBandDrop(p=1.0)(IMAGES).flatten(2)
    assert ((dropped.std(2) < 1e-6).sum(1) == 1).all()
    torch.testing.assert_close(dropped.mean(2), flat.mean(2))
    gray = RandomBandGray(p=1.0)(IMAGES)
    torch.testing.assert_close(gray, IMAGES.mean(1, keepdim=True).expand_as(gray))
    noise = RandomSensorNoise(0.01)(IMAGES) - IMAGES
    assert noise.std().item() == pytest.approx(0.01, rel=0.05)


def test_haze_tends_to_the_colour_of_the_air_and_clouds_to_white():
    torch.manual_seed(0)
    thick = RandomHaze(1e9)(IMAGES)
    torch.testing.assert_close(thick, torch.full_like(IMAGES, 0.5))
    dark = torch.zeros(8, 2, 40, 60)  # not square: a cloud spans both sides alike
    clouds = RandomCloudShadow(p=1.0)
    out = clouds(dark)
    level = clouds._params["level"][:, None, None, None]
    assert (out <= level + 1e-6).all() and out.amax() > 0.9 * level.min() and out.min() >= 0
    shaded = clouds(dark + 1, params=clouds._params)
    assert shaded.min() < 0.75 and shaded.max() <= 1


def test_a_rotated_crop_takes_masks_along_and_stays_inside_the_image():
    torch.manual_seed(0)
    crop = RandomRotatedCrop((24, 24), (0.3, 0.9), (0.75, 4 / 3), degrees=30)
    y, x = torch.meshgrid(torch.arange(40.0), torch.arange(60.0), indexing="ij")
    places = torch.stack([y, x])[None].expand(200, 2, 40, 60)
    pipeline = K.AugmentationSequential(crop, data_keys=["input", "mask"])
    out, mask = pipeline(places, torch.ones(200, 1, 40, 60))
    assert out.shape == (200, 2, 24, 24) and (mask == 1).all()
    along = out[:, :, 0, -1] - out[:, :, 0, 0]  # (y, x) along the view's upper side
    angle = torch.atan2(along[:, 0], along[:, 1]).rad2deg()
    assert -30.1 < angle.min() < -20 and 20 < angle.max() < 30.1
    assert out[:, 0].min() > -1e-3 and out[:, 0].max() < 39.001
    assert out[:, 1].min() > -1e-3 and out[:, 1].max() < 59.001
    assert torch.equal(crop(places, params=crop._params), out)


def test_a_rotated_crop_without_rotation_is_kornias_own():
    crops = [
        RandomRotatedCrop((16, 16), (0.3, 0.9), (0.75, 4 / 3), degrees=0),
        K.RandomResizedCrop((16, 16), (0.3, 0.9), (0.75, 4 / 3), cropping_mode="resample"),
    ]
    out = []
    for crop in crops:
        torch.manual_seed(3)
        out.append(crop(IMAGES))
    assert torch.equal(*out)
