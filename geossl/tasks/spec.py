"""What a task is: its kind, classes or unit, how its labels are read, what it is compared with (``configs/tasks``)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from geossl import config
from geossl.config import Settings
from geossl.errors import InputError
from geossl.tasks.rules import MapRule

Kind = Literal["segmentation", "classification", "multilabel", "regression", "level"]
Baseline = Literal["vci", "ndmi_anomaly", "ndwi", "mndwi", "mlp", "rule", "stumpf", "lyzenga"]
Strategy = Literal["frozen", "finetune", "pseudo"]
Decoder = Literal["linear", "fpn", "unet"]


class TaskClass(Settings):
    """One class; its place in the task's list is its index in masks, heads and maps."""

    name: str
    colour: str | None = Field(default=None, pattern=r"^#[0-9a-fA-F]{6}$")
    aliases: tuple[str, ...] = ()
    """Other spellings in label files."""


class RasterRule(Settings):
    """How a raster of values becomes sparse labels."""

    thresholds: tuple[float, ...] = ()
    """Ascending limits between the classes: class k has ``thresholds[k-1] <= value < thresholds[k]``."""
    values: dict[float, str] | None = None
    """Instead of thresholds: pixel value and class name."""
    nodata: tuple[float, ...] = ()
    samples: int = Field(default=300, gt=0)
    """Pixels drawn a class (in all for a quantity): the few labels that stand for a field campaign."""


class PixelRule(Settings):
    """Pixels that a task does not speak of: those whose spectral index lies above, or below, a limit on a date."""

    index: Literal["ndvi", "ndmi", "ndwi", "mndwi"]
    above: float | None = None
    below: float | None = None
    reason: str
    """In plain words, for the map's legend: water."""

    @model_validator(mode="after")
    def _one_limit(self) -> PixelRule:
        if (self.above is None) == (self.below is None):
            raise ValueError("a rule has one limit: above, or below")
        return self


class DeepWaterRule(Settings):
    """Water whose bed is not seen on a date: see :mod:`geossl.tasks.deep_water`."""

    sigmas: float = Field(gt=0)
    """How many spreads above the scene's deep-water signal a visible band must lie for the bed to count as seen."""
    reason: str


