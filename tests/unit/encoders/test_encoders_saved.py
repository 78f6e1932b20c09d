"""Encoders on disk: the same output after loading, band matching by name, and refusal of damaged directories."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pystac
import pytest
import timm
import torch
import torchgeo.models
from pystac.extensions.mlm import MLMExtension
from safetensors.torch import load_file, save_file
from shapely.geometry import box, shape
from torch import nn

from geossl.artefacts import FORMAT_VERSIONS, hash_file
from geossl.encoders.build import seeded_encoder
from geossl.encoders.item import training_extent
from geossl.encoders.saved import (
    WEIGHTS,
    Encoder,
    check_bands,
    load_encoder,
    random_encoder,
    save_encoder,
    untrained_twin,
)
from geossl.errors import InputError

BANDS = ("green", "red", "nir")
MEAN, STD = [0.08, 0.07, 0.3], [0.03, 0.04, 0.1]


@pytest.fixture
def encoder() -> Encoder:
    trained = Encoder(seeded_encoder("resnet18", BANDS, 0, stem="small"), MEAN, STD)
    trained.train()
    trained(torch.rand(8, 3, 32, 32))  # moves the running statistics away from where they start
    return trained.eval()


def test_a_loaded_encoder_gives_bit_identical_output(encoder, tmp_path):
    save_encoder(encoder, tmp_path / "enc", method="simclr", seed=7)
    loaded = load_encoder(tmp_path / "enc")
    x = torch.rand(2, 3, 48, 48)
    with torch.no_grad():
        assert torch.equal(loaded(x), encoder(x))
        for mine, theirs in zip(loaded.features(x), encoder.features(x), strict=True):
            assert torch.equal(mine, theirs)
    assert loaded.bands == BANDS and loaded.meta["method"] == "simclr" and loaded.meta["seed"] == 7
    assert not loaded.training


def test_the_manifest_is_deterministic_and_says_what_the_encoder_is(encoder, tmp_path):
    for name in ("a", "b"):
        save_encoder(encoder, tmp_path / name, metrics={"knn": 0.5}, resolution_m=10.0)
    first, second = ((tmp_path / name / "manifest.json").read_text() for name in "ab")
    assert first == second
    manifest = json.loads(first)
    assert manifest["kind"] == "encoder" and manifest["architecture"] == "resnet18" and manifest["stem"] == "small"
    assert manifest["bands"] == list(BANDS) and manifest["resolution_m"] == 10.0 and manifest["metrics"]["knn"] == 0.5
    np.testing.assert_allclose(manifest["normalisation"]["mean"], MEAN, rtol=1e-6)


def test_other_files_of_the_run_stay_and_saving_again_replaces(encoder, tmp_path):
    (tmp_path / "figures.csv").write_text("step,loss\n")
    save_encoder(encoder, tmp_path, seed=1)
    save_encoder(encoder, tmp_path, seed=2)
    assert load_encoder(tmp_path).meta["seed"] == 2
    assert (tmp_path / "figures.csv").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == [WEIGHTS, "figures.csv", "item.json", "manifest.json"]


def test_what_was_known_of_a_loaded_encoder_is_kept_when_it_is_saved_elsewhere(encoder, tmp_path):
    save_encoder(encoder, tmp_path / "a", method="moco2")
    save_encoder(load_encoder(tmp_path / "a"), tmp_path / "b", seed=3)
    assert {k: load_encoder(tmp_path / "b").meta[k] for k in ("method", "seed")} == {"method": "moco2", "seed": 3}


def test_reflectance_is_normalised_inside():
    encoder = random_encoder("resnet18", BANDS, MEAN, STD, 0)
    x = torch.rand(1, 3, 32, 32)
    by_hand = (x - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    with torch.no_grad():
        assert torch.equal(encoder(x), encoder.backbone(by_hand))


def test_reordered_and_surplus_bands_are_matched_by_name(encoder):
    x = torch.rand(2, 3, 32, 32)
    given = ("nir", "blue", "green", "red")
    shuffled = torch.stack([x[:, 2], torch.rand(2, 32, 32), x[:, 0], x[:, 1]], dim=1)
    with torch.no_grad():
        assert torch.equal(encoder(shuffled[:, encoder.select(given)]), encoder(x))


def test_a_missing_band_is_one_sentence_with_the_remedy(encoder):
    with pytest.raises(InputError, match=r"lack band red, nir of the encoder") as caught:
        check_bands(encoder, ("green", "swir16"), where="chips")
    assert "surplus: swir16" in str(caught.value) and "pretrain an encoder" in str(caught.value)


def test_a_directory_that_is_no_encoder_is_refused(tmp_path):
    with pytest.raises(InputError, match="no encoder here"):
        load_encoder(tmp_path / "nothing")


def test_damaged_or_missing_weights_are_refused(encoder, tmp_path):
    save_encoder(encoder, tmp_path)
    data = bytearray((tmp_path / WEIGHTS).read_bytes())
    data[-3] ^= 1
    (tmp_path / WEIGHTS).write_bytes(bytes(data))
    with pytest.raises(InputError, match="damaged"):
        load_encoder(tmp_path)
    (tmp_path / WEIGHTS).unlink()
    with pytest.raises(InputError, match="missing"):
        load_encoder(tmp_path)


@pytest.mark.parametrize(("mean", "std"), [([0.1], STD), ([0.1, float("nan"), 0.2], STD), (MEAN, [0.1, 0.0, 0.1])])
def test_impossible_normalisation_is_refused(mean, std):
    with pytest.raises(InputError):
        Encoder(seeded_encoder("resnet18", BANDS, 0), mean, std)


def projected(name: str = "resnet18") -> Encoder:
    """What SimCLR v2 keeps: a backbone and the first layer of the projection head."""
    backbone = seeded_encoder(name, BANDS, 0)
    torch.manual_seed(2)
    layers = nn.Sequential(nn.Linear(backbone.out_dim, 48, bias=False), nn.BatchNorm1d(48), nn.ReLU())
    encoder = Encoder(backbone, MEAN, STD, projection=layers).train()
    encoder(torch.rand(8, 3, 32, 32))
    return encoder.eval()


@pytest.mark.parametrize("name", ["resnet18", "vit-s"])
def test_a_projection_is_the_embedding_and_is_saved_and_restored_bit_by_bit(name, tmp_path):
    encoder = projected(name)
    x = torch.rand(2, 3, 48, 48)
    save_encoder(encoder, tmp_path)
    loaded = load_encoder(tmp_path)
    with torch.no_grad():
        inside = encoder.backbone(encoder.normalise(x))
        assert torch.equal(encoder(x), encoder.projection(inside))
        assert torch.equal(loaded(x), encoder(x)) and loaded(x).shape == (2, 48)
        assert torch.equal(loaded.features_and_embedding(x)[1], loaded(x))
    assert encoder.out_dim == loaded.out_dim == 48


def test_a_projection_of_unknown_layers_is_refused_before_anything_is_written(tmp_path):
    encoder = Encoder(seeded_encoder("resnet18", BANDS, 0), MEAN, STD, projection=nn.Bilinear(2, 2, 2))
    with pytest.raises(InputError, match="cannot be kept with an encoder") as caught:
        save_encoder(encoder, tmp_path / "enc")
    assert "Bilinear" in str(caught.value) and not (tmp_path / "enc").exists()


@pytest.mark.parametrize(("name", "stem", "image_px"), [("resnet50", "maxpool", None), ("vit-s", "maxpool", 64)])
def test_every_architecture_comes_back_bit_by_bit(name, stem, image_px, tmp_path):
    encoder = Encoder(seeded_encoder(name, BANDS, 0, stem=stem, image_px=image_px), MEAN, STD).eval()
    save_encoder(encoder, tmp_path)
    loaded = load_encoder(tmp_path)
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(loaded(x), encoder(x))
        assert all(torch.equal(a, b) for a, b in zip(loaded.features(x), encoder.features(x), strict=True))


@pytest.mark.parametrize(
    ("name", "torchgeo_name", "timm_name"),
    [("resnet18", "resnet18", "resnet18"), ("vit-s", "vit_small_patch16_224", "vit_small_patch16_224")],
)
def test_the_file_loads_into_plain_torchgeo_and_timm(name, torchgeo_name, timm_name, tmp_path):
    """With nothing but safetensors: backbone.net.* are the network's own names."""
    encoder = random_encoder(name, BANDS, MEAN, STD, 0)
    save_encoder(encoder, tmp_path)
    prefix = "backbone.net."
    state = {key.removeprefix(prefix): value for key, value in load_file(tmp_path / WEIGHTS).items() if prefix in key}
    x = torch.rand(1, 3, 224, 224)
    with torch.no_grad():
        for plain in (
            torchgeo.models.get_model(torchgeo_name, weights=None, in_chans=3, num_classes=0),
            timm.create_model(timm_name, in_chans=3, num_classes=0),
        ):
            plain.load_state_dict(state)
            torch.testing.assert_close(plain.eval()(encoder.normalise(x)), encoder(x))


