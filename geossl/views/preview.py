"""A picture of chips and their views, and figures on what views do to pixels: to look at before hours of training."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from geossl.report.plots import PALETTE, composite_bands, stretch_limits, true_colour
from geossl.views.boxes import box_corners
from geossl.views.fused import apply_view, resample
from geossl.views.params import ViewParams, draw_params
from geossl.views.recipe import Recipe

_FALSE_COLOURS = (
    ("nir", "red", "green"),
    ("nir08", "red", "green"),
    ("swir16", "nir", "red"),
    ("swir16", "nir", "green"),
)
_PANEL, _GAP, _HEAD, _MARGIN, _LINE = 2.05, 0.14, 0.24, 0.55, 0.135
"""Inches: side of a picture, space between two, above the pictures of a chip, at the border, and of a line of text."""
_TITLE, _AFTER, _WRAP = 0.5, 0.3, 40
_INVALID = "#e0218a"


@dataclass(frozen=True)
class PreviewView:
    """One view of each of ``n`` chips: ``values`` (n, band, s, s) reflectance, ``valid`` (n, s, s) bool (the view rests
    on clear pixels), and how it was made."""

    name: str
    values: np.ndarray
    valid: np.ndarray
    params: ViewParams
    recipe: Recipe


@dataclass(frozen=True)
class PixelShares:
    """What views do to pixels, as shares of all view pixels (``zero`` and ``outside``: of pixels times bands)."""

    zero: float
    """Exactly 0: what clamping leaves behind, so 0 unless the chips hold zeros."""
    invalid: float
    """Resting on invalid pixels, filled with the mean of the view's valid ones."""
    outside: float
    """Below the lowest or above the highest clear value of the same band of the chip."""


def preview_views(
    values: Tensor, clear: Tensor, recipe: Recipe, generator: torch.Generator, n_views: int = 2
) -> list[PreviewView]:
    """What :func:`make_views` and then :func:`make_small_views` give with this generator, and how it was made."""
    wanted = [(f"view {i + 1}", i, recipe.of_view(i)) for i in range(n_views)]
    wanted += [(f"small view {i + 1}", i, recipe.of_small()) for i in range(recipe.small_views)]
    views = []
    with torch.no_grad():
        for name, number, one in wanted:
            params = draw_params(clear, values.shape[1], one, generator, number)
            view = apply_view(values, clear, params, one)
            _, valid = resample(values, clear, params, one.size)
            lit = torch.ones_like(view[:, 0], dtype=torch.bool) if valid is None else valid.view_as(view[:, 0])
            views.append(PreviewView(name, view.cpu().numpy(), lit.cpu().numpy(), params, one))
    return views


def pixel_shares(values: np.ndarray, clear: np.ndarray, views: Sequence[PreviewView]) -> PixelShares:
    """How many pixels of the views are zero, invalid, or outside the range that their chip (n, band, y, x) had."""
    lit = np.where(clear[:, None] & np.isfinite(values), values, np.nan)
    with np.errstate(all="ignore"):
        low = np.nan_to_num(np.nanmin(lit, axis=(2, 3), initial=np.inf, where=np.isfinite(lit)), posinf=0.0)
        high = np.nan_to_num(np.nanmax(lit, axis=(2, 3), initial=-np.inf, where=np.isfinite(lit)), neginf=0.0)
    zero = invalid = outside = pixels = places = 0
    for view in views:
        zero += int((view.values == 0).sum())
        beyond = (view.values < low[:, :, None, None] - 1e-6) | (view.values > high[:, :, None, None] + 1e-6)
        outside += int(beyond.sum())
        invalid += int((~view.valid).sum())
        pixels += view.values.size
        places += view.valid.size
    return PixelShares(zero / pixels, invalid / places, outside / pixels)


