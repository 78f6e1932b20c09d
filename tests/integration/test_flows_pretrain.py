"""The main job as a Prefect flow: the same as the verb, with no server of one's own, from ready chips."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import flows_kit
import pytest


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


def test_the_flow_makes_an_encoder_and_a_second_run_finds_it(few_chips: Path, home: Path, tmp_path: Path) -> None:
    words = ["--chips", str(few_chips), "--epochs", "1", "--out", str(tmp_path / "encoder")]
    first = flows_kit.run(home, "flows.pretrain", *words)
    assert first.returncode == 0, first.stderr
    weights = tmp_path / "encoder" / "encoder.safetensors"
    written = weights.read_bytes()
    assert json.loads(first.stdout.splitlines()[-1])["encoder"] == str(tmp_path / "encoder")

    second = flows_kit.run(home, "flows.pretrain", *words)
    assert second.returncode == 0, second.stderr
    assert weights.read_bytes() == written


def test_wrong_input_is_a_sentence_and_exit_2(home: Path) -> None:
    done = flows_kit.run(home, "flows.pretrain")
    assert done.returncode == 2
    assert "one source of chips is needed" in done.stderr
