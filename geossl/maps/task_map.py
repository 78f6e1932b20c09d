"""``make_task_map``: what a task gives from scenes alone, by the rule in its YAML (``geossl map --task``)."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio
from rasterio.windows import Window

from geossl.errors import InputError
from geossl.maps.areas import row_hectares, write_zones
from geossl.maps.coast import ZONES, CoastDates, coast_zones
from geossl.maps.coast_change import write_shore_change
from geossl.maps.derive import Block, Derived, derive_layer
from geossl.maps.index import IndexMapResult, Places, make_index_map, plan_index_map
from geossl.maps.legend import make_legend
from geossl.maps.make import carry_out, layer_facts
from geossl.maps.plan import MapPlan, make_plan, open_head
from geossl.maps.water_dates import WATER, WaterDates, seasons, seasons_legend
from geossl.regions import Period, Region
from geossl.tasks.rules import MapRule
from geossl.tasks.spec import TaskSpec, load_task

if TYPE_CHECKING:
    from geossl.chips.chipset import ChipSet


def make_task_map(
    task: str | Path | TaskSpec,
    *,
    head: str | Path | None = None,
    region: str | Path | Region | None = None,
    chips: str | Path | ChipSet | None = None,
    block: str | None = None,
    product: str | None = None,
    period: str | Period | None = None,
    months: str | Sequence[int] | None = None,
    out: str | Path | None = None,
    threshold: float | None = None,
    within: str | Path | None = None,
    per_month: bool = False,
    against: str | Path | None = None,
    zones: str | Path | None = None,
    zone_name: str | None = None,
) -> IndexMapResult:
    """Publish the layers that a task's rule makes of the clear dates of a period, without a head of its own.

    Extents (aquatic-vegetation) go through :func:`geossl.maps.index.make_index_map`. The others give a layer of values
    with several planes and a layer of classes made from it: seasons of water (surface-water), zones (coastal-zone).

    Args:
        task: a shipped task, the YAML of one's own, or a spec; with a ``rule``.
        head: for ``water-dates``: a head with a class ``water``, which says what is water on each date.
        region, chips, block, product, period, months, out: as in :func:`geossl.maps.index.make_index_map`.
        threshold, within, per_month: for extents, in place of what the rule says; as there.
        against: for extents a raster to compare with; for ``coast`` the ``value.tif`` of an earlier period, against
            which the shoreline is compared.
        zones, zone_name: areas of the classes in polygons.

    Raises:
        InputError: a task without a rule, options that its rule has no use for, wrong files, nothing to read.
        WorkError: disk full, or more than 5 % of the reads failed.
    """
    spec, rule = _with_rule(task)
    where: dict[str, Any] = {
        "region": region, "chips": chips, "block": block, "product": product, "period": period, "months": months,
    }  # fmt: skip
    _refuse(spec, rule, {"--head": head if rule.form != "water-dates" else None,
                         "--against": against if rule.form == "water-dates" else None,
                         **(_for_extents(threshold, within, per_month) if rule.form != "extent" else {})})  # fmt: skip
    if rule.form == "extent":
        assert rule.index is not None
        return make_index_map(
            rule.index, rule.composite, **where, out=out, per_month=per_month, against=against, zones=zones,
            zone_name=zone_name, threshold=rule.threshold if threshold is None else threshold,
            within=within or rule.within,
        )  # fmt: skip
    if against is not None and not Path(against).is_file():
        raise InputError("no such raster", where=against, remedy="check --against")
    asked = _asked(rule, head)
    started = time.monotonic()
    places = Places(Path(out) if out else None, alone=False)
    pieces = make_plan(asked, **where)
    days = pieces.plan.out.name
    folder = places.of(asked.task.name, pieces.plan.region, days, None)
    made = carry_out(replace(pieces, plan=replace(pieces.plan, out=folder)), started)
    facts = layer_facts(pieces, tuple(made.dates))
    folder = places.of(spec.name, pieces.plan.region, days, None)
    with _derived(spec, rule, made.layer / "value.tif") as derived:
        layer, areas = derive_layer(made.layer, derived, facts, folder)
    change = None
    if against is not None:
        folder = places.of(f"{spec.name}-change", pieces.plan.region, days, None)
        change = write_shore_change(Path(against), made.layer / "value.tif", folder)
    tables = (write_zones(layer, zones, zone_name),) if zones is not None else ()
    rows = tuple({"layer": spec.name, "month": None, **row} for row in areas)
    return IndexMapResult((made.layer, layer), rows, None, tables, (made,), change)


def plan_task_map(task: str | Path | TaskSpec, *, head: str | Path | None = None, **where: Any) -> MapPlan:
    """What :func:`make_task_map` would read with the same arguments, without reading a pixel."""
    _, rule = _with_rule(task)
    if rule.form == "extent":
        assert rule.index is not None
        return plan_index_map(rule.index, rule.composite, **where)
    return make_plan(_asked(rule, head), **where).plan


def _with_rule(task: str | Path | TaskSpec) -> tuple[TaskSpec, MapRule]:
    spec = load_task(task)
    if spec.rule is None:
        raise InputError(
            f"task {spec.name} has no rule that makes a map without a head",
            where="--task",
            remedy="teach a head (geossl finetune), then geossl map --head DIR",
        )
    if spec.rule.form == "coast" and spec.class_names != ZONES:
        raise InputError(
            "a rule of form coast makes these classes, in this order",
            where=f"task {spec.name}",
            expected=", ".join(ZONES),
            found=", ".join(spec.class_names),
        )
    return spec, spec.rule


def _for_extents(threshold: float | None, within: str | Path | None, per_month: bool) -> dict[str, Any]:
    return {"--threshold": threshold, "--within": within, "--per-month": per_month or None}


def _refuse(spec: TaskSpec, rule: MapRule, options: dict[str, Any]) -> None:
    """Refuse options that are given and have no meaning for this form of rule."""
    used = [name for name, value in options.items() if value is not None]
    if used:
        raise InputError(f"{', '.join(used)}: not for task {spec.name} (rule {rule.form})", where="--task")


def _asked(rule: MapRule, head: str | Path | None) -> WaterDates | CoastDates:
    if rule.form == "coast":
        return CoastDates(rule.min_dates)
    if head is None:
        return WaterDates(rule.min_dates)
    opened, identity, path = open_head(head)
    names = [str(entry.name) for entry in opened.task.classes]
    if opened.task.kind != "segmentation" or WATER not in names:
        raise InputError(
            "this head does not say what is water",
            where=path,
            expected="a head of pixels with a class named water",
            found=f"{opened.task.kind}: {', '.join(names) or opened.task.title}",
        )
    return WaterDates(rule.min_dates, opened, identity)


@contextmanager
def _derived(spec: TaskSpec, rule: MapRule, values: Path) -> Iterator[Derived]:
    """The layer of classes that follows from the values."""
    inputs = {"rule": rule.model_dump()}
    if rule.form == "water-dates":
        yield Derived(spec.name, seasons_legend(rule.min_dates), lambda planes, window: seasons(planes), inputs)
        return
    legend = replace(make_legend(spec), kind="derived")
    with rasterio.open(values) as source:
        middle = row_hectares(source.crs, source.transform, Window(0, source.height // 2, 1, 1))[0]
        reach = rule.shore_m / float(np.sqrt(10_000 * middle))  # pixels
        margin = int(np.ceil(reach)) + 1
        wide = _wider(source, margin)

        def zones(planes: np.ndarray, window: Window) -> np.ndarray:
            found = coast_zones(wide(window), reach)
            return found[margin : margin + window.height, margin : margin + window.width]

        yield Derived(spec.name, legend, zones, inputs)


def _wider(source: Any, margin: int) -> Block:
    """Reads all planes of a window and ``margin`` pixels around it, NaN beyond the raster."""

    def read(window: Window) -> np.ndarray:
        size = (window.width + 2 * margin, window.height + 2 * margin)
        around = Window(window.col_off - margin, window.row_off - margin, *size)
        return np.asarray(source.read(window=around, boundless=True, fill_value=np.nan))

    return read
