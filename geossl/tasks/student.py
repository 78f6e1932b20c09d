"""A student at work: which chips it learns from, its training, and how it compares with its teacher."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geossl.chips.chipset import ChipSet
from geossl.chips.open import open_chips
from geossl.chips.ready import ReadyChips
from geossl.chips.splits import split_blocks
from geossl.chips.streamed import open_sampler
from geossl.errors import InputError
from geossl.progress import say, track
from geossl.regions import Period, Region, load_region, parse_months, parse_period
from geossl.tasks.anomaly import plane_count
from geossl.tasks.compare import Judge
from geossl.tasks.examples import MIN_CLEAR, ChipData, ChipExamples, PixelExamples, in_period
from geossl.tasks.heads import Head
from geossl.tasks.scratch import predict_chips, predict_pixels
from geossl.tasks.soft import Agreement, Net, Softening, softening
from geossl.tasks.sources import open_source
from geossl.tasks.steps import CROP, Kept, dihedral, run_steps
from geossl.tasks.warm_start import warm_start
from geossl.training.compute import Compute, choose_compute

BATCH, RATE = 32, 1e-3
CHIPS_SEEN, MOST_EPOCHS = 10_000, 200
"""About how many chips a run sees where no epochs are given, and how often one at most."""
VAL_SHARE, MAX_VAL = 0.15, 300
_LABELS_OF = {"class": "classification", "multilabel": "multilabel", "mask": "segmentation"}


@dataclass(frozen=True)
class World:
    """What is learnt from: chips of the period with the part of each, and the sentence on the split."""

    data: ChipData
    name: str
    own: bool
    sentence: str

    def part(self, side: str) -> np.ndarray:
        """Positions of the chips of one part."""
        return np.flatnonzero(self.data.side == side)

    def channels(self, net: Net) -> list[int]:
        """Which channels of :meth:`ChipData.load` a network takes: its bands, and the task's anomaly planes."""
        bands = self.data.chips.bands
        return [*net.encoder.select(bands), *range(len(bands), len(bands) + plane_count(self.data.references))]


def open_world(
    head: Head,
    region: str | Region | None,
    chips: str | Path | ChipSet | None,
    labels: str | Path | None,
    product: str | None,
    period: str | None,
    months: str | None,
    seed: int,
) -> World:
    """Chips, their rows in the period, and the part of each."""
    if (region is None) == (chips is None):
        found = "neither" if region is None else "both"
        raise InputError("one source of chips is needed", expected="--region or --chips", found=found)
    when, which = parse_period(period) if period else None, parse_months(months) if months else None
    if labels is not None and not Path(labels).is_file():
        raise InputError("no such file of labels", where=labels)
    if region is not None:
        from geossl.chips.build import build_tiles

        area = load_region(region) if isinstance(region, str) else region
        say(f"tiles of {area.name}: building what is missing")
        opened = open_chips(build_tiles(area, product=product, period=period, months=months).store)
        name, when, which = area.name, when or area.period, which or area.months
    else:
        assert chips is not None
        opened = open_chips(chips) if isinstance(chips, str | Path) else chips
        name = opened.name.replace("/", "-")
    return _split(head, opened, name, when, which, seed)


def _split(
    head: Head, chips: ChipSet, name: str, when: Period | None, which: tuple[int, ...] | None, seed: int
) -> World:
    table = chips.table
    usable = in_period(table["datetime"], when, which) & (table["clear"].to_numpy(dtype=float) >= MIN_CLEAR)
    rows = np.flatnonzero(usable)
    block = table["block"].astype(str).to_numpy()[rows]
    taught = head.meta.get("chips") or {}
    own = taught.get("id") == chips.id or taught.get("name") == chips.name
    if own:
        sides = {str(one): side for side, names in head.meta["splits"].items() for one in names}
        sentence = "Chips are those the teacher learnt from: the student saw its training blocks only."
    else:
        sides = split_blocks(block, seed, VAL_SHARE, 0.0) if len(block) else {}
        sentence = "The teacher learnt from other chips; blocks were split by hash."
    side = np.array([sides.get(one, "") for one in block], dtype="<U5")
    data = ChipData(chips, rows, block, side, head.task.references, head.task.season_days)
    return World(data, name, own, sentence)