def describe_view(view: PreviewView, i: int, bands: Sequence[str], chip_px: tuple[int, int]) -> list[str]:
    """The parameters of chip ``i``'s view in words, one statement a line."""
    params, recipe = view.params, view.recipe
    top, left, bottom, right = params.box[i].tolist()
    area = (bottom - top + 1) * (right - left + 1) / (chip_px[0] * chip_px[1])
    turns = [f"tilted {math.degrees(float(params.angle[i])):+.0f}°"] if params.angle is not None else []
    turns += [f"turned {90 * int(params.turns[i])}°"] if int(params.turns[i]) else []
    turns += ["mirrored"] if bool(params.flip[i]) else []
    gain = params.gain[i].log()
    lowest, highest = int(gain.argmin()), int(gain.argmax())
    extremes = ", ".join(f"{bands[b]} {_percent(gain[b])}" for b in (lowest, highest) if lowest != highest)
    lines = [
        ", ".join([f"crop {area:.0%} of the chip", *turns]),
        f"gain {_percent(gain.mean())}{extremes and f' ({extremes})'}",
        f"contrast ×{float(params.contrast[i]):.2f}, offset {float(params.offset[i]):+z.3f}",
    ]
    extras = [f"band dropped: {bands[int(params.drop[i])]}"] if int(params.drop[i]) >= 0 else []
    extras += ["gray"] if _within(params.gray, i) else []
    if params.haze is not None:
        extras.append(f"haze lets {float(params.haze[i].min()):.0%} to {float(params.haze[i].max()):.0%} pass")
    extras += ["cloud and shadow"] if params.cloud is not None and _within(params.clouded, i) else []
    extras += [f"pixels ×{float(params.gsd[i]):.2f}"] if params.gsd is not None else []
    extras += [f"blur {float(params.sigma[i]):.1f} px"] if _within(params.blur, i) else []
    extras += [f"noise {recipe.noise:g}"] if params.noise is not None else []
    return [*lines, ", ".join(extras)] if extras else lines


def _within(part: slice, i: int) -> bool:
    return bool(part.start <= i < part.stop)


def _percent(log_gain: Tensor) -> str:
    return f"{round(100 * math.expm1(float(log_gain))):+d}\N{NO-BREAK SPACE}%"


@dataclass(frozen=True)
class _Sheet:
    """A figure with its pictures on a grid: ``column`` counts from the left, ``down`` is inches from the top."""

    figure: Figure

    def axes(self, column: int, down: float, tall: float) -> Axes:
        wide, high = self.figure.get_size_inches()
        left = _MARGIN + column * (_PANEL + _GAP)
        axes = self.figure.add_axes((left / wide, 1 - (down + tall) / high, _PANEL / wide, tall / high))
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        return axes

    def text(self, column: int, down: float, text: str, size: float) -> None:
        wide, high = self.figure.get_size_inches()
        left = _MARGIN + column * (_PANEL + _GAP)
        self.figure.text(left / wide, 1 - down / high, text, fontsize=size, va="top", linespacing=1.25)


def draw_preview(
    values: np.ndarray,
    clear: np.ndarray,
    bands: Sequence[str],
    views: Sequence[PreviewView],
    names: Sequence[Sequence[str]],
    shown: Sequence[int],
    title: str,
) -> Figure:
    """Chips (n, band, y, x) and their views: in true colour, in false colour, band by band, parameters underneath.

    ``shown`` are the chips drawn, ``names`` lines of text to each of them. One scale a band over all pictures, set by
    the chips, so that views look as bright as they are. Boxes in a chip show where its views lie; a dashed line rings
    the pixels of a view that are invalid.
    """
    chips = np.where(clear[:, None], values, np.nan)[list(shown)]
    ways = [(label, way, stretch_limits(_pick(chips, bands, way))) for label, way in _ways(bands)]
    limits = np.array([_range(chips[:, b]) for b in range(len(bands))])
    texts = [
        [_wrapped(lines), *(_wrapped(describe_view(view, i, bands, clear.shape[1:])) for view in views)]
        for i, lines in zip(shown, names, strict=True)
    ]
    rows, columns = _grid_shape(len(bands))
    band_tall = _PANEL * rows / columns
    text_tall = _LINE * max(len(text) for row in texts for text in row)
    group = _HEAD + len(ways) * (_PANEL + _GAP) + band_tall + text_tall + _AFTER
    wide = _MARGIN + (1 + len(views)) * (_PANEL + _GAP)
    sheet = _Sheet(Figure(figsize=(wide, _TITLE + group * len(shown)), dpi=130, label=title))
    sheet.text(0, 0.15, title, 11)
    for k, i in enumerate(shown):
        for column, view in enumerate([None, *views]):
            image, lit = (chips[k], clear[i]) if view is None else (view.values[i], view.valid[i])
            down = _TITLE + k * group + _HEAD
            for number, (label, way, limit) in enumerate(ways):
                panel = sheet.axes(column, down, _PANEL)
                picture = true_colour(_pick(image, bands, way), ("red", "green", "blue"), limit)
                panel.imshow(picture, interpolation="nearest", aspect="auto")
                if view is None:
                    _draw_boxes(panel, views, i)
                    panel.set_ylabel(f"{label}\n{', '.join(dict.fromkeys(way))}", fontsize=8)
                elif not lit.all():
                    panel.contour(lit.astype(float), [0.5], colors=_INVALID, linewidths=0.9, linestyles="dashed")
                if number == 0:
                    colour = "black" if view is None else _colour(column - 1)
                    name = f"chip {k + 1}" if view is None else view.name
                    panel.set_title(name, fontsize=9, pad=4, color=colour, weight="bold")
                down += _PANEL + _GAP
            panel = sheet.axes(column, down, band_tall)
            _draw_bands(panel, image, bands, limits)
            if view is None:
                panel.set_ylabel("band by band", fontsize=8)
            sheet.text(column, down + band_tall + 0.06, "\n".join(texts[k][column]), 6.8)
    return sheet.figure


