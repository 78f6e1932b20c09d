"""kill -9 in the middle of ``geossl tiles build``: the same command finishes, and the store is the undisturbed one."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine

from geossl import artefacts
from geossl.chips.store import part_files

DATES = [f"2018-{month:02d}-{day:02d}" for month in (5, 6, 7, 8) for day in (2, 14, 26)]
BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12")


@pytest.fixture
def scenes(tmp_path):
    """A folder of GeoTIFFs, 160 x 160 pixels on 12 dates."""
    folder = tmp_path / "scenes"
    folder.mkdir()
    generator = np.random.default_rng(0)
    facts = {"driver": "GTiff", "count": 12, "height": 160, "width": 160, "dtype": "int16", "crs": "EPSG:32633"}
    for date in DATES:
        with rasterio.open(
            folder / f"made_{date}.tif", "w", transform=Affine(10, 0, 600_000, 0, -10, 6_600_000), **facts
        ) as target:
            target.write(generator.integers(1, 4000, (12, 160, 160), dtype=np.int16))
            target.descriptions = BANDS
    return folder


def geossl(home: Path, *arguments: str) -> subprocess.Popen:
    environment = {**os.environ, "GEOSSL_HOME": str(home), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "geossl", *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(process: subprocess.Popen) -> str:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out


def content(store: Path) -> dict[str, str]:
    skip = {"run.json", ".lock"}
    return {
        str(file.relative_to(store)): artefacts.hash_file(file)
        for file in sorted(store.rglob("*"))
        if file.is_file() and file.name not in skip
    }


def test_a_killed_build_goes_on_and_ends_the_same(scenes, tmp_path):
    home = tmp_path / "home"
    finish(geossl(home, "cube", "index", str(scenes), "--profile", "sentinel-2-stacks"))
    build = ["tiles", "build", "--region", "16.5,59.4,17.0,59.7", "--tile-px", "10", "--block-tiles", "4", "--out"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    finish(geossl(home, *build, str(whole)))
    total = len(part_files(whole))
    assert total == 12  # 256 tiles on 12 dates, 256 chips a part

    for after in (1, 4):  # killed twice, at another place each time
        process = geossl(home, *build, str(killed))
        deadline = time.monotonic() + 60
        while len(part_files(killed)) < after and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        assert after <= len(part_files(killed)) < total, "the build was not killed half-way"

    out = finish(geossl(home, *build, str(killed)))
    assert "skip" in out and "skip 0" not in out  # what was done was not done again
    assert content(killed) == content(whole)
