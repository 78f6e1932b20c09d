"""What each task is measured against without any network: indices with thresholds, anomalies, the commonest class."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import numpy as np
import torch

from geossl.errors import InputError
from geossl.tasks.depth import DEPTH_BASELINES, depth_baseline
from geossl.tasks.examples import PixelExamples
from geossl.tasks.spec import TaskSpec
from geossl.tasks.spectral import INDICES, band_position, normalised_difference, pixel_planes

MIN_REFERENCES = 2
"""Clear reference dates of other years that an anomaly needs at a pixel."""
_CANDIDATES = 40
_MIN_SPREAD = 0.02


def baseline_titles() -> dict[str, str]:
    """Names of the index baselines and what they are called in reports."""
    return {
        "vci": "VCI, thresholds from training labels",
        "ndmi_anomaly": "NDMI anomaly, thresholds from training labels",
        "ndwi": "NDWI > 0",
        "mndwi": "MNDWI > 0",
        "mlp": "MLP on bands, indices and local statistics",
        "rule": "the task's rule on the date",
        "stumpf": "ratio of logarithms, blue to green (Stumpf 2003)",
        "lyzenga": "logarithms above deep water (Lyzenga 1978)",
    }


def majority(values: np.ndarray, count: int, classes: int) -> np.ndarray:
    """The commonest training class for each of ``count`` items."""
    return np.full(count, np.bincount(values, minlength=classes).argmax())


def index_baseline(
    name: str, spec: TaskSpec, examples: PixelExamples, train: np.ndarray, test: np.ndarray
) -> np.ndarray:
    """Class indices (or depths) of the test pixels by a rule that needs no head.

    ``ndwi`` and ``mndwi``: the last class where the index is above 0 (McFeeters 1996; Xu 2006). ``vci`` (Kogan 1995)
    and ``ndmi_anomaly``: thresholds that maximise macro F1 on the training pixels; a pixel without enough clear
    reference dates gets the commonest training class. ``mlp``: see :func:`spectral_mlp`. ``rule``: the last class where
    the index of the task's rule lies above its threshold. ``stumpf`` and ``lyzenga`` give depths:
    :func:`geossl.tasks.depth.depth_baseline`.

    Raises:
        InputError: a band is missing, or no training pixel has reference dates; the message says which.
    """
    if name == "mlp":
        return spectral_mlp(spec, examples, train, test)
    if name in DEPTH_BASELINES:
        return depth_baseline(name, examples, train, test)
    if name == "rule":
        assert spec.rule is not None
        assert spec.rule.index is not None
        return (index_at(spec.rule.index, examples, test) > spec.rule.threshold).astype(np.int64) * (spec.outputs - 1)
    if name in ("ndwi", "mndwi"):
        return (index_at(name, examples, test) > 0).astype(np.int64) * (spec.outputs - 1)
    measure = {"vci": vegetation_condition, "ndmi_anomaly": moisture_anomaly}[name]
    known, asked = (measure(examples, pixels, spec.season_days) for pixels in (train, test))
    usable = np.isfinite(known)
    if usable.sum() < spec.outputs:
        raise InputError(
            f"too few training pixels have {MIN_REFERENCES} clear dates of the same season in other years",
            found=f"{int(usable.sum())} of {len(train)}",
            remedy="build tiles of more years",
        )
    classify = fit_thresholds(known[usable], examples.value[train][usable], spec)
    commonest = majority(examples.value[train], len(test), spec.outputs)
    return np.where(np.isfinite(asked), classify(np.nan_to_num(asked)), commonest)


def spectral_mlp(spec: TaskSpec, examples: PixelExamples, train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Class indices of the test pixels by a small neural network on spectral planes, without any encoder.

    One hidden layer of 64 (scikit-learn's MLPClassifier) on standardised bands, indices, and local mean and spread.
    """
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    network = MLPClassifier((64,), alpha=0.01, max_iter=300, random_state=0)
    model = make_pipeline(StandardScaler(), network)
    model.fit(_planes_at(examples, train), examples.value[train])
    return np.asarray(model.predict(_planes_at(examples, test)))


def _planes_at(examples: PixelExamples, pixels: np.ndarray) -> np.ndarray:
    """Spectral planes of labelled pixels (N, P)."""
    bands, chip = examples.data.chips.bands, examples.chip[pixels]
    nothing, one = torch.zeros(len(bands)), torch.ones(len(bands))
    found: np.ndarray | None = None
    for some, values, clear in examples.data.batches(np.unique(chip), None):
        planes = pixel_planes(values[:, : len(bands)], clear, bands, nothing, one, local=True).numpy()
        if found is None:
            found = np.empty((len(pixels), planes.shape[1]), dtype=np.float32)
        for number, position in enumerate(some):
            here = np.flatnonzero(chip == position)
            found[here] = planes[number][:, examples.y[pixels[here]], examples.x[pixels[here]]].T
    assert found is not None
    return found


