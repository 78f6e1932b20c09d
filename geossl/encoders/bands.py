"""Bands of foreign weights by STAC common name, and what their filters become for other bands.

torchgeo names bands as their archives do (``B8a``, ``SR_B5``); which sensor a list of names belongs to is said by the
name of the weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from geossl.errors import InputError
from geossl.products import SENTINEL2_BANDS, load_profile

_TM = {"B1": "blue", "B2": "green", "B3": "red", "B4": "nir08", "B5": "swir16", "B7": "swir22"}
_OLI = {"B1": "coastal", "B2": "blue", "B3": "green", "B4": "red", "B5": "nir08", "B6": "swir16", "B7": "swir22"}
_LANDSAT = {
    "LANDSAT_TM": _TM | {"B6": "lwir"},
    "LANDSAT_ETM": _TM | {"B6_VCID_1": "lwir", "B6_VCID_2": "lwir_high", "B8": "pan"},
    "LANDSAT_OLI": _OLI | {"B8": "pan", "B9": "cirrus", "B10": "lwir11", "B11": "lwir12"},
}
_OTHER_WAVELENGTHS = {"cirrus": 1.375, "pan": 0.590, "lwir": 11.45, "lwir_high": 11.45, "lwir11": 10.9, "lwir12": 12.0}
"""Micrometres of bands that no shipped product profile has."""


@cache
def wavelengths() -> dict[str, float]:
    """Centre wavelengths (micrometres) by common name, of the shipped Sentinel-2 and Landsat products."""
    known = dict(_OTHER_WAVELENGTHS)
    for product in ("landsat-c2-l2", "sentinel-2-l2a-esa"):
        for band in load_profile(product).bands.values():
            if band.wavelength_um is not None:
                known[band.common] = band.wavelength_um
    return known


def common_names(weights: str, names: Sequence[str]) -> tuple[str, ...]:
    """Common names of the bands of torchgeo weights (``LANDSAT_OLI_SR_MOCO``, ``SENTINEL2_ALL_MOCO``, …).

    A name that is no band of the sensor (an index, a radar channel) stays as it is, in lower case.
    """
    tables = [table for sensor, table in _LANDSAT.items() if weights.startswith(sensor)]
    table = tables[0] if tables else SENTINEL2_BANDS if weights.startswith("SENTINEL2") else {}
    found = []
    for name in names:
        short = name.removeprefix("SR_").upper()
        padded = f"B{int(short[1:]):02d}" if table is SENTINEL2_BANDS and short[1:].isdigit() else short
        found.append(table.get(padded, name.lower()))
    return tuple(found)


@dataclass(frozen=True)
class Matched:
    """From which of the file's bands each of ours takes its filters: names and weights that sum to 1.

    ``surplus``: bands of the file that nobody takes.
    """

    sources: dict[str, dict[str, float]]
    surplus: tuple[str, ...]

    @property
    def exact(self) -> bool:
        """Whether both have the same bands, in whatever order."""
        return not self.surplus and all(list(found) == [band] for band, found in self.sources.items())

    @property
    def sentences(self) -> list[str]:
        """What was done with bands that are not on both sides."""
        said = [
            f"band {band} is not in the file: {' + '.join(f'{share:.2f} {name}' for name, share in found.items())}"
            for band, found in self.sources.items()
            if list(found) != [band]
        ]
        return said + ([f"bands {', '.join(self.surplus)} of the file are left out"] if self.surplus else [])


def match_bands(ours: Sequence[str], theirs: Sequence[str], where: object) -> Matched:
    """Bands matched by name, never by position.

    A band the file lacks is taken from the file's bands nearest in wavelength: between the one below and the one above,
    linearly in wavelength, or the nearest where all lie on one side; from all of them alike where its wavelength is
    not known. Bands that only the file has are left out.

    Raises:
        InputError: a name given twice, or no band in common.
    """
    if len(set(theirs)) != len(theirs):
        raise InputError("a band of the file is named twice", where=where, found=", ".join(theirs))
    if not set(ours) & set(theirs):
        raise InputError(
            "the weights have no band in common with the encoder",
            where=where,
            expected=", ".join(ours),
            found=", ".join(theirs),
            remedy="check the names given with bands, or take weights of the same sensor",
        )
    sources = {band: ({band: 1.0} if band in theirs else _nearest(band, theirs)) for band in ours}
    used = {name for found in sources.values() for name in found}
    return Matched(sources, tuple(name for name in theirs if name not in used))


def _nearest(band: str, theirs: Sequence[str]) -> dict[str, float]:
    known = wavelengths()
    placed = sorted((name for name in theirs if name in known), key=known.__getitem__)
    if band not in known or not placed:
        return dict.fromkeys(theirs, 1 / len(theirs))
    below = [name for name in placed if known[name] <= known[band]]
    above = [name for name in placed if known[name] > known[band]]
    if not below or not above:
        return {(below[-1] if below else above[0]): 1.0}
    low, high = below[-1], above[0]
    share = (known[band] - known[low]) / (known[high] - known[low])
    return {low: 1 - share, high: share} if share else {low: 1.0}


def mix(matched: Matched, theirs: Sequence[str]) -> Tensor:
    """Matrix (ours, theirs), float32, that turns values per file band into values per own band."""
    places = {name: place for place, name in enumerate(theirs)}
    matrix = torch.zeros(len(matched.sources), len(theirs))
    for row, found in enumerate(matched.sources.values()):
        for name, share in found.items():
            matrix[row, places[name]] = share
    return matrix
