"""Given a run of steps that was cut off; then it goes on where it was, and a file that is no good costs a warning."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from geossl.progress import Track
from geossl.tasks import steps
from geossl.tasks.steps import Kept, run_steps
from geossl.training.compute import Compute

STEPS = 6
CPU = Compute(torch.device("cpu"), "32-true", "", 8)


class Net(nn.Module):
    """As small as a network can be that has an encoder, and numbers that are drawn in every step."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.drop, self.reader = nn.Conv2d(2, 4, 3, padding=1), nn.Dropout(0.2), nn.Conv2d(4, 2, 1)

    def forward(self, values: Tensor, clear: Tensor) -> Tensor:
        return self.reader(self.drop(self.encoder(values)))


def draw(rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
    values = torch.from_numpy(rng.normal(size=(2, 2, 8, 8)).astype(np.float32))
    return values, torch.ones(2, 8, 8, dtype=torch.bool), (values[:, 0] > 0).long()


def run(kept: Kept | None, dies_at: int | None = None) -> tuple[dict[str, Tensor], int]:
    """Weights, and how many steps were done."""
    done: list[int] = []

    def batch(rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        if len(done) == dies_at:
            raise KeyboardInterrupt
        done.append(1)
        return draw(rng)

    torch.manual_seed(0)
    net: Any = Net()
    run_steps(net, batch, nn.functional.cross_entropy, 1e-2, STEPS, 0, CPU, Track("", STEPS, "steps"), kept=kept)
    return net.state_dict(), len(done)


def same(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, theirs[name]) for name, value in ours.items())


@pytest.fixture
def cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kept:
    """What a run kept that died in its fourth step."""
    kept = Kept(tmp_path / "kept.pt", "this run", lambda done: None)
    monkeypatch.setattr(steps, "KEEP_S", 0.0)
    with pytest.raises(KeyboardInterrupt):
        run(kept, dies_at=3)
    return kept


def test_a_run_that_was_cut_off_goes_on_to_the_same_weights(cut_off: Kept) -> None:
    whole, everything = run(None)
    resumed, left = run(cut_off)
    assert (everything, left) == (STEPS, STEPS - 3) and same(resumed, whole)
    again, none = run(cut_off)
    assert none == 0 and same(again, whole)  # what ended is not done again


def test_a_run_shorter_than_the_time_between_two_states_writes_nothing(tmp_path: Path) -> None:
    run(Kept(tmp_path / "kept.pt", "this run", lambda done: None))
    assert not list(tmp_path.iterdir())


def test_a_run_that_goes_on_keeps_its_end_however_short_the_rest_is(
    cut_off: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "KEEP_S", 60.0)
    run(cut_off)
    assert run(cut_off)[1] == 0


def _saved(change: Callable[[dict[str, Any]], object]) -> Callable[[bytes], bytes]:
    """The file with another content."""

    def damage(good: bytes) -> bytes:
        to = io.BytesIO()
        torch.save(change(torch.load(io.BytesIO(good), weights_only=True)), to)
        return to.getvalue()

    return damage


def _flipped(good: bytes) -> bytes:
    """One bit of a weight is another."""
    weight = torch.load(io.BytesIO(good), weights_only=True)["net"]["reader.weight"].numpy().tobytes()
    assert good.count(weight) == 1
    return good.replace(weight, bytes([weight[0] ^ 1]) + weight[1:])


@pytest.mark.parametrize(
    "damage",
    [
        _flipped,
        lambda good: b"",
        lambda good: good[: len(good) // 2],
        lambda good: good[:1000] + bytes(len(good) - 1000),
        lambda good: b"no weights at all",
        lambda good: good.replace(b"identity", b"identit\xc8"),
        _saved(lambda state: [state]),
        _saved(lambda state: {}),
        _saved(lambda state: {name: part for name, part in state.items() if name != "torch"}),
        _saved(lambda state: {**state, "net": {**state["net"], "reader.bias": torch.zeros(3)}}),
    ],
    ids=[
        "a flipped bit",
        "empty",
        "cut",
        "zeros",
        "text",
        "no text",
        "list",
        "nothing",
        "without numbers",
        "other network",
    ],
)
def test_a_damaged_file_is_told_of_and_not_used(
    cut_off: Kept, damage: Callable[[bytes], bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    cut_off.file.write_bytes(damage(cut_off.file.read_bytes()))
    capsys.readouterr()
    anew, done = run(cut_off)
    assert done == STEPS and same(anew, run(None)[0])
    assert "cannot be read and begins anew" in capsys.readouterr().err


def test_a_file_of_another_run_is_not_used(cut_off: Kept, capsys: pytest.CaptureFixture[str]) -> None:
    anew, done = run(Kept(cut_off.file, "another run", lambda done: None))
    assert done == STEPS and same(anew, run(None)[0])
    assert "warning" not in capsys.readouterr().err
