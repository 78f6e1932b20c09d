"""Disk and memory, against the least that any work needs and against the work planned for a region."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from geossl.config import geossl_home
from geossl.doctor.finding import Finding, of_error
from geossl.errors import GeosslError

if TYPE_CHECKING:
    from geossl.regions import Region

GIB = float(2**30)
LEAST_DISK = 1 * GIB
"""Below it the embedded cube, a checkpoint or a COG may not find its place."""
LEAST_MEMORY = 2 * GIB
"""What torch, a small encoder and its batch take beside the chips: measured 1.3 to 1.7 GiB, rounded up."""
USUAL_CHIPS = 20_000


@dataclass(frozen=True)
class Plan:
    """What the next tiles and training of a region need.

    Attributes:
        chips: chips that are drawn.
        to_read: those of them the store does not have.
        disk: bytes that building adds at most (uncompressed).
        memory: bytes of all drawn chips, which training keeps in memory.
        place: where the chip store lies.
    """

    chips: int
    to_read: int
    disk: int
    memory: int
    place: Path


def planned(region: Region, product: str | None = None, max_chips: int = USUAL_CHIPS) -> Plan:
    """The plan of ``geossl tiles build`` and of the training on it, without reading a pixel."""
    from geossl.chips.intent import make_plan
    from geossl.chips.reading import bytes_per_pixel

    plan = make_plan(region, product, None, None, None, max_chips, None, (None, None))
    a_chip = plan.grid.tile_px**2 * bytes_per_pixel(plan.bands, plan.product.encoding)
    return Plan(len(plan.chosen), len(plan.todo), plan.raw_bytes, len(plan.chosen) * a_chip, plan.path)


def resources(region: Region | None, product: str | None = None) -> list[Finding]:
    """Free disk and memory of this machine against the plan for a region (or the least any work needs)."""
    import psutil

    home = geossl_home()
    findings = [writable(home)]
    plan: Plan | None = None
    if region is not None:
        try:
            plan = planned(region, product)
        except GeosslError as error:
            findings.append(of_error("planned work", error, "warn"))
    place = _existing(plan.place if plan else home)
    findings.append(disk(plan, shutil.disk_usage(place).free, place))
    findings.append(memory(plan, psutil.virtual_memory().available))
    return findings


def writable(home: Path) -> Finding:
    """Whether ``$GEOSSL_HOME`` (or the folder it would be made in) can be written."""
    place = _existing(home)
    if place.is_dir() and os.access(place, os.W_OK | os.X_OK):
        return Finding("home", "ok", f"{home}{'' if place == home else ' (will be made)'}")
    return Finding("home", "fail", f"cannot write {home}", "set GEOSSL_HOME to a folder you can write")


def disk(plan: Plan | None, free: float, place: Path) -> Finding:
    """Free bytes at ``place`` against the plan; tight below one and a half times what is needed."""
    needed = LEAST_DISK + (plan.disk if plan else 0)
    work = f"; {plan.to_read} chips to read need {_gib(plan.disk)}" if plan else ""
    found = f"{_gib(free)} free at {place}{work}"
    remedy = f"free {_gib(max(1.5 * needed - free, 0))}, set GEOSSL_HOME to another disk, or use a smaller --max-chips"
    if free < needed:
        return Finding("disk", "fail", found, remedy)
    if free < 1.5 * needed:
        return Finding("disk", "warn", found, remedy)
    return Finding("disk", "ok", found)


def memory(plan: Plan | None, available: float) -> Finding:
    """Available bytes against what training on the planned chips keeps in memory."""
    work = f"; training on {plan.chips} chips keeps {_gib(plan.memory)} in memory" if plan else ""
    found = f"{_gib(available)} available{work}"
    if available < LEAST_MEMORY:
        return Finding("memory", "fail", found, f"close other programs: {_gib(LEAST_MEMORY)} are needed")
    if plan and available < LEAST_MEMORY + plan.memory:
        fitting = int(plan.chips * max(available - LEAST_MEMORY, 0) / plan.memory)
        return Finding("memory", "warn", found, f"train with --max-chips {max(fitting, 1)}, or on a larger machine")
    return Finding("memory", "ok", found)


def _existing(path: Path) -> Path:
    """The path, or the nearest folder above it that exists."""
    return next(one for one in (path.absolute(), *path.absolute().parents) if one.exists())


def _gib(count: float) -> str:
    return f"{count / GIB:.1f} GiB" if count >= 0.1 * GIB else f"{count / 2**20:.0f} MiB"
