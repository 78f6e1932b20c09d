"""What is looked at during training: a fixed set of chips, embedded without augmentation, probed and checked.

Where tiles of the set have several dates, recall@1: is the nearest chip among all others the same tile on another
date? With a label column, kNN from training to validation chips. Always: representation health.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from geossl.chips.chipset import ChipSet
from geossl.encoders.saved import Encoder
from geossl.evaluation.health import collapse_signs, representation_health
from geossl.evaluation.probes import knn_score, recall_at_1
from geossl.methods.protocol import Method
from geossl.training.data import fill_bands, step_seed
from geossl.training.optim import Schedule
from geossl.training.plan import Plan
from geossl.training.summary import Gallery

_PROBE_CHIPS = 256
_FEWEST_CHIPS = 16
"""Below this many chips the effective rank says nothing; training chips are then looked at too."""
_KNN_TRAIN = 500
_KNN_VAL = 250
_AT_ONCE = 128
_PROBES = ("recall_at_1", "knn", "alignment")
_CONSECUTIVE = 2
"""Evaluations in a row that must show signs of collapse before a run is stopped: the first steps may look like one."""


@dataclass(frozen=True)
class ProbeRows:
    """Rows of the chip table: chips looked at (``same_tile``: with another date among them), and those for kNN."""

    looked_at: np.ndarray
    same_tile: bool
    held_out: bool
    knn_train: np.ndarray
    knn_val: np.ndarray


class Monitor:
    """Measures a method's backbone on the same chips at every evaluation."""

    def __init__(self, plan: Plan, mean: Tensor, std: Tensor, device: torch.device) -> None:
        self.plan, self.device = plan, device
        self.rows = choose_rows(plan)
        self._mean, self._std = mean.to(device)[:, None, None], std.to(device)[:, None, None]
        everything = np.unique(np.concatenate([self.rows.looked_at, self.rows.knn_train, self.rows.knn_val]))
        self._place = {int(row): place for place, row in enumerate(everything)}
        self._values, self._missing = _read(plan.chips, everything)
        self.signs: list[str] = []
        self._bad = 0

    def measure(self, method: Method, views: Tensor | None = None) -> dict[str, float]:
        """Health, and recall@1 or kNN where they can be taken, of the backbone as it is now.

        ``views`` (n_views, n, D): the embeddings of the latest step, for the alignment of a chip's views.
        """
        embeddings = self._embed(method.backbone)
        looked_at = embeddings[self._places(self.rows.looked_at)]
        figures = representation_health(looked_at)
        self.signs = collapse_signs(figures)
        if views is not None and len(views) > 1:
            first, second = views[:2].cpu().numpy()
            figures["alignment"] = representation_health(first, second).get("alignment", float("nan"))
        table = self.plan.chips.table
        if self.rows.same_tile:
            chosen = table.iloc[self.rows.looked_at]
            dates = chosen["datetime"].dt.strftime("%Y-%m-%d").to_numpy()
            figures["recall_at_1"] = recall_at_1(looked_at, chosen["tile"].astype(str).to_numpy(), dates)
        if len(self.rows.knn_train) and len(self.rows.knn_val):
            labels = label_values(table[str(self.plan.options.probe_labels)])
            figures["knn"] = knn_score(
                embeddings[self._places(self.rows.knn_train)],
                labels[self.rows.knn_train],
                embeddings[self._places(self.rows.knn_val)],
                labels[self.rows.knn_val],
            )
        # A probe that has no answer (no tile with two dates, a label that all chips have) is no figure.
        return {name: value for name, value in figures.items() if name not in _PROBES or not np.isnan(value)}

    def collapsed(self, step: int, schedule: Schedule) -> list[str]:
        """The signs of collapse of the latest measurement, once they have stood often enough after the warm-up."""
        judged = len(self.rows.looked_at) >= _FEWEST_CHIPS
        warm = judged and schedule.total is not None and step > schedule.warm_up * schedule.total
        self._bad = self._bad + 1 if self.signs and warm else 0
        return self.signs if self._bad >= _CONSECUTIVE else []

    def gallery(self, encoder: Encoder) -> Gallery:
        """Chips and embeddings for the report, by the finished encoder."""
        places = self._places(self.rows.looked_at)
        values = self._values[places]
        tiles = self.plan.chips.table["tile"].astype(str).to_numpy()[self.rows.looked_at]
        embeddings = embed(encoder, values, torch.device("cpu"))
        shown = values.copy()
        shown[np.broadcast_to(self._missing[places][:, None], shown.shape)] = np.nan
        return Gallery(shown, embeddings, list(tiles), self.rows.held_out)

    def _places(self, rows: np.ndarray) -> np.ndarray:
        return np.array([self._place[int(row)] for row in rows], dtype=np.int64)

    def _embed(self, backbone: nn.Module) -> np.ndarray:
        return embed(backbone, self._values, self.device, self._mean, self._std)


