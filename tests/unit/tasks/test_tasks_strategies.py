"""Given few labels; then each strategy makes a head, its rows stand beside the frozen one and the one from scratch, and
what does not help is not taken."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from geossl.artefacts import read_manifest
from geossl.encoders.saved import Encoder, random_encoder, save_encoder
from geossl.errors import InputError
from geossl.tasks import chip_rows, pixel_rows, scratch
from geossl.tasks.compare import Comparison, Judge, Row
from geossl.tasks.decoders import DeepNet
from geossl.tasks.examples import ChipData, ChipExamples, PixelExamples
from geossl.tasks.finetune import finetune
from geossl.tasks.heads import KIND, ChipNet, PixelNet, load_head
from geossl.tasks.linear import Linear, Scaling, fit_linear
from geossl.tasks.pseudo import confident, refit, unlabelled_pixels
from geossl.tasks.sources import open_source
from geossl.tasks.spec import TaskSpec, changed, load_task
from geossl.tasks.strategies import FROZEN, decoding, fine_tuning, follow, open_transfer

pytestmark = pytest.mark.usefixtures("home")
QUICK = {"RATES": (1e-3,), "TRIAL_STEPS": 1, "STEPS": 1, "BATCH": 2}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in QUICK.items():
        monkeypatch.setattr(scratch, name, value)


def label_file(store: Any, folder: Path) -> Path:
    """Two polygons a tile: water on the left, other on the right."""
    tiles = store.table["tile"].nunique()
    shapes = [s for n in range(tiles) for s in (store.tile_box(n, 4, 8, 2, 7), store.tile_box(n, 8, 12, 20, 25))]
    path = folder / "labels.gpkg"
    gpd.GeoDataFrame({"class": ["water", "other"] * tiles}, geometry=shapes, crs="EPSG:32633").to_file(path)
    return path


def examples_of(spec: TaskSpec, store: Any, folder: Path) -> PixelExamples:
    examples, _ = open_source(spec, label_file(store, folder), None, store, None, None, None).examples({}, 0)
    assert isinstance(examples, PixelExamples)
    return examples


def followed(
    encoder: Encoder, store: Any, folder: Path, other: Encoder | None = None, **fields: Any
) -> tuple[Comparison, Any, PixelNet]:
    """What a strategy adds to a comparison that has the frozen head and one from scratch."""
    spec = changed(load_task("water"), "test", date_field=None, **fields)
    examples = examples_of(spec, store, folder)
    net = PixelNet(encoder, 2).eval()
    features = pixel_rows.pixel_features(net, examples, examples.part("train"))
    scaling = Scaling.of(features, net.widths)
    wanted = examples.value[examples.part("train")]
    fit = fit_linear("multinomial", features, wanted, 2, scaling, balanced=True, judge=None, kinds=net.kinds)
    net.set_weights(fit)
    test = examples.part("test")
    figures = Judge(spec, examples.value[test], examples.blocks(test), 0).figures([examples.value[test]])
    rows = [Row(pixel_rows.OURS, None, figures), Row(pixel_rows.SCRATCH, None, figures)]
    made, head = follow(spec, encoder, examples, Comparison(rows, pixel_rows.OURS, "macro_f1", {}), net, 0, other)
    return made, head, net


def names(comparison: Comparison) -> list[str]:
    return [row.name for row in comparison.rows]


def test_frozen_and_linear_is_the_head_that_was_there(encoder: Encoder, store: Any, tmp_path: Path) -> None:
    made, head, net = followed(encoder, store, tmp_path)
    assert names(made) == [pixel_rows.OURS, pixel_rows.SCRATCH] and head is net


def test_fine_tuning_moves_the_encoder_a_little_and_the_given_one_not_at_all(
    encoder: Encoder, store: Any, tmp_path: Path
) -> None:
    encoder = copy.deepcopy(encoder).requires_grad_(False)  # as it may come from who had frozen it
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    made, head, net = followed(encoder, store, tmp_path, strategy="finetune")
    assert names(made) == [FROZEN, "this head (fine-tuned)", pixel_rows.SCRATCH]
    assert made.ours == "this head (fine-tuned)" and made.row(made.ours, None) is not None
    assert all(torch.equal(before[name], value) for name, value in encoder.state_dict().items())
    moved = {
        name: (value.float() - before[name].float()).abs().max() for name, value in head.encoder.state_dict().items()
    }
    assert 0 < moved["backbone.net.layer1.0.conv1.weight"] < moved["backbone.net.layer4.1.conv2.weight"] < 0.01
    assert moved["backbone.net.bn1.running_mean"] == 0 and moved["mean"] == 0  # statistics of pretraining stay
    assert head is not net and not head.training


def test_a_decoder_on_a_frozen_encoder_leaves_it_as_it_is(encoder: Encoder, store: Any, tmp_path: Path) -> None:
    made, head, _ = followed(encoder, store, tmp_path, decoder="fpn", loss="focal")
    assert names(made) == [FROZEN, "this head (frozen encoder, FPN)", pixel_rows.SCRATCH]
    assert isinstance(head, DeepNet) and head.last is not None and head.last.weight.abs().sum() > 0
    ours, theirs = head.encoder.state_dict(), encoder.state_dict()
    assert all(torch.equal(ours[name], value) for name, value in theirs.items())
    assert all(one.requires_grad for one in head.encoder.parameters())


def test_fine_tuned_decoders_and_given_weights_have_rows_of_their_own(
    encoder: Encoder, store: Any, tmp_path: Path
) -> None:
    elsewhere = random_encoder("resnet18", store.bands, [0.1] * 4, [0.1] * 4, seed=7)
    save_encoder(elsewhere, tmp_path / "other", method="random")
    other = open_transfer(tmp_path / "other", None, encoder)
    made, head, _ = followed(encoder, store, tmp_path, other, decoder="fpn", strategy="finetune", loss="dice")
    assert names(made) == [
        FROZEN,
        "frozen encoder, FPN",
        "this head (fine-tuned, FPN)",
        "transfer: fine-tuned, FPN",
        pixel_rows.SCRATCH,
    ]
    assert all("learning rate" in row.note for row in made.rows[1:4])
    assert isinstance(head, DeepNet) and torch.equal(head.encoder.mean, encoder.mean)


def test_as_many_rates_are_tried_for_fine_tuning_as_for_scratch() -> None:
    assert len(fine_tuning().rates) == len(decoding().rates) == len(scratch.from_scratch().rates)


def test_the_same_seed_gives_the_same_head_whatever_was_drawn_before(
    encoder: Encoder, store: Any, tmp_path: Path
) -> None:
    torch.manual_seed(5)
    first = followed(encoder, store, tmp_path, decoder="fpn")[1].state_dict()
    torch.manual_seed(6)
    again = followed(encoder, store, tmp_path, decoder="fpn")[1].state_dict()
    assert all(torch.equal(one, again[name]) for name, one in first.items())


def test_from_scratch_has_the_decoder_that_the_head_has(encoder: Encoder, store: Any, tmp_path: Path) -> None:
    spec = changed(load_task("water"), "test", date_field=None, decoder="unet")
    examples = examples_of(spec, store, tmp_path)
    trained = scratch.train_pixels(spec, encoder, examples, examples.part("train"), 0)
    assert isinstance(trained.net, DeepNet) and trained.net.decoder_name == "unet"
    assert not torch.equal(trained.net.encoder.backbone.net.conv1.weight, encoder.backbone.net.conv1.weight)


def test_a_quantity_is_learnt_in_its_own_spread_and_said_in_its_unit(
    encoder: Encoder, store: Any, tmp_path: Path
) -> None:
    water = changed(load_task("water"), "test", date_field=None)
    spec = TaskSpec(name="depth", title="Depth", kind="regression", unit="m")
    classes = examples_of(water, store, tmp_path)
    values = (500 + 40 * classes.value).astype(np.float32)
    examples = PixelExamples(classes.data, classes.chip, classes.y, classes.x, values, classes.place)
    train, test = examples.part("train"), examples.part("test")
    first = scratch.train_pixels(spec, encoder, examples, train, 0)
    said = scratch.predict_pixels(spec, first.net, examples, test)
    assert np.abs(said - 520).mean() < 100  # after a moment it errs by spreads (20), not by the numbers' size
    start = PixelNet(encoder, 1).eval()
    features = pixel_rows.pixel_features(start, examples, train)
    scaling = Scaling.of(features, start.widths)
    start.set_weights(fit_linear("ridge", features, values[train], 1, scaling, balanced=True, judge=None))
    tuned = scratch.train_pixels(spec, encoder, examples, train, 0, start, fine_tuning())
    assert np.abs(scratch.predict_pixels(spec, tuned.net, examples, test) - values[test]).mean() < 15


def test_proportions_teach_as_they_are(encoder: Encoder, store: Any, tmp_path: Path) -> None:
    spec = changed(load_task("water"), "test", date_field=None, decoder="fpn", loss="dice")
    hard = examples_of(spec, store, tmp_path)
    soft = replace(hard, soft=np.full((len(hard.value), 2), 0.5, np.float32))
    train = hard.part("train")
    sure, torn = (scratch.train_pixels(spec, encoder, one, train, 0).net.state_dict() for one in (hard, soft))
    assert not torch.equal(sure["planes.weight"], torn["planes.weight"])


@pytest.mark.parametrize(
    ("kind", "strategy"),
    [
        ("classification", "finetune"),
        ("multilabel", "finetune"),
        ("regression", "finetune"),
        ("classification", "pseudo"),
        ("multilabel", "pseudo"),
    ],
)
def test_heads_of_whole_chips_have_strategies_too(encoder: Encoder, store: Any, kind: Any, strategy: str) -> None:
    classes = () if kind == "regression" else load_task("water").classes
    of = "chip" if kind == "regression" else "pixel"
    spec = TaskSpec(name="chips", title="Chips", kind=kind, classes=classes, of=of, strategy=strategy)  # type: ignore[arg-type]
    assert not spec.per_pixel
    side = np.array(["train"] * 5 + ["val"] + ["test"] * 2)
    data = ChipData(store, np.arange(8), store.table["block"].to_numpy(), side)
    target = np.arange(8) % 2
    wanted = {"multilabel": np.eye(2)[target].astype(int), "regression": (5.0 + target).astype(np.float32)}
    examples = ChipExamples(data, wanted.get(kind, target))
    net = chip_rows.chip_head(spec, encoder, examples, np.arange(5), 0)
    net.set_weights(_linear_of(net, spec.outputs))
    figures = Judge(spec, examples.target[6:], data.block[6:], 0).figures([examples.target[6:]])
    rows = [Row(chip_rows.OURS, 2, figures), Row(chip_rows.SCRATCH, 2, figures)]
    made, head = follow(spec, encoder, examples, Comparison(rows, chip_rows.OURS, spec.headline, {}), net, 0)
    assert names(made)[0] == FROZEN and made.row(made.ours, 2) is not None
    assert head(torch.rand(2, 4, 32, 32), torch.ones(2, 32, 32, dtype=torch.bool)).shape == (2, spec.outputs)


def _linear_of(net: ChipNet, outputs: int) -> Linear:
    rng = np.random.default_rng(0)
    return Linear("multinomial", rng.normal(0, 0.1, (outputs, sum(net.widths))), np.zeros(outputs), 1.0)


# pseudo-labels


def two_moons(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Two elongated clouds side by side: a few labels tell badly how they lie."""
    side = rng.integers(0, 2, n)
    points = np.stack([rng.normal(0, 3, n), rng.normal(0, 0.3, n)], 1) + np.outer(2 * side - 1.0, [0.0, 1.2])
    return points.astype(np.float32), side