def _ways(bands: Sequence[str]) -> list[tuple[str, tuple[str, ...]]]:
    """Composites there are bands for, by name: true colour and false colour, or whatever shows most."""
    first = composite_bands(bands)
    kind = (
        "true colour" if first == ("red", "green", "blue") else "false colour" if first[0] != first[1] else "one band"
    )
    others = [way for way in _FALSE_COLOURS if way != first and set(way) <= set(bands)]
    return [(kind, first), *(("false colour", way) for way in others[:1])]


def _colour(number: int) -> str:
    return PALETTE[number % len(PALETTE)]


def _pick(images: np.ndarray, bands: Sequence[str], way: Sequence[str]) -> np.ndarray:
    return np.stack([images[..., list(bands).index(name), :, :] for name in way], axis=-3)


def _range(values: np.ndarray) -> tuple[float, float]:
    seen = values[np.isfinite(values)]
    low, high = np.percentile(seen, [1, 99]) if seen.size else (0.0, 1.0)
    return float(low), float(max(high, low + 1e-6))


def _grid_shape(count: int) -> tuple[int, int]:
    """Rows and columns of small pictures of the bands."""
    columns = min(3, math.ceil(math.sqrt(count)))
    return math.ceil(count / columns), columns


def _wrapped(lines: Sequence[str]) -> list[str]:
    """Lines short enough for a picture's width, broken between statements where that will do."""
    held = [", ".join(part.replace(" ", "\N{NO-BREAK SPACE}") for part in line.split(", ")) for line in lines]
    return [part for line in held for part in textwrap.wrap(line, _WRAP, break_long_words=True)]


def _draw_boxes(panel: Axes, views: Sequence[PreviewView], i: int) -> None:
    for number, view in enumerate(views):
        angle = None if view.params.angle is None else view.params.angle[i : i + 1]
        corners = box_corners(view.params.box[i : i + 1], angle)[0].cpu().numpy()
        around = np.concatenate([corners, corners[:1]])
        panel.plot(around[:, 0], around[:, 1], color=_colour(number), linewidth=1.4)


def _draw_bands(panel: Axes, image: np.ndarray, bands: Sequence[str], limits: np.ndarray) -> None:
    """The bands of one image (band, y, x) in gray, side by side in one picture, each with its name."""
    rows, columns = _grid_shape(len(bands))
    height, width = image.shape[1:]
    sheet = np.ones((rows * height, columns * width, 3))
    for b, values in enumerate(image):
        y, x = divmod(b, columns)
        gray = np.clip((values - limits[b, 0]) / (limits[b, 1] - limits[b, 0]), 0, 1)
        sheet[y * height : (y + 1) * height, x * width : (x + 1) * width] = np.nan_to_num(gray, nan=0.8)[..., None]
        panel.text(
            (x + 0.04) * width,
            (y + 0.95) * height,
            bands[b],
            fontsize=5.5,
            color="white",
            bbox={"facecolor": "black", "alpha": 0.5, "pad": 0.8, "linewidth": 0},
        )
    panel.imshow(sheet, interpolation="nearest", aspect="auto")
    for y in range(1, rows):
        panel.axhline(y * height - 0.5, color="white", linewidth=1.2)
    for x in range(1, columns):
        panel.axvline(x * width - 0.5, color="white", linewidth=1.2)