def embed(
    network: nn.Module, values: np.ndarray, device: torch.device, mean: Tensor | None = None, std: Tensor | None = None
) -> np.ndarray:
    """Embeddings (n, d) float32 of reflectance (n, band, y, x), in evaluation mode; the mode is put back."""
    training = network.training
    network.eval()
    parts = []
    try:
        with torch.inference_mode(), torch.autocast(device.type, enabled=False):
            for start in range(0, len(values), _AT_ONCE):
                images = torch.from_numpy(values[start : start + _AT_ONCE]).to(device)
                if mean is not None and std is not None:
                    images = (images - mean) / std
                parts.append(network(images.to(memory_format=torch.channels_last)).float().cpu().numpy())
    finally:
        network.train(training)
    return np.concatenate(parts)


def label_values(column: pd.Series) -> np.ndarray:
    """A label column as classes (n,), or as 0/1 labels (n, L) where cells hold several, joined by ``|``."""
    texts = column.astype(str)
    if not texts.str.contains("|", regex=False).any():
        return texts.to_numpy(dtype=str)
    return texts.str.get_dummies("|").to_numpy()


def choose_rows(plan: Plan) -> ProbeRows:
    """The chips that are looked at: validation chips, pairs of dates of a tile where there are any."""
    generator = np.random.default_rng(step_seed(plan.seed, -3))
    held_out = len(plan.split.val) >= _FEWEST_CHIPS
    pool = plan.split.val if held_out else np.concatenate([plan.split.val, plan.split.train])
    tiles = plan.chips.table["tile"].astype(str).to_numpy()[pool]
    order = generator.permutation(len(pool))
    names, count = np.unique(tiles, return_counts=True)
    several = set(names[count > 1])
    chosen: dict[str, list[int]] = {}
    for place in order:
        if tiles[place] in several:
            chosen.setdefault(tiles[place], []).append(int(pool[place]))
    dates = max(2, _PROBE_CHIPS // max(len(chosen), 1))  # few tiles: more dates of each
    pairs = [row for rows in list(chosen.values())[: _PROBE_CHIPS // 2] for row in rows[:dates]]
    same_tile = len(pairs) >= _FEWEST_CHIPS
    looked_at = np.sort(pairs) if same_tile else np.sort(pool[order[:_PROBE_CHIPS]])
    none = np.empty(0, dtype=np.int64)
    if plan.options.probe_labels is None:
        return ProbeRows(looked_at, same_tile, held_out, none, none)
    labelled = plan.chips.table[plan.options.probe_labels].notna().to_numpy()
    train, val = plan.split.train[labelled[plan.split.train]], plan.split.val[labelled[plan.split.val]]
    return ProbeRows(
        looked_at,
        same_tile,
        held_out,
        np.sort(generator.permutation(train)[:_KNN_TRAIN]),
        np.sort(generator.permutation(val)[:_KNN_VAL]),
    )


def _read(chips: ChipSet, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Reflectance (n, band, y, x) with gaps filled by the chip's band mean, and where the gaps were (n, y, x)."""
    stored, flags = chips.load(rows)
    values = chips.encoding.decode(stored)
    missing = (flags != 0) | np.isnan(values).any(axis=1)
    values[np.broadcast_to(missing[:, None], values.shape)] = np.nan
    return fill_bands(values), missing
