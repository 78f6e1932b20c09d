"""Keep the layers of a task over a region up to date: ingest → tiles → map → publish → notify.

``python -m flows.monitor --task drought --region malardalen --sandbox malardalen``. Each step asks the cube and the
manifests what is missing, so a run after nothing has happened does nothing, and a run after one that was killed, or
whose server went away, finishes what is left.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger

from flows import notify, steps
from flows import parameters as given
from flows.command import run_here
from flows.ingest import take_in
from flows.shown import show_table
from geossl.artefacts import is_complete
from geossl.config import geossl_home
from geossl.errors import InputError
from geossl.maps import versions
from geossl.maps.composite import IndexComposite
from geossl.regions import load_region
from geossl.tasks.spec import load_task

WATER = "mndwi"
"""The index that is mapped where a task is about a lake's level: above 0 there is water."""


@dataclass(frozen=True)
class Watched:
    """What one run of the monitor did."""

    said: str
    """In a sentence."""
    new_scenes: int
    new_chips: int
    published: tuple[versions.Published, ...]
    announced: tuple[str, ...]
    layers: Path
    """Where the versions lie."""
    level: dict[str, Any] | None = None
    """Of a lake: date, level_m and error_m of the newest date on which its level can be seen."""


@flow(name="monitor", log_prints=False)
def monitor(
    task: given.Task,
    region: given.Region,
    head: given.MaybeHead = None,
    gauge: given.Gauge = None,
    source: given.Source = None,
    sandbox: given.Sandbox = None,
    product: given.Product = None,
    profile: given.Profile = None,
    period: given.Period = None,
    months: given.Months = None,
    every: given.Every = "month",
    newest: given.Newest = 2,
    max_chips: given.MaxChips = 20_000,
    out: given.Out = None,
    webhook: given.Webhook = None,
    log: given.Log = None,
) -> Watched:
    """Take in new scenes, read their tiles, publish new versions of the layers that they change, and tell of it."""
    check(task, region, head, gauge, source, sandbox, webhook)
    spec, area = load_task(task), load_region(region)
    model = IndexComposite(WATER, "median") if spec.kind == "level" else str(head_folder(task, region, head))
    root = Path(out).absolute() if out else versions.default_root(spec.name, area.name)
    title = f"{spec.title}, {area.name}"

    scenes = take_in(source, sandbox, product, profile, region, period).added if source or sandbox else 0
    chips = steps.tiles(region, product, period, months, max_chips).new
    due = steps.look(
        model, root, region=region, product=product, period=period, months=months, every=every, newest=newest
    )
    published = []
    for one in due:
        if not one.published:
            layer = steps.draw_version(model, root, one, region=region, product=product, months=months)
            published.append(steps.publish(root, one.period, layer, title))
    level: dict[str, Any] | None = None
    if spec.kind == "level":
        readings = gauge or str(geossl_home() / "sandbox" / Path(str(sandbox)).stem / "labels" / "gauge.csv")
        level = steps.levels(
            readings, root / "series", region=region, product=product, period=period, months=months
        ).last
    announced = steps.announce(root, title, webhook, log)
    result = Watched(
        said=sentence(title, scenes, chips, published),
        new_scenes=scenes,
        new_chips=chips,
        published=tuple(published),
        announced=tuple(announced),
        layers=root,
        level=level,
    )
    get_run_logger().info(result.said)
    row = {"task": spec.name, "region": area.name, "result": result.said, "new scenes": scenes, "new chips": chips}
    show_table(f"monitor-{spec.name}-{area.name}", [row], f"layers in {root}")
    return result


def sentence(title: str, scenes: int, chips: int, published: list[versions.Published]) -> str:
    """What a run did, in words."""
    if published:
        names = ", ".join(one.version for one in published)
        return f"{title}: {scenes} new scenes, {chips} new chips, published {names}"
    if scenes or chips:
        return f"{title}: {scenes} new scenes, {chips} new chips, no layer changed"
    return f"{title}: nothing new, nothing done"


def head_folder(task: str, region: str, head: str | None) -> Path:
    """The head to map with: the one named, else the usual place of the task's head for the region."""
    if head is not None:
        return Path(head).absolute()
    return geossl_home() / "heads" / f"{load_task(task).name}-{load_region(region).name}"


def check(
    task: str,
    region: str,
    head: str | None = None,
    gauge: str | None = None,
    source: str | None = None,
    sandbox: str | None = None,
    webhook: str | None = None,
    **_: Any,
) -> None:
    """What can be wrong before any work is done."""
    if source is not None and sandbox is not None:
        raise InputError("two sources of scenes", expected="source or sandbox, or neither", remedy="leave one out")
    notify.check_webhook(webhook)
    if load_task(task).kind == "level":
        if gauge is None and sandbox is None:
            raise InputError("levels are learnt from a gauge", expected="gauge: a CSV of dates and levels in metres")
        return
    folder = head_folder(task, region, head)
    if not is_complete(folder):
        raise InputError(
            f"no head for {task} here",
            where=folder,
            remedy=f"teach one first (python -m flows.finetune --task {task} …), or name it with head",
        )


if __name__ == "__main__":
    run_here(monitor, check)
