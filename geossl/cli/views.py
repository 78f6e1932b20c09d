"""``geossl views``: look at what a method's network will see, before it trains."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from geossl.cli.common import (
    JsonOption,
    MonthsOption,
    PeriodOption,
    ProductOption,
    RegionOption,
    SeedOption,
    run_verb,
)

if TYPE_CHECKING:
    import pandas as pd

    from geossl.chips.chipset import ChipSet

app = typer.Typer(help="Augmented views of chips.", no_args_is_help=True)

_MEASURED = 256
_MEASURED_VALUES = 2**26
"""Most chips whose views are measured, and most pixels times bands of them."""
_MIN_CLEAR = 0.5


@dataclass(frozen=True)
class PreviewResult:
    """What ``geossl views preview`` wrote and measured, on all view pixels of ``chips`` chips."""

    out: Path
    chips: int
    """Chips whose views were measured; the picture shows ``shown`` of them."""
    shown: int
    views: int
    """Views of each chip, large and small."""
    zero: float
    """Share that is exactly 0."""
    invalid: float
    """Share that rests on invalid pixels and holds the view's band mean instead."""
    outside: float
    """Share outside the range that the chip's band had."""


@app.callback()
def _group() -> None:
    """A group even while it has one verb."""


@app.command()
def preview(
    region: RegionOption = None,
    chips: Annotated[
        str | None, typer.Option("--chips", help="A chip store or an index of ready chips; no cube is needed.")
    ] = None,
    method: Annotated[str, typer.Option("--method", help="A shipped method, or a method's .yaml.")] = "simclr",
    count: Annotated[int, typer.Option("--count", help="Chips in the picture.")] = 4,
    product: ProductOption = None,
    period: PeriodOption = None,
    months: MonthsOption = None,
    out: Annotated[str, typer.Option("--out", "-o", help="The picture, a .png file.")] = "preview.png",
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Draw chips and their views in true and false colour and band by band, with the parameters underneath.

    Says which share of the view pixels is zero, invalid, or outside the range of the chip: clamped or badly masked
    views show here. Tiles of a region are read where they are missing.

    Example: geossl views preview --region malardalen --method simclr --out preview.png
    """

    def work() -> PreviewResult:
        return _preview(region, chips, method, count, product, period, months, Path(out), seed)

    run_verb(work, as_json, _text)


def _preview(
    region: str | None,
    chips: str | None,
    method: str,
    count: int,
    product: str | None,
    period: str | None,
    months: str | None,
    out: Path,
    seed: int,
) -> PreviewResult:
    import torch

    from geossl.artefacts import atomic_file, disk_errors
    from geossl.errors import InputError
    from geossl.views.preview import draw_preview, pixel_shares, preview_views
    from geossl.views.recipe import load_recipe

    if out.suffix.lower() != ".png":
        raise InputError("the picture is a PNG file", where="--out", found=out, remedy="give a name that ends in .png")
    if not 1 <= count <= 32:
        raise InputError(
            "a picture needs a chip and has room for few", where="--count", expected="1 to 32", found=count
        )
    recipe = load_recipe(method)  # before tiles are read: a typo should not cost minutes
    opened = _open(region, chips, product, period, months, count)
    recipe = recipe.for_bands(opened.bands)
    height, width = opened.shape
    most = max(count, min(_MEASURED, _MEASURED_VALUES // (len(opened.bands) * height * width)))
    rows = _choose(opened, most, seed, period, months)
    stored, flags = opened.load(rows)
    values, clear = opened.encoding.decode(stored), flags == 0
    views = preview_views(
        torch.from_numpy(values).contiguous(memory_format=torch.channels_last),
        torch.from_numpy(clear),
        recipe,
        torch.Generator().manual_seed(seed),
    )
    # Blur, gray and clouds act on parts of the batch in order: chips from all of it show them in their shares.
    shown = [round((i + 0.5) * len(rows) / min(count, len(rows)) - 0.5) for i in range(min(count, len(rows)))]
    table = opened.table.iloc[rows]
    names = [_name(table.iloc[i]) for i in shown]
    title = f"{opened.name}: views of {recipe.size} px from chips of {height} × {width} px, method {Path(method).stem}"
    figure = draw_preview(values, clear, opened.bands, views, names, shown, title)
    out.absolute().parent.mkdir(parents=True, exist_ok=True)
    with disk_errors(out), atomic_file(out) as temporary:
        figure.savefig(temporary, format="png")
    shares = pixel_shares(values, clear, views)
    return PreviewResult(out, len(rows), len(shown), len(views), shares.zero, shares.invalid, shares.outside)


def _open(
    region: str | None, chips: str | None, product: str | None, period: str | None, months: str | None, count: int
) -> ChipSet:
    """The chips at a path, or a few of a region in its usual store: pretraining adds the others later."""
    from geossl.chips.open import open_chips
    from geossl.errors import InputError

    if (region is None) == (chips is None):
        raise InputError("one source of chips is needed", expected="--region or --chips", remedy="give one of the two")
    if chips is not None:
        return open_chips(chips)
    from geossl.chips.build import build_tiles
    from geossl.regions import load_region

    area = load_region(str(region))
    built = build_tiles(
        area,
        product=product,
        period=period or area.period,
        months=months or area.months,
        max_chips=max(64, 4 * count),
    )
    return open_chips(built.store)


def _choose(chips: ChipSet, most: int, seed: int, period: str | None, months: str | None) -> list[int]:
    """At most so many rows of clear enough chips of the period, drawn with the seed."""
    import numpy as np

    from geossl.errors import InputError
    from geossl.regions import parse_months, parse_period
    from geossl.training.data import in_time

    asked = in_time(
        chips.table["datetime"], parse_period(period) if period else None, parse_months(months) if months else None
    )
    rows = np.flatnonzero(asked & (chips.table["clear"].to_numpy(dtype=float) >= _MIN_CLEAR))
    if not len(rows):
        raise InputError(
            "no chip to show",
            where=chips.path,
            expected=f"chips with at least {_MIN_CLEAR:.0%} clear pixels",
            found=f"{len(chips.table)} chips, {int(asked.sum())} in the period",
            remedy="take another period, or build tiles of more dates",
        )
    return [int(row) for row in np.random.default_rng(seed).permutation(rows)[:most]]


def _name(chip: pd.Series) -> list[str]:
    """What is written under a chip: its name, day and clear share."""
    day = "" if chip["datetime"] != chip["datetime"] else f"{chip['datetime']:%Y-%m-%d}, "
    return [str(chip["chip"]), f"{day}{chip['clear']:.0%} clear", "boxes: where the views lie"]


def _text(result: PreviewResult) -> str:
    return "\n".join(
        [
            f"picture: {result.out} ({result.shown} chips with {result.views} views each)",
            f"of the view pixels of {result.chips} chips",
            f"  {result.zero:.2%} are exactly zero",
            f"  {result.invalid:.2%} rest on invalid pixels (they hold the band's mean over the view)",
            f"  {result.outside:.2%} are outside the range their band had in the chip (nothing is clamped)",
        ]
    )
