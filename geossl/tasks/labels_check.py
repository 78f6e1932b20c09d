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
from geossl.encoders.saved import Encoder, check_bands, load_encoder
from geossl.errors import InputError
from geossl.labels.quality import KEEP, LOOK, REMOVE, judge
from geossl.labels.read import Labels, is_raster, row_numbers
from geossl.labels.spatial import clustering, conflicts, duplicates
from geossl.progress import warn
from geossl.regions import Region
from geossl.tasks.chip_rows import chip_features
from geossl.tasks.examples import ChipExamples, PixelExamples, thin_places
from geossl.tasks.heads import ChipNet, PixelNet
from geossl.tasks.labels_fate import fates
from geossl.tasks.labels_report import distances, write_check_report
from geossl.tasks.linear import Scaling
from geossl.tasks.pixel_rows import pixel_features
from geossl.tasks.sources import Source, open_source, read_labels
from geossl.tasks.spec import TaskSpec, load_task

KIND = "labels-check"
REPORT, TABLE, PLACES = "report.html", "verdicts.csv", "verdicts.gpkg"
_PIXELS_A_PLACE = 20
_MOST_JUDGED = 20_000


@dataclass(frozen=True)
class LabelsCheckResult:
    """What a label file is worth.

    Attributes:
        folder: with ``report``, ``verdicts.csv`` and (where labels have places) ``verdicts.gpkg``.
        report: the page.
        labels: rows of the file (labelled chips of ready chips).
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
    out: str | Path,
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
        out: directory of the result.
        encoder: where given, labels are also judged by their neighbours in its features.

    Raises:
        InputError: what finetune would refuse to read, with row numbers; another thing in ``out``; multilabel chips.
    """
    spec, folder = load_task(task), Path(out).absolute()
    check_place(folder, KIND)
    opened = load_encoder(encoder) if isinstance(encoder, str | Path) else encoder
    source = open_source(spec, labels, region, chips, product, period, months)
    spec = source.spec
    if opened is not None:
        check_bands(opened, source.chips.bands, f"chips {source.chips.path}")
    examples, problem = _examples(source, opened, seed)
    table, everything = _table(source, labels, examples)
    if everything is not None:
        _places(table, everything, source, spec)
    judged = None
    if opened is not None and examples is not None:
        judged = _judged(table, source, opened, examples, seed)
    apart, sentence = distances(source, table, None if judged is None else (judged.rows, judged.features))
    facts = _facts(table, spec, source)
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
    if source.spec.kind == "multilabel":
        raise InputError("chips with several labels each cannot be checked yet", where=source.chips.path,
                         expected="one class or number a label")  # fmt: skip
    try:
        return source.examples(encoder.meta if encoder is not None else {}, seed)[0], ""
    except InputError as error:
        warn(f"finetune would refuse these labels: {error}")
        return None, str(error)


def _table(
    source: Source, path: str | Path | None, examples: PixelExamples | ChipExamples | None
) -> tuple[pd.DataFrame, Labels | None]:
    """A row a label of the file: what it says, what becomes of it."""
    spec = source.spec
    if path is None:
        if not isinstance(examples, ChipExamples):
            raise InputError("masks of chips are no single labels to check", where=source.chips.path,
                             remedy="give a label file, or chips with a class each")  # fmt: skip
        chips = source.chips.table
        table = pd.DataFrame({"row": np.arange(1, len(chips) + 1), "chip": chips["chip"], "value": examples.target})
        table["date"], table["geometry"] = pd.NaT, None
        table["part"], table["fate"] = examples.data.side, "used"
        table["block"] = examples.data.block
        return _named(table, spec), None
    assert source.labels is not None
    # Read once more, without the limits of confidence and region, so that what they leave out is told too.
    file = Path(path)
    whole = source.labels if is_raster(file) else read_labels(
        load_task(spec).model_copy(update={"min_confidence": 0.0}), file, None)[1].to_crs(_crs(source))  # fmt: skip
    frame = whole.frame
    table = pd.DataFrame(
        {"row": frame["row"], "value": frame["value"], "date": frame["date"], "confidence": frame["confidence"]}
    )
    table["area_m2"] = shapely.area(frame.geometry.to_numpy())
    table["geometry"] = frame.geometry.to_numpy()
    table["fate"], table["part"], table["block"] = fates(source, whole, examples)
    return _named(table, spec), whole


