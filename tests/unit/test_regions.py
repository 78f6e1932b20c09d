"""Regions and periods: shipped names, files, boxes; and what is refused, with its remedy."""

from __future__ import annotations

from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path

import geopandas as gpd
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from shapely.geometry import LineString, Point, box

from geossl.errors import InputError
from geossl.regions import Period, load_region, parse_months, parse_period, region_names

DAYS = st.dates(date(1984, 1, 1), date(2099, 12, 31))


@given(DAYS, st.integers(0, 5000))
def test_a_period_is_what_it_prints(start: date, length: int) -> None:
    period = Period(start, start + timedelta(days=length))
    assert parse_period(str(period)) == period
    assert period.contains(period.start) and period.contains(period.end)
    assert not period.contains(period.end + timedelta(days=1))
    assert not period.contains(period.start - timedelta(days=1))


@given(DAYS)
def test_a_month_is_its_days_and_a_year_its_months(day: date) -> None:
    month, year = parse_period(f"{day:%Y-%m}"), parse_period(f"{day:%Y}")
    assert month.start.day == 1 and month.contains(day)
    assert (month.end + timedelta(days=1)).day == 1
    assert year == Period(date(day.year, 1, 1), date(day.year, 12, 31))
    assert parse_period(f"{day.year}-01/{day.year}-12") == year


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("2018", date(2018, 1, 1), date(2018, 12, 31)),
        ("2020-02", date(2020, 2, 1), date(2020, 2, 29)),
        (" 2018-05-01 / 2018-09-30 ", date(2018, 5, 1), date(2018, 9, 30)),
        ("2016/2018-06", date(2016, 1, 1), date(2018, 6, 30)),
        ("2018-07-03", date(2018, 7, 3), date(2018, 7, 3)),
    ],
)
def test_periods_that_people_write(text: str, start: date, end: date) -> None:
    assert parse_period(text) == Period(start, end)


@pytest.mark.parametrize("text", ["", "summer", "2018-13", "2018-02-30", "2018-01-01-01", "2018/2017", "18:05"])
def test_what_is_no_period_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="period"):
        parse_period(text)


@given(st.integers(1, 12), st.integers(1, 12))
def test_month_ranges_run_forward_over_the_turn_of_the_year(first: int, last: int) -> None:
    months = parse_months(f"{first}-{last}")
    assert months[0] == first and months[-1] == last
    assert len(months) == (last - first) % 12 + 1 == len(set(months))
    assert all(after == before % 12 + 1 for before, after in pairwise(months))


@given(st.lists(st.integers(1, 12), min_size=1))
def test_listed_months_keep_their_order_once_each(months: list[int]) -> None:
    assert parse_months(",".join(map(str, months))) == tuple(dict.fromkeys(months))


@pytest.mark.parametrize("text", ["", "0", "13", "may", "-5", "5-13", "5,,6"])
def test_what_is_no_month_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="not months"):
        parse_months(text)


@pytest.mark.parametrize("name", ["malardalen", "malaren", "vanern", "bohuslan"])
def test_shipped_regions_are_valid_and_lie_in_sweden(name: str) -> None:
    region = load_region(name)
    west, south, east, north = region.bbox
    assert region.name == name
    assert region.geometry.is_valid and 10 < west < east < 20 and 57 < south < north < 61
    assert region.months == (5, 6, 7, 8, 9)
    assert region.resolution_m == 10 and region.tile_px == 80


@pytest.mark.parametrize(
    ("name", "km2"), [("malardalen", 36_701), ("malaren", 1_815), ("vanern", 5_749), ("bohuslan", 5_779)]
)
def test_simplified_outlines_keep_the_area(name: str, km2: float) -> None:
    assert load_region(name).geometry_in("EPSG:3006").area / 1e6 == pytest.approx(km2, rel=0.04)


def test_shipped_outlines_cover_the_areas_they_come_from(real_data: Path) -> None:
    areas = gpd.read_file(real_data / "regions-sweden" / "aoi.geojson").set_index("id").to_crs("EPSG:3006")
    for name in region_names():
        if name in areas.index:
            whole, simple = areas.geometry[name], load_region(name).geometry_in("EPSG:3006")
            assert whole.intersection(simple).area > 0.95 * whole.area
            assert simple.difference(whole).area < 0.08 * whole.area


