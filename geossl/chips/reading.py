"""Reading planned chips: areas in parallel, in order, in bounded memory; chips are cut out and put together."""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from geossl.chips.grid import Grid, to_degrees
from geossl.chips.plan import Candidates, Panel
from geossl.products import Encoding, Flag

if TYPE_CHECKING:
    from geossl.cube.connect import Product, Scene
    from geossl.cube.read import Pixels, ReadFailure

_FLIGHT_BYTES = 512 << 20


@dataclass
class Reads:
    """What was read so far: band reads asked for and those that failed, pixels and seconds are the caller's."""

    asked: int = 0
    failures: list[ReadFailure] = field(default_factory=list)


@dataclass(frozen=True)
class Chip:
    """One read chip: ``number`` is its candidate index; data (band, y, x) stored integers, flags (y, x) uint8."""

    number: int
    data: np.ndarray
    flags: np.ndarray
    scenes: tuple[Scene, ...]

    @property
    def clear(self) -> float:
        """Share of pixels with no flag."""
        return float((self.flags == 0).mean())

    def share(self, flag: Flag) -> float:
        """Share of pixels with this flag."""
        return float(((self.flags & int(flag)) > 0).mean())


def read_chips(
    work: Sequence[Panel],
    wanted: set[int],
    candidates: Candidates,
    grid: Grid,
    product: Product,
    bands: tuple[str, ...],
    reads: Reads,
) -> Iterator[Chip]:
    """The ``wanted`` chips of the panels, each as soon as its last panel was read; the order depends on ``work`` only.

    Panels without a wanted chip are not read. ``reads`` is counted up. Runs on threads, or on the cluster of an
    active ``dask.distributed`` client (``DASK_SCHEDULER_ADDRESS`` connects to one).
    """
    work = [panel for panel in work if any(chip in wanted for chip in panel.chips)]
    parts_left = _count_parts(work, wanted)
    encoding = product.encoding
    open_chips: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    with _executor() as (executor, ahead):
        for panel, scenes, pixels in _in_order(executor, ahead, work, candidates, grid, product, bands):
            reads.asked += len(scenes) * (len(bands) + (product.profile.mask is not None))
            reads.failures.extend(pixels.failures)
            for number in panel.chips:
                if number not in wanted:
                    continue
                if number not in open_chips:
                    open_chips[number] = _blank(len(bands), grid.tile_px, encoding)
                data, flags = open_chips[number]
                _paste(data, flags, candidates, grid, number, panel, pixels)
                parts_left[number] -= 1
                if not parts_left[number]:
                    del open_chips[number]
                    yield Chip(number, data, flags, scenes_of(candidates, grid, number))


def scenes_of(candidates: Candidates, grid: Grid, number: int) -> tuple[Scene, ...]:
    """The scenes of a candidate's day that reach its tile."""
    day = candidates.scenes[candidates.day[number]]
    if len(day) == 1:
        return day
    one = np.array([number])
    outline = to_degrees(grid.boxes(candidates.ix[one], candidates.iy[one]), grid.crs)[0]
    return tuple(scene for scene in day if scene.footprint.intersects(outline)) or day


def bytes_per_pixel(bands: Sequence[str], encoding: Encoding) -> int:
    """Bytes a pixel of read data and its flags take."""
    return len(bands) * np.dtype(encoding.dtype).itemsize + 1


def _in_order(
    executor: Executor,
    ahead: int,
    work: Sequence[Panel],
    candidates: Candidates,
    grid: Grid,
    product: Product,
    bands: tuple[str, ...],
) -> Iterator[tuple[Panel, tuple[Scene, ...], Pixels]]:
    """Read panels ahead, at most a few and never more bytes than the bound, and hand them over in their order."""
    flying: deque[tuple[Panel, tuple[Scene, ...], Future[Any], int]] = deque()
    waiting = deque(work)
    flying_bytes = 0
    pixel = bytes_per_pixel(bands, product.encoding)
    try:
        while waiting or flying:
            while waiting and len(flying) < ahead:
                size = waiting[0].width * waiting[0].height * pixel
                if flying and flying_bytes + size > _FLIGHT_BYTES:
                    break
                panel = waiting.popleft()
                geobox = panel.geobox(grid)
                scenes = _scenes_over(candidates.scenes[panel.day], geobox)
                flying.append((panel, scenes, executor.submit(_read_panel, scenes, product, geobox, bands), size))
                flying_bytes += size
            panel, scenes, future, size = flying.popleft()
            pixels = future.result()
            flying_bytes -= size
            del future
            yield panel, scenes, pixels
    finally:
        for _, _, future, _ in flying:
            future.cancel()


def _read_panel(scenes: Sequence[Scene], product: Product, geobox: Any, bands: tuple[str, ...]) -> Pixels:
    from geossl.cube.read import read_scenes

    return read_scenes(scenes, product, geobox, bands=bands)


def _scenes_over(scenes: tuple[Scene, ...], geobox: Any) -> tuple[Scene, ...]:
    if len(scenes) == 1:
        return scenes
    outline = geobox.geographic_extent.geom
    return tuple(scene for scene in scenes if scene.footprint.intersects(outline)) or scenes[:1]


def _count_parts(work: Sequence[Panel], wanted: set[int]) -> dict[int, int]:
    parts: dict[int, int] = {}
    for panel in work:
        for number in panel.chips:
            if number in wanted:
                parts[number] = parts.get(number, 0) + 1
    return parts


def _blank(n_bands: int, side: int, encoding: Encoding) -> tuple[np.ndarray, np.ndarray]:
    nodata = 0 if encoding.nodata is None else encoding.nodata
    data = np.full((n_bands, side, side), nodata, dtype=encoding.dtype)
    return data, np.full((side, side), int(Flag.NODATA), dtype=np.uint8)


def _paste(
    data: np.ndarray, flags: np.ndarray, candidates: Candidates, grid: Grid, number: int, panel: Panel, pixels: Pixels
) -> None:
    """Copy the part of a panel that lies in a chip."""
    side = grid.tile_px
    left, top = int(candidates.ix[number]) * side, int(candidates.iy[number]) * side
    x0, x1 = max(left, panel.column), min(left + side, panel.column + panel.width)
    y0, y1 = max(top, panel.row), min(top + side, panel.row + panel.height)
    target = np.s_[y0 - top : y1 - top, x0 - left : x1 - left]
    source = np.s_[y0 - panel.row : y1 - panel.row, x0 - panel.column : x1 - panel.column]
    data[:, *target] = pixels.data[:, *source]
    flags[target] = pixels.flags[source]


@contextmanager
def _executor() -> Iterator[tuple[Executor, int]]:
    """Where panels are read, and how many may be under way at once."""
    with _dask_client() as client:
        if client is not None:
            yield client.get_executor(), 2 * max(1, sum(client.nthreads().values()))
            return
    # The cube reads the bands of one area on two threads itself: one area a pair of cores, and one that is waiting.
    workers = max(1, (os.cpu_count() or 2) // 2)
    with ThreadPoolExecutor(workers) as pool:
        yield pool, workers + 1


@contextmanager
def _dask_client() -> Iterator[Any | None]:
    """The active dask.distributed client, one for the scheduler that dask's configuration names, or None."""
    import dask

    active = None
    if "distributed" in sys.modules:  # otherwise nobody can have made a client
        from distributed import get_client

        with suppress(ValueError):
            active = get_client()
    if active is not None or not dask.config.get("scheduler-address", None):
        yield active
        return
    from distributed import Client

    connect: Any = Client  # untyped
    with connect() as client:
        yield client
