"""``geossl labels suggest``: where the next labels help most, as a GeoPackage to fill in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
from shapely import Point, box

from geossl.artefacts import atomic_file
from geossl.chips.chipset import ChipSet
from geossl.encoders.saved import Encoder, check_bands, load_encoder
from geossl.errors import InputError
from geossl.labels.choose import choose
from geossl.labels.read import Labels
from geossl.labels.template import check_new
from geossl.progress import say, warn
from geossl.regions import Region
from geossl.tasks.heads import Head, load_head
from geossl.tasks.labels_candidates import Candidates, chip_candidates, pixel_candidates
from geossl.tasks.labels_suggest_page import write_preview
from geossl.tasks.sources import one_crs, open_pool
from geossl.tasks.spec import TaskSpec, load_task
from geossl.tasks.splits import pretrained_on, same_chips, split_labelled


@dataclass(frozen=True)
class SuggestResult:
    """Places to label next.

    Attributes:
        path: the GeoPackage, its label column empty.
        report: the page with a map, reasons and pictures, beside it.
        task: name of the task.
        count: places (points of pixels, or outlines of chips).
        candidates: places they were chosen from.
        doubt_from: whence the doubt comes (a head, the labels), or why there is none.
        blocks: places in each block.
        closed: blocks in which nothing is suggested.
        rule: why not, in a sentence.
    """

    path: Path
    report: Path
    task: str
    count: int
    candidates: int
    doubt_from: str
    blocks: dict[str, int]
    closed: list[str]
    rule: str


def suggest_labels(
    task: str | Path | TaskSpec,
    *,
    encoder: str | Path | Encoder,
    out: str | Path,
    head: str | Path | Head | None = None,
    labels: str | Path | None = None,
    region: str | Region | None = None,
    chips: str | Path | ChipSet | None = None,
    count: int = 50,
    product: str | None = None,
    period: str | None = None,
    months: str | None = None,
    seed: int = 0,
) -> SuggestResult:
    """Choose places to label: where the model is unsure, unlike each other in the encoder's features, over all blocks.

    Doubt is that of ``head``; without one, that of a quick model of ``labels``; with neither, places are only unlike
    each other. Tasks of pixels get points, each with a date to look at; tasks of chips get chips. Labelled places and
    what lies beside them are left out, and so are the blocks that choose and test heads: labels picked for their doubt
    are harder than the map, and a figure measured on them would be wrong.

    Args:
        task: a shipped task, the YAML of one's own, or a spec.
        encoder: in whose features places are unlike each other.
        out: the new file (.gpkg); a page of the same name (.html) is written beside it.
        head: a head of this task.
        labels: what is labelled already (for chips: a file with their names in a column ``chip``, or places on them).
        region, chips, product, period, months: where candidates come from, as for finetune.
        count: how many places.
        seed: of the draw of candidates and the clusters.

    Raises:
        InputError: wrong arguments, a head of another task, nothing left to suggest.
    """
    spec, path = load_task(task), Path(out).absolute()
    check_new(path)
    if spec.kind == "level":
        raise InputError(f"task {spec.name} has no labels of places", where="--task")
    if count < 1:
        raise InputError("this must be at least 1", where="--count", found=count)
    opened = encoder if isinstance(encoder, Encoder) else load_encoder(encoder)
    guide = head if isinstance(head, Head) or head is None else load_head(head)
    if guide is not None:
        spec = _of_head(spec, guide)
    spec, store, known, when, in_months = open_pool(spec, labels, region, chips, product, period, months)
    check_bands(opened, store.bands, f"chips {store.path}")
    closed, rule = closed_blocks(store, known, opened, guide, seed)
    given = (spec, store, opened, guide, known, closed, when, in_months, seed)
    found = pixel_candidates(*given) if spec.per_pixel else chip_candidates(*given, labels)
    if not len(found):
        raise InputError(
            "there is nothing left to suggest",
            where=store.path,
            expected="clear, unlabelled places outside the blocks that test",
            found=f"{len(store.table)} chips in {store.table['block'].nunique()} blocks, {len(closed)} of them closed",
            remedy="give a wider --period or --region, or chips without labels",
        )
    chosen = choose(found.features, found.doubt, found.block, count, seed, found.known)
    if len(chosen) < count:
        warn(f"only {len(chosen)} places could be suggested")
    frame = _frame(spec, store, found, chosen)
    with atomic_file(path) as temporary:
        about = f"{spec.label_field}: to be filled in; rows left empty are not used. {rule}"
        frame.to_file(temporary, layer=spec.name, driver="GPKG", DESCRIPTION=about)
    page = write_preview(path.with_suffix(".html"), spec, store, found, chosen, frame, rule)
    blocks = {str(name): int(number) for name, number in frame["block"].value_counts(sort=False).items()}
    say(f"{len(frame)} places in {len(blocks)} blocks: {path}")
    return SuggestResult(path, page, spec.name, len(frame), len(found), found.doubt_from, blocks, sorted(closed), rule)


def _of_head(spec: TaskSpec, head: Head) -> TaskSpec:
    """The head's own task, whose classes may be those of the chips it learnt from."""
    same = spec.name == head.task.name and (spec.from_chips or spec.class_names == head.task.class_names)
    if not same:
        raise InputError(
            "this head does another task",
            where="--head",
            expected=f"{spec.name}: {', '.join(spec.class_names)}",
            found=f"{head.task.name}: {', '.join(head.task.class_names)}",
        )
    return head.task


