"""kill -9 in the middle of ``geossl embed``: the same command finishes, with the files of an undisturbed run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
import shapely
from geopandas.testing import assert_geodataframe_equal

from geossl.chips.grid import Grid
from geossl.chips.store import SHARD, empty_rows
from geossl.chips.writer import StoreWriter, prepare_store
from geossl.encoders.saved import random_encoder, save_encoder
from geossl.products import S2_ENCODING

BANDS = ("blue", "red", "nir")
SIDE, ROWS, COLUMNS = 16, 33, 2
DATES = pd.date_range("2018-05-01", periods=20, freq="5D", tz="UTC")
"""Twenty dates of 528 × 32 pixels: 1320 chips are two parts of the table, and two rows of windows of cells."""
TOTAL = ROWS * COLUMNS * len(DATES)


@pytest.fixture
def chips(tmp_path: Path) -> Path:
    """A chip store as ``geossl tiles build`` writes it."""
    path = tmp_path / "chips"
    grid = Grid("EPSG:32633", (10.0, 10.0), (600_000.0, 6_600_000.0), SIDE, 4)
    prepare_store(path, region="made", product="made", bands=BANDS, encoding=S2_ENCODING, grid=grid)
    writer = StoreWriter(path)
    generator = np.random.default_rng(0)
    for start in range(0, TOTAL, SHARD):
        numbers = np.arange(start, min(start + SHARD, TOTAL))
        day, iy, ix = np.unravel_index(numbers, (len(DATES), ROWS, COLUMNS))
        west, north = 16.7 + 0.003 * ix, 59.5 - 0.0015 * iy
        facts = {
            "chip": [f"c{number}" for number in numbers],
            "tile": [f"{x}_{y}" for x, y in zip(ix, iy, strict=True)],
            "block": [f"0_{y // 4}" for y in iy],
            "ix": ix,
            "iy": iy,
            "datetime": DATES[day],
            "solar_day": [str(one.date()) for one in DATES[day]],
            "clear": np.float32(1),
            "failed": np.float32(0),
            "status": "ok",
            "index": 0,
            "left": 600_000.0 + 10 * SIDE * ix,
            "top": 6_600_000.0 - 10 * SIDE * iy,
            "datasets": "",
            "baseline": "",
            "geometry": shapely.box(west, north - 0.0015, west + 0.003, north),
        }
        rows = gpd.GeoDataFrame(facts, geometry="geometry", crs="EPSG:4326")[list(empty_rows().columns)]
        coarse = np.kron(generator.uniform(1100, 5000, (len(numbers), 3, 2, 2)), np.ones((1, 1, 8, 8)))
        data = coarse + generator.normal(scale=60, size=coarse.shape)
        writer.commit(rows, data.astype(np.uint16), np.zeros((len(numbers), SIDE, SIDE), np.uint8))
    return path


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    folder = tmp_path / "encoder"
    save_encoder(random_encoder("resnet18", BANDS, [0.2] * 3, [0.1] * 3, 1), folder, resolution_m=10.0)
    return folder


def start(encoder: Path, chips: Path, out: Path) -> subprocess.Popen[str]:
    words = ["--encoder", str(encoder), "--chips", str(chips), "--out", str(out), "--json"]
    return subprocess.Popen(
        [sys.executable, "-m", "geossl", "embed", *words],
        env={**os.environ, "OMP_NUM_THREADS": "1", "GEOSSL_HOME": str(out.parent / "home")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(run: subprocess.Popen[str]) -> tuple[dict[str, Any], str]:
    try:
        out, err = run.communicate(timeout=150)
    finally:
        run.kill()
    assert run.returncode == 0, err
    return json.loads(out.splitlines()[-1]), err


def kill_when(run: subprocess.Popen[str], reached: Callable[[], bool]) -> str:
    """kill -9 as soon as something is reached; returns what the run has said."""
    deadline = time.monotonic() + 150
    try:
        while not reached():
            assert run.poll() is None, "the run ended before it could be killed"
            assert time.monotonic() < deadline, "the run did not come so far"
            time.sleep(0.005)
    finally:
        run.kill()  # SIGKILL
        _, err = run.communicate()
    assert run.returncode == -signal.SIGKILL
    return err


def text_of(file: Path) -> str:
    return file.read_text(encoding="utf-8") if file.is_file() else ""


def rasters_equal(one: Path, other: Path) -> bool:
    with rasterio.open(one) as first, rasterio.open(other) as second:
        same_place = (first.crs, first.transform, first.dtypes) == (second.crs, second.transform, second.dtypes)
        return same_place and np.array_equal(first.read(), second.read(), equal_nan=first.dtypes[0] == "float32")


def test_the_same_command_goes_on_after_kill_9_and_ends_with_the_same_table_and_cells(
    encoder: Path, chips: Path, tmp_path: Path
) -> None:
    whole, killed, work = tmp_path / "whole", tmp_path / "killed", tmp_path / ".killed.work"
    undisturbed, _ = finish(start(encoder, chips, whole))
    assert undisturbed["chips"] == undisturbed["chips_now"] == TOTAL

    part, progress = work / "part-00000.parquet", work / "progress.json"
    kill_when(start(encoder, chips, killed), part.exists)
    assert not progress.exists()
    embedded = part.stat().st_mtime_ns

    err = kill_when(start(encoder, chips, killed), lambda: '"rows_done": 1' in text_of(progress))
    assert "an earlier run was cut off" in err
    assert part.stat().st_mtime_ns == embedded  # what was embedded is not embedded again
    assert not killed.exists()

    resumed, err = finish(start(encoder, chips, killed))
    assert "cells of an earlier run are kept" in err
    assert resumed["chips_now"] == 0
    assert {**resumed, "seconds": 0, "folder": "", "chips_now": 0} == {
        **undisturbed, "seconds": 0, "folder": "", "chips_now": 0,
    }  # fmt: skip
    table, again = (gpd.read_parquet(folder / "embeddings.parquet") for folder in (whole, killed))
    assert len(table) == TOTAL
    np.testing.assert_array_equal(np.stack(again.pop("embedding")), np.stack(table.pop("embedding")))
    assert_geodataframe_equal(again, table)
    for name in ("cells.tif", "clear_dates.tif"):
        assert rasters_equal(killed / name, whole / name), name
    for name in (*undisturbed["files"], "manifest.json"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes(), name
    assert not work.exists()
