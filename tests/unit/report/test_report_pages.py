"""Pages are self-contained, escape what they are given, and show numbers as numbers."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import numpy as np
import pytest

from geossl.report.pages import Section, Table, facts, format_value, page, table, to_png
from geossl.report.plots import lines


def written(path: Path, *sections: Section) -> str:
    return page(path / "report.html", "A report", sections).read_text(encoding="utf-8")


def test_a_page_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    html = written(tmp_path, Section("Curves", "Text.", figures=[lines([1, 2], {"a": [1, 2]})]))
    assert not re.search(r"(src|href)=\"(?!data:)", html)
    assert "<script" not in html and "http" not in html


def test_figures_are_png_inside_the_page(tmp_path: Path) -> None:
    html = written(tmp_path, Section("Curves", figures=[lines([1, 2], {"a": [1, 2]}, title="Loss")]))
    found = re.search(r'alt="([^"]*)" src="data:image/png;base64,([^"]+)"', html)
    assert found is not None and found[1] == "Loss"
    assert base64.b64decode(found[2]).startswith(b"\x89PNG")


def test_text_is_escaped_and_split_into_paragraphs(tmp_path: Path) -> None:
    html = written(tmp_path, Section("<b>", "one & two\n\nthree"))
    assert "<h2>&lt;b&gt;</h2>" in html
    assert html.count("<p>") == 2 and "one &amp; two" in html


def test_number_columns_are_right_aligned_and_others_are_not(tmp_path: Path) -> None:
    rows = [{"name": "a", "score": np.float32(0.25)}, {"name": "b", "score": None}]
    html = written(tmp_path, Section("", tables=[table(rows)]))
    assert '<td class="number">0.25</td>' in html
    assert '<td class="number">–</td>' in html
    assert "<td>a</td>" in html


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.123456, "0.1235"),
        (123456.7, "123,457"),
        (20_000, "20,000"),
        (2018, "2018"),
        (True, "yes"),
        (float("nan"), "–"),
        (["red", 3], "red, 3"),
        ({"a": 0.5}, "a 0.5"),
    ],
)
def test_values_are_shown_for_people(value: object, shown: str) -> None:
    assert format_value(value) == shown


def test_tables_from_records_keep_the_order_of_keys() -> None:
    made = table([{"b": 1}, {"a": 2, "b": 3}])
    assert made == Table(["b", "a"], [[1, ""], [3, 2]], "")
    assert facts({"x": 1}).rows == [["x", 1]]


def test_equal_figures_give_equal_bytes() -> None:
    assert to_png(lines([1, 2], {"a": [1, 2]})) == to_png(lines([1, 2], {"a": [1, 2]}))
