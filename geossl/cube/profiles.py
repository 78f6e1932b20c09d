"""Which profile a product has: the one stored with it, a shipped one, or one inferred from what the items say."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

from geossl.cube.assets import Item, Raster, rasters, word
from geossl.errors import InputError
from geossl.products import SENTINEL2_BANDS, BandSpec, MaskSpec, ProductProfile, load_profile, profile_names

if TYPE_CHECKING:
    from datacube.model import Product as OdcProduct

STORED = "geossl_profile"
"""Where the resolved profile lies in an ODC product's ``metadata``, as a JSON text: a database keeps no key order."""

SCL = {"nodata": (0,), "saturated": (1,), "shadow": (3,), "cloud": (8, 9, 10), "snow": (11,)}
"""Sen2Cor's scene classification; dark, vegetation, bare, water and unclassified (2, 4, 5, 6, 7) are clear."""

_KNOWN_MASKS: dict[str, MaskSpec] = {
    "scl": MaskSpec(band="scl", kind="classes", **SCL),
    "clm": MaskSpec(band="clm", kind="classes", nodata=(255,), cloud=(1,)),
    "fmask": MaskSpec(band="fmask", kind="classes", nodata=(0,), cloud=(2,), shadow=(3,), snow=(4,)),
    "qa_pixel": MaskSpec(band="qa_pixel", kind="bits", nodata=(0,), cloud=(1, 2, 3), shadow=(4,), snow=(5,)),
    "bqa": MaskSpec(band="bqa", kind="bits", nodata=(0,), cloud=(4, 12), shadow=(8,), snow=(10,)),
}
_CLASS_WORDS = {
    "nodata": ("nodata", "no_data", "fill"),
    "saturated": ("saturated", "defective"),
    "shadow": ("cloud_shadow", "shadow"),
    "cloud": ("cloud", "cirrus"),
    "snow": ("snow", "ice"),
}
_REFLECTIVE = frozenset(SENTINEL2_BANDS.values())


def product_name(text: str) -> str:
    """The ODC name of a collection: ``sentinel-2-l2a`` becomes ``sentinel_2_l2a``."""
    return word(text)


@lru_cache(maxsize=1)
def shipped() -> dict[str, ProductProfile]:
    """The shipped profiles by name."""
    return {name: load_profile(name) for name in profile_names()}


def of_items(collection: str, items: Sequence[Item], named: str | None) -> tuple[ProductProfile, str]:
    """The profile of some items of one product, restricted to the bands they have, and where it comes from.

    ``named`` is the user's choice (a shipped name or a file). Raises ``InputError`` if the items have no usable band.
    """
    sample = most_common_item(items)
    if named is not None:
        return restricted(load_profile(named), sample, named), f"profile {named}"
    fitting: list[tuple[int, str, ProductProfile]] = []
    for name, profile in shipped().items():
        if any(re.fullmatch(pattern, collection, re.IGNORECASE) for pattern in profile.match):
            own = {key.lower() for key in profile.bands}
            score = sum(bool(own & {text.lower() for text in raster.names[:2]}) for raster in rasters(sample))
            fitting.append((score, name, profile))
    if fitting:
        # several providers use one collection id: the one whose own band names these are
        score, name, profile = max(fitting, key=lambda entry: (entry[0], entry[1]))
        if score or find_rasters(profile, sample):
            return restricted(profile, sample, name), f"profile {name}"
    return inferred(collection, sample), "inferred from the items"


def most_common_item(items: Sequence[Item]) -> Item:
    """An item with the set of assets that most items have."""
    from collections import Counter

    kinds = Counter(frozenset(item["assets"]) for item in items)
    usual = kinds.most_common(1)[0][0]
    return next(item for item in items if frozenset(item["assets"]) == usual)


def find_rasters(profile: ProductProfile, item: Item) -> dict[str, Raster]:
    """The raster of each measurement of a profile (mask included) in an item; missing ones are left out."""
    by_name: dict[str, Raster] = {}
    for raster in rasters(item):
        for name in raster.names:
            by_name.setdefault(name.lower(), raster)
    for raster in rasters(item):  # an asset's own key is its strongest name
        by_name[raster.names[0].lower()] = raster
    found: dict[str, Raster] = {}
    for measurement, band in profile.bands.items():
        for name in (measurement, *band.aliases, band.common):
            if name.lower() in by_name:
                found[measurement] = by_name[name.lower()]
                break
    if profile.mask is not None and profile.mask.band.lower() in by_name:
        found[profile.mask.band] = by_name[profile.mask.band.lower()]
    return found


def restricted(profile: ProductProfile, item: Item, name: str) -> ProductProfile:
    """A profile without the bands (and the mask) that an item does not have."""
    found = find_rasters(profile, item)
    bands = {key: band for key, band in profile.bands.items() if key in found}
    if not bands:
        raise InputError(
            f"none of the bands of profile '{name}' is in these items",
            where=f"item {item.get('id')}",
            expected=", ".join(profile.bands),
            found=", ".join(raster.names[0] for raster in rasters(item)) or "no raster assets (GeoTIFF or JPEG 2000)",
            remedy="choose another --profile, or leave it out to infer one",
        )
    mask = profile.mask if profile.mask and profile.mask.band in found else None
    return profile.model_copy(update={"bands": bands, "mask": mask})


