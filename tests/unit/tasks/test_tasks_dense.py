"""Given maps at strides and pixels that are not clear; then everything lies where it belongs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from geossl.encoders.saved import Encoder
from geossl.evaluation.controls import rich_statistics
from geossl.tasks.dense import pad_to, sample, upsample
from geossl.tasks.heads import PixelNet
from geossl.tasks.spectral import chip_statistics, normalised_difference, pixel_planes, plane_names, statistic_count

BANDS = ("green", "red", "nir", "swir16")
MEAN, STD = torch.tensor([0.07, 0.07, 0.16, 0.12]), torch.tensor([0.02, 0.03, 0.14, 0.10])


def test_cell_i_of_a_map_lies_at_pixel_i_times_the_stride() -> None:
    maps = torch.arange(20.0).reshape(1, 1, 4, 5)
    full = upsample(maps, 8)
    assert full.shape == (1, 1, 32, 40)
    assert torch.equal(full[..., ::8, ::8], maps)
    assert full[0, 0, 0, 4] == pytest.approx(0.5)


def test_an_encoders_response_to_a_spot_is_upsampled_onto_the_spot(encoder: Encoder) -> None:
    """The centre of mass of what changes must be the pixel that changed, to a fraction of the stride."""
    spot = torch.zeros(1, 4, 128, 128)
    spot[..., 64, 64] = 10.0
    for stride, with_spot, without in zip(
        encoder.strides, encoder.backbone.features(spot), encoder.backbone.features(torch.zeros_like(spot)), strict=True
    ):
        if stride > 8:
            continue
        change = upsample((with_spot - without).abs().sum(1, keepdim=True).detach(), stride)[0, 0]
        rows = (change.sum(1) * torch.arange(128.0)).sum() / change.sum()
        assert abs(float(rows) - 64) < 0.35 * stride


def test_single_pixels_are_read_as_the_whole_map_would_be() -> None:
    generator = torch.Generator().manual_seed(0)
    maps = [torch.randn(1, 3, 8, 8, generator=generator), torch.randn(1, 2, 2, 2, generator=generator)]
    rows, columns = torch.tensor([0, 5, 31, 17]), torch.tensor([0, 30, 31, 2])
    read = sample(maps, (4, 16), rows, columns)
    whole = torch.cat([upsample(maps[0], 4), upsample(maps[1], 16)], 1)[0][:, rows, columns].T
    assert torch.allclose(read, whole, atol=1e-5)


def test_padding_repeats_the_edge_up_to_the_stride() -> None:
    padded = pad_to(torch.arange(6.0).reshape(1, 1, 2, 3), 4)
    assert padded.shape == (1, 1, 4, 4) and padded[0, 0, 3, 3] == 5


def test_what_is_not_clear_has_no_influence_on_clear_pixels(encoder: Encoder) -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.rand(1, 4, 64, 64, generator=generator) * 0.3
    clear = torch.rand(1, 64, 64, generator=generator) > 0.3
    other = torch.where(clear[:, None], values, 77.0)
    net = PixelNet(encoder, 2).eval()
    with torch.inference_mode():
        same = net(values, clear) == net(other, clear)
    assert same.all()
    assert torch.equal(
        chip_statistics(values, clear, BANDS, MEAN, STD), chip_statistics(other, clear, BANDS, MEAN, STD)
    )


def test_indices_are_normalised_differences_and_dark_pixels_are_zero() -> None:
    values = torch.tensor([0.1, 0.05, 0.4, 0.2]).reshape(1, 4, 1, 1)
    assert normalised_difference(values, "ndmi", BANDS).item() == pytest.approx((0.4 - 0.2) / 0.6)
    assert normalised_difference(values, "ndvi", ("green", "red", "nir08", "swir16")).item() == pytest.approx(
        0.35 / 0.45
    )
    assert normalised_difference(torch.full_like(values, -0.01), "ndvi", BANDS).item() == 0


def test_local_planes_are_mean_and_spread_of_the_neighbourhood() -> None:
    values = torch.rand(1, 4, 9, 9, generator=torch.Generator().manual_seed(2))
    clear = torch.ones(1, 9, 9, dtype=torch.bool)
    clear[0, 4, 4] = False
    planes = pixel_planes(values, clear, BANDS, MEAN, STD, local=True)[0]
    names = plane_names(BANDS, local=True)
    around = ((values[0, 2, 2:7, 2:7] - MEAN[2]) / STD[2])[clear[0, 2:7, 2:7]]
    assert planes[names.index("nir mean"), 4, 4].item() == pytest.approx(around.mean().item(), abs=1e-4)
    assert planes[names.index("nir spread"), 4, 4].item() == pytest.approx(around.std(unbiased=False).item(), abs=1e-3)


def test_chip_statistics_are_those_of_the_control_in_other_units() -> None:
    """On every second pixel repeated, percentiles of a quarter of the pixels are exact."""
    small = torch.rand(3, 4, 8, 8, generator=torch.Generator().manual_seed(3)) * 0.4
    values = small.repeat_interleave(2, 2).repeat_interleave(2, 3)
    clear = torch.ones(3, 16, 16, dtype=torch.bool)
    clear[1, :4] = False
    ours = chip_statistics(values, clear, BANDS, torch.zeros(4), torch.ones(4)).numpy()
    assert ours.shape == (3, statistic_count(BANDS))
    theirs = rich_statistics(values.numpy(), clear.numpy(), BANDS)
    means = ours[:, :4]
    assert np.allclose(means, theirs[:, :4], atol=1e-5)
    planes = len(plane_names(BANDS, local=False))
    p90 = ours[:, 3 * planes : 3 * planes + 4]
    assert np.allclose(p90, theirs[:, 12:16], atol=0.02)
    assert np.allclose(ours[:, -4:], theirs[:, -4:], atol=1e-5)


def test_a_chip_without_a_clear_pixel_has_finite_statistics() -> None:
    values = torch.full((1, 4, 8, 8), 50.0)
    statistics = chip_statistics(values, torch.zeros(1, 8, 8, dtype=torch.bool), BANDS, MEAN, STD)
    assert torch.isfinite(statistics).all() and statistics[0, :4].abs().max() < 1e-5
