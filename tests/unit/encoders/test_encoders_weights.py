"""Initial weights: bands by name, shares that are counted, normalisation that is kept, and clear refusals."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torchgeo.models import ResNet18_Weights, ResNet50_Weights, ViTSmall16_Weights, resnet18

from geossl.encoders.bands import common_names, match_bands
from geossl.encoders.build import Backbone, seeded_encoder
from geossl.encoders.foreign import _normalisation
from geossl.encoders.saved import Encoder, load_encoder, save_encoder
from geossl.encoders.weights import load_weights, transfer_encoder
from geossl.errors import InputError
from geossl.products import SENTINEL2_BANDS

L1C = tuple(SENTINEL2_BANDS.values())
L2A = tuple(band for band in L1C if band != "cirrus")
RGBN = ("red", "green", "blue", "nir")
MOCO = "ResNet18_Weights.SENTINEL2_ALL_MOCO"


@pytest.fixture(scope="module")
def theirs() -> Backbone:
    """What stands in the foreign files: 13 bands, running statistics of its own."""
    backbone = seeded_encoder("resnet18", L1C, 11).train()
    backbone(torch.rand(4, 13, 32, 32))
    return backbone.eval()


@pytest.fixture
def plain(theirs: Backbone, tmp_path: Path) -> Path:
    path = tmp_path / "weights.pth"
    torch.save(theirs.net.state_dict(), path)
    return path


@pytest.fixture
def ours() -> Backbone:
    return seeded_encoder("resnet18", L2A, 0).eval()


@pytest.fixture
def hub(theirs: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """torch's hub directory of an empty home."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def same(first: Backbone, second: Backbone) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first.net.parameters(), second.net.parameters(), strict=True))


# ---------------------------------------------------------------- bands


@pytest.mark.parametrize(
    ("weights", "names", "common"),
    [
        ("SENTINEL2_ALL_MOCO", ResNet18_Weights.SENTINEL2_ALL_MOCO.meta["bands"], L1C),
        ("SENTINEL2_ALL_SECO_ECO", ("B1", "B8A", "B12", "NDVI"), ("coastal", "nir08", "swir22", "ndvi")),
        ("SENTINEL2_MI_MS_SATLAS", ("B04", "B08"), ("red", "nir")),
        ("LANDSAT_OLI_SR_MOCO", ("SR_B1", "SR_B5", "SR_B7"), ("coastal", "nir08", "swir22")),
        ("LANDSAT_TM_TOA_MOCO", ("B1", "B4", "B6"), ("blue", "nir08", "lwir")),
        ("SENTINEL1_GRD_MAE", ("VV", "VH"), ("vv", "vh")),
    ],
)
def test_archives_names_become_common_names_by_sensor(weights, names, common):
    assert common_names(weights, names) == common


def test_a_band_the_file_lacks_lies_between_its_neighbours_in_wavelength():
    theirs = ("blue", "nir", "nir09", "swir16")
    matched = match_bands(("nir", "nir08", "cirrus", "coastal", "thing"), theirs, "here").sources
    assert matched["nir"] == {"nir": 1.0}
    assert matched["nir08"] == pytest.approx({"nir": (0.945 - 0.865) / 0.103, "nir09": (0.865 - 0.842) / 0.103})
    assert set(matched["cirrus"]) == {"nir09", "swir16"} and sum(matched["cirrus"].values()) == pytest.approx(1)
    assert matched["coastal"] == {"blue": 1.0}  # nothing on the other side
    assert matched["thing"] == dict.fromkeys(theirs, 0.25)  # wavelength not known


def test_bands_without_anything_in_common_are_refused():
    with pytest.raises(InputError, match="no band in common"):
        match_bands(("red",), ("vv", "vh"), "here")


