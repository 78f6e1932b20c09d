"""What every method must do; a new method is covered by having a file in ``methods`` and a YAML in ``configs``."""

from __future__ import annotations

import copy
import io

import pytest
import torch

from geossl import config
from geossl.errors import InputError
from geossl.methods.protocol import build_method, load_method, method_names
from geossl.training.optim import OptimizerSettings
from geossl.views.recipe import load_recipe

NAMES = method_names()
CASES = [
    *[pytest.param(name, {}, id=name) for name in NAMES],
    pytest.param("simclr", {"dcl": True}, id="simclr-dcl"),
    pytest.param("simclr2", {"queue": 10}, id="simclr2-queue"),
    pytest.param("swav", {"queue": 10, "queue_from": 0.0}, id="swav-queue"),
]
every_case = pytest.mark.parametrize(("name", "settings"), CASES)


def test_all_methods_of_the_field_are_there_each_with_its_configuration():
    assert {"simclr", "simclr2", "moco1", "moco2", "byol", "swav", "deepcluster", "frossl"} <= set(NAMES)
    assert set(config.config_names("methods")) == set(NAMES)


@every_case
def test_a_step_gives_a_finite_float32_loss_and_detached_embeddings_of_the_large_views(driver, name, settings):
    method = driver.begin(driver.build(name, **settings))
    result = driver.step(method)
    assert result.loss.shape == () and result.loss.dtype == torch.float32 and result.loss.requires_grad
    assert result.loss.isfinite()
    assert result.embeddings.shape == (method.n_views, 8, 12) and not result.embeddings.requires_grad
    assert result.embeddings.dtype == torch.float32
    assert all(not value.requires_grad and value.shape == () for value in result.logs.values())


@every_case
def test_after_an_epoch_the_loss_reaches_every_parameter_that_learns_with_finite_gradients(driver, name, settings):
    method = driver.build(name, **settings)
    driver.train(method, driver.optimizer(method), range(3))
    method.zero_grad()
    driver.step(driver.begin(method, 1), 3).loss.backward()
    learning = {key: p.grad for key, p in method.named_parameters() if p.requires_grad}
    assert [key for key, grad in learning.items() if grad is None or not grad.any()] == []
    assert all(grad.isfinite().all() and grad.dtype == torch.float32 for grad in learning.values())


@every_case
def test_the_loss_is_float32_under_autocast_and_near_the_full_precision_one(driver, name, settings):
    plain = driver.step(driver.begin(driver.build(name, **settings))).loss
    method = driver.begin(driver.build(name, **settings))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        narrow = driver.step(method).loss
    assert narrow.dtype == torch.float32
    assert narrow.item() == pytest.approx(plain.item(), rel=0.05, abs=0.05)


@every_case
def test_training_on_one_batch_lowers_the_loss(driver, name, settings):
    method = driver.build(name, **settings)
    optimizer = driver.optimizer(method)
    driver.train(method, optimizer, range(3))  # queues are filled, prototypes free
    views = driver.views(method)
    views[1] = views[0] + 0.1 * views[1]
    losses = []
    for _ in range(15):
        result = method.step(views, 0.0, driver.places(0))
        optimizer.zero_grad()
        result.loss.backward()
        optimizer.step()
        losses.append(result.loss.item())
    assert losses[-1] < losses[0] - 0.05 * abs(losses[0])


@every_case
def test_copies_of_networks_are_true_copies_without_shared_storage_or_gradients(driver, name, settings):
    method = driver.build(name, **settings)
    copies = {key: part for key, part in method.named_children() if key.startswith(("key_", "target_"))}
    assert all(not p.requires_grad for part in copies.values() for p in part.parameters())
    for key, part in copies.items():
        original = dict(getattr(method, key.split("_", 1)[1]).state_dict())
        assert original.keys() == part.state_dict().keys()
        for entry, value in part.state_dict().items():
            assert torch.equal(value, original[entry]), f"{key}.{entry}"
            assert value.data_ptr() != original[entry].data_ptr(), f"{key}.{entry}"
    frozen = [key for key, p in method.named_parameters() if not p.requires_grad]
    assert all(key.split(".")[0] in copies for key in frozen), "a copy is named after what it copies"


@every_case
def test_the_backbone_that_is_kept_is_the_one_that_was_given_and_learns(driver, small_net, name, settings):
    method = driver.build(name, backbone=small_net, **settings)
    before = copy.deepcopy(small_net.state_dict())
    driver.train(method, driver.optimizer(method), range(2))
    assert method.backbone is small_net
    assert not torch.equal(small_net[0].weight, before["0.weight"])


