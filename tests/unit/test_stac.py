"""Items and collections say where and when, are linked by relative addresses, and are the same each time."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pystac
import pytest
from affine import Affine
from shapely.geometry import box, shape

from geossl import stac

PLACEMENT = stac.Placement(
    box(600_000, 6_590_000, 610_000, 6_600_000), "EPSG:3006", (1000, 1000), Affine(10, 0, 600_000, 0, -10, 6_600_000)
)


def item(first: date = date(2018, 5, 1), last: date = date(2018, 9, 30)) -> pystac.Item:
    assets = {"class": stac.AssetFile("class.tif", "classes", stac.COG_TYPE, ("data",), {"bands": [{"name": "x"}]})}
    return stac.make_item("map-1", PLACEMENT, first, last, assets, {"geossl:task": "x"}, ["../head/manifest.json"])


def written(folder: Path) -> Path:
    folder.mkdir()
    made = item()
    stac.write_item_folder(folder, made, stac.make_collection("maps", "Maps", "All maps", [made]))
    return folder


def test_an_item_carries_range_projection_and_a_footprint_in_degrees() -> None:
    made = item().to_dict()
    properties = made["properties"]
    assert properties["datetime"] is None
    assert (properties["start_datetime"], properties["end_datetime"]) == (
        "2018-05-01T00:00:00Z",
        "2018-09-30T23:59:59Z",
    )
    assert properties["proj:code"] == "EPSG:3006"
    assert properties["proj:shape"] == [1000, 1000]
    assert properties["proj:transform"] == [10, 0, 600_000, 0, -10, 6_600_000]
    outline = shape(made["geometry"])
    assert outline.bounds == pytest.approx(made["bbox"])
    assert outline.contains(box(16.80, 59.47, 16.82, 59.48))
    assert 0.15 < made["bbox"][2] - made["bbox"][0] < 0.2


def test_a_single_day_is_the_datetime() -> None:
    assert item(last=date(2018, 5, 1)).to_dict()["properties"]["datetime"] == "2018-05-01T00:00:00Z"


def test_a_crs_without_a_code_is_given_as_wkt() -> None:
    sinusoidal = "+proj=sinu +lon_0=0 +R=6371007.181 +units=m"
    placement = stac.Placement(box(0, 0, 1000, 1000), sinusoidal, (10, 10), Affine(100, 0, 0, 0, -100, 1000))
    properties = stac.make_item("a", placement, date(2018, 1, 1), date(2018, 1, 1), {}, {}).properties
    assert properties["proj:code"] is None
    assert "Sinusoidal" in properties["proj:wkt2"]


def test_the_folder_can_be_read_and_moved(tmp_path: Path) -> None:
    folder = written(tmp_path / "one")
    folder = folder.rename(tmp_path / "moved")
    collection = pystac.Collection.from_file(str(folder / "collection.json"))
    (read,) = collection.get_items()
    assert read.id == "map-1"
    assert read.get_collection().id == "maps"
    assert read.assets["class"].get_absolute_href() == str(folder / "class.tif")
    assert [link.target for link in read.links if link.rel == "derived_from"] == ["../head/manifest.json"]
    text = (folder / "item.json").read_text() + (folder / "collection.json").read_text()
    assert str(tmp_path) not in text


def test_equal_inputs_give_equal_documents(tmp_path: Path) -> None:
    one, other = written(tmp_path / "one"), written(tmp_path / "other")
    for name in ("item.json", "collection.json"):
        assert (one / name).read_bytes() == (other / name).read_bytes()
    assert json.loads((one / "collection.json").read_text())["extent"]["temporal"]["interval"] == [
        ["2018-05-01T00:00:00Z", "2018-09-30T23:59:59Z"]
    ]