def fit_thresholds(measure: np.ndarray, truth: np.ndarray, spec: TaskSpec) -> Callable[[np.ndarray], np.ndarray]:
    """Thresholds that cut one measure into the task's classes, in their order or the reverse, by macro F1."""
    candidates = np.unique(np.quantile(measure, np.linspace(0, 1, _CANDIDATES + 2)[1:-1]))
    best: tuple[float, tuple[float, ...], bool] = (-np.inf, (), False)
    for cuts in combinations(candidates, min(spec.outputs - 1, len(candidates))):
        steps = np.digitize(measure, cuts)
        for falling in (True, False):
            score = _macro_f1(truth, len(cuts) - steps if falling else steps, spec.outputs)
            if score > best[0]:
                best = (score, cuts, falling)
    _, chosen, reverse = best
    return lambda asked: (len(chosen) - np.digitize(asked, chosen)) if reverse else np.digitize(asked, chosen)


def _macro_f1(truth: np.ndarray, said: np.ndarray, classes: int) -> float:
    """Macro F1 over the classes that the truth shows, without ceremony: thousands of cuts are tried."""
    right = np.bincount(truth[truth == said], minlength=classes)
    there, named = np.bincount(truth, minlength=classes), np.bincount(said, minlength=classes)
    return float((2 * right / np.maximum(there + named, 1))[there > 0].mean())


def index_at(name: str, examples: PixelExamples, pixels: np.ndarray) -> np.ndarray:
    """A normalised difference at labelled pixels (N,).

    Raises:
        InputError: the chips lack a band of it.
    """
    check_index(name, examples)
    found = np.zeros(len(pixels), dtype=np.float32)
    chip = examples.chip[pixels]
    for some, values, _ in examples.data.batches(np.unique(chip), None):
        index = normalised_difference(values, name, examples.data.chips.bands).numpy()
        for number, position in enumerate(some):
            here = np.flatnonzero(chip == position)
            found[here] = index[number, examples.y[pixels[here]], examples.x[pixels[here]]]
    return found


def check_index(name: str, examples: PixelExamples) -> None:
    """Refuse an index whose bands the chips lack."""
    bands = examples.data.chips.bands
    missing = [band for band in INDICES[name] if band_position(band, bands) is None]
    if missing:
        raise InputError(
            f"{name.upper()} needs band {', '.join(missing)}", expected=", ".join(INDICES[name]), found=", ".join(bands)
        )


def vegetation_condition(examples: PixelExamples, pixels: np.ndarray, season_days: int) -> np.ndarray:
    """Vegetation condition index (N,): where NDVI lies between its lowest (0) and highest (1) in the same season of
    other years; NaN without enough references (Kogan 1995).
    """
    now, others = _references("ndvi", examples, pixels, season_days)
    low, high = (_over_dates(others, kind) for kind in (np.nanmin, np.nanmax))
    return np.where(high - low > _MIN_SPREAD, (now - low) / np.maximum(high - low, _MIN_SPREAD), np.nan)


def moisture_anomaly(examples: PixelExamples, pixels: np.ndarray, season_days: int) -> np.ndarray:
    """NDMI anomaly (N,): deviation from the mean of the same season in other years, in its standard deviations."""
    now, others = _references("ndmi", examples, pixels, season_days)
    mean, std = (_over_dates(others, kind) for kind in (np.nanmean, np.nanstd))
    return (now - mean) / np.maximum(std, _MIN_SPREAD)


def _over_dates(others: np.ndarray, kind: Callable[..., np.ndarray]) -> np.ndarray:
    """A figure over the clear references of each pixel (N, dates); NaN where there are too few."""
    found = np.full(len(others), np.nan)
    enough = np.isfinite(others).sum(axis=1) >= MIN_REFERENCES
    if enough.any():
        found[enough] = kind(others[enough], axis=1)
    return found


def _references(
    name: str, examples: PixelExamples, pixels: np.ndarray, season_days: int
) -> tuple[np.ndarray, np.ndarray]:
    """The index at pixels now (N,), and on all dates of the same season in other years (N, most dates), NaN-padded."""
    check_index(name, examples)
    chips, table = examples.data.chips, examples.data.chips.table
    when = table["datetime"]
    season, year = when.dt.dayofyear.to_numpy(dtype=float), when.dt.year.to_numpy(dtype=float)
    by_tile = {tile: np.asarray(rows) for tile, rows in table.groupby("tile").indices.items()}
    chip = examples.chip[pixels]
    found: dict[int, np.ndarray] = {}
    for position in np.unique(chip):
        row = int(examples.data.rows[position])
        rows = by_tile[table["tile"].iloc[row]]
        apart = np.abs(season[rows] - season[row])
        apart = np.minimum(apart, 365.25 - apart)
        rows = rows[(apart <= season_days) & (year[rows] != year[row])]
        here = pixels[chip == position]
        found[int(position)] = _index_on(name, chips, rows, examples.y[here], examples.x[here])
    width = max((one.shape[1] for one in found.values()), default=0)
    others = np.full((len(pixels), max(width, 1)), np.nan)
    for position, values in found.items():
        others[chip == position, : values.shape[1]] = values
    return index_at(name, examples, pixels), others


def _index_on(name: str, chips: object, rows: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """An index at pixels of one tile on several dates (pixels, dates), NaN where not clear."""
    from geossl.chips.chipset import ChipSet

    assert isinstance(chips, ChipSet)
    if not len(rows):
        return np.empty((len(y), 0))
    stored, flags = chips.load(rows)
    values = chips.encoding.decode(stored)
    clear = (flags == 0) & np.isfinite(values).all(axis=1)
    index = normalised_difference(torch.from_numpy(np.nan_to_num(values)), name, chips.bands).numpy()
    return np.where(clear, index, np.nan)[:, y, x].T
