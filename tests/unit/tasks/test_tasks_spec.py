"""Given task files; then the shipped ones are whole, and wrong ones say what is wrong."""

from __future__ import annotations

import pytest

from geossl.errors import InputError
from geossl.tasks.spec import class_order, fit_to_chips, load_task, task_names


def test_every_shipped_task_loads_and_has_colours_or_takes_its_classes_from_chips() -> None:
    assert {"drought", "tree-cover", "land-cover", "water"} <= set(task_names())
    for name in task_names():
        spec = load_task(name)
        assert spec.name == name
        assert spec.from_chips or all(one.colour for one in spec.classes)


def test_an_unknown_task_names_the_known_ones() -> None:
    with pytest.raises(InputError, match="unknown task 'draught'") as caught:
        load_task("draught")
    assert "did you mean 'drought'" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kind: segmentation\nclasses: [{name: a}]", "at least two classes"),
        ("kind: segmentation\nclasses: [{name: a}, {name: a}]", "named twice"),
        ("kind: regression\nclasses: [{name: a}, {name: b}]", "no classes"),
        (
            "kind: segmentation\nclasses: [{name: a}, {name: b}]\nraster: {thresholds: [1, 2]}",
            "need 1 raster.thresholds",
        ),
        ("kind: segmentation\nclasses: [{name: a}, {name: b}]\ncolour: red", "colour"),
    ],
)
def test_a_task_that_contradicts_itself_is_refused(tmp_path, text: str, message: str) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "mine.yaml"
    path.write_text(f"name: mine\ntitle: Mine\n{text}\n")
    with pytest.raises(InputError, match=message):
        load_task(path)


def test_land_cover_becomes_what_the_chips_labels_are() -> None:
    spec = fit_to_chips(load_task("land-cover"), "multilabel", ("sea", "forest"), "here")
    assert (spec.kind, spec.class_names, spec.headline) == ("multilabel", ("sea", "forest"), "macro_ap")
    assert fit_to_chips(load_task("land-cover"), "class", ("a", "b", "c"), "here").outputs == 3


def test_settings_for_pixels_do_not_go_with_labels_of_whole_chips() -> None:
    with_decoder = load_task("land-cover").model_copy(update={"decoder": "unet", "kind": "segmentation"})
    with pytest.raises(InputError, match="does not go with the labels of these chips") as caught:
        fit_to_chips(with_decoder, "multilabel", ("sea", "forest"), "here")
    assert "decoders, series and losses are for pixels" in str(caught.value) and "--decoder" in str(caught.value)


def test_masks_of_another_order_are_matched_by_name_and_foreign_ones_refused() -> None:
    water = load_task("water")
    assert class_order(water, ("Water", "land"), "here") == [1, 0]
    with pytest.raises(InputError, match="does not know") as caught:
        fit_to_chips(water, "mask", ("water", "ice"), "here")
    assert "ice" in str(caught.value)
    with pytest.raises(InputError, match="labels of another kind"):
        fit_to_chips(water, "class", ("other", "water"), "here")
