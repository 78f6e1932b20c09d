"""Given an encoder's maps; then decoders say every pixel, begin at the linear head, and come back from disk as they
were."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from geossl.artefacts import write_manifest
from geossl.encoders.saved import Encoder, random_encoder
from geossl.errors import InputError
from geossl.tasks.decoders import DeepNet, deep_form
from geossl.tasks.heads import KIND, Head, PixelNet, load_head, make_net, save_weights
from geossl.tasks.linear import Linear
from geossl.tasks.scratch import rescale
from geossl.tasks.spec import TaskSpec, changed, load_task
from geossl.tasks.steps import DECAY, cropped, parameter_groups

BANDS = ("green", "red", "nir", "swir16")


def images(height: int = 34, width: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    values = torch.rand(2, 4, height, width, generator=generator)
    return values, torch.rand(2, height, width, generator=generator) > 0.2


def linear(encoder: Encoder, outputs: int, extra: int = 0) -> Linear:
    width = sum(PixelNet(encoder, outputs).widths) + extra
    rng = np.random.default_rng(0)
    return Linear("multinomial", rng.normal(0, 0.1, (outputs, width)), rng.normal(size=outputs), 1.0)


@pytest.mark.parametrize("decoder", ["linear", "fpn", "unet"])
@pytest.mark.parametrize("stem", ["maxpool", "small"])
def test_a_decoder_begins_at_the_linear_head_and_learns_to_leave_it(decoder: str, stem: str) -> None:
    from geossl.encoders.build import build_encoder

    encoder = Encoder(build_encoder("resnet18", BANDS, stem=stem), [0.1] * 4, [0.1] * 4).eval()  # type: ignore[arg-type]
    plain, deep = PixelNet(encoder, 3).eval(), DeepNet(encoder, 3, decoder).eval()
    plain.set_weights(linear(encoder, 3))
    deep.set_weights(linear(encoder, 3))
    values, clear = images()
    with torch.no_grad():
        assert torch.allclose(plain(values, clear), deep(values, clear), atol=1e-4)
    deep(values, clear).square().mean().backward()
    assert deep.last is None or deep.last.weight.grad.abs().sum() > 0  # type: ignore[union-attr]


@pytest.mark.parametrize("decoder", ["fpn", "unet"])
def test_a_transformer_has_maps_for_decoders_too(decoder: str) -> None:
    net = DeepNet(random_encoder("vit-s", BANDS, [0.1] * 4, [0.1] * 4, 0), 2, decoder).eval()
    with torch.inference_mode():
        assert net(*images()).shape == (2, 2, 34, 40)


def test_maps_that_do_not_double_and_unknown_names_are_refused(
    encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="unknown decoder 'unett'") as wrong:
        DeepNet(encoder, 2, "unett")
    assert "unet" in str(wrong.value.remedy)
    with pytest.raises(InputError, match="way of pooling"):
        DeepNet(encoder, 2, "fpn", "median")
    monkeypatch.setattr(encoder.backbone, "strides", (4, 16, 16, 16))
    with pytest.raises(InputError, match="does not fit this encoder"):
        DeepNet(encoder, 2, "unet")
    DeepNet(encoder, 2, "linear")


@pytest.mark.parametrize(("decoder", "temporal"), [("fpn", "date"), ("unet", "series"), ("linear", "series")])
def test_a_head_comes_back_from_disk_as_it_was(encoder: Encoder, tmp_path: Path, decoder: str, temporal: str) -> None:
    spec = changed(load_task("water"), "test", decoder=decoder, temporal=temporal, pooling="attention")
    torch.manual_seed(3)
    head = Head(spec, make_net(spec, encoder, deep_form(spec)), 32).eval()
    torch.nn.init.normal_(head.net.last.weight if decoder != "linear" else head.net.pooling.query)  # type: ignore[union-attr, arg-type, operator]
    facts = save_weights(head, tmp_path)
    write_manifest(tmp_path, KIND, **facts, encoder=encoder.meta)
    again = load_head(tmp_path)
    values, clear = images()
    dated = torch.stack([values, values.flip(-1)], 1), torch.stack([clear, clear.flip(-1)], 1)
    said = again.predict(*dated)
    assert torch.equal(head.predict(*dated), said) and said.shape == (2, 2, 34, 40)
    assert torch.allclose(said.sum(1), torch.ones(2, 34, 40), atol=1e-5)


def test_a_head_of_composites_looks_at_the_median_of_clear_dates(encoder: Encoder) -> None:
    spec = changed(load_task("water"), "test", temporal="composite")
    net = PixelNet(encoder, 2).eval()
    net.set_weights(linear(encoder, 2))
    head, (values, _) = Head(spec, net, 32).eval(), images()
    clear = torch.ones(2, 3, 34, 40, dtype=torch.bool)
    clear[:, 2] = False
    dated = torch.stack([values, values + 0.1, 5 * values], 1)  # the lower of two clear dates, whatever the cloud says
    assert torch.allclose(head.predict(dated, clear), head.predict(dated[:, :1], clear[:, :1]), atol=1e-5)


@pytest.mark.parametrize("decoder", ["linear", "unet"])
def test_another_unit_is_folded_into_the_last_layers(encoder: Encoder, decoder: str) -> None:
    spec = TaskSpec(name="depth", title="Depth", kind="regression", unit="m", decoder=decoder)  # type: ignore[arg-type]
    net = make_net(spec, encoder, deep_form(spec) if decoder == "unet" else {"form": "pixel"}).eval()
    values, clear = images()
    with torch.no_grad():
        before = net(values, clear)
        rescale(net, 3.0, -2.0)
        assert torch.allclose(net(values, clear), 3 * before - 2, atol=1e-4)


def test_an_encoder_learns_slower_the_deeper_and_every_parameter_once(encoder: Encoder) -> None:
    net = DeepNet(encoder, 2, "fpn")
    groups = parameter_groups(net, 1.0, "layers")
    everything = [id(one) for group in groups for one in group["params"]]
    assert sorted(everything) == sorted(id(one) for one in net.parameters())
    rate = {id(one): group["lr"] for group in groups for one in group["params"]}
    layers = encoder.backbone.net
    order = [layers.conv1.weight, layers.layer1[0].conv1.weight, layers.layer4[1].conv2.weight, net.readers[0].weight]
    assert [rate[id(one)] for one in order] == pytest.approx([DECAY**5, DECAY**4, DECAY, 1.0])
    assert {id(one) for one in net.encoder.parameters()}.isdisjoint(
        id(one) for group in parameter_groups(net, 1.0, "decoder") for one in group["params"]
    )


def test_a_transformer_learns_slower_by_quarters_of_its_blocks() -> None:
    net = PixelNet(random_encoder("vit-s", BANDS, [0.1] * 4, [0.1] * 4, 0), 2)
    rate = {id(one): g["lr"] for g in parameter_groups(net, 1.0, "layers") for one in g["params"]}
    inner: Any = net.encoder.backbone.net
    order = [inner.pos_embed, inner.blocks[0].norm1.weight, inner.blocks[11].norm1.weight, net.planes.weight]
    assert [rate[id(one)] for one in order] == pytest.approx([DECAY**5, DECAY**4, DECAY, 1.0])


def test_windows_of_large_chips_hold_a_labelled_pixel() -> None:
    values, clear = torch.rand(3, 4, 150, 130), torch.ones(3, 150, 130, dtype=torch.bool)
    masks = torch.full((3, 150, 130), 255)
    masks[:, 149, 0] = 1
    for seed in range(5):
        cut = cropped(values, clear, masks, np.random.default_rng(seed))
        assert cut[0].shape == (3, 4, 64, 64) and (cut[2] == 1).flatten(1).any(1).all()
    shares = torch.zeros(3, 2, 150, 130)
    shares[:, 1, 149, 0] = 1
    assert (cropped(values, clear, shares, np.random.default_rng(0))[2].sum((1, 2, 3)) == 1).all()
