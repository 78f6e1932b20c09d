"""Colours of classes: the task's own, else such as readers expect, never one twice; styles are well-formed XML."""

from __future__ import annotations

from types import SimpleNamespace
from xml.etree import ElementTree

from maps_fakes import task

from geossl.maps.legend import make_legend, qml_classes, qml_quantity


def test_own_colours_are_kept_and_others_suit_the_name_and_differ() -> None:
    made = task(
        classes=("Sea and ocean", "Mixed forest", "Broad-leaved forest", "Thing", "Other thing", "Research area")
    )
    made.classes[3] = SimpleNamespace(name="Thing", colour="#ABCDEF")
    legend = make_legend(made)
    colours = [entry.colour for entry in legend.classes]
    assert colours[0] == "#2b5c9e"
    assert colours[3] == "#abcdef"
    assert colours[5] != "#2b5c9e", "'sea' inside a word is no sea"
    assert len(set(colours)) == len(colours)
    assert [entry.value for entry in legend.classes] == [0, 1, 2, 3, 4, 5]


def test_fifty_classes_still_get_a_colour_each() -> None:
    assert len(make_legend(task(classes=tuple(f"c{number}" for number in range(50)))).classes) == 50


def test_styles_are_xml_whatever_the_names_hold() -> None:
    legend = make_legend(task(classes=('a "quoted" <name> & more', "b")))
    entries = ElementTree.fromstring(qml_classes(legend).split("\n", 1)[1]).findall(".//paletteEntry")
    assert [entry.get("label") for entry in entries] == ['a "quoted" <name> & more', "b"]
    items = ElementTree.fromstring(qml_quantity(make_legend(task("regression", ())), 0, 4).split("\n", 1)[1])
    assert [float(item.get("value") or "nan") for item in items.findall(".//item")] == [0, 1, 2, 3, 4]
