"""The tasks that flows are made of: one function of the library each, with retries, a time limit, progress, artifacts.

A task that is run again continues from what the manifests on disk say is done, so a retry costs what was left.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import task

import geossl
from flows import notify
from flows.shown import heard, picture_of_report, show_picture, show_table
from geossl.errors import InputError
from geossl.maps import versions
from geossl.maps.predictors import MapHead

if TYPE_CHECKING:
    from geossl.chips.build import TilesResult
    from geossl.cube.index import IndexResult
    from geossl.maps.level import LevelResult
    from geossl.maps.make import MapResult
    from geossl.tasks.finetune import FinetuneResult
    from geossl.training.pretrain import PretrainResult

HOUR = 3600.0


def worth_retrying(_task: object, _run: object, state: object) -> bool:
    """Retry what may pass (a read, a full disk somebody clears), never wrong input."""
    try:
        state.result()  # type: ignore[attr-defined]
    except InputError:
        return False
    except Exception:
        return True
    return False


RETRIES: dict[str, Any] = {"retries": 2, "retry_delay_seconds": 30, "retry_condition_fn": worth_retrying}


@task(name="index", timeout_seconds=6 * HOUR, **RETRIES)
def index(source: str, product: str | None, profile: str | None, region: str | None, period: str | None) -> IndexResult:
    """Index the scenes of a source that are new or have changed."""
    with heard("index"):
        result = geossl.index_source(source, product=product, profile=profile, region=region, period=period)
    rows = [
        {"product": one.name, "added": one.added, "updated": one.updated, "there before": one.skipped}
        for one in result.products
    ]
    refused = [{"scene": one.item, "reason": one.reason} for one in result.refused]
    show_table("index", rows, f"scenes of {source}, indexed in cube '{result.cube}'")
    if refused:
        show_table("index-refused", refused[:100], f"{len(refused)} scenes that cannot be indexed")
    _show_scenes(region, [one.name for one in result.products])
    return result


def _show_scenes(region: str | None, products: Sequence[str]) -> None:
    """The footprints of what is in the cube, against the region."""
    from geossl.cube.status import cube_status, draw_map

    for product in products:
        status = cube_status(region, product)
        if status.products:
            with tempfile.TemporaryDirectory() as folder:
                picture = Path(folder) / "scenes.png"
                draw_map(status, region, picture)
                show_picture(f"scenes-{product}", picture, f"scenes of {product} in the cube")


@task(name="sandbox", timeout_seconds=6 * HOUR, **RETRIES)
def sandbox(name: str) -> Any:
    """Simulate a region's scenes where they are not there yet, and index them."""
    with heard("sandbox"):
        result = geossl.create_sandbox(name)
    row = {"sandbox": name, "scenes": result.scenes, "written": result.written, "new in the cube": result.indexed}
    show_table("sandbox", [row], f"simulated region {name} in {result.path}")
    show_picture("sandbox", result.preview, f"simulated region {name}")
    return result


@task(name="tiles", timeout_seconds=48 * HOUR, **RETRIES)
def tiles(region: str, product: str | None, period: str | None, months: str | None, max_chips: int) -> TilesResult:
    """Read the chips that are missing: of new scenes, those of their tiles."""
    from geossl.chips.status import store_status
    from geossl.report.pages import to_png
    from geossl.report.plots import bars

    with heard("tiles"):
        result = geossl.build_tiles(region, product=product, period=period, months=months, max_chips=max_chips)
    row = {
        "region": result.region, "product": result.product, "new": result.new, "there before": result.skipped,
        "too cloudy": result.cloudy, "failed": result.failed, "dates": result.dates, "tiles": result.tiles,
    }  # fmt: skip
    show_table("tiles", [row], f"chips of {result.region} in {result.store}")
    months_there = store_status(result.store).by_month
    if months_there:
        figure = bars({name: float(count) for name, count in months_there.items()}, xlabel="stored chips")
        show_picture("tiles", to_png(figure), "stored chips of each month")
    return result