def labelled(
    head: Head,
    world: World,
    region: str | Region | None,
    labels: str | Path | None,
    product: str | None,
    period: str | None,
    months: str | None,
    seed: int,
) -> PixelExamples | ChipExamples | None:
    """Labelled examples with the parts of this run; None where no labels are given and the teacher's lie elsewhere."""
    chips = world.data.chips
    if labels is None:
        carried = isinstance(chips, ReadyChips) and _LABELS_OF.get(str(chips.label_kind)) == head.task.kind
        if not (world.own and carried):
            return None
        region = None
    source = open_source(head.task, labels, region, None if region else chips, product, period, months)
    examples, _ = source.examples(head.meta.get("encoder") or {}, seed)
    sides = dict(zip(world.data.block, world.data.side, strict=True))
    side = np.array([sides.get(one, "") for one in examples.data.block], dtype="<U5")
    return replace(examples, data=replace(examples.data, side=side))


def scores_of(head: Head, made: Head, examples: PixelExamples | ChipExamples, seed: int) -> dict[str, Any] | None:
    """The task's figure of teacher and student on labelled test blocks (validation blocks where there are no such)."""
    side = "test" if len(examples.part("test")) else "val"
    chosen, spec = examples.part(side), head.task
    if not len(chosen):
        return None
    if isinstance(examples, PixelExamples):
        judge = Judge(spec, examples.value[chosen], examples.blocks(chosen), seed)
        both = [judge.figures([predict_pixels(spec, one.net, examples, chosen)]) for one in (made, head)]
    else:
        judge = Judge(spec, examples.target[chosen], examples.data.block[chosen], seed)
        both = [judge.figures([predict_chips(spec, one.net, examples, chosen)]) for one in (made, head)]
    name, apart = spec.headline, both[0].minus(both[1], spec.headline)
    interval = both[0].interval(name)
    return {
        "headline": name,
        "on": f"{len(chosen)} labelled {'pixels' if spec.per_pixel else 'chips'} of {side} blocks",
        "student": both[0].values[name],
        "interval": None if interval is None else [interval.low, interval.high],
        "teacher": both[1].values[name],
        "student_minus_teacher": None if apart is None else [apart.value, apart.low, apart.high],
    }