def inferred(collection: str, item: Item) -> ProductProfile:
    """A profile from ``raster:bands``, ``eo:bands`` and names; bands of one scale only, since one encoding holds them.

    Raises ``InputError`` if the item has no raster assets.
    """
    candidates = rasters(item)
    mask, mask_raster = _mask(candidates)
    bands = [raster for raster in candidates if raster is not mask_raster and not _is_quality(raster)]
    if not bands:
        raise InputError(
            "this item has no raster bands",
            where=f"item {item.get('id')} of {collection}",
            expected="assets that are GeoTIFF or JPEG 2000",
            found=", ".join(f"{key} ({asset.get('type')})" for key, asset in item["assets"].items()) or "no assets",
        )
    groups: dict[tuple[float, float, bool], list[Raster]] = {}
    for raster in bands:
        scale, offset = raster.scale or 1.0, raster.offset or 0.0
        groups.setdefault((scale, offset, (raster.dtype or "uint16").startswith("float")), []).append(raster)
    (scale, offset, _), chosen = max(groups.items(), key=lambda group: len(group[1]))
    common = {id(raster): _common_name(raster) for raster in chosen}
    repeated = [name for name in common.values() if list(common.values()).count(name) > 1]
    family = _family(collection, item, scale, set(common.values()))
    specs: dict[str, BandSpec] = {}
    for raster in chosen:
        name = word(raster.names[0])
        shared = common[id(raster)]
        specs[name] = BandSpec(
            common=name if shared in repeated else shared,
            gsd_m=raster.gsd_m,
            wavelength_um=raster.wavelength_um,
            aliases=tuple(text for text in raster.names if text not in {name, shared}),
        )
    first = chosen[0]
    return ProductProfile(
        title=f"{collection} (inferred)",
        family=family,
        bands=specs,
        mask=mask,
        dtype=first.dtype or "uint16",
        nodata=_whole(first.nodata),
        scale=scale,
        offset=offset,
        offset_rule="none" if family in {"landsat", "other"} else "earthsearch",
    )


def _whole(nodata: float | None) -> int | float | None:
    return int(nodata) if nodata is not None and nodata.is_integer() else nodata


def _common_name(raster: Raster) -> str:
    for name in raster.names:
        if name.upper() in SENTINEL2_BANDS and raster.common in {None, "rededge", "nir08", *_REFLECTIVE}:
            return SENTINEL2_BANDS[name.upper()]
    return word(raster.common or raster.names[0])


def _family(
    collection: str, item: Item, scale: float, common: set[str]
) -> Literal["sentinel-2-l2a", "sentinel-2-l1c", "landsat", "other"]:
    properties = item.get("properties", {})
    text = " ".join(str(properties.get(key, "")) for key in ("constellation", "platform", "s2:product_type"))
    text = f"{text} {collection}".lower()
    if "sentinel-2" in text and abs(scale - 1e-4) < 1e-9 and common & _REFLECTIVE:
        return "sentinel-2-l1c" if re.search(r"msi1c|l1c|\btoa\b", text) else "sentinel-2-l2a"
    return "landsat" if "landsat" in text else "other"


def _mask(candidates: Sequence[Raster]) -> tuple[MaskSpec | None, Raster | None]:
    for raster in candidates:
        for name in raster.names:
            known = _KNOWN_MASKS.get(word(name).removeprefix("oa_"))
            if known is not None:
                return known.model_copy(update={"band": word(raster.names[0])}), raster
    for raster in candidates:
        if raster.classes and (spec := _mask_of_classes(raster)) is not None:
            return spec, raster
    return None, None


def _mask_of_classes(raster: Raster) -> MaskSpec | None:
    """A mask from named classes, if any of them is cloud."""
    classes: dict[str, list[int]] = {kind: [] for kind in _CLASS_WORDS}
    for value, name in raster.classes:
        text = word(name)
        for kind, words in _CLASS_WORDS.items():
            if any(part in text for part in words):
                classes[kind].append(value)
                break
    if not classes["cloud"]:
        return None
    return MaskSpec(
        band=word(raster.names[0]), kind="classes", **{kind: tuple(values) for kind, values in classes.items()}
    )


def _is_quality(raster: Raster) -> bool:
    """Bands about the pixels instead of the ground: never stacked with measurements."""
    name = word(raster.names[0])
    return bool(raster.classes) or bool(
        re.match(r"(oa_|qa|snow$|cloud|cld|clm$|clp$|scl|aot|wvp|emis|emsd|[adtu]rad$|atran|cdist)", name)
    )


def of_odc_product(product: OdcProduct) -> ProductProfile | None:
    """The profile of an indexed product: stored with it, shipped under its name, or from its measurements.

    ``None`` for products without raster measurements (telemetry, lineage).
    """
    stored: str | None = product.metadata_doc.get(STORED)
    if stored is not None:
        return ProductProfile.model_validate_json(stored)
    if not product.measurements:
        return None
    sample = _as_item(product)
    for name, profile in shipped().items():
        if any(re.fullmatch(pattern, product.name, re.IGNORECASE) for pattern in profile.match):
            return restricted(profile, sample, name) if find_rasters(profile, sample) else None
    return inferred(product.name, sample) if rasters(sample) else None


def _as_item(product: OdcProduct) -> Item:
    """An ODC product's measurements in the shape of an item, so that one set of rules serves both."""
    assets: dict[str, Any] = {}
    for name, measurement in product.measurements.items():
        bands = [{"name": alias} for alias in measurement.get("aliases", ())[:1]]
        assets[name] = {
            "href": f"{name}.tif",
            "eo:bands": bands,
            "raster:bands": [
                {
                    "data_type": measurement.get("dtype"),
                    "nodata": measurement.get("nodata"),
                    "scale": measurement.get("scale_factor"),
                    "offset": measurement.get("add_offset"),
                }
            ],
        }
    return {"id": product.name, "assets": assets, "properties": {}}
