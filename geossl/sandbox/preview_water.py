"""``preview.png`` of a lake or an archipelago: four dates in true and false colour with the truth beside them."""

from __future__ import annotations

from enum import IntEnum
from pathlib import Path

import numpy as np
from scipy import ndimage

from geossl.artefacts import atomic_file
from geossl.sandbox.classes import (
    AQUATIC_COLOURS,
    BOTTOM_COLOURS,
    COVER_COLOURS,
    Aquatic,
    Bottom,
    Cover,
    label,
)
from geossl.sandbox.dates import Acquisition
from geossl.sandbox.files import read_raster
from geossl.sandbox.preview import colours, painted
from geossl.sandbox.scenes import scene_folder
from geossl.sandbox.spec import Frame, SandboxSpec

_TRUE = (("red", 0.19), ("green", 0.17), ("blue", 0.15))
_FALSE = (("nir", 0.50), ("red", 0.20), ("green", 0.18))
_WATER = (("red", 0.075), ("green", 0.085), ("blue", 0.080))
_PIXELS = 640
_DETAIL_PX = 240
_DRY = (225, 215, 190)


def choose_dates(scenes: list[Acquisition]) -> list[Acquisition]:
    """Four dates: spring, early and high summer, autumn; the clearest of each."""
    picks: list[Acquisition] = []
    for first, last in ((100, 146), (147, 190), (191, 240), (241, 300)):
        wanted = [scene for scene in scenes if first <= scene.day <= last]
        picks += sorted(
            wanted, key=lambda scene: (scene.edge, scene.cover + scene.cirrus + 0.3 * scene.haze, scene.number)
        )[:1]
    return picks or scenes[:1]


def write_preview(root: Path, spec: SandboxSpec, frame: Frame, scenes: list[Acquisition]) -> Path:
    """Draw the picture; returns its path."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    shrink, truth = max(1, frame.size // _PIXELS), root / "truth"
    dates = choose_dates(scenes)
    lake = spec.layout == "lake"
    kinds, table, layer = _plants(spec) if lake else (Bottom, BOTTOM_COLOURS, "bottom.tif")
    found = read_raster(truth / layer)
    window = _busiest(np.isin(found, (Aquatic.REED, Aquatic.FLOATING) if lake else (Bottom.SEAGRASS,)))
    near = f"{(window[0].stop - window[0].start) / 100:g} km"
    closer = f"near infrared, red, green: {near}" if lake else f"true colour, water brightened: {near}"
    rows = ("true colour", "near infrared, red, green", closer)
    figure = Figure(figsize=(4.2 * (len(dates) + 1), 13.2), layout="constrained")
    axes = figure.subplots(3, len(dates) + 1, squeeze=False)
    for number, scene in enumerate(dates):
        folder = scene_folder(root, scene.id)
        detail = colours(folder, _FALSE if lake else _WATER, 1)[window]
        pictures = (colours(folder, _TRUE, shrink), colours(folder, _FALSE, shrink), detail)
        for row, picture in enumerate(pictures):
            axes[row][number].imshow(picture, interpolation="antialiased")
            axes[row][number].set_title(scene.date if row == 0 else rows[row], fontsize=11)
    cover = read_raster(truth / "landcover.tif", shrink)
    axes[0][-1].imshow(painted(cover, COVER_COLOURS), interpolation="nearest")
    axes[0][-1].set_title("truth: land cover", fontsize=11)
    level = spec.water.level_m if spec.water else 0.0
    axes[1][-1].imshow(_depths(level - read_raster(truth / "elevation.tif", shrink)), interpolation="nearest")
    axes[1][-1].set_title("truth: depth, 0 to 15 m", fontsize=11)
    whole = read_raster(truth / "landcover.tif")
    _paint(axes[2][-1], found[window], whole[window], table)
    axes[2][-1].set_title(f"truth: {layer.removesuffix('.tif')}", fontsize=11)
    patches = [Patch(color=tuple(part / 255 for part in table[kind][:3]), label=label(kind)) for kind in kinds]
    axes[2][-1].legend(handles=patches, loc="upper left", fontsize=9)
    for axis in axes.ravel():
        axis.set_axis_off()
    figure.suptitle(f"{spec.title} ({frame.size * 10 / 1000:g} km a side, seed {spec.seed}); simulated", fontsize=13)
    path = root / "preview.png"
    with atomic_file(path) as temporary:
        figure.savefig(temporary, dpi=80, format="png")
    return path


def _plants(spec: SandboxSpec) -> tuple[type[IntEnum], dict[int, tuple[int, int, int, int]], str]:
    """Classes, colours and file of the plants in the last summer."""
    return Aquatic, AQUATIC_COLOURS, f"vegetation/{spec.years[-1]}-08.tif"


def _busiest(mask: np.ndarray) -> tuple[slice, slice]:
    """The window of 2.4 km (or all of a smaller square) in which most of a mask lies."""
    side = min(_DETAIL_PX, mask.shape[0])
    share = ndimage.uniform_filter(mask.astype(np.float32), side, mode="constant")
    inner = slice(side // 2, mask.shape[0] - side + side // 2 + 1)
    row, column = np.unravel_index(int(np.argmax(share[inner, inner])), share[inner, inner].shape)
    return slice(int(row), int(row) + side), slice(int(column), int(column) + side)


def _depths(depth: np.ndarray) -> np.ndarray:
    """Depth as shades of blue, land in one colour; (y, x, 3) float in 0…1."""
    shade = np.clip(depth / 15, 0, 1)[..., None]
    blue = (1 - shade) * np.array([0.86, 0.95, 0.95]) + shade * np.array([0.03, 0.15, 0.38])
    return np.where(depth[..., None] > 0, blue, np.array(_DRY) / 255)


def _paint(axis: object, kinds: np.ndarray, cover: np.ndarray, table: dict[int, tuple[int, int, int, int]]) -> None:
    """Classes over land in one colour and water in pale blue."""
    ground = np.where((cover == Cover.WATER)[..., None], (214, 230, 240), _DRY).astype(np.uint8)
    picture = np.where((kinds > 0)[..., None], painted(kinds, table), ground)
    axis.imshow(picture, interpolation="nearest")  # type: ignore[attr-defined]
