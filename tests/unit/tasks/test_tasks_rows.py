"""Given an encoder and labelled chips or pixels; then every kind of label is learnt from all kinds of features joined,
and the network that is kept says what the row of the table says.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from geossl.chips.ready import open_ready
from geossl.encoders.saved import Encoder, untrained_twin
from geossl.errors import InputError
from geossl.tasks import choosing, compare, scratch
from geossl.tasks.chip_rows import (
    CONVOLUTIONS,
    ENCODER_ONLY,
    OURS,
    RICH,
    chip_head,
    compare_chips,
    fit_chips,
    kinds_of_chips,
)
from geossl.tasks.choosing import Labelled, validation_judge
from geossl.tasks.convolutions import CHIP_PATCHES, PIXEL_PATCHES
from geossl.tasks.examples import ChipData, ChipExamples, PixelExamples
from geossl.tasks.finetune import finetune
from geossl.tasks.heads import ChipNet, load_head
from geossl.tasks.linear import Scaling
from geossl.tasks.pixel_rows import CONVOLUTIONS as PIXEL_CONVOLUTIONS
from geossl.tasks.pixel_rows import LOCAL, compare_pixels
from geossl.tasks.pixel_rows import OURS as PIXEL_OURS
from geossl.tasks.sources import open_source
from geossl.tasks.spec import TaskSpec, load_task

pytestmark = pytest.mark.usefixtures("quick_scratch", "all_labels")
WATER = TaskSpec.model_validate(
    {"name": "t", "title": "T", "kind": "segmentation", "classes": [{"name": "land"}, {"name": "water"}]}
)


@pytest.fixture
def all_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of all labels alone: fewer fits, as many kinds of rows."""
    monkeypatch.setattr(compare, "BUDGETS", ())


def chips_of(folder: Path, encoder: Encoder) -> tuple[TaskSpec, ChipExamples]:
    source = open_source(load_task("land-cover"), None, None, folder, None, None, None)
    examples, _ = source.examples(encoder.meta, 0)
    assert isinstance(examples, ChipExamples)
    return source.spec, examples


def test_numbers_of_chips_are_learnt(
    make_store: Any, ready_set: Callable[..., Path], encoder: Encoder, tmp_path: Path
) -> None:
    spec, examples = chips_of(ready_set(make_store(tiles=8), tmp_path / "chips", "number"), encoder)
    assert (spec.kind, spec.of, spec.per_pixel, spec.outputs) == ("regression", "chip", False, 1)
    comparison, net = compare_chips(spec, encoder, untrained_twin(encoder, 1), examples, 0, None)
    row = comparison.row(OURS, None)
    assert row is not None and row.figures.values["rmse"] < 0.1 and row.figures.values["r2"] > 0.95
    test = examples.part("test")
    said = scratch.predict_chips(spec, net, examples, test)
    assert said.shape[0] == len(test)
    values, clear = examples.data.load(test, encoder.select(examples.data.chips.bands))
    assert np.abs(net(values, clear).detach().numpy()[:, 0] - examples.target[test]).max() < 0.5


def test_proportions_of_chips_are_learnt_as_proportions(
    make_store: Any, ready_set: Callable[..., Path], encoder: Encoder, tmp_path: Path
) -> None:
    spec, examples = chips_of(ready_set(make_store(tiles=8), tmp_path / "chips", "shares"), encoder)
    assert (spec.kind, spec.class_names) == ("classification", ("dark", "bright"))
    assert examples.soft is not None and np.allclose(examples.soft.sum(1), 1)
    comparison, net = compare_chips(replace_balanced(spec), encoder, untrained_twin(encoder, 1), examples, 0, None)
    row = comparison.row(OURS, None)
    assert row is not None and row.figures.values["accuracy"] == 1
    test = examples.part("test")
    values, clear = examples.data.load(test, encoder.select(examples.data.chips.bands))
    assert np.abs(net(values, clear).softmax(1).detach().numpy() - examples.soft[test]).max() < 0.15


def replace_balanced(spec: TaskSpec) -> TaskSpec:
    """Proportions are met where no class is given more weight than it has."""
    return spec.model_copy(update={"balanced": False})


@pytest.mark.parametrize(
    ("column", "value", "message"), [("height", "tall", "no numbers"), ("dark", "0.9", "sum to 1")]
)
def test_labels_of_chips_that_are_no_numbers_are_named(
    make_store: Any, ready_set: Callable[..., Path], tmp_path: Path, column: str, value: str, message: str
) -> None:
    folder = ready_set(make_store(tiles=2), tmp_path / "chips", "number" if column == "height" else "shares")
    lines = (folder / "index.csv").read_text().splitlines()
    cells = lines[3].split(",")
    cells[lines[0].split(",").index(column)] = value
    (folder / "index.csv").write_text("\n".join([*lines[:3], ",".join(cells), *lines[4:]]))
    with pytest.raises(InputError, match=message) as caught:
        open_ready(folder).labels([0])
    assert "of chip c2" in str(caught.value)


