"""Given encoders other than a plain residual network (a transformer, kept projection layers); then heads take them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import torch
from torch import nn

from geossl.artefacts import read_manifest, write_manifest
from geossl.encoders.build import seeded_encoder
from geossl.encoders.saved import Encoder
from geossl.tasks.finetune import finetune
from geossl.tasks.heads import KIND, ChipNet, Head, PixelNet, load_head, save_weights
from geossl.tasks.linear import Linear
from geossl.tasks.spec import TaskSpec

BANDS = ("green", "red", "nir", "swir16")
MEAN, STD = [0.07, 0.07, 0.16, 0.12], [0.02, 0.03, 0.14, 0.10]
PIXELS = TaskSpec.model_validate(
    {"name": "t", "title": "T", "kind": "segmentation", "classes": [{"name": "a"}, {"name": "b"}]}
)


@pytest.fixture(scope="module")
def transformer() -> Encoder:
    return Encoder(seeded_encoder("vit-s", BANDS, 1), MEAN, STD, {"method": "random"}).eval()


@pytest.fixture(scope="module")
def projected() -> Encoder:
    backbone = seeded_encoder("resnet18", BANDS, 1)
    torch.manual_seed(0)
    kept = nn.Sequential(nn.Linear(512, 64, bias=False), nn.BatchNorm1d(64), nn.ReLU())
    return Encoder(backbone, MEAN, STD, {"method": "simclr2"}, kept).eval()


def images(side: int) -> tuple[torch.Tensor, torch.Tensor]:
    values = torch.rand(2, 4, side, side, generator=torch.Generator().manual_seed(side)) * 0.3
    return values, torch.ones(2, side, side).bool()


def test_pixels_of_a_transformer_are_read_as_its_whole_map_would_be(transformer: Encoder) -> None:
    net = PixelNet(transformer, 2).eval()
    width = sum(net.widths)
    rng = np.random.default_rng(0)
    linear = Linear("multinomial", rng.normal(0, 0.05, (2, width)), rng.normal(size=2), 1.0)
    net.set_weights(linear)
    values, clear = images(40)
    rows, columns = torch.tensor([0, 39, 17]), torch.tensor([0, 5, 39])
    with torch.inference_mode():
        features = net.read_at(
            [one[:1] for one in net.maps(values, clear)], net.spectral(values, clear)[:1], rows, columns
        )
        assert net(values, clear).shape == (2, 2, 40, 40)
        np.testing.assert_allclose(
            net(values, clear)[0][:, rows, columns].T, linear.scores(features.numpy()), atol=2e-4, rtol=1e-3
        )


def test_a_transformers_maps_are_upsampled_onto_what_changed(transformer: Encoder) -> None:
    """A spot moves the tokens of its patch most; the head must see that at the spot and not half a patch away."""
    from geossl.tasks.dense import upsample

    quiet, spot = torch.zeros(1, 4, 128, 128), torch.zeros(1, 4, 128, 128)
    spot[..., 64:80, 64:80] = 3.0  # one whole patch, centred on pixel 71.5
    with torch.no_grad():
        pairs = zip(transformer.backbone.features(spot), transformer.backbone.features(quiet), strict=True)
        first, second = next(iter(pairs))
        change = upsample((first - second).square().sum(1, keepdim=True), 4)[0, 0]
    change = (change - change.quantile(0.9)).clamp_min(0)  # attention moves all tokens a little
    rows = (change.sum(1) * torch.arange(128.0)).sum() / change.sum()
    assert abs(float(rows) - 71.5) < 2


def test_a_chip_head_reads_every_map_and_the_embedding_that_the_encoder_gives(
    transformer: Encoder, projected: Encoder
) -> None:
    values, clear = images(32)
    for encoder in (transformer, projected):
        net = ChipNet(encoder, 2).eval()
        with torch.inference_mode():
            features = net.features(values, clear)
            maps, embedding = encoder.features_and_embedding(values)
        width = net.kinds["encoder"]
        assert features.shape[1] == sum(net.widths)
        torch.testing.assert_close(features[:, width - encoder.out_dim : width], embedding)
        first, last = encoder.channels[0], encoder.channels[-1]
        torch.testing.assert_close(features[:, :first], maps[0].mean((2, 3)))
        torch.testing.assert_close(features[:, first : 2 * first], maps[0].std((2, 3), correction=0))
        before = width - encoder.out_dim
        torch.testing.assert_close(features[:, before - last : before], maps[-1].std((2, 3), correction=0))


@pytest.mark.parametrize("which", ["transformer", "projected"])
@pytest.mark.parametrize("form", [PixelNet, ChipNet])
def test_their_heads_are_saved_and_read_bit_by_bit(
    which: str, form: Any, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    net = form(request.getfixturevalue(which), 2).eval()
    task = PIXELS if form is PixelNet else PIXELS.model_copy(update={"kind": "classification"})
    head = Head(task, net, 32, {}).eval()
    write_manifest(tmp_path, KIND, **save_weights(head, tmp_path))
    values, clear = images(32)
    assert torch.equal(
        load_head(tmp_path).predict(values[:, None], clear[:, None]), head.predict(values[:, None], clear[:, None])
    )


def test_a_transformer_goes_through_finetuning(
    transformer: Encoder, store: Any, tmp_path: Path, quick_scratch: None, home: Path
) -> None:
    tiles = range(store.table["tile"].nunique())
    shapes = [one for n in tiles for one in (store.tile_box(n, 4, 8, 2, 7), store.tile_box(n, 8, 12, 20, 25))]
    labels = tmp_path / "labels.gpkg"
    gpd.GeoDataFrame({"class": ["water", "other"] * len(tiles)}, geometry=shapes, crs="EPSG:32633").to_file(labels)
    result = finetune("water", encoder=transformer, chips=store, labels=labels, out=tmp_path / "head")
    assert result.value > 0.9 and read_manifest(result.head, KIND)["architecture"] == "vit-s"
    assert any(row["row"] == "same head, random encoder" for row in result.rows)
