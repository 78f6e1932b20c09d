"""``pretrain``: from a region or ready chips to an encoder directory. Also what ``geossl pretrain`` calls."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from geossl.artefacts import is_complete
from geossl.chips.chipset import ChipSet
from geossl.chips.open import open_chips
from geossl.chips.streamed import chips_memory
from geossl.encoders.weights import WeightsReport
from geossl.errors import InputError
from geossl.methods.protocol import Method, load_method
from geossl.progress import say, track
from geossl.regions import Period, Region, load_region, parse_months, parse_period
from geossl.training.callbacks import Recorder, note
from geossl.training.compute import Compute, choose_compute
from geossl.training.data import band_statistics
from geossl.training.fit import make_method, memory_errors, prepare, run_lightning
from geossl.training.logs import check_log, opened_logs
from geossl.training.monitor import Monitor
from geossl.training.options import Options
from geossl.training.outcome import PretrainResult, finished, write_outcome
from geossl.training.plan import Plan, make_plan
from geossl.training.ranks import followers
from geossl.training.state import Workspace
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
    stem: Literal["maxpool", "small"] = "maxpool",
    weights: str | None = None,
    weights_bands: str | None = None,
    allow_partial_weights: bool = False,
    batch_size: int | None = None,
    accumulate: int = 1,
    devices: int = 1,
    pairs: str | None = None,
    balance: bool = False,
    out: str | Path | None = None,
    seed: int = 0,
    probe_labels: str | None = None,
    all_blocks: bool = False,
    max_chips: int = 20_000,
    log: str | None = None,
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
        stem: ``small`` leaves out the max-pool of a residual network's stem, for small chips.
        weights: initial weights: a torchgeo weight enum, a ``.pth``, ``.ckpt`` or ``.safetensors`` file, or an encoder
            directory; bands are matched by name.
        weights_bands: common names of the bands of such a file in its order (``red,green,blue``), or ``same`` as the
            chips'; files do not say, the others do.
        allow_partial_weights: take weights that do not cover the whole backbone.
        batch_size: chips of a forward pass, over all devices; by default 64 on a CPU, 256 a GPU, never more than there
            are.
        accumulate: batches an optimiser step takes. The learning rate follows the chips of a step; batch statistics
            and in-batch negatives stay those of one batch, and a queue gets the keys of a step's last batch.
        devices: processes that share the chips and every batch: one a GPU, or several on the CPU.
        pairs: which chips form a pair, instead of what the method says: ``same``, ``N-days`` or ``other-season``.
        balance: after the warm-up draw chips evenly over clusters of their own embeddings.
        out: encoder directory; by default ``encoders/<region or chips>-<method>`` under ``$GEOSSL_HOME``.
        seed: of the split, the first weights, the order of chips and the views.
        probe_labels: a column of the chip table for the kNN score (``|`` separates several labels of a chip).
        all_blocks: train on validation and test blocks too (recorded as transductive).
        log: ``mlflow`` also sends the figures to where ``MLFLOW_TRACKING_URI`` says.

    Raises:
        InputError: wrong arguments or input, or a directory that holds a run of other settings.
        WorkError: collapse, a loss that is no number, memory or disk full.
    """
    options = Options(
        chips=chips,
        method=method,
        product=product,
        period=period,
        months=months,
        epochs=epochs,
        max_minutes=max_minutes,
        encoder=encoder,
        stem=stem,
        weights=weights,
        weights_bands=weights_bands,
        allow_partial_weights=allow_partial_weights,
        batch_size=batch_size,
        accumulate=accumulate,
        devices=devices,
        pairs=pairs,
        balance=balance,
        out=out,
        seed=seed,
        probe_labels=probe_labels,
        all_blocks=all_blocks,
        max_chips=max_chips,
        log=log,
    )
    plan, compute = plan_pretrain(region, options)
    if is_complete(plan.out):
        return finished(plan)
    workspace = Workspace(plan.out)
    workspace.check(plan.config)
    with torch.random.fork_rng(), memory_errors(plan):
        mean, std = band_statistics(plan.chips, plan.split.train, plan.seed)
        method, report = make_method(plan, mean, std)  # what does not fit is said before anything is written
        with workspace.held():
            workspace.begin(plan.config, chips_memory(compute.device, plan.options.devices))
            result = _train(plan, compute, workspace, method, (mean, std), report)
    workspace.discard()
    return result


