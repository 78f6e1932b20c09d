"""What task maps are worth on sandboxes, whose truth is known."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import rasterio
import shapely
import torch
from scipy.ndimage import distance_transform_edt
from sklearn.metrics import f1_score

from geossl.chips.build import build_tiles
from geossl.chips.open import open_chips
from geossl.encoders.saved import random_encoder
from geossl.maps.coast import EDGE_SHARE, ZONES
from geossl.maps.design import allocate, estimate_areas
from geossl.maps.index import make_index_map
from geossl.maps.task_map import make_task_map
from geossl.maps.water_dates import SEASONS, seasons, water_planes
from geossl.sandbox.classes import Cover, Shore
from geossl.sandbox.create import create_sandbox
from geossl.tasks.finetune import FinetuneResult, finetune
from geossl.tasks.waterline import shorelines

MONTHS = "5-9"
SUMMER = range(5, 10)
YEAR = 2020
SHORE_M = 60.0
EARLIER, LATER = "2018/2019", "2021/2022"
DRAWS, POINTS = 200, 300
LABELS = 40


def sandbox(region: str, size_km: float) -> Path:
    """The folder of an indexed sandbox, made where it is missing."""
    return Path(create_sandbox(region, size_km=size_km).truth).parent


def read(path: Path) -> np.ndarray:
    """The first band of a raster."""
    with rasterio.open(path) as source:
        return np.asarray(source.read(1))


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A Markdown table."""
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    cells = [[_cell(cell) for cell in row] for row in rows]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in cells)])


def _cell(cell: Any) -> str:
    if isinstance(cell, float):
        return f"{cell:.3f}" if np.isfinite(cell) else "–"
    return str(cell)


def agreement(said: np.ndarray, truth: np.ndarray, known: np.ndarray) -> tuple[float, float, float]:
    """Intersection over union, precision and recall of an extent where it is ``known``; NaN where there is none."""
    said, truth = said[known], truth[known]
    both = float((said & truth).sum())
    parts = [float(part.sum()) for part in (said | truth, said, truth)]
    iou, precision, recall = (both / part if part else float("nan") for part in parts)
    return iou, precision, recall


def aquatic_vegetation(work: Path, size_km: float) -> str:
    """Largest extent and change at Vänern: the pilot's rule, and other thresholds and composites beside it."""
    folder = sandbox("vanern", size_km)
    plants = {month: read(folder / "truth" / "vegetation" / f"{YEAR}-{month:02d}.tif") > 0 for month in SUMMER}
    truth = np.any(list(plants.values()), axis=0)
    history = folder / "labels" / "historical_vegetation.tif"
    where: dict[str, Any] = {"region": "vanern", "period": str(YEAR), "months": MONTHS, "within": "water"}
    rows: list[list[Any]] = []
    made = make_task_map("aquatic-vegetation", region="vanern", period=str(YEAR), months=MONTHS, against=history,
                         out=work / "vegetation")  # fmt: skip
    found = read(made.layers[-2] / "class.tif")
    rows.append(["**highest NDVI > 0.5 (the task's rule)**", *agreement(found == 1, truth, found != 255)])
    change = read(made.layers[-1] / "class.tif")
    was = read(history) > 0
    for composite, threshold in (("max", 0.4), ("max", 0.3), ("median", 0.5)):
        one = make_index_map("ndvi", composite, **where, threshold=threshold,
                             out=work / f"vegetation-{composite}-{threshold}")  # fmt: skip
        said = read(one.layers[-1] / "class.tif")
        rows.append([f"{composite} NDVI > {threshold:g}", *agreement(said == 1, truth, said != 255)])
    inside = change != 255
    moved = [["gained", *agreement(change == 2, truth & ~was, inside)],
             ["lost", *agreement(change == 3, was & ~truth, inside)]]  # fmt: skip
    monthly = make_task_map("aquatic-vegetation", region="vanern", period=str(YEAR), months=MONTHS, per_month=True,
                            out=work / "vegetation-months")  # fmt: skip
    months = []
    for layer in monthly.layers:
        name = layer.name.rsplit("-", 1)
        if "above" in layer.name and name[1].isdigit():
            said = read(layer / "class.tif")
            months.append([f"month {int(name[1])}", *agreement(said == 1, plants[int(name[1])], said != 255)])
    head = ["extent", "IoU", "precision", "recall"]
    return "\n\n".join([
        f"Simulated Vänern, {size_km:g} km, May to September {YEAR}; pixels in which green cover exceeds 0.4 in some "
        "month are the truth, within the water that the scenes of the year show.",
        "    geossl map --task aquatic-vegetation --region vanern --period 2020 --months 5-9 --against HISTORICAL.tif",
        table(head, [*rows, *moved, *months]),
    ])  # fmt: skip


