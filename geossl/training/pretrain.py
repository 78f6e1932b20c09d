"""``pretrain``: from a region or ready chips to an encoder directory. Also what ``geossl pretrain`` calls."""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader

from geossl.artefacts import is_complete
from geossl.chips.chipset import ChipSet
from geossl.chips.open import open_chips
from geossl.chips.sampler import ResidentSampler
from geossl.encoders.build import seeded_encoder
from geossl.errors import InputError, WorkError
from geossl.methods.protocol import Method, build_method, load_method
from geossl.progress import say, track
from geossl.regions import Period, Region, load_region, parse_months, parse_period
from geossl.training.callbacks import Recorder, note
from geossl.training.compute import Compute, choose_compute
from geossl.training.data import Batches, StepNumbers, band_statistics, step_seed
from geossl.training.module import PretrainModule
from geossl.training.monitor import Monitor
from geossl.training.outcome import PretrainResult, finished, write_outcome
from geossl.training.plan import Plan, make_plan
from geossl.training.state import Workspace, restore
from geossl.views.recipe import load_recipe

if TYPE_CHECKING:
    from geossl.chips.build import TilesResult

__all__ = ["Foreseen", "PretrainResult", "foresee", "plan_pretrain", "pretrain"]


@dataclass(frozen=True)
class Foreseen:
    """A dry run: ``text`` for people; counts are None where tiles must be built first, or time will decide."""

    tiles: TilesResult | None
    text: str
    chips: int | None = None
    batch_size: int | None = None
    steps: int | None = None
    out: Path | None = None

    def __str__(self) -> str:
        return self.text


def pretrain(
    region: str | Region | None = None,
    *,
    chips: str | Path | None = None,
    method: str = "simclr",
    product: str | None = None,
    period: str | None = None,
    months: str | None = None,
    epochs: int | None = None,
    max_minutes: float | None = None,
    encoder: str = "resnet18",
    batch_size: int | None = None,
    out: str | Path | None = None,
    seed: int = 0,
    probe_labels: str | None = None,
    all_blocks: bool = False,
    max_chips: int = 20_000,
) -> PretrainResult:
    """Learn an encoder without labels.

    Give a ``region`` (tiles that are missing are built from the cube first) or ``chips``, a chip store or an index of
    ready chips, which need no cube. A run that died is continued by the same call and ends with the same weights; a
    finished one is returned as it is.

    Args:
        region: shipped name, vector file, or ``west,south,east,north`` in degrees.
        chips: path of a chip store or of ready chips.
        method: shipped name (``simclr``, ``moco2``, …) or the path of a method's YAML.
        product, period, months, max_chips: which scenes the tiles are built from.
        epochs: passes over the training chips; by default about 30,000 chips are seen.
        max_minutes: instead of epochs: becomes a number of steps once the first steps have been timed.
        encoder: backbone name.
        batch_size: chips a step; by default 64 on a CPU, 256 on a GPU, never more than there are.
        out: encoder directory; by default ``encoders/<region or chips>-<method>`` under ``$GEOSSL_HOME``.
        seed: of the split, the first weights, the order of chips and the views.
        probe_labels: a column of the chip table for the kNN score (``|`` separates several labels of a chip).
        all_blocks: train on validation and test blocks too (recorded as transductive).

    Raises:
        InputError: wrong arguments or input, or a directory that holds a run of other settings.
        WorkError: collapse, a loss that is no number, memory or disk full.
    """
    plan, compute = plan_pretrain(
        region,
        chips=chips,
        method=method,
        product=product,
        period=period,
        months=months,
        epochs=epochs,
        max_minutes=max_minutes,
        encoder=encoder,
        batch_size=batch_size,
        out=out,
        seed=seed,
        probe_labels=probe_labels,
        all_blocks=all_blocks,
        max_chips=max_chips,
    )
    if is_complete(plan.out):
        return finished(plan)
    workspace = Workspace(plan.out)
    workspace.check(plan.config)
    with workspace.held(), torch.random.fork_rng():
        workspace.begin(plan.config)
        result = _train(plan, compute, workspace)
    workspace.discard()
    return result


def foresee(region: str | Region | None = None, **arguments: Any) -> Foreseen:
    """What :func:`pretrain` would do with these arguments; nothing is read, written or trained.

    Where the tiles of a region are still missing, only their number is known.
    """
    if region is None:
        plan, compute = plan_pretrain(**arguments)
        return _foreseen(plan, compute, None)
    from geossl.chips.build import build_tiles

    names = ("product", "period", "months", "max_chips")
    tiles = build_tiles(region, **{name: arguments[name] for name in names if name in arguments}, dry_run=True)
    if tiles.new:
        return Foreseen(tiles=tiles, text=f"tiles first: {tiles.new} chips to read into {tiles.store}; then training")
    plan, compute = plan_pretrain(region, **arguments)
    return _foreseen(plan, compute, tiles)


def _foreseen(plan: Plan, compute: Compute, tiles: TilesResult | None) -> Foreseen:
    text = f"{plan.describe()}\nwould compute on {compute}"
    return Foreseen(tiles, text, len(plan.split.train), plan.batch_size, plan.steps, plan.out)


