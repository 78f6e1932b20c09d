"""Readings of water gauges: a table of dates and levels, from a CSV file or from a filled label template."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd

from geossl.artefacts import hash_file
from geossl.errors import InputError

DATE_NAMES = ("date", "time", "datetime", "day", "datum", "tid")
LEVEL_NAMES = ("level", "level_m", "water_level", "value", "nivå", "vattenstånd")


@dataclass(frozen=True)
class Gauge:
    """Daily levels: ``days`` (n,) datetime64[D], ascending, and ``level`` (n,) metres, the mean over stations."""

    days: np.ndarray
    level: np.ndarray
    stations: tuple[str, ...]
    id: str

    def on(self, days: Sequence[date], tolerance_days: float) -> np.ndarray:
        """The reading nearest to each day, no further off than the tolerance; else NaN."""
        asked = np.array(days, dtype="datetime64[D]")
        after = np.searchsorted(self.days, asked).clip(0, len(self.days) - 1)
        before = (after - 1).clip(0)
        apart = [np.abs((self.days[side] - asked).astype(int)) for side in (before, after)]
        nearest = np.where(apart[0] <= apart[1], before, after)
        return np.where(np.minimum(*apart) <= tolerance_days, self.level[nearest], np.nan)

    @property
    def day_of_year(self) -> np.ndarray:
        """(n,) 1 to 366."""
        return (self.days - self.days.astype("datetime64[Y]")).astype(int) + 1


def read_gauge(path: str | Path, date_field: str = "date", level_field: str = "level") -> Gauge:
    """Read a CSV file with a column of dates and one of levels in metres, or a vector file with such columns.

    Where the named columns are missing, usual other names are taken (time, datum; level_m, nivå). Readings of one day
    are averaged, over stations too (a column ``station`` only names them): all must be heights above one datum.

    Raises:
        InputError: unreadable file, no such columns, dates or levels that are none, nothing in it.
    """
    file = Path(path)
    if not file.is_file():
        raise InputError("no such file of gauge readings", where=file, remedy="check --gauge")
    try:
        if file.suffix.lower() in (".csv", ".txt"):
            table = pd.read_csv(file, sep=None, engine="python", encoding="utf-8-sig")
        else:
            import geopandas

            table = pd.DataFrame(geopandas.read_file(file))
    except Exception as error:  # pandas, pyogrio and GDAL raise their own types
        raise InputError("cannot read these gauge readings", where=file, found=error) from None
    when = _column(table, (date_field, *DATE_NAMES), "dates", file)
    what = _column(table, (level_field, *LEVEL_NAMES), "levels", file)
    days = pd.to_datetime(table[when], errors="coerce", utc=True, format="ISO8601")
    level = pd.to_numeric(table[what], errors="coerce")
    gaps = table[what].isna() | (table[what].astype(str).str.strip() == "")
    for bad, name, expected in ((days.isna(), when, "ISO dates"), (level.isna() & ~gaps, what, "metres")):
        if bad.any():
            row = int(np.flatnonzero(bad.to_numpy())[0])
            raise InputError(
                f"readings that are none in column '{name}'",
                where=file,
                expected=expected,
                found=f"{table[name].iloc[row]!r} in row {row + 1}",
            )
    daily = level[~gaps].groupby(days[~gaps].dt.tz_localize(None).dt.floor("D")).mean().sort_index()
    if daily.empty:
        raise InputError("this file holds no gauge reading", where=file)
    stations = tuple(sorted(table["station"].dropna().astype(str).unique())) if "station" in table.columns else ()
    return Gauge(daily.index.to_numpy().astype("datetime64[D]"), daily.to_numpy(float), stations, hash_file(file))


def _column(table: pd.DataFrame, names: Sequence[str], what: str, path: Path) -> str:
    there = {str(name).strip().casefold(): str(name) for name in table.columns}
    for name in names:
        if name.casefold() in there:
            return there[name.casefold()]
    raise InputError(
        f"no column of {what}",
        where=path,
        expected=" or ".join(dict.fromkeys(names)),
        found=", ".join(map(str, table.columns)),
    )
