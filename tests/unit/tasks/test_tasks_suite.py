"""What every shipped task YAML must pass: whole, explained, a template that a head learns from, a map without one.

A new task is a new YAML; it is taken up here by its name alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
import torch
from typer.testing import CliRunner

from geossl.cli.main import app
from geossl.encoders.saved import Encoder, random_encoder
from geossl.errors import InputError
from geossl.maps.task_map import make_task_map
from geossl.report import pages
from geossl.tasks.anomaly import plane_count
from geossl.tasks.baselines import baseline_titles
from geossl.tasks.finetune import finetune
from geossl.tasks.heads import load_head
from geossl.tasks.spec import TaskSpec, load_task, task_names
from geossl.tasks.template import label_template

BANDS = ("blue", "green", "red", "nir", "swir16")
DATES = ("2018-06-20", "2019-06-25", "2020-07-01", "2020-07-15", "2020-08-20")
FEW_DATES = DATES[:3]
"""For heads: one date a year, so that there are references and little to compute."""
SIDE, TILES = 32, 4
DOCS = Path(__file__).parents[3] / "docs" / "tasks.md"
HEADS = [name for name in task_names() if load_task(name).kind != "level"]
RULES = [name for name in task_names() if load_task(name).rule is not None]


def depth(row: int | np.ndarray) -> Any:
    """Depth of the water in a row of a tile, metres."""
    return 0.5 + 5.5 * np.asarray(row) / (SIDE - 1)


@dataclass
class Shore:
    """A chip store: tiles in a row; water in the west of each, deeper to the south; land with plants in the east."""

    store: Any

    def __post_init__(self) -> None:
        rng = np.random.default_rng(2)
        light = np.exp(-2 * np.outer([0.08, 0.1, 0.35], depth(np.arange(SIDE))))[:, :, None]  # (blue, green, red; y, 1)
        water = np.concatenate([np.reshape([0.03, 0.025, 0.008], (3, 1, 1)) + 0.12 * light,
                                np.full((2, SIDE, 1), 0.006)]) * np.ones((1, 1, SIDE))  # fmt: skip
        land = np.reshape([0.04, 0.07, 0.06, 0.32, 0.2], (5, 1, 1)) * np.ones((1, SIDE, SIDE))
        picture = np.where(np.arange(SIDE) < SIDE // 2, water, land)
        many = picture + rng.normal(0, 0.002, (len(self.store.table), *picture.shape))
        self.store.bands, self.store.stored = BANDS, np.rint(many * 10_000 + 1000).astype(np.uint16)


@pytest.fixture
def shore(make_store: Any) -> Any:
    return Shore(make_store(tiles=TILES, dates=DATES)).store


@pytest.fixture
def few_dates(make_store: Any) -> Any:
    return Shore(make_store(tiles=TILES, dates=FEW_DATES)).store


@pytest.fixture(scope="module")
def five_bands() -> Encoder:
    return random_encoder("resnet18", BANDS, [0.1] * 5, [0.1] * 5, seed=1)


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports without drawn pictures, which cost as much as all the rest."""
    monkeypatch.setattr(pages, "to_png", lambda figure: b"")


def fill_in(spec: TaskSpec, template: Path, store: Any) -> None:
    """The template with labels: each class (or depth) in every tile, on water or on land as the task wants it."""
    names = list(spec.class_names) or ["meadow", "forest"]
    rows: list[dict[str, Any]] = []
    for tile in range(TILES):
        for number in range(len(names) if spec.kind != "regression" else 6):
            y = 2 + 5 * number
            wet = spec.not_seen is not None or names[number % len(names)].endswith("water")
            x = 4 if wet else 20
            value = float(depth(y)) if spec.kind == "regression" else names[number]
            row = {spec.label_field: value, "geometry": store.tile_box(tile, y, y + 1, x, x + 4)}
            if spec.date_field is not None:
                row[spec.date_field] = pd.Timestamp(FEW_DATES[tile % len(FEW_DATES)])
            if spec.confidence_field is not None:
                row[spec.confidence_field] = 1.0
            rows.append(row)
    crs = "EPSG:32633"
    frame = gpd.GeoDataFrame(rows, geometry="geometry", crs=crs).to_crs(gpd.read_file(template).crs)
    frame.to_file(template, layer=spec.name, mode="a", driver="GPKG")


