"""From a file's numbers to a product's encoding: scale, offset and nodata of every scene and band, settled once.

``value = dn * scale + offset``. Sentinel-2 of processing baseline 04.00 (25 January 2022) and later carries an offset
of -0.1 (1000 digital numbers) that providers keep, remove, or describe wrongly; the rules here say which it is.
Chips hold ``stored = round((value - encoding.offset) / encoding.scale)``: for Sentinel-2 that is
``round(10000 * reflectance) + 1000`` with 0 for "no value", so that numbers with the offset still in pass unchanged.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np

from geossl.products import Encoding, ProductProfile

S2_OFFSET = -0.1
S2_OFFSET_SINCE_BASELINE = 4.0
S2_OFFSET_SINCE_DAY = date(2022, 1, 25)
"""The day baseline 04.00 went into operation: the last resort where an item names no baseline."""


@dataclass(frozen=True)
class Scaling:
    """How one band of one scene is read: ``value = dn * scale + offset``; ``nodata`` is a digital number."""

    scale: float
    offset: float
    nodata: float | None

    def as_dict(self) -> dict[str, float | None]:
        """For the dataset document."""
        return {"scale": self.scale, "offset": self.offset, "nodata": self.nodata}


def settle(
    profile: ProductProfile,
    properties: Mapping[str, Any],
    scale: float | None = None,
    offset: float | None = None,
    nodata: float | None = None,
) -> Scaling:
    """The scaling of a band of a scene from what its item states and what the profile's rule says.

    Args:
        profile: the product's profile.
        properties: of the STAC item or ODC dataset.
        scale: as stated for this band of this scene; ``None`` where nothing is stated.
        offset: likewise.
        nodata: likewise.
    """
    if profile.offset_rule == "none":
        settled = profile.offset if offset is None else offset
    elif profile.offset_rule == "earthsearch" and _offset_removed(properties):
        settled = 0.0  # their raster:bands still say -0.1 for these
    elif offset is not None:
        settled = offset
    else:
        settled = S2_OFFSET if _has_s2_offset(properties) else 0.0
    return Scaling(profile.scale if scale is None else scale, settled, profile.nodata if nodata is None else nodata)


def _offset_removed(properties: Mapping[str, Any]) -> bool:
    """Whether Element 84 has already taken the offset out of the pixels."""
    flags = (properties.get(f"{prefix}:boa_offset_applied") for prefix in ("earthsearch", "sentinel"))
    return any(flag is True or str(flag).lower() == "true" for flag in flags)


def _has_s2_offset(properties: Mapping[str, Any]) -> bool:
    baseline = s2_baseline(properties)
    if baseline is not None:
        return baseline >= S2_OFFSET_SINCE_BASELINE
    day = str(properties.get("datetime") or properties.get("start_datetime") or "")[:10]
    try:
        return date.fromisoformat(day) >= S2_OFFSET_SINCE_DAY
    except ValueError:
        return False


def s2_baseline(properties: Mapping[str, Any]) -> float | None:
    """The Sentinel-2 processing baseline: as stated, else from a product name (``…_N0214_…``)."""
    for key in ("s2:processing_baseline", "sentinel:processing_baseline", "processing:version"):
        try:
            return float(str(properties[key]))
        except (KeyError, ValueError):
            continue
    for key in ("s2:product_uri", "sentinel:product_id", "sentinel:product_name", "s2:datastrip_id", "title"):
        if (match := re.search(r"_N(\d\d)\.?(\d\d)(?:[_.]|$)", str(properties.get(key, "")))) is not None:
            return float(f"{match[1]}.{match[2]}")
    return None


def is_nodata(dn: np.ndarray, nodata: float | None) -> np.ndarray:
    """Where a file says "no value" (same shape, bool); NaN never is one."""
    floating = np.issubdtype(dn.dtype, np.floating)
    missing = np.isnan(dn) if floating else np.zeros(dn.shape, bool)
    if nodata is None or math.isnan(nodata):
        return missing
    if not floating:
        bounds = np.iinfo(dn.dtype)
        if not (float(nodata).is_integer() and bounds.min <= nodata <= bounds.max):
            return missing  # a nodata value the file's type cannot hold
        return dn == dn.dtype.type(int(nodata))
    return missing | (dn == dn.dtype.type(nodata))


def encode(dn: np.ndarray, missing: np.ndarray, scaling: Scaling, encoding: Encoding) -> np.ndarray:
    """Digital numbers in the product's encoding; ``missing`` pixels become its nodata (0 where it has none).

    Any shape. Integers with the encoding's own scale are shifted without rounding. A value that would fall on the
    nodata number moves one step aside, and values outside the type are clipped, so that valid stays valid. May write
    into ``dn`` and return it.
    """
    target = np.dtype(encoding.dtype)
    if dn.dtype == target and scaling.as_dict() == {
        "scale": encoding.scale,
        "offset": encoding.offset,
        "nodata": encoding.nodata,
    }:
        return dn if target.kind != "f" and not missing.any() else _filled(dn, missing, encoding)
    ratio = scaling.scale / encoding.scale
    shift = (scaling.offset - encoding.offset) / encoding.scale
    if target.kind == "f":
        stored = (dn.astype(np.float64) * ratio + shift).astype(target)
    elif dn.dtype.kind in "iu" and math.isclose(ratio, 1.0, rel_tol=1e-6) and abs(shift - round(shift)) < 1e-3:
        if round(shift) == 0 and dn.dtype == target:
            stored = dn
        else:
            bounds = np.iinfo(target)
            stored = np.clip(dn.astype(np.int32) + round(shift), bounds.min, bounds.max).astype(target)
    else:
        bounds = np.iinfo(target)
        values = np.where(missing, 0, dn).astype(np.float64) * ratio + shift
        stored = np.clip(np.rint(values), bounds.min, bounds.max).astype(target)
    if target.kind != "f" and encoding.nodata is not None:
        fill = int(encoding.nodata)
        step = -1 if fill == np.iinfo(target).max else 1
        stored[stored == target.type(fill)] = target.type(fill + step)
    return _filled(stored, missing, encoding)


def _filled(stored: np.ndarray, missing: np.ndarray, encoding: Encoding) -> np.ndarray:
    """Write the encoding's nodata where there is no value, in place."""
    stored[missing] = stored.dtype.type(0 if encoding.nodata is None else encoding.nodata)
    return stored
