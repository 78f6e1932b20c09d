"""``geossl cube``: what scenes there are, and how they get in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from geossl.cli.common import JsonOption, PeriodOption, ProductOption, RegionOption, run_verb

if TYPE_CHECKING:
    from geossl.cube.index import IndexResult
    from geossl.cube.status import CubeStatus

app = typer.Typer(no_args_is_help=True, help="Index scenes, and say what is indexed.", rich_markup_mode=None)


@app.command("index")
def index(
    source: Annotated[
        str, typer.Argument(help="A STAC API, a static STAC catalogue, STAC item files, or a folder of GeoTIFFs.")
    ],
    product: Annotated[
        str | None, typer.Option("--product", help="Collection of an API; name of the product in the cube.")
    ] = None,
    profile: Annotated[
        str | None, typer.Option("--profile", help="Product profile: a shipped name or a .yaml file.")
    ] = None,
    region: RegionOption = None,
    period: PeriodOption = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="At most so many scenes.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Index scenes into the cube; again: only what is new.

    Examples:

      geossl cube index catalog.json

      geossl cube index https://stac.example.org/v1 --product sentinel-2-l2a --region malardalen --period 2024-07
    """

    def work() -> IndexResult:
        from geossl.cube.index import index_source

        return index_source(source, product=product, profile=profile, region=region, period=period, limit=limit)

    run_verb(work, as_json, _index_text)


def _index_text(result: IndexResult) -> str:
    lines = [
        f"{product.name} in cube '{result.cube}': {product.added} scenes added, {product.updated} updated, "
        f"{product.skipped} already there; bands {', '.join(product.bands)} ({product.profile})"
        for product in result.products
    ]
    if result.refused:
        lines.append(f"refused: {len(result.refused)}")
        lines += [f"  {refusal.item}: {refusal.reason}" for refusal in result.refused[:20]]
        if len(result.refused) > 20:
            lines.append(f"  … and {len(result.refused) - 20} more (all with --json)")
    return "\n".join(lines)


@app.command("status")
def status(
    region: RegionOption = None,
    product: ProductOption = None,
    picture: Annotated[str | None, typer.Option("--map", help="Draw the footprints into this PNG.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Products, scenes, clear dates, cloud cover, and how much of a region they cover.

    Example: geossl cube status --region malardalen --map footprints.png
    """

    def work() -> CubeStatus:
        from pathlib import Path

        from geossl.cube.status import cube_status, draw_map
        from geossl.progress import say

        found = cube_status(region, product)
        if picture:
            draw_map(found, region, Path(picture))
            say(f"picture: {picture}")
        return found

    def text(found: CubeStatus) -> str:
        from geossl.cube.status import table

        return table(found)

    if as_json:
        run_verb(lambda: work().as_dict(), True, str)
    else:
        run_verb(work, False, text)


@app.command("products")
def products(as_json: JsonOption = False) -> None:
    """List the shipped product profiles and the products that are indexed.

    Example: geossl cube products
    """

    def work() -> dict[str, object]:
        from dataclasses import asdict

        from geossl.cube.status import list_products

        return {"products": [asdict(row) for row in list_products()]}

    def text(found: dict[str, object]) -> str:
        from geossl.cube.status import ProfileRow, products_table

        return products_table([ProfileRow(**row) for row in found["products"]])  # type: ignore[attr-defined]

    run_verb(work, as_json, text)