def test_thirteen_bands_of_l1c_fit_twelve_of_l2a_by_name(plain, theirs, ours, capsys):
    report = load_weights(ours, plain, bands=L1C)
    kept = [L1C.index(band) for band in L2A]
    expected = theirs.net.conv1.weight[:, kept]
    torch.testing.assert_close(ours.net.conv1.weight, expected * report.scale)
    assert torch.equal(ours.net.layer4[1].conv2.weight, theirs.net.layer4[1].conv2.weight)
    assert torch.equal(ours.net.bn1.running_mean, theirs.net.bn1.running_mean)
    assert report.share == 1 and report.bands == ("bands cirrus of the file are left out",)
    said = capsys.readouterr().err
    assert "(100.0 %)" in said and "cirrus" in said


def test_reordered_bands_give_the_very_same_output(plain, theirs):
    turned = seeded_encoder("resnet18", L1C[::-1], 0).eval()
    report = load_weights(turned, plain, bands=L1C)
    assert report.scale == 1 and not report.bands
    assert torch.equal(turned.net.conv1.weight, theirs.net.conv1.weight[:, list(range(12, -1, -1))])


def test_four_bands_take_their_filters_and_the_response_keeps_its_size(plain, theirs):
    few = seeded_encoder("resnet18", RGBN, 0).eval()
    report = load_weights(few, plain, bands=L1C)
    names = [L1C.index(band) for band in RGBN]
    torch.testing.assert_close(few.net.conv1.weight / report.scale, theirs.net.conv1.weight[:, names])
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        before = theirs.net.conv1(torch.randn(8, 13, 64, 64, generator=generator)).var()
        after = few.net.conv1(torch.randn(8, 4, 64, 64, generator=generator)).var()
    assert after.item() == pytest.approx(before.item(), rel=0.05)


def test_the_order_of_a_files_bands_is_assumed_only_where_asked(plain, theirs):
    own = seeded_encoder("resnet18", L1C, 0).eval()
    with pytest.raises(InputError, match="does not say which bands") as caught:
        load_weights(own, plain)
    assert "bands='same'" in str(caught.value)
    load_weights(own, plain, bands="same")
    assert same(own, theirs)
    again = seeded_encoder("resnet18", L1C, 0).eval()
    load_weights(again, plain, bands=", ".join(L1C))
    assert same(again, theirs)
    with pytest.raises(InputError, match="names do not fit") as caught:
        load_weights(own, plain, bands=RGBN)
    assert "13 names" in str(caught.value)


# ---------------------------------------------------------------- files


@pytest.mark.parametrize(
    ("prefix", "wrapped"),
    [
        ("", False),
        ("backbone.", True),
        ("model.", True),
        ("encoder.", False),
        ("module.", False),
        ("model.encoder.net.", True),
    ],
)
def test_prefixes_and_lightning_checkpoints_are_seen_through(prefix, wrapped, theirs, tmp_path):
    state: Any = {f"{prefix}{key}": value for key, value in theirs.net.state_dict().items()}
    state["fc.weight"] = torch.zeros(10, 512)
    path = tmp_path / "last.ckpt"
    torch.save({"state_dict": state, "epoch": 3, "loops": {"n": 1}} if wrapped else state, path)
    own = seeded_encoder("resnet18", L1C, 0).eval()
    report = load_weights(own, path, bands="same")
    assert same(own, theirs) and report.prefix == prefix and report.unused == 1


def test_of_a_network_and_its_slow_copy_the_network_is_taken(theirs, tmp_path):
    copy = seeded_encoder("resnet18", L1C, 99).net.state_dict()
    state = {f"encoder_k.{key}": value for key, value in copy.items()}
    state |= {f"encoder_q.{key}": value for key, value in theirs.net.state_dict().items()}
    torch.save(state, tmp_path / "moco.pth")
    own = seeded_encoder("resnet18", L1C, 0).eval()
    assert load_weights(own, tmp_path / "moco.pth", bands="same").prefix == "encoder_q."
    assert same(own, theirs)


def test_safetensors_and_files_without_counters_are_whole(theirs, tmp_path):
    state = {key: value for key, value in theirs.net.state_dict().items() if "num_batches" not in key}
    save_file(state, str(tmp_path / "w.safetensors"))
    own = seeded_encoder("resnet18", L1C, 0).eval()
    assert load_weights(own, tmp_path / "w.safetensors", bands="same").share == 1
    assert same(own, theirs)