@pytest.mark.parametrize("name", task_names())
def test_a_task_says_what_it_is_and_stands_in_the_docs(name: str) -> None:
    spec = load_task(name)
    assert spec.title
    assert spec.from_chips or spec.unit or all(one.colour for one in spec.classes)
    assert not any(re.search(r"\s$|^\s", one.name) for one in spec.classes)
    assert f"`{name}`" in DOCS.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", HEADS)
def test_a_head_learns_from_the_filled_template_and_answers_with_the_tasks_classes(
    name: str, few_dates: Any, five_bands: Encoder, quick_scratch: None, no_pictures: None, tmp_path: Path
) -> None:
    spec = load_task(name)
    labels = label_template(name, tmp_path / "labels.gpkg").path
    fill_in(spec, labels, few_dates)
    made = finetune(name, encoder=five_bands, chips=few_dates, labels=labels, out=tmp_path / "head")
    assert np.isfinite(made.value)
    rows = {row["row"] for row in made.rows}
    assert {"supervised from scratch", "same head, random encoder"} <= rows
    named = {baseline_titles()[name] for name in spec.baselines}
    assert named <= rows | set(made.left_out)
    assert named & rows or not named
    head = load_head(made.head)
    planes = plane_count(head.task.references) if head.task.references else 0
    values = torch.rand(1, 1, len(head.bands) + planes, SIDE, SIDE)
    said = head.predict(values, torch.ones(1, 1, SIDE, SIDE, dtype=torch.bool))
    assert said.shape == (1, head.task.outputs, SIDE, SIDE)
    if head.task.classes:
        torch.testing.assert_close(said.sum(1), torch.ones(1, SIDE, SIDE))


@pytest.mark.parametrize("name", [name for name in task_names() if name not in HEADS])
def test_a_task_without_a_head_says_which_command_makes_it(name: str, shore: Any, five_bands: Encoder) -> None:
    with pytest.raises(InputError, match="needs no encoder") as caught:
        finetune(name, encoder=five_bands, chips=shore, labels="labels.gpkg")
    assert "geossl " in str(caught.value)


@pytest.mark.parametrize("name", RULES)
def test_a_rule_makes_a_layer_of_classes_from_scenes_alone(name: str, shore: Any, tmp_path: Path) -> None:
    shore.table["block"] = "b"
    made = make_task_map(name, chips=shore, block="b", out=tmp_path / "map")
    layer = made.layers[-1]
    assert {"class.tif", "class.qml", "item.json", "collection.json", "quicklook.png", "areas.csv"} <= {
        file.name for file in layer.iterdir()
    }
    with rasterio.open(layer / "class.tif") as source:
        found = source.read(1)
    assert found.shape == (SIDE, TILES * SIDE)
    known = {row["value"] for row in made.areas if row["layer"] == made.areas[-1]["layer"]}
    assert set(np.unique(found)) <= {*known, 255}
    assert (found != 255).any()
    again = make_task_map(name, chips=shore, block="b", out=tmp_path / "map")
    assert again.areas == made.areas


@pytest.mark.parametrize("name", sorted(set(task_names()) - set(RULES)))
def test_a_task_without_a_rule_refuses_a_map_without_a_head(name: str) -> None:
    result = CliRunner().invoke(app, ["map", "--task", name, "--region", "vanern"])
    assert result.exit_code == 2
    assert "geossl finetune" in result.output


def test_the_tasks_that_users_asked_for_are_there() -> None:
    asked = {"aquatic-vegetation", "coastal-zone", "surface-water", "areal", "shallow-water", "land-cover"}
    assert asked | {"drought", "habitat", "water-level"} <= set(task_names())


def test_the_water_of_the_shore_is_told_by_its_rule(shore: Any, tmp_path: Path) -> None:
    """The west of each tile is water on every date: permanent, from the first to the last date."""
    shore.table["block"] = "b"
    made = make_task_map("surface-water", chips=shore, block="b", out=tmp_path / "map")
    with rasterio.open(made.layers[0] / "value.tif") as source:
        share, first, last, wet_months, seen_months, dates = source.read()
    wet = np.tile(np.arange(SIDE) < SIDE // 2, TILES) & np.ones((SIDE, 1), bool)
    day = (np.datetime64(DATES[0]) - np.datetime64("1970-01-01")).astype(int)
    assert (share == wet).all()
    assert (first[wet] == day).all()
    assert np.isnan(first[~wet]).all()
    assert (last[wet] == day + 792).all()
    assert (dates[wet] == len(DATES)).all()
    assert (wet_months[wet] == seen_months[wet]).all()
    with rasterio.open(made.layers[1] / "class.tif") as source:
        np.testing.assert_array_equal(source.read(1), np.where(wet, 3, 0))
