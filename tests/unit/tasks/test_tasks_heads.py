"""Given a head; then maps get the probabilities that were fitted, from any number of dates, before and after saving."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from geossl.artefacts import write_manifest
from geossl.encoders.saved import Encoder
from geossl.errors import InputError
from geossl.evaluation.controls import RandomConvolutions
from geossl.tasks.convolutions import Convolutions
from geossl.tasks.heads import KIND, WEIGHTS, ChipNet, Head, PixelNet, TaskNet, load_head, make_net, save_weights
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


def convolutions(patches: int = 6) -> Convolutions:
    generator = torch.Generator().manual_seed(9)
    weight = torch.randn(patches, 4, 3, 3, generator=generator)
    return Convolutions(torch.full((4,), 0.1), torch.full((4,), 0.05), weight, torch.full((patches,), -1.0))


@pytest.fixture
def head(encoder: Encoder) -> Head:
    net = PixelNet(encoder, 3, (), convolutions()).eval()
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


def test_pooled_responses_are_those_of_the_control(encoder: Encoder) -> None:
    values, clear = (one[:, 0] for one in images())
    clear[0, 5:20, 5:30] = False
    control = RandomConvolutions(values.numpy(), clear.numpy(), 3, patches=8)
    made = Convolutions(
        torch.from_numpy(control.mean).flatten(), torch.from_numpy(control.std).flatten(),
        control.net.weights, control.net.biases,
    )  # fmt: skip
    expected = control.features(values.numpy(), clear.numpy())
    assert made.width == expected.shape[1] == 16
    assert np.allclose(made.pooled(values, clear).numpy(), expected, atol=1e-5)


def test_responses_near_a_pixel_are_means_over_its_clear_neighbours() -> None:
    values, clear = (one[:1, 0] for one in images(side=12))
    made = convolutions()
    clear[0, 4, 4] = False
    local = made.local(values, clear)
    response = torch.nn.functional.conv2d(
        (torch.where(clear[:, None], values, 0.1) - 0.1) / 0.05, made.weight, made.bias
    )
    near, seen = response[0, :, 3:8, 3:8].flatten(1), clear[0, 4:9, 4:9].flatten()  # of pixel (6, 6)
    assert torch.allclose(local[0, :6, 6, 6], near.clamp_min(0)[:, seen].mean(1), atol=1e-4)
    assert torch.allclose(local[0, 6:, 6, 6], -near.clamp_max(0)[:, seen].mean(1), atol=1e-4)
    reader = torch.randn(3, 12, 1, 1, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(made.local(values, clear, reader), torch.nn.functional.conv2d(local, reader), atol=1e-4)


def test_kinds_of_features_add_up_to_what_is_read(encoder: Encoder) -> None:
    pixels, chips = PixelNet(encoder, 2, ("ndvi",), convolutions()), ChipNet(encoder, 2, convolutions())
    assert list(pixels.kinds) == ["encoder", "spectral", "anomalies", "convolutions"]
    assert list(chips.kinds) == ["encoder", "statistics", "convolutions"]
    for net in (pixels, chips):
        assert sum(net.kinds.values()) == sum(net.widths) and net.kinds["convolutions"] == 12
    with torch.inference_mode():
        features = chips.eval().features(*(one[:, 0] for one in images()))
    assert features.shape == (2, sum(chips.widths))
    assert torch.equal(features[:, -12:], convolutions().pooled(*(one[:, 0] for one in images())))


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
    assert again.net.form == head.net.form == {"form": "pixel", "patches": 6}
    damaged = bytearray((tmp_path / WEIGHTS).read_bytes())
    damaged[-1] ^= 1
    (tmp_path / WEIGHTS).write_bytes(damaged)
    with pytest.raises(InputError, match="damaged"):
        load_head(tmp_path)


def test_an_empty_directory_is_no_head(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no head here"):
        load_head(tmp_path / "nothing")


def test_a_head_from_before_there_were_forms_still_loads(encoder: Encoder, tmp_path: Path) -> None:
    old = Head(PIXELS, PixelNet(encoder, 3).eval(), 48).eval()
    facts = save_weights(old, tmp_path)
    del facts["net"]
    write_manifest(tmp_path, KIND, **facts, encoder={"method": "random"})
    assert torch.equal(load_head(tmp_path).predict(*images()), old.predict(*images()))


def test_a_form_of_a_later_version_is_refused_by_name(encoder: Encoder, tmp_path: Path) -> None:
    facts = save_weights(Head(PIXELS, PixelNet(encoder, 3).eval(), 48), tmp_path)
    write_manifest(tmp_path, KIND, **{**facts, "net": {"form": "quantum"}}, encoder={"method": "random"})
    with pytest.raises(InputError, match="form of head 'quantum'"):
        load_head(tmp_path)


class Brightest(TaskNet):
    """Says of each pixel its first band on its brightest clear date."""

    takes_dates = True
    form: ClassVar[dict[str, Any]] = {"form": "brightest"}

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, values: torch.Tensor, clear: torch.Tensor) -> torch.Tensor:
        return torch.where(clear, values[:, :, 0], -torch.inf).amax(1)[:, None]


def test_a_network_that_takes_dates_sees_them_all_at_once(encoder: Encoder) -> None:
    task = TaskSpec.model_validate({"name": "t", "title": "T", "kind": "regression", "unit": "m"})
    values, clear = images(dates=3)
    clear[:, 1], values[:, 1] = False, torch.nan
    found = Head(task, Brightest(encoder), 48).predict(values, clear)
    assert torch.equal(found[:, 0], torch.maximum(values[:, 0, 0], values[:, 2, 0]))


def test_a_plain_network_is_made_for_a_task_without_a_form(encoder: Encoder) -> None:
    assert make_net(PIXELS, encoder).form == {"form": "pixel", "patches": 0}
    assert make_net(LABELS, encoder).form == {"form": "chip", "patches": 0}