def _wet(folder: Path) -> tuple[np.ndarray, list[date]]:
    """True water (date, y, x) bool of the months mapped, half of a pixel or more, and the days."""
    days = sorted(path.stem for path in (folder / "truth" / "water_fraction").glob("*.tif"))
    kept = [date.fromisoformat(day) for day in days if date.fromisoformat(day).month in SUMMER]
    return np.stack([read(folder / "truth" / "water_fraction" / f"{day}.tif") for day in kept]) > 100, kept


def surface_water(work: Path, size_km: float) -> str:
    """Frequency, seasons and dates at Vänern against the truth of all scenes' dates, hidden ones included."""
    folder = sandbox("vanern", size_km)
    wet, days = _wet(folder)
    made = make_task_map("surface-water", region="vanern", months=MONTHS, out=work / "surface-water")
    with rasterio.open(made.layers[0] / "value.tif") as source:
        share, first, last, *_ = source.read()
    found = read(made.layers[1] / "class.tif")
    truth = water_planes(torch.from_numpy(wet)[None], torch.ones(1, *wet.shape, dtype=torch.bool), days, 1)[0].numpy()
    classes = seasons(truth)
    median = make_index_map("mndwi", "median", region="vanern", months=MONTHS, out=work / "mndwi-median")
    once = np.where(read(median.layers[0] / "value.tif") > 0, 3, 0)
    one_date = np.where(once == 3, 1.0, 0.0)
    known = found != 255
    shore = known & (truth[0] > 0) & (truth[0] < 1)
    open_shore = shore & np.isin(read(folder / "truth" / "shore.tif"), [Shore.SAND, Shore.ROCK])
    parts = (known, shore, open_shore)
    rows = []
    for name, said, shares in (("**surface-water**", found, share), ("median MNDWI > 0 of all dates", once, one_date)):
        at = [float(f1_score(classes[where], said[where], average="macro")) for where in parts]
        off = [float(np.abs(shares - truth[0])[where].mean()) for where in parts]
        rows.append([name, *at, *off])
    both = open_shore & np.isfinite(first) & np.isfinite(truth[1])
    gap = [float(np.median(np.abs(said - true)[both])) for said, true in ((first, truth[1]), (last, truth[2]))]
    per_class = f1_score(classes[known], found[known], average=None, labels=range(4))
    names = ", ".join(f"{name} {value:.2f}" for (name, _), value in zip(SEASONS, per_class, strict=True))
    return "\n\n".join([
        f"Simulated Vänern, {size_km:g} km, {len(days)} dates of May to September; truth: half of a pixel or more "
        f"under water, on every date, cloudy ones too. Shore: {shore.sum()} pixels that are wet on some true dates and "
        f"dry on others, {open_shore.sum()} of them of sand or rock; in the rest reeds hide the water from the scenes.",
        "    geossl map --task surface-water --region vanern --months 5-9",
        table(["map", "macro F1 of seasons", "on the shore", "on shore without reeds", "mean error of the share",
               "on the shore", "on shore without reeds"], rows),
        f"F1 of each class: {names}. First and last date with water on shore without reeds: median "
        f"error {gap[0]:.0f} and {gap[1]:.0f} days (clouds hide the true ones).",
    ])  # fmt: skip


def true_zones(folder: Path) -> np.ndarray:
    """Zones of a coast (y, x) from the truth, by the definitions of the rule."""
    wet, _ = _wet(folder)
    share = wet.mean(0)
    cover, shore = read(folder / "truth" / "landcover.tif"), read(folder / "truth" / "shore.tif")
    at_times = (share > EDGE_SHARE) & (share < 1 - EDGE_SHARE)
    water = ~at_times & (share > 0.5)
    near = distance_transform_edt(~(water | at_times)) * 10 <= SHORE_M
    plants = ~water & ~at_times & near & ~np.isin(cover, [Cover.WATER, Cover.BUILT_UP, Cover.ROAD, Cover.CLEAR_CUT])
    plants |= at_times & (shore == Shore.REED)
    built = ~water & ~at_times & np.isin(cover, [Cover.BUILT_UP, Cover.ROAD])
    return np.select([water, plants, at_times, built], [1, 4, 2, 3], default=0)


