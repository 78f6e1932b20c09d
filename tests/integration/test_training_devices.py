"""Two processes on the CPU share chips and batches: they stay alike, only the first writes, and a dead run goes on."""

from __future__ import annotations

import csv
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import rasterio
import torch
from affine import Affine

from geossl.encoders.saved import load_encoder
from geossl.errors import WorkError
from geossl.methods.parts import processes
from geossl.training import module, ranks
from geossl.training.callbacks import Recorder
from geossl.training.pretrain import pretrain
from geossl.training.state import WORK

CHIPSET = """
bands: {b2: blue, b4: red, b8: nir}
encoding: {dtype: uint16, scale: 0.0001, offset: -0.1, nodata: 0}
resolution_m: 10
block: block
"""
METHOD = "method: METHOD\ntitle: small\nsettings: {output_dim: 16}\nviews: {size: 32}\n"


@pytest.fixture(scope="module")
def chips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("devices") / "chips"
    folder.mkdir()
    (folder / "chipset.yaml").write_text(CHIPSET, encoding="utf-8")
    for method in ("simclr", "deepcluster"):
        (folder.parent / f"{method}.yaml").write_text(METHOD.replace("METHOD", method), encoding="utf-8")
    rows = ["file,block"]
    profile = {"driver": "GTiff", "count": 3, "height": 32, "width": 32, "dtype": "uint16", "crs": "EPSG:32633"}
    for number in range(40):
        generator = np.random.default_rng(number)
        coarse = np.kron(generator.uniform(1100, 5000, (3, 4, 4)), np.ones((1, 8, 8)))
        stored = (coarse + generator.normal(scale=60, size=coarse.shape)).astype(np.uint16)
        place = Affine(10, 0, 600_000 + 400 * number, 0, -10, 6_600_000)
        with rasterio.open(folder / f"c{number}.tif", "w", transform=place, **profile) as target:
            target.write(stored)
            target.descriptions = ("b2", "b4", "b8")
        rows.append(f"c{number}.tif,b{number // 4}")
    (folder / "index.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


def train(chips: Path, out: Path, method: str = "simclr", **options: object) -> None:
    path = str(chips.parent / f"{method}.yaml")
    settings = {"epochs": 2, "batch_size": 8, "devices": 2, **options}
    pretrain(chips=chips, method=path, out=out, **settings)  # type: ignore[arg-type]


def followers() -> list[psutil.Process]:
    """Running followers that belong to this process."""
    mine = psutil.Process().children(recursive=True)
    return [one for one in mine if one.is_running() and "geossl.training.ranks" in " ".join(one.cmdline())]


@pytest.mark.parametrize("method", ["simclr", pytest.param("deepcluster", marks=pytest.mark.slow)])
def test_two_processes_train_one_encoder(
    chips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """Weights are compared at the end of every such run; that this happens is what the spy is for."""
    compared: list[int] = []
    check = module.check_alike

    def spy(network: torch.nn.Module) -> None:
        compared.append(processes())
        check(network)

    monkeypatch.setattr(module, "check_alike", spy)
    threads = torch.get_num_threads()
    train(chips, tmp_path / "a", method)
    assert compared == [2]
    encoder = load_encoder(tmp_path / "a")
    assert all(torch.isfinite(p).all() for p in encoder.parameters())
    with (tmp_path / "a" / "metrics.csv").open(encoding="utf-8") as stream:
        losses = [float(row["loss"]) for row in csv.DictReader(stream) if row["loss"]]
    assert losses and all(map(math.isfinite, losses))
    assert encoder.meta["config"]["devices"] == 2
    assert processes() == 1 and torch.get_num_threads() == threads and not followers()
    assert not (tmp_path / "a" / WORK).exists()


def test_a_process_that_cannot_begin_is_named(chips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEOSSL_HOME", str(tmp_path))
    begin = ranks._start

    def without_chips(work: ranks.Work, log: Path, threads: int) -> subprocess.Popen[bytes]:
        return begin(replace(work, chips=tmp_path / "nothing"), log, threads)

    monkeypatch.setattr(ranks, "_start", without_chips)
    with pytest.raises(WorkError, match=r"process 1 of 2 failed[\s\S]*no chips here"):
        train(chips, tmp_path / "a")
    assert not followers()


@pytest.mark.slow
def test_a_process_that_dies_ends_the_run_and_the_same_call_goes_on(
    chips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("geossl.training.callbacks.LOG_EVERY", 2)
    monkeypatch.setattr("geossl.training.callbacks.CHECKPOINT_EVERY_S", 0.0)
    train(chips, tmp_path / "whole")
    original = Recorder.on_train_batch_end

    def end(self: Recorder, trainer: object, module: object, outputs: object, batch: int, index: int) -> None:
        original(self, trainer, module, outputs, batch, index)  # type: ignore[arg-type]
        if int(batch) == 4:
            followers()[0].send_signal(signal.SIGKILL)

    monkeypatch.setattr(Recorder, "on_train_batch_end", end)
    with pytest.raises(WorkError, match="process 1 of 2 failed"):
        train(chips, tmp_path / "died")
    assert not followers()
    monkeypatch.setattr(Recorder, "on_train_batch_end", original)
    train(chips, tmp_path / "died")
    for name in ("encoder.safetensors", "metrics.csv"):
        assert (tmp_path / "died" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


@pytest.mark.slow
def test_followers_do_not_outlive_a_killed_command(chips: Path, tmp_path: Path) -> None:
    words = ["--chips", str(chips), "--method", str(chips.parent / "simclr.yaml"), "--out", str(tmp_path / "a")]
    words += ["--epochs", "500", "--batch-size", "8", "--devices", "2"]
    environment = {**os.environ, "GEOSSL_HOME": str(tmp_path / "home")}
    run = subprocess.Popen([sys.executable, "-m", "geossl", "-q", "pretrain", *words], env=environment)
    deadline = time.monotonic() + 200
    while not (tmp_path / "a" / WORK / "checkpoint.pt").exists():
        assert run.poll() is None and time.monotonic() < deadline, "no checkpoint was written"
        time.sleep(0.1)
    others = followers()
    assert len(others) == 1
    run.send_signal(signal.SIGKILL)
    run.wait()
    _, alive = psutil.wait_procs(others, timeout=30)
    assert not alive
