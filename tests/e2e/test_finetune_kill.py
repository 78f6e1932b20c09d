"""``geossl finetune`` killed with SIGKILL: the same command goes on with its steps, to an undisturbed run's head."""

from __future__ import annotations

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

from geossl.encoders.saved import random_encoder, save_encoder

BANDS = ("green", "red", "nir")
CHIPSET = """
bands: {green: green, red: red, nir: nir}
encoding: {dtype: uint16, scale: 0.0001, offset: -0.1, nodata: 0}
resolution_m: 10
block: block
labels: {kind: mask, folder: masks, classes: {1: water, 2: land}, ignore: [0]}
"""
PROGRAM = """
import sys
from geossl.cli import main as cli
from geossl.tasks import scratch, steps

keep_s, *outs = sys.argv[1].split(",")
steps.KEEP_S = float(keep_s)
scratch.RATES, scratch.TRIAL_STEPS, scratch.STEPS, scratch.BATCH = (1e-3, 3e-3), 2, 3, 2
words, advance = sys.argv[2:], steps.Track.advance


def counted(bar, n=1, note=None):
    done.append(note)
    advance(bar, n, note)


steps.Track.advance = counted
for out in outs:  # both in one process, since it takes long to start
    done = []
    sys.argv[1:] = ["finetune", *words, "--out", out]
    try:
        cli.main()
    except SystemExit as end:
        assert not end.code, end.code
    print("steps", sum(note is not None and note.startswith("loss") for note in done), file=sys.stderr)
"""
STEPS = 2 * 2 + 3
"""Of each network: two trials and the run itself."""


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """A command for a decoder, which has dropout: from scratch and on the encoder, two networks learn one after the
    other."""
    encoder, folder = tmp_path / "encoder", tmp_path / "chips"
    save_encoder(random_encoder("resnet18", BANDS, [0.1] * 3, [0.1] * 3, 1), encoder, resolution_m=10.0)
    (folder / "masks").mkdir(parents=True)
    (folder / "chipset.yaml").write_text(CHIPSET, encoding="utf-8")
    mask = np.zeros((1, 32, 32))  # a labelled pixel of each class: the linear fits, which are not the matter, are quick
    mask[0, 10, 5], mask[0, 10, 25] = 1, 2
    generator, lines = np.random.default_rng(0), ["file,block"]
    for number in range(8):
        stored = np.where(np.arange(32) < 16, 1300, 3000) + generator.normal(scale=300, size=(3, 32, 32))
        transform = Affine(10, 0, 600_000 + 320 * number, 0, -10, 6_600_000)
        profile = {"driver": "GTiff", "height": 32, "width": 32, "crs": "EPSG:32633", "transform": transform}
        with rasterio.open(folder / f"c{number}.tif", "w", count=3, dtype="uint16", **profile) as target:
            target.write(stored.astype(np.uint16))
            target.descriptions = BANDS
        with rasterio.open(folder / "masks" / f"c{number}.tif", "w", count=1, dtype="uint8", **profile) as target:
            target.write(mask.astype(np.uint8))
        lines.append(f"c{number}.tif,b{number}")
    (folder / "index.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    asked = ["--task", "land-cover", "--encoder", str(encoder), "--chips", str(folder)]
    return [*asked, "--decoder", "fpn"]


def start(words: list[str], keep_s: int, *outs: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GEOSSL_HOME": str(outs[0].parent / "home")}
    command = [sys.executable, "-c", PROGRAM, ",".join([str(keep_s), *map(str, outs)]), *words]
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def kept(unfinished: Path, ending: str) -> int:
    return sum(not file.name.startswith(".") for file in unfinished.glob(f"*{ending}"))


def test_the_same_command_goes_on_after_kill_9_and_ends_with_the_same_head(words: list[str], tmp_path: Path) -> None:
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    unfinished = tmp_path / ".killed.unfinished"
    run = start(words, 0, killed)
    deadline = time.monotonic() + 300
    while kept(unfinished, ".json") < 2:  # a rate of the second network has been tried
        assert run.poll() is None and time.monotonic() < deadline, "it was not killed in time"
        time.sleep(0.02)
    run.send_signal(signal.SIGKILL)
    run.communicate()
    assert run.returncode == -signal.SIGKILL and not killed.exists() and kept(unfinished, ".pt") == 2

    last = start(words, 60, killed, whole)
    _, said = last.communicate(timeout=400)
    assert last.returncode == 0, said
    left, undisturbed = (int(line.split()[1]) for line in said.splitlines() if line.startswith("steps "))
    assert undisturbed == 2 * STEPS and left <= STEPS - 2
    assert "goes on after step 3 of 3" in said  # the first network, which had ended
    for name in ("head.safetensors", "manifest.json"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes(), name
    assert not unfinished.exists()