def plan_pretrain(
    region: str | Region | None = None,
    *,
    chips: str | Path | None = None,
    method: str = "simclr",
    product: str | None = None,
    period: str | None = None,
    months: str | None = None,
    epochs: int | None = None,
    max_minutes: float | None = None,
    encoder: str = "resnet18",
    batch_size: int | None = None,
    out: str | Path | None = None,
    seed: int = 0,
    probe_labels: str | None = None,
    all_blocks: bool = False,
    max_chips: int = 20_000,
) -> tuple[Plan, Compute]:
    """What :func:`pretrain` would do with these arguments; builds the tiles of a region where they are missing."""
    if (region is None) == (chips is None):
        raise InputError("one source of chips is needed", expected="--region or --chips", remedy="give one of the two")
    if epochs is not None and max_minutes is not None:
        raise InputError("a run has one length", expected="--epochs or --max-minutes", remedy="give one of the two")
    for name, value in (("--epochs", epochs), ("--max-minutes", max_minutes), ("--max-chips", max_chips)):
        if value is not None and value <= 0:
            raise InputError("this must be more than nothing", where=name, found=value)
    method_config = load_method(method)  # before tiles are built: a typo should not cost an hour
    recipe = load_recipe(method)
    area = None if region is None else region if isinstance(region, Region) else load_region(region)
    span = parse_period(period) if period else area.period if area else None
    which = parse_months(months) if months else area.months if area else None
    opened, name = _chips_of(area, chips, product, span, which, max_chips)
    compute = choose_compute()
    plan = make_plan(
        opened,
        compute,
        name=name,
        method=method_config.method,
        method_config=method_config,
        recipe=recipe,
        encoder=encoder,
        batch_size=batch_size,
        epochs=epochs,
        max_minutes=max_minutes,
        seed=seed,
        all_blocks=all_blocks,
        probe_labels=probe_labels,
        period=span,
        months=which,
        out=None if out is None else Path(out),
    )
    return plan, compute


def _chips_of(
    area: Region | None,
    chips: str | Path | None,
    product: str | None,
    period: Period | None,
    months: tuple[int, ...] | None,
    max_chips: int,
) -> tuple[ChipSet, str]:
    """The opened chips and a name for them; those of a region are built where they are missing."""
    if area is None:
        opened = open_chips(str(chips))
        return opened, opened.name.replace("/", "-")
    from geossl.chips.build import build_tiles

    say(f"tiles of {area.name}: building what is missing")
    built = build_tiles(area, product=product, period=period, months=months, max_chips=max_chips)
    say(f"tiles: {built.new} read, {built.skipped} there before, in {built.store}")
    return open_chips(built.store), area.name


def _train(plan: Plan, compute: Compute, workspace: Workspace) -> PretrainResult:
    say(plan.describe())
    say(f"computing on {compute}")
    mean, std = band_statistics(plan.chips, plan.split.train, plan.seed)
    try:
        sampler = ResidentSampler(plan.chips, plan.split.train, compute.device, plan.seed)
        method = _make_method(plan)
        batches = Batches(
            sampler,
            plan.recipe,
            torch.tensor(mean),
            torch.tensor(std),
            plan.batch_size,
            method.n_views,
            plan.seed,
            plan.pair_days,
        )
        return _fit(plan, compute, workspace, method, batches, mean, std)
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise _out_of_memory(plan, error) from error
    except RuntimeError as error:
        if "DefaultCPUAllocator" in str(error):  # torch's own way to say that the host's memory is full
            raise _out_of_memory(plan, error) from error
        raise


def _make_method(plan: Plan) -> Method:
    """The method around a fresh backbone, its first weights a function of the seed."""
    backbone = seeded_encoder(plan.encoder, plan.chips.bands, plan.seed)
    torch.manual_seed(step_seed(plan.seed, -2))  # the heads; the caller's generator is put back afterwards
    method = build_method(plan.method_config, backbone)
    method.prepare(plan.batch_size, len(plan.split.train))
    return method


def _fit(
    plan: Plan,
    compute: Compute,
    workspace: Workspace,
    method: Method,
    batches: Batches,
    mean: list[float],
    std: list[float],
) -> PretrainResult:
    earlier = workspace.load()
    if earlier is not None:
        restore(method, earlier)
        say(f"continuing at step {earlier.step}")
    first = earlier.step if earlier else 0
    schedule = workspace.schedule(plan.steps)
    module = PretrainModule(method, batches, schedule, earlier.optimizer if earlier else None)
    monitor = Monitor(plan, torch.tensor(mean), torch.tensor(std), compute.device)
    limit = None if plan.max_minutes is None else 60 * plan.max_minutes
    with track(f"pretraining {plan.method}", schedule.total, "steps", first) as bar:
        recorder = Recorder(workspace, monitor, bar, earlier, limit)
        _run_lightning(module, recorder, StepNumbers(first, schedule), compute)
        bar.note = note(recorder.figures)
    return write_outcome(plan, compute, method, monitor, recorder, mean, std)


def _run_lightning(module: PretrainModule, recorder: Recorder, steps: StepNumbers, compute: Compute) -> None:
    """One Lightning fit over the remaining steps; Lightning's own logging and checkpoints stay out of it."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        trainer = pl.Trainer(
            accelerator=compute.accelerator,
            devices=1,
            precision=compute.precision,
            max_epochs=1,
            callbacks=[recorder],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )
        try:
            trainer.fit(module, DataLoader(steps, batch_size=None))
        except SystemExit:  # how Lightning ends after ctrl-C
            raise KeyboardInterrupt from None


def _out_of_memory(plan: Plan, error: BaseException) -> WorkError:
    return WorkError(
        "memory is full",
        where=f"batch of {plan.batch_size}, {len(plan.split.train)} resident chips",
        found=str(error).splitlines()[0] if str(error) else type(error).__name__,
        remedy=f"try --batch-size {max(plan.batch_size // 2, 4)} with another --out, or fewer --max-chips",
    )
