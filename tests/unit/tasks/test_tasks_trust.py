"""Given a head and labelled blocks; then what it may be trusted with is stored beside it, shown on maps, and written
down in plain words."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pystac
import pytest
import torch

from geossl.artefacts import write_manifest
from geossl.encoders.saved import Encoder, random_encoder
from geossl.errors import InputError
from geossl.tasks.asked import ask
from geossl.tasks.card import card_text, lineage
from geossl.tasks.examples import PixelExamples
from geossl.tasks.head_item import head_item
from geossl.tasks.heads import KIND, Head, PixelNet, load_head, make_net, save_weights
from geossl.tasks.matching import check_pixels
from geossl.tasks.sources import open_source
from geossl.tasks.spec import TaskSpec, load_task
from geossl.tasks.trust import Trust, make_trust
from geossl.tasks.trust_pages import trust_sections

NIR = 2


def by_nir(spec: TaskSpec, encoder: Encoder, steep: float) -> Head:
    """A head that looks at the near infrared alone: dark is the first class (or a value near 0)."""
    net = make_net(spec, encoder)
    assert isinstance(net, PixelNet)
    with torch.no_grad():
        for reader in net.readers:
            reader.weight.zero_()  # type: ignore[union-attr]
        net.planes.weight.zero_()
        net.planes.bias.zero_()
        sign = torch.tensor([-1.0, 1.0][: spec.outputs]) if spec.outputs > 1 else torch.tensor([1.0])
        net.planes.weight[:, NIR, 0, 0] = steep * sign
    return Head(spec, net.eval(), 32).eval()


def examples_of(store: Any, folder: Path, spec: TaskSpec, **columns: Any) -> PixelExamples:
    tiles = store.table["tile"].nunique()
    shapes = [s for n in range(tiles) for s in (store.tile_box(n, 4, 8, 2, 7), store.tile_box(n, 8, 12, 20, 25))]
    table = columns or {"class": ["water", "other"] * tiles}
    gpd.GeoDataFrame(table, geometry=shapes, crs="EPSG:32633").to_file(folder / "labels.gpkg")
    found, _ = open_source(spec, folder / "labels.gpkg", None, store, None, None, None).examples({}, 0)
    assert isinstance(found, PixelExamples)
    return found


@pytest.fixture(scope="module")
def world(make_store: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, PixelExamples]:
    store = make_store(tiles=24)
    rng = np.random.default_rng(5)  # mixed pixels, so that a steep head is too sure
    noise = rng.normal(0, 900, store.stored[:, NIR].shape)
    store.stored[:, NIR] = np.clip(store.stored[:, NIR] + noise, 1, None).astype(np.uint16)
    return store, examples_of(store, tmp_path_factory.mktemp("labels"), load_task("water"))


@pytest.fixture(scope="module")
def head(world: tuple[Any, PixelExamples], encoder: Encoder) -> Head:
    made = by_nir(load_task("water"), encoder, steep=8.0)
    made.trust = make_trust(made.task, made, world[1], seed=0)
    return made


def test_logits_truth_and_place_of_examples_are_those_of_the_pixels(
    world: tuple[Any, PixelExamples], head: Head
) -> None:
    examples = world[1]
    pixels = examples.part("test")[::7]
    asked = ask(head, examples, pixels)
    assert sorted(asked.items) == sorted(pixels)
    one = int(asked.items[3])
    values, clear = examples.data.load(examples.chip[[one]])
    y, x = examples.y[one], examples.x[one]
    np.testing.assert_allclose(asked.logits[3], head.net(values, clear)[0, :, y, x].detach(), rtol=1e-5)
    assert asked.truth[3] == examples.value[one] and asked.block[3] == examples.blocks(np.array([one]))[0]
    assert set(asked.month) == {6} and len(asked.features) == len(asked.cell_block) == asked.cell.max() + 1


def test_an_overconfident_head_is_calibrated_on_validation_blocks_and_judged_on_test_blocks(head: Head) -> None:
    assert head.trust is not None
    told = head.trust.facts["calibration"]
    assert head.trust.temperature > 1.2 and told["fitted"]
    assert told["after"]["ece"] < told["before"]["ece"]
    levels = {one["level"]: one for one in head.trust.facts["conformal"]["levels"]}
    assert levels and all(abs(one["coverage"] - level) < 0.1 for level, one in levels.items())
    assert head.trust.facts["tested"]["blocks"] > 1


def test_a_temperature_cools_what_the_head_says_and_leaves_the_class(
    world: tuple[Any, PixelExamples], head: Head
) -> None:
    values, clear = world[1].data.load(np.array([0]))
    plain = Head(head.task, head.net, 32).eval()
    cooled, hot = (one.predict(values[:, None], clear[:, None]) for one in (head, plain))
    assert torch.equal(cooled.argmax(1), hot.argmax(1))
    assert cooled.amax(1).mean() < hot.amax(1).mean()


def test_trust_is_saved_with_the_head_and_comes_back(head: Head, tmp_path: Path) -> None:
    facts = save_weights(head, tmp_path)
    write_manifest(tmp_path, KIND, **facts, encoder={})
    again = load_head(tmp_path)
    assert head.trust is not None and again.trust is not None
    assert (again.trust.temperature, again.trust.planes) == (head.trust.temperature, head.trust.planes)
    assert json.loads(json.dumps(head.trust.facts)) == again.trust.facts
    values, clear = torch.rand(1, 1, 4, 32, 32), torch.ones(1, 1, 32, 32, dtype=torch.bool)
    said = head.predict(values, clear)
    ours, theirs = (one.trust.judge(one.net.encoder, said, values, clear) for one in (head, again))  # type: ignore[union-attr]
    torch.testing.assert_close(ours, theirs)
    (tmp_path / "trust.safetensors").write_bytes(b"damaged")
    with pytest.raises(InputError, match="trust file is missing or damaged"):
        load_head(tmp_path)


def test_a_head_made_before_there_was_trust_still_loads(head: Head, tmp_path: Path) -> None:
    facts = {key: value for key, value in save_weights(head, tmp_path).items() if key != "trust"}
    write_manifest(tmp_path, KIND, **facts, encoder={})
    assert load_head(tmp_path).trust is None


def test_planes_say_how_sure_how_many_classes_and_how_unlike(world: tuple[Any, PixelExamples], head: Head) -> None:
    assert head.trust is not None and head.trust.sets is not None
    assert head.trust.planes == ("confidence", "set_size_90", "unlike")
    values, clear = (one[:, None] for one in world[1].data.load(np.arange(2)))
    strange = values + 0.4  # nothing like it was taught
    planes, other = (
        head.trust.judge(head.net.encoder, head.predict(one, clear), one, clear) for one in (values, strange)
    )
    said = head.predict(values, clear)
    torch.testing.assert_close(planes[:, 0], said.amax(1))
    limits = torch.from_numpy(head.trust.sets.limits[head.trust.sets.levels.index(0.9)])
    assert torch.equal(planes[:, 1], (said >= limits[:, None, None].float()).sum(1).float())
    labelled = (slice(None), 2, slice(4, 8), slice(2, 7))  # other cells of a chip were not taught
    assert (planes[labelled] < 1).all() and (other[:, 2] > 1).all()


def test_several_dates_count_as_far_as_they_are_clear(world: tuple[Any, PixelExamples], head: Head) -> None:
    assert head.trust is not None
    values, clear = (one[:, None] for one in world[1].data.load(np.array([0])))
    two = torch.cat([values, values + 0.4], 1)
    cloudy = torch.cat([clear, torch.zeros_like(clear)], 1)
    said = head.predict(values, clear)
    alone, beside = (head.trust.judge(head.net.encoder, said, v, c) for v, c in ((values, clear), (two, cloudy)))
    torch.testing.assert_close(alone, beside)


def test_few_labels_give_no_temperature_no_sets_and_a_sentence(
    make_store: Any, encoder: Encoder, tmp_path: Path
) -> None:
    spec = load_task("water")
    few = make_trust(spec, by_nir(spec, encoder, 8.0), examples_of(make_store(tiles=6), tmp_path, spec), seed=0)
    assert few.temperature == 1.0 and few.sets is None and few.planes[0] == "confidence"
    assert "too few" in few.facts["conformal"]["sentence"] and "Not calibrated" in few.facts["calibration"]["sentence"]
    assert [one.title for one in trust_sections(spec, few.facts, 320.0)][-1] == "Where it fails"


def test_a_quantity_has_intervals_and_no_temperature(make_store: Any, encoder: Encoder, tmp_path: Path) -> None:
    spec = TaskSpec(name="cover", title="Cover", kind="regression", unit="%", label_field="share")
    rng = np.random.default_rng(0)
    examples = examples_of(make_store(tiles=30), tmp_path, spec, share=np.tile([0.0, 2.0], 30) + rng.normal(0, 0.1, 60))
    head = by_nir(spec, encoder, 1.0)
    trust = make_trust(spec, head, examples, seed=0)
    assert trust.temperature == 1.0 and trust.ranges is not None and trust.planes[0].startswith("half_width_")
    values, clear = (one[:, None] for one in examples.data.load(np.array([0])))
    planes = trust.judge(encoder, head.predict(values, clear), values, clear)
    widths = trust.ranges.half_widths[trust.ranges.levels.index(trust.level or 0)]
    assert np.abs(planes[:, 0].numpy()[..., None] - widths).min(-1).max() < 1e-4
    assert any(one.title == "Intervals" for one in trust_sections(spec, trust.facts, 320.0))


def facts_of(head: Head, examples: PixelExamples, folder: Path) -> dict[str, Any]:
    rows = [{"row": "NDWI > 0", "labels_per_class": None, "ours_minus_row": {"value": 0.2, "interval": [0.1, 0.3]}}]
    per_class = {"other": {"f1": 0.95}, "water": {"f1": 0.41}}
    return {
        **save_weights(head, folder),
        "resolution_m": 10.0,
        "chips": {"name": "here/product"},
        "encoder": {"method": "simclr", "chips": {"name": "there"}},
        "splits": {side: sorted(set(examples.blocks(examples.part(side)))) for side in ("train", "val", "test")},
        "labels": {side: len(examples.part(side)) for side in ("train", "val", "test")},
        "labels_per_class": None,
        "taught": lineage(examples),
        "metrics": {"headline": "macro_f1", "value": 0.8, "interval": None, "rows": rows, "per_class": per_class},
        "inputs": {"seed": 0},
    }


def test_the_card_says_in_plain_words_where_the_head_is_valid_and_where_it_fails(
    world: tuple[Any, PixelExamples], head: Head, tmp_path: Path
) -> None:
    card = card_text(facts_of(head, world[1], tmp_path))
    for title in ("What it was taught on", "How sure it is", "Where it is valid", "Where it fails"):
        assert f"## {title}" in card
    assert "Weak classes: water (F1 0.41)" in card and "Surely better than: NDWI > 0" in card
    assert "months: June" in card and "It has seen no label of: January" in card
    assert "Blocks with most of the error" in card and "pixels of 10 m" in card


def test_the_item_is_valid_stac_and_names_the_classes(
    world: tuple[Any, PixelExamples], head: Head, tmp_path: Path
) -> None:
    item = head_item(head, facts_of(head, world[1], tmp_path), "geossl-water")
    again = pystac.Item.from_dict(item)
    told = again.properties
    assert told["mlm:tasks"] == ["semantic-segmentation"]
    assert [one["title"] for one in told["mlm:output"][0]["classification:classes"]] == list(head.task.class_names)
    assert told["mlm:input"][0]["bands"] == list(head.bands) and set(again.assets) >= {"weights", "card", "report"}


def test_chips_of_another_resolution_or_radiometry_are_refused_unless_allowed(
    store: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    encoder = random_encoder("resnet18", store.bands, [0.07, 0.07, 0.16, 0.12], [0.02, 0.03, 0.14, 0.10], seed=1)
    assert check_pixels(encoder, store, False) is None
    encoder.meta["resolution_m"] = 20.0
    with pytest.raises(InputError, match=r"(?s)not what the encoder.*pixels 20 m.*pixels 10 m.*--other-pixels"):
        check_pixels(encoder, store, False)
    assert "here 10 m" in str(check_pixels(encoder, store, True)) and "warning" in capsys.readouterr().err
    encoder.meta["resolution_m"] = 10.2
    assert check_pixels(encoder, store, False) is None
    store.encoding = replace(store.encoding, scale=1.0, offset=0.0)  # digital numbers taken for reflectance
    with pytest.raises(InputError, match="mean reflectance"):
        check_pixels(encoder, store, False)


def test_nothing_known_gives_no_planes() -> None:
    said = torch.rand(1, 2, 4, 4)
    planes = Trust("segmentation").judge(None, said, said, said)  # type: ignore[arg-type]
    assert planes.shape == (1, 1, 4, 4) and Trust("regression").planes == ()
