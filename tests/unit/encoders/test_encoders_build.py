"""Backbones: shapes at the promised strides, seeds, and weights that torchgeo's own network takes."""

from __future__ import annotations

import pytest
import torch
from torchgeo.models import resnet18

from geossl.encoders.build import build_encoder, seeded_encoder
from geossl.errors import InputError

BANDS = ("blue", "green", "red", "nir")


@pytest.mark.parametrize(
    ("name", "stem", "strides", "channels"),
    [
        ("resnet18", "maxpool", (4, 8, 16, 32), (64, 128, 256, 512)),
        ("resnet18", "small", (2, 4, 8, 16), (64, 128, 256, 512)),
        ("resnet50", "maxpool", (4, 8, 16, 32), (256, 512, 1024, 2048)),
    ],
)
def test_features_have_the_promised_strides_and_channels(name, stem, strides, channels):
    backbone = build_encoder(name, BANDS, stem=stem).eval()
    with torch.no_grad():
        maps = backbone.features(torch.rand(1, 4, 64, 64))
        embedding = backbone(torch.rand(1, 4, 64, 64))
    assert backbone.strides == strides and backbone.channels == channels
    assert [tuple(m.shape[1:]) for m in maps] == [(c, 64 // s, 64 // s) for c, s in zip(channels, strides, strict=True)]
    assert embedding.shape == (1, backbone.out_dim)


def test_the_embedding_is_the_mean_of_the_last_map():
    backbone = seeded_encoder("resnet18", BANDS, 0).eval()
    x = torch.rand(2, 4, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(backbone(x), backbone.features(x)[-1].mean(dim=(2, 3)))


def test_weights_load_into_plain_torchgeo_and_give_the_same_output():
    backbone = seeded_encoder("resnet18", BANDS, 3).eval()
    plain = resnet18(weights=None, in_chans=4, num_classes=0).eval()
    plain.load_state_dict(backbone.net.state_dict())
    x = torch.rand(2, 4, 64, 64)
    with torch.no_grad():
        assert torch.equal(plain(x), backbone(x))


def test_a_seed_fixes_the_weights_and_leaves_the_global_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first = seeded_encoder("resnet18", BANDS, 1)
    assert torch.equal(torch.rand(1), expected)
    second, other = seeded_encoder("resnet18", BANDS, 1), seeded_encoder("resnet18", BANDS, 2)
    assert torch.equal(first.net.conv1.weight, second.net.conv1.weight)
    assert not torch.equal(first.net.conv1.weight, other.net.conv1.weight)


def test_an_untrained_network_uses_its_residual_branches():
    # timm's default would switch them off (last normalisation at zero) and weaken the untrained control.
    assert build_encoder("resnet18", BANDS).net.layer1[0].bn2.weight.abs().sum() > 0


@pytest.mark.parametrize(
    ("name", "bands", "stem", "text"),
    [
        ("resnet81", BANDS, "maxpool", "did you mean 'resnet18'"),
        ("resnet18", BANDS, "maxpol", "did you mean 'maxpool'"),
        ("resnet18", (), "maxpool", "each named once"),
        ("resnet18", ("red", "red"), "maxpool", "each named once"),
    ],
)
def test_wrong_wishes_are_refused_with_a_hint(name, bands, stem, text):
    with pytest.raises(InputError, match=text):
        build_encoder(name, bands, stem=stem)
