"""What a product is: bands and their common names, scale and offset, nodata, the mask and which classes are clear.

A *product profile* (``configs/products/*.yaml``) says this once for a provider's product; where none fits, the cube
infers one from the STAC items. The *encoding* is how pixels are kept as integers in chips:
``reflectance = stored * scale + offset``, with one ``nodata`` value.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag
from typing import TYPE_CHECKING, Any, Literal

from geossl import config

if TYPE_CHECKING:
    import numpy as np


class Flag(IntFlag):
    """Why a pixel must not be used; 0 is clear. Kept as uint8 beside the pixels (``valid`` in the chip store)."""

    NODATA = 1
    CLOUD = 2
    SHADOW = 4
    SNOW = 8
    READ_FAILED = 16
    SATURATED = 32


@dataclass(frozen=True)
class Encoding:
    """How stored integers become physical values: ``value = stored * scale + offset``; ``nodata`` marks no value."""

    dtype: str
    scale: float
    offset: float
    nodata: int | float | None

    def decode(self, stored: np.ndarray) -> np.ndarray:
        """Stored pixels as float32 values; nodata becomes NaN. Any shape, same shape out."""
        import numpy as np

        values = stored.astype(np.float32) * np.float32(self.scale) + np.float32(self.offset)
        if self.nodata is not None:
            values[stored == self.nodata] = np.nan
        return values

    def as_dict(self) -> dict[str, Any]:
        """The four facts, for manifests and Zarr attributes."""
        return {"dtype": self.dtype, "scale": self.scale, "offset": self.offset, "nodata": self.nodata}


S2_ENCODING = Encoding("uint16", 1e-4, -0.1, 0)
"""Sentinel-2 of every processing baseline in chips: ``stored = round(10000 * reflectance) + 1000``, 0 = invalid."""


SENTINEL2_BANDS = {
    "B01": "coastal",
    "B02": "blue",
    "B03": "green",
    "B04": "red",
    "B05": "rededge071",
    "B06": "rededge075",
    "B07": "rededge078",
    "B08": "nir",
    "B8A": "nir08",
    "B09": "nir09",
    "B10": "cirrus",
    "B11": "swir16",
    "B12": "swir22",
}
"""Sentinel-2 band names and their STAC common names, by wavelength."""


class BandSpec(config.Settings):
    """One measurement of a product."""

    common: str
    """STAC common name (``blue``, ``red``, ``rededge071``, ``swir16``, …): how bands are matched everywhere."""
    gsd_m: float | None = None
    wavelength_um: float | None = None
    aliases: tuple[str, ...] = ()


class MaskSpec(config.Settings):
    """The band that says which pixels are clear, and how to read it."""

    band: str
    kind: Literal["classes", "bits"]
    """``classes``: each value is a class (Sentinel-2 SCL). ``bits``: each bit is a statement (Landsat QA_PIXEL)."""
    nodata: tuple[int, ...] = ()
    cloud: tuple[int, ...] = ()
    shadow: tuple[int, ...] = ()
    snow: tuple[int, ...] = ()
    saturated: tuple[int, ...] = ()


class ProductProfile(config.Settings):
    """Schema of ``configs/products/*.yaml``."""

    title: str
    match: tuple[str, ...] = ()
    """Regular expressions; a STAC collection or ODC product whose name one of them matches whole has this profile."""
    family: Literal["sentinel-2-l2a", "sentinel-2-l1c", "landsat", "other"] = "other"
    bands: dict[str, BandSpec]
    mask: MaskSpec | None = None
    dtype: str = "uint16"
    nodata: int | float | None = 0
    scale: float = 1e-4
    offset: float = 0.0
    offset_rule: Literal["none", "s2_baseline", "earthsearch"] = "none"
    """How the offset of one scene is found: always ``offset``; from the Sentinel-2 processing baseline (>= 04.00:
    -0.1); or Element 84's ``earthsearch:boa_offset_applied``."""
    filename: str | None = None
    """For folders of GeoTIFFs: a regular expression over the path relative to the folder, with named groups ``date``
    (and optionally ``band``, ``tile``); without ``band`` a file holds all bands, named by its band descriptions."""
    date_format: str = "%Y%m%d"
    resampling: str = "bilinear"

    @property
    def encoding(self) -> Encoding:
        """How chips of this product are stored: one encoding for Sentinel-2, the product's own otherwise."""
        if self.family in {"sentinel-2-l2a", "sentinel-2-l1c"}:
            return S2_ENCODING
        return Encoding(self.dtype, self.scale, self.offset, self.nodata)


def profile_names() -> list[str]:
    """Names of the shipped product profiles."""
    return config.config_names("products")


def load_profile(name_or_path: str) -> ProductProfile:
    """A shipped profile by name or a user's own by path."""
    return config.load(ProductProfile, "products", name_or_path)
