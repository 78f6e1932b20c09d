"""The shore of a lake as scenes show it: pixels that are wet at times, and the waterline of each date."""

from __future__ import annotations

import numpy as np
from shapely import LineString, MultiLineString, simplify

from geossl.errors import InputError, WorkError
from geossl.evaluation.controls import spectral_index
from geossl.maps.sources import WindowSource
from geossl.maps.stream import MAX_FAILED_SHARE, Progress
from geossl.maps.windows import Window
from geossl.progress import track
from geossl.tasks.level_series import ShorePixels
from geossl.tasks.waterline import OTSU_BINS, ZERO, index_counts, otsu_limit, shorelines

INDEX = "mndwi"
WINDOW_PX = 256
BLOCK_PX = 50
"""Side of the stretches of shore that are resampled, pixels."""
MIN_DATES = 6
EDGE_SHARE = 0.03
"""A pixel that is wet on more than this share of its clear dates, and dry on more, belongs to the shore."""
_LINE_TOLERANCE = 0.05
"""Lines are thinned by at most this part of a pixel."""


def read_shore(source: WindowSource) -> tuple[ShorePixels, list[MultiLineString], Progress]:
    """Read all dates of a source window by window; only pixels of the shore are kept.

    Returns the shore, the waterline of each date (marching squares at index 0), and the account of reads.

    Raises:
        InputError: nothing turns from wet to dry.
        WorkError: more than 5 % of the reads failed.
    """
    height, width = source.geobox.shape
    dates = len(source.days)
    days = tuple(range(dates))
    counts = np.zeros((dates, OTSU_BINS), np.int64)
    clear, inside, always = np.zeros(dates), 0, 0
    progress, parts = Progress(), []
    lines: list[list[LineString]] = [[] for _ in days]
    tolerance = _LINE_TOLERANCE * abs(float(source.geobox.resolution.x))
    places = [(y, x) for y in range(0, height, WINDOW_PX) for x in range(0, width, WINDOW_PX)]
    with track("shore", len(places), "windows") as bar:
        for y, x in places:
            rows, columns = min(WINDOW_PX, height - y), min(WINDOW_PX, width - x)
            # One row and column more, so that lines go on where the next window begins.
            window = Window(0, 0, y, x, min(rows + 1, height - y), min(columns + 1, width - x))
            read = source.read(window, days)
            progress.note(read)
            index = spectral_index(INDEX, read.values, source.bands)
            index[~(read.clear & read.inside)] = np.nan
            transform = source.geobox.translate_pix(x, y).affine
            for day in days:
                found = shorelines(index[day], transform)
                lines[day] += [simplify(LineString(line), tolerance) for line in found]
            own = index[:, :rows, :columns]
            counts += np.stack([index_counts(one) for one in own])
            seen = np.isfinite(own)
            clear += seen.sum((1, 2))
            inside += int(read.inside[:rows, :columns].sum())
            number = seen.sum(0)
            share = (seen & (np.nan_to_num(own) > ZERO)).sum(0) / np.maximum(number, 1)
            always += int(((share >= 1 - EDGE_SHARE) & (number > 0)).sum())
            shore = (number >= MIN_DATES) & (share > EDGE_SHARE) & (share < 1 - EDGE_SHARE)
            row, column = np.nonzero(shore)
            parts.append((own[:, shore].T.astype(np.float32), row + y, column + x))
            bar.advance()
    planned = source.reads_per_window * len(places)
    if progress.failed > MAX_FAILED_SHARE * max(planned, 1):
        raise WorkError(
            "too many reads failed: no series is made",
            where=progress.failures[0]["uri"],
            expected=f"at most {100 * MAX_FAILED_SHARE:g} % of {planned} reads",
            found=f"{progress.failed} failed; the first: {progress.failures[0]['reason']}",
            remedy="see that the scenes' files can be read, then run the same command again",
        )
    values, row, column = (np.concatenate([part[number] for part in parts]) for number in range(3))
    if not len(values):
        raise InputError(
            "no pixel here is wet on some dates and dry on others",
            found=f"{dates} dates",
            remedy="choose a region with a shore, and dates of high and low water",
        )
    otsu = np.array([otsu_limit(one) if (one > 0).sum() > 1 else np.nan for one in counts])
    block = row // BLOCK_PX * (width // BLOCK_PX + 1) + column // BLOCK_PX
    share_clear = clear / max(inside, 1)
    return (
        ShorePixels(values, block, row, column, always, otsu, share_clear),
        [MultiLineString(some) for some in lines],
        progress,
    )
