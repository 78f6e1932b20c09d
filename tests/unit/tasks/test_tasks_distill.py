"""Given a head and chips without labels; then a smaller head that says the same, from training blocks alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from typer.testing import CliRunner

from geossl.artefacts import read_manifest, write_manifest
from geossl.encoders.saved import Encoder, random_encoder, save_encoder
from geossl.errors import InputError
from geossl.tasks import scratch, steps, student
from geossl.tasks.distill import DistillResult, distill
from geossl.tasks.finetune import finetune
from geossl.tasks.heads import KIND, ChipNet, Head, PixelNet, load_head, save_weights
from geossl.tasks.soft import Agreement, Softening
from geossl.tasks.spec import TaskSpec

pytestmark = pytest.mark.usefixtures("home", "small_batches")
QUICK = {"RATES": (1e-3,), "TRIAL_STEPS": 1, "STEPS": 2, "BATCH": 4}
TWO = [{"name": "a"}, {"name": "b"}]


def spec(kind: str) -> TaskSpec:
    return TaskSpec.model_validate(
        {"name": "t", "title": "T", "kind": kind, "classes": [] if kind == "regression" else TWO}
    )


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(student, "BATCH", 8)


# ---------------------------------------------------------------- the loss


def test_the_loss_is_the_cross_entropy_of_softened_probabilities_over_clear_pixels() -> None:
    """Equation 2 of SimCLR v2, in float64 by hand; the gradient is (P_S - P_T) / temperature a pixel."""
    generator = torch.Generator().manual_seed(0)
    teacher = torch.randn(2, 2, 3, 3, generator=generator, dtype=torch.float64)
    ours = torch.randn(2, 2, 3, 3, generator=generator, dtype=torch.float64).requires_grad_()
    clear = torch.rand(2, 3, 3, generator=generator) > 0.3
    soft = Softening(spec("segmentation"), temperature=2.5)
    loss = soft.loss(ours, soft.targets(teacher, clear))
    p, q = (teacher / 2.5).softmax(1), (ours / 2.5).softmax(1)
    by_hand = -(p * q.log()).sum(1)[clear].mean()
    torch.testing.assert_close(loss, by_hand)
    (gradient,) = torch.autograd.grad(loss, ours)
    torch.testing.assert_close(gradient, ((q - p) / 2.5 * clear[:, None] / clear.sum()).detach())


def test_independent_labels_are_softened_one_by_one() -> None:
    teacher, ours = torch.randn(4, 2), torch.randn(4, 2)
    soft = Softening(spec("multilabel"), temperature=3.0)
    loss = soft.loss(ours, soft.targets(teacher, torch.ones(4, 8, 8).bool()))
    torch.testing.assert_close(loss, F.binary_cross_entropy_with_logits(ours / 3, (teacher / 3).sigmoid()))


@pytest.mark.parametrize("kind", ["pixel", "chip"])
def test_a_quantity_is_learnt_in_units_of_its_spread_and_spoken_in_its_own(encoder: Encoder, kind: str) -> None:
    net = PixelNet(encoder, 1).eval() if kind == "pixel" else ChipNet(encoder, 1).eval()
    values, clear = torch.rand(2, 4, 32, 32), torch.ones(2, 32, 32).bool()
    soft = Softening(spec("regression"), 1.0, mean=40.0, spread=25.0)
    with torch.no_grad():
        scaled = net(values, clear)
        soft.unscale(net)
        torch.testing.assert_close(net(values, clear), scaled * 25 + 40, rtol=1e-3, atol=1e-3)
    assert soft.loss(scaled, soft.targets(scaled * 25 + 40, clear)) < 1e-6


def test_agreement_counts_clear_pixels_labels_and_variance() -> None:
    clear = torch.tensor([[[True, True], [True, False]]])
    theirs = torch.tensor([[[[1.0, 1], [0, 1]], [[0, 0], [1, 0]]]])
    ours = torch.tensor([[[[1.0, 0], [0, 0]], [[0, 1], [1, 1]]]])
    found = Agreement(spec("segmentation"))
    found.add(ours, theirs, clear)
    assert found.value == pytest.approx(2 / 3)  # the fourth pixel is not clear
    found = Agreement(spec("multilabel"))
    found.add(torch.tensor([[1.0, -1], [2, -3]]), torch.tensor([[1.0, 1], [2, -3]]), clear)
    assert found.value == pytest.approx(3 / 4)
    found = Agreement(spec("regression"))
    found.add(ours[:, :1] * 0 + 2.0, torch.tensor([[[[1.0, 2], [3, 99]]]]), clear)
    assert found.value == pytest.approx(0.0)  # always the mean: nothing of the variance
    assert np.isnan(Agreement(spec("segmentation")).value)


# ---------------------------------------------------------------- the verb


def label_file(store: Any, folder: Path) -> Path:
    tiles = store.table["tile"].nunique()
    shapes = [s for n in range(tiles) for s in (store.tile_box(n, 4, 8, 2, 7), store.tile_box(n, 8, 12, 20, 25))]
    path = folder / "labels.gpkg"
    gpd.GeoDataFrame({"class": ["water", "other"] * tiles}, geometry=shapes, crs="EPSG:32633").to_file(path)
    return path


@pytest.fixture(scope="module")
def taught(make_store: Any, encoder: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a water head, its labels, and a student of it."""
    folder = tmp_path_factory.mktemp("taught")
    store = make_store(tiles=10)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in QUICK.items():
            patch.setattr(scratch, name, value)
        finetune("water", encoder=encoder, chips=store, labels=label_file(store, folder), out=folder / "head")
    return folder