class TaskSpec(Settings):
    """Schema of ``configs/tasks/*.yaml``."""

    name: str
    title: str
    kind: Kind
    """``segmentation``: a class a pixel. ``classification``: a class a chip. ``multilabel``: any of several labels a
    chip. ``regression``: a number a pixel or chip. ``level``: a number a date, of a whole water (``geossl level``)."""
    classes: tuple[TaskClass, ...] = ()
    ordinal: bool = False
    """The classes are steps of one quantity, in the order given (none, moderate, severe)."""
    unit: str | None = None
    of: Literal["pixel", "chip"] = "pixel"
    """What a regression gives a number to; the other kinds say it themselves."""
    temporal: Literal["date", "composite", "series"] = "date"
    """What the head sees: one ``date``; the median ``composite`` of the clear dates; the ``series`` of all dates, whose
    features are pooled over the clear ones (:mod:`geossl.tasks.temporal`)."""
    pooling: Literal["mean", "max", "attention"] = "mean"
    """How a series is pooled; ``attention`` also looks at the day of the year."""
    strategy: Strategy = "frozen"
    """``frozen``: the encoder as it is; ``finetune``: it learns on; ``pseudo``: the frozen head's own confident answers
    on unlabelled ground of training blocks teach it too."""
    decoder: Decoder = "linear"
    """What reads the encoder's maps (:mod:`geossl.tasks.decoders`)."""
    loss: Literal["cross-entropy", "focal", "dice"] = "cross-entropy"
    """What networks that learn by steps minimise on classes of pixels (:mod:`geossl.tasks.losses`)."""
    from_chips: bool = False
    """Kind and classes are those of the labels of the ready chips given with ``--chips``."""
    label_field: str = "class"
    date_field: str | None = "date"
    confidence_field: str | None = "confidence"
    min_confidence: float = Field(default=0.0, ge=0, le=1)
    """Labels below it are left out."""
    time_tolerance_days: float = Field(default=5, ge=0)
    """How many days a chip may lie from a dated label."""
    dates_per_label: int = Field(default=3, gt=0)
    """Clear dates of a tile that are used at most for each label date (for labels without a date: in all)."""
    raster: RasterRule | None = None
    baselines: tuple[Baseline, ...] = ()
    rule: MapRule | None = None
    """What the task gives without a head, from scenes alone (``geossl map --task``)."""
    season_days: int = Field(default=20, gt=0)
    """For anomalies and ``references``: how far the day of year of a reference scene may lie from that of the scene."""
    references: tuple[Literal["ndvi", "ndmi", "ndwi", "mndwi", "ndre", "nbr"], ...] = ()
    """Indices whose departure from the same season of other years the head sees beside the date itself."""
    not_applicable: tuple[PixelRule, ...] = ()
    """Where the map stays empty, because no label could ever lie there (drought of vegetation on a lake)."""
    not_seen: DeepWaterRule | None = None
    """Where neither labels nor map say anything, because no light comes back from the bed."""
    depth_field: str | None = None
    """A column of the label file with depths in metres, by which figures are told apart."""
    depth_bins: tuple[float, ...] = (2, 4, 6, 10)
    """Limits between the depths."""
    balanced: bool = True
    """Whether the head weighs every class alike; without it, frequent classes weigh more."""

    @model_validator(mode="after")
    def _whole(self) -> TaskSpec:
        names = [one.name for one in self.classes]
        if len(set(names)) != len(names):
            raise ValueError("a class is named twice")
        if self.kind in ("regression", "level") and names:
            raise ValueError(f"a {self.kind} has a unit and no classes")
        if self.kind not in ("regression", "level") and not self.from_chips and len(names) < 2:
            raise ValueError(f"a {self.kind} needs at least two classes")
        if self.references and (not self.per_pixel or self.temporal != "date"):
            raise ValueError("references are for pixels of single dates (kind segmentation or regression)")
        if {"stumpf", "lyzenga"} & set(self.baselines) and self.kind != "regression":
            raise ValueError("the baselines stumpf and lyzenga tell a depth (kind regression)")
        if "rule" in self.baselines and (self.rule is None or self.rule.form != "extent"):
            raise ValueError("the baseline rule needs a rule of form extent")
        if self.of == "chip" and self.kind != "regression":
            raise ValueError("'of' is for regressions")
        whole = not self.per_pixel and not self.from_chips
        if whole and (self.is_deep or self.loss != "cross-entropy"):
            raise ValueError("decoders, series and losses are for pixels (kind segmentation or regression)")
        if self.kind == "regression" and self.loss != "cross-entropy":
            raise ValueError("a regression learns by its own loss (Huber)")
        if self.strategy == "pseudo" and (self.kind == "regression" or self.is_deep):
            raise ValueError("pseudo-labels are for classes, read linearly from single dates or composites")
        if self.ordinal and self.kind != "segmentation":
            raise ValueError("only the classes of a segmentation can be ordinal")
        if self.raster and self.raster.values is None and self.raster.thresholds:
            if list(self.raster.thresholds) != sorted(self.raster.thresholds):
                raise ValueError("raster.thresholds must ascend")
            if len(self.raster.thresholds) != len(names) - 1:
                raise ValueError(f"{len(names)} classes need {len(names) - 1} raster.thresholds")
        if self.raster and self.raster.values is not None and set(self.raster.values.values()) - set(names):
            raise ValueError("raster.values names classes that the task does not have")
        return self

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes in the order of their indices; empty for a quantity."""
        return tuple(one.name for one in self.classes)

    @property
    def aliases(self) -> dict[str, str]:
        """Other spellings and the class each stands for."""
        return {other: one.name for one in self.classes for other in one.aliases}

    @property
    def per_pixel(self) -> bool:
        """Whether the head predicts every pixel; else it predicts whole chips."""
        return self.kind == "segmentation" or (self.kind == "regression" and self.of == "pixel")

    @property
    def is_deep(self) -> bool:
        """Whether the network has parts that only steps of gradient descent can fit: a decoder, or a series."""
        return self.decoder != "linear" or self.temporal == "series"

    @property
    def needs_days(self) -> bool:
        """Whether the head sees the day of the year as one more channel behind the bands."""
        return self.temporal == "series" and self.pooling == "attention"

    @property
    def outputs(self) -> int:
        """Channels of the head: one a class, or one value."""
        return len(self.classes) or 1

    @property
    def headline(self) -> str:
        """The figure by which heads are chosen and compared."""
        return {"multilabel": "macro_ap", "regression": "rmse"}.get(self.kind, "macro_f1")


def task_names() -> list[str]:
    """Names of the shipped tasks."""
    return config.config_names("tasks")


def load_task(task: str | Path | TaskSpec) -> TaskSpec:
    """A shipped task by name, a user's own by the path of its YAML, or the spec itself."""
    return task if isinstance(task, TaskSpec) else config.load(TaskSpec, "tasks", task)