def fit(features: np.ndarray, targets: np.ndarray) -> Linear:
    scaling = Scaling.of(features, (features.shape[1],))
    return fit_linear("multinomial", features, targets, 2, scaling, balanced=True, judge=None)


def test_confident_answers_are_the_surest_of_each_class_and_not_too_many() -> None:
    model = Linear("multinomial", np.array([[0.0], [1.0]]), np.zeros(2), 1.0)
    features = np.concatenate([np.full(500, 8.0), [-8.0, -9.0, 0.5]])[:, None].astype(np.float32)
    rows, said = confident(model, features, 0.99, labels=20)
    assert (said.argmax(1) == 1).sum() == 30 and set(rows[said.argmax(1) == 0]) == {500, 501}
    assert 502 not in rows


def test_several_labels_are_confident_when_all_of_them_are() -> None:
    model = Linear("multilabel", np.eye(2), np.zeros(2), 1.0)
    features = np.array([[9.0, -9.0], [9.0, 0.1], [-9.0, -9.0]], dtype=np.float32)
    rows, said = confident(model, features, 0.95, labels=2)
    assert rows.tolist() == [0, 2] and said.tolist() == [[1, 0], [0, 0]]


def test_pseudo_labels_help_where_clusters_tell_what_few_labels_do_not() -> None:
    rng = np.random.default_rng(1)
    features, truth = two_moons(rng, 400)
    labelled = np.array([np.flatnonzero(truth == 0)[:2], np.flatnonzero(truth == 1)[:2]]).ravel()
    model = fit(features[labelled], truth[labelled])
    val, answer = two_moons(rng, 300)

    def score(one: Linear) -> float:
        return float((one.predict(val) == answer).mean())

    again, sentence = refit(model, features[labelled], truth[labelled], features, fit, score)
    assert score(again) > score(model) and "pseudo-labels from" in sentence


