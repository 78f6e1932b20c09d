"""Embeddings of pixel cells: the encoder's maps, reduced to principal components, as a picture of a region.

All maps of the encoder are brought to cells of its finest stride and joined, each map divided by the square root of
its total variance so that none drowns the others. Their principal components are fitted on a sample of clear cells.
The reduction is linear, and so is upsampling: the components are taken on the small maps and only they are upsampled.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from odc.geo.geobox import GeoBox
from safetensors.torch import load_file, save_file
from torch import Tensor

from geossl import rasters
from geossl.artefacts import atomic_file
from geossl.encoders.saved import Encoder
from geossl.errors import InputError
from geossl.maps.embed_chips import device_of_machine
from geossl.maps.embed_plan import COMPONENTS, EmbedWork
from geossl.maps.stream import WindowSizes, cells_of
from geossl.maps.windows import Block, Window
from geossl.progress import track
from geossl.tasks.dense import pad_to, sample, upsample
from geossl.tasks.spectral import fill

SAMPLE_CHIPS = 128
SAMPLE_CELLS = 64
SAMPLE_PX = 256
"""The components are fitted on up to so many cells around so many chips, in windows of this side, drawn with seed 0."""
CELL_OVERLAP_PX = 64
MAX_DATES = 65_535


@dataclass(frozen=True)
class Components:
    """The reduction of joined maps.

    Attributes:
        basis: (components, sum of channels) float32, to be applied to the maps as they are.
        offset: (components,) float32, subtracted afterwards: the mean of the sample.
        explained: share of the (scaled) sample's variance that each component holds.
    """

    basis: Tensor
    offset: Tensor
    explained: tuple[float, ...]

    def save(self, path: Path) -> None:
        """Write the components, atomically."""
        with atomic_file(path) as temporary:
            explained = torch.tensor(self.explained, dtype=torch.float64)
            save_file({"basis": self.basis, "offset": self.offset, "explained": explained}, str(temporary))

    @classmethod
    def load(cls, path: Path) -> Components:
        """Read what :meth:`save` wrote."""
        held = load_file(path)
        return cls(held["basis"], held["offset"], tuple(held["explained"].tolist()))


def fit_components(features: np.ndarray, channels: Sequence[int], count: int = COMPONENTS) -> Components:
    """Principal components of a sample of cells.

    Args:
        features: (n, sum of channels) joined maps at n cells.
        channels: channels of each map.
        count: components; fewer where the sample or the maps hold fewer.
    """
    from sklearn.decomposition import PCA

    mean = features.mean(0, dtype=np.float64)
    spread = features.var(0, dtype=np.float64)
    ends = np.cumsum([0, *channels])
    scale = np.concatenate([
        np.full(width, 1 / np.sqrt(max(spread[start : start + width].sum(), 1e-12)))
        for start, width in zip(ends[:-1], channels, strict=True)
    ])  # fmt: skip
    count = min(count, len(features), features.shape[1])
    found = PCA(count, svd_solver="randomized", random_state=0).fit((features - mean) * scale)
    basis = found.components_ * scale
    share = tuple(float(one) for one in found.explained_variance_ratio_)
    return Components(torch.from_numpy(basis).float().contiguous(), torch.from_numpy(basis @ mean).float(), share)


def sample_cells(work: EmbedWork) -> np.ndarray:
    """Joined maps (n, sum of channels) at clear cells, in windows of the picture around chips drawn at random.

    Raises:
        InputError: no cell is clear.
    """
    assert work.mosaic is not None
    rng = np.random.default_rng(0)
    device = device_of_machine()
    encoder = work.encoder.to(device)
    cell, coarsest = encoder.strides[0], max(encoder.strides)
    table = work.table.iloc[np.sort(rng.choice(len(work.rows), min(SAMPLE_CHIPS, len(work.rows)), replace=False))]
    parts = []
    with torch.inference_mode(), track("sample of cells", len(table), "chips") as bar:
        for left, top, stamp in zip(table["left"], table["top"], table["datetime"], strict=True):
            day = work.mosaic.days.index(None if stamp != stamp else stamp.date())
            read = work.mosaic.read(_window_around(work.mosaic.geobox, left, top, cell), (day,))
            bar.advance()
            y, x = np.nonzero(cells_of(read.clear[0], cell))
            if not len(y):
                continue
            some = rng.choice(len(y), min(SAMPLE_CELLS, len(y)), replace=False)
            clear = torch.from_numpy(read.clear)
            filled = fill(torch.from_numpy(read.values[0])[None].to(device), clear.to(device), encoder.mean)
            maps = encoder.features(pad_to(filled, coarsest))
            places = [torch.from_numpy(one[some] * cell + cell // 2).to(device) for one in (y, x)]
            parts.append(sample(maps, encoder.strides, *places).float().cpu().numpy())
    if not parts:
        raise InputError("no clear cell in any chip", where=work.chips.path, remedy="choose another --period")
    return np.concatenate(parts)


def _window_around(geobox: GeoBox, left: float, top: float, cell: int) -> Window:
    """A window of the picture, at most ``SAMPLE_PX``, in whole cells, with the chip of this corner near its middle."""
    height, width = (min(SAMPLE_PX, int(side)) // cell * cell for side in geobox.shape)
    column, row = (round(one) for one in ~geobox.affine * (left, top))
    x = min(max(column - width // 3, 0), int(geobox.shape[1]) - width) // cell * cell
    y = min(max(row - height // 3, 0), int(geobox.shape[0]) - height) // cell * cell
    return Window(0, 0, y, x, height, width)


class CellPredictor:
    """The encoder's maps reduced to components, a cell of its finest stride each; dates are averaged.

    A transformer that has learnt positions gets windows of the size it has learnt them for.
    """

    per_date = True

    def __init__(self, encoder: Encoder, components: Components) -> None:
        self.device = device_of_machine()
        self.encoder = encoder.to(self.device).eval()
        self.channels = len(components.basis)
        self.cell_px, self.least_px = encoder.strides[0], max(encoder.strides)
        side = encoder.backbone.image_px
        self.sizes = (
            WindowSizes(overlap_px=CELL_OVERLAP_PX)
            if side is None
            else WindowSizes(max(side, 2 * self.least_px), max(side, 2 * self.least_px) // 4)
        )
        self._parts = [part.to(self.device)[:, :, None, None] for part in components.basis.split(encoder.channels, 1)]
        self._offset = components.offset.to(self.device)[:, None, None]

    def predict(self, values: Tensor, clear: Tensor) -> Tensor:
        """(B, 1, C, H, W) reflectance and (B, 1, H, W) bool → (B, components, H/cell_px, W/cell_px)."""
        filled = fill(values[:, 0].to(self.device), clear[:, 0].to(self.device), self.encoder.mean)
        height, width = filled.shape[-2:]
        total: Tensor | None = None
        maps = self.encoder.features(pad_to(filled, self.least_px))
        for one, part, stride in zip(maps, self._parts, self.encoder.strides, strict=True):
            full = upsample(F.conv2d(one, part), stride)[..., :height, :width]
            cells = F.avg_pool2d(full, self.cell_px)
            total = cells if total is None else total + cells
        assert total is not None
        return total - self._offset


class CellSink:
    """The working rasters of cells: components (NaN where nothing was seen) and the number of clear dates."""

    def __init__(self, work: Path, grid: rasters.Grid, components: Components, tags: dict[str, str]) -> None:
        self.paths = {name: work / f"{name}.tif" for name in ("cells", "clear_dates")}
        names = [f"component {n} ({100 * share:.1f} %)" for n, share in enumerate(components.explained, 1)]
        kinds: dict[str, tuple[str, float | None, list[str]]] = {
            "cells": ("float32", float("nan"), names),
            "clear_dates": ("uint16", None, ["number of clear dates"]),
        }
        for name, (dtype, nodata, bands) in kinds.items():
            if not self.paths[name].exists():
                new = work / f".{name}.new.tif"
                rasters.create_raster(new, grid, len(bands), dtype, nodata, descriptions=bands, tags=tags)
                new.replace(self.paths[name])
        self._open: Any = None
        self._writers: list[Any] = []

    def write(self, block: Block) -> None:
        """Write finished cells."""
        if self._open is None:
            self._open = rasters.open_rasters(list(self.paths.values()))
            self._writers = self._open.__enter__()
        dates = np.minimum(block.count, MAX_DATES).astype(np.uint16)[None]
        for writer, values in zip(self._writers, (block.values.astype(np.float32), dates), strict=True):
            rasters.write_block(writer, values, block.y, block.x)

    def commit(self) -> None:
        """Close the rasters: everything written is on the disk."""
        if self._open is not None:
            opened, self._open = self._open, None
            opened.__exit__(None, None, None)

    def close(self) -> None:
        """Let go of the rasters."""
        with suppress(Exception):  # on a full disk they do not close without a second error
            self.commit()
