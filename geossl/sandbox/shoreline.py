"""The water's edge below the pixel: the ground along the shore on cells of 2 m, and what a level floods of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from geossl.sandbox.noise import Field, fractal

CELLS = 5
"""Cells a side in each pixel of 10 m."""
CELL_M = 10 // CELLS
NO_CELL = -32768
"""In ``truth/elevation_2m.tif``: ground that no level of the sandbox brings to the water's edge."""
_NOISE_PX = 1024


@dataclass(frozen=True)
class ShoreCells:
    """The pixels that some level leaves partly wet, and the ground in them."""

    side: int
    pixels: np.ndarray
    """(n,) int64: positions in the flattened square, rising."""
    ground: np.ndarray
    """(n, 25) float32: metres, row by row within the pixel."""
    tilt: np.ndarray
    """(n, 1) float32: metres by which the ground rises across one cell; a level floods cells by shares of that."""

    def flood(self, elevation: Field, level: float) -> tuple[Field, Field]:
        """Share of each pixel under water, and mean depth in metres of what is under water, (y, x) float32."""
        wet = (elevation < level).astype(np.float32)
        depth = np.maximum(level - elevation, 0).astype(np.float32)
        below = level - self.ground
        share = np.clip(below / self.tilt + np.float32(0.5), 0, 1)
        total = share.sum(axis=1)
        wet.ravel()[self.pixels] = total / np.float32(CELLS**2)
        metres = (share * np.maximum(below, self.tilt / 4)).sum(axis=1)
        depth.ravel()[self.pixels] = metres / np.maximum(total, 1e-6)
        return wet, depth

    def area(self, elevation: Field, level: float) -> float:
        """Square metres under water."""
        return float(self.flood(elevation, level)[0].sum(dtype=np.float64)) * 100

    def raster(self, size: int) -> np.ndarray:
        """The cells as a raster of 2 m, (5 · size, 5 · size) int16 in centimetres; :data:`NO_CELL` elsewhere."""
        whole = np.full((size * CELLS, size * CELLS), NO_CELL, np.int16)
        rows, columns = np.divmod(self.pixels, self.side)
        here = (rows < size) & (columns < size)
        view = whole.reshape(size, CELLS, size, CELLS)
        centimetres = np.rint(self.ground[here] * 100).astype(np.int16).reshape(-1, CELLS, CELLS)
        view[rows[here], :, columns[here], :] = centimetres
        return whole


def make_cells(elevation: Field, rough: Field, low: float, high: float, rng: np.random.Generator) -> ShoreCells:
    """Cells for all pixels near which the ground passes between ``low`` and ``high``.

    Args:
        elevation: ground at the pixels' centres; between them it is bilinear.
        rough: standard deviation in metres of what lies on top of that, with wavelengths of up to 16 m.
        low: lowest level.
        high: highest level.
        rng: generator of the roughness.
    """
    side = elevation.shape[0]
    reach = 3 * rough + 0.1 + CELL_M * np.hypot(*np.gradient(elevation, 10.0))
    lowest = ndimage.minimum_filter(elevation - reach, 3, mode="nearest")
    highest = ndimage.maximum_filter(elevation + reach, 3, mode="nearest")
    pixels = np.flatnonzero((lowest < high) & (highest > low))
    rows, columns = np.divmod(pixels, side)
    steps = (np.arange(CELLS, dtype=np.float32) + 0.5) / CELLS - 0.5
    noise = fractal(_NOISE_PX, rng, 8, slope=2.6)
    padded = np.pad(elevation, 1, mode="edge")
    ground = np.empty((len(pixels), CELLS, CELLS), np.float32)
    for i, dy in enumerate(steps):
        for j, dx in enumerate(steps):
            y, x = rows + 1 + int(np.floor(dy)), columns + 1 + int(np.floor(dx))
            down, right = np.float32(dy % 1), np.float32(dx % 1)
            upper = padded[y, x] * (1 - right) + padded[y, x + 1] * right
            lower = padded[y + 1, x] * (1 - right) + padded[y + 1, x + 1] * right
            bumps = noise[(rows * CELLS + i) % _NOISE_PX, (columns * CELLS + j) % _NOISE_PX]
            ground[:, i, j] = upper * (1 - down) + lower * down + rough[rows, columns] * bumps
    slope = np.hypot(*np.gradient(elevation, 10.0)).ravel()[pixels]
    tilt = np.maximum(slope * CELL_M, 0.002).astype(np.float32)[:, None]
    return ShoreCells(side, pixels, ground.reshape(-1, CELLS**2), tilt)