def closed_blocks(
    chips: ChipSet, labels: Labels | None, encoder: Encoder, head: Head | None, seed: int
) -> tuple[set[str], str]:
    """Blocks in which labels choose or test heads, and the rule in words.

    They are those of the head, where it learnt on these chips; those that finetune would take of the blocks labelled
    so far; those held out of the encoder's pretraining. Without any of these, finetune's own shares of all blocks.
    """
    closed: set[str] = set()
    if head is not None and same_chips(chips, head.meta):
        splits = head.meta["splits"]
        closed |= {str(block) for side in ("val", "test") for block in splits[side]}
    held = pretrained_on(chips, encoder.meta)
    if held is not None:
        closed |= {block for side in ("val", "test") for block in held.get(side, [])}
    every = chips.table["block"].astype(str).unique()
    if not closed:
        labelled = _blocks_of(chips, labels) if labels is not None else every
        try:
            split = split_labelled(labelled, chips, {}, seed)
        except InputError:  # labels in one block: whatever comes next decides what tests
            split = None
        closed = set(split.blocks("val") + split.blocks("test")) if split is not None else set()
    closed &= set(every)
    if not closed:
        return closed, "All blocks are open: no label tests yet. Label at random what shall test."
    return closed, (
        f"Nothing is suggested in {len(closed)} of {len(every)} blocks, whose labels choose and test heads: labels "
        "picked for their doubt are harder than the map, and a figure measured on them would be wrong. Label those "
        "blocks at random."
    )


def _blocks_of(chips: ChipSet, labels: Labels) -> list[str]:
    """Blocks of the tiles that labels touch."""
    from geossl.labels.rasterise import touching

    tiles = chips.table.groupby("tile", sort=True).first()
    height, width = (side * chips.resolution_m for side in chips.shape)
    touched = touching(labels, tiles["left"].to_numpy(float), tiles["top"].to_numpy(float), width, height)
    return [str(block) for block, some in zip(tiles["block"], touched, strict=True) if len(some)]


def _frame(spec: TaskSpec, chips: ChipSet, found: Candidates, chosen: np.ndarray) -> gpd.GeoDataFrame:
    """The chosen places with the columns of a label file, and why each was chosen."""
    table = chips.table.iloc[found.row[chosen]]
    numbers = not spec.classes
    columns: dict[str, object] = {
        "rank": np.arange(1, len(chosen) + 1),
        spec.label_field: pd.Series([None] * len(chosen), dtype="float64" if numbers else "object"),
    }
    day = table["datetime"].dt.tz_localize(None).dt.normalize().astype("datetime64[ms]").reset_index(drop=True)
    if spec.date_field is not None:
        columns[spec.date_field] = day
    if spec.confidence_field is not None:
        columns[spec.confidence_field] = pd.Series([np.nan] * len(chosen), dtype="float64")
    columns |= {
        "look_at": day.dt.strftime("%Y-%m-%d").fillna(""),
        "says": found.says[chosen],
        "uncertainty": np.round(found.doubt[chosen], 3),
        "block": found.block[chosen],
        "chip": table["chip"].to_numpy(),
        "why": [_why(found, int(one)) for one in chosen],
    }
    side, (height, width) = chips.resolution_m, chips.shape
    left, top = table["left"].to_numpy(float), table["top"].to_numpy(float)
    if spec.per_pixel:
        y, x = found.y[chosen], found.x[chosen]
        shapes = [Point(*at) for at in zip(left + (x + 0.5) * side, top - (y + 0.5) * side, strict=True)]
        return gpd.GeoDataFrame(columns, geometry=shapes, crs=one_crs(chips))
    if np.isfinite(left).all() and table["crs"].nunique() == 1:
        shapes = list(box(left, top - height * side, left + width * side, top))
        return gpd.GeoDataFrame(columns, geometry=shapes, crs=str(table["crs"].iloc[0]))
    return gpd.GeoDataFrame(columns, geometry=table["geometry"].to_numpy(), crs="EPSG:4326")


def _why(found: Candidates, one: int) -> str:
    unlike = "unlike the other places"
    if not np.ptp(found.doubt) > 0:
        return unlike
    above = float((found.doubt < found.doubt[one]).mean())
    said = f" (says {found.says[one]})" if found.says[one] else ""
    return f"less sure than {above:.0%} of the candidates{said}; {unlike}"
