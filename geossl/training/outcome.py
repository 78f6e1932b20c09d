"""What a run leaves behind: the encoder directory with weights, manifest, figures and report, and its typed result."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from geossl.artefacts import RUN, read_manifest, write_run
from geossl.encoders.item import training_extent
from geossl.encoders.saved import KIND, Encoder, save_encoder
from geossl.encoders.weights import WeightsReport
from geossl.methods.protocol import Method
from geossl.progress import say
from geossl.training.callbacks import Recorder, write_figures
from geossl.training.compute import Compute, peak_memory_mib
from geossl.training.monitor import Monitor
from geossl.training.plan import Plan
from geossl.training.state import refuse_other_config
from geossl.training.summary import write_report

REPORT = "report.html"
_RUN_FIELDS = ("samples_per_s", "seconds", "recall_at_1", "knn", "collapse")


@dataclass(frozen=True)
class PretrainResult:
    """A finished encoder. ``recall_at_1`` and ``knn`` are None where they could not be taken.

    ``samples_per_s``: chips seen a second of pure training time. ``collapse``: signs that were seen at the end (a run
    that really collapses stops with an error). ``seconds``: wall time of all attempts.
    """

    encoder: Path
    report: Path
    method: str
    steps: int
    epochs: float
    samples_per_s: float
    recall_at_1: float | None
    knn: float | None
    collapse: list[str]
    seconds: float


def write_outcome(
    plan: Plan,
    compute: Compute,
    method: Method,
    monitor: Monitor,
    recorder: Recorder,
    mean: list[float],
    std: list[float],
    weights: WeightsReport | None = None,
) -> PretrainResult:
    """Report, figures and run facts first; the encoder's manifest, written last, makes it count."""
    figures = recorder.figures
    last = figures[-1]
    steps = int(last["step"])
    result = PretrainResult(
        encoder=plan.out,
        report=plan.out / REPORT,
        method=plan.method,
        steps=steps,
        epochs=round(steps / plan.steps_per_epoch, 3),
        samples_per_s=round(steps * plan.step_chips / max(recorder.train_seconds, 1e-9), 2),
        recall_at_1=last.get("recall_at_1"),
        knn=last.get("knn"),
        collapse=monitor.signs,
        seconds=round(recorder.seconds, 1),
    )
    backbone = method.backbone.to("cpu").to(memory_format=torch.contiguous_format)
    kept = method.kept_projection()
    encoder = Encoder(backbone, mean, std, projection=None if kept is None else kept.to("cpu")).eval()
    memory = peak_memory_mib(compute.device)
    costs = {
        "computed on": str(compute),
        "steps": result.steps,
        "chips seen": result.steps * plan.step_chips,
        "wall time (s)": result.seconds,
        "training alone (s)": round(recorder.train_seconds, 1),
        "samples a second of training": result.samples_per_s,
        **{f"peak memory, {place} (MiB)": value for place, value in memory.items()},
        "attempts": recorder.attempts,
    }
    write_figures(plan.out / "metrics.csv", figures)
    write_report(result.report, plan, figures, monitor.gallery(encoder), costs)
    facts = {name: getattr(result, name) for name in _RUN_FIELDS}
    write_run(
        plan.out,
        **facts,
        command=sys.argv,
        attempts=recorder.attempts,
        train_seconds=round(recorder.train_seconds, 2),
        device=str(compute),
        peak_memory_mib=memory,
        torch=torch.__version__,
        finished=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    )
    save_encoder(
        encoder,
        plan.out,
        method=plan.method,
        config=plan.config,
        seed=plan.seed,
        steps=result.steps,
        epochs=result.epochs,
        transductive=plan.options.all_blocks,
        splits=plan.split.blocks,
        pairs=plan.pairs,
        chips={"name": plan.chips.name, "id": plan.chips.id, "train": len(plan.split.train)},
        encoding=plan.chips.encoding.as_dict(),
        resolution_m=plan.chips.resolution_m,
        view_px=plan.recipe.size,
        extent=training_extent(plan.chips.table.iloc[plan.split.train]),
        initial_weights=None if weights is None else weights.as_dict(),
        precision=compute.precision,
        metrics={name: value for name, value in last.items() if name not in ("step", "epoch")},
    )
    return result


def finished(plan: Plan) -> PretrainResult:
    """The result of an encoder that is there already."""
    manifest = read_manifest(plan.out, KIND)
    refuse_other_config(manifest.get("config", {}), plan.config, plan.out, "a finished")
    say(f"this encoder is finished: {plan.out} (remove the directory to train it anew)")
    run: dict[str, Any] = {}
    if (plan.out / RUN).is_file():
        run = json.loads((plan.out / RUN).read_text(encoding="utf-8"))
    return PretrainResult(
        encoder=plan.out,
        report=plan.out / REPORT,
        method=manifest["method"],
        steps=manifest["steps"],
        epochs=manifest["epochs"],
        samples_per_s=run.get("samples_per_s", 0.0),
        recall_at_1=manifest["metrics"].get("recall_at_1"),
        knn=manifest["metrics"].get("knn"),
        collapse=run.get("collapse", []),
        seconds=run.get("seconds", 0.0),
    )