def teach(
    head: Head, net: Net, world: World, epochs: int | None, temperature: float, seed: int, state: Path, identity: str
) -> tuple[dict[str, float] | None, int]:
    """Train ``net`` in place; agreement on validation chips before and after, and the number of steps.

    ``state``: a file for what a run of this ``identity`` needs to go on after its death.
    """
    compute = choose_compute()
    train = world.data.rows[world.part("train")]
    steps = -(-len(train) * epochs // BATCH) if epochs else max(1, min(CHIPS_SEEN, MOST_EPOCHS * len(train)) // BATCH)
    say(
        f"{head.task.title}: {net.encoder.backbone.name} learns on {len(train)} unlabelled chips what"
        f" {head.net.encoder.backbone.name} says of them, {steps} steps of {BATCH}. {world.sentence}"
    )
    val = validation(world)
    teacher = head.net.to(compute.device)
    channels = head.select(world.data.chips.bands)
    seen = ((values.to(compute.device), clear.to(compute.device)) for values, clear in _some(world, channels))
    soft = softening(head.task, teacher, seen, temperature)
    before = _agreement(head, net, world, val, compute, soft)
    warm_start(net, _answers(head, net, world, soft, compute), seed)
    with track("distilling", steps) as bar:
        batches = _Batches(head, net, world, train, soft, compute, seed)
        kept = Kept(state, identity, batches.skip)
        run_steps(net, batches, soft.loss, RATE, steps, seed, compute, bar, kept=kept)
    soft.unscale(net)
    after = _agreement(head, net, world, val, compute, None)
    head.net.to("cpu")
    return (None if not len(val) else {"before": before, "after": after}), steps


def validation(world: World) -> np.ndarray:
    """Positions of at most :data:`MAX_VAL` validation chips, evenly; of test chips where the split has no such part."""
    val = world.part("val") if len(world.part("val")) else world.part("test")
    return val[np.unique(np.linspace(0, len(val) - 1, min(MAX_VAL, len(val))).astype(int))] if len(val) else val


class _Batches:
    """Batches of training chips in epochs' order, flipped and turned, with what the teacher says of them just so
    (Beyer et al. 2022, arXiv:2106.05237: both must see the same image)."""

    def __init__(
        self, head: Head, net: Net, world: World, rows: np.ndarray, soft: Softening, compute: Compute, seed: int
    ) -> None:
        self.teacher, self.soft, self.device, self.data = head.net, soft, compute.device, world.data
        self.sampler = open_sampler(world.data.chips, rows, compute.device, seed)
        self.theirs, self.ours = world.channels(head.net), world.channels(net)
        self._order = self._rows()

    def _rows(self) -> Iterator[Tensor]:
        epoch, waiting = 0, torch.empty(0, dtype=torch.long, device=self.device)
        while True:
            while len(waiting) < BATCH:
                waiting, epoch = torch.cat([waiting, self.sampler.epoch_rows(epoch)]), epoch + 1
            yield waiting[:BATCH]
            waiting = waiting[BATCH:]

    def skip(self, count: int) -> None:
        """Leave out so many batches."""
        for _ in range(count):
            next(self._order)

    def __call__(self, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        rows = next(self._order)
        stored, clear, _ = self.sampler.read(rows)
        values = self.sampler.decode(stored).permute(0, 3, 1, 2).nan_to_num()
        if self.data.references:
            positions = np.searchsorted(self.data.rows, rows.cpu().numpy())
            values = torch.cat([values, self.data.load(positions, [])[0].to(self.device)], 1)
        values, clear = _window(values, clear, self.soft, rng)
        values, clear, _ = dihedral(values, clear, clear, rng)
        with torch.no_grad():
            said = self.teacher(values[:, self.theirs], clear).float()
        return values[:, self.ours], clear, self.soft.targets(said, clear)


def _window(values: Tensor, clear: Tensor, soft: Softening, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Of large chips a random window, where pixels are taught; a chip that is taught as a whole stays whole."""
    if not soft.spec.per_pixel:
        return values, clear
    height, width = clear.shape[-2:]
    top, left = (int(rng.integers(max(side - CROP, 0) + 1)) for side in (height, width))
    inside = (..., slice(top, top + CROP), slice(left, left + CROP))
    return values[inside], clear[inside]


def _some(world: World, channels: list[int] | None) -> Iterator[tuple[Tensor, Tensor]]:
    """Up to 64 training chips, evenly."""
    train = world.part("train")
    some = train[np.unique(np.linspace(0, len(train) - 1, min(64, len(train))).astype(int))]
    for _, values, clear in world.data.batches(some, channels):
        yield values, clear


@torch.no_grad()
def _answers(
    head: Head, net: Net, world: World, soft: Softening, compute: Compute
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Some training chips as the student takes them, and what the teacher says of them in the student's units."""
    theirs, ours = world.channels(head.net), world.channels(net)
    for values, clear in _some(world, None):
        said = head.net(values[:, theirs].to(compute.device), clear.to(compute.device)).float().cpu()
        yield values[:, ours], clear, (said - soft.mean) / soft.spread


def _agreement(
    head: Head, net: Net, world: World, positions: np.ndarray, compute: Compute, soft: Softening | None
) -> float:
    """Agreement on these chips; ``soft`` where the student still speaks in scaled units."""
    found = Agreement(head.task)
    theirs, ours = world.channels(head.net), world.channels(net)
    net.to(compute.device).eval()
    with torch.inference_mode():
        for _, values, clear in world.data.batches(positions, None):
            values, clear = values.to(compute.device), clear.to(compute.device)
            said = net(values[:, ours], clear)
            said = said if soft is None else said * soft.spread + soft.mean
            found.add(said, head.net(values[:, theirs], clear), clear)
    net.to("cpu")
    return found.value
