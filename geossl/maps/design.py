"""Areas and accuracies of a class map from a probability sample of reference labels, with 95 % intervals.

The stratified estimator of Olofsson et al. 2014 (doi 10.1016/j.rse.2014.02.015, equations 4 to 7 and 9 to 11): the
map's classes are the strata; for a simple random or systematic sample the same formulas are the poststratified one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from geossl.errors import InputError

Z_95 = 1.96
MIN_SAMPLES = 2
"""Samples that each stratum needs, for a variance to be there at all."""
MIN_A_STRATUM = 50
"""Samples that a rare class should have (Olofsson et al. 2014, section 5.1.1)."""


@dataclass(frozen=True)
class Estimate:
    """A number of each class (K,) with its standard error, and the ends of the 95 % interval; NaN where undefined."""

    value: np.ndarray
    error: np.ndarray
    low: np.ndarray
    high: np.ndarray


@dataclass(frozen=True)
class MapAccuracy:
    """What a sample says of a map. ``area``: hectares of each class. ``users``, ``producers``: shares of each class
    (of what the map calls it, of what it is). ``overall``: one number.
    """

    area: Estimate
    users: Estimate
    producers: Estimate
    overall: Estimate


def estimate_areas(counts: np.ndarray, strata_ha: np.ndarray) -> MapAccuracy:
    """Areas of reference classes and the accuracy of the map.

    A stratum in which no sample, or every sample, is of a class gives that cell of the formula no variance, however few
    the samples; half a sample is added there for the variance alone, so that no interval has a width of zero.

    Args:
        counts: (K, K) samples, map class (stratum) by reference class.
        strata_ha: (K,) area of each class on the map, hectares.

    Raises:
        InputError: a class that the map has, has fewer than two samples.
    """
    counts, strata = np.asarray(counts, float), np.asarray(strata_ha, float)
    used = strata > 0
    samples = counts.sum(1)
    if not used.any() or (samples[used] < MIN_SAMPLES).any():
        raise InputError(
            "too few test samples for areas with intervals",
            expected=f"at least {MIN_SAMPLES} in each class of the map",
            found=f"{samples[used].astype(int).tolist()} samples",
        )
    total = strata.sum()
    weight = strata / total
    n = np.where(used, samples, 2.0)[:, None]
    share = np.where(used[:, None], counts / n, 0.0)
    unsure = np.where((counts == 0) | (counts == n), (counts + 0.5) / (n + 1), share)
    variance = np.where(used[:, None], unsure * (1 - unsure) / (n - 1), 0.0)
    area = total * (weight[:, None] * share).sum(0)
    error = total * np.sqrt((weight[:, None] ** 2 * variance).sum(0))
    right, spread = np.diagonal(share), np.diagonal(variance)
    nothing = np.full(len(strata), np.nan)
    producers, producers_error = nothing.copy(), nothing.copy()
    there = area > 0
    producers[there] = (strata * right)[there] / area[there]
    others = (strata[:, None] ** 2 * variance).sum(0) - strata**2 * spread
    with np.errstate(invalid="ignore", divide="ignore"):
        of_both = strata**2 * (1 - producers) ** 2 * spread + producers**2 * others
        producers_error[there] = np.sqrt(of_both[there]) / area[there]
    overall = np.array([(weight * right).sum()])
    overall_error = np.array([np.sqrt((weight**2 * spread).sum())])
    return MapAccuracy(
        _interval(area, error, total),
        _interval(np.where(used, right, np.nan), np.where(used, np.sqrt(spread), np.nan), 1.0),
        _interval(producers, producers_error, 1.0),
        _interval(overall, overall_error, 1.0),
    )


def _interval(value: np.ndarray, error: np.ndarray, most: float) -> Estimate:
    return Estimate(value, error, np.clip(value - Z_95 * error, 0, most), np.clip(value + Z_95 * error, 0, most))


def allocate(total: int, strata_ha: np.ndarray) -> np.ndarray:
    """Samples of each stratum (K,): :data:`MIN_A_STRATUM` (or an even half of all) each, the rest by area.

    Strata without area get none; those of one map never get more than ``total`` together.

    Raises:
        InputError: fewer than two samples for each stratum.
    """
    strata = np.asarray(strata_ha, float)
    used = strata > 0
    if total < MIN_SAMPLES * used.sum():
        raise InputError(
            "so few samples give no areas", where="--draw", expected=f"at least {MIN_SAMPLES * used.sum()}", found=total
        )
    least = max(MIN_SAMPLES, min(MIN_A_STRATUM, total // (2 * int(used.sum()))))
    rest = total - least * int(used.sum())
    parts = rest * strata / strata.sum()
    shared = np.floor(parts).astype(int)
    order = np.argsort(-(parts - shared), kind="stable")
    shared[order[: rest - shared.sum()]] += 1
    return np.where(used, least, 0) + shared
