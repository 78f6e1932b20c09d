"""Levels of all dates from the pixels of a shore, judged on gauge dates that were left out in learning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import pandas as pd

from geossl.errors import InputError
from geossl.tasks.gauges import Gauge
from geossl.tasks.shore_model import (
    Shore,
    area_curve,
    climatology,
    fill_wet,
    find_levels,
    learn_shore,
    level_of_area,
)
from geossl.tasks.waterline import ZERO

MIN_GAUGE_DATES = 10
FOLDS = 5
"""Folds where the gauge dates lie in fewer than three years: runs of neighbouring dates."""
_RESAMPLES = 2000


@dataclass(frozen=True)
class ShorePixels:
    """What the scenes show of a shore.

    Attributes:
        index: (N, T) water index (MNDWI) of pixels that are wet on some dates and dry on others, NaN where not clear.
        block: (N,) number of the stretch of shore that each lies in.
        row, column: (N,) where they lie on the map's grid.
        always_wet: pixels that are wet on (nearly) every date.
        otsu: (T,) Otsu's limit of each date's index, NaN where it has none.
        clear: (T,) share of the region that is clear.
    """

    index: np.ndarray
    block: np.ndarray
    row: np.ndarray
    column: np.ndarray
    always_wet: int
    otsu: np.ndarray
    clear: np.ndarray


@dataclass(frozen=True)
class LevelSeries:
    """A level for every date, the model learnt on all gauge dates, and how good such levels are.

    ``table``: one row a date; see :func:`level_series` for its columns. ``metrics``: errors in metres on gauge dates,
    each from a model that has not seen its fold.
    """

    table: pd.DataFrame
    shore: Shore
    metrics: dict[str, Any]


def level_series(
    pixels: ShorePixels, days: Sequence[date], gauge: Gauge, tolerance_days: float, pixel_ha: float, seed: int
) -> LevelSeries:
    """Levels of all dates with their errors, and the baselines.

    On a gauge date the level is the one found without the gauge dates of its fold (its year, where there are three or
    more); on other dates that of the model of all gauge dates. The error joins the resampling error of the date with
    what errors on left-out dates show beyond it. A date is not observable where too little of the shore is clear, where
    the level lies outside those that were learnt, or where the error is larger than the gauge's own spread.

    Columns: date, level_m, error_m, reason (why not observable), observers, held_out, gauge_m, curve_m (from the
    area–level curve), curve_otsu_m (the same from Otsu's limit of each date), climatology_m (season's usual level in
    other years), persistence_m (the gauge on the scene date before), area_ha, area_otsu_ha, otsu_limit, clear_share.

    Raises:
        InputError: too few dates with a gauge reading, or no pixel that the level turns.
    """
    read = gauge.on(days, tolerance_days)
    known = np.isfinite(read)
    if known.sum() < MIN_GAUGE_DATES:
        raise InputError(
            "too few scenes have a gauge reading",
            expected=f"at least {MIN_GAUGE_DATES} dates with one within {tolerance_days:g} days",
            found=f"{int(known.sum())} of {len(days)} dates; the gauge reads from {gauge.days[0]} to {gauge.days[-1]}",
            remedy="give readings of the scenes' years, or index scenes of the gauge's",
        )
    shore = learn_shore(pixels.index[:, known], read[known])
    if not len(shore):
        raise InputError(
            "no pixel of the shore follows the level",
            found=f"{len(pixels.index)} pixels that are wet on some dates and dry on others",
            remedy="choose a region with flat, open shore, or months without ice",
        )
    limits = np.where(np.isfinite(pixels.otsu), pixels.otsu, ZERO)
    wet = fill_wet(pixels.index, ZERO) + pixels.always_wet
    wet_otsu = fill_wet(pixels.index - limits, ZERO) + pixels.always_wet
    found = find_levels(shore, pixels.index, pixels.block, seed)
    level, error, reasons = found.level.copy(), found.error.copy(), list(found.reason)
    curves = {
        name: level_of_area(area_curve(area[known], read[known]), area)
        for name, area in (("curve_m", wet), ("curve_otsu_m", wet_otsu))
    }
    day_of_year = np.array([day.timetuple().tm_yday for day in days])
    usual = np.full(len(days), np.nan)
    folds = _folds(days, known)
    for fold in range(folds.max() + 1):
        out, rest = folds == fold, known & (folds != fold)
        one = find_levels(learn_shore(pixels.index[:, rest], read[rest]), pixels.index[:, out], pixels.block, seed)
        level[out], error[out] = one.level, one.error
        for place, reason in zip(np.flatnonzero(out), one.reason, strict=True):
            reasons[place] = reason
        for name, area in (("curve_m", wet), ("curve_otsu_m", wet_otsu)):
            curves[name][out] = level_of_area(area_curve(area[rest], read[rest]), area[out])
    for year in {day.year for day in days}:
        here = np.array([day.year == year for day in days])
        other = gauge.days.astype("datetime64[Y]").astype(int) + 1970 != year
        if other.any():
            usual[here] = climatology(gauge.day_of_year[other], gauge.level[other], day_of_year[here])
    left_out = known & np.isfinite(level)
    if left_out.sum() >= 3:
        missing = np.mean((level - read)[left_out] ** 2) - np.mean(error[left_out] ** 2)
        error = np.sqrt(error**2 + max(missing, 0.0))
    spread = float(read[known].std())
    for place in np.flatnonzero(error > spread):
        reasons[place] = f"the error of {error[place]:.2f} m is larger than the gauge's spread of {spread:.2f} m"
        level[place] = np.nan
    table = pd.DataFrame(
        {
            "date": [day.isoformat() for day in days],
            "level_m": level,
            "error_m": np.where(np.isfinite(level), error, np.nan),
            "reason": reasons,
            "observers": found.observers,
            "held_out": known,
            "gauge_m": read,
            **curves,
            "climatology_m": usual,
            "persistence_m": _before(read),
            "area_ha": wet * pixel_ha,
            "area_otsu_ha": wet_otsu * pixel_ha,
            "otsu_limit": pixels.otsu,
            "clear_share": pixels.clear,
        }
    )
    return LevelSeries(table, shore, level_metrics(table, seed))


def _folds(days: Sequence[date], known: np.ndarray) -> np.ndarray:
    """The fold of each date (T,): years where gauge dates show at least three, else runs of dates; -1 without gauge."""
    years = sorted({day.year for day, there in zip(days, known, strict=True) if there})
    folds = np.full(len(days), -1)
    if len(years) >= 3:
        for place in np.flatnonzero(known).tolist():
            folds[place] = years.index(days[place].year)
    else:
        places = np.flatnonzero(known)
        folds[places] = np.arange(len(places)) * FOLDS // len(places)
    return folds


def _before(read: np.ndarray) -> np.ndarray:
    """The last gauge reading before each date (T,)."""
    return pd.Series(read).ffill().shift(1).to_numpy(dtype=float)


METHODS = {
    "level_m": "shore elevations",
    "curve_m": "area–level curve, MNDWI > 0",
    "curve_otsu_m": "area–level curve, Otsu",
    "climatology_m": "climatology (season of other years)",
    "persistence_m": "persistence (gauge on the scene date before)",
}
"""Columns of levels and what they are called in reports."""


def level_metrics(table: pd.DataFrame, seed: int) -> dict[str, Any]:
    """Errors of every way to a level, on gauge dates that are observable and have all of them.

    ``skill`` is one less the ratio of mean square errors, against climatology and against persistence: above 0 is
    better, 1 is perfect. ``interval`` is the 95 % interval of the RMSE over resampled dates.
    """
    held = table[table["held_out"]]
    common = held[np.isfinite(held[list(METHODS)]).all(axis=1)]
    truth = common["gauge_m"].to_numpy()
    errors = {name: common[name].to_numpy() - truth for name in METHODS}
    generator = np.random.default_rng(seed)
    rows = {}
    squares = {name: float(np.mean(error**2)) if len(common) else np.nan for name, error in errors.items()}
    for name, error in errors.items():
        draws = generator.integers(0, max(len(common), 1), (_RESAMPLES, len(common)))
        again = np.sqrt((error[draws] ** 2).mean(1)) if len(common) > 1 else np.full(2, np.nan)
        rows[METHODS[name]] = {
            "rmse_m": round(float(np.sqrt(squares[name])), 4),
            "interval": [round(float(bound), 4) for bound in np.percentile(again, [2.5, 97.5])],
            "mae_m": round(float(np.abs(error).mean()), 4) if len(common) else None,
            "bias_m": round(float(error.mean()), 4) if len(common) else None,
            "skill_climatology": round(1 - squares[name] / squares["climatology_m"], 3) if len(common) else None,
            "skill_persistence": round(1 - squares[name] / squares["persistence_m"], 3) if len(common) else None,
        }
    sure = np.abs(errors["level_m"]) <= 1.96 * common["error_m"].to_numpy()
    return {
        "dates": len(common),
        "gauge_dates": len(held),
        "observable": int(np.isfinite(held["level_m"]).sum()),
        "within_stated_95": round(float(sure.mean()), 3) if len(common) else None,
        "rows": rows,
    }
