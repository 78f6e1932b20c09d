"""Depth of water from the colours of one date: the two formulas that heads of depth are compared with.

Stumpf et al. 2003 (doi 10.4319/lo.2003.48.1_part_2.0547): ``z = m1 ln(n R_blue) / ln(n R_green) - m0``, n = 1000.
Lyzenga 1978 (doi 10.1364/AO.17.000379): ``z = a0 + sum a_i ln(R_i - R_deep_i)`` over the visible bands. Their numbers
are fitted to training soundings by least squares.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import numpy as np
from sklearn.linear_model import LinearRegression

from geossl.errors import InputError
from geossl.tasks.deep_water import NEEDED, VISIBLE, deep_signal
from geossl.tasks.examples import PixelExamples

DEPTH_BASELINES = ("stumpf", "lyzenga")
_N = 1000.0
_LEAST = 1e-4
"""Reflectance below which a logarithm is not taken."""
_LEAST_RATIO = 0.002
"""Of the ratio: n R stays above 1, so that logarithms are positive."""
_DARK_PERCENT = 2.0
_SIGNAL_CHIPS = 32
"""Chips of a date from which its deep water is estimated at most."""


def stumpf_ratio(blue: np.ndarray, green: np.ndarray) -> np.ndarray:
    """``ln(1000 R_blue) / ln(1000 R_green)`` of reflectance."""
    blue, green = (np.maximum(band, _LEAST_RATIO) for band in (blue, green))
    return np.asarray(np.log(_N * blue) / np.log(_N * green))


def lyzenga_logs(visible: np.ndarray, deep: np.ndarray) -> np.ndarray:
    """``ln(R - R_deep)`` of reflectance (..., V) over deep water (V,)."""
    return np.asarray(np.log(np.maximum(visible - deep, _LEAST)))


def depth_baseline(name: str, examples: PixelExamples, train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Depths (n,) of the test pixels by one of :data:`DEPTH_BASELINES`, fitted to the training pixels.

    Optically deep water is that of each date (:func:`geossl.tasks.deep_water.deep_signal`); a date that shows too
    little water takes the 2nd percentile of the training pixels of all.

    Raises:
        InputError: the chips lack a visible band.
    """
    bands = examples.data.chips.bands
    needed = ("blue", "green") if name == "stumpf" else ("green", *VISIBLE)
    missing = [band for band in dict.fromkeys(needed) if band not in bands]
    if missing:
        raise InputError(
            f"the depth formula {name} needs band {', '.join(missing)}",
            expected=", ".join(needed),
            found=", ".join(bands),
        )
    known, asked = (_features(name, examples, pixels, train) for pixels in (train, test))
    model = LinearRegression().fit(known, examples.value[train])
    return np.asarray(model.predict(asked), dtype=np.float64)


def _features(name: str, examples: PixelExamples, pixels: np.ndarray, train: np.ndarray) -> np.ndarray:
    bands = examples.data.chips.bands
    if name == "stumpf":
        blue, green = _values_at(examples, pixels, ("blue", "green")).T
        return stumpf_ratio(blue, green)[:, None]
    visible = _values_at(examples, pixels, VISIBLE)
    otherwise = np.percentile(_values_at(examples, train, VISIBLE), _DARK_PERCENT, axis=0)
    dates = _dates(examples)
    deep = {
        day: _deep(examples, day, bands, otherwise) for day in sorted({dates[one] for one in examples.chip[pixels]})
    }
    return lyzenga_logs(visible, np.stack([deep[dates[one]] for one in examples.chip[pixels]]))


def _dates(examples: PixelExamples) -> list[date]:
    """The date of each chip position; one for all where dates are not known."""
    when = examples.data.chips.table["datetime"].iloc[examples.data.rows]
    return [date.min if stamp != stamp else stamp.date() for stamp in when]


def _deep(examples: PixelExamples, day: date, bands: Sequence[str], otherwise: np.ndarray) -> np.ndarray:
    """Deep-water reflectance (V,) of a date."""
    if not set(NEEDED) <= set(bands):
        return otherwise
    same = np.array([number for number, one in enumerate(_dates(examples)) if one == day])
    some = same[np.unique(np.linspace(0, len(same) - 1, _SIGNAL_CHIPS).astype(int))]
    values, clear = examples.data.load(some)
    signal = deep_signal(values[:, : len(bands)].numpy(), clear.numpy(), bands)
    return otherwise if signal is None else signal.median


def _values_at(examples: PixelExamples, pixels: np.ndarray, wanted: Sequence[str]) -> np.ndarray:
    """Reflectance (n, bands) of labelled pixels."""
    chips = examples.data.chips
    places = [list(chips.bands).index(band) for band in wanted]
    found = np.empty((len(pixels), len(wanted)))
    chip = examples.chip[pixels]
    for some, values, _ in examples.data.batches(np.unique(chip), None):
        for number, position in enumerate(some):
            here = np.flatnonzero(chip == position)
            at = values[number][places].numpy()
            found[here] = at[:, examples.y[pixels[here]], examples.x[pixels[here]]].T
    return found
