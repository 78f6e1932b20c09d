"""``evaluate``: a head as it is, scored on labels of another place, and year by year or site by site.

Every figure is of labels that the head has not learnt from, with 95 % intervals by resampled blocks; calibration, sets
and intervals are those the head brought along, so the page shows whether they still hold there.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from geossl.artefacts import (
    atomic_directory,
    check_place,
    hash_file,
    hash_json,
    is_complete,
    read_manifest,
    write_manifest,
    write_run,
)
from geossl.chips.chipset import ChipSet
from geossl.config import geossl_home
from geossl.encoders.saved import check_bands
from geossl.errors import InputError
from geossl.progress import say, warn
from geossl.regions import Region
from geossl.report.pages import Section, Table, page
from geossl.tasks.asked import Asked, ask
from geossl.tasks.compare import Judge, Row
from geossl.tasks.evaluate_groups import GROUPS, by_group, refitted
from geossl.tasks.examples import ChipExamples, PixelExamples
from geossl.tasks.heads import WEIGHTS, Head, load_head
from geossl.tasks.matching import check_pixels
from geossl.tasks.report import chip_pictures, class_records, class_table, pixel_pictures
from geossl.tasks.sources import Source, open_source
from geossl.tasks.splits import LabelSplit
from geossl.tasks.trust import Trust, judge_on
from geossl.tasks.trust_pages import confusion_figure, trust_sections

KIND = "evaluation"
REPORT = "report.html"
_TAUGHT = "taught"


@dataclass(frozen=True)
class EvaluateResult:
    """A head scored elsewhere.

    Attributes:
        folder: the evaluation's directory; its ``manifest.json`` holds all figures.
        report: the page.
        task: name of the task.
        headline: name of the figure that ``value`` is.
        value: on these labels, with its 95 % ``interval`` (None with a single block).
        at_home: the head's figure on its own test blocks.
        items: labelled pixels or chips scored, of ``blocks`` blocks.
        ece: expected calibration error here (None for a quantity).
        coverage: level and share of truths held by sets or intervals here.
        unlike: share of labels at places unlike what was taught (None where the head has no such score).
        groups: with ``leave_out``, a row a year or site.
        seconds: time this run took.
    """

    folder: Path
    report: Path
    task: str
    headline: str
    value: float
    interval: tuple[float, float] | None
    at_home: float | None
    items: int
    blocks: int
    ece: float | None
    coverage: dict[str, float]
    unlike: float | None
    groups: list[dict[str, Any]]
    seconds: float


def evaluate(
    head: str | Path,
    *,
    labels: str | Path | None = None,
    region: str | Region | None = None,
    chips: str | Path | ChipSet | None = None,
    product: str | None = None,
    period: str | None = None,
    months: str | None = None,
    leave_out: str | None = None,
    other_pixels: bool = False,
    out: str | Path | None = None,
    seed: int = 0,
) -> EvaluateResult:
    """Score a head on labels it has not learnt from.

    On the chips it was taught on, the blocks it learnt from or was chosen by are left out.

    Args:
        head: a head's directory.
        labels: vector file or raster of labels; ready chips carry their own.
        region: where to read chips from the cube; ``product``, ``period`` and ``months`` as in ``finetune``.
        chips: instead of a region: a chip store, or an index of ready chips.
        leave_out: ``year`` or ``site`` (a block): figures of each by itself, and of the same read-out fitted anew to
            the labels of all others of this file (:mod:`geossl.tasks.evaluate_groups`).
        other_pixels: take chips of another resolution or radiometry as they are.
        out: by default ``evaluations/<task>-<region or chips>`` under ``$GEOSSL_HOME``.
        seed: of the resamples, and of the draws of a label raster's pixels.

    Raises:
        InputError: no such head; chips of other bands or pixels; labels that meet no chip, or only blocks that the head
            has learnt from.
        WorkError: disk full.
    """
    started = time.monotonic()
    if leave_out is not None and leave_out not in GROUPS:
        raise InputError(
            "only these can be left out", where="--leave-out", expected=" or ".join(GROUPS), found=leave_out
        )
    opened = load_head(head)
    source = open_source(opened.task, labels, region, chips, product, period, months)
    check_bands(opened.net.encoder, source.chips.bands, f"chips {source.chips.path}")
    matched = check_pixels(opened.net.encoder, source.chips, other_pixels, opened.meta.get("resolution_m"))
    inputs = {
        "head": hash_file(Path(head) / WEIGHTS),
        "trust": (opened.meta.get("trust") or {}).get("hash"),
        "chips": source.chips.id,
        "labels": None if source.labels is None else source.labels.id,
        "period": str(source.period) if source.period else None,
        "months": list(source.months) if source.months else None,
        "leave_out": leave_out,
        "seed": seed,
    }
    folder = Path(out) if out else geossl_home() / "evaluations" / f"{opened.task.name}-{source.name}"
    folder = folder.absolute()
    check_place(folder, KIND)
    if is_complete(folder) and read_manifest(folder, KIND).get("inputs_hash") == hash_json(inputs):
        say(f"this evaluation is there already: {folder}")
        return _result(folder, read_manifest(folder, KIND), time.monotonic() - started)
    examples, sentence = source.examples({}, seed, lambda blocks, *_: _not_taught(blocks, opened, source))
    items = examples.part("test")
    if not len(items):
        raise InputError(
            "the head has learnt from every block that carries a label here",
            where=source.chips.path,
            expected=f"labels outside its blocks {', '.join(sorted(_learnt_from(opened))[:8])}",
            remedy="give labels of other places",
        )
    _warn_of_pretraining(opened, source.chips, examples.data.block[examples.data.side == "test"])
    asked = ask(opened, examples, items)
    facts = _score(opened, asked, seed)
    groups = by_group(opened, examples, asked, leave_out, seed) if leave_out else []
    anew = refitted(opened, examples, asked, groups, leave_out, seed) if leave_out else None
    with atomic_directory(folder) as temporary:
        about = {
            "head": f"{opened.task.title}, taught on {(opened.meta.get('chips') or {}).get('name', 'chips not said')}",
            "scored on": f"{len(asked)} labels in {facts['blocks']} blocks of {source.name}",
            "blocks": sentence,
            "labels on no clear chip": source.unmatched,
            **({"pixels": matched} if matched else {}),
        }
        side = source.chips.shape[1] * source.chips.resolution_m
        _write_page(temporary / REPORT, opened, examples, about, facts, groups, anew, leave_out, side)
        write_run(temporary, seconds=round(time.monotonic() - started, 1), head=str(Path(head).absolute()))
        facts = {name: value for name, value in facts.items() if name != "row"}
        write_manifest(
            temporary,
            KIND,
            task=opened.task.name,
            head={"weights": inputs["head"], "chips": opened.meta.get("chips")},
            chips={"name": source.chips.name, "id": source.chips.id},
            matched=matched,
            at_home=(opened.meta.get("metrics") or {}).get("value"),
            **facts,
            leave_out=leave_out,
            groups=groups,
            refitted=anew,
            inputs=inputs,
            inputs_hash=hash_json(inputs),
        )
    return _result(folder, read_manifest(folder, KIND), time.monotonic() - started)


def _learnt_from(head: Head) -> set[str]:
    splits = head.meta.get("splits") or {}
    return {str(block) for side in ("train", "val") for block in splits.get(side, [])}


def _not_taught(blocks: Iterable[str], head: Head, source: Source) -> LabelSplit:
    """All blocks test, but for those of its own chips that the head has learnt from."""
    known = head.meta.get("chips") or {}
    own = source.chips.id == known.get("id") or source.chips.name == known.get("name")
    learnt = _learnt_from(head) if own else set()
    sides = {str(block): _TAUGHT if str(block) in learnt else "test" for block in blocks}
    left = sum(side == _TAUGHT for side in sides.values())
    return LabelSplit(
        sides,
        f"These are the head's own chips: {left} blocks it has learnt from are left out."
        if own
        else "The head has not seen these chips.",
    )


def _warn_of_pretraining(head: Head, chips: ChipSet, blocks: np.ndarray) -> None:
    """An encoder that was pretrained on the very blocks makes figures too good."""
    meta = head.net.encoder.meta
    known = meta.get("chips") or {}
    if known.get("id") != chips.id and known.get("name") != chips.name:
        return
    seen = set(blocks.tolist()) & {str(one) for one in (meta.get("splits") or {}).get("train", [])}
    if seen or meta.get("transductive"):
        warn(f"the encoder was pretrained (without labels) on {len(seen) or 'all'} of the blocks scored here")


def _score(head: Head, asked: Asked, seed: int) -> dict[str, Any]:
    """Figures of all items; ``row`` is the comparison's row for tables."""
    spec = head.task
    figures = Judge(spec, asked.truth, asked.block, seed).figures([asked.said(spec)])
    row = Row("this head", None, figures)
    interval = figures.interval(spec.headline)
    return {
        "row": row,
        "headline": spec.headline,
        "value": figures.values[spec.headline],
        "interval": None if interval is None else [interval.low, interval.high],
        "values": {name: round(float(value), 5) for name, value in figures.values.items() if np.isfinite(value)},
        "per_class": class_records(spec, row),
        "confusion": figures.confusion,
        "items": len(asked),
        "blocks": figures.blocks,
        "trust": judge_on(spec, head.trust or Trust(spec.kind), asked, seed),
    }


