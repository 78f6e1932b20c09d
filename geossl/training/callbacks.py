"""What happens beside the steps: figures, checks, checkpoints, and turning a time limit into a number of steps.

Everything that is kept is a function of the step alone, so an interrupted run writes the same ``metrics.csv``.
"""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch

from geossl.artefacts import atomic_file
from geossl.errors import WorkError
from geossl.progress import Track
from geossl.training.logs import Logs
from geossl.training.module import PretrainModule
from geossl.training.monitor import Monitor
from geossl.training.optim import COLD_STEPS, MEASURED_STEPS, TIMED_STEPS
from geossl.training.ranks import share_total
from geossl.training.state import Checkpoint, Workspace

LOG_EVERY = 10
CHECKPOINT_EVERY_S = 45.0
_FEWEST_STEPS = 2
_MOST_EVALUATIONS, _FEWEST_EVALUATIONS = 12, 4
_REPORT_S = 10.0


def evaluation_interval(total: int, steps_per_epoch: float) -> int:
    """Steps between evaluations: an epoch, but 4 to 12 evaluations in a run, and never fewer than ten steps."""
    most, fewest = math.ceil(total / _MOST_EVALUATIONS), total // _FEWEST_EVALUATIONS
    return max(min(max(int(steps_per_epoch), most), fewest), most, LOG_EVERY)


def steps_in_time(seconds: float, step_s: float, evaluation_s: float, steps_per_epoch: float) -> int:
    """Steps that fit into ``seconds`` beside the evaluations they bring with them; at least two."""
    steps = max(int(seconds / max(step_s, 1e-9)), 1)
    evaluations = math.ceil(steps / evaluation_interval(steps, steps_per_epoch))
    return max(int((seconds - evaluations * evaluation_s) / max(step_s, 1e-9)), _FEWEST_STEPS)


