"""Given a command that was killed while a network learnt; then the same command goes on there and ends the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from geossl.encoders.saved import Encoder
from geossl.tasks import keeping as kept_module
from geossl.tasks import scratch, steps
from geossl.tasks.heads import PixelNet, TaskNet
from geossl.tasks.keeping import Learning, keeping
from geossl.tasks.scratch import Manner
from geossl.training.compute import Compute

RATES = (1e-3, 3e-3)


class Killed(BaseException):
    pass


def batch(rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    values = torch.from_numpy(rng.uniform(0, 0.3, (2, 4, 16, 16)).astype(np.float32))
    return values, torch.ones(2, 16, 16, dtype=torch.bool), (values[:, 0] > 0.15).long()


def learn(
    encoder: Encoder, monkeypatch: pytest.MonkeyPatch, dies_at: int | None, rates: Any = RATES
) -> tuple[Any, int]:
    """The trained network, and how many steps were done."""
    torch.manual_seed(0)
    first: TaskNet = PixelNet(encoder, 2)
    done = []

    def loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        if len(done) == dies_at:
            raise Killed
        done.append(1)
        return torch.nn.functional.cross_entropy(logits, target)

    monkeypatch.setattr(scratch, "STEPS", 3)
    monkeypatch.setattr(scratch, "TRIAL_STEPS", 1)
    monkeypatch.setattr(steps, "KEEP_S", 0.0)
    monkeypatch.setattr(scratch, "choose_compute", lambda: Compute(torch.device("cpu"), "32-true", "", 8))
    trained = scratch._train(first, batch, loss, lambda net: 0.5, 0, Manner("learning", rates), 0.0, 1.0)
    return trained, len(done)


def same(one: TaskNet, other: TaskNet) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize(("dies_at", "left"), [(1, 4), (3, 2)])
def test_it_goes_on_where_it_was_and_trials_that_are_over_are_not_repeated(
    encoder: Encoder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, dies_at: int, left: int
) -> None:
    undisturbed, steps_in_all = learn(encoder, monkeypatch, None)
    assert steps_in_all == 5
    with pytest.raises(Killed), keeping(tmp_path / "unfinished", "mine"):
        learn(encoder, monkeypatch, dies_at)
    with keeping(tmp_path / "unfinished", "mine"):
        resumed, done = learn(encoder, monkeypatch, None)
    assert done == left and resumed.rate == undisturbed.rate
    assert same(resumed.net, undisturbed.net)


def test_what_another_command_kept_is_not_used(
    encoder: Encoder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(Killed), keeping(tmp_path / "unfinished", "mine"):
        learn(encoder, monkeypatch, 3)
    with keeping(tmp_path / "unfinished", "another's"):
        assert learn(encoder, monkeypatch, None)[1] == 5
    with keeping(tmp_path / "unfinished", "mine"):
        assert learn(encoder, monkeypatch, None, RATES[:1])[1] == 4, "another way of learning"


def test_a_kept_file_that_cannot_be_read_is_told_and_costs_its_steps_alone(
    encoder: Encoder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(Killed), keeping(tmp_path / "unfinished", "mine"):
        learn(encoder, monkeypatch, 3)
    for file in (tmp_path / "unfinished").glob("*.pt"):
        file.write_bytes(file.read_bytes()[:1000])
    with keeping(tmp_path / "unfinished", "mine"):
        assert learn(encoder, monkeypatch, None)[1] == 3
    assert "cannot be read and begins anew" in capsys.readouterr().err


def test_outside_of_a_command_nothing_is_kept(encoder: Encoder) -> None:
    assert kept_module.Learning.of(PixelNet(encoder, 2), "learning") is None


@pytest.mark.parametrize("damage", ["", '{"0.001": 0.', "[1]", '{"a": 1}', "\0\0\0"])
def test_scores_that_cannot_be_read_are_told_of_and_the_rates_tried_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    learning = Learning(tmp_path, "one")
    learning.keep(1e-3, 0.5)
    assert learning.scores == {1e-3: 0.5}
    (tmp_path / "one.json").write_text(damage, encoding="utf-8")
    assert learning.scores == {}
    assert "are tried anew" in capsys.readouterr().err
    learning.keep(3e-3, 0.25)
    assert learning.scores == {3e-3: 0.25}
