"""Runs of other methods and options: stateful ones go on where they died, a real collapse stops, bad input is named."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from geossl.encoders.saved import load_encoder
from geossl.errors import InputError, WorkError
from geossl.methods import protocol
from geossl.methods.parts import seen_by_health
from geossl.methods.protocol import Method, StepResult
from geossl.training import compute
from geossl.training.pretrain import foresee, pretrain
from geossl.training.state import WORK, Workspace

Make = Callable[..., str]
STATEFUL = {
    "swav": {
        "settings": "prototypes: 8, hidden_dim: 32, output_dim: 16, queue: 8, queue_from: 0.0",
        "views": ", small_views: 2, small_size: 32",
        "extra": "optimizer: {name: lars}\n",
    },
    "deepcluster": {"settings": "clusters: 4, hidden_dim: 32, output_dim: 16", "extra": "optimizer: {name: adamw}\n"},
    "simclr": {"settings": "output_dim: 16"},
}


def manifest(folder: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    return found


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.usefixtures("no_pictures", "often")
@pytest.mark.parametrize(
    ("method", "options"),
    [("swav", {"accumulate": 2}), ("deepcluster", {}), ("simclr", {"balance": True, "pairs": "60-days"})],
)
def test_what_a_method_or_the_draw_remembers_survives_a_death(
    small_chips: Path,
    small_method: Make,
    tmp_path: Path,
    die_after: Callable[[int], None],
    killed: type[BaseException],
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    options: dict[str, object],
) -> None:
    """Queue, prototypes, clusters, momentum and weights of the chips: the end is the same, bit by bit."""
    monkeypatch.setattr("geossl.training.callbacks.evaluation_interval", lambda total, epoch: 100)
    path = small_method(method, **STATEFUL[method])
    settings: dict[str, object] = {"chips": small_chips, "method": path, "epochs": 3, "batch_size": 5, **options}
    pretrain(out=tmp_path / "whole", **settings)  # type: ignore[arg-type]
    die_at = 3 if "accumulate" in options else 5  # 3 batches an epoch: the checkpoint before lies in mid-epoch
    batch = die_at * int(str(options.get("accumulate", 1)))
    die_after(batch)
    with pytest.raises(killed):
        pretrain(out=tmp_path / "died", **settings)  # type: ignore[arg-type]
    kept = Workspace(tmp_path / "died").load()
    assert kept is not None and 0 < kept.step < die_at
    assert (kept.weights is not None) == (method != "swav")
    die_after(-1)
    pretrain(out=tmp_path / "died", **settings)  # type: ignore[arg-type]
    for name in ("encoder.safetensors", "manifest.json", "metrics.csv"):
        assert (tmp_path / "died" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


class Pulled(Method):
    """Draws all embeddings together and knows nothing that holds them apart."""

    def step(self, views: list[Tensor], progress: float, places: Tensor | None = None) -> StepResult:
        embedded = self.backbone(torch.cat(views))
        z = F.normalize(embedded.float(), dim=1)
        return StepResult(1 - (z @ z.T).mean(), {}, seen_by_health(list(embedded.chunk(2)), 2))


def test_a_setting_that_collapses_is_stopped_with_its_signs_and_likely_causes(
    small_chips: Path, small_method: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    protocol.method_names()
    monkeypatch.setitem(protocol._registry, "pulled", Pulled)
    method = small_method("pulled", extra="optimizer: {name: adamw, rate: 1.0}\n")
    with pytest.raises(WorkError) as error:
        pretrain(chips=small_chips, method=method, out=tmp_path / "a", epochs=20, batch_size=8, all_blocks=True)
    text = str(error.value)
    assert "the representation has collapsed" in text and "where: step 20" in text
    assert "same embedding" in text or "hardly vary" in text or "one direction" in text
    assert "likely causes" in text and "learning rate" in text
    last = rows(tmp_path / "a")[-1]
    assert {"feature_std", "effective_rank", "alignment", "uniformity", "duplicates"} <= set(last)
    assert not (tmp_path / "a" / "manifest.json").exists() and not (tmp_path / "a" / WORK).exists()


@pytest.mark.usefixtures("no_pictures")
def test_weights_stem_and_kept_layers_become_part_of_the_encoder(
    small_chips: Path, small_method: Make, tmp_path: Path
) -> None:
    settings = {"chips": small_chips, "batch_size": 8, "epochs": 1}
    pretrain(method=small_method(), out=tmp_path / "first", stem="small", **settings)  # type: ignore[arg-type]
    pretrain(
        method=small_method("simclr2", settings="hidden_dim: 24"),
        out=tmp_path / "second",
        stem="small",
        weights=str(tmp_path / "first"),
        **settings,  # type: ignore[arg-type]
    )
    encoder = load_encoder(tmp_path / "second")
    assert encoder.backbone.stem == "small" and encoder.out_dim == 24
    told = manifest(tmp_path / "second")
    assert told["initial_weights"]["matched"] == told["initial_weights"]["total"] > 0  # type: ignore[index]
    assert told["config"]["weights"] != str(tmp_path / "first")  # type: ignore[index]  # content counts, not the place


@pytest.mark.usefixtures("no_pictures")
def test_bfloat16_where_the_hardware_has_it_is_said_and_recorded(
    small_chips: Path,
    small_method: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(compute, "cpu_flags", lambda: {"avx512_bf16"})
    pretrain(chips=small_chips, method=small_method(), out=tmp_path / "a", epochs=1, batch_size=8)
    assert "bfloat16 autocast (this CPU has avx512_bf16)" in capsys.readouterr().err
    assert manifest(tmp_path / "a")["precision"] == "bf16-mixed"
    assert {p.dtype for p in load_encoder(tmp_path / "a").parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ("method", "arguments", "message"),
    [
        ({"method": "swav", "settings": "prototypes: 500"}, {}, "fewer training chips than prototypes"),
        ({"method": "deepcluster", "settings": "clusters: 500"}, {}, "fewer training chips than clusters"),
        ({"method": "moco2", "settings": "bn_splits: 4"}, {"batch_size": 6}, "cannot train on these batches"),
        ({"extra": "optimizer: {name: adam}\n"}, {}, "simclr.yaml: optimizer"),
        ({}, {"pairs": "tomorrow"}, "no such way to pair chips"),
        ({}, {"weights": "nowhere.pth"}, "nowhere.pth"),
        ({}, {"allow_partial_weights": True}, "no weights are given"),
        ({}, {"stem": "big"}, "unknown stem"),
        ({}, {"devices": 3, "batch_size": 14}, "every device takes an equal part"),
        ({}, {"devices": 2, "batch_size": 6}, "this batch is too small"),
        ({}, {"accumulate": 0}, "more than nothing"),
        ({}, {"log": "wandb"}, "unknown log"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_is_written(
    small_chips: Path,
    small_method: Make,
    tmp_path: Path,
    method: dict[str, str],
    arguments: dict[str, object],
    message: str,
) -> None:
    settings: dict[str, object] = {"chips": small_chips, "method": small_method(**method), "batch_size": 8, **arguments}
    with pytest.raises(InputError) as error:
        pretrain(out=tmp_path / "a", **settings)  # type: ignore[arg-type]
    assert message in str(error.value)
    assert not (tmp_path / "a").exists()


def test_a_field_that_no_recipe_has_is_refused(small_chips: Path, small_method: Make) -> None:
    with pytest.raises(InputError, match="views"):
        foresee(chips=small_chips, method=small_method(views=", band: red"), batch_size=8)


def test_more_gpus_than_there_are_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(InputError, match=r"fewer GPUs[\s\S]*at most 2"):
        compute.choose_compute(4)


def test_a_dry_run_tells_every_choice(small_chips: Path, small_method: Make, tmp_path: Path) -> None:
    told = str(
        foresee(
            chips=small_chips,
            method=small_method(extra="optimizer: {name: lars}\n"),
            epochs=5,
            batch_size=8,
            accumulate=2,
            devices=2,
            pairs="other-season",
            balance=True,
            stem="small",
            out=tmp_path / "a",
        )
    )
    assert "small-image stem" in told and "pairs: same tile, other season" in told and "evenly over clusters" in told
    assert "batch 8 on 2 devices, 2 batches a step, 1 steps an epoch, 5 epochs, 5 steps, lars" in told
    assert not (tmp_path / "a").exists()