def _named(table: pd.DataFrame, spec: TaskSpec) -> pd.DataFrame:
    names = np.array(spec.class_names, dtype=object)
    table.insert(1, "label", names[table["value"].to_numpy()] if len(names) else table["value"])
    for column, empty in (("duplicate_of", ""), ("conflicts_with", ""), ("verdict", ""), ("instead", "")):
        table[column] = empty
    table["agreement"], table["doubt"], table["outlier"] = np.nan, np.nan, False
    return table


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
    spec = source.spec
    rows, features, widths = label_features(source, encoder, examples, table["row"].to_numpy(), seed)
    scaled = Scaling.of(features, widths)(features)
    block = table["block"].to_numpy(dtype=str)[rows]
    found = judge(scaled, table["value"].to_numpy()[rows], block)
    if found is None:
        warn("too few labels, or one class only: neighbours cannot say which labels are wrong")
    else:
        names = np.array(spec.class_names, dtype=object)
        at = table.index[rows]
        table.loc[at, "verdict"], table.loc[at, "doubt"] = found.verdict, found.doubt
        table.loc[at, "agreement"], table.loc[at, "outlier"] = found.agreement, found.outlier
        table.loc[at, "instead"] = (
            names[found.instead] if len(names) else [f"{one:.4g}" for one in found.instead.astype(float)]
        )
    return Judged(rows, scaled)


def label_features(
    source: Source, encoder: Encoder, examples: PixelExamples | ChipExamples, file_rows: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray, tuple[int, ...]]:
    """Positions in the table, raw features (n, d) of each label (the mean over its pixels and dates), and widths."""
    spec = source.spec
    if isinstance(examples, ChipExamples) or source.labels is None:
        assert isinstance(examples, ChipExamples)
        chip_net = ChipNet(encoder, spec.outputs).eval()
        return np.arange(len(file_rows)), chip_features(chip_net, examples), chip_net.widths
    kept = source.labels.frame["row"].to_numpy()
    net, rng = PixelNet(encoder, spec.outputs, spec.references).eval(), np.random.default_rng(seed)
    pixels = thin_places(examples, np.arange(len(examples.chip)), _PIXELS_A_PLACE, rng)
    places = np.unique(examples.place[pixels])
    if len(places) > _MOST_JUDGED:
        warn(f"{_MOST_JUDGED} of {len(places)} labels, drawn at random, are judged")
        places = np.sort(rng.choice(places, _MOST_JUDGED, replace=False))
        pixels = pixels[np.isin(examples.place[pixels], places)]
    values = pixel_features(net, examples, pixels)
    code = np.searchsorted(places, examples.place[pixels])
    total = np.zeros((len(places), values.shape[1]), dtype=np.float64)
    np.add.at(total, code, values)
    mean = (total / np.bincount(code, minlength=len(places))[:, None]).astype(np.float32)
    return _positions(kept, places, file_rows), mean, net.widths


def _positions(kept: np.ndarray, places: np.ndarray, file_rows: np.ndarray) -> np.ndarray:
    """Positions in the whole file of places, which count the labels (of file rows ``kept``) that were not left out."""
    return np.searchsorted(file_rows, kept[places])


def _facts(table: pd.DataFrame, spec: TaskSpec, source: Source) -> dict[str, Any]:
    counts = (
        {name: int((table["value"] == k).sum()) for k, name in enumerate(spec.class_names)}
        if spec.class_names
        else {"values": len(table)}
    )
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
