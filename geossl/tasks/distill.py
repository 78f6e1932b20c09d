"""Distil a head: a student learns on unlabelled chips what a fine-tuned teacher says of them (SimCLR v2).

Chen et al. 2020, arXiv:2006.10029, section 2.3. Chips come from the blocks that the teacher's head was trained on, so
that its validation and test blocks stay unseen by the student too.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from geossl.artefacts import (
    atomic_directory,
    check_place,
    hash_file,
    hash_json,
    is_complete,
    read_manifest,
    write_manifest,
    write_run,
)
from geossl.chips.chipset import ChipSet
from geossl.config import geossl_home
from geossl.encoders.build import Stem, encoder_names, seeded_encoder
from geossl.encoders.saved import WEIGHTS as ENCODER_WEIGHTS
from geossl.encoders.saved import Encoder, check_bands, load_encoder
from geossl.errors import InputError, unknown_name
from geossl.progress import say, warn
from geossl.regions import Region
from geossl.report.pages import Section, facts, page
from geossl.tasks.examples import MIN_CLEAR
from geossl.tasks.heads import KIND, Head, load_head, make_net, save_weights
from geossl.tasks.heads import WEIGHTS as HEAD_WEIGHTS
from geossl.tasks.soft import Net
from geossl.tasks.student import World, labelled, open_world, scores_of, teach, validation
from geossl.tasks.trust import make_trust

REPORT = "report.html"


@dataclass(frozen=True)
class DistillResult:
    """A student that was taught.

    Attributes:
        head: its directory.
        report: the page with the figures.
        task: name of the task.
        student, teacher: architectures.
        parameters: numbers of parameters of the ``student`` and the ``teacher``.
        chips: training chips; ``steps`` of 32 chips were taken.
        agreement: how far the student says what the teacher says (see :class:`geossl.tasks.soft.Agreement`), before
            and after; None without chips to compare on. ``agreement_on``: number of those chips and their part.
        headline: name of the figure that scores are, None without labels.
        scores: ``student``, ``teacher`` and ``student_minus_teacher`` (with its interval) on labels, where there are.
        seconds: time this run took.
    """

    head: Path
    report: Path
    task: str
    student: str
    teacher: str
    parameters: dict[str, int]
    chips: int
    steps: int
    agreement: dict[str, float] | None
    agreement_on: str
    headline: str | None
    scores: dict[str, Any] | None
    seconds: float


def distill(
    teacher: str | Path,
    *,
    student: str = "resnet18",
    region: str | Region | None = None,
    chips: str | Path | ChipSet | None = None,
    labels: str | Path | None = None,
    product: str | None = None,
    period: str | None = None,
    months: str | None = None,
    epochs: int | None = None,
    temperature: float = 1.0,
    out: str | Path | None = None,
    seed: int = 0,
) -> DistillResult:
    """Teach a student, a network of the same size or smaller, what a head says of unlabelled chips.

    The result is a head directory as ``finetune`` writes it. The same command on the same inputs finds it there and
    does nothing. On the teacher's own chips the student learns from the blocks the teacher was trained on; on others
    from all blocks but a share for validation.

    Args:
        teacher: a head's directory.
        student: an encoder's name (fresh weights, the teacher's bands and normalisation), or an encoder's directory
            to start from.
        region: where to read chips from the cube (missing tiles are built); its ``product``, ``period``, ``months``.
        chips: instead of a region: a chip store, or an index of ready chips.
        labels: labels to score both on; chips that carry those the teacher learnt from need none.
        epochs: passes over the training chips; by default about 10,000 chips are seen.
        temperature: of the probabilities that are learnt; above 1 the unlikely classes count more.
        out: the student's directory; by default ``heads/<task>-<region or chips>-<student>`` under ``$GEOSSL_HOME``.
        seed: of the first weights, the order of the chips and their flips.

    Raises:
        InputError: no such head or student, chips without the bands, no chips in training blocks, wrong numbers.
        WorkError: disk full.
    """
    started = time.monotonic()
    for name, value in (("--epochs", epochs), ("--temperature", temperature)):
        if value is not None and value <= 0:
            raise InputError("this must be more than nothing", where=name, found=value)
    head = load_head(teacher)
    if head.net.takes_dates:
        raise InputError(
            "a head of series cannot teach: a student sees single dates",
            where=teacher,
            expected="a head of single dates or composites",
            remedy="teach the task with temporal: composite, and distil that head",
        )
    world = open_world(head, region, chips, labels, product, period, months, seed)
    check_bands(head.net.encoder, world.data.chips.bands, f"chips {world.data.chips.path}")
    encoder, student_id = _student(student, head, world.data.chips, seed)
    inputs = {
        "teacher": hash_file(Path(teacher) / HEAD_WEIGHTS),
        "student": student_id,
        "chips": world.data.chips.id,
        "rows": hash_json(world.data.rows.tolist()),
        "labels": None if labels is None else hash_file(Path(labels)),
        "epochs": epochs,
        "temperature": temperature,
        "seed": seed,
    }
    folder = Path(out) if out else geossl_home() / "heads" / f"{head.task.name}-{world.name}-{encoder.backbone.name}"
    folder = folder.absolute()
    if folder.resolve() == Path(teacher).resolve():
        raise InputError("a student cannot take its teacher's place", where=folder, remedy="choose another --out")
    check_place(folder, KIND)
    if is_complete(folder) and read_manifest(folder, KIND).get("inputs_hash") == hash_json(inputs):
        say(f"this student is there already: {folder}")
        return _result(folder, read_manifest(folder, KIND), time.monotonic() - started)
    if not len(world.part("train")):
        raise InputError(
            "no chip lies in a block that the teacher was trained on",
            where=world.data.chips.path,
            expected=f"chips with at least {100 * MIN_CLEAR:.0f} % clear pixels in its training blocks",
            found=f"{len(world.data.rows)} chips, none of them there",
            remedy="check --period and --months, or give chips of another place",
        )
    _warn_of_seen_blocks(encoder, world)
    examples = labelled(head, world, region, labels, product, period, months, seed)
    net = _fresh(head, encoder, seed)
    state = folder.with_name(f".{folder.name}.state.pt")
    agreement, steps = teach(head, net, world, epochs, temperature, seed, state, hash_json(inputs))
    made = Head(head.task, net.eval(), world.data.chips.shape[0]).eval()
    scores = None if examples is None else scores_of(head, made, examples, seed)
    made.trust = None if examples is None else make_trust(head.task, made, examples, seed)
    result = _write(folder, teacher, head, made, world, agreement, steps, scores, inputs, started)
    state.unlink(missing_ok=True)
    return result


def _student(student: str, head: Head, chips: ChipSet, seed: int) -> tuple[Encoder, str]:
    """The student's encoder, and what it is in the identity of the run."""
    teacher = head.net.encoder
    if Path(student).is_dir():
        encoder = load_encoder(student)
        check_bands(encoder, chips.bands, f"chips {chips.path}")
        identity = hash_file(Path(student) / ENCODER_WEIGHTS)
    elif student in encoder_names():
        residual = student.startswith("resnet") and teacher.backbone.name.startswith("resnet")
        stem: Stem = teacher.backbone.stem if residual else "maxpool"
        backbone = seeded_encoder(student, teacher.bands, seed, stem=stem)
        encoder, identity = Encoder(backbone, teacher.mean, teacher.std, {"method": "none"}), student
    else:
        raise unknown_name(
            "student", student, encoder_names(), where="--student", remedy="or give an encoder directory"
        )
    ours, theirs = _size(encoder), _size(teacher)
    if ours > theirs:
        warn(f"the student is larger than the teacher ({ours / 1e6:.1f} against {theirs / 1e6:.1f} million parameters)")
    return encoder, identity


