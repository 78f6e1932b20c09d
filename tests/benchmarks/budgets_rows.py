"""The rows of the label-budget table: what each way of learning says of the test labels, kept seed by seed."""

from __future__ import annotations

import json
import time
import warnings
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from geossl.artefacts import atomic_file, write_json
from geossl.encoders.saved import Encoder, load_encoder, untrained_twin
from geossl.evaluation.probes import few_label_subsets
from geossl.tasks import chip_rows, pixel_rows, scratch
from geossl.tasks.chip_rows import answers
from geossl.tasks.choosing import Labelled, fit_head
from geossl.tasks.compare import quick_score
from geossl.tasks.examples import PixelExamples
from geossl.tasks.heads import ChipNet, PixelNet
from geossl.tasks.linear import Linear, Scaling, settled
from geossl.tasks.strategies import fine_tuning
from geossl.training.pretrain import pretrain
from tests.benchmarks import methods_runs
from tests.benchmarks.budgets_sets import Case, Spectra, untested_index

BUDGETS: tuple[int | float, ...] = (1, 5, 10, 0.01, 0.1, 1.0)
"""Labels a class (whole numbers), or shares of the training labels."""
JOINED, SSL, RANDOM = "SSL encoder + statistics + convolutions (joined)", "SSL encoder", "random init"
STATISTICS, INDICES, CONVOLUTIONS = "image statistics", "indices", "random convolutions + statistics"
SCRATCH, FINE_TUNED = "supervised from scratch", "fine-tuned from the joined head"
BATCH, LARGE, LEAST_MINUTES = 128, 700, 3.0
"""Of pretraining here: chips a step at most, chips from which a set gets all the minutes, and minutes at least."""
LINEAR = "linear"
"""The group of rows that are linear fits to frozen features, made together."""
GROUPS = (LINEAR, SCRATCH, FINE_TUNED)


@dataclass(frozen=True)
class Settings:
    """What all rows share. ``given``: set and encoder directory; other encoders are pretrained here."""

    work: Path
    minutes: float
    pretrainings: int
    method: str
    view_px: int
    given: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Run:
    """Rows of one group, set and seed; those that learn by steps are kept budget by budget."""

    study: str
    group: str
    seed: int
    budget: int | float | None = None

    @property
    def key(self) -> str:
        """A file name of its own."""
        parts = [self.study, self.group.replace(" ", "-"), str(self.seed), budget_name(self.budget).replace(" ", "")]
        return "_".join(part for part in parts if part)

    def files(self, work: Path) -> tuple[Path, Path]:
        """Facts and predictions."""
        folder = work / "runs"
        return folder / f"{self.key}.json", folder / f"{self.key}.npz"


def budget_name(budget: int | float | None) -> str:
    """``5`` labels a class, ``10 %`` of the labels."""
    return "" if budget is None else f"{100 * budget:g} %" if isinstance(budget, float) else str(budget)


def done(run: Run, work: Path) -> dict[str, Any] | None:
    """The facts of a finished run."""
    facts = run.files(work)[0]
    return json.loads(facts.read_text(encoding="utf-8")) if facts.is_file() else None


def execute(run: Run, case: Case | Spectra, settings: Settings) -> dict[str, Any]:
    """Make a run and keep what it says of the test labels, ``row|budget`` by ``row|budget``."""
    facts, predictions = run.files(settings.work)
    facts.parent.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    if isinstance(case, Spectra):
        said, notes = _spectra(run, case)
    else:
        said, notes = _frozen(case, run, settings) if run.group == LINEAR else _taught(case, run, settings)
    with atomic_file(predictions) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, **{name: _small(one) for name, one in said.items()})
    outcome = {"study": run.study, "group": run.group, "seed": run.seed, "notes": notes}
    write_json(facts, {**outcome, "seconds": round(time.perf_counter() - began, 1)})
    return outcome


def _small(said: np.ndarray) -> np.ndarray:
    return said.astype(np.uint8 if said.dtype.kind == "i" else np.float32)


