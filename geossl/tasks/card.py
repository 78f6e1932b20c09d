"""A head's model card: in plain words what it was taught on, how good and how sure it is, where it is valid and where
it fails.

Everything in it is read from the facts of the head's manifest, so a card can be written anew at any time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from geossl.encoders.item import training_extent
from geossl.report.pages import Section
from geossl.tasks.examples import ChipExamples, PixelExamples
from geossl.tasks.metrics import LOWER_IS_BETTER
from geossl.tasks.spec import TaskSpec
from geossl.tasks.trust_pages import MONTHS

CARD = "card.md"
_FEW = 3
_WEAK = 0.6
"""F1 (or average precision) below which a class is named weak."""


def lineage(examples: PixelExamples | ChipExamples) -> dict[str, Any]:
    """Where and when training labels lie: ``extent`` (:func:`geossl.encoders.item.training_extent`), ``months`` and
    ``years`` of their chips.
    """
    part = examples.part("train")
    chips = np.unique(examples.chip[part]) if isinstance(examples, PixelExamples) else part
    table = examples.data.chips.table.iloc[examples.data.rows[chips]]
    when = table["datetime"].dropna()
    return {
        "extent": training_extent(table),
        "months": sorted({int(one) for one in when.dt.month}),
        "years": sorted({int(one) for one in when.dt.year}),
    }


def card_parts(facts: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """Headings with sentences, from the facts of a head's manifest."""
    spec = TaskSpec.model_validate(facts["task"])
    parts = [
        ("What it says", [_says(spec)]),
        ("What it was taught on", _taught(facts)),
        ("How good it is", _good(spec, facts)),
        ("How sure it is", _sure(spec, facts.get("trust") or {})),
        ("Where it is valid", _valid(facts)),
        ("Where it fails", _fails(spec, facts)),
    ]
    return [(title, [one for one in lines if one]) for title, lines in parts]


def card_text(facts: Mapping[str, Any]) -> str:
    """The card as Markdown."""
    lines = [f"# {facts['task']['title']}: model card", ""]
    for title, sentences in card_parts(facts):
        lines += [f"## {title}", "", *(f"- {one}" for one in sentences), ""]
    return "\n".join(lines)


def card_section(facts: Mapping[str, Any]) -> Section:
    """The card as a section of the head's page."""
    return Section("In plain words", "\n\n".join(f"{title}. {' '.join(lines)}" for title, lines in card_parts(facts)))


def _says(spec: TaskSpec) -> str:
    unit = "each pixel" if spec.per_pixel else "each chip"
    if spec.kind == "regression":
        return f"A number for {unit}{f', in {spec.unit}' if spec.unit else ''}."
    which = "which of these labels hold" if spec.kind == "multilabel" else "one of these classes"
    return f"For {unit} {which}: {', '.join(spec.class_names)}."


def _taught(facts: Mapping[str, Any]) -> list[str]:
    labels, encoder, taught = facts["labels"], facts.get("encoder") or {}, facts.get("taught") or {}
    unit = "pixels" if TaskSpec.model_validate(facts["task"]).per_pixel else "chips"
    blocks = {side: len(names) for side, names in facts["splits"].items()}
    lines = [
        f"{labels['train']} labelled {unit} of {blocks['train']} blocks of {facts['chips']['name']}"
        + (f", {facts['labels_per_class']} labels a class" if facts.get("labels_per_class") else "")
        + f"; {labels['val']} more of {blocks['val']} blocks chose its settings.",
        f"Encoder: {facts['architecture']}, learnt by {encoder.get('method', 'a method not said')} on "
        f"{(encoder.get('chips') or {}).get('name', 'chips not said')}.",
    ]
    if taught.get("months"):
        years, months = taught["years"], ", ".join(MONTHS[one - 1] for one in taught["months"])
        lines.append(f"Dates of training labels: {_range(years)}; months: {months}.")
    return lines


def _good(spec: TaskSpec, facts: Mapping[str, Any]) -> list[str]:
    metrics = facts["metrics"]
    name = str(metrics["headline"]).replace("_", " ")
    within = metrics["interval"]
    blocks, unit = len(facts["splits"]["test"]), f" {spec.unit}" if spec.kind == "regression" and spec.unit else ""
    bounds = f" (95 % interval {within[0]:.3g} to {within[1]:.3g})" if within else ""
    lines = [
        f"{name} {metrics['value']:.3g}{unit}{bounds} on {facts['labels']['test']} test labels in {blocks} blocks that "
        "it has not learnt from."
    ]
    if blocks < 5:
        lines.append(f"{blocks} test blocks are few: elsewhere the figure may be quite another.")
    better, worse = [], []
    sign = -1 if metrics["headline"] in LOWER_IS_BETTER else 1
    for row in metrics["rows"]:
        minus = row.get("ours_minus_row")
        if row["labels_per_class"] != facts.get("labels_per_class") or not minus or not minus["interval"]:
            continue
        low, high = (sign * one for one in minus["interval"])
        if min(low, high) > 0:
            better.append(row["row"])
        elif max(low, high) < 0:
            worse.append(row["row"])
    if better:
        lines.append(f"Surely better than: {', '.join(better)}.")
    if worse:
        lines.append(f"Surely worse than: {', '.join(worse)}. Use that instead.")
    return lines


