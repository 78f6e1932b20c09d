"""Sources of items: a STAC API, a static STAC catalogue (local or over HTTP), item files, a folder of GeoTIFFs.

Every source gives the same thing: STAC items as plain JSON with absolute asset links, and the name of their collection.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from geossl.cube.assets import Item, word
from geossl.cube.documents import Refusal, RefusedItem, refuse_broken
from geossl.errors import InputError
from geossl.regions import Period, Region

_TIMEOUT_S = 30
_RASTERS = {".tif", ".tiff", ".jp2"}


@dataclass(frozen=True)
class Wanted:
    """Which items of a source are asked for; ``None`` is no limit."""

    product: str | None = None
    region: Region | None = None
    period: Period | None = None
    limit: int | None = None

    def takes(self, item: Item) -> bool:
        """Whether a static item lies in region and period; items too broken to tell are taken, and refused later."""
        moment = str(item["properties"].get("datetime") or item["properties"].get("start_datetime") or "")
        if self.period is not None and moment:
            from datetime import date

            try:
                if not self.period.contains(date.fromisoformat(moment[:10])):
                    return False
            except ValueError:
                return True
        if self.region is not None and item.get("geometry"):
            from shapely.errors import ShapelyError
            from shapely.geometry import shape

            try:
                return bool(self.region.geometry.intersects(shape(item["geometry"])))
            except (ShapelyError, ValueError, KeyError, TypeError):
                return True
        return True


@dataclass(frozen=True)
class Found:
    """The items of a source by collection, and files that could not be read as items."""

    collections: dict[str, list[Item]] = field(default_factory=dict)
    refused: list[Refusal] = field(default_factory=list)

    def add(self, items: Iterable[Item], fallback: str | None) -> None:
        """Sort items into their collections; ``fallback`` names those that have none."""
        for item in items:
            try:
                refuse_broken(item)
            except RefusedItem as reason:
                self.refused.append(Refusal(str(item["id"]), str(reason)))
                continue
            collection = item.get("collection") or fallback
            if collection is None:
                self.refused.append(
                    Refusal(str(item["id"]), "it names no collection: give the product's name with --product")
                )
            else:
                self.collections.setdefault(collection, []).append(item)


def read_source(source: str, wanted: Wanted) -> Found:
    """Every wanted item of a STAC API, a static catalogue or item files. A folder of GeoTIFFs is read by ``folder``.

    Raises:
        InputError: the source cannot be reached, is no STAC, or its collections do not include the wanted one.
    """
    found = Found()
    if source.startswith(("http://", "https://")):
        document = _fetch(source)
        if _is_api(document):
            found.add(_from_api(source, document, wanted), wanted.product)
            return found
        found.add(_limited(_walk(source, document, found.refused), wanted), wanted.product)
        return found
    path = Path(source)
    if not path.exists():
        raise InputError(
            "no such source",
            where=source,
            expected="the address of a STAC API, a STAC catalogue (catalog.json), or a folder",
        )
    if path.is_dir():
        top = next((path / name for name in ("catalog.json", "collection.json") if (path / name).is_file()), None)
        if top is None:
            found.add(_limited(_item_files(path, found.refused), wanted), wanted.product)
            return found
        path = top
    found.add(_limited(_walk(str(path), _read_json(path), found.refused), wanted), wanted.product)
    return found


def is_raster_folder(source: str) -> bool:
    """Whether the source is a local folder that holds rasters and no STAC."""
    path = Path(source)
    if (
        "://" in source
        or not path.is_dir()
        or any((path / name).is_file() for name in ("catalog.json", "collection.json"))
    ):
        return False
    kinds = {file.suffix.lower() for file in path.rglob("*") if file.is_file()}
    return bool(kinds & _RASTERS) and ".json" not in kinds


def _limited(items: Iterable[Item], wanted: Wanted) -> Iterator[Item]:
    return islice((item for item in items if wanted.takes(item)), wanted.limit)


def _walk(href: str, document: dict[str, Any], refused: list[Refusal]) -> Iterator[Item]:
    """The items below a static catalogue, collection, feature collection or item."""
    import pystac
    from pystac.errors import STACError

    kind = document.get("type")
    if kind == "FeatureCollection":
        for feature in document.get("features", ()):
            yield from _one_item(feature, href, refused)
        return
    if kind == "Feature":
        yield from _one_item(document, href, refused)
        return
    if kind not in {"Catalog", "Collection"} and "stac_version" not in document:
        raise InputError(
            "this is not STAC",
            where=href,
            expected="a Catalog, a Collection, an Item or a FeatureCollection",
            found=f"type {kind!r}",
            remedy="give the address of a STAC API, a catalog.json, or a folder of GeoTIFFs with --profile",
        )
    try:
        catalog = pystac.read_dict(document, href=href)
    except (STACError, KeyError, ValueError, TypeError) as error:
        raise InputError("this STAC document cannot be read", where=href, found=error) from None
    assert isinstance(catalog, pystac.Catalog)
    yield from _catalog_items(catalog, refused)


def _catalog_items(catalog: Any, refused: list[Refusal]) -> Iterator[Item]:
    """Items of a catalogue and its children, link by link, so that one broken file costs one item."""
    import pystac

    for link in catalog.links:
        if link.rel not in {"item", "child"}:
            continue
        where = link.get_absolute_href() or str(link.target)
        try:
            target = link.resolve_stac_object(root=catalog.get_root()).target
        except Exception as error:  # missing files, broken JSON and pystac's own errors alike
            if isinstance(error, KeyboardInterrupt):
                raise
            refused.append(Refusal(where, f"cannot be read ({type(error).__name__}: {error})"))
            continue
        if isinstance(target, pystac.Catalog):
            yield from _catalog_items(target, refused)
        else:
            yield _plain(target)


def _one_item(document: dict[str, Any], href: str, refused: list[Refusal]) -> Iterator[Item]:
    import pystac
    from pystac.errors import STACError

    try:
        item = pystac.Item.from_dict(document, href=href)
    except (STACError, KeyError, ValueError, TypeError) as error:
        refused.append(Refusal(str(document.get("id", href)), f"is not a STAC item ({type(error).__name__}: {error})"))
        return
    yield _plain(item)


def _plain(item: Any) -> Item:
    """A pystac item (already migrated to a current STAC version) as JSON with absolute asset links."""
    from pystac.errors import STACError

    with suppress(STACError, ValueError):  # an item without an address: its links stay as they are
        item.make_asset_hrefs_absolute()
    return dict(item.to_dict(include_self_link=False, transform_hrefs=False))


def _item_files(folder: Path, refused: list[Refusal]) -> Iterator[Item]:
    files = sorted(folder.rglob("*.json"))
    items = 0
    for path in files:
        document = _read_json(path)
        if document.get("type") in {"Feature", "FeatureCollection"}:
            items += 1
            yield from _walk(str(path), document, refused)
    if not items:
        raise InputError(
            "nothing to index here",
            where=folder,
            expected="a catalog.json, STAC items (*.json), or GeoTIFFs",
            found=f"{len(files)} JSON files without items",
        )


def _read_json(path: Path) -> dict[str, Any]:
    import json

    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise InputError("this file is not readable JSON", where=path, found=error) from None
    if not isinstance(document, dict):
        raise InputError("this is not STAC", where=path, expected="a JSON object", found=type(document).__name__)
    return document


def _fetch(address: str) -> dict[str, Any]:
    import requests

    try:
        answer = requests.get(address, timeout=_TIMEOUT_S, headers={"Accept": "application/json"})
        answer.raise_for_status()
        document = answer.json()
    except requests.exceptions.JSONDecodeError:
        raise InputError(
            "this address does not answer with STAC", where=address, expected="JSON", found=answer.text[:80]
        ) from None
    except requests.RequestException as error:
        raise InputError(
            "cannot reach this address", where=address, found=error, remedy="check the address and the network"
        ) from None
    if not isinstance(document, dict):
        raise InputError("this address does not answer with STAC", where=address, found=type(document).__name__)
    return document


def _is_api(document: dict[str, Any]) -> bool:
    return bool(document.get("conformsTo")) or any(link.get("rel") == "search" for link in document.get("links", ()))


def _from_api(address: str, document: dict[str, Any], wanted: Wanted) -> Iterator[Item]:
    from pystac_client import Client
    from pystac_client.exceptions import APIError

    try:
        client = Client.open(address, timeout=_TIMEOUT_S)
        collections = [collection.id for collection in client.get_collections()]
        collection = _choose_collection(address, collections, wanted.product)
        search = client.search(
            collections=[collection],
            bbox=wanted.region.bbox if wanted.region else None,
            datetime=_interval(wanted.period),
            max_items=wanted.limit,
            limit=min(wanted.limit or 200, 200),
        )
        for item in search.items():
            plain = _plain(item)
            if wanted.takes(plain):
                yield plain
    except (APIError, OSError) as error:
        raise InputError(
            "this STAC API fails", where=address, found=error, remedy="try again later, or ask for less with --period"
        ) from None


def _interval(period: Period | None) -> str | None:
    return f"{period.start.isoformat()}T00:00:00Z/{period.end.isoformat()}T23:59:59Z" if period else None


def _choose_collection(address: str, collections: list[str], product: str | None) -> str:
    if product is not None:
        for collection in collections:
            if product in {collection, word(collection)}:
                return collection
    if len(collections) == 1:
        return collections[0]
    raise InputError(
        "this STAC API has several collections" if product is None else f"this STAC API has no collection '{product}'",
        where=address,
        found=", ".join(sorted(collections)) or "no collections",
        remedy="choose one with --product",
    )