def test_the_frozen_head_stays_where_pseudo_labels_are_no_better_or_nobody_can_tell() -> None:
    features, truth = two_moons(np.random.default_rng(0), 200)
    model = fit(features, truth)
    wrong = features[::-1].copy()
    same, sentence = refit(model, features, truth, wrong, fit, lambda one: 1.0)
    assert same is model and "no better" in sentence
    assert "no validation" in refit(model, features, truth, wrong, fit, None)[1]
    assert "no unlabelled" in refit(model, features, truth, wrong[:0], fit, lambda one: 1.0)[1]


def test_unlabelled_ground_is_clear_and_of_training_blocks_only(store: Any, tmp_path: Path) -> None:
    store.flags[:, :10] = 2
    examples = examples_of(changed(load_task("water"), "test", date_field=None), store, tmp_path)
    train = examples.part("train")
    pool = unlabelled_pixels(examples, train, 0)
    assert set(pool.data.block) == set(examples.blocks(train)) and len(pool.chip) == 100 * len(pool.data.rows)
    assert pool.y.min() >= 10
    own = set(zip(examples.data.rows[examples.chip[train]], examples.y[train], examples.x[train], strict=True))
    assert own.isdisjoint(zip(pool.data.rows[pool.chip], pool.y, pool.x, strict=True))
    again = unlabelled_pixels(examples, train, 0)
    assert np.array_equal(pool.y, again.y) and np.array_equal(pool.x, again.x)


