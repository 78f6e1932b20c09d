"""What a head says of labelled examples before anything is made of it: logits, truth, place, time and features."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from geossl.progress import track
from geossl.tasks.examples import ChipData, ChipExamples, PixelExamples
from geossl.tasks.outliers import STAGE, cell_features, nearest_cell
from geossl.tasks.series import load_series
from geossl.tasks.spec import TaskSpec

if TYPE_CHECKING:
    from geossl.tasks.heads import Head


@dataclass(frozen=True)
class Asked:
    """One row an item (a labelled pixel or chip).

    ``items`` (n,): indices into the examples. ``logits`` (n, K) float32: logits, or values (n, 1). ``truth``: (n,)
    class indices or numbers, or (n, K) 0/1. ``block`` (n,). ``year`` and ``month`` (n,), 0 where a chip has no date.
    ``corner`` (n, 2): left and top of the item's chip in units of the chips' CRS, NaN where they have none.
    ``features`` (m, D): the encoder's at the cells that items lie in, ``cell`` (n,) which of them, ``cell_block`` (m,).
    """

    items: np.ndarray
    logits: np.ndarray
    truth: np.ndarray
    block: np.ndarray
    year: np.ndarray
    month: np.ndarray
    corner: np.ndarray
    features: np.ndarray
    cell: np.ndarray
    cell_block: np.ndarray

    def __len__(self) -> int:
        return len(self.items)

    def said(self, spec: TaskSpec) -> np.ndarray:
        """Class indices (n,), label logits (n, K), or values (n,), as figures take them."""
        if spec.kind == "multilabel":
            return self.logits
        return self.logits[:, 0] if spec.kind == "regression" else self.logits.argmax(axis=1)

    def some(self, chosen: np.ndarray) -> Asked:
        """Some of the items (indices)."""
        of_items = ("items", "logits", "truth", "block", "year", "month", "corner", "cell")
        return replace(self, **{name: getattr(self, name)[chosen] for name in of_items})


def ask(head: Head, examples: PixelExamples | ChipExamples, items: np.ndarray, *, features_only: bool = False) -> Asked:
    """Ask a head about examples; ``items`` are pixels or chips of them, in any order.

    A network that takes all dates gets them; others what the examples' chips show (a date, or a composite). With
    ``features_only`` the head is not asked and its logits are 0.
    """
    data = examples.data
    chip = examples.chip[items] if isinstance(examples, PixelExamples) else items
    order = np.argsort(chip, kind="stable")
    items, chip = items[order], chip[order]
    logits = np.zeros((len(items), head.task.outputs), dtype=np.float32)
    cell = np.zeros(len(items), dtype=np.int64)
    features: list[np.ndarray] = []
    cell_block: list[np.ndarray] = []
    encoder = head.net.encoder
    count, stride = 0, encoder.strides[STAGE]
    with torch.inference_mode(), track("what the head says", len(np.unique(chip)), "chips") as bar:
        for some, values, clear in _inputs(head, data, np.unique(chip)):
            said = None if features_only else head.net(values, clear).float().numpy()
            dated = (values, clear) if head.net.takes_dates else (values[:, None], clear[:, None])
            maps = cell_features(encoder, *dated)
            for number, position in enumerate(some):
                here = np.arange(np.searchsorted(chip, position), np.searchsorted(chip, position, side="right"))
                if isinstance(examples, PixelExamples):
                    y, x = examples.y[items[here]], examples.x[items[here]]
                    if said is not None:
                        logits[here] = said[number][:, y, x].T
                    row, column = (
                        nearest_cell(torch.from_numpy(one), stride, cells).numpy()
                        for one, cells in zip((y, x), maps.shape[-2:], strict=True)
                    )
                    places, cell[here] = np.unique(row * maps.shape[-1] + column, return_inverse=True)
                    found = maps[number].flatten(1).T[torch.from_numpy(places)].numpy()
                    cell[here] += count
                else:
                    if said is not None:
                        logits[here] = said[number]
                    found = maps[number].mean((1, 2))[None].numpy()
                    cell[here] = count
                features.append(found)
                cell_block.append(np.repeat(str(data.block[position]), len(found)))
                count += len(found)
            bar.advance(len(some))
    table = data.chips.table.iloc[data.rows[chip]]
    when = table["datetime"]
    truth = examples.value[items] if isinstance(examples, PixelExamples) else examples.target[items]
    width = encoder.channels[STAGE]
    return Asked(
        items=items,
        logits=logits,
        truth=truth,
        block=data.block[chip].astype(str),
        year=_number(when.dt.year),
        month=_number(when.dt.month),
        corner=table[["left", "top"]].to_numpy(dtype=np.float64),
        features=np.concatenate(features) if features else np.zeros((0, width), dtype=np.float32),
        cell=cell,
        cell_block=np.concatenate(cell_block) if cell_block else np.zeros(0, dtype=str),
    )


def _inputs(head: Head, data: ChipData, positions: np.ndarray) -> Iterator[tuple[np.ndarray, Tensor, Tensor]]:
    """Positions with what the head's network takes of them."""
    bands = head.net.encoder.select(data.chips.bands)
    if not head.net.takes_dates:
        yield from data.batches(positions, bands)
        return
    for position in positions:  # series differ in length
        some = np.array([position])
        yield some, *load_series(data, some, bands, head.task.needs_days)


def _number(part: Any) -> np.ndarray:
    """A part of dates as integers, 0 where there is no date."""
    found: np.ndarray = part.fillna(0).to_numpy(dtype=np.int64)
    return found
