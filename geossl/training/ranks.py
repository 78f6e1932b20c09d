"""Training on several devices: one process each. The caller's is the first; the others are started here.

The first process plans, evaluates, writes and reports. Each holds its part of the chips and computes its part of every
batch; gradients are averaged, buffers are the first one's (Lightning DDP: gloo on CPUs, nccl on GPUs). A follower is
``python -m geossl.training.ranks``, gets its work on stdin and ends when the first process does, however that ends.
"""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import lightning.pytorch as pl
import torch

from geossl.chips.open import open_chips
from geossl.errors import GeosslError, WorkError
from geossl.methods.protocol import method_names
from geossl.training.compute import Compute
from geossl.training.fit import Place, make_method, memory_errors, prepare, run_lightning
from geossl.training.module import PretrainModule
from geossl.training.optim import MEASURED_STEPS, Schedule
from geossl.training.plan import Plan
from geossl.training.state import Workspace

_END_S = 60.0
_READY = b"ready\n"


@dataclass(frozen=True)
class Work:
    """What a follower is told: the plan without its opened chips, which it opens itself."""

    plan: Plan
    chips: Path
    compute: Compute
    place: Place
    mean: list[float]
    std: list[float]


@contextmanager
def followers(
    plan: Plan, compute: Compute, mean: list[float], std: list[float], workspace: Workspace
) -> Iterator[Place]:
    """Start the other processes of a run, and give the place of this one; on the way out none is left.

    Raises:
        WorkError: a follower failed, with what it said last.
    """
    world = plan.options.devices
    if world == 1:
        yield Place()
        return
    place = Place(0, world, _free_port())
    threads = torch.get_num_threads()
    others: list[subprocess.Popen[bytes]] = []
    try:
        if compute.device.type == "cpu":
            torch.set_num_threads(max(threads // world, 1))
        for rank in range(1, world):
            device = torch.device("cuda", rank) if compute.device.type == "cuda" else compute.device
            stripped = replace(plan, chips=None)  # type: ignore[arg-type]
            work = Work(
                stripped, plan.chips.path, replace(compute, device=device), replace(place, rank=rank), mean, std
            )
            others.append(_start(work, workspace.folder / f"rank-{rank}.log", torch.get_num_threads()))
        for other in others:  # one that fails before they meet would be waited for in vain
            assert other.stdout is not None
            if other.stdout.readline() != _READY:
                raise _failed(others, workspace.folder) or WorkError("a process of the run ended before it began")
        try:
            yield place
            for other in others:
                other.wait(_END_S)
        except (RuntimeError, subprocess.TimeoutExpired) as error:
            failed = _failed(others, workspace.folder)
            if failed is None:
                raise
            raise failed from error
    finally:
        torch.set_num_threads(threads)
        for other in others:
            if other.poll() is None:
                other.kill()
            other.communicate()


def share_total(schedule: Schedule, device: torch.device) -> None:
    """Where several processes train: the first one's number of steps becomes everybody's."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        total = torch.tensor(schedule.total or 0, device=device)
        torch.distributed.broadcast(total, 0)
        schedule.total = int(total)


class Follower(pl.Callback):
    """Beside the first process's recorder: learns how long a timed run will be."""

    def on_train_batch_end(  # type: ignore[override]
        self, trainer: pl.Trainer, module: PretrainModule, outputs: object, batch: int, batch_idx: int
    ) -> None:
        """Wait for the total where the first process has just settled it."""
        done, rest = divmod(int(batch) + 1, module.accumulate)
        if not rest and done == MEASURED_STEPS and module.schedule.total is None:
            share_total(module.schedule, module.device)


def follow(work: Work) -> None:
    """Train as one of the other processes; nothing is written."""
    method_names()  # a process of its own has not met any method yet
    plan = replace(work.plan, chips=open_chips(work.chips))
    with memory_errors(plan):
        method, _ = make_method(plan, work.mean, work.std)
        workspace = Workspace(plan.out)
        module, earlier = prepare(plan, work.compute, work.place, workspace, method, work.mean, work.std)
        sys.stdout.buffer.write(_READY)
        sys.stdout.buffer.flush()
        run_lightning(module, Follower(), earlier.step if earlier else 0, plan, work.compute, work.place)


def _start(work: Work, log: Path, threads: int) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    with log.open("wb") as stream:
        other = subprocess.Popen(
            [sys.executable, "-m", "geossl.training.ranks"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stream,
            env=environment,
        )
    assert other.stdin is not None
    pickle.dump(work, other.stdin)
    other.stdin.flush()
    return other


def _failed(others: list[subprocess.Popen[bytes]], folder: Path) -> WorkError | None:
    """What the first follower that ended with an error said."""
    for rank, other in enumerate(others, 1):
        try:
            code = other.wait(5)  # its end may be a moment behind the broken connection
        except subprocess.TimeoutExpired:
            continue
        if code:
            said = (folder / f"rank-{rank}.log").read_text(encoding="utf-8", errors="replace").strip().splitlines()
            return WorkError(
                f"process {rank} of {len(others) + 1} failed",
                found="\n".join(said[-8:]) or f"exit {code}",
                remedy="the same command continues at the last checkpoint",
            )
    return None


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _end_with_the_first() -> None:
    """Ends this process once the pipe from the first one closes, killed or not."""
    os.read(sys.stdin.fileno(), 1)
    os._exit(1)


def main() -> int:
    """Entry of a follower."""
    work: Work = pickle.load(sys.stdin.buffer)
    threading.Thread(target=_end_with_the_first, daemon=True).start()
    try:
        follow(work)
    except GeosslError as error:
        print(error, file=sys.stderr, flush=True)
        return error.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
