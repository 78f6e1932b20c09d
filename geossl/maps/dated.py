"""A source whose dates say which day of the year they are, for heads that look at the season of a series."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from geossl.maps.sources import WindowRead, WindowSource
from geossl.maps.windows import Window


class DatedSource:
    """Another source with the day of the year (1 to 366; 0 where a date is not known) as one more channel behind its
    bands, the same at every pixel.
    """

    def __init__(self, source: WindowSource) -> None:
        self._source = source
        self.geobox, self.days, self.available = source.geobox, source.days, source.available
        self.scene_ids, self.reads_per_window, self.origin = source.scene_ids, source.reads_per_window, source.origin
        self.footprint = source.footprint
        self.bands = (*source.bands, "day_of_year")

    def read(self, window: Window, days: Sequence[int]) -> WindowRead:
        """The other source's window with the days behind."""
        read = self._source.read(window, days)
        known = [self.days[day] for day in days]
        of_year = np.array([0 if day is None else day.timetuple().tm_yday for day in known], np.float32)
        plane = np.broadcast_to(of_year[:, None, None, None], (len(days), 1, *read.values.shape[-2:]))
        return replace(read, values=np.concatenate([read.values, plane], axis=1))