def _warn_of_seen_blocks(encoder: Encoder, world: World) -> None:
    """A student's encoder that was pretrained on the teacher's test blocks makes the student's figures too good."""
    chips, known = world.data.chips, encoder.meta.get("chips") or {}
    if not world.own or (known.get("id") != chips.id and known.get("name") != chips.name):
        return
    tested = set(world.data.block[np.concatenate([world.part("val"), world.part("test")])])
    seen = tested & {str(block) for block in (encoder.meta.get("splits") or {}).get("train", [])}
    if encoder.meta.get("transductive") or seen:
        warn("the student's encoder was pretrained on blocks that the teacher is validated or tested on")


def _size(module: torch.nn.Module) -> int:
    return sum(one.numel() for one in module.parameters())


def _fresh(head: Head, encoder: Encoder, seed: int) -> Net:
    """The student's network; its read-out starts from the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make_net(head.task, encoder)


def _write(
    folder: Path,
    teacher: str | Path,
    head: Head,
    made: Head,
    world: World,
    agreement: dict[str, float] | None,
    steps: int,
    scores: dict[str, Any] | None,
    inputs: dict[str, Any],
    started: float,
) -> DistillResult:
    """Report, weights, run facts, and last the manifest."""
    chips, encoder = world.data.chips, made.net.encoder
    counts = {side: len(world.part(side)) for side in ("train", "val", "test")}
    distilled = {
        "teacher": head.net.encoder.backbone.name,
        "student": encoder.backbone.name,
        "parameters": {"student": _size(made.net), "teacher": _size(head.net)},
        "started_from": encoder.meta.get("method"),
        "chips": counts,
        "steps": steps,
        "temperature": inputs["temperature"],
        "agreement": agreement,
        "agreement_on": f"{len(validation(world))} chips of {'validation' if counts['val'] else 'test'} blocks",
    }
    with atomic_directory(folder) as temporary:
        sections = [
            Section("What was distilled", world.sentence, tables=[facts({"task": head.task.title, **distilled})]),
            Section("Scores on labels", "", tables=[facts(scores)] if scores else []),
        ]
        page(temporary / REPORT, f"{head.task.title}: distilled head", sections)
        weights = save_weights(made, temporary)
        seconds = time.monotonic() - started
        write_run(temporary, seconds=round(seconds, 1), teacher=str(Path(teacher).absolute()))
        write_manifest(
            temporary,
            KIND,
            **weights,
            encoding=chips.encoding.as_dict(),
            resolution_m=chips.resolution_m,
            chips={"name": chips.name, "id": chips.id},
            encoder={**encoder.meta, "method": "distilled"},
            splits={side: sorted(set(world.data.block[world.part(side)])) for side in counts},
            split_by=world.sentence,
            labels=head.meta.get("labels"),
            labels_per_class=head.meta.get("labels_per_class"),
            metrics={"headline": head.task.headline, "value": scores["student"], **scores} if scores else {},
            distilled=distilled,
            inputs=inputs,
            inputs_hash=hash_json(inputs),
        )
    return _result(folder, read_manifest(folder, KIND), time.monotonic() - started)


def _result(folder: Path, manifest: dict[str, Any], seconds: float) -> DistillResult:
    told, scores = manifest["distilled"], manifest["metrics"] or None
    return DistillResult(
        head=folder,
        report=folder / REPORT,
        task=manifest["task"]["name"],
        student=told["student"],
        teacher=told["teacher"],
        parameters=told["parameters"],
        chips=told["chips"]["train"],
        steps=told["steps"],
        agreement=told["agreement"],
        agreement_on=told["agreement_on"],
        headline=None if scores is None else scores["headline"],
        scores=scores,
        seconds=round(seconds, 1),
    )
