"""The stream of a map: one thread reads ahead, the model predicts, windows are blended, finished cells are written.

Memory does not grow with the map's height, and with its width only by the overlap of one row of windows. After each
row the overlap and the progress are put on disk; a killed run goes on at the row it was in, and because batches never
reach over a row the result is the same, byte for byte, as that of an undisturbed run.
"""

from __future__ import annotations

import io
import json
import queue
import threading
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from geossl.artefacts import atomic_file, write_json
from geossl.errors import WorkError
from geossl.maps.sources import WindowRead, WindowSource
from geossl.maps.windows import Blender, Block, Layout, Window, cut_axis
from geossl.progress import track

WINDOW_PX = 512
OVERLAP_PX = 32
SIZE_MULTIPLE = 32
"""Windows reach the model in sizes of this multiple (the coarsest stride of the encoders)."""
BATCH_PIXELS = 512 * 1024
MAX_FAILED_SHARE = 0.05


@dataclass(frozen=True)
class WindowSizes:
    """How a map is cut: pixels of a window, of its overlap, and the number its size is a multiple of."""

    window_px: int = WINDOW_PX
    overlap_px: int = OVERLAP_PX
    multiple_px: int = SIZE_MULTIPLE


class Predictor(Protocol):
    """What turns pixels into probabilities or values."""

    channels: int
    cell_px: int
    """Pixels along one side of one output cell: 1 for a head that predicts each pixel."""
    per_date: bool
    """Whether each clear date is predicted alone and the probabilities averaged, or all dates go in together."""
    least_px: int
    """The smallest side of a map this predictor can work on, pixels."""
    sizes: WindowSizes

    def predict(self, values: torch.Tensor, clear: torch.Tensor) -> torch.Tensor:
        """(B, T, C, H, W) float32 reflectance and (B, T, H, W) bool → (B, channels, H/cell_px, W/cell_px)."""
        ...


class Sink(Protocol):
    """Where finished cells go."""

    def write(self, block: Block) -> None:
        """Keep finished cells; blocks do not overlap."""
        ...

    def commit(self) -> None:
        """Bring everything written so far to the disk."""
        ...


def make_layout(shape: tuple[int, int], sizes: WindowSizes, cell_px: int = 1) -> Layout:
    """The windows of a map of ``shape`` pixels, in output cells of ``cell_px`` pixels."""
    axes = [
        cut_axis(
            length // cell_px, sizes.window_px // cell_px, sizes.overlap_px // cell_px, sizes.multiple_px // cell_px
        )
        for length in shape
    ]
    return Layout(axes[0], axes[1])


@dataclass
class Progress:
    """What a stream has done so far; kept on disk between runs."""

    rows_done: int = 0
    windows_done: int = 0
    reads: int = 0
    failed: int = 0
    failures: list[dict[str, str]] = field(default_factory=list)
    clear_cells: int = 0
    clear_days: list[int] = field(default_factory=list)
    runs: int = 0

    def note(self, read: WindowRead) -> None:
        """Count the reads of one window and keep one line for each scene and band that failed."""
        self.reads += read.reads
        self.failed += len(read.failures)
        seen = {day for day, clear in zip(read.days, read.clear, strict=True) if (clear & read.inside).any()}
        self.clear_days = sorted(seen.union(self.clear_days))
        known = {(failure["scene"], failure["band"]) for failure in self.failures}
        for failure in read.failures:
            key = (str(failure.scene_id), str(failure.band))
            if key not in known:
                known.add(key)
                self.failures.append(
                    {"scene": key[0], "band": key[1], "uri": str(failure.uri), "reason": str(failure.reason)}
                )


def stream_map(
    source: WindowSource, predictor: Predictor, sink: Sink, layout: Layout, work: Path, description: str
) -> Progress:
    """Predict every window of ``source`` and write the blended map to ``sink``; continues what ``work`` holds.

    Raises:
        WorkError: more than 5 % of all reads failed (nothing is published; the next run starts over).
    """
    progress = load_progress(work)
    above = _load_overlap(work, progress)
    progress.runs += 1
    blender = Blender(layout, predictor.channels)
    if above is not None:
        blender.above = above
    planned_reads = source.reads_per_window * layout.count
    rows = range(progress.rows_done, len(layout.rows.starts))
    reads = _prefetch(
        read for row in rows for window in layout.row(row) for read in _read_window(source, predictor, window)
    )
    with (
        closing(reads),  # however this ends, the reader thread ends with it
        track(description, layout.count, "windows", progress.rows_done * len(layout.columns.starts)) as bar,
        torch.inference_mode(),
    ):
        for row, row_reads in groupby(reads, key=lambda read: read[0].row):
            for window, values, count in _predict_row(row_reads, predictor, progress):
                block = blender.add(window, values, count, count > 0)
                sink.write(block)
                progress.clear_cells += int((block.count > 0).sum())
                progress.windows_done += 1
                bar.advance()
            _refuse_too_many_failures(progress, planned_reads)
            sink.commit()
            progress.rows_done = row + 1
            _save_state(work, progress, blender.above)
    return progress


def _refuse_too_many_failures(progress: Progress, planned_reads: int) -> None:
    if progress.failed > MAX_FAILED_SHARE * max(planned_reads, 1):
        first = progress.failures[0]
        raise WorkError(
            "too many reads failed: no map is published",
            where=f"{first['uri']} ({len(progress.failures)} of the scenes' bands fail like it)",
            expected=f"at most {100 * MAX_FAILED_SHARE:g} % of {planned_reads} reads",
            found=f"{progress.failed} failed; the first: {first['reason']}",
            remedy="see that the scenes' files can be read, then run the same command again",
        )


