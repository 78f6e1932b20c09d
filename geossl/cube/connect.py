"""Cubes, products and scenes: ODC's own configuration where there is one, the embedded cube otherwise.

``open_cube`` is the only place that knows which database is asked; everything behind it sees an ODC index.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, time, timedelta
from datetime import datetime as Moment
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Any

from geossl.cube import profiles
from geossl.cube.embedded import EmbeddedServer, open_server
from geossl.errors import InputError, unknown_name
from geossl.products import Encoding, ProductProfile
from geossl.regions import Period, Region

if TYPE_CHECKING:
    from datacube import Datacube
    from datacube.cfg.api import ODCEnvironment
    from datacube.index import Index
    from datacube.model import Dataset
    from odc.geo.geobox import GeoBox
    from shapely.geometry.base import BaseGeometry

EMBEDDED = "embedded"
SANDBOX_PREFIX = "sandbox_"
TWO_WAYS_ON = "run 'geossl sandbox create malardalen' for simulated scenes, or 'geossl cube index SOURCE' for your own"


@dataclass(frozen=True)
class Product:
    """An ODC product and what its bands mean."""

    name: str
    profile: ProductProfile

    @property
    def bands(self) -> tuple[str, ...]:
        """Common names of the bands, in the profile's order."""
        return tuple(band.common for band in self.profile.bands.values())

    @property
    def encoding(self) -> Encoding:
        """How pixels of this product are stored in chips."""
        return self.profile.encoding


@dataclass(frozen=True)
class Scene:
    """One ODC dataset: one acquisition over one footprint. Pickles, and needs no database to be read."""

    id: str
    product: str
    datetime: Moment
    """UTC."""
    solar_day: date
    """The date at the scene's own longitude; of scenes whose time of day is not known (00:00:00), their date."""
    footprint: BaseGeometry = field(repr=False)
    """In EPSG:4326."""
    geobox: GeoBox = field(repr=False)
    """The finest grid of its bands."""
    cloud_cover: float | None
    """Per cent, as the provider says."""
    baseline: str | None
    """Sentinel-2 processing baseline, for instance ``05.10``."""
    dataset: Dataset = field(repr=False)


