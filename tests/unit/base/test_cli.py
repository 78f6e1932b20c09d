"""The command line answers at once, explains every verb, and turns errors into text and exit codes."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass

import pytest
import typer

from geossl.cli.common import run_verb
from geossl.errors import InputError, WorkError

VERBS = ["cube index", "cube status", "cube products", "sandbox create", "tiles build", "tiles status", "views preview"]
VERBS += ["pretrain", "finetune", "evaluate", "distill", "map", "embed", "level", "doctor"]


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from geossl.cli.main import main; main()", *words], capture_output=True, text=True
    )


def test_help_names_every_verb_and_imports_nothing_heavy() -> None:
    heavy = "torch numpy pandas datacube kornia lightning prefect geopandas matplotlib"
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom geossl.cli.main import app\n"
        "result = CliRunner().invoke(app, ['--help'])\nprint(result.output)\n"
        f"print('HEAVY', [name for name in '{heavy}'.split() if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "HEAVY []" in done.stdout
    for word in ("cube", "sandbox", "tiles", "pretrain", "finetune", "map"):
        assert word in done.stdout


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself_with_an_example(verb: str) -> None:
    done = run(*verb.split(), "--help")
    assert done.returncode == 0, done.stderr
    assert f"geossl {verb}" in done.stdout
    assert "--json" in done.stdout


def test_wrong_usage_exits_2() -> None:
    assert run("pretrain", "--no-such-option").returncode == 2


@dataclass(frozen=True)
class Result:
    new: int


@pytest.mark.parametrize(("error", "code"), [(InputError("bad"), 2), (WorkError("broke"), 1), (KeyError("k"), 1)])
def test_errors_become_text_and_exit_codes(
    error: Exception, code: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GEOSSL_DEBUG", raising=False)

    def work() -> Result:
        raise error

    with pytest.raises(typer.Exit) as stopped:
        run_verb(work, False, str)
    assert stopped.value.exit_code == code
    printed = capsys.readouterr().err
    assert printed.startswith("error: ")
    assert "Traceback" not in printed


def test_json_is_one_line_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    run_verb(lambda: Result(3), True, str)
    assert capsys.readouterr().out == '{"new": 3}\n'
