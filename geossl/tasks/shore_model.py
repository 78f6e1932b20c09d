"""The level of a lake from its shore: each shore pixel's elevation is learnt on dates with a gauge reading.

A pixel of the shore is wet on dates of high water and dry on others; the level at which it turns is its elevation
(the idea of DEA Intertidal, Bishop-Taylor et al. 2019, doi 10.1016/j.ecss.2019.03.006). A scene's level is then the
one under which the wet and dry pixels it shows are most likely, over very many pixels, whatever part cloud hides.

A pixel is looked at with several limits of the water index. Within one pixel the water's edge moves by metres, and the
index follows the share of water: low limits are passed first, high ones last. Each pixel and limit is an *observer*
with its own elevation and spread, so that no limit has to be the right one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

LIMITS = (-0.2, 0.0, 0.2)
"""Limits of the index (MNDWI) at which a pixel counts as wet."""
LAPSE = 0.02
"""Chance that an observation is wrong whatever the level: a missed cloud, a boat, reeds."""
SPREADS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32)
"""Standard deviations of the level at which an observer turns that are tried, metres."""
MIN_DATES = 6
MIN_TURNS = 1
"""Dates on which an observer must have been wet, and as many dry."""
MIN_EXPLAINED = 0.5
"""Share of an observer's deviance that the level must explain: what reeds or ice turn is not explained by it."""
STEP_M = 0.005
_ELEVATIONS = 61
_CHUNK = 20_000
RESAMPLES = 200


@dataclass(frozen=True)
class Shore:
    """What was learnt: observers, in the order of ``pixel`` (position in the pixels given) and ``limit``.

    Attributes:
        pixel: (N,) which pixel.
        limit: (N,) which limit of the index.
        elevation: (N,) level at which it turns wet, metres in the gauge's datum.
        spread: (N,) standard deviation of that, metres.
        lowest, highest: gauge levels seen in learning; outside them no elevation is known.
    """

    pixel: np.ndarray
    limit: np.ndarray
    elevation: np.ndarray
    spread: np.ndarray
    lowest: float
    highest: float

    def __len__(self) -> int:
        return len(self.pixel)


@dataclass(frozen=True)
class Levels:
    """Levels of dates: ``level`` and ``error`` (T,) metres, NaN where not observable; ``observers`` (T,) seen."""

    level: np.ndarray
    error: np.ndarray
    observers: np.ndarray
    reason: tuple[str, ...]
    """Why a date is not observable; empty where it is."""