def changed(spec: TaskSpec, where: object, **values: Any) -> TaskSpec:
    """The task with some fields set anew.

    Raises:
        InputError: the fields do not go together; ``where`` says where they come from.
    """
    return config.parse(TaskSpec, {**spec.model_dump(), **values}, where)


_KINDS: dict[str, Kind] = {
    "class": "classification",
    "multilabel": "multilabel",
    "mask": "segmentation",
    "number": "regression",
    "shares": "classification",
}
"""Labels that ready chips carry, and the task each makes."""


def fit_to_chips(spec: TaskSpec, label_kind: str, label_names: tuple[str, ...], where: object) -> TaskSpec:
    """The task as the labels of ready chips make it.

    A task with ``from_chips`` takes their kind and names; any other must agree with them: mask classes by name (or
    alias), whatever their order in the chips.

    Raises:
        InputError: the chips' labels are of another kind, name classes that the task does not know, or do not go with
            other settings of the task.
    """
    kind = _KINDS[label_kind]
    of = "chip" if kind == "regression" else "pixel"
    if spec.from_chips:
        classes = [{"name": name} for name in label_names]
        try:
            return changed(spec, where, kind=kind, of=of, classes=classes, from_chips=False)
        except InputError as error:
            raise InputError(
                f"task {spec.name} does not go with the labels of these chips",
                where=where,
                expected=f"settings for {kind}",
                found=error.found,
                remedy="leave out what is for other labels (--strategy, --decoder, or lines of the task's YAML)",
            ) from None
    if (kind, of) != (spec.kind, spec.of):
        raise InputError(
            f"task {spec.name} needs labels of another kind",
            where=where,
            expected=f"labels for {spec.kind}",
            found=f"labels for {kind} ({', '.join(label_names)})",
            remedy="choose a task of that kind (land-cover takes the labels of the chips as they are)",
        )
    class_order(spec, label_names, where)
    return spec


def class_order(spec: TaskSpec, label_names: tuple[str, ...], where: object) -> list[int]:
    """For each of the chips' labels the index of the task's class.

    Raises:
        InputError: a label is no class of the task.
    """
    known = {name.casefold(): number for number, name in enumerate(spec.class_names)}
    known |= {other.casefold(): spec.class_names.index(name) for other, name in spec.aliases.items()}
    foreign = [name for name in label_names if name.casefold() not in known]
    if foreign:
        raise InputError(
            f"the chips' labels name classes that task {spec.name} does not know",
            where=where,
            expected=", ".join(spec.class_names),
            found=", ".join(foreign),
            remedy="correct 'classes' in the chip set's description, or name aliases in the task's YAML",
        )
    return [known[name.casefold()] for name in label_names]
