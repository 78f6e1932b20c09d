"""What is in the cube: products, scenes, dates, clouds, and how much of a region the footprints cover."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from statistics import median

from shapely.geometry.base import BaseGeometry

from geossl.cube import profiles
from geossl.cube.connect import TWO_WAYS_ON, Cube, Scene, open_cube
from geossl.errors import InputError
from geossl.products import ProductProfile
from geossl.regions import Region, load_region

CLEAR_BELOW_PERCENT = 20.0
"""A date counts as clear when the median cloud cover of its scenes, as the provider says, is below this."""


@dataclass(frozen=True)
class ProductStatus:
    """One product of a cube, in the region asked for."""

    cube: str
    product: str
    bands: tuple[str, ...]
    scenes: int
    dates: int
    first: date
    last: date
    clear_dates: int | None
    """Dates below ``CLEAR_BELOW_PERCENT``; ``None`` where no scene says its cloud cover."""
    cloud_cover: float | None
    """Median of the scenes, per cent."""
    covered: float | None
    """Share of the region's area that any footprint covers (0..1); ``None`` without a region."""
    footprints: tuple[BaseGeometry, ...] = field(repr=False, default=())
    """In EPSG:4326, for the picture."""


@dataclass(frozen=True)
class CubeStatus:
    """What ``geossl cube status`` tells."""

    region: str | None
    products: tuple[ProductStatus, ...]

    def as_dict(self) -> dict[str, object]:
        """Without the footprints, for ``--json``."""
        from dataclasses import fields

        rows = [
            {part.name: getattr(row, part.name) for part in fields(row) if part.name != "footprints"}
            for row in self.products
        ]
        return {"region": self.region, "products": rows}


@dataclass(frozen=True)
class ProfileRow:
    """One line of ``geossl cube products``."""

    name: str
    kind: str
    """``profile`` (shipped) or the cube that holds the product."""
    title: str
    bands: tuple[str, ...]
    encoding: str


def cube_status(region: str | Region | None = None, product: str | None = None) -> CubeStatus:
    """Scenes by product, of the configured cube and of the embedded one.

    Args:
        region: count only scenes that touch it, and say how much of it they cover.
        product: only this product.

    Raises:
        InputError: nothing is indexed, or the product is unknown.
    """
    place = region if isinstance(region, Region) or region is None else load_region(region)
    rows: list[ProductStatus] = []
    for cube in _cubes(product):
        with cube:
            chosen = [cube.product(product)] if product else cube.products()
            for known in chosen:
                scenes = cube.find(known, place.geometry if place else None)
                if scenes:
                    rows.append(_row(cube, known.name, known.bands, scenes, place))
    if not rows:
        where = f"region {place.name}" if place else None
        raise InputError(
            "no scenes of this region are indexed" if place else "no scenes are indexed",
            where=where,
            remedy=TWO_WAYS_ON,
        )
    return CubeStatus(place.name if place else None, tuple(rows))


def _cubes(product: str | None) -> list[Cube]:
    first = open_cube(product)
    second = open_cube("sandbox_") if product is None else first  # the embedded cube is always there
    if second.name == first.name:
        if second is not first:
            second.close()
        return [first]
    return [first, second]


def _row(
    cube: Cube, name: str, bands: tuple[str, ...], scenes: Sequence[Scene], region: Region | None
) -> ProductStatus:
    clouds = [scene.cloud_cover for scene in scenes if scene.cloud_cover is not None]
    by_day: dict[date, list[float]] = {}
    for scene in scenes:
        by_day.setdefault(scene.solar_day, [])
        if scene.cloud_cover is not None:
            by_day[scene.solar_day].append(scene.cloud_cover)
    clear = sum(bool(day) and median(day) < CLEAR_BELOW_PERCENT for day in by_day.values())
    footprints = tuple({scene.footprint.wkb: scene.footprint for scene in scenes}.values())
    return ProductStatus(
        cube=cube.name,
        product=name,
        bands=bands,
        scenes=len(scenes),
        dates=len(by_day),
        first=min(by_day),
        last=max(by_day),
        clear_dates=clear if clouds else None,
        cloud_cover=round(median(clouds), 2) if clouds else None,
        covered=None if region is None else round(_share(region, footprints), 4),
        footprints=footprints,
    )


def _share(region: Region, footprints: Sequence[BaseGeometry]) -> float:
    from shapely import union_all

    whole = _equal_area(region.geometry)
    return float(whole.intersection(_equal_area(union_all(list(footprints)))).area / whole.area)


def _equal_area(geometry: BaseGeometry) -> BaseGeometry:
    """In EPSG:6933, an equal-area CRS of the whole globe, so that shares are shares of ground."""
    import pyproj
    from shapely.ops import transform

    return transform(pyproj.Transformer.from_crs("EPSG:4326", "EPSG:6933", always_xy=True).transform, geometry)


