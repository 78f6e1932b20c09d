"""``geossl pretrain`` killed with SIGKILL: the same command finishes, with the weights of an undisturbed run."""

from __future__ import annotations

import json
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

CHIPSET = """
bands: {b2: blue, b4: red, b8: nir}
encoding: {dtype: uint16, scale: 0.0001, offset: -0.1, nodata: 0}
resolution_m: 10
block: block
"""
METHOD = """
method: moco2
title: small
settings: {hidden_dim: 128}
views: {size: 32}
"""


@pytest.fixture
def chips(tmp_path: Path) -> Path:
    folder = tmp_path / "chips"
    folder.mkdir()
    (folder / "chipset.yaml").write_text(CHIPSET, encoding="utf-8")
    (tmp_path / "small.yaml").write_text(METHOD, encoding="utf-8")
    rows = ["file,block"]
    profile = {"driver": "GTiff", "count": 3, "height": 40, "width": 40, "dtype": "uint16", "crs": "EPSG:32633"}
    for number in range(60):
        generator = np.random.default_rng(number)
        coarse = np.kron(generator.uniform(1100, 5000, (3, 5, 5)), np.ones((1, 8, 8)))
        stored = (coarse + generator.normal(scale=60, size=coarse.shape)).astype(np.uint16)
        transform = Affine(10, 0, 600_000 + 400 * number, 0, -10, 6_600_000)
        with rasterio.open(folder / f"c{number}.tif", "w", transform=transform, **profile) as target:
            target.write(stored)
            target.descriptions = ("b2", "b4", "b8")
        rows.append(f"c{number}.tif,b{number // 6}")
    (folder / "index.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


def start(chips: Path, out: Path) -> subprocess.Popen[str]:
    words = ["--chips", str(chips), "--method", str(chips.parent / "small.yaml"), "--out", str(out)]
    words += ["--epochs", "6", "--batch-size", "8", "--json"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GEOSSL_HOME": str(out.parent / "home")}
    return subprocess.Popen(
        [sys.executable, "-m", "geossl", "pretrain", *words],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(run: subprocess.Popen[str]) -> tuple[dict[str, object], str]:
    out, err = run.communicate(timeout=300)
    assert run.returncode == 0, err
    return json.loads(out.splitlines()[-1]), err


def test_the_same_command_goes_on_after_kill_9_and_ends_with_the_same_weights(chips: Path, tmp_path: Path) -> None:
    undisturbed, _ = finish(start(chips, tmp_path / "whole"))

    run = start(chips, tmp_path / "killed")
    checkpoint = tmp_path / "killed" / ".work" / "checkpoint.pt"
    deadline = time.monotonic() + 200
    while not checkpoint.exists():
        assert run.poll() is None and time.monotonic() < deadline, "no checkpoint was written"
        time.sleep(0.02)
    run.send_signal(signal.SIGKILL)
    run.communicate()
    assert run.returncode == -signal.SIGKILL
    assert not (tmp_path / "killed" / "manifest.json").exists()

    resumed, err = finish(start(chips, tmp_path / "killed"))
    assert "continuing at step" in err
    assert resumed["steps"] == undisturbed["steps"] == 6 * 4
    for name in ("encoder.safetensors", "manifest.json", "metrics.csv"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    assert not (tmp_path / "killed" / ".work").exists()

    again, err = finish(start(chips, tmp_path / "killed"))
    assert "this encoder is finished" in err
    assert again["encoder"] == resumed["encoder"]


def test_wrong_input_is_one_message_and_exit_2(chips: Path, tmp_path: Path) -> None:
    run = subprocess.run(
        [
            sys.executable,
            "-m",
            "geossl",
            "pretrain",
            "--chips",
            str(tmp_path / "nothing"),
            "--out",
            str(tmp_path / "a"),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 2
    assert "Traceback" not in run.stderr and "no chips here" in run.stderr
    assert not (tmp_path / "a").exists()
