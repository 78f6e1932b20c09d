"""Given a head; then maps get the probabilities that were fitted, from any number of dates, before and after saving."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from geossl.artefacts import write_manifest
from geossl.encoders.saved import Encoder
from geossl.errors import InputError
from geossl.tasks.heads import KIND, WEIGHTS, ChipNet, Head, PixelNet, load_head, save_weights
from geossl.tasks.linear import Linear
from geossl.tasks.spec import TaskSpec

PIXELS = TaskSpec.model_validate(
    {"name": "t", "title": "T", "kind": "segmentation", "classes": [{"name": "a"}, {"name": "b"}, {"name": "c"}]}
)
LABELS = PIXELS.model_copy(update={"kind": "multilabel"})


def linear(width: int, outputs: int = 3) -> Linear:
    rng = np.random.default_rng(4)
    return Linear("multinomial", rng.normal(0, 0.05, (outputs, width)), rng.normal(size=outputs), 1.0)


def images(seed: int = 0, dates: int = 1, side: int = 48) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(2, dates, 4, side, side, generator=generator) * 0.3, torch.ones(2, dates, side, side).bool()


@pytest.fixture
def head(encoder: Encoder) -> Head:
    net = PixelNet(encoder, 3).eval()
    net.set_weights(linear(sum(net.widths)))
    return Head(PIXELS, net, 48).eval()


def test_the_streamed_convolution_says_what_the_fitted_linear_map_says(head: Head) -> None:
    """Also where the side is no multiple of the coarsest stride."""
    values, clear = images(side=40)
    net = head.net
    assert isinstance(net, PixelNet)
    rows, columns = torch.tensor([0, 39, 17, 20]), torch.tensor([0, 39, 33, 5])
    with torch.inference_mode():
        maps, planes = net.maps(values[:1, 0], clear[:1, 0]), net.spectral(values[:1, 0], clear[:1, 0])
        features = net.read_at(maps, planes, rows, columns).numpy()
    scores = linear(sum(net.widths)).scores(features)
    expected = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    predicted = head.predict(values[:1], clear[:1])[0][:, rows, columns].T.numpy()
    assert np.allclose(predicted, expected, atol=1e-4)


def test_probabilities_have_the_shape_maps_expect_and_sum_to_one(head: Head) -> None:
    found = head.predict(*images())
    assert found.shape == (2, 3, 48, 48)
    assert torch.allclose(found.sum(1), torch.ones(2, 48, 48), atol=1e-5)


def test_several_dates_are_averaged_where_they_are_clear(head: Head) -> None:
    values, clear = images(dates=2)
    clear[:, 1, :24] = False
    both, first = head.predict(values, clear), head.predict(values[:, :1], clear[:, :1])
    second = head.predict(values[:, 1:], clear[:, 1:])
    assert torch.allclose(both[:, :, :24], first[:, :, :24], atol=1e-6)
    assert torch.allclose(both[:, :, 24:], (first + second)[:, :, 24:] / 2, atol=1e-6)


def test_nan_where_nothing_is_clear_does_not_spread(head: Head) -> None:
    values, clear = images()
    clear[:, :, :8], values[:, :, :, :8] = False, torch.nan
    assert torch.isfinite(head.predict(values, clear)).all()


def test_a_chip_head_says_the_same_at_every_pixel_and_labels_are_independent(encoder: Encoder) -> None:
    net = ChipNet(encoder, 3).eval()
    net.set_weights(linear(sum(net.widths)))
    found = Head(LABELS, net, 48).eval().predict(*images())
    assert found.shape == (2, 3, 48, 48)
    assert (found.flatten(2).amax(2) == found.flatten(2).amin(2)).all()
    assert not torch.allclose(found.sum(1), torch.ones(2, 48, 48), atol=1e-3)


def test_a_saved_head_predicts_the_same_and_damage_is_noticed(head: Head, tmp_path: Path) -> None:
    write_manifest(tmp_path, KIND, **save_weights(head, tmp_path), encoder={"method": "random"})
    again = load_head(tmp_path)
    assert (again.bands, again.chip_px, again.task) == (head.bands, 48, PIXELS)
    assert torch.equal(again.predict(*images()), head.predict(*images()))
    damaged = bytearray((tmp_path / WEIGHTS).read_bytes())
    damaged[-1] ^= 1
    (tmp_path / WEIGHTS).write_bytes(damaged)
    with pytest.raises(InputError, match="damaged"):
        load_head(tmp_path)


def test_an_empty_directory_is_no_head(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no head here"):
        load_head(tmp_path / "nothing")
