"""Whether chips are what an encoder has learnt from: pixels of the same size, and numbers of the same kind.

Bands are checked by :func:`geossl.encoders.saved.check_bands`; they are matched by name.
"""

from __future__ import annotations

import numpy as np

from geossl.chips.chipset import ChipSet
from geossl.encoders.saved import Encoder
from geossl.errors import InputError
from geossl.progress import warn

OPTION = "--other-pixels"
TOLERANCE = 0.05
"""Pixels may be smaller or larger by this share."""
_CHIPS = 24
_STRANGE = 5.0
"""Spreads of the encoder's bands that the chips' means may lie away from the encoder's (the median over bands)."""


def check_pixels(encoder: Encoder, chips: ChipSet, allowed: bool, taught_m: float | None = None) -> str | None:
    """Refuse chips of another resolution or radiometry; with ``allowed`` they are taken as they are, which the
    sentence returned says (None where nothing differs).

    ``taught_m``: the pixels a head around the encoder has learnt from, instead of those of pretraining.

    Raises:
        InputError: pixels of another size, or reflectance of quite another scale, that nobody allowed.
    """
    found = [one for one in (_resolution(encoder, chips, taught_m), _radiometry(encoder, chips)) if one is not None]
    if not found:
        return None
    differs = "; ".join(f"{what}: {theirs}, here {ours}" for what, theirs, ours in found)
    if allowed:
        sentence = f"taken as they are although they differ from the encoder's: {differs}"
        warn(f"chips {chips.name} are {sentence}")
        return sentence
    raise InputError(
        "these chips are not what the encoder has learnt from",
        where=f"chips {chips.path}",
        expected="; ".join(f"{what} {theirs}" for what, theirs, _ in found),
        found="; ".join(f"{what} {ours}" for what, _, ours in found),
        remedy="match them (resolution_m in the region's YAML resamples tiles; scale and offset stand in the product's "
        f"profile or the chip set's description), take another encoder, or allow it with {OPTION}",
    )


def differ(taught_m: float, here_m: float) -> bool:
    """Whether two pixel sizes are not the same."""
    return abs(taught_m - here_m) > TOLERANCE * taught_m


def _resolution(encoder: Encoder, chips: ChipSet, taught_m: float | None) -> tuple[str, str, str] | None:
    taught = taught_m or encoder.meta.get("resolution_m")
    if not taught or not differ(float(taught), chips.resolution_m):
        return None
    return "pixels", f"{float(taught):g} m", f"{chips.resolution_m:g} m"


def _radiometry(encoder: Encoder, chips: ChipSet) -> tuple[str, str, str] | None:
    """From clear pixels of a few chips against the encoder's normalisation."""
    clear = np.flatnonzero(chips.table["clear"].to_numpy(dtype=float) > 0)
    if not len(clear):
        return None
    rows = clear[np.unique(np.linspace(0, len(clear) - 1, _CHIPS).astype(int))]
    stored, flags = chips.load(rows)
    values = chips.encoding.decode(stored[:, encoder.select(chips.bands)])
    seen = (flags == 0) & np.isfinite(values).all(axis=1)
    if not seen.any():
        return None
    mean = np.moveaxis(values, 1, -1)[seen].mean(axis=0, dtype=np.float64)
    theirs, spread = encoder.mean.numpy(), encoder.std.numpy()
    if np.median(np.abs(mean - theirs) / spread) <= _STRANGE:
        return None
    shown = (", ".join(f"{one:.3g}" for one in values) for values in (theirs, mean))
    return "mean reflectance of the bands", *shown  # type: ignore[return-value]
