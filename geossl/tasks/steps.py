"""Learning by steps: which parameters move and how fast, the loop itself, and the windows and turns it sees."""

from __future__ import annotations

import copy
import math
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from geossl.artefacts import atomic_file
from geossl.chips.chipset import IGNORE
from geossl.encoders.build import TransformerBackbone
from geossl.encoders.saved import Encoder
from geossl.progress import Track, say, warn
from geossl.tasks.heads import TaskNet
from geossl.training.compute import Compute

CROP = 64
KEEP_S = 60.0
DECAY = 0.6
"""What the learning rate is multiplied by from one stage of a pretrained encoder to the one below."""
Learns = Literal["all", "layers", "decoder"]
Batch = Callable[[np.random.Generator], tuple[Tensor, Tensor, Tensor]]
_TOP = 5


@dataclass(frozen=True)
class Kept:
    """Where a long run keeps its state, so that the same run goes on after kill -9 and ends with the same weights.

    ``identity`` says which run it is: a file of another one is not used, nor one that cannot be read. ``skip(n)`` makes
    the batches go on behind the first n. Whoever ends the run removes the file.
    """

    file: Path
    identity: str
    skip: Callable[[int], None]


def run_steps(
    net: TaskNet,
    batch: Batch,
    loss: Callable[[Tensor, Tensor], Tensor],
    rate: float,
    steps: int,
    seed: int,
    compute: Compute,
    bar: Track,
    learns: Learns = "all",
    kept: Kept | None = None,
) -> None:
    """Train in place: AdamW with a linear warm-up and a cosine to zero; the network ends on the CPU.

    ``batch(rng)`` gives values (B, C, H, W), clear (B, H, W) and targets (of series with dates behind B); ``loss``
    takes float32 logits and targets. ``learns``: ``all`` parameters alike; ``layers``: the encoder slower, the deeper
    the slower (:func:`parameter_groups`), its normalisation keeping the statistics of pretraining; ``decoder``: the
    encoder stays as it is. Random numbers (dropout too) come from ``seed``; the global generator is untouched.
    ``kept``: the state is kept there every :data:`KEEP_S` seconds, of a run longer than that after its last step too,
    and found again.
    """
    rng = np.random.default_rng(seed)
    net.to(compute.device, memory_format=torch.channels_last).train().requires_grad_(True)
    _settle(net.encoder, learns)
    optimizer = torch.optim.AdamW(parameter_groups(net, rate, learns), lr=rate, weight_decay=1e-2)
    warm = max(1, steps // 10)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warm, 0.5 * (1 + math.cos(math.pi * step / steps)))
    )
    devices = [compute.device] if compute.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        parts = {"net": net, "optimizer": optimizer, "schedule": schedule}
        start = 0 if kept is None else _found(kept, parts, rng, devices)
        if start:
            say(f"goes on after step {start} of {steps}")
            bar.advance(start)
        last, long = time.monotonic(), start > 0
        for step in range(start, steps):
            values, clear, target = (one.to(compute.device) for one in batch(rng))
            with torch.autocast(compute.device.type, torch.bfloat16, enabled=compute.mixed):
                logits = net(values, clear)
            one = loss(logits.float(), target)
            optimizer.zero_grad(set_to_none=True)
            one.backward()
            optimizer.step()
            schedule.step()
            bar.advance(note=f"loss {one.item():.3f}")
            due = time.monotonic() - last >= KEEP_S
            if kept is not None and (due or (long and step + 1 == steps)):  # what follows may be killed too
                _keep(kept, parts, rng, devices, step + 1)
                last, long = time.monotonic(), True
    net.encoder.requires_grad_(True)
    net.to("cpu")


def _keep(kept: Kept, parts: dict[str, Any], rng: np.random.Generator, devices: list[torch.device], step: int) -> None:
    kept.file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(kept.file) as temporary:
        torch.save({"identity": kept.identity, "step": step, **_state(parts, rng, devices)}, temporary)


def _found(kept: Kept, parts: dict[str, Any], rng: np.random.Generator, devices: list[torch.device]) -> int:
    """Bring back the state that is kept; the number of steps that it has done, 0 where there is none."""
    if not kept.file.is_file():
        return 0
    fresh = copy.deepcopy(_state(parts, rng, devices))
    try:
        with zipfile.ZipFile(kept.file) as archive:  # torch.load does not look at the checksums of its archive
            if damaged := archive.testzip():
                raise zipfile.BadZipFile(damaged)
        state = torch.load(kept.file, map_location="cpu", weights_only=True)
        if state["identity"] != kept.identity:
            return 0
        done = int(state["step"])
        _restore(state, parts, rng, devices)
    except Exception as error:  # a damaged file fails in any way, and maybe after some of it was taken
        _restore(fresh, parts, rng, devices)
        warn(f"unfinished learning in {kept.file} cannot be read and begins anew ({type(error).__name__})")
        return 0
    kept.skip(done)
    return done