@every_case
def test_training_continued_from_a_checkpoint_equals_undisturbed_training(driver, name, settings):
    whole = driver.build(name, **settings)
    optimizer = driver.optimizer(whole)
    driver.train(whole, optimizer, range(2))
    file = io.BytesIO()
    torch.save({"method": whole.state_dict(), "optimizer": optimizer.state_dict()}, file)
    expected = driver.train(whole, optimizer, range(2, 8))  # from the middle of an epoch over two more

    file.seek(0)
    saved = torch.load(file, weights_only=True)
    resumed = driver.build(name, seed=99, **settings)
    resumed.load_state_dict(saved["method"])
    again = driver.optimizer(resumed)
    again.load_state_dict(saved["optimizer"])
    assert driver.train(resumed, again, range(2, 8)) == expected
    for key, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[key], value), key


@every_case
def test_training_is_a_function_of_the_torch_seed(driver, name, settings):
    def run(seed: int) -> list[float]:
        method = driver.build(name, seed, **settings)
        return driver.train(method, driver.optimizer(method), range(4))

    assert run(0) == run(0) != run(1)


@every_case
def test_a_step_leaves_what_the_optimiser_has_not_seen_alone(driver, name, settings):
    """Only ``after_step`` moves averages, queues and counters: gradients may be accumulated over several steps."""
    method = driver.begin(driver.build(name, **settings))
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    before = copy.deepcopy(method.state_dict())
    driver.step(method)
    changed = [key for key, value in method.state_dict().items() if not torch.equal(value, before[key])]
    assert [key for key in changed if not key.endswith(statistics) and key != "nmi"] == []


@every_case
def test_chips_are_weighted_with_a_mean_of_one_or_not_at_all(driver, name, settings):
    method = driver.build(name, **settings)
    assert method.chip_weights() is None
    weights = driver.begin(method).chip_weights()
    if weights is not None:
        assert weights.shape == (24,) and weights.dtype == torch.float32 and (weights > 0).all()
        assert weights.mean().item() == pytest.approx(1, rel=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_the_shipped_recipe_and_optimiser_are_valid(name):
    loaded, recipe = load_method(name), load_recipe(name)
    assert loaded.method == name and loaded.paper
    assert recipe.size == 64
    assert OptimizerSettings(**loaded.optimizer).name == "sgd"


@pytest.mark.parametrize("batch", [1, 101])
@pytest.mark.parametrize("name", NAMES)
def test_batches_that_cannot_work_are_refused(small_net, name, batch):
    with pytest.raises(InputError, match="cannot train on these batches") as caught:
        build_method(name, small_net).prepare(batch, 100)
    assert caught.value.remedy


@pytest.mark.parametrize("name", NAMES)
def test_no_chips_at_all_are_refused(small_net, name):
    with pytest.raises(InputError, match="no chips to train on") as caught:
        build_method(name, small_net).prepare(8, 0)
    assert caught.value.remedy


def test_an_unknown_method_gets_a_hint():
    with pytest.raises(InputError, match="did you mean 'simclr'"):
        load_method("simclrr")


def test_a_user_file_may_change_settings_and_a_typo_in_it_is_named(tmp_path, small_net):
    good = tmp_path / "mine.yaml"
    good.write_text("method: simclr\ntitle: mine\nsettings: {temperature: 0.5, dcl: true}\nviews: {gray: 0}\n")
    assert build_method(good, small_net).options.temperature == 0.5
    assert load_recipe(good).gray == 0
    bad = tmp_path / "typo.yaml"
    bad.write_text("method: simclr\ntitle: mine\nsettings: {temprature: 0.5}\n")
    with pytest.raises(InputError, match="temprature"):
        load_method(bad)
    bad.write_text("method: simsiam\ntitle: mine\n")
    with pytest.raises(InputError, match="unknown method 'simsiam'"):
        load_method(bad)


def test_small_views_for_a_method_that_takes_none_are_refused_naming_those_that_do(tmp_path):
    bad = tmp_path / "small.yaml"
    bad.write_text("method: byol\ntitle: mine\nviews: {small_views: 4}\n")
    with pytest.raises(InputError, match="learns from large views alone") as caught:
        load_method(bad)
    assert "swav" in str(caught.value.remedy)
