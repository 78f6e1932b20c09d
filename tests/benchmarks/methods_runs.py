"""One row of the learning table: features of a method or a control, made and scored, kept as JSON and predictions."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import yaml

from geossl.artefacts import atomic_file, write_json
from geossl.chips.sampler import ResidentSampler
from geossl.config import config_folder
from geossl.encoders.build import seeded_encoder
from geossl.encoders.saved import Encoder, load_encoder, random_encoder
from geossl.encoders.weights import load_weights
from geossl.errors import GeosslError
from geossl.evaluation.controls import RandomConvolutions, image_statistics
from geossl.evaluation.intervals import Interval, block_bootstrap
from geossl.evaluation.probes import knn_predict, linear_probe, macro_average_precision, normalise_together
from geossl.progress import set_quiet
from geossl.training.data import Batches, band_statistics
from geossl.training.monitor import embed
from geossl.training.pretrain import pretrain
from geossl.views.recipe import Recipe
from tests.benchmarks.methods_sets import Study, open_study

RESAMPLES = 500
ENCODER = "resnet18"
BATCH = 32
_FEW = 500  # training chips below which 5 neighbours are asked instead of 20


@dataclass(frozen=True)
class Settings:
    """What all runs share."""

    work: Path
    minutes: float
    samples: int
    view_px: int
    seed: int
    size_km: float | None
    weights: str | None = None
    weights_bands: tuple[str, ...] = ()


@dataclass(frozen=True)
class Run:
    """One row: ``budget`` is ``wall-clock``, ``samples`` or empty (controls, which do not learn)."""

    study: str
    method: str
    budget: str = ""
    balance: bool = False
    pairs: str | None = None

    @property
    def key(self) -> str:
        """A file name of its own."""
        parts = [Path(self.study).name, self.method, self.budget, "balance" if self.balance else "", self.pairs or ""]
        return "_".join(part for part in parts if part).replace(" ", "-")


def done(run: Run, settings: Settings) -> dict[str, Any] | None:
    """The stored outcome of a run, None where it was not made yet."""
    path = settings.work / "runs" / f"{run.key}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def predictions(run: Run, settings: Settings) -> dict[str, np.ndarray]:
    """What a finished run says about the test chips, by ``knn`` and ``linear``."""
    with np.load(settings.work / "runs" / f"{run.key}.npz") as stored:
        return {name: stored[name] for name in stored.files}


def execute(run: Run, settings: Settings) -> dict[str, Any]:
    """Make a row and keep it; a run that a method or its data refuse is kept with the reason. One thread."""
    torch.set_num_threads(1)
    set_quiet(True)
    folder = settings.work / "runs"
    folder.mkdir(parents=True, exist_ok=True)
    study = open_study(run.study, settings.work, settings.size_km)
    began = time.perf_counter()
    try:
        facts, said = CONTROLS.get(run.method, pretrained)(run, study, settings)
    except GeosslError as error:
        outcome: dict[str, Any] = {**asdict(run), "error": str(error).replace("\n", " ")}
    else:
        figures = {name: asdict(interval(study, predicted)) for name, predicted in said.items()}
        outcome = {**asdict(run), **facts, **figures, "all_seconds": round(time.perf_counter() - began, 1)}
        with atomic_file(folder / f"{run.key}.npz") as temporary, temporary.open("wb") as stream:
            np.savez(stream, **said)
    write_json(folder / f"{run.key}.json", outcome)
    return outcome


def score(study: Study, predicted: np.ndarray) -> Callable[[np.ndarray], float]:
    """The figure of some of the test chips."""
    truth = study.labels[study.test]
    if study.kind == "multilabel":
        return lambda rows: macro_average_precision(truth[rows], predicted[rows])
    return lambda rows: float((truth[rows] == predicted[rows]).mean())


def interval(study: Study, predicted: np.ndarray) -> Interval:
    """The figure of all test chips, with its interval over blocks."""
    return block_bootstrap(score(study, predicted), study.test_blocks, resamples=RESAMPLES)


def probed(study: Study, features: np.ndarray) -> dict[str, np.ndarray]:
    """Predictions of kNN (from all training chips) and of the linear probe for the test chips."""
    k = 20 if len(study.train) >= _FEW else 5
    knn = knn_predict(features[study.train], study.labels[study.train], features[study.test], k)
    parts = [item for rows in (study.fit, study.tune, study.test) for item in (features[rows], study.labels[rows])]
    return {"knn": knn, "linear": linear_probe(study.kind, *parts).predicted}


def encoder_features(encoder: Encoder, study: Study) -> np.ndarray:
    """Embeddings (N, d) of whole chips in their own size, by the backbone (not by a projection)."""
    values, _ = study.pixels
    device = torch.device("cpu")
    mean, std = encoder.mean[:, None, None], encoder.std[:, None, None]
    return embed(encoder.backbone, values[:, encoder.select(study.chips.bands)], device, mean, std)


def batch_size(study: Study) -> int:
    """Chips a step: 32, so that short runs do many steps, and never more than a third of the training chips."""
    return max(min(BATCH, len(study.train) // 3), 4)


def pretrained(run: Run, study: Study, settings: Settings) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """A method as ``geossl.pretrain`` runs it, by time or by chips seen."""
    batch = batch_size(study)
    out = settings.work / "encoders" / run.key
    steps = max(len(study.train) // batch, 1)
    length: dict[str, Any] = (
        {"max_minutes": settings.minutes}
        if run.budget == "wall-clock"
        else {"epochs": max(round(settings.samples / (steps * batch)), 2)}
    )
    switches = {"balance": run.balance, "pairs": run.pairs}
    result = pretrain(
        chips=study.path, method=str(method_file(run.method, settings)), encoder=ENCODER, batch_size=batch, out=out,
        seed=settings.seed, **length, **switches,
    )  # fmt: skip
    said = probed(study, encoder_features(load_encoder(out), study))
    shutil.rmtree(out)  # the figures are kept, not 45 MB a run
    samples = result.steps * batch
    return {"steps": result.steps, "samples": samples, "seconds": result.seconds,
            "train_seconds": round(samples / result.samples_per_s, 1)}, said  # fmt: skip


def method_file(method: str, settings: Settings) -> Path:
    """The shipped method with views of ``view_px`` (small views half of it)."""
    path = settings.work / "methods" / f"{method}-{settings.view_px}px.yaml"
    shipped = yaml.safe_load((config_folder("methods") / f"{method}.yaml").read_text(encoding="utf-8"))
    shipped["views"]["size"] = settings.view_px
    if shipped["views"].get("small_views"):
        shipped["views"]["small_size"] = settings.view_px // 2
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as temporary:
        temporary.write_text(yaml.safe_dump(shipped, sort_keys=False), encoding="utf-8")
    return path


def random_init(run: Run, study: Study, settings: Settings) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The untrained network."""
    mean, std = band_statistics(study.chips, study.train, settings.seed)
    encoder = random_encoder(ENCODER, study.chips.bands, mean, std, settings.seed)
    return {}, probed(study, encoder_features(encoder, study))


