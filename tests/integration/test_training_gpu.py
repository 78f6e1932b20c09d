"""Everything of training that only a GPU can show; skipped without one. The one command for a machine that has one:
``pytest tests/integration/test_training_gpu.py -m "slow or not slow"``, and ``python -m tests.benchmarks step`` for the
figures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from geossl.chips.sampler import ResidentSampler
from geossl.encoders.build import seeded_encoder
from geossl.encoders.saved import load_encoder
from geossl.methods.protocol import build_method, load_method, method_names
from geossl.products import S2_ENCODING
from geossl.training.compute import choose_compute
from geossl.training.data import Batches
from geossl.training.optim import OptimizerSettings, make_optimizer
from geossl.training.pretrain import pretrain
from geossl.views.recipe import load_recipe

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")

BANDS = ("blue", "green", "red", "nir")


class MadeChips:
    """Random chips in memory."""

    name, id, path = "made", "made", Path("made")
    bands, encoding, resolution_m, shape = BANDS, S2_ENCODING, 10.0, (72, 72)
    table = pd.DataFrame(
        {
            "tile": [f"t{i // 2}" for i in range(256)],
            "datetime": pd.to_datetime(["2018-06-01", "2018-07-01"] * 128, utc=True),
        }
    )

    def load(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        generator = np.random.default_rng(0)
        pixels = generator.integers(1000, 5000, (len(rows), len(BANDS), *self.shape), dtype=np.uint16)
        return pixels, np.zeros((len(rows), *self.shape), np.uint8)


@pytest.mark.parametrize("method", ["simclr", "moco2", "byol", "frossl"])
def test_a_warm_step_never_waits_for_the_device(method: str) -> None:
    """Views, forward, loss, backward, optimiser and moving averages: any synchronisation with the host raises."""
    compute = choose_compute()
    sampler = ResidentSampler(MadeChips(), np.arange(256), compute.device, 0)  # type: ignore[arg-type]
    network = build_method(method, seeded_encoder("resnet18", BANDS, 0))
    network.prepare(64, 256)
    network.to(compute.device, memory_format=torch.channels_last)
    optimizer = make_optimizer(network, 64, OptimizerSettings(name="lars" if method == "byol" else "sgd"))
    ones = torch.ones(len(BANDS))
    batches = Batches(sampler, load_recipe(method), 0.2 * ones, 0.1 * ones, 64, network.n_views, 0)

    def step(number: int) -> None:
        views, places = batches.views(number), batches.places(number)
        with torch.autocast("cuda", torch.bfloat16, enabled=compute.mixed):
            loss = network.step(views, 0.1, places).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        network.after_step(0.1)

    for number in range(3):
        step(number)
    torch.cuda.synchronize()
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        step(3)
    finally:
        torch.cuda.set_sync_debug_mode(before)


@pytest.mark.slow
@pytest.mark.parametrize("method", method_names())
def test_every_method_trains_on_real_chips(real_data: Path, tmp_path: Path, method: str) -> None:
    assert load_method(method).title
    pretrain(chips=real_data / "bigearthnet-finland", method=method, epochs=4, batch_size=128, out=tmp_path / "a")
    encoder = load_encoder(tmp_path / "a")
    assert all(torch.isfinite(p).all() for p in encoder.parameters())
    run = json.loads((tmp_path / "a" / "run.json").read_text(encoding="utf-8"))
    assert run["peak_memory_mib"]["gpu"] > 0 and run["samples_per_s"] > 0


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="fewer than two GPUs")
def test_two_gpus_train_one_encoder(real_data: Path, tmp_path: Path) -> None:
    pretrain(chips=real_data / "bigearthnet-finland", epochs=4, batch_size=128, devices=2, out=tmp_path / "a")
    assert load_encoder(tmp_path / "a").meta["config"]["devices"] == 2
