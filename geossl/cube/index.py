"""``geossl cube index``: from a source of scenes to datasets in the cube. Running it again adds only what is new."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geossl.cube import documents, profiles
from geossl.cube.assets import Item
from geossl.cube.connect import Cube, open_cube
from geossl.cube.documents import Refusal, RefusedItem
from geossl.cube.folder import read_folder
from geossl.cube.stac import Wanted, is_raster_folder, read_source
from geossl.errors import InputError, WorkError
from geossl.products import ProductProfile, load_profile
from geossl.progress import say, track
from geossl.regions import Region, load_region, parse_period

if TYPE_CHECKING:
    from datacube.model import Dataset
    from datacube.model import Product as OdcProduct

_BATCH = 500


@dataclass(frozen=True)
class IndexedProduct:
    """What one run did to one product."""

    name: str
    profile: str
    """Where the profile came from: a shipped name, a file, or the items themselves."""
    bands: tuple[str, ...]
    added: int
    updated: int
    """Scenes that were indexed already and whose files or scaling have changed since."""
    skipped: int
    """Scenes that were indexed already."""


@dataclass(frozen=True)
class IndexResult:
    """What one run of ``index_source`` did."""

    source: str
    cube: str
    products: tuple[IndexedProduct, ...]
    refused: tuple[Refusal, ...]

    @property
    def added(self) -> int:
        """Scenes that are new in the cube."""
        return sum(product.added for product in self.products)

    @property
    def skipped(self) -> int:
        """Scenes that were there already."""
        return sum(product.skipped for product in self.products)


def index_source(
    source: str | Path,
    *,
    product: str | None = None,
    profile: str | None = None,
    region: str | Region | None = None,
    period: str | None = None,
    limit: int | None = None,
) -> IndexResult:
    """Index the scenes of a STAC API, a static STAC catalogue, STAC item files or a folder of GeoTIFFs.

    Args:
        source: address or path.
        product: which collection of an API, and the name of the ODC product; default: the collection's name.
        profile: a shipped product profile or a ``.yaml`` file; default: the fitting one, else inferred from the items.
        region: only scenes that touch it (a shipped name, vector file or box).
        period: only scenes of these days (``2018``, ``2018-05-01/2018-09-30``).
        limit: at most so many scenes.

    Raises:
        InputError: the source cannot be read, is empty, or none of its scenes can be indexed.
    """
    place = region if isinstance(region, Region) or region is None else load_region(region)
    wanted = Wanted(product, place, parse_period(period) if period else None, limit)
    text = str(source)
    if is_raster_folder(text):
        found = read_folder(Path(text), load_profile(profile) if profile else None, wanted)
    else:
        found = read_source(text, wanted)
    refused = list(found.refused)
    if product is not None and len(found.collections) > 1:
        raise InputError(
            "one product name for several collections",
            where=text,
            found=", ".join(sorted(found.collections)),
            remedy="leave out --product, or give the address of one collection",
        )
    indexed: list[IndexedProduct] = []
    cube_name = ""
    for collection, items in sorted(found.collections.items()):
        name = profiles.product_name(product or collection)
        with open_cube(name) as cube:
            cube_name = cube.name
            try:
                indexed.append(_index_collection(cube, collection, name, profile, items, refused))
            except InputError as error:
                if len(found.collections) == 1:
                    raise
                refused.extend(Refusal(str(item["id"]), str(error.what)) for item in items)
    _check_any(text, indexed, refused, wanted)
    return IndexResult(text, cube_name, tuple(indexed), tuple(refused))


def _check_any(source: str, indexed: Sequence[IndexedProduct], refused: Sequence[Refusal], wanted: Wanted) -> None:
    if any(product.added + product.skipped + product.updated for product in indexed):
        return
    if refused:
        raise InputError(
            f"none of the {len(refused)} scenes of this source can be indexed",
            where=source,
            found="; ".join(f"{refusal.item}: {refusal.reason}" for refusal in refused[:3]),
        )
    limits = " ".join(part for part, given in (("--region", wanted.region), ("--period", wanted.period)) if given)
    raise InputError(
        "no scenes in this source",
        where=source,
        found=f"nothing within {limits}" if limits else "an empty catalogue",
        remedy="check --region and --period against the source" if limits else "check the address",
    )


def _index_collection(
    cube: Cube, collection: str, name: str, named: str | None, items: list[Item], refused: list[Refusal]
) -> IndexedProduct:
    resolved, origin, odc_product = _product(cube, collection, name, named, items)
    added = updated = skipped = 0
    with track(f"index {name}", len(items), "scenes") as bar:
        for start in range(0, len(items), _BATCH):
            batch = items[start : start + _BATCH]
            datasets: dict[str, Dataset] = {}
            for item in batch:
                try:
                    dataset = _dataset(item, odc_product, name, resolved)
                except RefusedItem as reason:
                    refused.append(Refusal(str(item["id"]), str(reason)))
                else:
                    datasets.setdefault(str(dataset.id), dataset)
            news, changes, same = _write(cube, datasets)
            added, updated, skipped = added + news, updated + changes, skipped + same
            bar.advance(len(batch))
    bands = tuple(band.common for band in resolved.bands.values())
    return IndexedProduct(name, origin, bands, added, updated, skipped)


def _product(
    cube: Cube, collection: str, name: str, named: str | None, items: Sequence[Item]
) -> tuple[ProductProfile, str, OdcProduct]:
    """The product as it is in the cube, or made now from the fitting profile."""
    from sqlalchemy.exc import IntegrityError

    present = cube.index.products.get_by_name(name)
    if present is not None:
        known = profiles.of_odc_product(present)
        if known is None:
            raise InputError(f"product '{name}' of this cube has no raster bands", remedy="choose another --product")
        if named is not None and _differs(known, profiles.of_items(collection, items, named)[0]):
            raise InputError(
                f"product '{name}' is in the cube with another profile",
                where=f"cube '{cube.name}'",
                found=f"--profile {named}",
                remedy="leave out --profile, or index under another name with --product",
            )
        return known, "as indexed before", present
    resolved, origin = profiles.of_items(collection, items, named)
    if named is None and origin.startswith("inferred"):
        say(f"no profile fits {collection}; inferred from its items:\n{describe(resolved)}")
    document = documents.product_document(name, resolved)
    try:
        added = cube.index.products.add(cube.index.products.from_doc(document))
    except IntegrityError:  # another process was first
        added = cube.index.products.get_by_name(name)
    assert added is not None
    return resolved, origin, added


def _differs(one: ProductProfile, other: ProductProfile) -> bool:
    return one.model_dump(exclude={"title", "match"}) != other.model_dump(exclude={"title", "match"})


def describe(profile: ProductProfile) -> str:
    """A profile in a few lines for people."""
    lines = [
        f"  family {profile.family}, {profile.dtype}, value = DN * {profile.scale:g} + offset "
        f"({profile.offset:g}, rule {profile.offset_rule}), nodata {profile.nodata}",
        "  bands " + ", ".join(f"{key} ({band.common})" for key, band in profile.bands.items()),
    ]
    if profile.mask is not None:
        lines.append(f"  mask {profile.mask.band} ({profile.mask.kind})")
    return "\n".join(lines)


def _dataset(item: Item, product: OdcProduct, name: str, profile: ProductProfile) -> Dataset:
    from datacube.index.eo3 import prep_eo3
    from datacube.model import Dataset

    document = documents.dataset_document(item, name, profile)
    try:
        prepared = prep_eo3(document)
    except ValueError as error:
        raise RefusedItem(f"its document is refused by Open Data Cube ({error})") from None
    uri = next(iter(document["measurements"].values()))["path"]
    return Dataset(product, prepared, uri=uri.rsplit("/", 1)[0] + "/")


def _write(cube: Cube, datasets: dict[str, Dataset]) -> tuple[int, int, int]:
    """Add what is new, update what has changed. Returns the numbers of new, changed and unchanged datasets."""
    store = cube.index.datasets
    ids = list(datasets)
    known = {identifier for identifier, there in zip(ids, store.bulk_has(ids), strict=True) if there}
    stored = {str(dataset.id): dataset for dataset in store.bulk_get(known)} if known else {}
    changed = [
        datasets[identifier]
        for identifier in ids
        if identifier in stored and _changed(stored[identifier], datasets[identifier])
    ]
    news = [datasets[identifier] for identifier in ids if identifier not in known]
    added = _add(cube, news)
    if changed:
        from datacube.utils.changes import allow_any

        for dataset in changed:
            store.update(dataset, updates_allowed={(): allow_any})
    return added, len(changed), len(datasets) - added - len(changed)


def _add(cube: Cube, news: Sequence[Dataset]) -> int:
    """Add datasets; those that another process has added in the meantime are not counted."""
    from datacube.index.abstract import DatasetTuple
    from sqlalchemy.exc import IntegrityError

    store = cube.index.datasets
    left = list(news)
    while left:
        tuples = [DatasetTuple(dataset.product, dataset.metadata_doc, dataset.uri or "", {}) for dataset in left]
        try:
            status = store.bulk_add(tuples, batch_size=_BATCH)
        except IntegrityError:  # the whole batch is refused for one known id
            there = list(store.bulk_has([dataset.id for dataset in left]))
            if not any(there):
                raise
            left = [dataset for dataset, known in zip(left, there, strict=True) if not known]
            continue
        if status.completed != len(left):
            raise WorkError(
                "the cube did not take every scene",
                where=f"cube '{cube.name}'",
                expected=f"{len(left)} scenes",
                found=f"{status.completed}",
                remedy="run the same command again; see datacube's log above",
            )
        break
    return len(left)


def _changed(old: Any, new: Any) -> bool:
    def essence(dataset: Dataset) -> tuple[Any, ...]:
        document = dataset.metadata_doc
        return (
            document.get("measurements"),
            document.get("grids"),
            document.get("properties", {}).get(documents.RADIOMETRY),
        )

    return essence(old) != essence(new)
