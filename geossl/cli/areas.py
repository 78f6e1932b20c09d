"""``geossl areas``: areas of a map's classes, design-based where there is a test sample."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from geossl.cli.common import JsonOption, OutOption, SeedOption, run_verb

if TYPE_CHECKING:
    from geossl.maps.areal import AreasResult, SampleResult


def areas(
    layer: Annotated[str, typer.Argument(help="Folder of a layer of classes (geossl map).")],
    sample: Annotated[
        str | None, typer.Option("--sample", help="Test sample: points with their true class (column class).")
    ] = None,
    zones: Annotated[str | None, typer.Option("--zones", help="Polygons: areas in each.")] = None,
    zone_name: Annotated[
        str | None, typer.Option("--zone-name", help="The column of --zones with their names.")
    ] = None,
    draw: Annotated[
        int | None,
        typer.Option("--draw", help="Instead: draw so many points to be labelled, as a GeoPackage (--out FILE.gpkg)."),
    ] = None,
    out: OutOption = None,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Areas of the classes of a map: with a test sample design-based with 95 % intervals (Olofsson et al. 2014),
    without one a pixel count, and named so.

    Examples: geossl areas LAYER --draw 300 --out sample.gpkg   |   geossl areas LAYER --sample sample.gpkg --zones
    municipalities.geojson --zone-name kom_namn
    """

    def work() -> AreasResult | SampleResult:
        from geossl.errors import InputError
        from geossl.maps.areal import draw_sample, map_areas

        if draw is None:
            return map_areas(layer, sample=sample, zones=zones, zone_name=zone_name, out=out)
        if out is None or sample is not None or zones is not None:
            raise InputError("drawing a sample writes one file", where="--draw", expected="--draw N --out FILE.gpkg")
        return draw_sample(layer, draw, out, seed=seed)

    run_verb(work, as_json, _text)


def _text(result: AreasResult | SampleResult) -> str:
    from geossl.maps.areal import SampleResult, describe

    if isinstance(result, SampleResult):
        points = ", ".join(f"{name} {number}" for name, number in result.points.items())
        return f"{result.path}\n  points   {points}\n  next     fill in the column class, then --sample"
    lines = [f"areas: {result.folder}", *(f"  {line}" for line in describe(result.rows))]
    if result.overall is not None:
        value, low, high = result.overall
        lines.append(f"  overall accuracy {value:.3f} [{low:.3f}, {high:.3f}], by area")
    return "\n".join(lines)
