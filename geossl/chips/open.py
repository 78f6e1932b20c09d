"""Open a set of chips by path: a chip store that ``geossl tiles build`` wrote, or an index of ready chips."""

from __future__ import annotations

from pathlib import Path

from geossl import artefacts
from geossl.chips.chipset import ChipSet
from geossl.chips.ready import find_index, open_ready
from geossl.chips.store import open_store
from geossl.errors import InputError


def open_chips(path: str | Path) -> ChipSet:
    """The chip set at ``path``: a store's directory, a folder with ``index.csv``, or the index itself.

    Raises:
        InputError: nothing there, or neither of the two.
    """
    place = Path(path)
    if not place.exists():
        raise InputError(
            "no chips here",
            where=place,
            found="no such file or directory",
            remedy="give a chip store (geossl tiles build) or a folder with an index.csv",
        )
    if artefacts.is_complete(place):
        return open_store(place)
    if find_index(place) is not None:
        return open_ready(place)
    raise InputError(
        "neither a chip store nor an index of chips",
        where=place,
        expected="manifest.json (geossl tiles build) or index.csv",
        remedy="check the path; a folder of chips needs an index.csv with a column 'file'",
    )
