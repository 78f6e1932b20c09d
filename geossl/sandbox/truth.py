"""What is known of a sandbox and kept apart from its scenes: land cover, parcels, heights, stress and drought.

truth/classes.json                 names and colours of all codes, thresholds
truth/landcover.tif                uint8, classes.Cover
truth/parcels.tif                  uint32, number of the field, stand, lake, … of each pixel
truth/elevation.tif                float32, metres
truth/crops/<year>.tif             uint8, classes.Crop; 0 where nothing is farmed
truth/stress/<date>.tif            uint8, 200 × stress of the vegetation; 255 where there is none
truth/drought/<date>.tif           uint8, classes.Drought; 255 not applicable
truth/sky/<date>.tif               uint8: 0 no data, 1 clear, 2 cloud, 3 cloud shadow
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from geossl.artefacts import write_json
from geossl.sandbox import seasons
from geossl.sandbox.classes import COVER_COLOURS, DROUGHT_COLOURS, NOT_APPLICABLE, Cover, Crop, Drought, label
from geossl.sandbox.dates import Acquisition
from geossl.sandbox.files import write_truth
from geossl.sandbox.landscape import Landscape
from geossl.sandbox.render import Rendered
from geossl.sandbox.spec import Frame, SandboxSpec

STRESS_SCALE = 200


def write_static_truth(root: Path, spec: SandboxSpec, frame: Frame, land: Landscape) -> None:
    """The layers that do not change with the date, and the list of classes (written last)."""
    folder = root / "truth"
    write_truth(folder / "landcover.tif", land.cover, frame, nodata=0, overviews="mode", colours=COVER_COLOURS)
    write_truth(folder / "parcels.tif", land.number.astype(np.uint32), frame)
    write_truth(folder / "elevation.tif", land.elevation, frame, overviews="average")
    for year in spec.years:
        crops = land.objects.crops(year)[land.number]
        crops[land.cover != Cover.ARABLE] = 0
        write_truth(folder / "crops" / f"{year}.tif", crops, frame, nodata=0, overviews="mode")
    classes = {
        "landcover": {label(kind): int(kind) for kind in Cover},
        "landcover_colours": {label(kind): COVER_COLOURS[kind][:3] for kind in Cover},
        "crops": {label(kind): int(kind) for kind in Crop},
        "drought": {label(kind): int(kind) for kind in Drought},
        "drought_colours": {label(kind): DROUGHT_COLOURS[kind][:3] for kind in Drought},
        "drought_thresholds": {
            "moderate": seasons.MODERATE,
            "severe": seasons.SEVERE,
            "of": "stress above the mean of the same soil, class and day of the year in 24 other, normal years",
        },
        "not_applicable": NOT_APPLICABLE,
        "stress_scale": STRESS_SCALE,
        "sky": {"no data": 0, "clear": 1, "cloud": 2, "cloud shadow": 3},
        "same_spectrum_different_texture": [label(Cover.PINE), label(Cover.PLANTATION)],
    }
    write_json(folder / "classes.json", classes)


def is_static_truth_written(root: Path) -> bool:
    """Whether the layers that do not change with the date are all there."""
    return (root / "truth" / "classes.json").is_file()


def write_dated_truth(root: Path, frame: Frame, acquisition: Acquisition, rendered: Rendered) -> None:
    """Stress, drought and sky of one date."""
    folder, name = root / "truth", f"{acquisition.date}.tif"
    stress = np.rint(np.clip(rendered.moisture.stress, 0, 1) * STRESS_SCALE).astype(np.uint8)
    stress[~rendered.vegetated] = NOT_APPLICABLE
    drought = seasons.drought_classes(rendered.moisture.anomaly, rendered.vegetated)
    write_truth(folder / "stress" / name, stress, frame, nodata=NOT_APPLICABLE, overviews="nearest")
    write_truth(
        folder / "drought" / name, drought, frame, nodata=NOT_APPLICABLE, overviews="mode", colours=DROUGHT_COLOURS
    )
    write_truth(folder / "sky" / name, rendered.sky, frame, nodata=0, overviews="mode")
