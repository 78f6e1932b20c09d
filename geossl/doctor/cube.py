"""The cube and its driver, its products against the profiles, the scenes of a region."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from geossl.cube import profiles
from geossl.cube.connect import EMBEDDED, TWO_WAYS_ON, Cube, Product, choose_product, open_cube
from geossl.doctor.finding import Finding, of_error
from geossl.errors import GeosslError
from geossl.products import ProductProfile

if TYPE_CHECKING:
    from geossl.regions import Region

_EMBEDDED_PRODUCT = "sandbox_"


def cubes() -> list[Finding]:
    """Every cube that geossl would ask, and each of its products."""
    findings: list[Finding] = []
    for asked in (None, _EMBEDDED_PRODUCT):
        try:
            with open_cube(asked) as cube:
                if asked is not None and any(finding.name == f"cube {cube.name}" for finding in findings):
                    continue  # no cube is configured: the embedded one was looked at already
                findings += _look(cube)
        except GeosslError as error:
            findings.append(of_error("cube" if asked is None else f"cube {EMBEDDED}", error))
    return findings


def _look(cube: Cube) -> list[Finding]:
    products = cube.products()
    driver = f"driver {cube.dc.index.name}, {len(products)} products"
    name = f"cube {cube.name}"
    others = [one.name for one in cube.index.products.get_all() if one.name not in {known.name for known in products}]
    if others:
        driver += f" (not counted, without rasters: {', '.join(sorted(others))})"
    if not products:
        return [Finding(name, "warn", f"{driver}: an empty cube", TWO_WAYS_ON)]
    return [Finding(name, "ok", driver), *(product_against(known, profiles.shipped()) for known in products)]


def product_against(product: Product, shipped: Mapping[str, ProductProfile]) -> Finding:
    """A product of the cube against the shipped profiles that its name matches."""
    known = product.profile
    name = f"product {product.name}"
    matching = {
        profile_name: profile
        for profile_name, profile in shipped.items()
        if any(re.fullmatch(pattern, product.name, re.IGNORECASE) for pattern in profile.match)
    }
    differences = {profile_name: _differences(known, profile) for profile_name, profile in matching.items()}
    if differences and all(differences.values()):
        nearest = min(differences, key=lambda one: len(differences[one]))
        return Finding(
            name, "warn", f"differs from profile {nearest}: {'; '.join(differences[nearest])}",
            f"where that is not meant, index again under another name: geossl cube index SOURCE --profile {nearest} "
            f"--product {product.name}_2",
        )  # fmt: skip
    bands = f"{len(known.bands)} bands"
    if known.mask is None:
        return Finding(
            name, "warn", f"{bands}, no band that says which pixels are clear: clouds count as ground",
            "index with a profile that names its mask band (geossl cube index SOURCE --profile FILE)",
        )  # fmt: skip
    fits = next((one for one, found in differences.items() if not found), None)
    origin = f"as profile {fits}" if fits else "a profile of its own"
    return Finding(name, "ok", f"{bands}, {origin}, mask {known.mask.band}")


def _differences(known: ProductProfile, shipped: ProductProfile) -> list[str]:
    """Where a product's profile says something else than a shipped one about what both have."""
    found = [
        f"{field} {getattr(known, field)} instead of {getattr(shipped, field)}"
        for field in ("family", "dtype", "nodata", "scale", "offset", "offset_rule")
        if getattr(known, field) != getattr(shipped, field)
    ]
    unknown = [key for key in known.bands if key not in shipped.bands]
    renamed = [
        f"{key} is {band.common} instead of {shipped.bands[key].common}"
        for key, band in known.bands.items()
        if key in shipped.bands and band.common != shipped.bands[key].common
    ]
    if unknown:
        found.append(f"bands {', '.join(unknown)} are not in it")
    if known.mask is not None and known.mask != shipped.mask:
        found.append(f"mask {known.mask.band} is read in another way")
    return found + renamed


def scenes(region: Region, product: str | None = None) -> Finding:
    """Whether there are scenes of the region, and how recent they are."""
    name = f"scenes of {region.name}"
    try:
        cube, chosen = choose_product(region, product)
        with cube:
            days = sorted({scene.solar_day for scene in cube.find(chosen, region.geometry)})
    except GeosslError as error:
        return of_error(name, error, "warn")
    if not days:
        return Finding(name, "warn", f"none of {chosen.name}", TWO_WAYS_ON)
    return Finding(name, "ok", f"{chosen.name}: {len(days)} dates from {days[0]} to {days[-1]}")
