"""Empty label files: every shipped task has one, and filled in it is read."""

from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import pandas as pd
import pytest
from shapely.geometry import Point, box
from typer.testing import CliRunner

from geossl.cli.main import app
from geossl.errors import InputError
from geossl.tasks.gauges import read_gauge
from geossl.tasks.sources import read_labels
from geossl.tasks.spec import load_task, task_names
from geossl.tasks.template import label_template


@pytest.mark.parametrize("name", task_names())
def test_every_shipped_task_has_a_template_whose_filled_copy_is_read(name: str, tmp_path: Path) -> None:
    made = label_template(name, tmp_path / "labels.gpkg")
    empty = gpd.read_file(made.path)
    assert len(empty) == 0
    assert set(empty.columns) == {*made.columns, "geometry"}
    spec = load_task(name)
    level = spec.kind == "level"
    values: list[object] = [1.5, 2.5] if not spec.classes else list(spec.class_names[:2])
    if spec.from_chips:
        values = ["meadow", "forest"]
    columns: dict[str, list[object]] = {spec.label_field: values}
    if spec.date_field:
        columns[spec.date_field] = [pd.Timestamp("2018-07-15"), pd.Timestamp("2018-07-16") if level else pd.NaT]
    filled = gpd.GeoDataFrame(columns, geometry=[Point(17, 59), box(17, 59, 17.1, 59.1)], crs=empty.crs)
    filled.to_file(made.path, layer=name, mode="a", driver="GPKG")
    if level:
        gauge = read_gauge(made.path, spec.date_field or "date", spec.label_field)
        assert gauge.level.tolist() == [1.5, 2.5]
        return
    _, labels = read_labels(spec, made.path, None)
    assert len(labels) == 2
    assert labels.frame["confidence"].tolist() == [1.0, 1.0]
    if spec.date_field:
        assert labels.frame["date"].iloc[0] == pd.Timestamp("2018-07-15")


def test_a_file_that_is_there_is_never_overwritten(tmp_path: Path) -> None:
    label_template("drought", tmp_path / "labels.gpkg")
    with pytest.raises(InputError, match="there already"):
        label_template("drought", tmp_path / "labels.gpkg")


def test_an_unknown_task_is_refused_with_the_names_there_are(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["labels", "template", "--task", "drougt", "--out", str(tmp_path / "a.gpkg")])
    assert result.exit_code == 2
    assert "drought" in result.output
    assert not (tmp_path / "a.gpkg").exists()
