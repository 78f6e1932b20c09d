"""Figures by depth, and beside them the share of each depth's test pixels whose bed is not seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest

from geossl.labels.read import read_vector_labels
from geossl.report.pages import page
from geossl.tasks import depth_bins
from geossl.tasks.depth_bins import depth_sections, figures_by_depth
from geossl.tasks.examples import MAX_PIXELS, PixelExamples, match_labels, store_pixels
from geossl.tasks.spec import TaskSpec
from geossl.tasks.splits import LabelSplit

SPEC = TaskSpec.model_validate({
    "name": "bed", "title": "Bed", "kind": "segmentation", "classes": [{"name": "sand"}, {"name": "weed"}],
    "depth_field": "depth_m", "depth_bins": (2, 6, 10), "not_seen": {"sigmas": 3, "reason": "bed not seen"},
})  # fmt: skip
DEEP, BED = (0.03, 0.03, 0.015, 0.008), (0.06, 0.08, 0.05, 0.012)
SPLIT = LabelSplit({f"b{tile}": "test" if tile > 5 else "train" for tile in range(8)}, "")


@pytest.fixture
def sea(make_store: Any) -> Any:
    """Deep water everywhere, but for the beds that a test draws."""
    store = make_store()
    store.bands = ("blue", "green", "red", "nir")
    noise = np.random.default_rng(0).normal(0, 0.001, store.stored.shape)
    store.stored = np.rint(10_000 * (np.reshape(DEEP, (4, 1, 1)) + noise) + 1000).astype(np.uint16)
    return store


def draw(store: Any, tile: int, rows: slice, columns: slice, signal: tuple[float, ...]) -> None:
    store.stored[tile, :, rows, columns] = np.rint(10_000 * np.reshape(signal, (4, 1, 1)) + 1000)


def examples_of(store: Any, boxes: list[tuple[int, int, float | None, str]], path: Path, spec: TaskSpec) -> Any:
    """Labels of 4 × 4 pixels: (tile, row, depth in metres, class), at columns 0 to 3."""
    shapes = [store.tile_box(tile, row, row + 4, 0, 4) for tile, row, _, _ in boxes]
    columns = {"class": [one[3] for one in boxes], "depth_m": [one[2] for one in boxes]}
    gpd.GeoDataFrame(columns, geometry=shapes, crs="EPSG:32633").to_file(path)
    labels = read_vector_labels(path, ("sand", "weed"))
    matched = match_labels(store, labels, spec, None, None)
    return store_pixels(store, labels, matched, spec, SPLIT, 0), labels


@pytest.fixture
def right(monkeypatch: pytest.MonkeyPatch) -> None:
    """A head that is always right."""

    def said(spec: TaskSpec, net: object, examples: PixelExamples, pixels: np.ndarray) -> np.ndarray:
        return examples.value[pixels]

    monkeypatch.setattr(depth_bins, "predict_pixels", said)


BOXES = [(0, 0, 1.0, "sand"), (1, 0, 1.0, "weed"), (6, 0, 1.0, "sand"), (6, 8, 1.5, "weed"), (7, 0, 3.0, "weed"),
         (7, 8, 20.0, "weed"), (7, 16, None, "sand")]  # fmt: skip


def draw_beds(sea: Any) -> None:
    """At 1 m a quarter of the pixels is dark, at 1.5 m a half, at 3 m none, at 20 m all; a training bed half."""
    first, all_columns = slice(0, 4), slice(0, 4)
    for tile, rows, columns in ((0, first, slice(0, 2)), (1, first, all_columns), (6, first, slice(0, 3)),
                                (6, slice(8, 12), slice(0, 2)), (7, first, all_columns)):  # fmt: skip
        draw(sea, tile, rows, columns, BED)
    draw(sea, 0, first, slice(2, 4), DEEP)
    draw(sea, 6, first, slice(3, 4), DEEP)
    draw(sea, 6, slice(8, 12), slice(2, 4), DEEP)
    for row in (8, 16):
        draw(sea, 7, slice(row, row + 4), all_columns, DEEP)


def test_each_depth_tells_the_share_of_its_test_pixels_whose_bed_is_not_seen(
    sea: Any, right: None, tmp_path: Path
) -> None:
    draw_beds(sea)
    examples, labels = examples_of(sea, BOXES, tmp_path / "beds.gpkg", SPEC)
    rows = figures_by_depth(SPEC, None, examples, labels)  # type: ignore[arg-type]
    shallow, middle, deep = rows
    assert [(row["from_m"], row["to_m"]) for row in rows] == [(None, 2), (2, 6), (10, None)]
    assert (shallow["pixels"], shallow["labels"], shallow["not_seen"]) == (20, 2, (4 + 8) / 32)
    assert (middle["pixels"], middle["labels"], middle["not_seen"], middle["accuracy"]) == (16, 1, 0, 1)
    assert (deep["pixels"], deep["labels"], deep["not_seen"]) == (0, 0, 1)
    assert deep["accuracy"] is deep["macro_f1"] is deep["commonest_class"] is None
    assert all(list(row) == list(shallow) for row in rows)


def test_pixels_under_cloud_count_neither_as_seen_nor_as_not_seen(sea: Any, right: None, tmp_path: Path) -> None:
    draw_beds(sea)
    sea.flags[6, 0:4, 3] = 2  # the dark quarter
    examples, labels = examples_of(sea, BOXES, tmp_path / "beds.gpkg", SPEC)
    shallow = figures_by_depth(SPEC, None, examples, labels)[0]  # type: ignore[arg-type]
    assert (shallow["pixels"], shallow["not_seen"]) == (20, round(8 / 28, 4))


def test_the_share_not_seen_is_that_of_all_pixels_where_only_some_are_kept(
    sea: Any, right: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(MAX_PIXELS, "test", 10)
    draw_beds(sea)
    examples, labels = examples_of(sea, BOXES, tmp_path / "beds.gpkg", SPEC)
    shallow, middle, _ = figures_by_depth(SPEC, None, examples, labels)  # type: ignore[arg-type]
    assert shallow["pixels"] + middle["pixels"] == 10
    assert (shallow["not_seen"], middle["not_seen"]) == (12 / 32, 0)


def test_a_task_that_hides_no_bed_has_no_such_column(sea: Any, right: None, tmp_path: Path) -> None:
    draw_beds(sea)
    spec = SPEC.model_copy(update={"not_seen": None})
    examples, labels = examples_of(sea, BOXES, tmp_path / "beds.gpkg", spec)
    rows = figures_by_depth(spec, None, examples, labels)  # type: ignore[arg-type]
    assert [row["pixels"] for row in rows] == [32, 16, 16]
    assert not any("not_seen" in row for row in rows)


def test_the_report_shows_the_share_and_a_dash_for_figures_of_a_depth_without_pixels(
    sea: Any, right: None, tmp_path: Path
) -> None:
    draw_beds(sea)
    examples, labels = examples_of(sea, BOXES, tmp_path / "beds.gpkg", SPEC)
    sections = depth_sections(figures_by_depth(SPEC, None, examples, labels))  # type: ignore[arg-type]
    html = page(tmp_path / "report.html", "bed", sections).read_text(encoding="utf-8")
    assert "not_seen is the share" in html
    assert ">0.375<" in html
    assert ">–<" in html
    assert depth_sections([]) == []
