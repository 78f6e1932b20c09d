"""Chip sets, through the product itself: ``geossl pretrain`` for some minutes, then ``geossl finetune``."""

from __future__ import annotations

from pathlib import Path

from geossl.tasks.finetune import finetune
from geossl.training.pretrain import pretrain
from tests.benchmarks.real_sets.common import DATA, Table

SETS = {
    "bigearthnet-finland": ("land-cover", "Eleven CORINE labels of 1,120 chips at the Finnish coast"),
    "eurosat_ms": ("land-cover", "Ten classes of 161 EuroSAT chips"),
    "dfc24-water": ("water", "Water masks of 150 chips at 30 m"),
}


def table(name: str, work: Path, minutes: float) -> Table:
    """The rows that the head's own report holds, at every label budget."""
    task, title = SETS[name]
    encoder = pretrain(chips=DATA / name, max_minutes=minutes, out=work / name / "encoder")
    head = finetune(task, encoder=encoder.encoder, chips=DATA / name, out=work / name / "head")
    metric = head.headline
    rows = []
    for one in head.rows:
        budget = one["labels_per_class"]
        minus = one["ours_minus_row"]
        rows.append(
            {
                "name": one["row"],
                "labels": ["all" if budget is None else f"{budget} a class", None, None],
                metric: [one[metric], *(one["interval"] or (None, None))],
                "head_minus_row": None if minus is None else [minus["value"], *(minus["interval"] or (None, None))],
            }
        )
    return Table(
        name,
        title,
        f"geossl pretrain --chips DATA/{name} --max-minutes {minutes:g} --out encoder && "
        f"geossl finetune --task {task} --chips DATA/{name} --encoder encoder --out head",
        f"blocks held out of pretraining and training; {encoder.method}, {encoder.steps} steps "
        f"({encoder.samples_per_s:.0f} samples/s); labels {head.labels}",
        ["labels", metric, "head_minus_row"],
        rows,
        [f"Left out: {name_}: {why}." for name_, why in head.left_out.items()],
    )