def _sure(spec: TaskSpec, trust: Mapping[str, Any]) -> list[str]:
    if not trust:
        return ["Not calibrated: made without a look at how sure it is."]
    calibration, conformal = trust.get("calibration") or {}, trust.get("conformal") or {}
    lines = [str(calibration.get("sentence", ""))]
    if "after" in calibration:
        before, after = calibration["before"]["ece"], calibration["after"]["ece"]
        lines.append(f"Its probabilities are off by {after:.3f} on average (ECE on test blocks; before: {before:.3f}).")
    lines.append(str(conformal.get("sentence", "")))
    what = "intervals" if spec.kind == "regression" else "sets of classes"
    for one in conformal.get("levels", []):
        size = f"± {one['size']:.3g} {spec.unit or ''}" if spec.kind == "regression" else f"{one['size']:.2f} classes"
        lines.append(
            f"{100 * one['level']:g} % {what} held the truth in {100 * one['coverage']:.1f} % of test labels ({size})."
        )
    return lines


def _valid(facts: Mapping[str, Any]) -> list[str]:
    outliers, taught = (facts.get("trust") or {}).get("outliers") or {}, facts.get("taught") or {}
    pixels = f"in pixels of {facts['resolution_m']:g} m"
    lines = [f"Bands {', '.join(facts['bands'])}, as reflectance, {pixels}. Others are refused."]
    if facts.get("matched"):
        lines.append(f"Its own chips were {facts['matched']}.")
    extent = taught.get("extent")
    if extent:
        points = np.array(_points(extent["geometry"]["coordinates"]))
        (west, south), (east, north) = points.min(axis=0), points.max(axis=0)
        lines.append(f"Taught between {south:.2f} and {north:.2f}° N, {west:.2f} and {east:.2f}° E.")
    missing = [name for number, name in enumerate(MONTHS, 1) if number not in taught.get("months", range(1, 13))]
    if missing:
        lines.append(f"It has seen no label of: {', '.join(missing)}.")
    if outliers.get("share") is not None:
        lines.append(
            f"{outliers['sentence']} On test blocks {100 * outliers['share']:.1f} % of labels lay beyond. "
            "Trust nothing there without a look (geossl map --trust shows where)."
        )
    elif outliers:
        lines.append(str(outliers["sentence"]))
    return lines


def _points(nested: Sequence[Any]) -> list[Sequence[float]]:
    """The coordinate pairs of GeoJSON coordinates of any depth."""
    if isinstance(nested[0], int | float):
        return [nested]
    return [point for one in nested for point in _points(one)]


def _fails(spec: TaskSpec, facts: Mapping[str, Any]) -> list[str]:
    lines = []
    figure = "ap" if spec.kind == "multilabel" else "f1"
    told = {name: one.get(figure) for name, one in facts["metrics"].get("per_class", {}).items()}
    weak = sorted((value, name) for name, value in told.items() if value is not None and value < _WEAK)
    title = "average precision" if figure == "ap" else "F1"
    if weak:
        lines.append(f"Weak classes: {', '.join(f'{name} ({title} {value:.2f})' for value, name in weak)}.")
    unknown = [name for name, value in told.items() if value is None]
    if unknown:
        lines.append(f"No test label of {', '.join(unknown)}: nothing is known about these.")
    fails = (facts.get("trust") or {}).get("fails") or {}
    pairs = [one for one in fails.get("confused", []) if one["share"] >= 0.1][:_FEW]
    if pairs:
        named = ", ".join(f"{one['truth']} for {one['said']} ({100 * one['share']:.0f} %)" for one in pairs)
        lines.append(f"It takes {named}.")
    error = "mean error" if spec.kind == "regression" else "wrong"
    blocks = [one for one in fails.get("blocks", []) if one["error"] > 0][:_FEW]
    if blocks:
        named = ", ".join(
            f"{one['of']} ({_error(spec, one['error'])} {error}, {one['items']} labels)" for one in blocks
        )
        lines.append(f"Blocks with most of the error: {named}.")
    months = [one for one in fails.get("months", []) if one["of"] > 0]
    worst = max(months, key=lambda one: one["error"], default=None)
    if worst is not None and len(months) > 1 and worst["error"] > 1.5 * fails["error"]:
        share = _error(spec, worst["error"])
        lines.append(f"Worst month: {MONTHS[worst['of'] - 1]} ({share} {error}, {worst['items']} labels).")
    return lines or ["No weak class, block or month stood out on the test blocks."]


def _error(spec: TaskSpec, value: float) -> str:
    return f"{value:.3g} {spec.unit or ''}".strip() if spec.kind == "regression" else f"{100 * value:.0f} %"


def _range(years: Sequence[int]) -> str:
    return str(years[0]) if len(years) == 1 else f"{years[0]} to {years[-1]}"
