"""Leave one year out: what a head says of a year none of whose labels it has learnt from.

Each year with labels is withheld in turn. Heads learn from the labels of all other years, and are tested on all labels
of the withheld year. Baselines get the same labels. Pixels of other years serve as references (they carry no label), as
they would in a new year. Dry years are the test that counts: there the labels of the rare classes lie.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from geossl.encoders.saved import Encoder
from geossl.errors import InputError
from geossl.tasks.baselines import baseline_titles, index_baseline, majority
from geossl.tasks.choosing import fit_head
from geossl.tasks.compare import quick_score
from geossl.tasks.examples import PixelExamples, thin_places
from geossl.tasks.linear import Scaling
from geossl.tasks.pixel_rows import (
    CONVOLUTIONS,
    DEPARTURES,
    LOCAL,
    MAJORITY,
    OURS,
    PLANES,
    RANDOM,
    Part,
    head_net,
    labelled,
    part_of,
    pixel_features,
)
from geossl.tasks.spec import TaskSpec

MIN_YEARS = 3
PIXELS_A_PLACE = 5
"""Of each learning label at most so many pixels: neighbours tell little more, and there is a fit for each year."""
DRIEST = 1 / 3


def leave_one_year(
    spec: TaskSpec, encoder: Encoder, control: Encoder, examples: PixelExamples, seed: int
) -> list[dict[str, Any]]:
    """A row a year and way of predicting.

    Fields: year, row, pixels, macro_f1 (over the classes that the year shows), accuracy, bias (mean predicted less mean
    true step of ordinal classes), hits and false_alarms of the driest third of areas (tiles; where the year shows any
    stress): the share of them that was found, and of those named that was wrong. Regularisation is chosen on a fifth of
    the learning tiles.

    Raises:
        InputError: labels of fewer than three years, or a task without classes.
    """
    if spec.kind != "segmentation":
        raise InputError("leaving out years needs classes of pixels", where=f"task {spec.name}", found=spec.kind)
    rows_of = examples.data.rows[examples.chip]
    table = examples.data.chips.table
    year = table["datetime"].dt.year.to_numpy()[rows_of]
    tile = table["tile"].astype(str).to_numpy()[rows_of]
    years = np.unique(year)
    if len(years) < MIN_YEARS:
        raise InputError(
            "leaving out years needs labels of several",
            where="--leave-out year",
            expected=f"labels of at least {MIN_YEARS} years",
            found=", ".join(map(str, years)),
        )
    everything = np.arange(len(examples.chip))
    rng = np.random.default_rng(seed)
    found = []
    features: dict[str, tuple[np.ndarray, Part]] = {}
    for name, one in ((OURS, encoder), (RANDOM, control)):
        net = head_net(spec, one, examples, everything, seed)
        made = pixel_features(net, examples, everything)
        parts = {name: part_of(net, *net.kinds)}
        if name == OURS:
            parts |= {LOCAL: part_of(net, *PLANES), CONVOLUTIONS: part_of(net, *PLANES, "convolutions")}
            parts |= {DEPARTURES: part_of(net, "anomalies")} if net.extra else {}
        features |= {row: (made[:, part.columns], part) for row, part in parts.items()}
    for withheld in years.tolist():
        test = np.flatnonzero(year == withheld)
        learn = np.sort(thin_places(examples, np.flatnonzero(year != withheld), PIXELS_A_PLACE, rng))
        if len(np.unique(examples.value[learn])) < 2:
            continue
        said = {name: _fitted(spec, *made, examples, learn, test) for name, made in features.items()}
        for name in spec.baselines:
            try:
                said[baseline_titles()[name]] = index_baseline(name, spec, examples, learn, test)
            except InputError:  # no reference dates: the row stays away, as it does in the comparison by block
                continue
        said[MAJORITY] = majority(examples.value[learn], len(test), spec.outputs)
        truth = examples.value[test]
        for name, predicted in said.items():
            found.append({"year": withheld, "row": name, **year_figures(spec, truth, predicted, tile[test])})
    return found


def _fitted(
    spec: TaskSpec, features: np.ndarray, part: Part, examples: PixelExamples, learn: np.ndarray, test: np.ndarray
) -> np.ndarray:
    """Class indices of the test pixels by a linear head on these features."""
    train, nothing = (labelled(examples, pixels, features[pixels]) for pixels in (learn, learn[:0]))
    model = fit_head(spec, train, nothing, Scaling.of(train.features, part.widths), part.kinds)
    return model.predict(features[test])


def year_figures(spec: TaskSpec, truth: np.ndarray, predicted: np.ndarray, area: np.ndarray) -> dict[str, Any]:
    """Figures of one withheld year: see :func:`leave_one_year`; ``area`` names the tile of each pixel."""
    figures: dict[str, Any] = {
        "pixels": len(truth),
        "macro_f1": round(quick_score(spec, truth, predicted), 4),
        "accuracy": round(float((truth == predicted).mean()), 4),
    }
    if not spec.ordinal:
        return figures
    figures["bias"] = round(float(predicted.mean() - truth.mean()), 4)
    names, place = np.unique(area, return_inverse=True)
    count = np.bincount(place)
    real, told = (np.bincount(place, values) / count for values in (truth, predicted))
    number = max(1, round(len(names) * DRIEST))
    dry = np.argsort(-real, kind="stable")[:number]
    dry = dry[real[dry] > 0]
    if not len(dry):
        return {**figures, "hits": None, "false_alarms": None}
    named = np.argsort(-told, kind="stable")[: len(dry)]
    named = named[told[named] > 0]
    hits = len(set(dry.tolist()) & set(named.tolist()))
    figures["hits"] = round(hits / len(dry), 4)
    figures["false_alarms"] = round(1 - hits / len(named), 4) if len(named) else 0.0
    return figures
