"""Figures reach TensorBoard once a step, and MLflow only where it is asked for and told where to write."""

from __future__ import annotations

import importlib.machinery
import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from geossl.errors import InputError, WorkError
from geossl.training.logs import TENSORBOARD, check_log, opened_logs

ROWS = [
    {"step": 0, "knn": 0.25},
    {"step": 10, "loss": 2.5, "learning_rate": 0.03, "epoch": 1.0},
    {"step": 20, "loss": 2.0, "learning_rate": 0.01, "epoch": 2.0, "knn": 0.5},
]


def plan(out: Path, log: str | None = None) -> Any:
    return SimpleNamespace(out=out, options=SimpleNamespace(log=log), config={"method": "simclr", "seed": 3})


def earlier(figures: list[dict[str, float]]) -> Any:
    return SimpleNamespace(figures=figures)


def scalars(folder: Path, name: str) -> list[tuple[int, float]]:
    found = EventAccumulator(str(folder / TENSORBOARD))
    found.Reload()
    return [(event.step, round(event.value, 4)) for event in found.Scalars(name)]


def test_tensorboard_holds_the_figures_of_metrics_csv(tmp_path: Path) -> None:
    with opened_logs(plan(tmp_path), tmp_path, None) as logs:
        logs.write(ROWS[:2])
        logs.write(ROWS)
        logs.write(ROWS)
    assert scalars(tmp_path, "loss") == [(10, 2.5), (20, 2.0)]
    assert scalars(tmp_path, "knn") == [(0, 0.25), (20, 0.5)]


def test_a_continued_run_has_every_step_once(tmp_path: Path) -> None:
    with pytest.raises(KeyError), opened_logs(plan(tmp_path), tmp_path, None) as logs:
        logs.write(ROWS)
        raise KeyError
    with opened_logs(plan(tmp_path), tmp_path, earlier(ROWS[:2])) as logs:
        logs.write(ROWS[:2])
        logs.write(ROWS)
    assert scalars(tmp_path, "loss") == [(10, 2.5), (20, 2.0)]
    assert len(list((tmp_path / TENSORBOARD).iterdir())) == 1


class MlflowException(Exception):  # noqa: N818
    pass


class Server:
    """What an MLflow server would know: runs by id, each with parameters, metrics and status."""

    def __init__(self) -> None:
        self.runs: dict[str, dict[str, Any]] = {}
        self.experiments: list[str] = []
        self.down = False
        self.uris: list[str] = []

    def client(self, tracking_uri: str) -> Any:
        self.uris.append(tracking_uri)
        return self

    def _reached(self) -> None:
        if self.down:
            raise MlflowException("connection refused")

    def get_experiment_by_name(self, name: str) -> Any:
        self._reached()
        return SimpleNamespace(experiment_id="1") if name in self.experiments else None

    def create_experiment(self, name: str) -> str:
        self.experiments.append(name)
        return "1"

    def create_run(self, experiment_id: str, run_name: str) -> Any:
        number = f"run{len(self.runs)}"
        self.runs[number] = {"name": run_name, "params": {}, "metrics": [], "status": "RUNNING"}
        return SimpleNamespace(info=SimpleNamespace(run_id=number))

    def log_batch(self, run: str, metrics: Any = (), params: Any = ()) -> None:
        self._reached()
        assert len(metrics) <= 1000, "MLflow refuses larger requests"
        self.runs[run]["params"] |= {one.key: one.value for one in params}
        self.runs[run]["metrics"] += [(one.key, one.value, one.step) for one in metrics]

    def set_terminated(self, run: str, status: str) -> None:
        self.runs[run]["status"] = status


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    """MLflow is an extra, so a module with the calls that are used stands for it."""
    server, mlflow = Server(), ModuleType("mlflow")
    mlflow.__spec__ = importlib.machinery.ModuleSpec("mlflow", None)
    mlflow.MlflowClient = server.client  # type: ignore[attr-defined]
    mlflow.exceptions = SimpleNamespace(MlflowException=MlflowException)  # type: ignore[attr-defined]
    mlflow.entities = SimpleNamespace(  # type: ignore[attr-defined]
        Param=lambda key, value: SimpleNamespace(key=key, value=value),
        Metric=lambda key, value, timestamp, step: SimpleNamespace(key=key, value=value, step=step),
    )
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://localhost:5000")
    for name in ("MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK"):
        monkeypatch.setenv(name, "false")
    return server


def test_mlflow_gets_settings_and_figures_and_goes_on_in_the_same_run(server: Server, tmp_path: Path) -> None:
    check_log("mlflow")
    with pytest.raises(KeyError), opened_logs(plan(tmp_path, "mlflow"), tmp_path, None) as logs:
        logs.write(ROWS[:2])
        raise KeyError
    assert server.runs["run0"]["status"] == "RUNNING"
    with opened_logs(plan(tmp_path, "mlflow"), tmp_path, earlier(ROWS[:2])) as logs:
        logs.write(ROWS)
    (run,) = server.runs.values()
    assert server.experiments == ["geossl"] and run["name"] == tmp_path.name and run["status"] == "FINISHED"
    assert run["params"] == {"method": "simclr", "seed": "3"}
    assert [(name, step) for name, _, step in run["metrics"]] == [
        ("knn", 0), ("loss", 10), ("learning_rate", 10), ("epoch", 10),
        ("loss", 20), ("learning_rate", 20), ("epoch", 20), ("knn", 20),
    ]  # fmt: skip
    assert server.uris == ["http://localhost:5000"] * 2


def test_mlflow_takes_many_figures(server: Server, tmp_path: Path) -> None:
    with opened_logs(plan(tmp_path, "mlflow"), tmp_path, None) as logs:
        logs.write([{"step": step, "loss": 1.0, "rate": 0.1, "epoch": 2.0} for step in range(700)])
    assert len(server.runs["run0"]["metrics"]) == 2100


def test_mlflows_own_telemetry_is_off(server: Server, tmp_path: Path) -> None:
    with opened_logs(plan(tmp_path, "mlflow"), tmp_path, None):
        pass
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == os.environ["DO_NOT_TRACK"] == "true"


def test_a_server_that_is_away_stops_a_run_at_its_start_only(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.down = True
    refused = pytest.raises(WorkError, match=r"MLflow cannot be reached[\s\S]*localhost:5000")
    with refused, opened_logs(plan(tmp_path, "mlflow"), tmp_path, None):
        pass
    server.down = False
    with opened_logs(plan(tmp_path, "mlflow"), tmp_path, None) as logs:
        server.down = True
        logs.write(ROWS)
    assert "MLflow did not take the figures up to step 20" in capsys.readouterr().err


def test_mlflow_is_refused_where_it_is_missing_or_has_no_place_to_write(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    with pytest.raises(InputError, match="nothing says where MLflow writes"):
        check_log("mlflow")
    monkeypatch.delitem(sys.modules, "mlflow")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"not installed[\s\S]*geossl\[mlflow\]"):
        check_log("mlflow")
    check_log(None)
