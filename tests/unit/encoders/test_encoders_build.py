"""Backbones: shapes at the promised strides, seeds, and weights that torchgeo's own network takes."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import Tensor
from torchgeo.models import resnet18, vit_small_patch16_224

from geossl.encoders.build import Backbone, build_encoder, seeded_encoder
from geossl.errors import InputError

BANDS = ("blue", "green", "red", "nir")


@pytest.mark.parametrize(
    ("name", "stem", "strides", "channels"),
    [
        ("resnet18", "maxpool", (4, 8, 16, 32), (64, 128, 256, 512)),
        ("resnet18", "small", (2, 4, 8, 16), (64, 128, 256, 512)),
        ("resnet50", "maxpool", (4, 8, 16, 32), (256, 512, 1024, 2048)),
        ("vit-s", "maxpool", (4, 8, 16, 32), (384, 384, 384, 384)),
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


@pytest.fixture(scope="module")
def vit() -> Backbone:
    return seeded_encoder("vit-s", BANDS, 3).eval()


def noise(side: int) -> Tensor:
    return torch.randn(2, 4, side, side, generator=torch.Generator().manual_seed(side))


def test_a_transformer_loads_into_plain_torchgeo_and_timm_and_gives_the_same_output(vit):
    x = noise(224)
    with torch.no_grad():
        for plain in (
            vit_small_patch16_224(weights=None, in_chans=4, num_classes=0),
            timm.create_model("vit_small_patch16_224", in_chans=4, num_classes=0),
        ):
            plain.load_state_dict(vit.net.state_dict())
            torch.testing.assert_close(plain.eval()(x), vit(x))


@pytest.mark.parametrize("side", [32, 64, 112])
def test_a_transformer_takes_small_chips_by_interpolated_positions(vit, side):
    """Against timm's own network resized to that image."""
    plain = timm.create_model("vit_small_patch16_224", in_chans=4, num_classes=0).eval()
    plain.load_state_dict(vit.net.state_dict())
    plain.set_input_size(img_size=(side, side))
    with torch.no_grad():
        torch.testing.assert_close(vit(noise(side)), plain(noise(side)), atol=1e-5, rtol=1e-4)


def test_a_transformer_repeats_edges_up_to_whole_patches(vit):
    x = noise(64)[..., :60, :50]
    padded = torch.nn.functional.pad(x, (0, 14, 0, 4), mode="replicate")
    with torch.no_grad():
        assert torch.equal(vit(x), vit(padded))
        assert [tuple(one.shape[2:]) for one in vit.features(x)] == [(15, 13), (8, 7), (4, 4), (2, 2)]


def test_maps_of_a_transformer_lie_where_the_strides_say(vit):
    """A ramp over the patches must be read back at the pixels, not at the corners of the patches."""
    from geossl.encoders.build import _at_stride

    centres = 16 * torch.arange(8.0) + 7.5
    tokens = (centres[:, None] + 1000 * centres[None, :])[None, None]
    for stride in vit.strides:
        pixels = stride * torch.arange(float(-(-128 // stride)))
        inside = (pixels >= 7.5) & (pixels <= 119.5)  # beyond the outermost centres the edge is repeated
        read = _at_stride(tokens, stride, 128, 128)[0, 0][inside][:, inside]
        expected = (pixels[:, None] + 1000 * pixels[None, :])[inside][:, inside]
        torch.testing.assert_close(read, expected, atol=0.05, rtol=1e-5)


@pytest.mark.parametrize("name", ["resnet18", "vit-s"])
def test_maps_and_embedding_of_one_pass_are_those_of_two(name, vit):
    backbone = vit if name == "vit-s" else seeded_encoder(name, BANDS, 0).eval()
    with torch.no_grad():
        maps, embedding = backbone.features_and_embedding(noise(64))
        assert torch.equal(embedding, backbone(noise(64)))
        assert all(torch.equal(a, b) for a, b in zip(maps, backbone.features(noise(64)), strict=True))


def test_positions_of_a_smaller_grid_are_learnt_where_the_image_is_known():
    small = build_encoder("vit-s", BANDS, image_px=60)
    assert small.image_px == 64 and small.net.pos_embed.shape[1] == 1 + 4 * 4
    assert build_encoder("resnet18", BANDS, image_px=64).image_px is None


@pytest.mark.slow
@pytest.mark.parametrize(("name", "dim"), [("resnet152", 2048), ("vit-b", 768)])
def test_the_large_ones_are_built_too(name, dim):
    backbone = build_encoder(name, BANDS).eval()
    with torch.no_grad():
        assert backbone(noise(64)).shape == (2, dim)


@pytest.mark.parametrize(
    ("name", "bands", "stem", "text"),
    [
        ("resnet81", BANDS, "maxpool", "did you mean 'resnet18'"),
        ("resnet18", BANDS, "maxpol", "did you mean 'maxpool'"),
        ("resnet18", (), "maxpool", "each named once"),
        ("resnet18", ("red", "red"), "maxpool", "each named once"),
        ("vit-s", BANDS, "small", "no stem that could be made smaller"),
    ],
)
def test_wrong_wishes_are_refused_with_a_hint(name, bands, stem, text):
    with pytest.raises(InputError, match=text):
        build_encoder(name, bands, stem=stem)