def test_an_untrained_twin_has_the_same_form_and_other_weights():
    encoder = projected()
    twin, again = untrained_twin(encoder, 5), untrained_twin(encoder, 5)
    assert twin.out_dim == 48 and torch.equal(twin.mean, encoder.mean)
    assert torch.equal(twin.projection[0].weight, again.projection[0].weight)
    assert not torch.equal(twin.backbone.net.conv1.weight, encoder.backbone.net.conv1.weight)


# ---------------------------------------------------------------- the STAC item


CHIPS = pd.DataFrame(
    {
        "geometry": [box(16.0, 59.0, 16.1, 59.1), box(16.3, 59.2, 16.4, 59.3), None],
        "datetime": pd.to_datetime(["2018-07-02T10:00", "2017-06-01T10:00", None], utc=True, format="ISO8601"),
    }
)


def test_the_item_says_what_goes_in_and_out_where_and_when_it_learnt(encoder, tmp_path):
    facts = {"method": "moco2", "seed": 3, "chips": {"name": "malardalen/s2", "id": "1"}, "metrics": {"knn": 0.8}}
    save_encoder(encoder, tmp_path, extent=training_extent(CHIPS), **facts)
    item = pystac.Item.from_file(str(tmp_path / "item.json"))
    mlm = MLMExtension.ext(item)
    assert mlm.architecture == "ResNet-18" and mlm.framework == "PyTorch" and mlm.pretrained
    assert mlm.pretrained_source == "chips malardalen/s2" and mlm.hyperparameters.to_dict()["method"] == "moco2"
    assert mlm.total_parameters == sum(one.numel() for one in encoder.parameters())
    given = mlm.input[0]
    assert given.bands == list(BANDS) and given.input.shape == [-1, 3, -1, -1]
    assert [one["type"] for one in given.properties["value_scaling"]] == ["z-score"] * 3
    assert [one["mean"] for one in given.properties["value_scaling"]] == pytest.approx(MEAN)
    assert mlm.output[0].result.shape == [-1, encoder.out_dim]
    assert shape(item.geometry).contains(box(16.05, 59.05, 16.06, 59.06)) and item.bbox == [16.0, 59.0, 16.4, 59.3]
    assert (item.common_metadata.start_datetime.year, item.common_metadata.end_datetime.year) == (2017, 2018)
    weights = item.assets["weights"]
    assert (tmp_path / weights.href).samefile(tmp_path / WEIGHTS) and "mlm:model" in weights.roles
    assert weights.extra_fields["bands"][0] == {"name": "green", "eo:center_wavelength": 0.56}
    assert item.properties["geossl:metrics"] == {"knn": 0.8}


