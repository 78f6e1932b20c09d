"""Maps that a task's rule makes: when there is water, zones of a coast, and how its shoreline moved."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
import torch
from affine import Affine
from maps_fakes import Chips, PixelHead, cut_chips, task
from scipy.ndimage import gaussian_filter
from typer.testing import CliRunner

from geossl.cli.main import app
from geossl.errors import InputError
from geossl.maps.coast import PLANES as COAST_PLANES
from geossl.maps.coast import ZONES, coast_zones
from geossl.maps.coast_change import write_shore_change
from geossl.maps.index import make_index_map
from geossl.maps.legend import UNSEEN, make_legend
from geossl.maps.task_map import make_task_map
from geossl.maps.water_dates import PLANES, WaterDates, seasons, water_planes
from geossl.tasks.spec import load_task

NAN = float("nan")
DAYS = [date(2020, month, 10) for month in (5, 6, 7)] + [date(2021, month, 10) for month in (5, 6, 7)]


def since_1970(day: date) -> float:
    return float((day - date(1970, 1, 1)).days)


def planes_of(wet: str, min_dates: int = 3) -> list[float]:
    """Planes of one pixel; ``wet`` has a letter a date: W water, D dry, - not seen."""
    letters = np.array(list(wet))
    masks = [torch.from_numpy(letters == letter)[None, :, None, None] for letter in "WD"]
    found = water_planes(masks[0], masks[0] | masks[1], DAYS, min_dates)
    assert found.shape == (1, len(PLANES), 1, 1)
    return [float(number) for number in found.flatten()]


@pytest.mark.parametrize(
    ("wet", "share", "first", "last", "wet_months", "seen_months", "season"),
    [
        ("WWWWWW", 1.0, DAYS[0], DAYS[5], 3, 3, 3),
        ("DDDDDD", 0.0, None, None, 0, 3, 0),
        ("WDDWDD", 1 / 3, DAYS[0], DAYS[3], 1, 3, 2),
        ("WDDDDD", 1 / 6, DAYS[0], DAYS[0], 1, 3, 0),  # once: may be a shadow
        ("-WW-WW", 1.0, DAYS[1], DAYS[5], 2, 2, 3),  # May was never seen
    ],
)
def test_frequency_dates_and_seasons_are_of_clear_dates_alone(
    wet: str, share: float, first: date | None, last: date | None, wet_months: int, seen_months: int, season: int
) -> None:
    found = planes_of(wet)
    expected = [share, *(NAN if day is None else since_1970(day) for day in (first, last)), wet_months, seen_months]
    np.testing.assert_allclose(found[:5], expected, rtol=1e-6)
    assert seasons(np.array(found)[:, None, None]).item() == season


def test_water_on_some_dates_of_no_month_in_particular_is_water_at_times() -> None:
    days = [date(2000 + year, month, 1) for year in range(5) for month in (5, 6, 7)]
    wet = torch.zeros(1, 15, 1, 1, dtype=torch.bool)
    wet[0, [0, 4]] = True  # one May and one June of five
    found = water_planes(wet, torch.ones_like(wet), days, 5).numpy()[0]
    assert seasons(found).item() == 1


def test_too_few_clear_dates_are_masked_and_never_dry() -> None:
    assert np.isnan(planes_of("DD----")).all()
    assert seasons(np.full((6, 1, 1), np.nan)).item() == 255
    assert not np.isnan(planes_of("DD----", min_dates=2)[0])


def test_a_head_can_say_what_is_water_on_each_date() -> None:
    """Its classes are compared date by date: the brightest band here says which class a pixel is."""
    head = PixelHead(task())
    asked = WaterDates(1, head, "id").on([date(2020, 5, 1), date(2020, 6, 1), date(2020, 7, 1)])
    values = torch.full((1, 3, 4, 1, 1), 0.1)
    values[0, 0, 0] = values[0, 2, 0] = 0.9  # water (the first class) in May and July
    values[0, 1, 1] = 0.9
    found = asked.predict(values, torch.ones(1, 3, 1, 1, dtype=torch.bool)).flatten()
    assert found[0] == pytest.approx(2 / 3)
    assert found[2] == since_1970(date(2020, 7, 1))
    with pytest.raises(InputError, match="no date"):
        WaterDates(1).on([None])


def test_zones_of_a_coast_follow_from_how_often_there_is_water_and_from_plants() -> None:
    wet, seen = np.array([1.0, 0.5, 0.0, 0.0, 0.0, 0.04, np.nan]), 20.0
    ndvi = np.array([-0.3, 0.0, 0.7, 0.1, 0.3, 0.7, np.nan])
    ndmi = np.array([0.5, 0.3, 0.3, -0.2, 0.1, 0.3, np.nan])
    zeros = np.zeros(7)
    planes = np.stack([wet, np.full(7, seen), zeros, zeros, zeros, ndvi, ndmi])[:, None]
    found = [ZONES[value] if value != 255 else "masked" for value in coast_zones(planes, 10)[0]]
    assert found == ["water", "intertidal", "vegetated shore", "built", "land", "vegetated shore", "masked"]
    assert ZONES[coast_zones(planes, 1.5)[0, 5]] == "land", "away from the shore plants are land"


def values_raster(path: Path, land_to_m: float, noise: float, seed: int, dates: float = 20) -> Path:
    """``value.tif`` of a coast: land in the west up to ``land_to_m``, with looks that differ by noise."""
    generator = np.random.default_rng(seed)
    side, pixel = 100, 10.0
    x = (np.arange(side) + 0.5) * pixel
    index = np.broadcast_to(np.tanh((x - land_to_m) / 15), (side, side))
    smooth = [gaussian_filter(generator.standard_normal((side, side)), 2) for _ in range(2)]
    looks = [index + noise * one / one.std() for one in smooth]
    planes = [index > 0, np.full((side, side), dates), (looks[0] + looks[1]) / 2, *looks, -index, index]
    with rasterio.open(
        path, "w", driver="GTiff", height=side, width=side, count=7, dtype="float32", nodata=NAN, crs="EPSG:32633",
        transform=Affine(pixel, 0, 600_000, 0, -pixel, 6_600_000),
    ) as target:  # fmt: skip
        target.write(np.stack(planes).astype(np.float32))
        target.descriptions = COAST_PLANES
    return path


@pytest.mark.parametrize(
    ("moved", "noise", "certainty"),
    [(40.0, 0.05, "moved"), (-40.0, 0.05, "moved"), (0.0, 0.05, "no certain change"), (10.0, 1.2, "unsteady")],
)
def test_a_shoreline_that_moved_is_told_with_its_direction_and_certainty(
    moved: float, noise: float, certainty: str, tmp_path: Path
) -> None:
    then = values_raster(tmp_path / "then.tif", 500, noise, 1)
    now = values_raster(tmp_path / "now.tif", 500 + moved, noise, 2)
    folder = write_shore_change(then, now, tmp_path / "change")
    places = gpd.read_file(folder / "places.gpkg", layer="places")
    assert places["certainty"].mode().item() == certainty
    if certainty == "unsteady":
        return
    assert (places["certainty"] == certainty).mean() > 0.9
    assert places["change_m"].median() == pytest.approx(moved, abs=1.5)
    assert places["error_m"].between(1.5, 10).all()
    assert len(gpd.read_file(folder / "places.gpkg", layer="lines")) == 2
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["certainty"][certainty]["places"] > 25


def test_few_dates_and_vanished_shores_are_flagged_and_other_rasters_refused(tmp_path: Path) -> None:
    then = values_raster(tmp_path / "then.tif", 500, 0.02, 1, dates=4)
    now = values_raster(tmp_path / "now.tif", 505, 0.02, 2)
    places = gpd.read_file(write_shore_change(then, now, tmp_path / "few") / "places.gpkg", layer="places")
    assert set(places["certainty"]) == {"few dates"}
    far = values_raster(tmp_path / "far.tif", 950, 0.02, 3)
    places = gpd.read_file(write_shore_change(then, far, tmp_path / "gone") / "places.gpkg", layer="places")
    assert set(places["certainty"]) == {"no shore now"}
    assert places["change_m"].isna().all()
    with rasterio.open(then, "r+") as source:
        source.set_band_description(3, "something else")
    with pytest.raises(InputError, match="no map of a coast"):
        write_shore_change(then, now, tmp_path / "other")


def coast_chips() -> Chips:
    """Six dates of water, shore that is wet on half of them, roofs and forest, in bands that a coast needs."""
    kinds = {"water": (0.06, 0.04, 0.02, 0.01), "roof": (0.15, 0.18, 0.2, 0.28), "wood": (0.05, 0.04, 0.35, 0.15)}
    stored = {name: np.rint(np.array(bands) * 10_000 + 1000).astype(np.uint16) for name, bands in kinds.items()}
    pictures = []
    for number in range(6):
        picture = np.empty((4, 48, 48), np.uint16)
        picture[:] = stored["wood"][:, None, None]
        picture[:, :, :16] = stored["water"][:, None, None]
        picture[:, :, 16:20] = stored["water" if number % 2 else "roof"][:, None, None]
        picture[:, 30:40, 30:40] = stored["roof"][:, None, None]
        pictures.append(picture)
    chips = cut_chips(np.concatenate(pictures, 1))
    number = chips.table["row"] // 48
    chips.table["datetime"] = [pd.Timestamp(f"2020-{5 + month}-10", tz="UTC") for month in number]
    chips.table["top"] += 480.0 * number
    chips.bands = ("green", "red", "nir08", "swir16")
    return chips


def test_a_coast_is_mapped_and_compared_with_an_earlier_map_of_it(tmp_path: Path) -> None:
    first = make_task_map("coastal-zone", chips=coast_chips(), block="b1", out=tmp_path / "first")
    with rasterio.open(first.layers[1] / "class.tif") as source:
        found = source.read(1)
    names = {name: value for value, name in enumerate(ZONES)}
    assert (found[:, :16] == names["water"]).all()
    assert (found[:, 16:20] == names["intertidal"]).all()
    assert (found[30:40, 30:40] == names["built"]).all()
    assert (found[:25, 20:26] == names["vegetated shore"]).all()
    assert (found[:25, 27:] == names["land"]).all()
    again = make_task_map(
        "coastal-zone", chips=coast_chips(), block="b1", out=tmp_path / "second",
        against=first.layers[0] / "value.tif",
    )  # fmt: skip
    assert again.change is not None
    places = gpd.read_file(again.change / "places.gpkg", layer="places")
    assert (places["change_m"].abs() < 1e-6).all()


def test_nir08_stands_for_nir_where_a_product_has_no_nir(tmp_path: Path) -> None:
    made = make_index_map("ndvi", "max", chips=coast_chips(), block="b1", out=tmp_path / "map")
    with rasterio.open(made.layers[0] / "value.tif") as source:
        assert source.read(1)[5, 40] == pytest.approx((0.35 - 0.04) / 0.39, abs=1e-4)
    chips = coast_chips()
    chips.bands = ("green", "red", "other", "swir16")
    with pytest.raises(InputError, match="nir"):
        make_index_map("ndvi", "max", chips=chips, block="b1", out=tmp_path / "none")


def test_a_bed_that_is_not_seen_is_never_drawn_as_absent() -> None:
    for name in ("habitat", "shallow-water"):
        legend = make_legend(load_task(name))
        assert "land" in legend.unseen
        assert "bed not seen is not absent" in legend.unseen
    assert make_legend(load_task("water")).unseen == UNSEEN


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--task", "surface-water", "--against", "a.tif"], "--against: not for task surface-water"),
        (["--task", "coastal-zone", "--per-month"], "--per-month: not for task coastal-zone"),
        (["--task", "aquatic-vegetation", "--head", "heads/a"], "--head: not for task aquatic-vegetation"),
        (["--task", "surface-water", "--index", "ndvi"], "say what to map"),
        (["--task", "surface-water", "--composite", "max"], "--composite"),
        (["--task", "coastal-zone", "--against", "missing.tif"], "no such raster"),
    ],
)
def test_options_without_a_meaning_for_a_task_are_refused(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(app, ["map", "--region", "vanern", *arguments])
    assert result.exit_code == 2
    assert message in result.output