@task(name="pretrain", timeout_seconds=7 * 24 * HOUR, **RETRIES)
def train(
    chips: Path, method: str, epochs: int | None, max_minutes: float | None, out: str, seed: int
) -> PretrainResult:
    """Train the encoder, or continue where an earlier attempt died."""
    with heard("pretrain"):
        result = geossl.pretrain(
            chips=str(chips), method=method, epochs=epochs, max_minutes=max_minutes, out=out, seed=seed
        )
    row = {
        "encoder": result.encoder, "method": result.method, "steps": result.steps, "epochs": result.epochs,
        "recall at 1": result.recall_at_1, "kNN": result.knn, "samples a second": result.samples_per_s,
    }  # fmt: skip
    show_table("encoder", [row], f"report: {result.report}")
    show_picture("encoder", picture_of_report(result.report), f"from {result.report}")
    return result


@task(name="finetune", timeout_seconds=48 * HOUR, **RETRIES)
def teach(task_name: str, encoder: str, **settings: Any) -> FinetuneResult:
    """Teach a head, or find it where the same inputs have made it before."""
    with heard("finetune"):
        result = geossl.finetune(task_name, encoder=encoder, **settings)
    show_table("head", result.rows, f"{result.task}: head and controls on held-out blocks; report: {result.report}")
    show_picture("head", picture_of_report(result.report), f"from {result.report}")
    return result


@task(name="map", timeout_seconds=48 * HOUR, **RETRIES)
def draw(head: str, **where: Any) -> MapResult:
    """Make a layer, or continue one that was cut off."""
    with heard("map"):
        result = geossl.make_map(head, **where)
    row = {
        "task": result.task, "layer": result.layer, "dates": len(result.dates), "cells": result.shape,
        "seen": result.clear_share, "windows": result.windows, "in this run": result.windows_now,
    }  # fmt: skip
    show_table("layer", [row], f"layer in {result.layer}")
    show_picture("layer", result.layer / "quicklook.png", f"layer in {result.layer}")
    return result


@task(name="look", timeout_seconds=6 * HOUR, **RETRIES)
def look(head: str | MapHead, root: Path, **where: Any) -> list[versions.Due]:
    """Which layers are behind the scenes in the cube."""
    with heard("look"):
        due = versions.find_due(head, root, **where)
    rows = [
        {"period": one.period, "scenes": one.scenes, "version": one.version,
         "state": "up to date" if one.published else "to be made"}
        for one in due
    ]  # fmt: skip
    show_table("due", rows, f"layers in {root}")
    return due


@task(name="map-version", timeout_seconds=48 * HOUR, **RETRIES)
def draw_version(head: str | MapHead, root: Path, due: versions.Due, **where: Any) -> Path:
    """Make the map of one period, or continue one that was cut off."""
    with heard(f"map-{due.period}"):
        return versions.make_version(head, root, due, **where)


@task(name="publish", timeout_seconds=HOUR, **RETRIES)
def publish(root: Path, period: str, layer: Path, title: str) -> versions.Published:
    """Make a map the current version of its period."""
    with heard("publish"):
        result = versions.publish_version(root, period, layer, title)
    show_table(f"published-{root.name}", [vars(result)], f"layers in {root}")
    show_picture(f"published-{root.name}", result.layer / "quicklook.png", f"{title}, {period}: {result.version}")
    return result


@task(name="levels", timeout_seconds=48 * HOUR, **RETRIES)
def levels(gauge: str, out: Path, **where: Any) -> LevelResult:
    """The level of a lake on every date; made anew when scenes or readings are new, else found where it lies."""
    from geossl.maps.level import map_level

    with heard("levels"):
        result = map_level(gauge, out=out, **where)
    row = {"dates": result.dates, "observable": result.observable, "RMSE, m": result.rmse_m, "newest": result.last}
    show_table("levels", [row], f"series in {result.folder}")
    show_picture("levels", result.folder / "series.png", f"levels, {result.series}")
    return result


@task(name="notify", timeout_seconds=HOUR, **RETRIES)
def announce(root: Path, title: str, webhook: str | None, log: str | None) -> list[str]:
    """Tell of every current version that nobody has been told of yet; returns their names."""
    with heard("notify"):
        waiting = versions.to_announce(root)
        if waiting:
            notify.send(notify.message(root, title, waiting), webhook, log)
            versions.mark_announced(root, waiting)
    return waiting