def share_text(share: float) -> str:
    """A share (0..1) as per cent, with digits enough that a little is not nothing."""
    return f"{100 * share:.0f} %" if share == 0 or share >= 0.1 else f"{100 * share:.2g} %"


def table(status: CubeStatus) -> str:
    """The status as text columns."""
    head = ("product", "cube", "scenes", "dates", "clear", "first", "last", "cloud %", "covers")
    rows = [
        (
            row.product,
            row.cube,
            str(row.scenes),
            str(row.dates),
            "?" if row.clear_dates is None else str(row.clear_dates),
            row.first.isoformat(),
            row.last.isoformat(),
            "?" if row.cloud_cover is None else f"{row.cloud_cover:.0f}",
            "" if row.covered is None else share_text(row.covered),
        )
        for row in status.products
    ]
    note = (
        f"clear: dates with less than {CLEAR_BELOW_PERCENT:g} % cloud, as the provider says; cloud %: median of scenes"
    )
    if status.region:
        note += f"; covers: share of {status.region} under any footprint"
    return _columns([head, *rows]) + f"\n{note}"


def _columns(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def list_products() -> list[ProfileRow]:
    """Shipped profiles, and the products that are indexed."""

    def encoding(profile: ProductProfile) -> str:
        kept = profile.encoding
        return f"{kept.dtype} * {kept.scale:g} {'-' if kept.offset < 0 else '+'} {abs(kept.offset):g}"

    def row(name: str, kind: str, profile: ProductProfile) -> ProfileRow:
        return ProfileRow(
            name, kind, profile.title, tuple(band.common for band in profile.bands.values()), encoding(profile)
        )

    rows = [row(name, "profile", profile) for name, profile in profiles.shipped().items()]
    for cube in _cubes(None):
        with cube:
            rows.extend(row(known.name, f"in cube '{cube.name}'", known.profile) for known in cube.products())
    return rows


def products_table(rows: Sequence[ProfileRow]) -> str:
    """Profiles and products as text."""
    cells = [("name", "kind", "bands", "stored as")]
    cells += [(row.name, row.kind, str(len(row.bands)), row.encoding) for row in rows]
    head, *lines = _columns(cells).splitlines()
    details = [f"    {row.title}: {', '.join(row.bands)}" for row in rows]
    return "\n".join([head, *(f"{line}\n{detail}" for line, detail in zip(lines, details, strict=True))])


def draw_map(status: CubeStatus, region: str | Region | None, out: Path) -> None:
    """Footprints against the region as a PNG, darker where more scenes overlap, in the region's own metres."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from shapely import union_all

    from geossl.artefacts import atomic_file

    place = region if isinstance(region, Region) or region is None else load_region(region)
    centre = (
        place.geometry if place else union_all([shape for row in status.products for shape in row.footprints])
    ).centroid
    crs = f"+proj=laea +lat_0={centre.y:.4f} +lon_0={centre.x:.4f} +units=km +datum=WGS84"
    figure, axes = plt.subplots(figsize=(8, 8), layout="constrained")
    colours = plt.get_cmap("tab10")
    handles = []
    for number, row in enumerate(status.products):
        shapes = [_projected(shape, crs) for shape in row.footprints]
        for shape in shapes:
            _fill(axes, shape, colours(number % 10), alpha=max(0.08, 0.5 / len(shapes)))
        label = f"{row.product}: {row.scenes} scenes, {row.first} to {row.last}"
        if row.covered is not None:
            label += f", {share_text(row.covered)} of the region"
        handles.append(plt.Rectangle((0, 0), 1, 1, color=colours(number % 10), alpha=0.5, label=label))
    if place is not None:
        for part in _parts(_projected(place.geometry, crs)):
            (line,) = axes.plot(*part.exterior.xy, color="black", linewidth=2, label=f"region {place.name}")
        handles.append(line)
    axes.set_aspect("equal")
    axes.margins(0.05)
    axes.set_xlabel("km east of the centre")
    axes.set_ylabel("km north of the centre")
    axes.set_title(f"Scenes over {place.name}" if place else "Scenes in the cube")
    axes.grid(alpha=0.3)
    figure.legend(handles=handles, loc="outside lower center", fontsize=9)
    with atomic_file(out) as temporary:
        figure.savefig(temporary, dpi=110)
    plt.close(figure)


def _projected(geometry: BaseGeometry, crs: str) -> BaseGeometry:
    import pyproj
    from shapely.ops import transform

    return transform(pyproj.Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform, geometry)


def _parts(geometry: BaseGeometry) -> list[BaseGeometry]:
    return [part for part in getattr(geometry, "geoms", [geometry]) if part.geom_type == "Polygon"]


def _fill(axes: object, geometry: BaseGeometry, colour: object, alpha: float) -> None:
    for part in _parts(geometry):
        axes.fill(*part.exterior.xy, facecolor=colour, alpha=alpha)  # type: ignore[attr-defined]
        axes.plot(*part.exterior.xy, color=colour, linewidth=0.8)  # type: ignore[attr-defined]