def statistics(run: Run, study: Study, settings: Settings) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Mean, deviation and percentiles of each band, standardised."""
    return {}, probed(study, _standardised(image_statistics(*study.pixels), study))


def convolutions(run: Run, study: Study, settings: Settings) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Random whitened patches of training chips as convolutions, standardised."""
    values, clear = study.pixels
    net = RandomConvolutions(values[study.train], clear[study.train], settings.seed)
    return {}, probed(study, _standardised(net.features(values, clear), study))


def transfer(run: Run, study: Study, settings: Settings) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The weights of a given file, bands matched by name, not trained further."""
    assert settings.weights is not None
    mean, std = band_statistics(study.chips, study.train, settings.seed)
    backbone = seeded_encoder(ENCODER, study.chips.bands, settings.seed)
    bands = settings.weights_bands or None
    report = load_weights(backbone, settings.weights, allow_partial=True, bands=bands, mean=mean, std=std)
    said = probed(study, encoder_features(Encoder(backbone, mean, std).eval(), study))
    return {"weights": str(report)}, said


def supervised(run: Run, study: Study, settings: Settings) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The same network learnt from the training labels alone: AdamW, cosine to 0, crops and flips, ``samples`` chips
    or ``minutes``. ``linear`` is its own answer, ``knn`` that of its features."""
    batch = batch_size(study)
    mean, std = band_statistics(study.chips, study.train, settings.seed)
    sampler = ResidentSampler(study.chips, study.train, "cpu", settings.seed)
    plain = Recipe(size=settings.view_px, crop_area=(0.4, 1.0), gain=0, band_gain=0, offset=0, contrast=(1, 1),
                   band_drop=0, gray=0, blur=0, noise=0)  # fmt: skip
    batches = Batches(sampler, plain, torch.tensor(mean), torch.tensor(std), batch, 1, settings.seed)
    multi = study.kind == "multilabel"
    labels = torch.from_numpy(study.labels[study.train])
    width = labels.shape[1] if multi else int(study.labels.max()) + 1
    backbone = seeded_encoder(ENCODER, study.chips.bands, settings.seed).to(memory_format=torch.channels_last)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        head = torch.nn.Linear(backbone.out_dim, width)
    optimizer = torch.optim.AdamW([*backbone.parameters(), *head.parameters()], weight_decay=1e-2)
    began, step, total = time.perf_counter(), 0, max(settings.samples // batch, 1)

    def progress() -> float:
        timed = (time.perf_counter() - began) / (60 * settings.minutes)
        return timed if run.budget == "wall-clock" else step / total

    while (share := progress()) < 1:
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * min(1.0, (step + 1) / 10) * 0.5 * (1 + np.cos(np.pi * share))
        target = labels[batches.places(step)]
        logits = head(backbone(batches.views(step)[0]))
        loss = F.binary_cross_entropy_with_logits(logits, target.float()) if multi else F.cross_entropy(logits, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        step += 1
    seconds = round(time.perf_counter() - began, 1)
    features = encoder_features(Encoder(backbone, mean, std).eval(), study)
    with torch.inference_mode():
        logits = head(torch.from_numpy(features[study.test]))
    said = {"knn": probed(study, features)["knn"], "linear": (logits.sigmoid() if multi else logits.argmax(1)).numpy()}
    return {"steps": step, "samples": step * batch, "seconds": seconds, "train_seconds": seconds}, said


CONTROLS: dict[str, Callable[[Run, Study, Settings], tuple[dict[str, Any], dict[str, np.ndarray]]]] = {
    "random init": random_init,
    "image statistics": statistics,
    "random convolutions": convolutions,
    "supervised from scratch": supervised,
    "transfer": transfer,
}


def _standardised(features: np.ndarray, study: Study) -> np.ndarray:
    done = normalise_together(features[study.train], features)[1]
    return done.astype(np.float32)
