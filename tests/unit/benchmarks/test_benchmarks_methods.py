"""The learning table on a tiny set: every row is made once, kept, and put into the table with its interval."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine

from geossl.progress import set_quiet
from tests.benchmarks import methods, methods_runs

CHIPSET = """
title: Made for tests
bands: {b2: blue, b8: nir}
encoding: {dtype: uint16, scale: 0.0001, offset: 0.0, nodata: 0}
resolution_m: 10
block: block
labels: {kind: class, column: kind}
"""


@pytest.fixture
def chips(tmp_path: Path) -> Path:
    """Sixty chips of 16 px in twelve blocks, of two kinds that band statistics tell apart."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    (folder / "chipset.yaml").write_text(CHIPSET, encoding="utf-8")
    rows = ["file,block,kind"]
    generator = np.random.default_rng(0)
    for number in range(60):
        level = np.array([2000, 4000]) if number % 2 else np.array([4000, 2000])
        stored = (level[:, None, None] + generator.normal(scale=300, size=(2, 16, 16))).astype(np.uint16)
        profile = {"driver": "GTiff", "count": 2, "height": 16, "width": 16, "dtype": "uint16"}
        place = Affine(10, 0, 600_000 + number * 160, 0, -10, 6_600_000)
        with rasterio.open(folder / f"c{number}.tif", "w", crs="EPSG:32633", transform=place, **profile) as target:
            target.write(stored)
            target.descriptions = ("b2", "b8")
        rows.append(f"c{number}.tif,b{number % 12},{'wet' if number % 2 else 'dry'}")
    (folder / "index.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


def test_a_table_is_made_kept_and_continued(chips: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    work, out = tmp_path / "work", tmp_path / "methods.md"
    arguments = ["--sets", str(chips), "--methods", "simclr", "--samples", "40",
                 "--view-px", "16", "--work", str(work), "--out", str(out)]  # fmt: skip
    monkeypatch.setattr(methods, "make", in_this_process)
    monkeypatch.setattr(methods, "BUDGETS", ("samples",))
    assert methods.main(arguments) == 0
    outcomes = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert len(outcomes) == 5  # three controls, the method, and supervised from scratch
    statistics = outcomes["tiny_image-statistics"]["linear"]
    assert statistics["value"] == 1.0 and statistics["low"] <= statistics["value"] <= statistics["high"]
    run = outcomes["tiny_simclr_samples"]
    assert run["samples"] >= 40 and run["samples"] % run["steps"] == 0 and 0 <= run["knn"]["value"] <= 1
    page = out.read_text(encoding="utf-8")
    assert "| simclr |" in page and "5 of 5 rows" in page and "held-out blocks" in page
    assert not list((work / "encoders").iterdir())

    monkeypatch.setattr(methods_runs, "execute", None)  # whatever is there is not made again
    assert methods.main(arguments) == 0
    assert out.read_text(encoding="utf-8") == page
    with pytest.raises(SystemExit, match="other settings"):
        methods.main([*arguments, "--seed", "1"])


def in_this_process(runs, settings, jobs) -> None:
    for run in runs:
        if methods.done(run, settings) is None:
            methods_runs.execute(run, settings)
    set_quiet(False)