class Cube:
    """An open Open Data Cube; a context manager that closes its connection (and lets go of an embedded server)."""

    def __init__(self, name: str, environment: ODCEnvironment, server: EmbeddedServer | None = None) -> None:
        self.name = name
        """``embedded``, or the name of the ODC environment."""
        self._environment, self._server = environment, server

    @cached_property
    def dc(self) -> Datacube:
        """The ``datacube.Datacube``, for everything geossl does not do itself."""
        from datacube import Datacube

        try:
            return Datacube(env=self._environment, app="geossl")
        except Exception as error:  # SQLAlchemy's, psycopg2's and datacube's own
            self.close()
            raise InputError(
                "cannot connect to this cube",
                where=f"ODC environment '{self.name}'",
                found=str(error).strip().splitlines()[0],
                remedy="check ODC_CONFIG_PATH, ODC_ENVIRONMENT and ODC_DEFAULT_DB_URL, and that 'datacube system "
                "check' passes; without any of them geossl uses its embedded cube",
            ) from None

    @property
    def index(self) -> Index:
        """The ODC index."""
        return self.dc.index

    def __enter__(self) -> Cube:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; harmless when done twice."""
        if "dc" in self.__dict__:
            self.__dict__.pop("dc").close()
        if self._server is not None:
            self._server.close()

    def products(self) -> list[Product]:
        """Every raster product of the index, by name."""
        found = sorted(self.index.products.get_all(), key=lambda product: product.name)
        return [Product(product.name, profile) for product in found if (profile := profiles.of_odc_product(product))]

    def product(self, name: str) -> Product:
        """One product by name.

        Raises:
            InputError: no such product; lists what there is.
        """
        wanted = profiles.product_name(name)
        found = self.index.products.get_by_name(name) or self.index.products.get_by_name(wanted)
        profile = profiles.of_odc_product(found) if found is not None else None
        if found is None or profile is None:
            names = [product.name for product in self.products()]
            if not names:
                raise InputError(
                    f"unknown product '{name}'", where=f"cube '{self.name}'", found="an empty cube", remedy=TWO_WAYS_ON
                )
            raise unknown_name("product", name, names, where=f"cube '{self.name}'")
        return Product(found.name, profile)

    def find(
        self,
        product: Product,
        geometry: BaseGeometry | None = None,
        period: Period | None = None,
        months: Sequence[int] | None = None,
    ) -> list[Scene]:
        """Scenes of a product by time, then id. ``geometry`` is in EPSG:4326; period and months ask the solar day."""
        query: dict[str, Any] = {}
        if period is not None:
            from datacube.model import Range

            day = timedelta(days=1)  # the solar day may be the day before or after the UTC day
            query["time"] = Range(
                Moment.combine(period.start - day, time.min, UTC),
                Moment.combine(period.end + day, time.max, UTC),
            )
        if geometry is not None:
            from datacube.model import Range

            west, south, east, north = geometry.bounds
            query["lat"], query["lon"] = Range(south, north), Range(west, east)
        scenes: Iterable[Scene] = map(scene_of, self.index.datasets.search(product=product.name, **query))
        if period is not None:
            scenes = (scene for scene in scenes if period.contains(scene.solar_day))
        if months is not None:
            scenes = (scene for scene in scenes if scene.solar_day.month in months)
        if geometry is not None:
            from shapely import prepare

            prepare(geometry)
            scenes = (scene for scene in scenes if geometry.intersects(scene.footprint))
        return sorted(scenes, key=lambda scene: (scene.datetime, scene.id))


def open_cube(product: str | None = None) -> Cube:
    """The cube that ODC's own configuration names, else the embedded one; ``sandbox_*`` products: the embedded one.

    Use as a context manager. Raises ``InputError`` where the configuration does not lead to a cube.
    """
    if not (product or "").startswith(SANDBOX_PREFIX) and (environment := _configured()) is not None:
        return Cube(environment._name, environment)
    return _open_embedded()


def choose_product(region: Region, product: str | None) -> tuple[Cube, Product]:
    """The requested product, or the only one with scenes over the region: the configured cube first, then embedded.

    The cube is open: close it, or use it as a context manager.

    Raises:
        InputError: several products fit (asks for ``--product``), or none (names the two ways on).
    """
    if product is not None:
        cube = open_cube(product)
        try:
            return cube, cube.product(product)
        except BaseException:
            cube.close()
            raise
    for cube in _cubes():
        fitting: list[Product] = []
        try:
            fitting = [known for known in cube.products() if has_scenes(cube, known, region.geometry)]
        finally:
            if len(fitting) != 1:
                cube.close()
        if len(fitting) == 1:
            return cube, fitting[0]
        if fitting:
            raise InputError(
                "several products have scenes over this region",
                where=f"region {region.name}, cube '{cube.name}'",
                found=", ".join(known.name for known in fitting),
                remedy=f"choose one with --product, for instance --product {fitting[0].name}",
            )
    raise InputError("no scenes of this region are indexed", where=f"region {region.name}", remedy=TWO_WAYS_ON)


def has_scenes(cube: Cube, product: Product, geometry: BaseGeometry) -> bool:
    """Whether any scene of the product touches the geometry (EPSG:4326)."""
    from datacube.model import Range

    from geossl.cube.documents import footprint_of

    west, south, east, north = geometry.bounds
    candidates = cube.index.datasets.search(product=product.name, lat=Range(south, north), lon=Range(west, east))
    return any(geometry.intersects(footprint_of(dataset)) for dataset in candidates)


def _cubes() -> Iterator[Cube]:
    """The configured cube if there is one, then the embedded cube; one is closed before the next is opened."""
    if (environment := _configured()) is not None:
        yield Cube(environment._name, environment)
    yield _open_embedded()


def _configured() -> ODCEnvironment | None:
    """The environment ODC's own configuration names (variables or files), or ``None`` where there is none."""
    from datacube.cfg import ConfigException, ODCConfig

    named = [
        key
        for key, value in os.environ.items()
        if value and key.startswith(("ODC_", "DATACUBE_")) and key not in {"ODC_TEST", "DATACUBE_TEST"}
    ]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # ODC's own remarks on its older variables
            settings = ODCConfig()
            if settings.is_default and not named:
                return None
            return settings[None]
    except (ConfigException, KeyError, ValueError) as error:
        raise InputError(
            "ODC's configuration cannot be used",
            where=", ".join(sorted(named)) or "datacube.conf",
            found=error,
            remedy="correct it, or remove it to use the embedded cube",
        ) from None


def _open_embedded() -> Cube:
    server = open_server(_make_tables)
    return Cube(EMBEDDED, _environment(server.url), server)


def _environment(url: str) -> ODCEnvironment:
    from datacube.cfg import ODCConfig

    return ODCConfig(raw_dict={EMBEDDED: {"index_driver": "postgres", "db_url": url}})[EMBEDDED]


def _make_tables(url: str) -> None:
    from datacube.drivers.postgres._core import METADATA
    from datacube.index import index_connect

    # datacube hangs the search indexes of one database on a table object all databases of a process share, and a
    # second new database then fails with "relation dix_… already exists": take them off again
    for described in METADATA.tables.values():
        described.indexes -= {index for index in described.indexes if str(index.name).startswith("dix_")}
    index = index_connect(_environment(url), application_name="geossl", validate_connection=False)
    try:
        index.init_db(with_default_types=True, with_permissions=True)
    finally:
        index.close()


def scene_of(dataset: Dataset) -> Scene:
    """An ODC dataset as a scene, from its document alone."""
    from geossl.cube.documents import finest_geobox, footprint_of

    properties: dict[str, Any] = dataset.metadata_doc.get("properties", {})
    moment: Moment = dataset.center_time
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    footprint = footprint_of(dataset)
    cloud = properties.get("eo:cloud_cover")
    baseline = properties.get("s2:processing_baseline", properties.get("sentinel:processing_baseline"))
    return Scene(
        id=str(dataset.id),
        product=dataset.product.name,
        datetime=moment,
        solar_day=solar_day(moment, footprint.centroid.x),
        footprint=footprint,
        geobox=finest_geobox(dataset),
        cloud_cover=None if cloud is None else float(cloud),
        baseline=None if baseline is None else str(baseline),
        dataset=dataset,
    )


def solar_day(moment: Moment, longitude: float) -> date:
    """The date at a longitude (degrees) by the sun, 15 degrees an hour; of 00:00:00 only the day is known."""
    if moment.time() == time.min:
        return moment.date()
    return (moment + timedelta(hours=longitude / 15)).date()
