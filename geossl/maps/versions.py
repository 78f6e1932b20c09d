"""Layers kept up to date: for each period with scenes one current version, earlier versions beside it.

    <root>/collection.json        the current version of every period, ``latest-version``, and the order of publishing
    <root>/<period>-<identity>/   one version: a layer as :func:`geossl.maps.make.make_map` writes it
    <root>/latest                 link to the current version of the newest period
    <root>/announced.json         the versions somebody has been told of

A version's identity is the hash of all that its map depends on (head, scenes, grid, period), so whether something is
to be done follows from the scenes in the cube and the folders on disk alone: nothing else is remembered between runs,
and a run that was killed anywhere is finished by the next one. Every step is atomic; what readers see is always whole.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pystac

from geossl import stac
from geossl.artefacts import hash_json, is_complete, lock, read_manifest, replace_directory, write_json
from geossl.config import geossl_home
from geossl.errors import InputError
from geossl.maps.make import KIND, make_map
from geossl.maps.plan import make_plan
from geossl.maps.predictors import MapHead
from geossl.regions import Region, load_region, parse_months, parse_period

Every = Literal["day", "month", "year"]
"""What one layer stands for."""
_FORMATS: dict[str, str] = {"day": "%Y-%m-%d", "month": "%Y-%m", "year": "%Y"}
_COLLECTION = "collection.json"
_ANNOUNCED = "announced.json"
_VERSIONS = "geossl:versions"


@dataclass(frozen=True)
class Due:
    """One period of a layer series: which version it should have.

    Attributes:
        period: ``2018-07``, as :func:`geossl.regions.parse_period` reads it.
        version: the name of the version's folder.
        scenes: number of scenes the version is made from.
        published: whether this version is the current one already.
    """

    period: str
    version: str
    scenes: int
    published: bool


@dataclass(frozen=True)
class Published:
    """A version that is out.

    Attributes:
        period: what it stands for.
        version: its folder's name.
        layer: its folder.
        replaces: the version of the same period that was current before.
        scenes: number of scenes it is made from.
        clear_share: share of its cells that were seen on at least one date.
    """

    period: str
    version: str
    layer: Path
    replaces: str | None
    scenes: int
    clear_share: float


def default_root(task: str, region: str) -> Path:
    """Where the versions of a task's layers over a region lie when no place is given."""
    return geossl_home() / "layers" / f"{task}-{region}"


def find_due(
    head: str | Path | MapHead,
    root: Path,
    *,
    region: str | Region,
    product: str | None = None,
    period: str | None = None,
    months: str | None = None,
    every: Every = "month",
    newest: int = 2,
) -> list[Due]:
    """The ``newest`` periods that have scenes, oldest first, with the version each should have.

    Counted from the newest scene, not from today: an archive that ends years ago is kept up to date in the same way.

    Args:
        head: a head's folder, or what stands for one (an index).
        root: where the versions lie.
        region: the area.
        product: ODC product, where several have scenes over the region.
        period: only scenes of these days.
        months: only scenes of these months of the year.
        every: what one layer stands for.
        newest: how many periods are looked after.

    Raises:
        InputError: no scenes, no head, or ``newest`` below 1.
    """
    if newest < 1:
        raise InputError("nothing to keep up to date", where="newest", expected="at least 1", found=newest)
    area = region if isinstance(region, Region) else load_region(region)
    current = current_versions(root)
    due = []
    for one in _periods(area, product, period, months, every)[-newest:]:
        pieces = make_plan(head, region=area, product=product, period=one, months=months, out=_next(root, one))
        version = _name(one, hash_json(pieces.plan.inputs))
        due.append(Due(one, version, pieces.plan.scenes, current.get(one) == version))
    return due


def make_version(
    head: str | Path | MapHead,
    root: Path,
    due: Due,
    *,
    region: str | Region,
    product: str | None = None,
    months: str | None = None,
) -> Path:
    """Make the map of a period beside its final place; a map that is there (an earlier run died) is not made again.

    Scenes that came in since :func:`find_due` are in the map as well: what it is called is settled by
    :func:`publish_version`, from the map's own manifest.
    """
    if is_complete(root / due.version):
        return root / due.version
    made = make_map(head, region=region, product=product, period=due.period, months=months, out=_next(root, due.period))
    return made.layer


