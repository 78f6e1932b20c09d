"""What is known of a lake or an archipelago and kept apart from its scenes.

truth/classes.json                  names, colours and codes of all classes, units, what each raster says
truth/landcover.tif                 uint8, classes.Cover; all that any level floods is water
truth/elevation.tif                 float32, metres above the datum: land and bed, means over 10 m
truth/elevation_2m.tif              int16, centimetres above the datum, cells of 2 m near the water's edge; else -32768
truth/shore.tif                     uint8, classes.Shore within 60 m of the edge at the mean level; 0 elsewhere
truth/levels.csv                    date, level_m: every day, without error
truth/optics.csv                    date, level_m, turbidity, secchi_m (means over the water), glint, kd_<band> in 1/m
truth/optics/<date>.csv             the same, one row each
truth/water_fraction/<date>.tif     uint8, 200 × share of the pixel under the level; 255 outside
truth/sky/<date>.tif                uint8: 0 no data, 1 clear, 2 cloud, 3 cloud shadow
lake:
truth/vegetation/<year>-<month>.tif uint8, classes.Aquatic: plants standing green out of the water at mid-month
archipelago:
truth/bottom.tif                    uint8, classes.Bottom; 0 on land
truth/depth.tif                     float32, metres below the mean level; NaN on land
truth/secchi/<date>.tif             uint8, tenths of a metre; 0 on land
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import numpy as np

from geossl.artefacts import atomic_file, write_json
from geossl.sandbox import aquatic, column
from geossl.sandbox.classes import (
    AQUATIC_COLOURS,
    BOTTOM_COLOURS,
    COVER_COLOURS,
    SHORE_COLOURS,
    Aquatic,
    Bottom,
    Cover,
    Shore,
    label,
)
from geossl.sandbox.dates import Acquisition
from geossl.sandbox.files import write_truth
from geossl.sandbox.landscape import Landscape
from geossl.sandbox.levels import Levels
from geossl.sandbox.render import Rendered
from geossl.sandbox.shoreline import CELL_M, NO_CELL
from geossl.sandbox.spec import Frame, SandboxSpec
from geossl.sandbox.spectra import BANDS
from geossl.sandbox.surface import WaterSurface
from geossl.sandbox.waterscape import Waterscape

FRACTION_SCALE = 200
OUTSIDE = 255
MONTHS = range(4, 11)
_SHORE_M = 60


def write_static(
    root: Path,
    spec: SandboxSpec,
    frame: Frame,
    land: Landscape,
    scape: Waterscape,
    stands: aquatic.Stands | None,
    levels: Levels,
) -> None:
    """The layers that do not depend on a scene, and the list of classes (written last)."""
    folder = root / "truth"
    write_truth(folder / "landcover.tif", land.cover, frame, nodata=0, overviews="mode", colours=COVER_COLOURS)
    write_truth(folder / "elevation.tif", scape.elevation, frame, overviews="average")
    cells = scape.cells.raster(frame.size)
    write_truth(folder / "elevation_2m.tif", cells, frame, nodata=NO_CELL, overviews="nearest", gsd_m=CELL_M)
    shore = np.where(np.abs(scape.distance) <= _SHORE_M, scape.shore, 0).astype(np.uint8)
    write_truth(folder / "shore.tif", shore, frame, nodata=0, overviews="mode", colours=SHORE_COLOURS)
    days = [((levels.first + timedelta(days=n)).isoformat(), f"{v:.4f}") for n, v in enumerate(levels.metres)]
    write_csv(folder / "levels.csv", ("date", "level_m"), days)
    if stands is not None:
        for year in spec.years:
            for month in MONTHS:
                write_truth(
                    folder / "vegetation" / f"{year}-{month:02d}.tif",
                    aquatic.extent(stands, spec.seed, year, month),
                    frame,
                    overviews="mode",
                    colours=AQUATIC_COLOURS,
                )
    if scape.layout == "archipelago":
        write_truth(folder / "bottom.tif", scape.bottom(), frame, nodata=0, overviews="mode", colours=BOTTOM_COLOURS)
        depth = np.where(scape.depth > 0, scape.depth, np.nan).astype(np.float32)
        write_truth(folder / "depth.tif", depth, frame, nodata=float("nan"), overviews="average")
    write_json(folder / "classes.json", _classes(spec, scape))


def _classes(spec: SandboxSpec, scape: Waterscape) -> dict[str, object]:
    facts: dict[str, object] = {
        "landcover": {label(kind): int(kind) for kind in Cover},
        "landcover_colours": {label(kind): COVER_COLOURS[kind][:3] for kind in Cover},
        "shore": {label(kind): int(kind) for kind in Shore},
        "sky": {"no data": 0, "clear": 1, "cloud": 2, "cloud shadow": 3},
        "water_fraction_scale": FRACTION_SCALE,
        "mean_level_m": scape.level_m,
        "lowest_and_highest_level_m": [round(scape.low_m, 4), round(scape.high_m, 4)],
    }
    if scape.layout == "lake":
        facts["vegetation"] = {"none": 0, **{label(kind): int(kind) for kind in Aquatic}}
        facts["vegetation_from_share"] = aquatic.VISIBLE
        facts["vegetation_months"] = list(MONTHS)
        facts["historical_period"] = aquatic.HISTORICAL
    else:
        facts["bottom"] = {label(kind): int(kind) for kind in Bottom}
        facts["bottom_colours"] = {label(kind): BOTTOM_COLOURS[kind][:3] for kind in Bottom}
        facts["secchi_scale"] = 10
    return facts


def write_csv(path: Path, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A CSV in UTF-8 with a header, atomically."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    with atomic_file(path) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")


def write_dated(root: Path, frame: Frame, scene: Acquisition, rendered: Rendered, surface: WaterSurface) -> None:
    """Water, sky and clearness of one date."""
    folder, name = root / "truth", f"{scene.date}.tif"
    share = np.rint(surface.wet * FRACTION_SCALE).astype(np.uint8)
    write_truth(folder / "water_fraction" / name, share, frame, nodata=OUTSIDE, overviews="nearest")
    write_truth(folder / "sky" / name, rendered.sky, frame, nodata=0, overviews="mode")
    if surface.scape.layout == "archipelago":
        metres = column.secchi(surface.optics.turbidity, surface.optics.yellow)
        tenths = np.where(surface.wet > 0, np.clip(np.rint(metres * 10), 1, 254), 0).astype(np.uint8)
        write_truth(folder / "secchi" / name, tenths, frame, nodata=0, overviews="nearest")
    write_csv(folder / "optics" / f"{scene.date}.csv", _OPTICS_HEAD, [_optics_row(scene, surface)])


_OPTICS_HEAD = ("date", "level_m", "turbidity", "secchi_m", "glint", *(f"kd_{band.key}" for band in BANDS[:8]))


def _optics_row(scene: Acquisition, surface: WaterSurface) -> tuple[str, ...]:
    """Means over what is under water."""
    water = surface.wet > 0.99
    turbidity, yellow = float(surface.optics.turbidity[water].mean()), surface.optics.yellow
    return (
        scene.date,
        f"{surface.level_m:.4f}",
        f"{turbidity:.3f}",
        f"{float(column.secchi(turbidity, yellow)):.2f}",
        f"{float(surface.glint[water].mean()):.4f}",
        *(f"{float(column.attenuation(turbidity, yellow, n)):.3f}" for n in range(8)),
    )


def gather_optics(root: Path, scenes: list[Acquisition]) -> None:
    """``truth/optics.csv`` from the rows that each scene has left."""
    rows = []
    for scene in scenes:
        with (root / "truth" / "optics" / f"{scene.date}.csv").open(encoding="utf-8", newline="") as file:
            rows += [tuple(row) for row in csv.reader(file)][1:]
    write_csv(root / "truth" / "optics.csv", _OPTICS_HEAD, rows)