def test_the_pseudo_head_and_its_sentence_stand_in_the_comparison(encoder: Encoder, store: Any, tmp_path: Path) -> None:
    made, head, net = followed(encoder, store, tmp_path, strategy="pseudo")
    row = made.row("this head (pseudo-labels)", None)
    assert row is not None and "pseudo-labels" in row.note and isinstance(head, PixelNet)
    assert torch.equal(head.encoder.backbone.net.conv1.weight, net.encoder.backbone.net.conv1.weight)


# the whole way


def test_what_does_not_go_together_is_refused_with_the_reason(encoder: Encoder, store: Any, tmp_path: Path) -> None:
    labels = label_file(store, tmp_path)
    for options, reason in (
        ({"strategy": "freeze"}, "strategy"),
        ({"decoder": "u-net"}, "decoder"),
        ({"strategy": "pseudo", "decoder": "unet"}, "read linearly"),
        ({"weights": tmp_path / "none.pth"}, "none.pth"),
    ):
        with pytest.raises(InputError, match=reason):
            finetune("water", encoder=encoder, chips=store, labels=labels, out=tmp_path / "head", **options)
    chips = TaskSpec(name="kind", title="Kind", kind="classification", classes=load_task("water").classes)
    with pytest.raises(InputError, match="for pixels"):
        finetune(chips, encoder=encoder, chips=store, decoder="fpn", out=tmp_path / "head")
    assert not (tmp_path / "head").exists()


def test_one_class_alone_is_no_task(encoder: Encoder, store: Any, tmp_path: Path) -> None:
    labels = label_file(store, tmp_path)
    frame = gpd.read_file(labels)
    frame[frame["class"] == "water"].to_file(labels)
    with pytest.raises(InputError, match="one class only"):
        finetune("water", encoder=encoder, chips=store, labels=labels, strategy="finetune", out=tmp_path / "head")
    frame[:1].to_file(labels)
    with pytest.raises(InputError, match="all labels lie in one block"):
        finetune("water", encoder=encoder, chips=store, labels=labels, strategy="finetune", out=tmp_path / "head")


def test_the_command_line_teaches_a_head_of_series_that_maps(
    encoder: Encoder, make_store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from geossl.cli.main import app
    from geossl.tasks import sources

    store = make_store(tiles=8, dates=("2018-06-01", "2018-07-01"))
    store.flags[0::4] = 2
    monkeypatch.setattr(sources, "open_chips", lambda path: store)
    save_encoder(encoder, tmp_path / "encoder", method="random")
    text = "name: wet\ntitle: Wet\nkind: segmentation\nclasses: [{name: other}, {name: water}]\ndate_field: null\n"
    task = tmp_path / "wet.yaml"
    task.write_text(text + "temporal: series\npooling: attention\n", encoding="utf-8")
    words = ["finetune", "--task", task, "--encoder", tmp_path / "encoder", "--chips", "store", "--labels"]
    words += [label_file(store, tmp_path), "--decoder", "fpn", "--strategy", "finetune", "--json"]
    done = CliRunner().invoke(app, [str(one) for one in [*words, "--out", tmp_path / "head"]])
    assert done.exit_code == 0, done.output
    rows = [row["row"] for row in json.loads(done.stdout.splitlines()[-1])["rows"]]
    assert "this head (fine-tuned, FPN, attention over dates)" in rows and FROZEN in rows
    manifest = read_manifest(tmp_path / "head", KIND)
    assert manifest["net"] == {"form": "deep", "decoder": "fpn", "temporal": "attention", "references": []}
    assert manifest["task"]["strategy"] == "finetune" and manifest["inputs"]["task"]["decoder"] == "fpn"
    head = load_head(tmp_path / "head")
    values, clear = torch.rand(1, 3, 5, 32, 32), torch.ones(1, 3, 32, 32, dtype=torch.bool)
    assert head.predict(values, clear).shape == (1, 2, 32, 32)