def test_an_item_without_known_place_and_date_holds_everywhere_and_always(encoder, tmp_path):
    save_encoder(encoder, tmp_path, method="random")
    item = json.loads((tmp_path / "item.json").read_text())
    assert item["geometry"] is None and "bbox" not in item
    assert item["properties"]["start_datetime"].startswith("1900") and item["properties"]["datetime"] is None
    assert item["properties"]["mlm:pretrained"] is False and item["properties"]["mlm:pretrained_source"] is None
    assert item["stac_extensions"] == ["https://stac-extensions.github.io/mlm/v1.4.0/schema.json"]
    assert training_extent(CHIPS.iloc[2:]) is None


# ---------------------------------------------------------------- formats


FORMAT_1 = """{
  "architecture": "resnet18",
  "bands": ["green", "red", "nir"],
  "chips": {"id": "0123456789abcdef", "name": "malardalen/sandbox_s2_l2a", "train": 800},
  "encoding": {"dtype": "uint16", "nodata": 0, "offset": -0.1, "scale": 0.0001},
  "epochs": 38.0,
  "format_version": 1,
  "geossl_version": "0.1.0",
  "kind": "encoder",
  "method": "simclr",
  "metrics": {"recall_at_1": 0.61},
  "normalisation": {"mean": [0.08, 0.07, 0.3], "std": [0.03, 0.04, 0.1]},
  "resolution_m": 10.0,
  "seed": 0,
  "splits": {"test": ["b1"], "train": ["b2", "b3"], "val": ["b4"]},
  "stem": "small",
  "weights": {"file": "encoder.safetensors", "hash": "HASH"}
}"""
"""As geossl 0.1.0 wrote it."""


def format_1(encoder: Encoder, folder: Path, **changes: object) -> None:
    folder.mkdir()
    save_file({name: one.contiguous() for name, one in encoder.state_dict().items()}, str(folder / WEIGHTS))
    text = FORMAT_1.replace("HASH", hash_file(folder / WEIGHTS))
    (folder / "manifest.json").write_text(json.dumps({**json.loads(text), **changes}))


def test_a_directory_of_the_first_format_is_read_and_saved_in_the_present_one(encoder, tmp_path):
    format_1(encoder, tmp_path / "old")
    loaded = load_encoder(tmp_path / "old")
    x = torch.rand(1, 3, 48, 48)
    with torch.no_grad():
        assert torch.equal(loaded(x), encoder(x))
    stored = {"dtype": "uint16", "nodata": 0, "offset": -0.1, "scale": 0.0001}
    assert loaded.meta["radiometry"] == {"quantity": "reflectance", "unit": "1", "stored_as": stored}
    assert loaded.meta["splits"]["train"] == ["b2", "b3"] and "encoding" not in loaded.meta
    save_encoder(loaded, tmp_path / "new")
    manifest = json.loads((tmp_path / "new" / "manifest.json").read_text())
    assert manifest["format_version"] == FORMAT_VERSIONS["encoder"] == 2
    assert manifest["radiometry"] == loaded.meta["radiometry"] and manifest["metrics"] == {"recall_at_1": 0.61}
    with torch.no_grad():
        assert torch.equal(load_encoder(tmp_path / "new")(x), encoder(x))


def test_a_directory_of_a_newer_format_is_refused(encoder, tmp_path):
    format_1(encoder, tmp_path / "enc", format_version=3)
    with pytest.raises(InputError, match="written by a newer geossl") as caught:
        load_encoder(tmp_path / "enc")
    assert "format_version up to 2" in str(caught.value) and "update geossl" in str(caught.value)
