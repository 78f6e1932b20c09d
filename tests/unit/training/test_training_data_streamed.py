"""A run whose chips do not fit into memory: the same verb, windows of shards, and the same weights after a death."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from geossl.chips import streamed
from geossl.chips.open import open_chips
from geossl.chips.streamed import chip_bytes
from geossl.training.callbacks import Recorder
from geossl.training.pretrain import pretrain


class Died(Exception):
    """Stands for a process that was killed."""


def test_streamed_chips_train_and_a_continued_run_ends_with_the_same_weights(
    small_chips: Path, small_method: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    room = 14 * chip_bytes(open_chips(small_chips))
    monkeypatch.setattr(streamed, "SHARD", 3)
    monkeypatch.setattr("geossl.training.pretrain.chips_memory", lambda *given: room)
    settings = {"chips": small_chips, "method": small_method(), "epochs": 2, "batch_size": 4, "all_blocks": True}
    whole = pretrain(**settings, out=tmp_path / "whole")
    assert "24 streamed in" in capsys.readouterr().err

    after = Recorder.on_train_batch_end

    def dying(self, trainer, module, outputs, batch, batch_idx):
        after(self, trainer, module, outputs, batch, batch_idx)
        if int(batch) == 6:
            self.save(7, trainer, module)
            raise Died

    with monkeypatch.context() as fatal, pytest.raises(Died):
        fatal.setattr(Recorder, "on_train_batch_end", dying)
        pretrain(**settings, out=tmp_path / "died")
    # Another amount of free memory must not change what the continued run sees.
    monkeypatch.setattr("geossl.training.pretrain.chips_memory", lambda *given: 100 * room)
    pretrain(**settings, out=tmp_path / "died")
    one, other = (load_file(tmp_path / name / "encoder.safetensors") for name in ("whole", "died"))
    assert whole.steps == 12 and all((one[key] == other[key]).all() for key in one)
