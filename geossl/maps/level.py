"""``map_level``: the level of a lake on every date in the cube, learnt from a gauge; series, lines and figures."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from rasterio.crs import CRS
from rasterio.windows import Window

from geossl import rasters
from geossl.artefacts import (
    atomic_directory,
    check_place,
    hash_json,
    is_complete,
    lock,
    read_manifest,
    write_manifest,
    write_run,
)
from geossl.config import geossl_home
from geossl.maps.areas import row_hectares
from geossl.maps.composite import IndexComposite
from geossl.maps.make import FailedRead
from geossl.maps.plan import Workpieces, make_plan
from geossl.maps.shore_pixels import INDEX, read_shore
from geossl.progress import say, warn
from geossl.regions import Period, Region
from geossl.report.pages import Section, Table, page, to_png
from geossl.tasks.gauges import Gauge, read_gauge
from geossl.tasks.level_series import METHODS, LevelSeries, ShorePixels, level_series
from geossl.tasks.shore_model import LIMITS, Shore
from geossl.tasks.spec import load_task

KIND = "level-series"
SERIES, PLOT, REPORT = "series.csv", "series.png", "report.html"


@dataclass(frozen=True)
class LevelResult:
    """A series of levels.

    Attributes:
        folder: its directory: series.csv, series.png, report.html, shorelines.gpkg, shore.tif.
        series: the table, a row a date.
        dates: number of dates; ``observable`` of them have a level.
        rmse_m: root mean square error on left-out gauge dates, None with fewer than two that can be compared.
        metrics: every figure, of the baselines too.
        last: the newest date with a level: date, level_m, error_m (None: no date is observable).
        failed_reads: scenes and bands that could not be read and were left out.
        seconds: time this run took.
    """

    folder: Path
    series: Path
    dates: int
    observable: int
    rmse_m: float | None
    metrics: dict[str, Any]
    last: dict[str, Any] | None
    failed_reads: tuple[FailedRead, ...]
    seconds: float


def map_level(
    gauge: str | Path,
    *,
    region: str | Path | Region,
    product: str | None = None,
    period: str | Period | None = None,
    months: str | Sequence[int] | None = None,
    out: str | Path | None = None,
    seed: int = 0,
) -> LevelResult:
    """Learn the shore of a region's water on dates with a gauge reading, and give the level of every date.

    ``series.csv`` has a row a date: the level in the gauge's datum with its error, or why it is not observable, and
    beside it the baselines; see :func:`geossl.tasks.level_series.level_series`. ``shorelines.gpkg`` holds the waterline
    of each date, ``shore.tif`` the learnt elevations. The same command on the same scenes does nothing; new scenes or
    readings make the series anew.

    Args:
        gauge: CSV file of dates and levels in metres, or a filled label template of the task water-level.
        region, product, period, months: which scenes; leave out months with ice.
        out: the folder; by default ``$GEOSSL_HOME/maps/water-level-<region>/<period>``.
        seed: of the resamples.

    Raises:
        InputError: no readings on the scenes' dates, nothing to read, a shore that tells nothing.
        WorkError: disk full, or more than 5 % of the reads failed.
    """
    started = time.monotonic()
    spec = load_task("water-level")
    readings = read_gauge(gauge, spec.date_field or "date", spec.label_field)
    pieces = make_plan(IndexComposite(INDEX, "median"), region=region, product=product, period=period, months=months)
    usual = geossl_home() / "maps" / f"{spec.name}-{pieces.plan.region}" / pieces.plan.out.name
    folder = (Path(out) if out else usual).absolute()
    inputs = {
        **pieces.plan.inputs,
        "head": None,
        "task": spec.model_dump(mode="json"),
        "gauge": readings.id,
        "seed": seed,
    }
    check_place(folder, KIND)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with lock(folder.with_name(f".{folder.name}.lock"), "another process is making this series"):
        if is_complete(folder) and read_manifest(folder, KIND).get("inputs_hash") == hash_json(inputs):
            say(f"this series is there already: {folder}")
            return _result(folder, time.monotonic() - started)
        days = [day for day in pieces.plan.days if day is not None]
        pixels, lines, progress = read_shore(pieces.pixels)
        transform, crs = pieces.grid.affine, CRS.from_user_input(pieces.plan.crs)
        pixel_ha = float(row_hectares(crs, transform, Window(0, pieces.plan.shape[0] // 2, 1, 1))[0])
        series = level_series(pixels, days, readings, spec.time_tolerance_days, pixel_ha, seed)
        with atomic_directory(folder) as temporary, rasters.full_disk_told(folder):
            _round(series.table).to_csv(temporary / SERIES, index=False)
            (temporary / PLOT).write_bytes(to_png(level_plot(series, readings, pieces.plan.region)))
            _write_report(temporary / REPORT, series, readings, pieces, len(pixels.index))
            frame = gpd.GeoDataFrame({"date": [str(day) for day in days]}, geometry=lines, crs=pieces.plan.crs)
            frame[~frame.geometry.is_empty].to_file(temporary / "shorelines.gpkg", layer="shorelines", driver="GPKG")
            _write_elevations(temporary, series.shore, pixels, pieces)
            write_run(temporary, seconds=round(time.monotonic() - started, 1), failed_reads=progress.failures)
            write_manifest(
                temporary,
                KIND,
                inputs=inputs,
                inputs_hash=hash_json(inputs),
                files=sorted(file.name for file in temporary.iterdir() if file.name != "run.json"),
                metrics=series.metrics,
                failed_reads=progress.failures,
            )
    if progress.failures:
        warn(f"{progress.failed} of {progress.reads} reads failed and were left out; run.json lists the files")
    return _result(folder, time.monotonic() - started)


def _result(folder: Path, seconds: float) -> LevelResult:
    manifest, table = read_manifest(folder, KIND), pd.read_csv(folder / SERIES)
    seen = table[table["level_m"].notna()]
    rmse = manifest["metrics"]["rows"][METHODS["level_m"]]["rmse_m"]
    last = seen.iloc[-1][["date", "level_m", "error_m"]].to_dict() if len(seen) else None
    return LevelResult(
        folder=folder,
        series=folder / SERIES,
        dates=len(table),
        observable=len(seen),
        rmse_m=rmse if rmse is not None and np.isfinite(rmse) else None,
        metrics=manifest["metrics"],
        last=last,
        failed_reads=tuple(FailedRead(**failure) for failure in manifest["failed_reads"]),
        seconds=round(seconds, 1),
    )


def _round(table: pd.DataFrame) -> pd.DataFrame:
    """Millimetres, and four decimals of areas and shares: what the figures are good for."""
    numbers = table.select_dtypes("float").columns
    return table.round({name: 3 if name.endswith("_m") else 4 for name in numbers})


def _write_elevations(folder: Path, shore: Shore, pixels: ShorePixels, pieces: Workpieces) -> None:
    """``shore.tif``: elevation and spread of each pixel's observer at the middle limit, NaN elsewhere."""
    values = np.full((2, *pieces.plan.shape), np.nan, np.float32)
    middle = np.flatnonzero(shore.limit == LIMITS[len(LIMITS) // 2])
    at = shore.pixel[middle]
    values[:, pixels.row[at], pixels.column[at]] = shore.elevation[middle], shore.spread[middle]
    grid = rasters.Grid(*pieces.plan.shape, pieces.plan.crs, pieces.grid.affine)
    work = folder / ".shore.tif"
    names = ["elevation of the shore, m", "spread, m"]
    rasters.create_raster(work, grid, 2, "float32", float("nan"), descriptions=names)
    with rasters.open_rasters([work]) as (target,):
        rasters.write_block(target, values, 0, 0)
    rasters.write_cog(work, folder / "shore.tif", overviews="average")
    work.unlink()


def level_plot(series: LevelSeries, gauge: Gauge, region: str) -> Figure:
    """Levels with their errors over the gauge's readings; the share of clear sky below; dates not observable marked."""
    table = series.table
    when = pd.to_datetime(table["date"])
    figure = Figure(figsize=(9.5, 4.6), layout="constrained")
    axes, below = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
    there = (gauge.days >= when.min().to_datetime64()) & (gauge.days <= when.max().to_datetime64())
    axes.plot(gauge.days[there], gauge.level[there], color="#9a9a9a", lw=1, label="gauge")
    seen = table["level_m"].notna()
    held = seen & table["held_out"]
    for chosen, colour, name in ((held, "#225ea8", "from the shore, gauge left out"),
                                 (seen & ~held, "#d95f0e", "from the shore, no gauge reading")):  # fmt: skip
        if chosen.any():
            axes.errorbar(
                when[chosen], table["level_m"][chosen], 1.96 * table["error_m"][chosen], fmt="o", ms=3.5, lw=0.9,
                capsize=2, color=colour, label=f"{name}, with 95 % interval",
            )  # fmt: skip
    if (~seen).any():
        floor = np.nanmin(table[["level_m", "gauge_m"]].to_numpy(dtype=float))
        axes.plot(when[~seen], np.full(int((~seen).sum()), floor), "x", color="#b2182b", label="not observable")
    rmse = series.metrics["rows"][METHODS["level_m"]]["rmse_m"]
    axes.set(ylabel="level, m", title=f"Water level, {region}: RMSE {rmse:.3f} m on dates left out")
    axes.margins(y=0.22)
    axes.legend(frameon=False, fontsize=8, ncols=2, loc="upper left")
    axes.grid(alpha=0.25)
    below.bar(when, table["clear_share"], width=5, color="#7fb3d5")
    below.set(ylim=(0, 1), ylabel="clear share")
    for one in (axes, below):
        one.spines[["top", "right"]].set_visible(False)
    return figure


def _write_report(path: Path, series: LevelSeries, gauge: Gauge, pieces: Workpieces, shore_pixels: int) -> None:
    metrics = series.metrics
    facts = {
        "region": pieces.plan.region,
        "product": pieces.plan.source,
        "dates": len(series.table),
        "dates with a gauge reading": metrics["gauge_dates"],
        "of these observable": metrics["observable"],
        "stations": ", ".join(gauge.stations) or "not named",
        "pixels that are wet at times": shore_pixels,
        "observers (pixels and limits) that follow the level": len(series.shore),
        "dates compared": metrics["dates"],
        "truth within the stated 95 % interval": metrics["within_stated_95"],
    }
    rows = [
        [name, row["rmse_m"], "{:.3f} to {:.3f}".format(*row["interval"]), row["mae_m"], row["bias_m"],
         row["skill_climatology"], row["skill_persistence"]]
        for name, row in metrics["rows"].items()
    ]  # fmt: skip
    columns = ["level from", "RMSE, m", "95 %", "MAE, m", "bias, m", "skill, climatology", "skill, persistence"]
    lost = series.table[series.table["level_m"].isna()]
    sections = [
        Section("What was learnt", "", tables=[Table(["what", ""], [[name, value] for name, value in facts.items()])]),
        Section(
            "How good the levels are",
            "On gauge dates, each from a model that has not seen its fold (its year, with three years or more). Skill "
            "is one less the ratio of mean square errors: above 0 is better than climatology or persistence.",
            [level_plot(series, gauge, pieces.plan.region)],
            [Table(columns, rows)],
        ),
        Section(
            "Not observable",
            "Dates whose shore is hidden, whose level lies outside those learnt, or whose error is too large.",
            tables=[Table(["date", "why"], lost[["date", "reason"]].to_numpy().tolist())],
        ),
    ]
    page(path, f"Water level, {pieces.plan.region}", sections)
