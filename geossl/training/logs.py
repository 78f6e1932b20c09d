"""Figures of a run beside ``metrics.csv``: TensorBoard event files always, MLflow where it is asked for.

Rows are those of ``metrics.csv``. TensorBoard's files are rebuilt when a run is continued, so they hold every step
once. MLflow gets what it is told to get by ``MLFLOW_TRACKING_URI`` and nothing else is sent anywhere: its own usage
telemetry is switched off before it is imported.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import math
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from geossl.artefacts import write_json
from geossl.errors import InputError, WorkError
from geossl.progress import warn
from geossl.training.plan import Plan
from geossl.training.state import Checkpoint

Row = Mapping[str, float]
TENSORBOARD = "tensorboard"
_URI = "MLFLOW_TRACKING_URI"
_EXPERIMENT = "geossl"
_PARAM_LENGTH = 500
_AT_ONCE = 1000
_NOT_CURVES = ("step",)


class Log(Protocol):
    """Somewhere the figures of a run go; rows come in the order of their steps, each once."""

    def write(self, rows: Sequence[Row]) -> None:
        """Take further rows."""

    def close(self, finished: bool) -> None:
        """The run ends here: finished, or to be continued."""


class TensorBoardLog:
    """Scalars in ``<out>/tensorboard``; what an earlier attempt wrote there is replaced."""

    def __init__(self, out: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        shutil.rmtree(out / TENSORBOARD, ignore_errors=True)
        self._writer = SummaryWriter(str(out / TENSORBOARD))

    def write(self, rows: Sequence[Row]) -> None:
        """One scalar a figure, named as in ``metrics.csv``."""
        for row in rows:
            for name, value in row.items():
                if name not in _NOT_CURVES:
                    self._writer.add_scalar(name, value, int(row["step"]))
        self._writer.flush()

    def close(self, finished: bool) -> None:
        """Close the file."""
        self._writer.close()


class MlflowLog:
    """A run in the experiment ``geossl`` of the MLflow server or file that ``MLFLOW_TRACKING_URI`` names.

    A continued run goes on in the same MLflow run. An MLflow that fails on the way does not stop the training.
    """

    def __init__(self, folder: Path, name: str, config: Mapping[str, Any]) -> None:
        """``folder``: where the id of the MLflow run is kept until the training is finished.

        Raises:
            WorkError: MLflow cannot be reached.
        """
        os.environ["MLFLOW_DISABLE_TELEMETRY"] = os.environ["DO_NOT_TRACK"] = "true"
        self._mlflow = importlib.import_module("mlflow")
        self._failures = (self._mlflow.exceptions.MlflowException, OSError)
        self._client = self._mlflow.MlflowClient(tracking_uri=os.environ[_URI])
        kept = folder / "mlflow.json"
        try:
            if kept.is_file():
                self._run = json.loads(kept.read_text(encoding="utf-8"))["run"]
            else:
                self._run = self._begin(name, config)
                write_json(kept, {"run": self._run})
        except self._failures as error:
            raise WorkError(
                "MLflow cannot be reached",
                where=f"{_URI}={os.environ[_URI]}",
                found=str(error).splitlines()[0] if str(error) else type(error).__name__,
                remedy=f"check {_URI}, or leave --log mlflow out; metrics.csv and TensorBoard need no server",
            ) from error

    def _begin(self, name: str, config: Mapping[str, Any]) -> str:
        client, entities = self._client, self._mlflow.entities
        experiment = client.get_experiment_by_name(_EXPERIMENT)
        number = client.create_experiment(_EXPERIMENT) if experiment is None else experiment.experiment_id
        run: str = client.create_run(number, run_name=name).info.run_id
        params = [entities.Param(key, str(value)[:_PARAM_LENGTH]) for key, value in config.items()]
        client.log_batch(run, params=params)
        return run

    def write(self, rows: Sequence[Row]) -> None:
        """One metric a figure, in requests of as many as MLflow takes."""
        now = int(1000 * time.time())
        metric = self._mlflow.entities.Metric
        metrics = [
            metric(name, float(value), now, int(row["step"]))
            for row in rows
            for name, value in row.items()
            if name not in _NOT_CURVES and math.isfinite(value)
        ]
        try:
            for start in range(0, len(metrics), _AT_ONCE):
                self._client.log_batch(self._run, metrics=metrics[start : start + _AT_ONCE])
        except self._failures as error:
            warn(f"MLflow did not take the figures up to step {int(rows[-1]['step'])}: {error}")

    def close(self, finished: bool) -> None:
        """End the MLflow run where the training is finished; else it stays open to be continued."""
        try:
            if finished:
                self._client.set_terminated(self._run, status="FINISHED")
        except self._failures as error:
            warn(f"MLflow did not end its run: {error}")


def check_log(log: str | None) -> None:
    """Refuse a log that cannot be written, before anything starts.

    Raises:
        InputError: MLflow is asked for and not installed, or nothing says where it writes.
    """
    if log != "mlflow":
        return
    if importlib.util.find_spec("mlflow") is None:
        raise InputError(
            "MLflow is not installed", where="--log mlflow", remedy="pip install 'geossl[mlflow]', or leave --log out"
        )
    if not os.environ.get(_URI):
        raise InputError(
            "nothing says where MLflow writes",
            where="--log mlflow",
            expected=f"{_URI} in the environment",
            remedy=f"set {_URI}, such as http://localhost:5000 or sqlite:///mlflow.db",
        )


class Logs:
    """All logs of a run; :meth:`write` is given the whole list of figures and passes on what is new to each."""

    def __init__(self, logs: Sequence[Log], known: Sequence[int]) -> None:
        """``known``: rows that each log has got from an earlier attempt."""
        self._logs, self._known = list(logs), list(known)

    def write(self, figures: Sequence[Row]) -> None:
        """Pass on the rows that are new to each log."""
        for number, log in enumerate(self._logs):
            if len(figures) > self._known[number]:
                log.write(figures[self._known[number] :])
                self._known[number] = len(figures)


@contextmanager
def opened_logs(plan: Plan, folder: Path, earlier: Checkpoint | None) -> Iterator[Logs]:
    """The logs of a run, closed at its end: finished, or, where the block fails, to be continued.

    ``folder`` is where the run keeps its state; ``earlier`` is what it continues.
    """
    logs: list[Log] = [TensorBoardLog(plan.out)]
    known = [0]
    if plan.options.log == "mlflow":
        logs.append(MlflowLog(folder, plan.out.name, plan.config))
        known.append(len(earlier.figures) if earlier else 0)
    finished = False
    try:
        yield Logs(logs, known)
        finished = True
    finally:
        for log in logs:
            log.close(finished)
