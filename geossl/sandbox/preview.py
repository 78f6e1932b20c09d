"""``preview.png``: four dates of a sandbox in true and false colour with the truth beside them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from geossl.artefacts import atomic_file
from geossl.sandbox.classes import COVER_COLOURS, DROUGHT_COLOURS, Cover, Drought, label
from geossl.sandbox.dates import Acquisition
from geossl.sandbox.files import read_raster
from geossl.sandbox.scenes import scene_folder
from geossl.sandbox.spec import Frame, SandboxSpec

_TRUE = (("red", 0.21), ("green", 0.19), ("blue", 0.17))
_FALSE = (("nir", 0.52), ("red", 0.20), ("green", 0.18))
_PIXELS = 640


def choose_dates(spec: SandboxSpec, scenes: list[Acquisition]) -> list[Acquisition]:
    """Four dates that show most: a spring, a normal summer, the summers of the dry years; the clearest of each."""

    def clearest(wanted: list[Acquisition]) -> list[Acquisition]:
        return sorted(wanted, key=lambda scene: (scene.edge, scene.cover + scene.cirrus, scene.number))[:1]

    dry = {year for year, kind in spec.dry_years.items() if kind == "severe"} or set(spec.dry_years)
    others = set(spec.dry_years) - dry
    summer = [scene for scene in scenes if 172 <= scene.day <= 212]
    picks = [
        *clearest([scene for scene in scenes if 128 <= scene.day <= 160 and scene.datetime.year not in dry]),
        *clearest([scene for scene in summer if scene.datetime.year not in spec.dry_years]),
        *clearest([scene for scene in summer if scene.datetime.year in dry]),
        *clearest([scene for scene in scenes if 180 <= scene.day <= 250 and scene.datetime.year in others]),
    ]
    spare = [scene for scene in scenes if scene not in picks]
    picks += spare[: max(0, 4 - len(picks))]
    return sorted(picks, key=lambda scene: scene.datetime)


def colours(folder: Path, bands: tuple[tuple[str, float], ...], shrink: int) -> np.ndarray:
    """A picture of a scene, (y, x, 3) float in 0…1; each band is stretched to its reflectance."""
    layers = []
    for band, top in bands:
        stored = read_raster(folder / f"{band}.tif", shrink).astype(np.float32)
        value = np.clip((stored / 10000 - 0.1) / top, 0, 1) ** (1 / 1.25)
        layers.append(np.where(stored == 0, 0, value))
    return np.stack(layers, -1)


def painted(values: np.ndarray, table: dict[int, tuple[int, int, int, int]]) -> np.ndarray:
    """Classes in their colours, (y, x, 3) uint8; white where a class has none."""
    palette = np.full((256, 3), 255, np.uint8)
    for value, colour in table.items():
        palette[value] = colour[:3] if colour[3] else (236, 236, 236)
    return palette[values]


def write_preview(root: Path, spec: SandboxSpec, frame: Frame, scenes: list[Acquisition]) -> Path:
    """Draw the picture; returns its path."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    shrink = max(1, frame.size // _PIXELS)
    dates = choose_dates(spec, scenes)
    rows = ("true colour", "near infrared, red, green", "truth: drought")
    figure = Figure(figsize=(4.2 * (len(dates) + 1), 13.2), layout="constrained")
    axes = figure.subplots(3, len(dates) + 1, squeeze=False)
    for column, scene in enumerate(dates):
        folder = scene_folder(root, scene.id)
        drought = read_raster(root / "truth" / "drought" / f"{scene.date}.tif", shrink)
        pictures = (
            colours(folder, _TRUE, shrink),
            colours(folder, _FALSE, shrink),
            painted(drought, DROUGHT_COLOURS),
        )
        for row, picture in enumerate(pictures):
            axes[row][column].imshow(picture, interpolation="antialiased")
            axes[row][column].set_title(scene.date if row == 0 else rows[row], fontsize=11)
    cover = painted(read_raster(root / "truth" / "landcover.tif", shrink), COVER_COLOURS)
    axes[0][-1].imshow(cover, interpolation="nearest")
    axes[0][-1].set_title("truth: land cover", fontsize=11)
    legends: list[tuple[object, list[tuple[str, tuple[int, ...]]]]] = [
        (axes[1][-1], [(label(kind), COVER_COLOURS[kind]) for kind in Cover]),
        (axes[2][-1], [(f"drought: {label(kind)}", DROUGHT_COLOURS[kind]) for kind in Drought]),
    ]
    for axis, entries in legends:
        patches = [Patch(color=tuple(part / 255 for part in colour[:3]), label=name) for name, colour in entries]
        axis.legend(handles=patches, loc="upper left", frameon=False, fontsize=11)  # type: ignore[attr-defined]
    for axis in axes.ravel():
        axis.set_axis_off()
    figure.suptitle(f"{spec.title} ({frame.size * 10 / 1000:g} km a side, seed {spec.seed}); simulated", fontsize=13)
    path = root / "preview.png"
    with atomic_file(path) as temporary:
        figure.savefig(temporary, dpi=80, format="png")
    return path
