"""What every set of chips offers, wherever its pixels lie: the protocol that training, tasks and maps rely on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import pandas as pd

from geossl.products import Encoding

Rows = Sequence[int] | np.ndarray
LabelKind = Literal["class", "multilabel", "mask", "number", "shares"]

TABLE_COLUMNS = ("chip", "tile", "block", "datetime", "clear", "geometry", "crs", "left", "top")
"""Columns that the table of every chip set has.

``chip``, ``tile``, ``block``: str. ``datetime``: UTC, NaT where unknown. ``clear``: share of clear pixels, 0..1.
``geometry``: outline in EPSG:4326 or None. ``crs``: text or None. ``left``, ``top``: the chip's upper left corner in
units of ``crs`` (NaN without one).
"""

IGNORE = 255
"""The value of a mask pixel that carries no label."""


@runtime_checkable
class ChipSet(Protocol):
    """Chips with a table; row ``i`` of ``table`` is chip ``i`` for :meth:`load`."""

    @property
    def name(self) -> str:
        """For people and file names."""

    @property
    def path(self) -> Path:
        """Where the set lies."""

    @property
    def id(self) -> str:
        """Hash of what the set holds: equal content, equal id."""

    @property
    def bands(self) -> tuple[str, ...]:
        """STAC common names in the order of the band axis."""

    @property
    def encoding(self) -> Encoding:
        """How stored numbers become reflectance."""

    @property
    def resolution_m(self) -> float:
        """Pixel side in metres."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of a chip, pixels."""

    @property
    def table(self) -> pd.DataFrame:
        """One row a chip, :data:`TABLE_COLUMNS` and more."""

    def load(self, rows: Rows) -> tuple[np.ndarray, np.ndarray]:
        """Chips of the given table rows, in that order: stored pixels (n, band, y, x) and flags (n, y, x) uint8."""