def test_joined_features_of_chips_are_never_worse_on_validation_than_one_kind(
    make_store: Any, ready_set: Callable[..., Path], encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choosing, "WEIGHING_BLOCKS", 1)
    spec, examples = chips_of(ready_set(make_store(tiles=8), tmp_path / "chips", "class"), encoder)
    rng = np.random.default_rng(0)
    examples = replace(
        examples, target=np.where(rng.uniform(size=len(examples.target)) < 0.3, 1 - examples.target, examples.target)
    )
    train, val = examples.part("train"), examples.part("val")
    features = kinds_of_chips(chip_head(spec, encoder, examples, train, 0), untrained_twin(encoder, 1), examples)
    assert features[OURS].kinds.keys() == {"encoder", "statistics", "convolutions"}

    def on_validation(name: str) -> float:
        some = features[name]
        model = fit_chips(spec, some, examples, train, Scaling.of(some.values[train], some.widths))
        choose = validation_judge(spec, Labelled(some.values[val], examples.target[val]))
        assert choose is not None
        return choose(model)

    assert on_validation(OURS) >= max(on_validation(name) for name in (ENCODER_ONLY, RICH)) - 1e-9
    assert on_validation(CONVOLUTIONS) >= on_validation(RICH) - 1e-9


def pixels_of(store: Any, soft: bool) -> PixelExamples:
    """Twenty pixels of each of the store's chips, water or land, or a mixture of both."""
    chips = len(store.table)
    rng = np.random.default_rng(2)
    chip = np.repeat(np.arange(chips), 20)
    y, x = rng.integers(0, store.shape[0], (2, len(chip)))
    value = store.wet[chip, y, x].astype(np.int64)
    block = store.table["block"].to_numpy(dtype=str)
    side = np.array(["train", "train", "val", "test"])[np.arange(chips) % 4]
    share = np.where(value == 1, 0.8, 0.1).astype(np.float32)
    proportions = np.stack([1 - share, share], 1) if soft else None
    data = ChipData(store, np.arange(chips), block, side)
    return PixelExamples(data, chip, y, x, value, np.arange(len(chip)), proportions)


def test_the_head_of_pixels_reads_convolutions_and_says_what_its_row_says(
    make_store: Any, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choosing, "WEIGHING_BLOCKS", 1)
    examples = pixels_of(make_store(tiles=8), soft=False)
    comparison, net = compare_pixels(WATER, encoder, untrained_twin(encoder, 1), examples, 0, None)
    names = {row.name for row in comparison.rows}
    assert {PIXEL_OURS, LOCAL, PIXEL_CONVOLUTIONS} <= names
    assert net.form == {"form": "pixel", "patches": PIXEL_PATCHES}
    test = examples.part("test")
    row = comparison.row(PIXEL_OURS, None)
    assert row is not None
    said = scratch.predict_pixels(WATER, net, examples, test)
    assert (said == examples.value[test]).mean() == pytest.approx(row.figures.values["accuracy"], abs=0.02)
    assert row.note.startswith("C ") and "convolutions x" in row.note


def test_proportions_of_pixels_are_learnt_as_proportions(make_store: Any, encoder: Encoder) -> None:
    examples = pixels_of(make_store(tiles=8), soft=True)
    _, net = compare_pixels(replace_balanced(WATER), encoder, untrained_twin(encoder, 1), examples, 0, None)
    values, clear = examples.data.load(np.array([3]), None)
    said = net(values, clear).softmax(1)[0, 1].detach().numpy()
    wet = examples.data.chips.wet[3]  # type: ignore[attr-defined]
    edge = np.zeros_like(wet)
    edge[:, wet.shape[1] // 2 - 4 : wet.shape[1] // 2 + 4] = True
    assert abs(said[wet & ~edge].mean() - 0.8) < 0.1
    assert abs(said[~wet & ~edge].mean() - 0.1) < 0.1


@pytest.mark.parametrize(("kind", "headline"), [("number", "rmse"), ("shares", "macro_f1")])
def test_a_head_of_numbers_or_proportions_is_kept_whole_and_predicts_chips(
    make_store: Any, ready_set: Callable[..., Path], encoder: Encoder, tmp_path: Path, kind: str, headline: str
) -> None:
    """Its convolutions too: they lie with its weights."""
    folder = ready_set(make_store(tiles=6), tmp_path / "chips", kind)
    result = finetune("land-cover", encoder=encoder, chips=folder, out=tmp_path / "head")
    assert result.headline == headline
    head = load_head(result.head)
    assert isinstance(head.net, ChipNet) and head.net.form == {"form": "chip", "patches": CHIP_PATCHES}
    chips = open_ready(folder)
    stored, flags = chips.load([0, 1])  # a dark one and a bright one
    values = torch.from_numpy(chips.encoding.decode(stored)[:, head.select(chips.bands)])[:, None]
    said = head.predict(values, torch.from_numpy(flags == 0)[:, None])
    assert said.shape == (2, 1 if kind == "number" else 2, 32, 32)
    assert (said[0, -1] < said[1, -1]).all()
