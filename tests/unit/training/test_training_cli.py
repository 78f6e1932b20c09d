"""``geossl pretrain``: every option reaches the run, help names every method, faults are one message and exit 2."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from geossl.cli.main import app
from geossl.methods.protocol import method_names


def test_help_names_every_method() -> None:
    told = " ".join(CliRunner().invoke(app, ["pretrain", "--help"], env={"COLUMNS": "200"}).output.split())
    assert all(f"{name}," in told for name in method_names())


def test_help_answers_without_torch() -> None:
    code = "import sys; from geossl.cli import pretrain; sys.exit('torch' in sys.modules or 'lightning' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_every_option_reaches_the_run(small_chips: Path, small_method: Callable[..., str], tmp_path: Path) -> None:
    words = ["--chips", str(small_chips), "--method", small_method(), "--epochs", "4", "--batch-size", "8", "--dry-run"]
    words += ["--accumulate", "2", "--devices", "2", "--pairs", "60-days", "--balance", "--stem", "small"]
    words += ["--out", str(tmp_path / "a"), "--seed", "7"]
    found = CliRunner().invoke(app, ["pretrain", *words])
    assert found.exit_code == 0, found.output
    for part in (
        "small-image stem",
        "within 60 days",
        "evenly over clusters",
        "on 2 devices, 2 batches a step",
        "seed 7",
    ):
        assert part in found.output
    found = CliRunner().invoke(app, ["pretrain", *words, "--json"])
    assert json.loads(found.stdout.splitlines()[-1])["steps"] == 4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--method", "simcrl"], "did you mean 'simclr'"),
        (["--log", "mlflow"], "--log mlflow"),
        (["--weights", "RESNET18_WRONG"], "RESNET18_WRONG"),
        (["--batch-size", "2"], "this batch is too small"),
    ],
)
def test_a_fault_is_one_message_and_exit_2(
    small_chips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], message: str
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    arguments = ["pretrain", "--chips", str(small_chips), "--out", str(tmp_path / "a"), "--batch-size", "8", *words]
    found = CliRunner().invoke(app, arguments)
    assert found.exit_code == 2 and "Traceback" not in found.output
    assert message in found.output and not (tmp_path / "a").exists()