def test_less_than_the_whole_backbone_is_an_error_unless_allowed(theirs, ours, tmp_path):
    before = ours.net.layer4[0].conv1.weight.clone(), ours.net.conv1.weight.clone()
    state = {key: value for key, value in theirs.net.state_dict().items() if not key.startswith("layer4")}
    torch.save(state, tmp_path / "part.pth")
    with pytest.raises(InputError, match="do not fill the whole backbone") as caught:
        load_weights(ours, tmp_path / "part.pth", bands=L1C)
    assert "layer4.0.conv1.weight" in str(caught.value) and "%" in str(caught.value)
    assert torch.equal(ours.net.conv1.weight, before[1])  # nothing was touched
    report = load_weights(ours, tmp_path / "part.pth", bands=L1C, allow_partial=True)
    assert 0.5 < report.share < 1 and "layer4.0.conv1.weight" in report.missing
    assert torch.equal(ours.net.layer4[0].conv1.weight, before[0])
    assert not torch.equal(ours.net.conv1.weight, before[1])


def test_weights_of_another_architecture_are_refused_even_in_part(ours, tmp_path):
    torch.save({"encoder.weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(InputError, match="not weights of this backbone"):
        load_weights(ours, tmp_path / "other.pth", allow_partial=True)
    torch.save(seeded_encoder("resnet50", L1C, 0).net.state_dict(), tmp_path / "50.pth")
    with pytest.raises(InputError, match="do not fill") as caught:
        load_weights(ours, tmp_path / "50.pth", bands=L1C)
    assert "(" in str(caught.value.found)  # shapes that differ are shown


class Evil:
    """What a pickle can do: run anything."""

    def __reduce__(self) -> Any:
        return (print, ("this must never run",))


def test_files_that_are_no_weights_are_refused_and_pickled_code_never_runs(ours, tmp_path, capsys):
    torch.save({"state_dict": {}, "hyper_parameters": Evil()}, tmp_path / "evil.ckpt")
    with pytest.raises(InputError, match="cannot be read as weights") as caught:
        load_weights(ours, tmp_path / "evil.ckpt")
    assert "state_dict alone" in str(caught.value) and "never run" not in capsys.readouterr().out
    (tmp_path / "torn.pth").write_bytes(b"PK\x03\x04 nothing")
    (tmp_path / "torn.safetensors").write_bytes(b"nothing")
    (tmp_path / "w.h5").write_bytes(b"")
    for name, text in (
        ("torn.pth", "cannot be read"),
        ("torn.safetensors", "cannot be read"),
        ("w.h5", "kind of file"),
    ):
        with pytest.raises(InputError, match=text):
            load_weights(ours, tmp_path / name)
    torch.save({"epoch": 3}, tmp_path / "empty.pth")
    with pytest.raises(InputError, match="no weights in this file"):
        load_weights(ours, tmp_path / "empty.pth")
    with pytest.raises(InputError, match="no such weights"):
        load_weights(ours, tmp_path / "nowhere.pth")


# ---------------------------------------------------------------- torchgeo's names


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A web server of this machine: its folder and address."""
    folder = tmp_path / "www"
    folder.mkdir()

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield folder, f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()
        thread.join()


def test_weights_by_name_are_downloaded_checked_and_kept(theirs, ours, server, hub, monkeypatch):
    folder, address = server
    torch.save(theirs.net.state_dict(), folder / "w.pth")
    digest = hashlib.sha256((folder / "w.pth").read_bytes()).hexdigest()[:8]
    (folder / "w.pth").rename(folder / f"w-{digest}.pth")
    monkeypatch.setattr(ResNet18_Weights.SENTINEL2_ALL_MOCO.value, "url", f"{address}/w-{digest}.pth")
    report = load_weights(ours, MOCO)
    assert report.share == 1 and (hub / f"w-{digest}.pth").is_file()
    assert report.mean == (0.0,) * 12 and report.std == (1.0,) * 12  # digital numbers / 10,000 are reflectance
    (folder / f"w-{digest}.pth").unlink()
    load_weights(ours, MOCO)  # now without a server's help


def test_a_download_with_another_hash_is_refused(theirs, ours, server, hub, monkeypatch):
    folder, address = server
    torch.save(theirs.net.state_dict(), folder / "w-00000000.pth")
    monkeypatch.setattr(ResNet18_Weights.SENTINEL2_ALL_MOCO.value, "url", f"{address}/w-00000000.pth")
    with pytest.raises(InputError, match="could not be downloaded") as caught:
        load_weights(ours, MOCO)
    assert "hash" in str(caught.value) and not list(hub.glob("w-*"))


def test_without_network_the_error_says_which_file_belongs_where(theirs, ours, hub, monkeypatch):
    name = Path(ResNet18_Weights.SENTINEL2_ALL_MOCO.url).name
    monkeypatch.setattr(ResNet18_Weights.SENTINEL2_ALL_MOCO.value, "url", f"http://127.0.0.1:9/x/{name}")
    with pytest.raises(InputError, match="could not be downloaded") as caught:
        load_weights(ours, MOCO)
    assert name in str(caught.value.remedy) and str(hub) in str(caught.value.remedy)
    assert str(caught.value.where) == f"http://127.0.0.1:9/x/{name}"
    torch.save(theirs.net.state_dict(), hub / name)  # what the message asks for
    assert load_weights(ours, MOCO).share == 1


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("ResNet18_Weights.SENTINEL2_ALL_MOCCO", "did you mean 'ResNet18_Weights.SENTINEL2_ALL_MOCO'"),
        ("ResNet50_Weights.SENTINEL2_ALL_MOCO", "another architecture"),
        ("Swin_V2_T_Weights.SENTINEL2_MI_MS_SATLAS", "does not build"),
    ],
)
def test_names_that_do_not_fit_are_refused_before_anything_is_downloaded(source, text, ours, hub):
    with pytest.raises(InputError, match=text):
        load_weights(ours, source)


def test_normalisations_in_a_row_are_one():
    """SeCo's three, against applying them one by one."""
    weights = ResNet18_Weights.SENTINEL2_RGB_SECO
    mean, std = _normalisation(weights, 3)
    x = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0)) * 100
    by_steps = x.clone()
    for step in weights.transforms:
        by_steps = step(by_steps) if type(step).__name__ == "Normalize" else by_steps
    at_once = (x.double() - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    torch.testing.assert_close(by_steps.double(), at_once, rtol=1e-4, atol=1e-3)


def test_every_weight_torchgeo_has_for_our_networks_names_bands_we_know_or_leaves_them_unsaid():
    for enum in (ResNet18_Weights, ResNet50_Weights, ViTSmall16_Weights):
        for weights in enum:
            names = weights.meta.get("bands")
            if names and weights.name.startswith(("SENTINEL2", "LANDSAT")):
                found = common_names(weights.name, names)
                assert len(set(found)) == len(names) == weights.meta["in_chans"], weights
                assert not [name for name in found if name.startswith(("b0", "b1", "sr_"))], weights


# ---------------------------------------------------------------- normalisation


MEAN, STD = [0.05 + 0.02 * i for i in range(13)], [0.02 + 0.01 * i for i in range(13)]


def test_the_first_layer_is_fitted_to_the_callers_normalisation(theirs, tmp_path):
    """Interior pixels answer as they did; at the border the zero padding means another reflectance."""
    save_encoder(Encoder(theirs, MEAN, STD), tmp_path / "enc", method="moco2")
    mean, std = [0.1] * 13, [0.2] * 13
    fitted = seeded_encoder("resnet18", L1C, 0).eval()
    report = load_weights(fitted, tmp_path / "enc", mean=mean, std=std)
    assert report.rescaled and report.share == 1
    x = torch.rand(1, 13, 32, 32, generator=torch.Generator().manual_seed(1)) * 0.4
    with torch.no_grad():
        before, after = (
            encoder.backbone.net.bn1(encoder.backbone.net.conv1(encoder.normalise(x)))
            for encoder in (Encoder(theirs, MEAN, STD), Encoder(fitted, mean, std))
        )
    torch.testing.assert_close(after[..., 2:-2, 2:-2], before[..., 2:-2, 2:-2], rtol=1e-3, atol=1e-3)


def test_a_transformers_first_layer_is_fitted_exactly_and_its_positions_are_interpolated(tmp_path):
    vit = seeded_encoder("vit-s", RGBN, 4).eval()
    save_encoder(Encoder(vit, MEAN[:4], STD[:4]), tmp_path / "vit")
    fitted = seeded_encoder("vit-s", RGBN, 0).eval()
    load_weights(fitted, tmp_path / "vit", mean=[0.1] * 4, std=[0.2] * 4)
    x = torch.rand(1, 4, 64, 64, generator=torch.Generator().manual_seed(1)) * 0.4
    with torch.no_grad():
        torch.testing.assert_close(
            Encoder(fitted, [0.1] * 4, [0.2] * 4)(x), Encoder(vit, MEAN[:4], STD[:4])(x), rtol=1e-3, atol=1e-3
        )
    small = seeded_encoder("vit-s", RGBN, 0, image_px=64).eval()
    assert load_weights(small, tmp_path / "vit").share == 1
    with torch.no_grad():
        torch.testing.assert_close(small(x), vit(x), rtol=1e-3, atol=1e-3)


def test_transfer_from_an_encoder_directory_is_that_encoder_with_its_lineage(theirs, tmp_path):
    encoder = Encoder(theirs, MEAN, STD).eval()
    save_encoder(encoder, tmp_path / "enc", method="moco2", chips={"name": "c", "id": "1"}, splits={"train": ["b"]})
    taken = transfer_encoder(tmp_path / "enc", L1C)
    x = torch.rand(1, 13, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(taken(x), encoder(x))
    assert taken.meta["method"] == "transfer" and taken.meta["chips"]["name"] == "c"
    told = taken.meta["initial_weights"]
    assert told["matched"] == told["total"] and told["source"] == "enc"  # a name and a hash, no place
    save_encoder(taken, tmp_path / "again")
    assert load_encoder(tmp_path / "again").meta["initial_weights"]["hash"] == taken.meta["initial_weights"]["hash"]


def test_transfer_of_torchgeo_weights_answers_as_torchgeo_does(theirs, hub):
    """Reflectance into our encoder is what digital numbers through torchgeo's own normalisation are to its network."""
    torch.save(theirs.net.state_dict(), hub / Path(ResNet18_Weights.SENTINEL2_ALL_MOCO.url).name)
    taken = transfer_encoder(MOCO, L1C)
    net = resnet18(ResNet18_Weights.SENTINEL2_ALL_MOCO, num_classes=0).eval()
    numbers = torch.randint(0, 4000, (1, 13, 224, 224), generator=torch.Generator().manual_seed(2)).float()
    normalise = [step for step in ResNet18_Weights.SENTINEL2_ALL_MOCO.transforms if type(step).__name__ == "Normalize"]
    with torch.no_grad():
        torch.testing.assert_close(taken(numbers / 10_000), net(normalise[0](numbers.clone())), rtol=1e-3, atol=1e-4)


def test_transfer_says_what_it_does_not_know(plain, theirs, hub):
    with pytest.raises(InputError, match="does not say its architecture"):
        transfer_encoder(plain, L1C)
    with pytest.raises(InputError, match="normalisation that these weights expect is not known"):
        transfer_encoder(plain, L2A, architecture="resnet18", file_bands=L1C)
    taken = transfer_encoder(plain, L2A, architecture="resnet18", file_bands=L1C, mean=MEAN[:12], std=STD[:12])
    assert taken.mean.tolist() == pytest.approx(MEAN[:12])
