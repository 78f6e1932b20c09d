"""What every method must do; a new method is covered by being in ``configs/methods``."""

from __future__ import annotations

import copy

import pytest
import torch

from geossl import config
from geossl.encoders.build import seeded_encoder
from geossl.errors import InputError
from geossl.methods.protocol import Method, build_method, load_method, method_names
from geossl.views.recipe import load_recipe

NAMES = config.config_names("methods")
BANDS = ("red", "nir")


def made(name: str, **overrides) -> Method:
    torch.manual_seed(0)
    method = build_method(name, seeded_encoder("resnet18", BANDS, 0), **overrides)
    method.prepare(8, 100)
    return method.train()


def views(seed: int = 1, n: int = 8) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(n, 2, 32, 32, generator=generator) for _ in range(2)]


def train(method: Method, optimizer: torch.optim.Optimizer, steps: range) -> list[float]:
    losses = []
    for step in steps:
        torch.manual_seed(step)
        result = method.step(views(step), step / 10)
        optimizer.zero_grad()
        result.loss.backward()
        optimizer.step()
        method.after_step(step / 10)
        losses.append(result.loss.item())
    return losses


def sgd(method: Method) -> torch.optim.Optimizer:
    return torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr=0.02, momentum=0.9)


def test_both_methods_are_there():
    assert {"simclr", "moco2"} <= set(NAMES) <= set(method_names())


@pytest.mark.parametrize("name", NAMES)
def test_a_step_gives_a_float32_loss_and_detached_embeddings_of_all_views(name):
    method = made(name)
    result = method.step(views(), 0.0)
    assert result.loss.shape == () and result.loss.dtype == torch.float32 and result.loss.requires_grad
    assert result.embeddings.shape == (method.n_views, 8, 512) and not result.embeddings.requires_grad


@pytest.mark.parametrize("name", NAMES)
def test_the_loss_reaches_every_parameter_that_learns(name):
    method = made(name)
    method.step(views(), 0.0).loss.backward()
    without = [key for key, p in method.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    assert without == []


@pytest.mark.parametrize("name", NAMES)
def test_the_loss_is_float32_under_autocast_and_near_the_full_precision_one(name):
    plain = made(name).step(views(), 0.0).loss
    with torch.autocast("cpu", dtype=torch.bfloat16):
        narrow = made(name).step(views(), 0.0).loss
    assert narrow.dtype == torch.float32
    assert narrow.item() == pytest.approx(plain.item(), rel=0.05)


@pytest.mark.parametrize("name", NAMES)
def test_training_on_one_batch_lowers_the_loss(name):
    method = made(name)
    optimizer = sgd(method)
    pair = views()
    pair[1] = pair[0] + 0.1 * pair[1]
    losses = []
    for _ in range(12):
        result = method.step(pair, 0.0)
        optimizer.zero_grad()
        result.loss.backward()
        optimizer.step()
        losses.append(result.loss.item())
    assert losses[-1] < 0.85 * losses[0]


@pytest.mark.parametrize("name", NAMES)
def test_training_continued_from_a_state_dict_equals_undisturbed_training(name):
    whole = made(name)
    optimizer = sgd(whole)
    train(whole, optimizer, range(2))
    saved, saved_optimizer = copy.deepcopy(whole.state_dict()), copy.deepcopy(optimizer.state_dict())
    expected = train(whole, optimizer, range(2, 4))

    torch.manual_seed(99)
    resumed = build_method(name, seeded_encoder("resnet18", BANDS, 5))
    resumed.prepare(8, 100)
    resumed.load_state_dict(saved)
    again = sgd(resumed.train())
    again.load_state_dict(saved_optimizer)
    assert train(resumed, again, range(2, 4)) == expected
    for key, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[key], value), key


@pytest.mark.parametrize("name", NAMES)
def test_the_shipped_recipe_is_valid(name):
    assert load_recipe(name).size == 64


@pytest.mark.parametrize("batch", [1, 101])
@pytest.mark.parametrize("name", NAMES)
def test_batches_that_cannot_work_are_refused(name, batch):
    method = build_method(name, seeded_encoder("resnet18", BANDS, 0))
    with pytest.raises(InputError, match="cannot train on these batches"):
        method.prepare(batch, 100)


def test_an_unknown_method_gets_a_hint():
    with pytest.raises(InputError, match="did you mean 'simclr'"):
        load_method("simclrr")


def test_a_user_file_may_change_settings_and_a_typo_in_it_is_named(tmp_path):
    good = tmp_path / "mine.yaml"
    good.write_text("method: simclr\ntitle: mine\nsettings: {temperature: 0.5, dcl: true}\nviews: {gray: 0}\n")
    assert build_method(good, seeded_encoder("resnet18", BANDS, 0)).options.temperature == 0.5
    assert load_recipe(good).gray == 0
    bad = tmp_path / "typo.yaml"
    bad.write_text("method: simclr\ntitle: mine\nsettings: {temprature: 0.5}\n")
    with pytest.raises(InputError, match="temprature"):
        load_method(bad)
    bad.write_text("method: simsiam\ntitle: mine\n")
    with pytest.raises(InputError, match="unknown method 'simsiam'"):
        load_method(bad)