def wet_chance(level: np.ndarray, elevation: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Chance that an observer is seen wet at a level (broadcast): its elevation is normally distributed; and lapses."""
    return LAPSE + (1 - 2 * LAPSE) * ndtr((level - elevation) / spread)


def learn_shore(index: np.ndarray, levels: np.ndarray) -> Shore:
    """Learn elevations from the water index of pixels (N, T), NaN where not clear, and the gauge's levels (T,).

    Elevation and spread are means over their likelihood on a grid; the spread holds what is left open by few dates.
    """
    lowest, highest = float(levels.min()), float(levels.max())
    margin = 0.15 * max(highest - lowest, 0.05)
    heights = np.linspace(lowest - margin, highest + margin, _ELEVATIONS)
    grid_z, grid_s = (axis.ravel() for axis in np.meshgrid(heights, np.array(SPREADS), indexing="ij"))
    chance = wet_chance(levels[:, None], grid_z, grid_s)  # (T, G)
    log_wet, log_dry = np.log(chance).astype(np.float32), np.log1p(-chance).astype(np.float32)
    parts = []
    for start in range(0, len(index), _CHUNK):
        some = index[start : start + _CHUNK]
        seen = np.isfinite(some)
        for limit in LIMITS:
            wet = seen & (np.nan_to_num(some) > limit)
            count, wets = seen.sum(1), wet.sum(1)
            turning = np.flatnonzero((count >= MIN_DATES) & (wets >= MIN_TURNS) & (count - wets >= MIN_TURNS))
            if not len(turning):
                continue
            there, dry = wet[turning].astype(np.float32), (seen & ~wet)[turning].astype(np.float32)
            fit = there @ log_wet + dry @ log_dry  # (n, G)
            best = fit.max(1)
            share = wets[turning] / count[turning]
            plain = count[turning] * (share * np.log(share) + (1 - share) * np.log(1 - share))
            telling = best >= (1 - MIN_EXPLAINED) * plain
            weight = np.exp(fit[telling] - best[telling, None])
            weight /= weight.sum(1, keepdims=True)
            elevation = weight @ grid_z
            variance = weight @ (grid_z**2 + grid_s**2) - elevation**2
            pixel = start + turning[telling]
            parts.append((pixel, np.full(len(pixel), limit), elevation, np.sqrt(np.maximum(variance, 1e-6))))
    found = [np.concatenate([part[number] for part in parts]) if parts else np.zeros(0) for number in range(4)]
    return Shore(found[0].astype(np.int64), found[1], found[2], found[3], lowest, highest)


def find_levels(
    shore: Shore, index: np.ndarray, blocks: np.ndarray, seed: int, least: int = 50, least_blocks: int = 4
) -> Levels:
    """The most likely level of each date, from the index of all pixels (N, T), NaN where not clear.

    The error is the spread over resamples of whole blocks of the shore: neighbours err together, so pixels alone would
    promise too much.

    Args:
        shore: what was learnt on these pixels.
        index: the pixels' water index.
        blocks: (N,) block of each pixel.
        seed: of the resamples.
        least: observers that a date must show.
        least_blocks: blocks that a date must show.
    """
    margin = 0.1 * max(shore.highest - shore.lowest, 0.05)
    heights = np.arange(shore.lowest - margin, shore.highest + margin + STEP_M / 2, STEP_M)
    places, where = np.unique(blocks[shore.pixel], return_inverse=True)
    dates = index.shape[1]
    likelihood = np.zeros((len(places), dates, len(heights)))
    count = np.zeros((len(places), dates))
    order = np.argsort(where, kind="stable")
    edges = np.searchsorted(where[order], np.arange(len(places) + 1))
    for place in range(len(places)):
        chosen = order[edges[place] : edges[place + 1]]
        values = index[shore.pixel[chosen]]
        seen = np.isfinite(values)
        wet = seen & (np.nan_to_num(values) > shore.limit[chosen, None])
        chance = wet_chance(heights, shore.elevation[chosen, None], shore.spread[chosen, None])
        likelihood[place] = wet.T @ np.log(chance) + (seen & ~wet).T @ np.log1p(-chance)
        count[place] = seen.sum(0)
    level, error = np.full(dates, np.nan), np.full(dates, np.nan)
    reasons = []
    generator = np.random.default_rng(seed)
    draws = generator.multinomial(max(len(places), 1), np.full(len(places), 1 / max(len(places), 1)), RESAMPLES)
    for date in range(dates):
        seen_blocks = int((count[:, date] > 0).sum())
        if count[:, date].sum() < least or seen_blocks < least_blocks:
            reasons.append(f"{int(count[:, date].sum())} shore observers in {seen_blocks} parts of the shore are clear")
            continue
        total = likelihood[:, date].sum(0)
        found = _peak(heights, total)
        if total.argmax() in (0, len(heights) - 1):
            reasons.append("outside the levels that were learnt")
            continue
        level[date] = found
        drawn = (draws.astype(float) @ likelihood[:, date]).argmax(1)
        error[date] = max(float(heights[drawn].std()), STEP_M / np.sqrt(12))
        reasons.append("")
    return Levels(level, error, count.sum(0).astype(int), tuple(reasons))


def _peak(heights: np.ndarray, values: np.ndarray) -> float:
    """Where values are largest, between steps by the parabola through the three highest."""
    top = int(values.argmax())
    if top in (0, len(values) - 1):
        return float(heights[top])
    before, at, after = values[top - 1 : top + 2]
    bend = before - 2 * at + after
    return float(heights[top] + (STEP_M * (before - after) / (2 * bend) if bend < 0 else 0.0))


def fill_wet(index: np.ndarray, limit: float) -> np.ndarray:
    """Number of wet pixels of the shore on each date (T,) float, hidden ones guessed from how often each is wet.

    Pixels that are wet more often lie lower. The pixels that a date shows say down to which of them the water stands;
    hidden pixels lower than that count as wet. NaN where a date shows no pixel.
    """
    seen = np.isfinite(index)
    wet = seen & (np.nan_to_num(index) > limit)
    often = wet.sum(1) / np.maximum(seen.sum(1), 1)
    order = np.argsort(-often, kind="stable")
    found = np.full(index.shape[1], np.nan)
    for date in range(index.shape[1]):
        here, under = seen[order, date], wet[order, date]
        if not here.any():
            continue
        # errors if the first k pixels were wet and the rest dry, among those seen
        wrong = np.concatenate([[0], np.cumsum(np.where(here, 1 - 2 * under.astype(int), 0))])
        cut = int(wrong.argmin())
        found[date] = under.sum() + (~here[:cut]).sum()
    return found


def area_curve(area: np.ndarray, level: np.ndarray) -> np.ndarray:
    """The area–level (hypsometric) curve as a polynomial: level from area, of degree 2 (1 with fewer than 8 dates).

    Coefficients for ``numpy.polyval``, of the area less its mean over its spread; these two come last, then the
    smallest and the largest area that were learnt, beyond which the curve is level.
    """
    known = np.isfinite(area) & np.isfinite(level)
    mean, std = float(area[known].mean()), max(float(area[known].std()), 1e-9)
    degree = 2 if known.sum() >= 8 else 1
    return np.concatenate(
        [
            np.polyfit((area[known] - mean) / std, level[known], degree),
            [mean, std, area[known].min(), area[known].max()],
        ]
    )


def level_of_area(curve: np.ndarray, area: np.ndarray) -> np.ndarray:
    """Levels (T,) that a curve of :func:`area_curve` gives areas (T,)."""
    mean, std, smallest, largest = curve[-4:]
    return np.polyval(curve[:-4], (area.clip(smallest, largest) - mean) / std)


def climatology(day: np.ndarray, level: np.ndarray, asked: np.ndarray, width: float = 20.0) -> np.ndarray:
    """The usual level of the season: mean of known levels weighted by nearness of the day of the year (1 to 366).

    Weights are normal with ``width`` days; seasons wrap over the turn of the year.
    """
    apart = np.abs(day[None, :] - asked[:, None])
    apart = np.minimum(apart, 365.25 - apart)
    weight = np.exp(-0.5 * (apart / width) ** 2) + 1e-9
    return (weight @ level) / weight.sum(1)