def coastal_zone(work: Path, size_km: float) -> str:
    """Zones at both waters: the rule of thumb, and water and land alone beside it."""
    parts = []
    for region in ("vanern", "bohuslan"):
        truth = true_zones(sandbox(region, size_km))
        made = make_task_map("coastal-zone", region=region, months=MONTHS, out=work / f"coast-{region}")
        found = read(made.layers[1] / "class.tif")
        with rasterio.open(made.layers[0] / "value.tif") as source:
            plain = np.where(source.read(3) > 0, 1, 0)
        known = found != 255
        rows = []
        for name, said in (("**coastal-zone**", found), ("median MNDWI > 0: water or land", plain)):
            each = f1_score(truth[known], said[known], average=None, labels=range(5), zero_division=0)
            rows.append([name, *(float(value) for value in each), float(each.mean())])
        counts = ", ".join(f"{name} {(truth[known] == value).sum()}" for value, name in enumerate(ZONES))
        parts.append(f"{region}: true pixels {counts}.\n\n" + table(["F1", *ZONES, "mean"], rows))
    return "\n\n".join([
        f"Simulated coasts, {size_km:g} km, all years, May to September. Reed flats that are wet at times count as "
        "vegetated shore. Villages among gardens are not told by indices: their NDVI lies at 0.5, as of clear cuts.",
        "    geossl map --task coastal-zone --region vanern --months 5-9",
        *parts,
    ])  # fmt: skip


def shoreline_change(work: Path, size_km: float) -> str:
    """Change between two periods in which only the level differed, against the contour of the true elevation."""
    folder = sandbox("vanern", size_km)
    made = {}
    for name, period in (("earlier", EARLIER), ("later", LATER)):
        against = made["earlier"].layers[0] / "value.tif" if made else None
        made[name] = make_task_map("coastal-zone", region="vanern", months=MONTHS, period=period, against=against,
                                   out=work / f"coast-{name}")  # fmt: skip
    change = made["later"].change
    assert change is not None
    places = gpd.read_file(change / "places.gpkg", layer="places")
    levels = pd.read_csv(folder / "truth" / "levels.csv").set_index("date")["level_m"]
    medians = [float(levels[[str(day) for day in made[name].maps[0].dates]].median()) for name in ("earlier", "later")]
    with rasterio.open(folder / "truth" / "elevation.tif") as source:
        height, transform = source.read(1), source.transform
    lines = [shapely.union_all([shapely.linestrings(line) for line in shorelines(-height, transform, -level)])
             for level in medians]  # fmt: skip
    points = places.geometry.to_numpy()
    on_then = shapely.get_point(shapely.shortest_line(lines[0], points), 0)
    sign = -1.0 if medians[1] > medians[0] else 1.0  # higher water: less land
    true = sign * shapely.distance(on_then, lines[1])
    kind = read(folder / "truth" / "shore.tif")
    rows_px, columns_px = rasterio.transform.rowcol(transform, shapely.get_x(points), shapely.get_y(points))
    reeds = kind[np.asarray(rows_px, int), np.asarray(columns_px, int)] == Shore.REED
    told = places["certainty"].isin(["moved", "no certain change"]).to_numpy()
    compared = told & (np.abs(true) < 100) & (shapely.distance(points, lines[0]) < 30)
    rows = []
    for name, chosen in (("sand and rock", compared & ~reeds), ("reeds", compared & reeds)):
        off = places["change_m"].to_numpy()[chosen] - true[chosen]
        inside = float((np.abs(off) <= 1.96 * places["error_m"].to_numpy()[chosen]).mean())
        numbers = [np.sqrt((off**2).mean()), off.mean(), np.sqrt((true[chosen] ** 2).mean()), inside]
        rows.append([name, int(chosen.sum()), *map(float, numbers)])
    counts = places["certainty"].value_counts()
    columns = ["shore", "places", "RMSE, m", "bias, m", "RMSE of no change, m", "within 1.96 stated errors"]
    return "\n\n".join([
        f"Simulated Vänern, {size_km:g} km, {EARLIER} against {LATER}: median level of the mapped dates "
        f"{medians[0]:.2f} and {medians[1]:.2f} m, so the true line moved where the shore is flat; the ground itself "
        "did not. Truth: contours of the true elevation at both levels. Along reeds the line is that of the plants.",
        f"    geossl map --task coastal-zone --region vanern --months 5-9 --period {LATER} --against EARLIER/value.tif",
        table(columns, rows),
        f"All places: {', '.join(f'{name} {number}' for name, number in counts.items())}.",
    ])  # fmt: skip


