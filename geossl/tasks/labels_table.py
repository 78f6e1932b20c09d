"""A row a label for ``geossl labels check``: what each says, what becomes of it, and its features.

A label is a row of a file; of ready chips, a chip with its class or classes, or one class of one chip's mask.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import shapely

from geossl.chips.chipset import IGNORE
from geossl.chips.ready import ReadyChips
from geossl.encoders.saved import Encoder
from geossl.labels.files import open_vector
from geossl.labels.read import Labels, is_raster
from geossl.labels.stations import is_stations
from geossl.progress import warn
from geossl.tasks.chip_rows import chip_features
from geossl.tasks.examples import ChipExamples, PixelExamples, thin_places
from geossl.tasks.heads import ChipNet, PixelNet
from geossl.tasks.labels_fate import CLOUDY, NOT_DRAWN, USED, fates
from geossl.tasks.pixel_rows import pixel_features
from geossl.tasks.sources import Source, read_labels
from geossl.tasks.spec import TaskSpec, class_order

_PIXELS_A_PLACE = 20
_MOST_JUDGED = 20_000


def file_table(
    source: Source, path: Path, examples: PixelExamples | ChipExamples | None
) -> tuple[pd.DataFrame, Labels]:
    """A row a label of the file, and the labels: also those that the task's confidence or the region leave out."""
    assert source.labels is not None
    whole = source.labels
    if not is_raster(path) and (is_stations(path) or open_vector(path).count != len(whole)):
        every = source.spec.model_copy(update={"min_confidence": 0.0})
        whole = read_labels(every, path, None)[1].to_crs(source.labels.frame.crs.to_wkt())
    frame = whole.frame
    table = pd.DataFrame(
        {"row": frame["row"], "value": frame["value"], "date": frame["date"], "confidence": frame["confidence"]}
    )
    table["area_m2"] = shapely.area(frame.geometry.to_numpy())
    table["geometry"] = frame.geometry.to_numpy()
    table["fate"], table["part"], table["block"] = fates(source, whole, examples)
    table.insert(1, "label", _names(source.spec, table["value"].to_numpy()))
    return _unjudged(table), whole


def chip_table(source: Source, examples: ChipExamples) -> pd.DataFrame:
    """A row a ready chip; of several labels ``value`` is how many, and ``label`` names them."""
    chips, several = source.chips.table, examples.target.ndim == 2
    value = examples.target.sum(axis=1).astype(np.int64) if several else examples.target
    table = pd.DataFrame({"row": np.arange(1, len(chips) + 1), "chip": chips["chip"], "value": value})
    names = np.array(source.spec.class_names, dtype=object)
    said = [", ".join(names[one > 0]) for one in examples.target] if several else _names(source.spec, value)
    table.insert(1, "label", said)
    table["date"], table["geometry"] = pd.NaT, None
    table["part"], table["fate"], table["block"] = examples.data.side, USED, examples.data.block
    table["chip_row"] = np.arange(len(table))
    return _unjudged(table)


def mask_table(source: Source, examples: PixelExamples) -> pd.DataFrame:
    """A row a class of each ready chip's mask, with its pixels and their area."""
    chips = source.chips
    assert isinstance(chips, ReadyChips)
    order = np.array(class_order(source.spec, chips.label_names, chips.path))
    sampled = set(_mask_places(examples).tolist())
    rows = []
    for number in range(len(chips.table)):
        mask = chips.labels(np.array([number]))[0]
        clear = chips.load(np.array([number]))[1][0] == 0
        for label in np.unique(mask[mask != IGNORE]):
            value, here = int(order[label]), mask == label
            seen = (here & clear).any()
            fate = USED if number * 256 + value in sampled else NOT_DRAWN if seen else CLOUDY
            rows.append((number, value, int(here.sum()), fate))
    table = pd.DataFrame(rows, columns=["chip_row", "value", "pixels", "fate"]).sort_values(["chip_row", "value"])
    table = table.reset_index(drop=True)
    table.insert(0, "row", np.arange(1, len(table) + 1))
    table.insert(1, "label", _names(source.spec, table["value"].to_numpy()))
    table.insert(2, "chip", chips.table["chip"].to_numpy()[table["chip_row"]])
    table["area_m2"] = table["pixels"] * chips.resolution_m**2
    table["date"], table["geometry"] = pd.NaT, None
    table["part"] = examples.data.side[table["chip_row"]]
    table["block"] = examples.data.block[table["chip_row"]]
    return _unjudged(table)


def label_features(
    source: Source, encoder: Encoder, examples: PixelExamples | ChipExamples, table: pd.DataFrame, seed: int
) -> tuple[np.ndarray, np.ndarray, tuple[int, ...]]:
    """Positions in the table, raw features (n, d) of each label (the mean over its pixels and dates), and widths."""
    spec = source.spec
    if isinstance(examples, ChipExamples):
        chip_net = ChipNet(encoder, spec.outputs).eval()
        return np.arange(len(table)), chip_features(chip_net, examples), chip_net.widths
    if source.labels is not None:  # places count the labels that were not left out
        keys, wanted = table["row"].to_numpy(), source.labels.frame["row"].to_numpy()
    else:
        examples = replace(examples, place=_mask_places(examples))
        keys, wanted = (table["chip_row"] * 256 + table["value"]).to_numpy(), None
    net, rng = PixelNet(encoder, spec.outputs, spec.references).eval(), np.random.default_rng(seed)
    pixels = thin_places(examples, np.arange(len(examples.chip)), _PIXELS_A_PLACE, rng)
    places = np.unique(examples.place[pixels])
    if len(places) > _MOST_JUDGED:
        warn(f"{_MOST_JUDGED} of {len(places)} labels, drawn at random, are judged")
        places = np.sort(rng.choice(places, _MOST_JUDGED, replace=False))
        pixels = pixels[np.isin(examples.place[pixels], places)]
    values = pixel_features(net, examples, pixels)
    code = np.searchsorted(places, examples.place[pixels])
    total = np.zeros((len(places), values.shape[1]), dtype=np.float64)
    np.add.at(total, code, values)
    mean = (total / np.bincount(code, minlength=len(places))[:, None]).astype(np.float32)
    return np.searchsorted(keys, places if wanted is None else wanted[places]), mean, net.widths


def _mask_places(examples: PixelExamples) -> np.ndarray:
    """(N,) one number for each class of each chip's mask."""
    return examples.chip.astype(np.int64) * 256 + examples.value


def _names(spec: TaskSpec, values: np.ndarray) -> np.ndarray:
    names = np.array(spec.class_names, dtype=object)
    return names[values] if len(names) else values


def _unjudged(table: pd.DataFrame) -> pd.DataFrame:
    for column in ("duplicate_of", "conflicts_with", "verdict", "instead"):
        table[column] = ""
    table["agreement"], table["doubt"], table["outlier"] = np.nan, np.nan, False
    return table
