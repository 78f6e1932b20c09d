"""Which other chip may be the second view's: the same chip, the same tile within N days, or in another season.

Chips are ordered once by tile and time; the candidates of a chip are then at most two runs of that order, so drawing
partners for a batch is a few gathers on the training device, without a loop.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from geossl.errors import InputError

SEASON_DAYS = 60
"""Chips whose days of the year are at least so far apart show another season."""
_YEAR = 366  # days of the year are taken on a circle of this length
_DAY_NS = 86_400_000_000_000


@dataclass(frozen=True)
class PairPolicy:
    """Partners of a chip: other chips of its tile at most ``max_days`` away, or, where that is None, of another season
    (days of the year at least :data:`SEASON_DAYS` apart, years alike or not)."""

    max_days: int | None

    def __str__(self) -> str:
        return "same tile, other season" if self.max_days is None else f"same tile within {self.max_days} days"


def pair_policy(given: str | Mapping[str, int] | None) -> PairPolicy | None:
    """The policy of a method's ``pairs:`` (``{max_days: N}``, ``{other_season: true}``) or of the words ``same``,
    ``N-days``, ``other-season``; None: both views come from the same chip.

    Raises:
        InputError: neither of these.
    """
    if isinstance(given, str):
        found = re.fullmatch(r"(\d+)-days?", given)
        if given not in {"same", "other-season"} and not found:
            raise _unknown("--pairs", given)
        given = {"max_days": int(found[1])} if found else {} if given == "same" else {"other_season": 1}
    wanted = {name: value for name, value in (given or {}).items() if not (name == "other_season" and not value)}
    if not wanted:
        return None
    if set(wanted) == {"other_season"}:
        return PairPolicy(None)
    if set(wanted) == {"max_days"} and int(wanted["max_days"]) > 0:
        return PairPolicy(int(wanted["max_days"]))
    raise _unknown("pairs", dict(wanted))


def _unknown(where: str, found: object) -> InputError:
    return InputError(
        "no such way to pair chips",
        where=where,
        expected="same, N-days (such as 30-days) or other-season; in YAML {max_days: N} or {other_season: true}",
        found=found,
    )


class PairIndex:
    """Draws partners among ``n`` chips; chips are named by their place, 0 to n - 1."""

    def __init__(self, tiles: np.ndarray, stamps: pd.Series, device: torch.device) -> None:
        """``tiles`` (n,): chips of equal value are the same place. ``stamps`` (n,): UTC times, NaT where unknown."""
        self.device = device
        known = stamps.notna().to_numpy()
        utc = stamps.dt.tz_localize(None) if stamps.dt.tz is not None else stamps
        days = utc.to_numpy("datetime64[ns]").astype(np.int64) // _DAY_NS
        self._days = np.where(known, days - (days[known].min() if known.any() else 0), 0)
        self._season = np.where(known, utc.dt.dayofyear.fillna(1).to_numpy(dtype=np.int64) - 1, 0)
        numbers = np.unique(tiles, return_inverse=True)[1].astype(np.int64)
        # Undated chips get a tile of their own: nothing is known about their distance in time.
        self._tiles = np.where(known, numbers, numbers.max(initial=0) + 1 + np.arange(len(numbers)))
        self._runs: dict[PairPolicy, tuple[Tensor, Tensor]] = {}

    def draw(self, places: Tensor, policy: PairPolicy, generator: torch.Generator) -> Tensor:
        """A partner of each place (n,), uniformly among its candidates; the place itself where there is none.

        ``generator`` must live on the device.
        """
        order, runs = self._prepared(policy)
        first, first_end, second, second_end = runs[:, places]
        early, late = first_end - first, second_end - second
        count = early + late
        draw = torch.rand(len(places), generator=generator, device=self.device, dtype=torch.float64)
        step = torch.minimum((draw * count).long(), (count - 1).clamp(min=0))
        chosen = torch.where(step < early, first + step, second + step - early)
        return torch.where(count > 0, order[chosen.clamp(max=len(order) - 1)], places)

    def counts(self, policy: PairPolicy) -> np.ndarray:
        """How many candidates each chip has, (n,) int64."""
        _, runs = self._prepared(policy)
        return (runs[1] - runs[0] + runs[3] - runs[2]).cpu().numpy()

    def _prepared(self, policy: PairPolicy) -> tuple[Tensor, Tensor]:
        """Places by (tile, time), and the two runs of candidates in it: begin, end, begin, end of each (4, n)."""
        if policy not in self._runs:
            within = policy.max_days is not None
            time = self._days if within else self._season
            reach = int(policy.max_days) if policy.max_days is not None else _YEAR
            span = int(time.max(initial=0)) + 2 * reach + 2  # longer than any step that is taken in time
            key = self._tiles * span + time + reach
            order = np.argsort(key, kind="stable")
            ordered = key[order]

            def run(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
                """Ranks of the chips of the same tile between two times, both included."""
                return np.searchsorted(ordered, low, "left"), np.searchsorted(ordered, high, "right")

            if within:
                rank = np.empty(len(key), dtype=np.int64)
                rank[order] = np.arange(len(key))
                begin, end = run(key - reach, key + reach)
                runs = [begin, rank, rank + 1, end]
            else:
                far = _YEAR - SEASON_DAYS
                runs = [*run(key - far, key - SEASON_DAYS), *run(key + SEASON_DAYS, key + far)]
            kept = torch.from_numpy(np.stack(runs).astype(np.int64)).to(self.device)
            self._runs[policy] = (torch.from_numpy(order).to(self.device), kept)
        return self._runs[policy]
