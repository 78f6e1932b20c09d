"""Where labelled examples come from: ready chips with labels of their own, or a label file laid over chips of tiles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from geossl.chips.chipset import ChipSet
from geossl.chips.open import open_chips
from geossl.chips.ready import ReadyChips
from geossl.errors import InputError
from geossl.labels.rasters import read_raster_labels
from geossl.labels.read import Fields, Labels, class_names_in, inside, is_raster, read_vector_labels, row_numbers
from geossl.labels.stations import is_stations, read_stations
from geossl.progress import say, warn
from geossl.regions import Period, Region, load_region, parse_months, parse_period
from geossl.tasks.examples import (
    ChipExamples,
    PixelExamples,
    labelled_blocks,
    match_labels,
    ready_chips,
    ready_masks,
    store_pixels,
)
from geossl.tasks.series import series_chips
from geossl.tasks.spec import RasterRule, TaskSpec, fit_to_chips
from geossl.tasks.splits import LabelSplit, split_labelled

Splitter = Callable[[Sequence[str], ChipSet, dict[str, Any], int], LabelSplit]
"""Puts each labelled block in a part, as :func:`geossl.tasks.splits.split_labelled` does."""
_RASTER_SEED = 0
"""Pixels of a label raster are drawn once for all runs, so that seeds differ in the split and not in the labels."""


@dataclass
class Source:
    """Chips and labels that fit each other; ``spec`` is the task as these labels make it.

    ``split`` and ``unmatched`` are there after :meth:`examples`.
    """

    spec: TaskSpec
    chips: ChipSet
    labels: Labels | None
    name: str
    period: Period | None
    months: tuple[int, ...] | None
    split: LabelSplit | None = None
    unmatched: int = 0
    _ready: ReadyChips | None = field(default=None, repr=False)

    def examples(
        self, encoder_meta: dict[str, Any], seed: int, split: Splitter = split_labelled
    ) -> tuple[PixelExamples | ChipExamples, str]:
        """The examples, split by block, and one sentence on the split."""
        if self._ready is not None:
            self.split = split(labelled_blocks(self._ready), self.chips, encoder_meta, seed)
            if self.spec.kind == "segmentation":
                return ready_masks(self._ready, self.spec, self.split, seed), self.split.sentence
            return ready_chips(self._ready, self.split), self.split.sentence
        assert self.labels is not None
        if self.spec.temporal == "date":
            chips = self.chips
            matched = match_labels(chips, self.labels, self.spec, self.period, self.months)
        else:  # a chip is then a tile with its dates, and a label holds on one of them
            chips = series_chips(self.chips, self.labels, self.spec, self.period, self.months)
            one = self.spec.model_copy(update={"dates_per_label": 1})
            matched = match_labels(chips, self.labels, one, None, None)
        self.unmatched = matched.unmatched
        if matched.unmatched:
            met = np.unique(np.concatenate(matched.labels))
            missed = row_numbers(np.delete(self.labels.rows, met))
            warn(f"{matched.unmatched} of {len(self.labels)} labels meet no clear chip and are not used: {missed}")
        blocks = chips.table["block"].astype(str).to_numpy()[matched.rows]
        self.split = split(blocks, self.chips, encoder_meta, seed)
        pixels = store_pixels(chips, self.labels, matched, self.spec, self.split, seed)
        return pixels, self.split.sentence

    def blocks(self, side: str) -> list[str]:
        """Blocks of one part, once the examples are made."""
        return self.split.blocks(side) if self.split is not None else []


def open_source(
    spec: TaskSpec,
    labels: str | Path | None,
    region: str | Region | None,
    chips: str | Path | ChipSet | None,
    product: str | None,
    period: str | None,
    months: str | None,
) -> Source:
    """Open chips and labels and see that they fit; tiles of a region are built where missing, after the labels were
    read.

    Raises:
        InputError: neither or both of region and chips; no labels; labels that do not fit the task.
    """
    _one_of(region, chips)
    when = parse_period(period) if period else None
    in_months = parse_months(months) if months else None
    if chips is not None:
        opened = chips if not isinstance(chips, str | Path) else open_chips(chips)
        name = opened.name.replace("/", "-")
        if labels is None:
            return _ready_source(spec, opened, name, when, in_months)
        read = read_labels(spec, labels, None)
        return _file_source(read[0], opened, read[1], name, when, in_months)
    assert region is not None
    area = load_region(region) if isinstance(region, str) else region
    if labels is None:
        raise InputError("a region needs labels", where="--labels", expected="a file of points, polygons or a raster")
    made, there = read_labels(spec, labels, area)
    from geossl.chips.build import build_tiles

    say(f"tiles of {area.name}: building what is missing")
    store = build_tiles(area, product=product, period=period, months=months).store
    return _file_source(made, open_chips(store), there, area.name, when or area.period, in_months or area.months)


def open_pool(
    spec: TaskSpec,
    labels: str | Path | None,
    region: str | Region | None,
    chips: str | Path | ChipSet | None,
    product: str | None,
    period: str | None,
    months: str | None,
) -> tuple[TaskSpec, ChipSet, Labels | None, Period | None, tuple[int, ...] | None]:
    """Chips with or without labels on them: the task as the labels make it, the chips, the labels in the chips' CRS,
    the period and the months.

    For a task of whole chips the labels' classes are those of the file: what counts is which chips have any.

    Raises:
        InputError: neither or both of region and chips; labels that do not fit the task.
    """
    _one_of(region, chips)
    when, in_months = parse_period(period) if period else None, parse_months(months) if months else None
    area = load_region(region) if isinstance(region, str) else region
    read: Labels | None = None
    if labels is not None and spec.per_pixel:
        spec, read = read_labels(spec, labels, area)
    elif labels is not None:
        fields = Fields(spec.label_field, spec.date_field, spec.confidence_field)
        read = read_vector_labels(labels, class_names_in(labels, fields.label), fields, region=area)
    if area is not None:
        from geossl.chips.build import build_tiles

        say(f"tiles of {area.name}: building what is missing")
        opened = open_chips(build_tiles(area, product=product, period=period, months=months).store)
        when, in_months = when or area.period, in_months or area.months
    else:
        assert chips is not None
        opened = open_chips(chips) if isinstance(chips, str | Path) else chips
    if read is not None or spec.per_pixel:
        crs = one_crs(opened)
        read = read.to_crs(crs) if read is not None else None
    return spec, opened, read, when, in_months


def _one_of(region: object, chips: object) -> None:
    if (region is None) == (chips is None):
        raise InputError(
            "one source of chips is needed",
            expected="--region (with --labels), or --chips",
            found="neither" if region is None else "both",
        )


def read_labels(spec: TaskSpec, path: str | Path, region: Region | None) -> tuple[TaskSpec, Labels]:
    """Labels of a file, and the task with its classes (a task without classes of its own takes the file's)."""
    file = Path(path)
    if is_raster(file):
        rule = spec.raster or RasterRule()
        if spec.kind != "regression" and rule.values is None and not rule.thresholds:
            raise InputError(
                f"task {spec.name} does not say which values of a raster are which class",
                where=file,
                remedy="give raster: {thresholds: [...]} or raster: {values: {...}} in the task's YAML",
            )
        labels = read_raster_labels(
            file,
            spec.class_names,
            seed=_RASTER_SEED,
            samples=rule.samples,
            thresholds=rule.thresholds,
            values=rule.values,
            nodata=rule.nodata,
            region=region,
        )
        return spec, labels
    fields = Fields(spec.label_field, spec.date_field, spec.confidence_field)
    if spec.from_chips:
        names = class_names_in(file, fields.label)
        values = {**spec.model_dump(), "kind": "segmentation", "classes": [{"name": name} for name in names]}
        spec = TaskSpec.model_validate({**values, "from_chips": False})
    if not spec.per_pixel:
        raise InputError(
            f"task {spec.name} labels whole chips, so a label file cannot be laid over them",
            where=file,
            remedy="give --chips with an index that has labels, or a task of kind segmentation or regression",
        )
    if is_stations(file):
        labels = read_stations(file, spec.class_names)
        labels = labels if region is None else inside(labels, region)
    else:
        labels = read_vector_labels(file, spec.class_names, fields, spec.aliases, region)
    trusted = labels.frame["confidence"].to_numpy() >= spec.min_confidence
    if not trusted.all():
        rows = row_numbers(labels.frame["row"].to_numpy()[~trusted])
        say(f"{int((~trusted).sum())} labels below confidence {spec.min_confidence:g} are left out: {rows}")
        labels = Labels(labels.frame[trusted].reset_index(drop=True), labels.classes, labels.path, labels.id)
    return spec, labels


def _ready_source(
    spec: TaskSpec, chips: ChipSet, name: str, period: Period | None, months: tuple[int, ...] | None
) -> Source:
    if not isinstance(chips, ReadyChips):
        raise InputError("chips of a store carry no labels", where=chips.path, remedy="give --labels")
    kind = chips.label_kind
    if kind is None:
        chips.labels([])  # raises the error that says how to name labels
        raise AssertionError
    fitted = fit_to_chips(spec, kind, chips.label_names, chips.path)
    return Source(fitted, chips, None, name, period, months, _ready=chips)


def _file_source(
    spec: TaskSpec,
    chips: ChipSet,
    labels: Labels,
    name: str,
    period: Period | None,
    months: tuple[int, ...] | None,
) -> Source:
    crs = one_crs(chips)
    return Source(spec, chips, labels.to_crs(crs), name, period, months)


def one_crs(chips: ChipSet) -> str:
    """The CRS of georeferenced chips.

    Raises:
        InputError: chips of several, or without places.
    """
    names: Sequence[str] = sorted({str(one) for one in chips.table["crs"].dropna().unique()})
    if len(names) != 1 or not np.isfinite(chips.table["left"].to_numpy(dtype=float)).all():
        raise InputError(
            "a label file can only be laid over chips of one CRS",
            where=chips.path,
            found=", ".join(names) or "chips without a CRS",
            remedy="choose georeferenced chips of one CRS",
        )
    return names[0]
