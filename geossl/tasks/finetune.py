"""``finetune``: from an encoder and few labels to a head, its figures on held-out blocks, and a report."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from geossl.artefacts import (
    FORMAT_VERSIONS,
    atomic_directory,
    check_place,
    hash_file,
    hash_json,
    is_complete,
    read_manifest,
    write_json,
    write_manifest,
    write_run,
)
from geossl.chips.chipset import ChipSet
from geossl.config import geossl_home
from geossl.encoders.item import ITEM
from geossl.encoders.saved import WEIGHTS as ENCODER_WEIGHTS
from geossl.encoders.saved import Encoder, check_bands, load_encoder, untrained_twin
from geossl.errors import InputError
from geossl.progress import say, warn
from geossl.regions import Region
from geossl.report.pages import Table
from geossl.tasks.card import CARD, card_section, card_text, lineage
from geossl.tasks.chip_rows import compare_chips
from geossl.tasks.compare import Comparison
from geossl.tasks.depth_bins import depth_sections, figures_by_depth
from geossl.tasks.examples import ChipExamples, PixelExamples
from geossl.tasks.head_item import head_item
from geossl.tasks.heads import KIND, Head, TaskNet, save_weights
from geossl.tasks.keeping import keeping
from geossl.tasks.leave_out import leave_one_year
from geossl.tasks.matching import check_pixels
from geossl.tasks.pixel_rows import compare_pixels
from geossl.tasks.report import (
    chip_pictures,
    class_records,
    comparison_records,
    pixel_pictures,
    write_report,
    year_sections,
)
from geossl.tasks.sources import Source, open_source
from geossl.tasks.spec import TaskSpec, changed, load_task
from geossl.tasks.strategies import follow, open_transfer
from geossl.tasks.trust import make_trust
from geossl.tasks.trust_pages import trust_sections

REPORT = "report.html"


@dataclass(frozen=True)
class FinetuneResult:
    """A head that was taught.

    Attributes:
        head: its directory.
        report: the page with figures, controls and pictures.
        task: name of the task.
        headline: name of the figure that ``value`` is.
        value: the head's figure on test blocks.
        interval: its 95 % interval (None with a single test block).
        rows: every row of the comparison, as in the manifest.
        left_out: rows that could not be made, and why.
        labels: labelled pixels or chips of each part.
        seconds: time this run took.
        leave_out: with ``leave_out``, a row a withheld year and way of predicting.
    """

    head: Path
    report: Path
    task: str
    headline: str
    value: float
    interval: tuple[float, float] | None
    rows: list[dict[str, Any]]
    left_out: dict[str, str]
    labels: dict[str, int]
    seconds: float
    leave_out: list[dict[str, Any]] = field(default_factory=list)


def finetune(
    task: str | Path | TaskSpec,
    *,
    encoder: str | Path | Encoder,
    labels: str | Path | None = None,
    region: str | Region | None = None,
    chips: str | Path | ChipSet | None = None,
    product: str | None = None,
    period: str | None = None,
    months: str | None = None,
    out: str | Path | None = None,
    seed: int = 0,
    labels_per_class: int | None = None,
    leave_out: str | None = None,
    strategy: str | None = None,
    decoder: str | None = None,
    weights: str | Path | None = None,
    weights_bands: str | None = None,
    other_pixels: bool = False,
) -> FinetuneResult:
    """Teach a head for a task with an encoder, and compare it with what needs no encoder or no pretraining.

    Labels come from a file (with a region, whose tiles are built where missing, or with a chip store), or from the
    index of ready chips. Blocks are split into training, validation and test; blocks that the encoder was pretrained
    on never test. The same command on the same inputs finds its head there and does nothing.

    Args:
        task: a shipped task, the YAML of one's own, or a spec.
        encoder: an encoder's directory, or an opened encoder.
        labels: vector file or raster of labels.
        region: where to read chips from the cube: a shipped name, a vector file, a box, or a Region.
        chips: instead of a region: a chip store, or an index of ready chips.
        product: ODC product, where several have scenes over the region.
        period, months: which dates to use.
        out: the head's directory; by default ``heads/<task>-<region or chips>`` under ``$GEOSSL_HOME``.
        seed: of the split, the draws of labels, the controls and the resamples.
        labels_per_class: use only so many labels of each class (the first of five draws becomes the head).
        leave_out: ``year``: withhold each year's labels in turn too (:mod:`geossl.tasks.leave_out`); the head stays
            the one of all years.
        strategy: instead of the task's own: ``frozen``, ``finetune`` or ``pseudo`` (:mod:`geossl.tasks.strategies`).
        decoder: instead of the task's own: ``linear``, ``fpn`` or ``unet``.
        weights: a row of the comparison does the same from these weights: torchgeo's name of them, a file, or an
            encoder's directory. ``weights_bands``: the bands of a file, in its order.
        other_pixels: take chips of another resolution or radiometry than the encoder's as they are.

    Raises:
        InputError: wrong arguments, labels or chips that do not fit the task, an encoder of other bands
            or (unless allowed) other pixels.
        WorkError: disk full.
    """
    started = time.monotonic()
    spec = _as_asked(load_task(task), strategy, decoder)
    if spec.kind == "level":
        raise InputError(
            f"task {spec.name} needs no encoder and no head: a level is one number a date",
            where="--task",
            remedy="geossl level --region REGION --gauge FILE.csv learns the shore and gives the series",
        )
    if labels_per_class is not None and labels_per_class < 1:
        raise InputError("this must be at least 1", where="--labels-per-class", found=labels_per_class)
    if leave_out not in (None, "year"):
        raise InputError("only years can be left out", where="--leave-out", expected="year", found=leave_out)
    opened = encoder if isinstance(encoder, Encoder) else load_encoder(encoder)
    source = open_source(spec, labels, region, chips, product, period, months)
    check_bands(opened, source.chips.bands, f"chips {source.chips.path}")
    matched = check_pixels(opened, source.chips, other_pixels)
    other = None if weights is None else open_transfer(weights, weights_bands, opened)
    inputs = _inputs(source, opened, encoder, seed, labels_per_class) | ({"leave_out": leave_out} if leave_out else {})
    inputs |= {} if other is None else {"weights": other.meta["initial_weights"]["hash"]}
    inputs |= {} if weights_bands is None else {"weights_bands": weights_bands}
    folder = Path(out) if out else geossl_home() / "heads" / f"{source.spec.name}-{source.name}"
    folder = folder.absolute()
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    check_place(folder, KIND)
    there = read_manifest(folder, KIND) if is_complete(folder) else {}
    current = there.get("format_version") == FORMAT_VERSIONS[KIND]  # older ones lack trust, or read chips otherwise
    if current and there.get("inputs_hash") == hash_json(inputs):
        say(f"this head is there already: {folder}")
        shutil.rmtree(unfinished, ignore_errors=True)  # the run that made it may have been killed before it did this
        return _result(folder, there, time.monotonic() - started)
    examples, sentence = source.examples(opened.meta, seed)
    say(_describe(source, examples, sentence))
    _check_examples(source.spec, examples)
    control = untrained_twin(opened, seed + 1)
    comparison: Comparison
    net: TaskNet
    captions: list[Table]
    years: list[dict[str, Any]] = []
    depths: list[dict[str, Any]] = []
    with keeping(unfinished, hash_json(inputs)):
        if isinstance(examples, PixelExamples):
            if leave_out is not None:
                years = leave_one_year(source.spec, opened, control, examples, seed)
            comparison, linear = compare_pixels(source.spec, opened, control, examples, seed, labels_per_class)
            comparison, net = follow(source.spec, opened, examples, comparison, linear, seed, other)
            head = Head(source.spec, net, source.chips.shape[0]).eval()
            pictures, captions = [pixel_pictures(head, examples)], []
            if source.labels is not None:
                depths = figures_by_depth(source.spec, net, examples, source.labels)
        elif leave_out is not None:
            raise InputError("leaving out years needs labels of pixels", where="--leave-out", found=source.spec.kind)
        else:
            comparison, plain = compare_chips(source.spec, opened, control, examples, seed, labels_per_class)
            comparison, net = follow(source.spec, opened, examples, comparison, plain, seed, other)
            head = Head(source.spec, net, source.chips.shape[0]).eval()
            picture, caption = chip_pictures(head, examples)
            pictures, captions = [picture], [caption]
    head.trust = make_trust(source.spec, head, examples, seed)
    budgets = comparison.budgets
    main = budgets[0] if labels_per_class is not None else None
    row = comparison.row(comparison.ours, main)
    assert row is not None
    interval = row.figures.interval(comparison.headline)
    counts = {side: len(examples.part(side)) for side in ("train", "val", "test")}
    with atomic_directory(folder) as temporary:
        told: dict[str, Any] = {
            **save_weights(head, temporary),
            "encoding": source.chips.encoding.as_dict(),
            "resolution_m": source.chips.resolution_m,
            "chips": {"name": source.chips.name, "id": source.chips.id},
            "encoder": opened.meta,
            "matched": matched,
            "splits": {side: source.blocks(side) for side in ("train", "val", "test")},
            "split_by": sentence,
            "labels": counts,
            "labels_per_class": main,
            "taught": lineage(examples),
            "metrics": {
                "headline": comparison.headline,
                "value": row.figures.values[comparison.headline],
                "interval": None if interval is None else [interval.low, interval.high],
                "per_class": class_records(source.spec, row),
                "confusion": row.figures.confusion,
                "rows": comparison_records(comparison),
                "left_out": comparison.left_out,
                "leave_one_year_out": years,
                "depth_bins": depths,
            },
            "inputs": inputs,
            "inputs_hash": hash_json(inputs),
        }
        side = source.chips.shape[1] * source.chips.resolution_m
        further = [card_section(told), *trust_sections(source.spec, told["trust"], side)]
        further += [*year_sections(years), *depth_sections(depths)]
        facts = _facts(source, opened, examples, sentence, counts)
        write_report(temporary / REPORT, source.spec, facts, comparison, main, pictures, captions, further)
        (temporary / CARD).write_text(card_text(told), encoding="utf-8")
        write_json(temporary / ITEM, head_item(head, told, f"geossl-{folder.name}"))
        write_run(temporary, seconds=round(time.monotonic() - started, 1))
        write_manifest(temporary, KIND, **told)
    shutil.rmtree(unfinished, ignore_errors=True)
    return _result(folder, read_manifest(folder, KIND), time.monotonic() - started)


def _as_asked(spec: TaskSpec, strategy: str | None, decoder: str | None) -> TaskSpec:
    """The task with the strategy and decoder of the command line, where they are given."""
    asked = {name: value for name, value in (("strategy", strategy), ("decoder", decoder)) if value is not None}
    return changed(spec, " ".join(f"--{name} {value}" for name, value in asked.items()), **asked) if asked else spec


def _inputs(
    source: Source, opened: Encoder, encoder: str | Path | Encoder, seed: int, labels_per_class: int | None
) -> dict[str, Any]:
    """All that the head depends on."""
    weights = None
    if not isinstance(encoder, Encoder):
        weights = hash_file(Path(encoder) / ENCODER_WEIGHTS)
    return {
        "task": source.spec.model_dump(mode="json"),
        "encoder": weights
        or hash_json({"bands": opened.bands, "sum": [float(p.detach().sum()) for p in opened.parameters()]}),
        "chips": source.chips.id,
        "labels": source.labels.id if source.labels is not None else None,
        "region": source.name,
        "period": str(source.period) if source.period else None,
        "months": list(source.months) if source.months else None,
        "seed": seed,
        "labels_per_class": labels_per_class,
    }


def _check_examples(spec: TaskSpec, examples: PixelExamples | ChipExamples) -> None:
    for side in ("train", "test"):
        if not len(examples.part(side)):
            raise InputError(
                f"no usable label in the {'training' if side == 'train' else side} blocks",
                where=f"task {spec.name}",
                remedy="give labels that are spread wider, or another --seed",
            )
    if not len(examples.part("val")):
        warn("no label in a validation block: regularisation stays at C = 1 instead of being chosen")


def _describe(source: Source, examples: PixelExamples | ChipExamples, sentence: str) -> str:
    what = "labelled pixels" if isinstance(examples, PixelExamples) else "labelled chips"
    counts = ", ".join(f"{len(examples.part(side))} {side}" for side in ("train", "val", "test"))
    chips = len(examples.data.rows)
    return f"{source.spec.title} on {source.chips.name}: {counts} {what} ({chips} chips). {sentence}"


def _facts(
    source: Source,
    encoder: Encoder,
    examples: PixelExamples | ChipExamples,
    sentence: str,
    counts: dict[str, int],
) -> dict[str, Any]:
    """The first table of the report."""
    unit = "pixels" if isinstance(examples, PixelExamples) else "chips"
    facts: dict[str, Any] = {
        "task": f"{source.spec.title} ({source.spec.kind})",
        "encoder": f"{encoder.meta.get('method', 'not said')}, {encoder.backbone.name}",
        "pretrained on": (encoder.meta.get("chips") or {}).get("name", "not said"),
        "chips": f"{source.chips.name}, {len(examples.data.rows)} chips with labels, {source.chips.resolution_m:g} m",
        "bands": list(encoder.bands),
        f"labelled {unit}": counts,
        "blocks": {side: len(source.blocks(side)) for side in ("train", "val", "test")},
        "split": sentence,
        "strategy": f"{source.spec.strategy}, decoder {source.spec.decoder}",
    }
    if source.labels is not None:
        facts["labels"] = source.labels.path.name
        facts["labelled places"] = source.labels.counts()
        facts["labels on no clear chip"] = source.unmatched
    return facts


def _result(folder: Path, manifest: dict[str, Any], seconds: float) -> FinetuneResult:
    metrics = manifest["metrics"]
    interval: Sequence[float] | None = metrics["interval"]
    return FinetuneResult(
        head=folder,
        report=folder / REPORT,
        task=manifest["task"]["name"],
        headline=metrics["headline"],
        value=metrics["value"],
        interval=None if interval is None else (interval[0], interval[1]),
        rows=metrics["rows"],
        left_out=metrics["left_out"],
        labels=manifest["labels"],
        seconds=round(seconds, 1),
        leave_out=metrics.get("leave_one_year_out", []),
    )