def _write_page(
    path: Path,
    head: Head,
    examples: PixelExamples | ChipExamples,
    about: dict[str, Any],
    facts: dict[str, Any],
    groups: list[dict[str, Any]],
    anew: dict[str, Any] | None,
    leave_out: str | None,
    side: float,
) -> None:
    spec, row = head.task, facts["row"]
    home = (head.meta.get("metrics") or {}).get("value")
    name = spec.headline.replace("_", " ")
    rows = [["here", facts["value"], _within(facts["interval"])], ["on its own test blocks", home, ""]]
    if anew is not None:
        rows.append([f"fitted anew, each {leave_out} left out", anew["value"], _within(anew["interval"])])
    sections = [
        Section("What was scored", "", tables=[Table(["what", ""], [[key, value] for key, value in about.items()])]),
        Section("How good it is here", "", tables=[Table(["where", name, "95 %"], rows)]),
    ]
    if row.figures.per_class:
        sections.append(Section("Each class", "", tables=[class_table(spec, row)]))
    if row.figures.confusion is not None:
        figure = confusion_figure(spec, row.figures.confusion)
        sections.append(Section("Confusion", "Rows are the truth, columns what the head says.", [figure]))
    if groups:
        columns = [key for key in groups[0] if any(one[key] is not None for one in groups)]
        table = Table(columns, [[one[key] for key in columns] for one in groups])
        text = f"{name} of the head as it is, and (anew) of its read-out fitted to all other {leave_out}s' labels."
        sections.append(Section(f"Each {leave_out}", text, tables=[table]))
    trust = {**(head.trust.facts if head.trust else {}), **facts["trust"]}
    for part in ("calibration", "conformal", "outliers"):
        trust[part] = {**((head.trust.facts if head.trust else {}).get(part) or {}), **facts["trust"].get(part, {})}
    sections += trust_sections(spec, trust, side)
    if isinstance(examples, PixelExamples):
        sections.append(Section("Examples", "", [pixel_pictures(head, examples)]))
    else:
        picture, caption = chip_pictures(head, examples)
        sections.append(Section("Examples", "", [picture], [caption]))
    page(path, f"{spec.title}: evaluation", sections)


def _within(interval: list[float] | None) -> str:
    return "one block: none" if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}"


def _result(folder: Path, manifest: dict[str, Any], seconds: float) -> EvaluateResult:
    trust, interval = manifest["trust"], manifest["interval"]
    levels = (trust.get("conformal") or {}).get("levels", [])
    return EvaluateResult(
        folder=folder,
        report=folder / REPORT,
        task=manifest["task"],
        headline=manifest["headline"],
        value=manifest["value"],
        interval=None if interval is None else (interval[0], interval[1]),
        at_home=manifest["at_home"],
        items=manifest["items"],
        blocks=manifest["blocks"],
        ece=((trust.get("calibration") or {}).get("after") or {}).get("ece"),
        coverage={f"{100 * one['level']:g} %": one["coverage"] for one in levels},
        unlike=(trust.get("outliers") or {}).get("share"),
        groups=manifest["groups"],
        seconds=round(seconds, 1),
    )
