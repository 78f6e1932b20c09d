"""Index and composite layers without a model: values, extents, change, areas, and their tables."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
from affine import Affine
from maps_fakes import BANDS, Chips, cut_chips
from shapely.geometry import box
from typer.testing import CliRunner

from geossl.cli.main import app
from geossl.errors import InputError
from geossl.maps.areas import class_areas, write_zones
from geossl.maps.derive import change
from geossl.maps.index import make_index_map, often_wet
from geossl.maps.make import make_map

SIDE = 48
LEFT, TOP = 600_000.0, 6_600_000.0
DAYS = ("2018-05-10", "2018-06-10", "2018-06-20", "2018-08-10", "2018-09-05")


def stored(green: float, red: float, nir: float) -> np.ndarray:
    """One pixel (4,) of stored numbers: reflectance times 10 000 plus 1000."""
    return np.rint(np.array([0.05, green, red, nir]) * 10_000 + 1000).astype(np.uint16)


WATER, REED, FIELD = stored(0.06, 0.03, 0.01), stored(0.05, 0.04, 0.20), stored(0.06, 0.05, 0.45)


def lake_pictures() -> list[np.ndarray]:
    """Five dates of a field with a lake in the middle; reeds grow in its west from the second date on."""
    pictures = []
    for number in range(len(DAYS)):
        picture = np.empty((4, SIDE, SIDE), np.uint16)
        picture[:] = FIELD[:, None, None]
        picture[:, 8:40, 8:40] = WATER[:, None, None]
        if number in (1, 2, 3):
            picture[:, 8:40, 8:20] = REED[:, None, None]
        pictures.append(picture)
    return pictures


def dated_chips(pictures: list[np.ndarray], flags: np.ndarray | None = None, days: tuple[str, ...] = DAYS) -> Chips:
    """Chips of one place on several dates; ``flags`` (date, y, x)."""
    masks = None if flags is None else np.concatenate(list(flags))
    chips = cut_chips(np.concatenate(pictures, 1), masks)
    number = chips.table["row"] // SIDE
    chips.table["datetime"] = [pd.Timestamp(days[place], tz="UTC") for place in number]
    chips.table["top"] += 10.0 * SIDE * number
    return chips


def read(path: Path) -> np.ndarray:
    with rasterio.open(path) as source:
        return source.read(1)


def ndvi(pixels: np.ndarray) -> np.ndarray:
    red, nir = ((pixels[number].astype(float) - 1000) / 10_000 for number in (2, 3))
    return (nir - red) / (nir + red)


@pytest.mark.parametrize("composite", ["median", "max", "frequency", "best"])
def test_a_composite_is_what_numpy_makes_of_the_clear_dates(composite: str, tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    pictures = [generator.integers(1100, 6000, (4, SIDE, SIDE)).astype(np.uint16) for _ in DAYS]
    flags = (generator.random((len(DAYS), SIDE, SIDE)) < 0.4).astype(np.uint8)
    made = make_index_map("ndvi", composite, chips=dated_chips(pictures, flags), block="b1", out=tmp_path / "map")
    values = np.where(flags == 0, np.stack([ndvi(picture) for picture in pictures]), np.nan)
    seen = np.isfinite(values).any(0)
    found = read(made.layers[0] / "value.tif")
    assert np.isnan(found[~seen]).all()
    if composite == "best":  # some date's own value, unmixed
        assert (np.abs(values - found).min(0, initial=9, where=np.isfinite(values))[seen] < 1e-5).all()
        return
    values = values[:, seen]
    how = {
        "median": lambda: np.nanmedian(values, 0),
        "max": lambda: np.nanmax(values, 0),
        "frequency": lambda: (values > 0).sum(0) / np.isfinite(values).sum(0),
    }
    np.testing.assert_allclose(found[seen], how[composite](), atol=1e-5)
    np.testing.assert_array_equal(read(made.layers[0] / "clear_dates.tif"), (flags == 0).sum(0))


def test_values_are_comparable_between_dates_because_nothing_is_scaled_by_the_scene(tmp_path: Path) -> None:
    """The same pixel among darker and among brighter surroundings has the same NDVI: the trap of the first pilot."""
    dark, bright = (np.full((4, SIDE, SIDE), level, np.uint16) for level in (1050, 9000))
    for picture in (dark, bright):
        picture[:, 20:28, 20:28] = REED[:, None, None]
    found = []
    for name, picture in (("dark", dark), ("bright", bright)):
        made = make_index_map("ndvi", "max", chips=cut_chips(picture), block="b1", out=tmp_path / name)
        found.append(read(made.layers[0] / "value.tif")[20:28, 20:28])
        style = (made.layers[0] / "value.qml").read_text(encoding="utf-8")
        assert 'classificationMin="-0.2" classificationMax="0.9"' in style, "colours are comparable too"
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_allclose(found[0], ndvi(REED), atol=1e-6)


def test_the_best_date_is_the_one_with_the_least_cloud_around_the_pixel_then_the_middle_one(tmp_path: Path) -> None:
    pictures = [np.full((4, SIDE, SIDE), 2000, np.uint16) for _ in DAYS]
    for number, picture in enumerate(pictures):
        picture[3] += 500 * number  # the date can be told from NDVI
    flags = np.zeros((len(DAYS), SIDE, SIDE), np.uint8)
    flags[2, 10:40, :8] = 2  # cloud in the west of the middle date
    made = make_index_map("ndvi", "best", chips=dated_chips(pictures, flags), block="b1", out=tmp_path / "map")
    found = read(made.layers[0] / "value.tif")
    date = np.abs(np.stack([ndvi(picture) for picture in pictures]) - found).argmin(0)
    assert (date[:, 30:] == 2).all(), "far from cloud the middle date"
    assert (date[12:36, 8:14] == 1).all(), "beside the cloud the earlier of the two dates next to the middle"


def test_aquatic_vegetation_is_high_ndvi_where_there_is_water_on_other_dates(tmp_path: Path) -> None:
    made = make_index_map(
        "ndvi", "max", chips=dated_chips(lake_pictures()), block="b1", out=tmp_path / "map", threshold=0.3,
        within="water",
    )  # fmt: skip
    names = [layer.name for layer in made.layers]
    assert names == ["ndwi-frequency", "ndvi-max", "ndvi-max-above-0.3-in-water"]
    found = read(made.layers[-1] / "class.tif")
    expected = np.full((SIDE, SIDE), 255)
    expected[8:40, 8:40] = 0
    expected[8:40, 8:20] = 1
    np.testing.assert_array_equal(found, expected)
    rows = {row["class"]: row for row in made.areas}
    assert rows["aquatic vegetation"]["hectares"] == pytest.approx(32 * 12 * 0.01)
    assert rows["open water"]["share"] == pytest.approx(20 / 32)
    assert json.loads((made.layers[-1] / "areas.json").read_text())["areas"] == [
        {name: row[name] for name in row if name not in ("layer", "month")} for row in made.areas
    ]
    item = json.loads((made.layers[-1] / "item.json").read_text())
    assert any(link["rel"] == "derived_from" and "ndvi-max/manifest.json" in link["href"] for link in item["links"])
    for name in ("class.qml", "quicklook.png", "class.tif.aux.xml"):
        assert (made.layers[-1] / name).is_file()


def test_a_date_that_alone_looks_wet_makes_no_water() -> None:
    share = np.array([0.2, 0.4, 1.0, 0.1, np.nan])
    np.testing.assert_array_equal(often_wet(share, np.array([5, 5, 1, 30, 0])), [False, True, False, False, False])


def test_each_month_has_its_layer_and_one_table_holds_all(tmp_path: Path) -> None:
    made = make_index_map(
        "ndvi", "max", chips=dated_chips(lake_pictures()), block="b1", out=tmp_path / "map", threshold=0.3,
        within="water", per_month=True,
    )  # fmt: skip
    vegetation = {row["month"]: row["pixels"] for row in made.areas if row["class"] == "aquatic vegetation"}
    assert vegetation == {5: 0, 6: 32 * 12, 8: 32 * 12, 9: 0}
    assert made.table is not None
    with made.table.open() as stream:
        assert [int(row["pixels"]) for row in csv.DictReader(stream) if row["class"] == "aquatic vegetation"] == [
            0, 384, 384, 0,
        ]  # fmt: skip


def test_change_tells_what_was_gained_and_lost_against_a_raster_on_another_grid(tmp_path: Path) -> None:
    earlier = np.zeros((SIDE, SIDE), np.uint8)
    earlier[8:24, 8:30] = 1  # the northern half was wider
    earlier[:, 46:] = 7
    earlier = earlier.repeat(2, 0).repeat(2, 1)
    path = tmp_path / "then.tif"
    with rasterio.open(
        path, "w", driver="GTiff", height=2 * SIDE, width=2 * SIDE, count=1, dtype="uint8", nodata=7, crs="EPSG:32633",
        transform=Affine(5, 0, LEFT, 0, -5, TOP),
    ) as target:  # fmt: skip
        target.write(earlier, 1)
    made = make_index_map(
        "ndvi", "max", chips=dated_chips(lake_pictures()), block="b1", out=tmp_path / "map", threshold=0.3,
        within="water", against=path,
    )  # fmt: skip
    found = read(made.layers[-1] / "class.tif")
    assert (found[8:24, 8:20] == 1).all(), "in both"
    assert (found[24:40, 8:20] == 2).all(), "gained"
    assert (found[8:24, 20:30] == 3).all(), "lost"
    assert (found[24:40, 20:40] == 0).all(), "in neither"
    rows = {row["class"]: row["pixels"] for row in made.areas if row["layer"].endswith("change")}
    assert rows == {"in neither": 20 * 32 - 160, "in both": 16 * 12, "gained": 16 * 12, "lost": 160}


def test_without_a_limit_the_earlier_index_is_subtracted(tmp_path: Path) -> None:
    chips = dated_chips(lake_pictures())
    first = make_index_map("ndvi", "max", chips=chips, block="b1", out=tmp_path / "may", months="5")
    made = make_index_map(
        "ndvi", "max", chips=chips, block="b1", months="6", out=tmp_path / "map",
        against=first.layers[0] / "value.tif",
    )  # fmt: skip
    found = read(made.layers[-1] / "value.tif")
    np.testing.assert_allclose(found[8:40, 8:20], ndvi(REED) - ndvi(WATER), atol=1e-5)
    np.testing.assert_allclose(found[:8], 0, atol=1e-6)


def test_change_is_not_known_where_either_picture_is_not() -> None:
    now, then = np.array([0, 1, 255, 1], np.uint8), np.array([1, 255, 1, 1], np.uint8)
    np.testing.assert_array_equal(change(now, then), [3, 255, 255, 1])


def test_the_same_command_again_does_nothing_and_gives_the_same_answer(tmp_path: Path) -> None:
    def make() -> tuple[object, float]:
        made = make_index_map(
            "ndvi", "max", chips=dated_chips(lake_pictures()), block="b1", out=tmp_path / "map", threshold=0.3
        )
        return made.areas, (made.layers[-1] / "class.tif").stat().st_mtime

    assert make() == make()


def test_zones_give_the_area_of_each_class_in_each_polygon(tmp_path: Path) -> None:
    made = make_index_map(
        "ndvi", "max", chips=dated_chips(lake_pictures()), block="b1", out=tmp_path / "map", threshold=0.3,
        within="water",
    )  # fmt: skip
    middle = LEFT + 240
    shapes = [box(LEFT, TOP - 480, middle, TOP), box(middle, TOP - 480, LEFT + 480, TOP), box(0, 0, 1, 1)]
    frame = gpd.GeoDataFrame({"kom_namn": ["Väst", "Öst", "Borta"], "kod": ["1", "2", "3"]}, geometry=shapes,
                             crs="EPSG:32633")  # fmt: skip
    frame.to_crs("EPSG:4326").to_file(tmp_path / "zones.geojson")
    table = write_zones(made.layers[-1], tmp_path / "zones.geojson", "kom_namn")
    with table.open(encoding="utf-8") as stream:
        rows = {(row["zone"], row["class"]): int(row["pixels"]) for row in csv.DictReader(stream)}
    assert rows[("Väst", "aquatic vegetation")] == 32 * 12
    assert rows[("Öst", "aquatic vegetation")] == 0
    assert rows[("Öst", "open water")] == 32 * 16
    assert {zone for zone, _ in rows} == {"Väst", "Öst"}
    values = write_zones(made.layers[1], tmp_path / "zones.geojson", "kom_namn").read_text(encoding="utf-8")
    assert values.startswith("zone,pixels,hectares,mean\n")
    with pytest.raises(InputError, match="which column"):
        write_zones(made.layers[-1], tmp_path / "zones.geojson", None)


def test_areas_in_degrees_are_areas_on_the_sphere(tmp_path: Path) -> None:
    with rasterio.open(
        tmp_path / "class.tif", "w", driver="GTiff", height=10, width=10, count=1, dtype="uint8", nodata=255,
        crs="EPSG:4326", transform=Affine(0.1, 0, 14, 0, -0.1, 60),
    ) as target:  # fmt: skip
        target.write(np.ones((1, 10, 10), np.uint8))
    (row,) = class_areas(tmp_path / "class.tif", {1: "all"})
    exact = 6371.0072**2 * np.radians(1) * (np.sin(np.radians(60)) - np.sin(np.radians(59)))
    assert row["hectares"] == pytest.approx(100 * exact, rel=1e-6)


def test_an_ordinal_map_carries_a_continuous_index(tmp_path: Path) -> None:
    from maps_fakes import PixelHead, smooth_picture, task

    ordinal = task()
    ordinal.ordinal = True
    made = make_map(PixelHead(ordinal), chips=cut_chips(smooth_picture()), block="b1", out=tmp_path / "map")
    with rasterio.open(made.layer / "probability.tif") as source:
        percent = source.read().astype(float)
    expected = (percent[1] + 2 * percent[2]) / 2 / percent.sum(0)
    assert np.abs(read(made.layer / "index.tif") - expected).max() < 0.011


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"index": "nvdi"}, "unknown index"),
        ({"composite": "mean"}, "unknown composite"),
        ({"within": "water"}, "--threshold with it"),
        ({"against": "missing.tif"}, "no such raster"),
        ({"threshold": 0.3, "within": "lake.gpkg"}, "no such file"),
        ({"index": "mndwi"}, "swir16"),
    ],
)
def test_wrong_wishes_are_refused(options: dict, message: str, tmp_path: Path) -> None:
    asked = {"index": "ndvi", "composite": "max", **options}
    with pytest.raises(InputError, match=message):
        make_index_map(**asked, chips=dated_chips(lake_pictures()), block="b1", out=tmp_path / "map")
    assert "swir16" not in BANDS
    assert not (tmp_path / "map").exists()


def test_the_command_wants_a_head_or_an_index_and_not_both() -> None:
    for options in ([], ["--head", "a", "--index", "ndvi"]):
        result = CliRunner().invoke(app, ["map", "--region", "malardalen", *options])
        assert result.exit_code == 2
        assert "say what to map" in result.output
    result = CliRunner().invoke(app, ["map", "--region", "malardalen", "--head", "a", "--threshold", "0.3"])
    assert result.exit_code == 2
    assert "--threshold: only for a map with --index" in result.output