@pytest.fixture(scope="module")
def learnt(make_store: Any, taught: Path) -> DistillResult:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(student, "BATCH", 8)
        labels = taught / "labels.gpkg"
        return distill(taught / "head", chips=make_store(tiles=10), labels=labels, epochs=64, out=taught / "s")


def test_a_student_learns_what_its_teacher_says_and_maps_like_any_head(
    make_store: Any, taught: Path, learnt: DistillResult
) -> None:
    assert learnt.agreement is not None and learnt.agreement["after"] > max(0.9, learnt.agreement["before"])
    store, head = make_store(tiles=10), load_head(learnt.head)
    stored, flags = store.load([0])
    values = torch.from_numpy(store.encoding.decode(stored))[:, None]
    said = head.predict(values, torch.from_numpy(flags == 0)[:, None])
    assert said.shape == (1, 2, 32, 32)
    assert (said.argmax(1)[0].numpy() == store.wet[0]).mean() > 0.85


def test_killed_in_mid_run_the_same_command_goes_on_to_the_same_weights(
    make_store: Any, taught: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given: dict[str, Any] = {"chips": make_store(tiles=10), "epochs": 4}
    undisturbed = distill(taught / "head", **given, out=tmp_path / "whole")
    monkeypatch.setattr(steps, "KEEP_S", 0.0)
    loss, calls = Softening.loss, []

    def dies(self: Softening, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return loss(self, logits, targets)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Softening, "loss", dies)
        distill(taught / "head", **given, out=tmp_path / "s")
    assert not (tmp_path / "s").exists() and (tmp_path / ".s.state.pt").is_file()
    del calls[:]
    monkeypatch.setattr(Softening, "loss", lambda *given: (calls.append(1), loss(*given))[1])
    resumed = distill(taught / "head", **given, out=tmp_path / "s")
    assert len(calls) == resumed.steps - 2  # the first two were not done again
    assert resumed.agreement == undisturbed.agreement
    assert (resumed.head / "head.safetensors").read_bytes() == (undisturbed.head / "head.safetensors").read_bytes()
    assert not (tmp_path / ".s.state.pt").exists()


def test_both_are_scored_on_the_teachers_test_blocks(taught: Path, learnt: DistillResult) -> None:
    assert learnt.scores is not None and learnt.headline == "macro_f1"
    assert learnt.scores["teacher"] == pytest.approx(read_manifest(taught / "head", KIND)["metrics"]["value"])
    assert learnt.scores["student"] > 0.85 and "test blocks" in learnt.scores["on"]
    assert load_head(learnt.head).trust is not None  # as sure as it is right, like any head
    assert learnt.report.read_text().count("student") > 2


def test_the_student_sees_the_teachers_training_blocks_alone(
    make_store: Any, taught: Path, learnt: DistillResult, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    teacher, manifest = read_manifest(taught / "head", KIND), read_manifest(learnt.head, KIND)
    assert manifest["splits"] == teacher["splits"] and manifest["distilled"]["agreement_on"].endswith(
        "validation blocks"
    )
    seen: list[np.ndarray] = []
    opened = student.open_sampler
    monkeypatch.setattr(
        student, "open_sampler", lambda chips, rows, *rest: seen.append(rows) or opened(chips, rows, *rest)
    )
    store = make_store(tiles=10)
    distill(taught / "head", chips=store, epochs=1, out=tmp_path / "s")
    assert set(store.table["block"].iloc[seen[0]]) == set(teacher["splits"]["train"])


def test_the_same_command_finds_its_student_and_a_seed_gives_the_same_bytes(
    make_store: Any, taught: Path, tmp_path: Path
) -> None:
    made = [distill(taught / "head", chips=make_store(tiles=10), epochs=2, out=tmp_path / name) for name in "ab"]
    for file in ("head.safetensors", "manifest.json"):
        assert (made[0].head / file).read_bytes() == (made[1].head / file).read_bytes()
    assert made[0].scores is None and made[0].headline is None  # a store carries no labels
    before = (tmp_path / "a" / "head.safetensors").stat().st_mtime_ns
    again = distill(taught / "head", chips=make_store(tiles=10), epochs=2, out=tmp_path / "a")
    assert again.agreement == made[0].agreement
    assert (tmp_path / "a" / "head.safetensors").stat().st_mtime_ns == before
    distill(taught / "head", chips=make_store(tiles=10), epochs=2, seed=1, out=tmp_path / "a")
    assert (tmp_path / "a" / "head.safetensors").stat().st_mtime_ns > before


def test_a_student_may_start_from_an_encoder_and_other_chips_are_split_anew(
    make_store: Any, taught: Path, tmp_path: Path
) -> None:
    start = random_encoder("resnet18", ("nir", "green", "red"), [0.16, 0.07, 0.07], [0.1, 0.1, 0.1], seed=9)
    save_encoder(start, tmp_path / "enc", method="simclr")
    other = make_store(tiles=6, seed=5)
    other.name = "elsewhere"
    result = distill(taught / "head", student=str(tmp_path / "enc"), chips=other, epochs=1, out=tmp_path / "s")
    manifest, head = read_manifest(result.head, KIND), load_head(result.head)
    assert head.bands == ("nir", "green", "red") and manifest["distilled"]["started_from"] == "simclr"
    assert manifest["splits"]["train"] and manifest["splits"]["val"] and not manifest["splits"]["test"]
    assert set(manifest["splits"]["train"]).isdisjoint(manifest["splits"]["val"])


def test_the_student_of_a_head_with_reference_dates_sees_the_same_departures(
    make_store: Any, encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task with ``references``: both networks get the anomaly planes behind their bands."""
    dates = ("2016-06-01", "2017-06-02", "2018-06-01")
    store = make_store(tiles=4, dates=dates)
    task = spec("segmentation").model_copy(update={"references": ("ndmi",)})
    net = PixelNet(encoder, 2, task.references)
    head = Head(task, net, 32).eval()
    facts = {"chips": {"name": store.name, "id": store.id}, "splits": {"train": ["b0", "b1"], "val": ["b2"]}}
    (tmp_path / "head").mkdir()
    write_manifest(tmp_path / "head", KIND, **save_weights(head, tmp_path / "head"), **facts)
    seen: set[int] = set()
    forward = PixelNet.forward

    def watched(net: PixelNet, values: torch.Tensor, clear: torch.Tensor) -> torch.Tensor:
        seen.add(values.shape[1])
        return forward(net, values, clear)

    monkeypatch.setattr(PixelNet, "forward", watched)
    result = distill(tmp_path / "head", chips=store, epochs=2, out=tmp_path / "s")
    assert seen == {4 + 4} and load_head(result.head).task.references == ("ndmi",)


@pytest.mark.parametrize("kind", ["class", "multilabel"])
def test_heads_of_whole_chips_are_distilled_and_scored_on_the_labels_their_index_carries(
    kind: str, store: Any, encoder: Encoder, tmp_path: Path, quick_scratch: None, ready_set: Any
) -> None:
    chips = ready_set(store, tmp_path / "ready", kind)
    finetune("land-cover", encoder=encoder, chips=chips, out=tmp_path / "head")
    result = distill(tmp_path / "head", chips=chips, epochs=4, out=tmp_path / "s")
    assert result.scores is not None and "labelled chips" in result.scores["on"]
    assert result.scores["teacher"] == pytest.approx(read_manifest(tmp_path / "head", KIND)["metrics"]["value"])
    assert load_head(result.head).task.kind == {"class": "classification"}.get(kind, kind)


def test_the_command_line_says_it_and_exits_with_2_on_wrong_input(taught: Path, learnt: DistillResult) -> None:
    from geossl.cli.main import app

    runner = CliRunner()
    wrong = runner.invoke(app, ["distill", "--teacher", str(taught / "nothing"), "--chips", "x"])
    assert wrong.exit_code == 2 and "no head here" in wrong.stderr
    from geossl.cli.distill import _text

    said = _text(learnt)
    assert "agreement with the teacher" in said and "student" in said and "difference" in said
    json.dumps(learnt.scores)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"student": "resnet81"}, "did you mean 'resnet18'"),
        ({"chips": None}, "one source of chips"),
        ({"epochs": 0}, "more than nothing"),
        ({"temperature": -1.0}, "more than nothing"),
        ({"labels": "nowhere.gpkg"}, "no such file of labels"),
        ({"period": "1999"}, "no chip lies in a block"),
        ({"out": "head"}, "teacher's place"),
    ],
)
def test_wrong_wishes_are_refused(change: dict[str, Any], text: str, make_store: Any, taught: Path) -> None:
    wish = {"chips": make_store(tiles=10), "out": "s2", **change}
    with pytest.raises(InputError, match=text):
        distill(taught / "head", **{**wish, "out": taught / wish["out"]})


def test_chips_without_a_band_of_the_teacher_are_refused(make_store: Any, taught: Path, tmp_path: Path) -> None:
    store = make_store(tiles=10)
    store.bands = ("green", "red", "blue", "swir16")
    with pytest.raises(InputError, match="lack band nir"):
        distill(taught / "head", chips=store, out=tmp_path / "s")
