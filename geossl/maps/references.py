"""A source whose dates carry how they differ from the same season of other years, for heads that look at that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from geossl.maps.sources import WindowRead, WindowSource
from geossl.maps.windows import Window
from geossl.tasks.anomaly import anomaly_planes, index_stack, plane_count, same_season

_HALO_PX = 2
"""Anomalies are averaged over this many pixels around each: windows are read so much wider."""


class ReferenceSource:
    """Another source with the anomaly planes of :mod:`geossl.tasks.anomaly` behind its bands.

    ``archive`` has the dates of all years; those of the season of any mapped date are read once a window.
    """

    def __init__(
        self, source: WindowSource, archive: WindowSource, references: Sequence[str], season_days: int
    ) -> None:
        self._source, self._archive, self._references = source, archive, tuple(references)
        self.geobox, self.days, self.available, self.origin = (
            source.geobox, source.days, source.available, source.origin,
        )  # fmt: skip
        self.footprint = source.footprint
        self.bands = (*source.bands, *(f"anomaly_{number}" for number in range(plane_count(references))))
        known = [day for day in archive.days if day is not None]
        self._season = [same_season(day, known, season_days) if day is not None else [] for day in source.days]
        self._needed = tuple(sorted({number for one in self._season for number in one}))
        self.scene_ids = tuple(sorted({*source.scene_ids, *archive.scene_ids}))
        self.reads_per_window = source.reads_per_window + archive.reads_per_window
        self._kept: tuple[Window, np.ndarray] | None = None

    def read(self, window: Window, days: Sequence[int]) -> WindowRead:
        """The other source's window; the anomalies of each day are 0 where its references are too few."""
        wide = replace(
            window,
            y=window.y - _HALO_PX,
            x=window.x - _HALO_PX,
            height=window.height + 2 * _HALO_PX,
            width=window.width + 2 * _HALO_PX,
        )
        read = self._source.read(wide, days)
        inner = (..., slice(_HALO_PX, _HALO_PX + window.height), slice(_HALO_PX, _HALO_PX + window.width))
        reads, failures = read.reads, list(read.failures)
        planes = np.zeros((len(days), plane_count(self._references), wide.height, wide.width), np.float32)
        if (read.clear & read.inside).any():
            if self._kept is None or self._kept[0] != window:
                archive = self._archive.read(wide, self._needed)
                index = index_stack(archive.values, archive.clear, self._archive.bands, self._references)
                self._kept = (window, index)
                reads, failures = reads + archive.reads, [*failures, *archive.failures]
            for number, day in enumerate(days):
                now = index_stack(read.values[number], read.clear[number], self._source.bands, self._references)
                chosen = [self._needed.index(other) for other in self._season[day]]
                planes[number] = anomaly_planes(now, self._kept[1][chosen])
        values = np.concatenate([read.values, planes], axis=1)[inner]
        return WindowRead(
            np.ascontiguousarray(values), read.clear[inner].copy(), read.inside[inner].copy(), tuple(days), reads,
            tuple(failures),
        )  # fmt: skip