def minutes_of(chips: int, settings: Settings) -> float:
    """Small sets repeat themselves: below :data:`LARGE` chips pretraining is shortened in proportion."""
    return max(settings.minutes * min(chips / LARGE, 1.0), min(LEAST_MINUTES, settings.minutes))


@lru_cache(maxsize=1)
def encoder_of(case: Case, seed: int, settings: Settings) -> Encoder:
    """The given encoder, or one pretrained here on the chips of untested blocks; seeds take turns with them."""
    given = dict(settings.given)
    if case.name in given:
        return load_encoder(given[case.name])
    number = seed % settings.pretrainings
    index = untested_index(case, settings.work)
    chips = int((case.examples.data.side != "test").sum())
    method = methods_runs.method_file(
        settings.method, methods_runs.Settings(settings.work, settings.minutes, 0, settings.view_px, number, None)
    )
    out = settings.work / "encoders" / f"{case.name}-{number}"
    pretrain(
        chips=index, method=str(method), max_minutes=minutes_of(chips, settings), encoder=methods_runs.ENCODER, out=out,
        batch_size=max(min(BATCH, chips // 6), 4), seed=number, all_blocks=True,
    )  # fmt: skip
    return load_encoder(out)


@dataclass(frozen=True)
class Block:
    """Features (n, F) of every label of a set, with the widths scaled alike and the kinds weighed."""

    values: np.ndarray
    widths: tuple[int, ...]
    kinds: dict[str, int]


def drawn(case: Case | Spectra, train: np.ndarray, budget: int | float, seed: int) -> np.ndarray:
    """The training labels of a budget, nested over shares and over numbers of labels."""
    if isinstance(budget, float) and budget >= 1:
        return train
    return train[few_label_subsets(case.labels[train], [budget], seed)[budget]]


def parts(case: Case | Spectra) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels (indices) of the training, validation and test part."""
    if isinstance(case, Spectra):
        found = [np.flatnonzero(case.side == side) for side in ("train", "val", "test")]
    else:
        found = [case.examples.part(side) for side in ("train", "val", "test")]
    return found[0], found[1], found[2]


def fit(case: Case | Spectra, block: Block, chosen: np.ndarray, seed: int) -> Linear:
    """The linear head of these labels; C and weights of kinds on the validation part."""
    train, val, _ = parts(case)
    learnt, choosing = (Labelled(block.values[some], case.labels[some], case.blocks[some]) for some in (chosen, val))
    return fit_head(case.spec, learnt, choosing, Scaling.of(block.values[train], block.widths), block.kinds)


def _frozen(case: Case, run: Run, settings: Settings) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    blocks, _ = feature_blocks(case, run.seed, settings)
    return _fits(case, blocks, run.seed)


def _fits(case: Case | Spectra, blocks: dict[str, Block], seed: int) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    said, notes = {}, {}
    train, _, test = parts(case)
    for budget in BUDGETS:
        chosen = drawn(case, train, budget, seed)
        for row, block in blocks.items():
            model = fit(case, block, chosen, seed)
            key = f"{row}|{budget_name(budget)}"
            said[key] = answers(case.spec, model, block.values[test])
            notes[key] = f"{len(chosen)} labels; {settled([model])}"
    return said, notes


@lru_cache(maxsize=1)
def feature_blocks(case: Case, seed: int, settings: Settings) -> tuple[dict[str, Block], ChipNet | PixelNet]:
    """Features of each frozen row, and the network that the joined ones are the features of."""
    examples, spec, encoder = case.examples, case.spec, encoder_of(case, seed, settings)
    train = examples.part("train")
    control = untrained_twin(encoder, seed + 1)
    if isinstance(examples, PixelExamples):
        everything = np.arange(len(examples.chip))
        net: ChipNet | PixelNet = pixel_rows.head_net(spec, encoder, examples, train, seed)
        assert isinstance(net, PixelNet)
        values = pixel_rows.pixel_features(net, examples, everything)
        count = net.kinds["encoder"]
        random = pixel_rows.pixel_features(PixelNet(control, 1).eval(), examples, everything)[:, :count]
        named = {
            JOINED: pixel_rows.part_of(net, *net.kinds),
            SSL: pixel_rows.part_of(net, "encoder"),
            STATISTICS: pixel_rows.part_of(net, "spectral"),
            INDICES: pixel_rows.of_the_pixel(net),
            CONVOLUTIONS: pixel_rows.part_of(net, "spectral", "convolutions"),
        }
        found = {name: Block(values[:, one.columns], one.widths, one.kinds) for name, one in named.items()}
        return {**found, RANDOM: Block(random, encoder.channels, {"encoder": count})}, net
    net = chip_rows.chip_head(spec, encoder, examples, train, seed)
    features = chip_rows.kinds_of_chips(net, control, examples)
    rows = {
        JOINED: chip_rows.OURS,
        SSL: chip_rows.ENCODER_ONLY,
        RANDOM: chip_rows.RANDOM_ONLY,
        STATISTICS: chip_rows.STATISTICS,
        INDICES: chip_rows.RICH,
        CONVOLUTIONS: chip_rows.CONVOLUTIONS,
    }
    made = {name: features[row] for name, row in rows.items()}
    return {name: Block(one.values, one.widths, one.kinds) for name, one in made.items()}, net


def _taught(case: Case, run: Run, settings: Settings) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Networks that learn by steps, from nothing or from the joined head, with as many rates and steps."""
    train, _, test = parts(case)
    assert run.budget is not None
    chosen, examples, spec = drawn(case, train, run.budget, run.seed), case.examples, case.spec
    encoder, start, manner = encoder_of(case, run.seed, settings), None, None
    if run.group == FINE_TUNED:
        blocks, start = feature_blocks(case, run.seed, settings)
        start.set_weights(fit(case, blocks[JOINED], chosen, run.seed))
        manner = fine_tuning()
    if isinstance(examples, PixelExamples):
        trained = scratch.train_pixels(spec, encoder, examples, chosen, run.seed, start, manner)
        said = scratch.predict_pixels(spec, trained.net, examples, test)
    else:
        trained = scratch.train_chips(spec, encoder, examples, chosen, run.seed, start, manner)
        said = scratch.predict_chips(spec, trained.net, examples, test)
    key = f"{run.group}|{budget_name(run.budget)}"
    return {key: said}, {key: f"{len(chosen)} labels; {trained.note}"}


def _spectra(run: Run, case: Spectra) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Single pixels: linear fits to bands and differences, and a network of the spectrum from scratch."""
    train, val, test = parts(case)
    bands, differences = case.bands.shape[1], case.differences.shape[1]
    both = np.concatenate([case.bands, case.differences], 1)
    blocks = {
        STATISTICS: Block(case.bands, (bands,), {"bands": bands}),
        INDICES: Block(case.differences, (differences,), {"differences": differences}),
        "bands + differences (joined)": Block(both, (bands, differences), {"bands": bands, "differences": differences}),
    }
    said, notes = _fits(case, blocks, run.seed)
    warnings.simplefilter("ignore", ConvergenceWarning)  # 300 passes are the protocol, converged or not
    for budget in BUDGETS:
        chosen = drawn(case, train, budget, run.seed)
        tried = []
        for alpha in (1e-4, 1e-2, 1.0):
            network = MLPClassifier((64, 64), alpha=alpha, max_iter=300, random_state=run.seed)
            model = make_pipeline(StandardScaler().fit(case.bands[train]), network)
            model[-1].fit(model[0].transform(case.bands[chosen]), case.labels[chosen])
            tried.append((quick_score(case.spec, case.labels[val], model.predict(case.bands[val])), alpha, model))
        best = max(tried, key=lambda one: one[0])
        key = f"{SCRATCH}|{budget_name(budget)}"
        said[key] = np.asarray(best[2].predict(case.bands[test]))
        notes[key] = f"{len(chosen)} labels; two layers of 64 on the spectrum, alpha {best[1]:g}"
    return said, notes
