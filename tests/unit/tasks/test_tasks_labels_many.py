"""Given a million polygons; then they are checked and read in bounded memory, none of them dropped unseen."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import geopandas as gpd
import numpy as np
import pyogrio
import pytest
from shapely import box

ROOT = Path(__file__).parents[3]
TILES, SIDE = 64, 128
PROGRAM = """
import json, resource, sys
from pathlib import Path
from geossl.labels.read import read_vector_labels
from geossl.regions import Region
from geossl.tasks.labels_check import check_labels
from shapely import box
from tests.unit.tasks.conftest import FakeStore
from tests.unit.tasks.test_tasks_labels_many import SIDE, TILES, WATER

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20

path, out = sys.argv[1:]
store = FakeStore(tiles=TILES, size=SIDE)
began = peak()
few = read_vector_labels(path, WATER.class_names, region=Region("few", box(15.0, 58.9, 15.02, 59.1)))
after_few = peak()
result = check_labels(path, WATER, out=out, chips=store)
print(json.dumps({"before": began, "region": after_few, "check": peak(), "few": len(few), "labels": result.labels,
                  "fate": result.fate, "duplicates": result.duplicates, "conflicts": result.conflicts}))
"""


def _task():  # type: ignore[no-untyped-def]
    from geossl.tasks.spec import TaskSpec

    kinds = [{"name": "land"}, {"name": "water"}]
    return TaskSpec.model_validate({"name": "w", "title": "W", "kind": "segmentation", "classes": kinds})


WATER = _task()


def write_polygons(path: Path, count: int) -> None:
    """Squares of 8 m, one in each of the first pixels of a row of tiles, in parts."""
    for start in range(0, count, 100_000):
        number = np.arange(start, min(start + 100_000, count))
        y, x = np.divmod(number, TILES * SIDE)
        left, top = 500_001 + 10 * x, 6_539_999 - 10 * y
        name = np.where(x % SIDE < SIDE // 2, "water", "land")
        frame = gpd.GeoDataFrame({"class": name}, geometry=box(left, top - 8, left + 8, top), crs="EPSG:32633")
        pyogrio.write_dataframe(frame, path, append=start > 0)


@pytest.mark.slow
def test_a_million_polygons_are_checked_in_bounded_memory(tmp_path: Path) -> None:
    count = 1_000_000
    write_polygons(tmp_path / "many.gpkg", count)
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "many.gpkg"), str(tmp_path / "out")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    print(found)
    assert found["labels"] == count and sum(found["fate"].values()) == count
    assert found["duplicates"] == 0 and found["conflicts"] == 0
    assert 0 < found["few"] < count / 10 and found["region"] - found["before"] < 0.5, (
        "memory of the region's labels only"
    )
    assert found["check"] - found["before"] < 2.0, "GB: a little over 1 KB a label, its geometry included"
