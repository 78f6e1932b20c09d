"""Given files read in parts; then rows are numbered as in the file, and parts give what the whole would."""

from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
from shapely.geometry import Point, Polygon, box

from geossl.errors import InputError
from geossl.labels import files
from geossl.labels.files import open_vector
from geossl.labels.read import Fields, class_names_in, label_column, read_vector_labels
from geossl.labels.spatial import conflicts, duplicates
from geossl.regions import Region

CLASSES = ("land", "water")
NAMES = ("labels.gpkg", "labels.geojson", "labels.parquet", "labels.shp", "labels.fgb")


@pytest.fixture(autouse=True)
def _three_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "ROWS_AT_ONCE", 3)


def table(**changes: object) -> gpd.GeoDataFrame:
    """Eight squares, every second one water."""
    shapes = [box(500_000 + 100 * n, 6_540_000, 500_050 + 100 * n, 6_540_050) for n in range(8)]
    columns = {"class": ["land", "water"] * 4, "note": list("abcdefgh"), **changes}
    return gpd.GeoDataFrame(columns, geometry=shapes, crs="EPSG:32633")


def write(frame: gpd.GeoDataFrame, path: Path) -> Path:
    frame.to_parquet(path) if path.suffix == ".parquet" else frame.to_file(path)
    return path


@pytest.mark.parametrize("name", NAMES)
def test_every_format_comes_in_parts_in_the_order_of_the_file(tmp_path: Path, name: str) -> None:
    frame = table(date=["2018-07-01", None] * 4, confidence=[0.5] * 8)
    file = open_vector(write(frame, tmp_path / name))
    parts = list(file.parts(["class"]))
    assert [len(part) for part in parts] == [3, 3, 2] and file.count == 8
    assert np.concatenate([part.index for part in parts]).tolist() == list(range(1, 9))
    labels = read_vector_labels(tmp_path / name, CLASSES)
    column = label_column(labels, "note")
    assert (
        column is not None and labels.rows.tolist() == list(range(1, 9)) and (labels.frame["confidence"] == 0.5).all()
    )
    order = np.array(["abcdefgh".index(one) for one in column])  # FlatGeobuf sorts its rows by place
    assert sorted(order) == list(range(8)) and (labels.frame["value"] == order % 2).all()
    assert (labels.frame["date"].notna() == (order % 2 == 0)).all()
    middle = labels.frame.to_crs("EPSG:32633").centroid
    assert middle.x.to_numpy() == pytest.approx(500_025 + 100 * order, abs=0.01)
    assert class_names_in(tmp_path / name, "class") == CLASSES


def test_faults_in_later_parts_name_the_rows_of_the_file(tmp_path: Path) -> None:
    foreign = write(table(**{"class": ["land"] * 6 + ["forest", "land"]}), tmp_path / "a.gpkg")
    with pytest.raises(InputError, match=r"'forest' \(1\); row 7"):
        read_vector_labels(foreign, CLASSES)
    dated = write(table(date=[""] * 4 + ["midsummer"] * 2 + [""] * 2), tmp_path / "b.gpkg")
    with pytest.raises(InputError, match="rows 5, 6"):
        read_vector_labels(dated, CLASSES)
    broken = table()
    broken.loc[6, "geometry"] = Polygon([(0, 0), (10, 10), (20, 20), (0, 0)])
    with pytest.raises(InputError, match="broken geometries") as caught:
        read_vector_labels(write(broken, tmp_path / "c.gpkg"), CLASSES)
    assert "row 7" in str(caught.value)
    backwards = table(date=["2018-07-01"] * 8, date_end=["2018-07-02"] * 5 + ["2018-06-01"] * 3)
    with pytest.raises(InputError, match="end before they begin") as caught:
        read_vector_labels(write(backwards, tmp_path / "d.gpkg"), CLASSES)
    assert "row 6" in str(caught.value)


def test_rows_that_are_repaired_unlabelled_or_outside_are_told_with_their_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = table(**{"class": ["land", "", "water", None, "land", "water", "land", "water"]})
    frame.loc[4, "geometry"] = Polygon(
        [(500_400, 6_540_000), (500_420, 6_540_020), (500_420, 6_540_000), (500_400, 6_540_020)]
    )
    path = write(frame, tmp_path / "labels.gpkg")
    edge = gpd.GeoSeries([Point(500_575, 6_540_000)], crs="EPSG:32633").to_crs("EPSG:4326").iloc[0].x
    labels = read_vector_labels(path, CLASSES, region=Region("west", box(14.9, 58.9, edge, 59.1)))
    said = capsys.readouterr().err
    assert labels.rows.tolist() == [1, 3, 5, 6] and labels.frame.geometry.is_valid.all()
    assert "2 rows are not labelled yet and are left out: rows 2, 4" in said
    assert "1 polygons cross themselves and were repaired: row 5" in said
    assert "2 of 6 labels lie outside region west and are left out: rows 7, 8" in said


def test_soft_labels_and_numbers_may_have_rows_that_wait_for_their_label(tmp_path: Path) -> None:
    soft = table(land=[0.25, None] * 4, water=[0.75, None] * 4).drop(columns="class")
    labels = read_vector_labels(write(soft, tmp_path / "soft.gpkg"), CLASSES)
    assert labels.rows.tolist() == [1, 3, 5, 7] and labels.shares is not None
    assert labels.shares.tolist() == [[0.25, 0.75]] * 4
    numbers = table(depth=[1.5, None, 2.5, None, 3.5, 4.5, 5.5, 6.5])
    assert read_vector_labels(write(numbers, tmp_path / "n.gpkg"), (), Fields("depth")).frame["value"].tolist() == [
        1.5, 2.5, 3.5, 4.5, 5.5, 6.5,
    ]  # fmt: skip


def test_files_that_are_none_say_so(tmp_path: Path) -> None:
    for name, text in (("a.gpkg", "no file"), ("a.geojson", "{"), ("a.parquet", "PAR1")):
        (tmp_path / name).write_text(text)
        with pytest.raises(InputError, match="cannot read this label file"):
            read_vector_labels(tmp_path / name, CLASSES)
    pd.DataFrame({"class": ["land"]}).to_parquet(tmp_path / "plain.parquet")
    with pytest.raises(InputError, match="no geometries"):
        read_vector_labels(tmp_path / "plain.parquet", CLASSES)
    with pytest.raises(InputError, match="no such label file"):
        read_vector_labels(tmp_path / "nowhere.gpkg", CLASSES)
    with pytest.raises(InputError, match="not known"):
        (tmp_path / "a.txt").write_text("x")
        read_vector_labels(tmp_path / "a.txt", CLASSES)


def test_the_same_twice_and_contradictions_are_found_wherever_they_stand(tmp_path: Path) -> None:
    frame = table()
    frame.loc[7, "geometry"] = frame.geometry.iloc[1].reverse()
    frame.loc[6, "geometry"] = frame.geometry.iloc[1]
    labels = read_vector_labels(write(frame, tmp_path / "labels.gpkg"), CLASSES)
    assert duplicates(labels).tolist() == [-1] * 7 + [1]
    assert sorted(map(tuple, conflicts(labels, 10, 5).tolist())) == [(1, 6), (6, 7)]