def test_the_sandbox_lies_within_malardalen_on_whole_tiles() -> None:
    from geossl.sandbox.spec import frame_of, load_spec

    region, frame = load_region("malardalen"), frame_of(load_spec("malardalen"))
    left, bottom, right, top = frame.bounds
    assert region.crs == frame.crs
    assert region.geometry_in(frame.crs).contains(box(left, bottom, right, top))
    assert all(edge % (region.tile_px * 10) == 0 for edge in frame.bounds)
    assert left % 2400 == 0 and top % 2400 == 0


def test_a_box_is_a_region_without_a_grid() -> None:
    region = load_region("16.5,59.4,17.2,59.8")
    assert region.bbox == (16.5, 59.4, 17.2, 59.8)
    assert region.crs is None and region.months is None
    assert region.with_grid(crs="EPSG:3006", tile_px=40).crs == "EPSG:3006"
    assert load_region("-3.5,40,-3,41").name == "box_m3p5_40_m3_41"


@pytest.mark.parametrize("text", ["17,59,16,60", "17,60,18,59", "170,59,190,60", "0,-95,1,0"])
def test_an_impossible_box_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="not a box"):
        load_region(text)


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean 'malardalen'") as caught:
        load_region("malardal")
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson", ".parquet"])
def test_vector_files_of_any_crs_become_degrees(tmp_path: Path, suffix: str) -> None:
    square = gpd.GeoDataFrame(geometry=[box(17, 59.5, 17.2, 59.6), box(17.1, 59.5, 17.3, 59.6)], crs="EPSG:4326")
    path = tmp_path / f"farm{suffix}"
    moved = square if suffix == ".geojson" else square.to_crs("EPSG:3006")
    moved.to_parquet(path) if suffix == ".parquet" else moved.to_file(path)
    region = load_region(path)
    assert region.name == "farm"
    assert region.bbox == pytest.approx((17, 59.5, 17.3, 59.6), abs=2e-3)


@pytest.mark.parametrize("geometry", [Point(17, 59), LineString([(17, 59), (18, 60)])])
def test_a_file_without_area_is_refused(tmp_path: Path, geometry: object) -> None:
    path = tmp_path / "thin.gpkg"
    gpd.GeoDataFrame(geometry=[geometry], crs="EPSG:4326").to_file(path)
    with pytest.raises(InputError, match="no area"):
        load_region(path)


def test_a_file_without_crs_or_that_is_no_vector_file_is_refused(tmp_path: Path) -> None:
    bare = tmp_path / "bare.gpkg"
    gpd.GeoDataFrame(geometry=[box(0, 0, 1, 1)]).to_file(bare)
    with pytest.raises(InputError, match="names no CRS"):
        load_region(bare)
    broken = tmp_path / "broken.gpkg"
    broken.write_bytes(b"this is no GeoPackage")
    with pytest.raises(InputError, match="cannot read this vector file"):
        load_region(broken)


def _region_yaml(tmp_path: Path, **changes: object) -> Path:
    geometry = {"type": "Polygon", "coordinates": [[[17, 59], [18, 59], [18, 60], [17, 60], [17, 59]]]}
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"title": "mine", "crs": "EPSG:3006", "geometry": geometry, **changes}))
    return path


def test_ones_own_region_file_carries_grid_period_and_months(tmp_path: Path) -> None:
    region = load_region(_region_yaml(tmp_path, tile_px=64, period="2018/2020", months="5-9"))
    assert (region.name, region.tile_px, region.crs) == ("mine", 64, "EPSG:3006")
    assert region.period == Period(date(2018, 1, 1), date(2020, 12, 31))
    assert region.months == (5, 6, 7, 8, 9)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tile_px": 4}, "too small"),
        ({"block_tiles": 0}, "too small"),
        ({"colour": "blue"}, "colour"),
        ({"period": "soon"}, "not a period"),
    ],
)
def test_faults_in_a_region_file_are_named(tmp_path: Path, changes: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        load_region(_region_yaml(tmp_path, **changes))


def test_a_missing_region_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such configuration file"):
        load_region(tmp_path / "nowhere.yaml")
