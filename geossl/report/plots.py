"""Figures from arrays and tables: curves, bars, chips in true colour, maps of an embedding, nearest neighbours.

Every function returns a ``matplotlib.figure.Figure`` made without pyplot: nothing global, no backend, no window.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.offsetbox import AnnotationBbox, OffsetImage

PALETTE = ("#1f6f54", "#c2571a", "#3b5fa3", "#a3387a", "#8a7a1d", "#2a8fa8", "#7a4fa0", "#666666")
_NO_DATA = 200
_COMPOSITES = (("red", "green", "blue"), ("nir", "red", "green"), ("nir08", "red", "green"), ("swir16", "nir", "red"))


def composite_bands(bands: Sequence[str]) -> tuple[str, str, str]:
    """The bands shown as red, green and blue: true colour where there, else a false-colour set, else one in gray."""
    for names in _COMPOSITES:
        if all(name in bands for name in names):
            return names
    return (bands[0],) * 3


def stretch_limits(values: np.ndarray, low: float = 1.0, high: float = 99.0) -> np.ndarray:
    """Percentiles of each of the three shown bands over all pictures: (3, 2), for several figures on one scale.

    ``values``: (..., 3, y, x) with NaN where invalid.
    """
    bands = np.moveaxis(values, -3, 0).reshape(3, -1)
    limits = np.zeros((3, 2))
    for i, band in enumerate(bands):
        clear = band[np.isfinite(band)]
        limits[i] = np.percentile(clear, [low, high]) if clear.size else (0.0, 1.0)
    span = limits[:, 1] - limits[:, 0]
    limits[:, 1] = limits[:, 0] + np.where(span > 0, span, 1.0)
    return limits


def true_colour(values: np.ndarray, bands: Sequence[str], limits: np.ndarray | None = None) -> np.ndarray:
    """Reflectance (..., band, y, x) as 8-bit pictures (..., y, x, 3); NaN becomes light gray.

    Each shown band is stretched between its 1st and 99th percentile over all pictures given (or ``limits`` (3, 2)
    of :func:`stretch_limits`), with gamma 0.8 to open dark water and forest.
    """
    shown = np.stack([values[..., list(bands).index(name), :, :] for name in composite_bands(bands)], axis=-3)
    limits = stretch_limits(shown) if limits is None else limits
    low, high = limits[:, 0, None, None], limits[:, 1, None, None]
    scaled = np.clip((shown - low) / (high - low), 0, 1) ** 0.8
    missing = ~np.isfinite(shown).all(axis=-3)
    picture = np.moveaxis(np.nan_to_num(255 * scaled), -3, -1).astype(np.uint8)
    picture[missing] = _NO_DATA
    return picture


def lines(
    x: Sequence[float] | np.ndarray,
    series: Mapping[str, Sequence[float] | np.ndarray],
    xlabel: str = "step",
    ylabel: str = "",
    title: str = "",
    markers: bool = False,
) -> Figure:
    """Curves over a common x; NaN values (a quantity not measured at that step) are skipped."""
    figure = Figure(figsize=(5.4, 3.2), layout="constrained", label=title or ylabel)
    axes = figure.add_subplot()
    for i, (name, values) in enumerate(series.items()):
        y = np.asarray(values, dtype=float)
        there = np.isfinite(y)
        axes.plot(
            np.asarray(x)[there],
            y[there],
            color=PALETTE[i % len(PALETTE)],
            label=name,
            linewidth=1.6,
            marker="o" if markers or there.sum() < 30 else None,
            markersize=3.5,
        )
    axes.set(xlabel=xlabel, ylabel=ylabel, title=title)
    axes.title.set_fontsize(11)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    if len(series) > 1:
        axes.legend(frameon=False, fontsize=9)
    return figure


def bars(
    values: Mapping[str, float],
    intervals: Mapping[str, tuple[float, float]] | None = None,
    xlabel: str = "",
    title: str = "",
) -> Figure:
    """Horizontal bars, one a row, with confidence intervals (low, high) where given."""
    names = list(values)
    figure = Figure(figsize=(6.4, 0.9 + 0.36 * len(names)), layout="constrained", label=title or xlabel)
    axes = figure.add_subplot()
    y = np.arange(len(names))
    axes.barh(y, [values[name] for name in names], color=PALETTE[0], alpha=0.85, height=0.65)
    for i, name in enumerate(names):
        if intervals and name in intervals:
            axes.plot(intervals[name], [i, i], color="#1d2730", linewidth=1.6, marker="|", markersize=7)
    axes.set_yticks(y, names)
    axes.invert_yaxis()
    axes.set(xlabel=xlabel, title=title)
    axes.grid(axis="x", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _tight() -> ConstrainedLayoutEngine:
    return ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.02, wspace=0.01, hspace=0.01)


def chip_grid(
    pictures: np.ndarray, titles: Sequence[str] | None = None, columns: int = 8, title: str = "", inch: float = 1.1
) -> Figure:
    """Pictures (n, y, x, 3) uint8 side by side, with a small title above each where given."""
    count = len(pictures)
    columns = max(1, min(columns, count))
    rows = -(-count // columns)
    height = rows * (inch + (0.2 if titles else 0.05)) + (0.4 if title else 0.05)
    figure = Figure(figsize=(columns * (inch + 0.05), height), layout=_tight(), label=title)
    for i, picture in enumerate(pictures):
        axes = figure.add_subplot(rows, columns, i + 1)
        axes.imshow(picture, interpolation="nearest")
        axes.set_axis_off()
        if titles:
            axes.set_title(titles[i], fontsize=7.5, pad=2)
    if title:
        figure.suptitle(title, fontsize=11)
    return figure


def neighbours(pictures: np.ndarray, similarities: np.ndarray | None = None, title: str = "") -> Figure:
    """Rows of a query chip (left, framed) and its nearest chips: (n, 1 + k, y, x, 3); similarities (n, k) above."""
    rows, columns = pictures.shape[:2]
    figure = Figure(figsize=(columns * 1.15, rows * 1.3 + (0.4 if title else 0.1)), layout=_tight(), label=title)
    for row in range(rows):
        for column in range(columns):
            axes = figure.add_subplot(rows, columns, row * columns + column + 1)
            axes.imshow(pictures[row, column], interpolation="nearest")
            axes.set(xticks=[], yticks=[])
            query = column == 0
            for spine in axes.spines.values():
                spine.set(color=PALETTE[1] if query else "#ffffff", linewidth=2.5 if query else 0.0)
            if query:
                axes.set_title("chip", fontsize=8, pad=2)
            elif similarities is not None:
                axes.set_title(f"{similarities[row, column - 1]:.2f}", fontsize=8, pad=2)
    if title:
        figure.suptitle(title, fontsize=11)
    return figure


def principal_axes(features: np.ndarray, count: int = 2) -> np.ndarray:
    """Features (n, d) on their first ``count`` principal axes: (n, count), each axis with unit spread."""
    centred = features - features.mean(axis=0)
    left, spread, _ = np.linalg.svd(centred.astype(np.float64), full_matrices=False)
    count = min(count, left.shape[1])
    points = left[:, :count] * np.where(spread[:count] > 1e-12, np.sqrt(len(features)), 0.0)
    signs = np.where(np.abs(points.max(axis=0)) >= np.abs(points.min(axis=0)), 1.0, -1.0)  # SVD signs are arbitrary
    return np.pad(points * signs, ((0, 0), (0, max(0, 2 - count))))


def embedding_map(points: np.ndarray, pictures: np.ndarray, title: str = "", most: int = 140) -> Figure:
    """Chips (n, y, x, 3) drawn where their embedding lies ((n, 2)); where they would overlap the first one is drawn."""
    figure = Figure(figsize=(8.4, 7.0), layout="constrained", label=title)
    axes = figure.add_subplot()
    low, high = np.percentile(points, [0.5, 99.5], axis=0)
    span = np.where(high > low, high - low, 1.0)
    unit = np.clip((points - low) / span, 0, 1)
    axes.scatter(unit[:, 0], unit[:, 1], s=5, color="#b9c2c9", zorder=1)
    zoom = 30 / max(pictures.shape[1:3])
    drawn: list[np.ndarray] = []
    for point, picture in zip(unit, pictures, strict=True):
        if len(drawn) >= most:
            break
        if all(abs(point[0] - x) > 0.058 or abs(point[1] - y) > 0.07 for x, y in drawn):
            drawn.append(point)
            box = AnnotationBbox(OffsetImage(picture, zoom=zoom), tuple(point), frameon=False, pad=0, zorder=2)
            axes.add_artist(box)
    axes.set(xlim=(-0.04, 1.04), ylim=(-0.05, 1.05), xticks=[], yticks=[], title=title)
    axes.set(xlabel="first principal axis", ylabel="second principal axis")
    axes.spines[["top", "right"]].set_visible(False)
    return figure
