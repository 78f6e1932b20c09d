"""Whether heads are as sure as they are right, on blocks they have not seen: ``python -m tests.benchmarks.trust``
writes ``docs/benchmarks/trust.md``.

For each set and seed the blocks are split anew, a head is fitted to the training blocks, its temperature, sets or
intervals and outlier limit are fitted to the validation blocks, and all of them are judged on the test blocks. Outcomes
are kept in the work folder: run again, the command continues, and ``--table-only`` writes the page from what there is.
The last line printed is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import rasterio

from geossl.artefacts import is_complete, write_json
from geossl.chips.build import build_tiles
from geossl.encoders.saved import Encoder, load_encoder, random_encoder
from geossl.errors import InputError
from geossl.regions import load_region
from geossl.sandbox.classes import Cover
from geossl.sandbox.create import create_sandbox
from geossl.tasks.asked import ask
from geossl.tasks.chip_rows import ChipFeatures, chip_features, chip_head, fit_chips
from geossl.tasks.choosing import fit_head
from geossl.tasks.compare import Judge
from geossl.tasks.examples import ChipExamples, PixelExamples
from geossl.tasks.heads import Head
from geossl.tasks.linear import Scaling
from geossl.tasks.pixel_rows import head_net, labelled, pixel_features
from geossl.tasks.sources import Source, open_source
from geossl.tasks.spec import TaskSpec, load_task
from geossl.tasks.trust import make_trust
from geossl.training.data import band_statistics

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("GEOSSL_REAL_DATA", ROOT.parent / "shared" / "data"))
OUT = ROOT / "docs" / "benchmarks" / "trust.md"
YEAR = "2018"
POINTS, POINTS_FILE = 6000, "points.gpkg"
TILE_KM = 0.8
"""Of the shipped regions: 80 px of 10 m."""


@dataclass(frozen=True)
class Case:
    """A labelled set: of a sandbox (``region`` and ``labels``, a file of its folder), or ready chips (``name``).

    ``period``: of the sandbox's scenes; None for all years, where labels lie in several.
    """

    title: str
    task: str
    region: str | None = None
    labels: str | None = None
    period: str | None = YEAR


CASES = {
    "sandbox-landcover": Case("simulated Mälardalen, land cover", "land-cover", "malardalen", "landcover.gpkg"),
    "sandbox-points": Case("the same, points drawn over the whole region", "land-cover", "malardalen", POINTS_FILE),
    "sandbox-drought": Case("simulated Mälardalen, drought", "drought", "malardalen", "drought.gpkg", None),
    "sandbox-depth": Case("simulated Bohuslän, depth", "shallow-water", "bohuslan", "soundings.gpkg"),
    "bigearthnet-finland": Case("bigearthnet-finland, labels of chips", "land-cover"),
    "eurosat_ms": Case("eurosat_ms, classes of chips", "land-cover"),
    "dfc24-water": Case("dfc24-water, water masks", "water"),
}


@dataclass(frozen=True)
class Scale:
    """Side of the sandboxes in km, and tiles (:data:`TILE_KM`) along the side of a block there.

    Small sandboxes have few blocks: one of 6.4 km with the region's own blocks of 4 tiles has a single validation
    block, and nothing can be calibrated on that. Smaller blocks are more alike, so the test is an easier one.
    """

    size_km: float
    block_tiles: int

    def __str__(self) -> str:
        return f"{self.size_km:g}-{self.block_tiles}"


@cache
def opened(name: str, work: Path, scale: Scale) -> Source:
    """Chips and labels of a set; a sandbox is made in the work folder first."""
    case = CASES[name]
    if case.region is None:
        return open_source(load_task(case.task), None, None, DATA / name, None, None, None)
    place = work / f"{case.region}-{scale.size_km:g}"
    os.environ["GEOSSL_HOME"] = str(place / "home")  # an embedded cube of its own
    store = place / f"chips-{scale.block_tiles}-{case.period or 'all'}"
    if not is_complete(store):
        create_sandbox(case.region, out=place / "sandbox", size_km=scale.size_km)
        build_tiles(replace(load_region(case.region), block_tiles=scale.block_tiles), period=case.period, out=store)
    labels = place / "sandbox" / "labels" / str(case.labels)
    if case.labels == POINTS_FILE and not labels.is_file():
        draw_points(place / "sandbox" / "truth" / "landcover.tif", labels)
    return open_source(load_task(case.task), labels, None, store, None, case.period, None)


def draw_points(truth: Path, labels: Path) -> None:
    """Points of the true land cover, drawn evenly over the region: labels as the map is, not as an analyst picks them.

    The sandbox's own labels are few polygons, as many of each class, so that a dozen of them decide a figure.
    """
    with rasterio.open(truth) as source:
        cover, transform, crs = source.read(1), source.transform, source.crs.to_wkt()
    y, x = np.nonzero(np.isin(cover, list(Cover)))
    drawn = np.random.default_rng(0).choice(len(y), min(POINTS, len(y)), replace=False)
    y, x = y[drawn], x[drawn]
    names = [Cover(value).name.lower().replace("_", " ") for value in cover[y, x]]
    places = gpd.points_from_xy(*(transform * (x + 0.5, y + 0.5)))
    gpd.GeoDataFrame({"class": names}, geometry=places, crs=crs).to_file(labels)


def taught(source: Source, encoder: Encoder, seed: int) -> tuple[Head, PixelExamples | ChipExamples]:
    """The linear head of ``geossl finetune``, without the rows it is compared with."""
    examples, _ = source.examples(encoder.meta, seed)
    spec, train, val = source.spec, examples.part("train"), examples.part("val")
    if isinstance(examples, ChipExamples):
        chips = chip_head(spec, encoder, examples, train, seed)
        features = ChipFeatures(chip_features(chips, examples), chips.parts)
        scaling = Scaling.of(features.values[train], features.widths)
        chips.set_weights(fit_chips(spec, features, examples, train, scaling))
        return Head(spec, chips, source.chips.shape[0]).eval(), examples
    net = head_net(spec, encoder, examples, train, seed)
    seen, choose = (pixel_features(net, examples, part) for part in (train, val))
    learnt, choosing = labelled(examples, train, seen), labelled(examples, val, choose)
    net.set_weights(fit_head(spec, learnt, choosing, Scaling.of(seen, net.widths), net.kinds))
    return Head(spec, net, source.chips.shape[0]).eval(), examples


def outcome(name: str, work: Path, scale: Scale, encoder: Path | None, seed: int) -> dict[str, Any]:
    """Figures of one set and seed."""
    source = opened(name, work, scale)
    if encoder is None:
        table = source.chips.table
        rows = np.flatnonzero(table["clear"].to_numpy(dtype=float) > 0.5)
        mean, std = band_statistics(source.chips, rows[:: max(1, len(rows) // 200)], 0)
        used = random_encoder("resnet18", source.chips.bands, mean, std, seed=7)
    else:
        used = load_encoder(encoder)
    head, examples = taught(source, used, seed)
    trust = make_trust(head.task, head, examples, seed)
    asked = ask(head, examples, examples.part("test"))
    spec: TaskSpec = head.task
    value = Judge(spec, asked.truth, asked.block, seed).figures([asked.said(spec)]).values[spec.headline]
    blocks = {side: len(source.blocks(side)) for side in ("train", "val", "test")}
    facts = {part: trust.facts.get(part) for part in ("calibration", "conformal", "outliers", "tested")}
    return {"kind": spec.kind, "unit": spec.unit, "headline": spec.headline, "value": value, "blocks": blocks, **facts}


def page(done: dict[str, list[dict[str, Any]]], scale: Scale, encoder: Path | None) -> str:
    """The tables as Markdown."""
    used = "an untrained ResNet-18" if encoder is None else f"the encoder `{encoder.name}`"
    lines = [
        "# Calibration and coverage",
        "",
        f"Made by `python -m tests.benchmarks.trust --size-km {scale.size_km:g} --block-tiles "
        f"{scale.block_tiles}`: heads on {used} joined with spectral and "
        f"random-convolution features, all labels, sandboxes of {scale.size_km:g} km (blocks of "
        f"{TILE_KM * scale.block_tiles:g} km) and the year {YEAR} (drought: all years). Every seed splits "
        "the blocks anew. Temperature, sets, intervals and limits are of validation blocks, figures of test blocks: "
        "mean over seeds, and lowest to highest in brackets. Few test labels show an ECE by chance alone: that of a "
        "perfect head stands beside. It counts every label by itself; pixels of one polygon are right or wrong "
        "together, so some tens of polygons show more than that. Points drawn over the same region show what a map's "
        "pixels get.",
        "",
        "## Expected calibration error",
        "",
        "| set | seeds | blocks: train, val, test | figure | ECE before | after | of a perfect head | temperature |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, rows in done.items():
        told = [row["calibration"] for row in rows if "after" in (row["calibration"] or {})]
        if told:
            blocks = ", ".join(f"{np.mean([row['blocks'][s] for row in rows]):.0f}" for s in ("train", "val", "test"))
            cells = [_spread([one[part]["ece"] for one in told]) for part in ("before", "after")]
            cells.append(_spread([one["after"]["floor"] for one in told]))
            heat = _spread([one["temperature"] for one in told], 2)
            value = f"{rows[0]['headline'].replace('_', ' ')} {np.mean([row['value'] for row in rows]):.2f}"
            lines.append(f"| {CASES[name].title} | {len(rows)} | {blocks} | {value} | {' | '.join(cells)} | {heat} |")
    lines += ["", "## Coverage of sets and intervals", ""]
    lines += ["| set | level | seeds that offer it | holds the truth | off by | classes, or half width |"]
    lines += ["|---|---|---|---|---|---|"]
    for name, rows in done.items():
        levels = sorted({one["level"] for row in rows for one in (row["conformal"] or {}).get("levels", [])})
        for level in levels:
            held = [one for row in rows for one in row["conformal"].get("levels", []) if one["level"] == level]
            share = [one["coverage"] for one in held]
            unit = f" {rows[0]['unit']}" if rows[0]["kind"] == "regression" and rows[0]["unit"] else ""
            lines.append(
                f"| {CASES[name].title} | {100 * level:g} % | {len(held)} of {len(rows)} | {_spread(share)} | "
                f"{100 * (np.mean(share) - level):+.1f} points | {_spread([one['size'] for one in held], 2)}{unit} |"
            )
    lines += [
        "",
        "## Places unlike what was taught",
        "",
        "| set | share of test labels | error there | error elsewhere |",
    ]
    lines += ["|---|---|---|---|"]
    for name, rows in done.items():
        told = [row["outliers"] for row in rows if (row["outliers"] or {}).get("share") is not None]
        if told:
            cells = [
                _spread([one[part] for one in told if one[part] is not None], 2)
                for part in ("share", "error_unlike", "error_alike")
            ]
            lines.append(f"| {CASES[name].title} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _spread(values: list[float], digits: int = 3) -> str:
    if not values:
        return "–"
    mean, low, high = np.mean(values), min(values), max(values)
    return f"{mean:.{digits}f} ({low:.{digits}f}–{high:.{digits}f})" if len(values) > 1 else f"{mean:.{digits}f}"


def main(arguments: list[str]) -> int:
    """Make what is missing, then write the page."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.trust", description=__doc__)
    parser.add_argument("sets", nargs="*", default=list(CASES), help=f"of {', '.join(CASES)}")
    parser.add_argument("--work", type=Path, default=Path("trust-work"), help="where outcomes and sandboxes are kept")
    parser.add_argument("--size-km", type=float, default=6.4, help="side of the sandboxes")
    parser.add_argument("--block-tiles", type=int, default=2, help="tiles along the side of a block there")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--encoder", type=Path, help="an encoder's directory; without it an untrained one")
    parser.add_argument("--table-only", action="store_true")
    parser.add_argument("--out", type=Path, default=OUT)
    asked = parser.parse_args(arguments)
    work = asked.work.absolute()
    used = "untrained" if asked.encoder is None else asked.encoder.name
    scale = Scale(asked.size_km, asked.block_tiles)
    done: dict[str, list[dict[str, Any]]] = {}
    for name in asked.sets:
        if CASES[name].region is None and not (DATA / name).is_dir():
            print(f"{name}: not here", file=sys.stderr)
            continue
        for seed in range(asked.seeds):
            made = f"-{scale}" if CASES[name].region else ""
            kept = work / "outcomes" / f"{name}{made}-{used}-{seed}.json"
            if not kept.is_file() and not asked.table_only:
                try:
                    write_json(kept, outcome(name, work, scale, asked.encoder, seed))
                except InputError as error:
                    print(f"{name}, seed {seed}: {error.what}", file=sys.stderr)
            if kept.is_file():
                done.setdefault(name, []).append(json.loads(kept.read_text(encoding="utf-8")))
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    asked.out.write_text(page(done, scale, asked.encoder), encoding="utf-8")
    short = {
        name: {
            "ece": float(np.mean([row["calibration"]["after"]["ece"] for row in rows if "after" in row["calibration"]]))
            if any("after" in row["calibration"] for row in rows)
            else None,
            "seeds": len(rows),
        }
        for name, rows in done.items()
    }
    print(json.dumps(short))
    return 0 if done else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