def _state(parts: dict[str, Any], rng: np.random.Generator, devices: list[torch.device]) -> dict[str, Any]:
    state = {name: part.state_dict() for name, part in parts.items()}
    cuda = [torch.cuda.get_rng_state(device) for device in devices]
    return {**state, "rng": rng.bit_generator.state, "torch": torch.get_rng_state(), "cuda": cuda}


def _restore(
    state: dict[str, Any], parts: dict[str, Any], rng: np.random.Generator, devices: list[torch.device]
) -> None:
    for name, part in parts.items():
        part.load_state_dict(state[name])
    rng.bit_generator.state = state["rng"]
    torch.set_rng_state(state["torch"])
    for device, numbers in zip(devices, state["cuda"], strict=True):
        torch.cuda.set_rng_state(numbers, device)


def _settle(encoder: Encoder, learns: Learns) -> None:
    """Bring a pretrained encoder's layers into the mode it learns in."""
    if learns == "decoder":
        encoder.eval().requires_grad_(False)
    elif learns == "layers":
        for module in encoder.modules():
            if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
                module.eval()


def parameter_groups(net: TaskNet, rate: float, learns: Learns) -> list[dict[str, Any]]:
    """Groups for an optimizer, each with its ``lr``.

    With ``layers``, what reads the encoder learns at ``rate``, a projection that the encoder kept (SimCLR v2 fine-tunes
    from its first layer: Chen et al. 2020, arXiv:2006.10029) too, and its stages at ``rate`` times :data:`DECAY` to the
    power of their distance from it (Clark et al. 2020, arXiv:2003.10555, section 3).
    """
    if learns == "all":
        return [{"params": list(net.parameters()), "lr": rate}]
    inside = {id(one) for one in net.encoder.parameters()}
    groups = [{"params": [one for one in net.parameters() if id(one) not in inside], "lr": rate}]
    if learns == "layers":
        by_depth: dict[int, list[nn.Parameter]] = {}
        for name, one in net.encoder.named_parameters():
            by_depth.setdefault(_depth(name, net.encoder), []).append(one)
        groups += [{"params": by_depth[depth], "lr": rate * DECAY ** (_TOP - depth)} for depth in sorted(by_depth)]
    return groups


def _depth(name: str, encoder: Encoder) -> int:
    """Stage of an encoder's parameter: 0 for its stem, 1 to 4 for the stages its maps come from, 5 for a projection."""
    if name.startswith("projection."):
        return _TOP
    part = name.removeprefix("backbone.net.").split(".")
    if part[0].startswith("layer"):
        return int(part[0].removeprefix("layer"))
    if part[0] == "blocks" and isinstance(encoder.backbone, TransformerBackbone):
        return next(number for number, last in enumerate(encoder.backbone.depths, start=1) if int(part[1]) <= last)
    return 4 if part[0] in ("norm", "fc_norm") else 0


def cropped(values: Tensor, clear: Tensor, masks: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Crops of at most :data:`CROP` pixels around one labelled pixel of each chip.

    ``masks``: (B, H, W) class indices with 255 or numbers with NaN where unlabelled, or (B, K, H, W) proportions.
    """
    height, width = masks.shape[-2:]
    side_y, side_x = min(CROP, height), min(CROP, width)
    parts = []
    for value, seen, mask in zip(values, clear, masks, strict=True):
        labelled = torch.nonzero(_labelled(mask))
        y, x = labelled[rng.integers(len(labelled))].tolist()
        top = int(np.clip(y - rng.integers(side_y), 0, height - side_y))
        left = int(np.clip(x - rng.integers(side_x), 0, width - side_x))
        window = (..., slice(top, top + side_y), slice(left, left + side_x))
        parts.append((value[window], seen[window], mask[window]))
    joined = [torch.stack(one) for one in zip(*parts, strict=True)]
    return joined[0], joined[1], joined[2]


def _labelled(mask: Tensor) -> Tensor:
    if mask.ndim == 3:
        return mask.sum(0) > 0
    return torch.isfinite(mask) if mask.is_floating_point() else mask != IGNORE


def dihedral(values: Tensor, clear: Tensor, masks: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """One of the eight flips and quarter-turns, the same for the batch."""
    turns, flip = int(rng.integers(4)), bool(rng.integers(2))
    if values.shape[-1] != values.shape[-2]:
        turns = 2 * (turns // 2)
    turned = [torch.rot90(one, turns, (-2, -1)) for one in (values, clear, masks)]
    flipped = [one.flip(-1) if flip else one for one in turned]
    return flipped[0], flipped[1], flipped[2]
