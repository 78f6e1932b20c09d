"""The main job as a Prefect flow: the same as the verb, with no server of one's own, from ready chips."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def few_chips(real_data: Path, tmp_path: Path) -> Path:
    """Forty real chips of two blocks of bigearthnet-finland, under the name of the set."""
    source = real_data / "bigearthnet-finland"
    target = tmp_path / "bigearthnet-finland"
    (target / "images").mkdir(parents=True)
    rows = (source / "index.csv").read_text(encoding="utf-8").splitlines()
    kept = rows[1:400:5]
    (target / "index.csv").write_text("\n".join([rows[0], *kept]) + "\n", encoding="utf-8")
    for row in kept:
        name = row.split(",")[0]
        shutil.copyfile(source / name, target / name)
    return target


def run_flow(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "GEOSSL_HOME": str(home), "OMP_NUM_THREADS": "2", "NO_COLOR": "1"}
    environment.pop("PREFECT_API_URL", None)
    return subprocess.run(
        [sys.executable, "-m", "flows.pretrain", *words],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=400,
    )


def test_the_flow_makes_an_encoder_and_a_second_run_finds_it(few_chips: Path, home: Path, tmp_path: Path) -> None:
    words = ["--chips", str(few_chips), "--epochs", "1", "--out", str(tmp_path / "encoder")]
    first = run_flow(home, *words)
    assert first.returncode == 0, first.stderr
    weights = tmp_path / "encoder" / "encoder.safetensors"
    written = weights.read_bytes()
    assert f"encoder: {tmp_path / 'encoder'}" in first.stdout

    second = run_flow(home, *words)
    assert second.returncode == 0, second.stderr
    assert weights.read_bytes() == written


def test_wrong_input_is_a_sentence_and_exit_2(home: Path) -> None:
    done = run_flow(home)
    assert done.returncode == 2
    assert "one source of chips is needed" in done.stderr
