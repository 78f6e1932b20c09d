"""``geossl labels check``: what finetune would do with a label file, and which labels look wrong."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely

from geossl.artefacts import atomic_directory, check_place, write_manifest
from geossl.config import geossl_home
from geossl.encoders.saved import Encoder, check_bands, load_encoder
from geossl.errors import InputError
from geossl.labels.quality import KEEP, LOOK, REMOVE, judge, judge_several
from geossl.labels.read import Labels, row_numbers
from geossl.labels.spatial import clustering, conflicts, duplicates
from geossl.progress import warn
from geossl.regions import Region
from geossl.tasks.examples import ChipExamples, PixelExamples
from geossl.tasks.labels_report import distances, write_check_report
from geossl.tasks.labels_table import chip_table, file_table, label_features, mask_table
from geossl.tasks.linear import Scaling
from geossl.tasks.sources import Source, open_source
from geossl.tasks.spec import TaskSpec, load_task

KIND = "labels-check"
REPORT, TABLE, PLACES = "report.html", "verdicts.csv", "verdicts.gpkg"


@dataclass(frozen=True)
class LabelsCheckResult:
    """What a label file is worth.

    Attributes:
        folder: with ``report``, ``verdicts.csv`` and (where labels have places) ``verdicts.gpkg``.
        report: the page.
        labels: rows of the file (of ready chips: labelled chips, or the classes of each chip's mask).
        counts: labels of each class.
        fate: labels that would be used, or why not, and how many each.
        duplicates: labels that repeat an earlier one.
        conflicts: pairs of labels that give one place different values.
        imbalance: labels of the commonest class for each of the rarest that has any (None for numbers).
        clark_evans: distance to the nearest label over that of a random pattern; below 1 is clustered.
        verdicts: labels to keep, look at and remove; empty without an encoder, or where nothing can be said.
        suspicious: row numbers to remove or look at, the most doubtful first.
        split: what the distances say of a random split.
    """

    folder: Path
    report: Path
    labels: int
    counts: dict[str, int]
    fate: dict[str, int]
    duplicates: int
    conflicts: int
    imbalance: float | None
    clark_evans: float | None
    verdicts: dict[str, int]
    suspicious: list[int]
    split: str


def check_labels(
    labels: str | Path | None,
    task: str | Path | TaskSpec,
    *,
    out: str | Path | None = None,
    region: str | Region | None = None,
    chips: Any = None,
    encoder: str | Path | Encoder | None = None,
    product: str | None = None,
    period: str | None = None,
    months: str | None = None,
    seed: int = 0,
) -> LabelsCheckResult:
    """Check labels as :func:`geossl.tasks.finetune.finetune` would read them; arguments mean the same.

    Args:
        labels: a label file; None for ready chips with labels of their own.
        task: a shipped task, the YAML of one's own, or a spec.
        out: directory of the result; by default ``checks/<task>-<region or chips>`` under ``$GEOSSL_HOME``.
        encoder: where given, labels are also judged by their neighbours in its features.

    Raises:
        InputError: what finetune would refuse to read, with row numbers; another thing in ``out``.
    """
    opened = load_encoder(encoder) if isinstance(encoder, str | Path) else encoder
    source = open_source(load_task(task), labels, region, chips, product, period, months)
    spec = source.spec
    folder = (Path(out) if out else geossl_home() / "checks" / f"{spec.name}-{source.name}").absolute()
    check_place(folder, KIND)
    if opened is not None:
        check_bands(opened, source.chips.bands, f"chips {source.chips.path}")
    examples, problem = _examples(source, opened, seed)
    table, everything = _table(source, labels, examples, problem)
    if everything is not None:
        _places(table, everything, source, spec)
    judged = None
    if opened is not None and examples is not None:
        judged = _judged(table, source, opened, examples, seed)
    apart, sentence = distances(source, table, None if judged is None else (judged.rows, judged.features))
    facts = _facts(table, spec, source, examples)
    with atomic_directory(folder) as temporary:
        table.drop(columns="geometry").to_csv(temporary / TABLE, index=False)
        if table["geometry"].notna().any():
            frame = gpd.GeoDataFrame(table, geometry="geometry", crs=_crs(source))
            frame.to_file(temporary / PLACES, layer="verdicts", driver="GPKG", geometry_type="Unknown")
        write_check_report(temporary / REPORT, source, table, facts, apart, sentence, problem)
        write_manifest(temporary, KIND, task=spec.name, **facts, split=sentence)
    return LabelsCheckResult(folder=folder, report=folder / REPORT, split=sentence, **facts)


def _examples(source: Source, encoder: Encoder | None, seed: int) -> tuple[PixelExamples | ChipExamples | None, str]:
    """The examples of finetune; None and its own words where it would refuse them."""
    try:
        return source.examples(encoder.meta if encoder is not None else {}, seed)[0], ""
    except InputError as error:
        warn(f"finetune would refuse these labels: {error}")
        return None, str(error)


def _table(
    source: Source, path: str | Path | None, examples: PixelExamples | ChipExamples | None, problem: str
) -> tuple[pd.DataFrame, Labels | None]:
    if path is not None:
        return file_table(source, Path(path), examples)
    if examples is None:
        raise InputError(
            "these chips cannot be checked, since finetune would refuse them", where=source.chips.path, found=problem
        )
    made = mask_table(source, examples) if isinstance(examples, PixelExamples) else chip_table(source, examples)
    return made, None


def _places(table: pd.DataFrame, labels: Labels, source: Source, spec: TaskSpec) -> None:
    """Fill in duplicates and conflicts, with row numbers."""
    row = table["row"].to_numpy()
    same = duplicates(labels)
    table.loc[same >= 0, "duplicate_of"] = [str(row[one]) for one in same[same >= 0]]
    pairs = conflicts(labels, source.chips.resolution_m, spec.time_tolerance_days)
    both = pd.DataFrame(np.concatenate([pairs, pairs[:, ::-1]]), columns=["one", "other"])
    for one, others in both.groupby("one")["other"]:
        table.loc[one, "conflicts_with"] = row_numbers(row[others.to_numpy()])


@dataclass(frozen=True)
class Judged:
    """Scaled features of the labels that were judged: ``rows`` (n,) positions in the table, ``features`` (n, d)."""

    rows: np.ndarray
    features: np.ndarray


def _judged(
    table: pd.DataFrame, source: Source, encoder: Encoder, examples: PixelExamples | ChipExamples, seed: int
) -> Judged:
    rows, features, widths = label_features(source, encoder, examples, table, seed)
    scaled = Scaling.of(features, widths)(features)
    block = table["block"].to_numpy(dtype=str)[rows]
    if source.spec.kind == "multilabel":
        assert isinstance(examples, ChipExamples)
        found = judge_several(scaled, examples.target, block)
    else:
        found = judge(scaled, table["value"].to_numpy()[rows], block)
    if found is None:
        warn("too few labels, or one class only: neighbours cannot say which labels are wrong")
    else:
        at = table.index[rows]
        table.loc[at, "verdict"], table.loc[at, "doubt"] = found.verdict, found.doubt
        table.loc[at, "agreement"], table.loc[at, "outlier"] = found.agreement, found.outlier
        table.loc[at, "instead"] = _instead(source.spec, found.instead)
    return Judged(rows, scaled)


def _instead(spec: TaskSpec, instead: np.ndarray) -> list[str]:
    """What the witnesses say, in words."""
    names = spec.class_names
    if not names:
        return [f"{one:.4g}" for one in instead.astype(float)]
    if instead.ndim == 1:
        return [names[one] for one in instead]
    said = {1: "also", -1: "not"}
    return [", ".join(f"{said[int(row[k])]} {names[k]}" for k in np.flatnonzero(row)) for row in instead]


def _counts(table: pd.DataFrame, spec: TaskSpec, examples: PixelExamples | ChipExamples | None) -> dict[str, int]:
    """Labels of each class."""
    if not spec.class_names:
        return {"values": len(table)}
    if isinstance(examples, ChipExamples) and examples.target.ndim == 2:
        return {name: int(examples.target[:, k].sum()) for k, name in enumerate(spec.class_names)}
    return {name: int((table["value"] == k).sum()) for k, name in enumerate(spec.class_names)}


def _facts(
    table: pd.DataFrame, spec: TaskSpec, source: Source, examples: PixelExamples | ChipExamples | None
) -> dict[str, Any]:
    counts = _counts(table, spec, examples)
    some = [count for count in counts.values() if count]
    verdicts = {name: int((table["verdict"] == name).sum()) for name in (KEEP, LOOK, REMOVE)}
    bad = table[table["verdict"].isin([LOOK, REMOVE])].sort_values("doubt", ascending=False, kind="stable")
    pattern = None
    if table["geometry"].notna().all():
        used = table["fate"] == "used"
        places = shapely.get_coordinates(shapely.centroid(table.loc[used, "geometry"].to_numpy()))
        tiles = source.chips.table["tile"].nunique()
        height, width = source.chips.shape
        pattern = clustering(places, tiles * height * width * source.chips.resolution_m**2)
    return {
        "labels": len(table),
        "counts": counts,
        "fate": {str(name): int(count) for name, count in table["fate"].value_counts().items()},
        "duplicates": int((table["duplicate_of"] != "").sum()),
        "conflicts": int((table["conflicts_with"] != "").sum()),
        "imbalance": max(some) / min(some) if spec.class_names and some else None,
        "clark_evans": None if pattern is None else pattern.ratio,
        "verdicts": verdicts if any(verdicts.values()) else {},
        "suspicious": [int(row) for row in bad["row"]],
    }


def _crs(source: Source) -> str:
    assert source.labels is not None
    wkt: str = source.labels.frame.crs.to_wkt()
    return wkt