def foresee(region: str | Region | None = None, **arguments: Any) -> Foreseen:
    """What :func:`pretrain` would do with these arguments; nothing is read, written or trained.

    Where the tiles of a region are still missing, only their number is known.
    """
    options = Options(**arguments)
    if region is None:
        plan, compute = plan_pretrain(None, options)
        return _foreseen(plan, compute, None)
    from geossl.chips.build import build_tiles

    names = ("product", "period", "months", "max_chips")
    tiles = build_tiles(region, **{name: getattr(options, name) for name in names}, dry_run=True)
    if tiles.new:
        return Foreseen(tiles=tiles, text=f"tiles first: {tiles.new} chips to read into {tiles.store}; then training")
    plan, compute = plan_pretrain(region, options)
    return _foreseen(plan, compute, tiles)


def _foreseen(plan: Plan, compute: Compute, tiles: TilesResult | None) -> Foreseen:
    with torch.random.fork_rng():
        make_method(plan)  # for its refusals, and for what it says of initial weights
    text = f"{plan.describe()}\nwould compute on {compute}"
    return Foreseen(tiles, text, len(plan.split.train), plan.batch_size, plan.steps, plan.out)


def plan_pretrain(region: str | Region | None, options: Options) -> tuple[Plan, Compute]:
    """What :func:`pretrain` would do; builds the tiles of a region where they are missing."""
    if (region is None) == (options.chips is None):
        raise InputError("one source of chips is needed", expected="--region or --chips", remedy="give one of the two")
    # Before tiles are built: a typo should not cost an hour.
    method_config = load_method(options.method)
    recipe = load_recipe(options.method)
    check_log(options.log)
    compute = choose_compute(options.devices)
    area = None if region is None else region if isinstance(region, Region) else load_region(region)
    span = parse_period(options.period) if options.period else area.period if area else None
    which = parse_months(options.months) if options.months else area.months if area else None
    opened, name = _chips_of(area, options, span, which)
    plan = make_plan(
        opened,
        compute,
        options,
        name=name,
        method_config=method_config,
        recipe=recipe,
        period=span,
        months=which,
    )
    return plan, compute


def _chips_of(
    area: Region | None, options: Options, period: Period | None, months: tuple[int, ...] | None
) -> tuple[ChipSet, str]:
    """The opened chips and a name for them; those of a region are built where they are missing."""
    if area is None:
        opened = open_chips(str(options.chips))
        return opened, opened.name.replace("/", "-")
    from geossl.chips.build import build_tiles

    say(f"tiles of {area.name}: building what is missing")
    built = build_tiles(area, product=options.product, period=period, months=months, max_chips=options.max_chips)
    say(f"tiles: {built.new} read, {built.skipped} there before, in {built.store}")
    return open_chips(built.store), area.name


def _train(
    plan: Plan,
    compute: Compute,
    workspace: Workspace,
    method: Method,
    statistics: tuple[list[float], list[float]],
    report: WeightsReport | None,
) -> PretrainResult:
    say(plan.describe())
    say(f"computing on {compute}")
    mean, std = statistics
    with followers(plan, compute, mean, std, workspace) as place:
        module, earlier = prepare(plan, compute, place, workspace, method, mean, std)
        first = earlier.step if earlier else 0
        if earlier is not None:
            say(f"continuing at step {first}")
        monitor = Monitor(plan, torch.tensor(mean), torch.tensor(std), compute.device)
        minutes = plan.options.max_minutes
        with (
            opened_logs(plan, workspace.folder, earlier) as logs,
            track(f"pretraining {plan.method}", module.schedule.total, "steps", first) as bar,
        ):
            limit = None if minutes is None else 60 * minutes
            recorder = Recorder(workspace, monitor, bar, logs, earlier, limit)
            run_lightning(module, recorder, first, plan, compute, place)
            bar.note = note(recorder.figures)
            logs.write(recorder.figures)
    return write_outcome(plan, compute, method, monitor, recorder, mean, std, report)
