"""Year by year and site by site: what a head says of each, and what its read-out says when fitted without it.

``as it is`` shows how a figure of all labels is made up. ``anew`` is the leave-one-out figure: the head's features, and
a linear read-out fitted to the labels of all other years or sites. Of more than :data:`FOLDS` sites several are left
out at once.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from geossl.errors import InputError
from geossl.progress import say, track
from geossl.tasks.asked import Asked
from geossl.tasks.chip_rows import chip_features
from geossl.tasks.choosing import Labelled, fit_head
from geossl.tasks.compare import Judge, quick_score
from geossl.tasks.examples import ChipExamples, PixelExamples, thin_places
from geossl.tasks.heads import ChipNet, Head, PixelNet
from geossl.tasks.linear import Linear, Scaling
from geossl.tasks.pixel_rows import pixel_features
from geossl.tasks.spec import TaskSpec
from geossl.tasks.trust import Trust, judge_on

GROUPS = ("year", "site")
FOLDS = 10
PIXELS_A_PLACE = 5


def by_group(
    head: Head, examples: PixelExamples | ChipExamples, asked: Asked, leave_out: str, seed: int
) -> list[dict[str, Any]]:
    """A row a year or site: ``items``, the task's figure ``as it is``, ``ece``, ``coverage`` at the level that maps
    show, and the share ``unlike`` what was taught (None where there is no such figure).

    Raises:
        InputError: labels of one year or site only, or chips without dates.
    """
    group = _groups(asked, leave_out)
    names = np.unique(group)
    if len(names) < 2 or (leave_out == "year" and names[0] == 0):
        raise InputError(
            f"leaving out a {leave_out} needs labels of several",
            where="--leave-out",
            expected=f"labels of at least two {leave_out}s",
            found="chips without dates" if leave_out == "year" and names[0] == 0 else str(names[0]),
        )
    spec, trust, said = head.task, head.trust or Trust(head.task.kind), asked.said(head.task)
    rows = []
    for name in names.tolist():
        here = np.flatnonzero(group == name)
        told = judge_on(spec, trust, asked.some(here), seed)
        levels = {one["level"]: one["coverage"] for one in (told.get("conformal") or {}).get("levels", [])}
        score = quick_score(spec, asked.truth[here], said[here])
        rows.append(
            {
                leave_out: name,
                "items": len(here),
                "as it is": _figure(spec, score),
                "anew": None,
                "ece": ((told.get("calibration") or {}).get("after") or {}).get("ece"),
                "coverage": levels.get(trust.level),
                "unlike": (told.get("outliers") or {}).get("share"),
            }
        )
    return rows


def refitted(
    head: Head,
    examples: PixelExamples | ChipExamples,
    asked: Asked,
    rows: list[dict[str, Any]],
    leave_out: str,
    seed: int,
) -> dict[str, Any] | None:
    """Fill ``anew`` of rows of :func:`by_group`, and give the figure over all with its interval; None for heads whose
    read-out is no linear one.
    """
    spec, net = head.task, head.net
    if isinstance(net, PixelNet) and isinstance(examples, PixelExamples):
        features = pixel_features(net, examples, asked.items)
    elif isinstance(net, ChipNet) and isinstance(examples, ChipExamples):
        features = chip_features(net, examples)[asked.items]
    else:
        say(f"a read-out that is not linear is not fitted anew without each {leave_out}")
        return None
    group = _groups(asked, leave_out)
    names = np.unique(group)
    fold = np.searchsorted(names, group) % FOLDS
    rng = np.random.default_rng(seed)
    found = asked.said(spec).astype(np.float64)
    known = np.zeros(len(found), dtype=bool)
    with track(f"without each {leave_out}", len(np.unique(fold)), "fits") as bar:
        for left in np.unique(fold):
            test, learn = fold == left, np.flatnonzero(fold != left)
            if isinstance(examples, PixelExamples):
                pixels = thin_places(examples, asked.items[learn], PIXELS_A_PLACE, rng)
                learn = np.flatnonzero(np.isin(asked.items, pixels))
            model = _fit(spec, net, features, asked, learn)
            bar.advance()
            if model is not None:
                scores = features[test]
                found[test] = model.scores(scores) if spec.kind == "multilabel" else model.predict(scores)
                known[test] = True
    for row in rows:
        here = (group == row[leave_out]) & known
        if here.any():
            row["anew"] = _figure(spec, quick_score(spec, asked.truth[here], _typed(spec, found[here])))
    if not known.any():
        return None
    figures = Judge(spec, asked.truth[known], asked.block[known], seed).figures([_typed(spec, found[known])])
    interval = figures.interval(spec.headline)
    return {
        "value": figures.values[spec.headline],
        "interval": None if interval is None else [interval.low, interval.high],
        "items": int(known.sum()),
    }


def _fit(
    spec: TaskSpec, net: PixelNet | ChipNet, features: np.ndarray, asked: Asked, learn: np.ndarray
) -> Linear | None:
    """A read-out of these items. None where they show one class."""
    if spec.kind not in ("multilabel", "regression") and len(np.unique(asked.truth[learn])) < 2:
        return None
    train = Labelled(features[learn], asked.truth[learn], asked.block[learn])
    nothing = Labelled(features[:0], asked.truth[:0], asked.block[:0])
    return fit_head(spec, train, nothing, Scaling.of(train.features, net.widths), net.kinds)


def _groups(asked: Asked, leave_out: str) -> np.ndarray:
    return asked.year if leave_out == "year" else asked.block


def _typed(spec: TaskSpec, found: np.ndarray) -> np.ndarray:
    """Class indices as integers again."""
    return found if spec.kind in ("multilabel", "regression") else found.astype(np.int64)


def _figure(spec: TaskSpec, score: float) -> float | None:
    """The task's figure of a score that is higher where better."""
    if not np.isfinite(score):
        return None
    return round(-score if spec.kind == "regression" else score, 4)