class Recorder(pl.Callback):
    """Keeps the figures of a run, evaluates, saves checkpoints, stops what went wrong."""

    def __init__(
        self,
        workspace: Workspace,
        monitor: Monitor,
        bar: Track,
        logs: Logs,
        earlier: Checkpoint | None,
        max_seconds: float | None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.workspace, self.monitor, self.bar, self.logs = workspace, monitor, bar, logs
        self.max_seconds, self.clock = max_seconds, clock
        self.figures: list[dict[str, float]] = list(earlier.figures) if earlier else []
        self.train_seconds = earlier.train_seconds if earlier else 0.0
        self.attempts = earlier.attempts + 1 if earlier else 1
        self._seconds_before = earlier.seconds if earlier else 0.0
        self._started = self._mark = self._saved = clock()
        self._timed_from = 0.0
        self._evaluation_s = 0.0
        self._sum: torch.Tensor | None = None
        self._summed = 0

    @property
    def seconds(self) -> float:
        """Wall time of all attempts so far."""
        return self._seconds_before + self.clock() - self._started

    def on_train_start(self, trainer: pl.Trainer, module: PretrainModule) -> None:  # type: ignore[override]
        """Evaluate the untrained network: what training has to beat."""
        began = self.clock()
        if not self.figures:
            self.figures.append({"step": 0, **self._evaluate(module, step=0, last=False)})
        self._evaluation_s = self.clock() - began
        self._mark = self.clock()

    def on_train_batch_end(  # type: ignore[override]
        self, trainer: pl.Trainer, module: PretrainModule, outputs: object, batch: int, batch_idx: int
    ) -> None:
        """Count the step; at fixed steps write figures, evaluate and save."""
        self._sum = module.loss.clone() if self._sum is None else self._sum + module.loss
        self._summed += 1
        done, rest = divmod(int(batch) + 1, module.accumulate)
        if rest:
            return
        if module.schedule.total is None:
            self._time(done, module)
        total = module.schedule.total
        last = done == total
        timing = module.schedule.timed and done < MEASURED_STEPS
        due = total is not None and not timing and done % evaluation_interval(total, module.steps_per_epoch) == 0
        if not (due or last or done % LOG_EVERY == 0):
            self.bar.advance(1)
            return
        row = self._row(done, module)
        self._pause(module)
        if due or last:
            row |= self._evaluate(module, done, last)
        self.figures.append(row)
        # A run that is continued while it is timed would be timed wrongly: those few steps are done again.
        if due or last or (not timing and self.clock() - self._saved > CHECKPOINT_EVERY_S):
            self.save(done, trainer, module)
        self.bar.advance(1, note=note(self.figures))
        self._mark = self.clock()

    def save(self, step: int, trainer: pl.Trainer, module: PretrainModule) -> None:
        """A checkpoint whose next step is ``step``, and the figures as CSV and in the logs."""
        self.logs.write(self.figures)
        self.workspace.save(
            Checkpoint(
                step,
                module.method.state_dict(),
                trainer.optimizers[0].state_dict(),
                self.figures,
                self.seconds,
                self.train_seconds,
                self.attempts,
                module.batches.weights,
            )
        )
        write_figures(self.workspace.out / "metrics.csv", self.figures)
        self._saved = self.clock()

    def _time(self, done: int, module: PretrainModule) -> None:
        """Time the first warm steps and store the number of steps that fit into the limit."""
        if done not in (COLD_STEPS, MEASURED_STEPS):
            return
        float(module.loss)  # a GPU has really finished the step when its loss is read
        if done == COLD_STEPS:
            self._timed_from = self.clock()
            return
        step_s = (self.clock() - self._timed_from) / TIMED_STEPS
        left = (self.max_seconds or 0.0) - (self.clock() - self._started) - _REPORT_S
        total = done + steps_in_time(left, step_s, self._evaluation_s, module.steps_per_epoch)
        self.workspace.store_total(total)
        module.schedule.total = total
        share_total(module.schedule, module.device)
        self.bar.total = total

    def _row(self, done: int, module: PretrainModule) -> dict[str, float]:
        loss = float(self._sum) / self._summed if self._sum is not None else math.nan
        self._sum, self._summed = None, 0
        if not math.isfinite(loss):
            self.workspace.discard()
            raise WorkError(
                "the loss is no longer a number",
                where=f"step {done}",
                found=loss,
                remedy="check scale and offset of the product (values far outside 0..1 do this), or take a smaller "
                "--batch-size: the learning rate follows it",
            )
        logs = {name: float(value) for name, value in module.logs.items()}
        epoch = done / module.steps_per_epoch
        return {"step": done, "epoch": round(epoch, 4), "loss": loss, "learning_rate": module.rate, **logs}

    def _evaluate(self, module: PretrainModule, step: int, last: bool) -> dict[str, float]:
        figures = self.monitor.measure(module.method, module.embeddings)
        collapsed = self.monitor.collapsed(step, module.schedule)
        if collapsed:
            write_figures(self.workspace.out / "metrics.csv", [*self.figures, {"step": step, **figures}])
            self.workspace.discard()
            raise WorkError(
                "the representation has collapsed: every chip gets nearly the same embedding",
                where=f"step {step}",
                found="; ".join(collapsed),
                remedy="likely causes: a batch too small for the method, a learning rate too high (optimizer.rate of "
                "its YAML), chips that are nearly all alike, or a wrong scale of the product; try a larger "
                "--batch-size, --method moco2, or more varied chips "
                f"(figures: {self.workspace.out / 'metrics.csv'})",
            )
        return figures

    def _pause(self, module: PretrainModule) -> None:
        """Close a stretch of pure training time."""
        now = self.clock()
        self.train_seconds += now - self._mark


def note(figures: list[dict[str, float]]) -> str:
    """The latest loss and probe, for the progress line."""
    parts = []
    for name, label in (("loss", "loss"), ("recall_at_1", "recall@1"), ("knn", "kNN"), ("effective_rank", "rank")):
        latest = next((row[name] for row in reversed(figures) if name in row), None)
        if latest is not None:
            parts.append(f"{label} {latest:.3g}")
    return ", ".join(parts)


def write_figures(path: Path, figures: list[dict[str, float]]) -> None:
    """``metrics.csv``: a row every few steps, empty where a figure was not taken."""
    names: list[str] = list(dict.fromkeys(name for row in figures for name in row))
    with atomic_file(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, names, restval="")
        writer.writeheader()
        writer.writerows({name: _short(value) for name, value in row.items()} for row in figures)


def _short(value: Any) -> Any:
    return float(f"{value:.6g}") if isinstance(value, float) else value
