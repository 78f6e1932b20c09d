"""How a map is cut into overlapping windows, and how their results are blended with little memory.

Windows are laid in equal steps, so that no ragged ring is left: the window is made as small as the count of windows
needs, and the last one ends where the map ends. Weights rise and fall as a squared sine over the overlap, so the
weights of two neighbours add up to one. Windows arrive row by row; what no later window touches is given out at
once, so only the overlap with the next row (channels, overlap, map width) is kept.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True)
class Axis:
    """One axis of a map of ``length`` cells cut into windows of ``size`` cells that begin at ``starts``."""

    length: int
    size: int
    starts: tuple[int, ...]

    def step(self, index: int) -> int:
        """Cells of window ``index`` that no later window covers."""
        return self.starts[index + 1] - self.starts[index] if index + 1 < len(self.starts) else self.size

    def kept(self, index: int) -> int:
        """Cells of window ``index`` that an earlier window covers too."""
        return self.starts[index - 1] + self.size - self.starts[index] if index > 0 else 0

    def weights(self, index: int) -> np.ndarray:
        """Blending weights of window ``index``: (size,) float32, in (0, 1]."""
        weights = np.ones(self.size, np.float32)
        before, after = self.kept(index), self.size - self.step(index)
        if before > 0:
            weights[:before] *= _ramp(before)
        if after > 0:
            weights[self.size - after :] *= _ramp(after)[::-1]
        return weights


def _ramp(cells: int) -> np.ndarray:
    return (np.sin(0.5 * np.pi * (np.arange(cells) + 0.5) / cells) ** 2).astype(np.float32)


def cut_axis(length: int, size: int, overlap: int, multiple: int = 32) -> Axis:
    """Cut ``length`` cells into windows of at most ``size`` that overlap by at least ``overlap``.

    The size is lowered to the smallest multiple of ``multiple`` that needs no more windows; a map shorter than a
    window is one window of its own length.
    """
    if length <= size:
        return Axis(length, length, (0,))
    count = math.ceil((length - overlap) / (size - overlap))
    fitted = math.ceil((length + (count - 1) * overlap) / count / multiple) * multiple
    fitted = min(fitted, size, length)
    starts = tuple(round(index * (length - fitted) / (count - 1)) for index in range(count))
    return Axis(length, fitted, starts)


@dataclass(frozen=True)
class Window:
    """One window of a map, in cells: its place in the order (row, column) and its corner and size."""

    row: int
    column: int
    y: int
    x: int
    height: int
    width: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """The window as slices (rows, columns) into a map."""
        return slice(self.y, self.y + self.height), slice(self.x, self.x + self.width)

    def scaled(self, factor: int) -> Window:
        """The same window counted in cells ``factor`` times smaller."""
        return Window(self.row, self.column, *(factor * n for n in (self.y, self.x, self.height, self.width)))


@dataclass(frozen=True)
class Layout:
    """All windows of a map."""

    rows: Axis
    columns: Axis

    @cached_property
    def count(self) -> int:
        """Number of windows."""
        return len(self.rows.starts) * len(self.columns.starts)

    def row(self, index: int) -> list[Window]:
        """The windows of one row, from left to right."""
        y = self.rows.starts[index]
        return [
            Window(index, column, y, x, self.rows.size, self.columns.size)
            for column, x in enumerate(self.columns.starts)
        ]


@dataclass(frozen=True)
class Block:
    """Finished cells of a map at (y, x): ``values`` (channel, y, x) float32, NaN where nothing was seen; ``count``."""

    y: int
    x: int
    values: np.ndarray
    count: np.ndarray


class Blender:
    """Weighted mean of overlapping windows, given in order; each call of :meth:`add` returns what is finished."""

    def __init__(self, layout: Layout, channels: int) -> None:
        self.layout = layout
        self.channels = channels
        self.above = self._empty(0)
        self._below = self._empty(0)
        self._left = self._empty(0)

    def _empty(self, rows: int, width: int | None = None) -> np.ndarray:
        # channels, then the sum of weights, then the count of clear dates
        return np.zeros((self.channels + 2, rows, self.layout.columns.length if width is None else width), np.float32)

    def add(self, window: Window, values: np.ndarray, count: np.ndarray, seen: np.ndarray) -> Block:
        """Blend one window.

        Args:
            window: the next window in order.
            values: (channel, y, x) float32.
            count: (y, x), clear dates of each cell; overlapping windows keep the larger.
            seen: (y, x) bool, which cells of ``values`` count.
        """
        rows, columns = self.layout.rows, self.layout.columns
        step_y, step_x = rows.step(window.row), columns.step(window.column)
        if window.column == 0:
            self._left = self._empty(rows.size, 0)
            self._below = self._empty(rows.size - step_y)
        weights = rows.weights(window.row)[:, None] * columns.weights(window.column)[None, :] * seen
        tile = np.empty((self.channels + 2, window.height, window.width), np.float32)
        np.multiply(np.where(seen, values, 0), weights, out=tile[:-2])
        tile[-2], tile[-1] = weights, count
        _merge(tile, self._left)
        done, self._left = tile[:, :, :step_x], tile[:, :, step_x:].copy()
        across = slice(window.x, window.x + step_x)
        _merge(done, self.above[:, :, across])
        self._below[:, :, across] = done[:, step_y:]
        if window.column == len(columns.starts) - 1:
            self.above = self._below
        finished = done[:, :step_y]
        with np.errstate(invalid="ignore", divide="ignore"):
            blended = np.where(finished[-2] > 0, finished[:-2] / finished[-2], np.float32(np.nan))
        return Block(window.y, window.x, blended, finished[-1])


def _merge(tile: np.ndarray, earlier: np.ndarray) -> None:
    """Add what earlier windows left at the top left corner of ``tile`` (counts: the larger), in place."""
    corner = tile[:, : earlier.shape[1], : earlier.shape[2]]
    corner[:-1] += earlier[:-1]
    np.maximum(corner[-1], earlier[-1], out=corner[-1])