def areal(work: Path, size_km: float) -> str:
    """Coverage of the intervals on a real map with real errors: the zones of the coast, their truth as reference."""
    truth = true_zones(sandbox("vanern", size_km))
    made = make_task_map("coastal-zone", region="vanern", months=MONTHS, out=work / "coast-vanern")
    found = read(made.layers[1] / "class.tif")
    known = found != 255
    found, truth = found[known], truth[known]
    strata = np.array([(found == value).sum() for value in range(5)])
    true = np.array([(truth == value).sum() for value in range(5)]) / 100
    wanted = np.minimum(allocate(POINTS, strata), strata)
    members = [np.flatnonzero(found == value) for value in range(5)]
    generator = np.random.default_rng(0)
    inside, width, error = np.zeros(5), np.zeros(5), []
    for _ in range(DRAWS):
        counts = np.zeros((5, 5))
        for value, number in enumerate(wanted):
            drawn = generator.choice(members[value], number, replace=False) if number else members[value][:0]
            counts[value] = np.bincount(truth[drawn], minlength=5)
        area = estimate_areas(counts, strata / 100).area
        inside += (area.low <= true) & (true <= area.high)
        width += (area.high - area.low) / 2 / DRAWS
        error.append(area.value - true)
    spread = np.sqrt(np.mean(np.square(error), 0))
    rows = [[name, float(true[n]), float(strata[n] / 100), float(strata[n] / 100 - true[n]), float(spread[n]),
             float(width[n]), f"{inside[n] / DRAWS:.1%}"] for n, name in enumerate(ZONES)]  # fmt: skip
    columns = [
        "class",
        "true ha",
        "pixel count, ha",
        "its error",
        "RMSE of design-based",
        "half width",
        "coverage of 95 %",
    ]
    return "\n\n".join([
        f"The map of zones of simulated Vänern ({size_km:g} km) with its own errors, and {DRAWS} samples of {POINTS} "
        "points drawn from it as `geossl areas --draw` does.",
        "    geossl areas LAYER --draw 300 --out sample.gpkg; geossl areas LAYER --sample sample.gpkg",
        table(columns, rows),
    ])  # fmt: skip


def coastal_head(work: Path, size_km: float) -> str:
    """Zones told by a head from 40 labelled points a class, on an untrained encoder, beside its controls."""
    folder = sandbox("vanern", size_km)
    truth = true_zones(folder)
    generator = np.random.default_rng(0)
    with rasterio.open(folder / "truth" / "landcover.tif") as source:
        transform, crs = source.transform, source.crs.to_wkt()
    rows, columns, names = [], [], []
    for value, name in enumerate(ZONES):
        y, x = np.nonzero(truth == value)
        drawn = generator.choice(len(y), min(LABELS, len(y)), replace=False)
        rows, columns, names = [*rows, *y[drawn]], [*columns, *x[drawn]], [*names, *[name] * len(drawn)]
    x, y = transform * (np.array(columns) + 0.5, np.array(rows) + 0.5)
    labels = work / "zones.gpkg"
    gpd.GeoDataFrame({"class": names}, geometry=gpd.points_from_xy(x, y), crs=crs).to_file(labels)
    made = _head("coastal-zone", "vanern", labels, work)
    return "\n\n".join([
        f"Simulated Vänern, {size_km:g} km, {LABELS} labelled points a class drawn from the truth; macro F1 on "
        "held-out blocks. The encoder is untrained: the rows show what colours and their surroundings tell.",
        "    geossl finetune --task coastal-zone --region vanern --months 5-9 --labels zones.gpkg --encoder DIR",
        _head_rows(made, "macro_f1"),
    ])  # fmt: skip


def _head(task: str, region: str, labels: Path, work: Path) -> FinetuneResult:
    bands = open_chips(build_tiles(region, months=MONTHS).store).bands
    encoder = random_encoder("resnet18", bands, [0.1] * len(bands), [0.1] * len(bands), seed=0)
    return finetune(task, encoder=encoder, region=region, months=MONTHS, labels=labels, out=work / f"head-{task}")


def _head_rows(made: FinetuneResult, figure: str) -> str:
    rows = []
    for one in made.rows:
        if one["labels_per_class"] is None:
            interval = one["interval"]  # None with a single test block
            text = "–" if interval is None else f"[{interval[0]:.3f}, {interval[1]:.3f}]"
            rows.append([one["row"], float(one[figure]), text])
    return table(["row", figure.replace("_", " "), "95 %"], rows)


def shallow_water(work: Path, size_km: float) -> str:
    """Depth from soundings in simulated Bohuslän: the head on an untrained encoder beside the two formulas."""
    folder = sandbox("bohuslan", size_km)
    made = _head("shallow-water", "bohuslan", folder / "labels" / "soundings.gpkg", work)
    return "\n\n".join([
        f"Simulated Bohuslän, {size_km:g} km; {made.labels['train']} training, {made.labels['val']} validation, "
        f"{made.labels['test']} test pixels whose bed is seen; metres. The encoder is "
        "untrained: the rows show what colours alone tell.",
        "    geossl finetune --task shallow-water --region bohuslan --months 5-9 --labels soundings.gpkg --encoder DIR",
        _head_rows(made, "rmse"),
    ])  # fmt: skip
