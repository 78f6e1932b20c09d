"""Encoders on disk: the same output after loading, band matching by name, and refusal of damaged directories."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from geossl.encoders.build import seeded_encoder
from geossl.encoders.saved import WEIGHTS, Encoder, check_bands, load_encoder, random_encoder, save_encoder
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
    assert sorted(path.name for path in tmp_path.iterdir()) == [WEIGHTS, "figures.csv", "manifest.json"]


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