def publish_version(root: Path, period: str, layer: Path, title: str) -> Published:
    """Give a made layer its name and list it as its period's current version.

    Args:
        root: where the versions lie.
        period: what the layer stands for.
        layer: what :func:`make_version` returned.
        title: title of the collection.

    Raises:
        InputError: no layer there, or another process is publishing here.
    """
    root.mkdir(parents=True, exist_ok=True)
    with lock(root / ".lock", "another process is publishing here"):
        manifest = read_manifest(layer, KIND)
        version = _name(period, manifest["inputs_hash"])
        place = root / version
        if layer.absolute() != place.absolute():
            replace_directory(layer, place)
        before = current_versions(root).get(period)
        listed = [entry for entry in _listed(root) if entry["version"] != version]
        _write_collection(root, [*listed, {"period": period, "version": version}], title)
        return Published(
            period=period,
            version=version,
            layer=place,
            replaces=before if before != version else None,
            scenes=len(manifest["inputs"]["scenes"]),
            clear_share=round(float(manifest["clear_share"]), 4),
        )


def current_versions(root: Path) -> dict[str, str]:
    """Period → name of its current version, in order of time; versions whose folder is gone do not count."""
    current = {str(entry["period"]): str(entry["version"]) for entry in _listed(root)}
    return dict(sorted(current.items(), key=lambda item: parse_period(item[0]).start))


def to_announce(root: Path) -> list[str]:
    """Current versions that nobody has been told of: published by this run, or by one that died before it told."""
    told = set(_announced(root))
    return [version for version in current_versions(root).values() if version not in told]


def mark_announced(root: Path, versions: Iterable[str]) -> None:
    """Remember that these versions have been announced."""
    write_json(root / _ANNOUNCED, {"versions": sorted({*_announced(root), *versions})})


def _announced(root: Path) -> list[str]:
    path = root / _ANNOUNCED
    return list(json.loads(path.read_text(encoding="utf-8"))["versions"]) if path.is_file() else []


def _periods(area: Region, product: str | None, period: str | None, months: str | None, every: Every) -> list[str]:
    """The periods that have scenes over the region, in order."""
    from geossl.cube.connect import choose_product

    span = parse_period(period) if period else area.period
    in_months = parse_months(months) if months else area.months
    cube, chosen = choose_product(area, product)
    with cube:
        days = {scene.solar_day for scene in cube.find(chosen, area.geometry, span, in_months)}
    if not days:
        raise InputError(
            f"no scenes of {chosen.name} over this region at this time",
            where=f"region {area.name}",
            found=f"period {span or 'any'}, months {in_months or 'any'}",
            remedy="choose another period, or index scenes (geossl cube index)",
        )
    return list(dict.fromkeys(day.strftime(_FORMATS[every]) for day in sorted(days)))


def _name(period: str, identity: str) -> str:
    return f"{period}-{identity[:8]}"


def _next(root: Path, period: str) -> Path:
    """Where a version is made: at the depth of its final place, since a layer's links to its head are relative."""
    return root / f".next-{period}"


def _listed(root: Path) -> list[dict[str, Any]]:
    """All versions in the order in which they became current, as the collection says; missing folders left out."""
    path = root / _COLLECTION
    if not path.is_file():
        return []
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))[_VERSIONS]
    except (ValueError, KeyError):
        raise InputError(
            "this is no collection of layer versions", where=path, remedy="choose another folder for the layers"
        ) from None
    return [entry for entry in entries if is_complete(root / entry["version"])]


def _write_collection(root: Path, listed: Sequence[dict[str, Any]], title: str) -> None:
    """The STAC collection (it commits the version) and the ``latest`` link."""
    current = {str(entry["period"]): str(entry["version"]) for entry in listed}
    ordered = [current[period] for period in sorted(current, key=lambda name: parse_period(name).start)]
    items = [pystac.Item.from_file(str(root / version / "item.json")) for version in ordered]
    collection = stac.make_collection(root.name, title, f"{title}: the current version of every period", items)
    document = collection.to_dict(include_self_link=False, transform_hrefs=False)
    document["links"] = [
        {"rel": "root", "href": f"./{_COLLECTION}", "type": "application/json"},
        *[{"rel": "item", "href": f"./{version}/item.json", "type": "application/geo+json"} for version in ordered],
        {"rel": "latest-version", "href": f"./{ordered[-1]}/item.json", "type": "application/geo+json"},
    ]
    document[_VERSIONS] = list(listed)
    write_json(root / _COLLECTION, document)
    link = root / "latest"
    if not link.is_symlink() or str(link.readlink()) != ordered[-1]:
        temporary = root / f".latest-{os.getpid()}"
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(ordered[-1], target_is_directory=True)
        temporary.replace(link)