@dataclass
class _Open:
    """A window between its first and its last date: sums weighted by clear dates (none yet: nothing was clear)."""

    shape: tuple[int, int]
    sums: np.ndarray | None = None
    count: np.ndarray | None = None

    def add(self, predicted: np.ndarray, usable: np.ndarray) -> None:
        """Add one prediction (K, h, w) that stands for the dates of ``usable`` (T, h, w)."""
        dates = usable.sum(0).astype(np.float32)
        weighted = np.where(dates > 0, predicted * dates, 0)
        self.sums = weighted if self.sums is None else self.sums + weighted
        self.count = dates if self.count is None else self.count + dates

    def mean(self, channels: int) -> tuple[np.ndarray, np.ndarray]:
        """The mean over clear dates (K, h, w), 0 where there was none, and the number of clear dates (h, w)."""
        if self.sums is None or self.count is None:
            return np.zeros((channels, *self.shape), np.float32), np.zeros(self.shape, np.float32)
        return self.sums / np.maximum(self.count, 1), self.count


def _read_window(source: WindowSource, predictor: Predictor, window: Window) -> Iterator[tuple[Window, WindowRead]]:
    """The reads of one window: a date at a time for heads of single dates, all dates at once for others."""
    pixels = window.scaled(predictor.cell_px)
    if predictor.per_date:
        for day in range(len(source.days)):
            yield window, source.read(pixels, (day,))
    else:
        yield window, source.read(pixels, tuple(range(len(source.days))))


def _predict_row(
    reads: Iterable[tuple[Window, WindowRead]], predictor: Predictor, progress: Progress
) -> Iterator[tuple[Window, np.ndarray, np.ndarray]]:
    """Predict one row's reads in batches; give each window, in order, when its last date is in."""
    pending: list[tuple[_Open, WindowRead]] = []
    waiting: list[tuple[Window, _Open]] = []
    for window, read in reads:
        progress.note(read)
        if not waiting or window != waiting[-1][0]:
            if not pending:  # every date of the windows before this one has been predicted
                yield from _means(waiting, predictor.channels)
            waiting.append((window, _Open((window.height, window.width))))
        if (read.clear & read.inside).any():
            pending.append((waiting[-1][1], read))
        if sum(item.clear.size for _, item in pending) >= BATCH_PIXELS:
            _predict_batch(pending, predictor)
    _predict_batch(pending, predictor)
    yield from _means(waiting, predictor.channels)


def _means(waiting: list[tuple[Window, _Open]], channels: int) -> Iterator[tuple[Window, np.ndarray, np.ndarray]]:
    for window, opened in waiting:
        yield window, *opened.mean(channels)
    waiting.clear()


def _predict_batch(pending: list[tuple[_Open, WindowRead]], predictor: Predictor) -> None:
    """Predict what is pending and add it to the sums of its windows."""
    if not pending:
        return
    values = torch.from_numpy(np.stack([read.values for _, read in pending]))  # (B, T, C, H, W)
    clear = torch.from_numpy(np.stack([read.clear for _, read in pending]))  # (B, T, H, W)
    predicted = predictor.predict(values, clear).float().cpu().numpy()  # (B, K, h, w)
    for (opened, read), result in zip(pending, predicted, strict=True):
        opened.add(result, cells_of(read.clear & read.inside, predictor.cell_px))
    pending.clear()


def cells_of(mask: np.ndarray, cell_px: int) -> np.ndarray:
    """(…, H, W) bool as (…, H/cell, W/cell): a cell counts when at least half of its pixels do."""
    if cell_px == 1:
        return mask
    *lead, height, width = mask.shape
    tiles = mask.reshape(*lead, height // cell_px, cell_px, width // cell_px, cell_px)
    return tiles.mean((-3, -1)) >= 0.5


_END = object()


def _prefetch(items: Iterable[Any], ahead: int = 3) -> Generator[Any, None, None]:
    """Run ``items`` in one thread, at most ``ahead`` in front of the consumer; its errors are raised here."""
    buffer: queue.Queue[Any] = queue.Queue(ahead)
    stop = threading.Event()

    def put(item: Any) -> bool:
        while not stop.is_set():
            try:
                buffer.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            for item in items:
                if not put(item):
                    return
            put(_END)
        except BaseException as error:  # handed to the consumer, which raises it
            put(error)

    thread = threading.Thread(target=work, name="map-reader", daemon=True)
    thread.start()
    try:
        while (item := buffer.get()) is not _END:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
        thread.join()


def _state_file(work: Path) -> Path:
    return work / "progress.json"


def load_progress(work: Path) -> Progress:
    """What an earlier run in this work folder has finished."""
    if not _state_file(work).is_file():
        return Progress()
    return Progress(**json.loads(_state_file(work).read_text(encoding="utf-8")))


def _load_overlap(work: Path, progress: Progress) -> np.ndarray | None:
    return np.load(work / f"overlap-{progress.rows_done}.npy") if progress.rows_done else None


def _save_state(work: Path, progress: Progress, above: np.ndarray) -> None:
    overlap = work / f"overlap-{progress.rows_done}.npy"
    packed = io.BytesIO()  # numpy does not say that a disk is full
    np.save(packed, above)
    with atomic_file(overlap) as temporary:
        temporary.write_bytes(packed.getbuffer())
    write_json(_state_file(work), vars(progress))  # from here on the row counts as done
    (work / f"overlap-{progress.rows_done - 1}.npy").unlink(missing_ok=True)
