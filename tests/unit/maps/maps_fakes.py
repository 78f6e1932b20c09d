"""A picture, chips cut from it, and heads whose answer is known."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import torch

from geossl.products import S2_ENCODING, Encoding

BANDS = ("blue", "green", "red", "nir")
CLASSES = ("water", "field", "forest")


def task(kind: str = "segmentation", classes: tuple[str, ...] = CLASSES, temporal: str = "date") -> SimpleNamespace:
    entries = [SimpleNamespace(name=name, colour=None) for name in classes]
    return SimpleNamespace(
        name="cover", title="Land cover", kind=kind, classes=entries, temporal=temporal, unit="%" if not classes else ""
    )


class PixelHead:
    """Class probabilities from each pixel's own reflectance: what blending must leave as it is."""

    id = "pixel-head"

    def __init__(self, task: SimpleNamespace, bands: tuple[str, ...] = BANDS) -> None:
        self.task, self.bands = task, bands
        self.batches: list[tuple[int, ...]] = []

    def predict(self, values: torch.Tensor, clear: torch.Tensor) -> torch.Tensor:
        self.batches.append(tuple(values.shape))
        mean = (values * clear[:, :, None]).sum(1) / clear.sum(1).clamp_min(1)[:, None]
        if not self.task.classes:
            return mean[:, :1]
        return torch.softmax(20 * mean[:, : len(self.task.classes)], 1)


class ChipHead:
    """Multi-label probabilities of a whole chip: its mean reflectance in each band."""

    id = "chip-head"
    chip_px = 16

    def __init__(self) -> None:
        self.task, self.bands = task("multilabel"), BANDS

    def predict(self, values: torch.Tensor, clear: torch.Tensor) -> torch.Tensor:
        assert values.shape[-2:] == (16, 16)
        return values.mean((1, 3, 4))[:, :3, None, None]


@dataclass
class Chips:
    """Chips cut from one picture (band, y, x) of stored integers."""

    picture: np.ndarray
    flags: np.ndarray
    table: pd.DataFrame
    shape: tuple[int, int]
    name: str = "picture"
    path: Path = Path("picture")
    id: str = "picture"
    bands: tuple[str, ...] = BANDS
    encoding: Encoding = S2_ENCODING
    resolution_m: float = 10.0
    loaded: list[int] = field(default_factory=list)

    def load(self, rows: Any) -> tuple[np.ndarray, np.ndarray]:
        self.loaded.append(len(rows))
        height, width = self.shape
        places = [self.table.iloc[int(row)][["row", "column"]] for row in rows]
        data = [self.picture[:, r : r + height, c : c + width] for r, c in places]
        flags = [self.flags[r : r + height, c : c + width] for r, c in places]
        return np.stack(data), np.stack(flags)


def cut_chips(picture: np.ndarray, flags: np.ndarray | None = None, side: int = 16, date: str = "2018-07-01") -> Chips:
    _, height, width = picture.shape
    rows = [
        {
            "chip": f"{r}_{c}",
            "block": "b1",
            "row": r,
            "column": c,
            "datetime": pd.Timestamp(date, tz="UTC"),
            "crs": "EPSG:32633",
            "left": 600_000.0 + 10 * c,
            "top": 6_600_000.0 - 10 * r,
        }
        for r in range(0, height - side + 1, side)
        for c in range(0, width - side + 1, side)
    ]
    flags = np.zeros((height, width), np.uint8) if flags is None else flags
    return Chips(picture, flags, pd.DataFrame(rows), (side, side))


def smooth_picture() -> np.ndarray:
    """96 × 160 pixels in four bands, S2 encoding; patches of 8 pixels, so that classes have an extent."""
    generator = np.random.default_rng(3)
    coarse = generator.uniform(0.02, 0.5, (4, 12, 20)).repeat(8, 1).repeat(8, 2)
    return np.rint(coarse * 10_000 + 1000).astype(np.uint16)
