"""MoCo v1 and v2: the key network is a moving average, the queue a ring, and batch statistics tell nothing."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from lightly.loss import NTXentLoss
from lightly.models.utils import update_momentum

from geossl.methods.parts import frozen_copy, move_towards
from geossl.methods.ring import Ring, empty_ring, random_ring

both = pytest.mark.parametrize("name", ["moco1", "moco2"])
SMALL = {"queue": 10, "output_dim": 4}


def test_the_first_version_projects_linearly_and_the_second_through_a_hidden_layer(driver):
    assert driver.build("moco1").projector.weight.shape == (128, 12)
    assert [layer.weight.shape for layer in driver.build("moco2").projector.layers[::2]] == [(2048, 12), (128, 2048)]
    assert driver.build("moco1").options.temperature == 0.07 and driver.build("moco2").options.temperature == 0.2


def test_the_moving_average_equals_lightlys():
    network = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))
    mine = frozen_copy(torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2)))
    theirs = copy.deepcopy(mine)
    for _ in range(3):
        move_towards(mine, network, 0.9)
        update_momentum(network, theirs, 0.9)
    for a, b in zip(mine.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b)


@both
def test_the_loss_is_infonce_of_queries_keys_and_queue_as_lightly_has_it(driver, name):
    method = driver.build(name, **SMALL)
    views = driver.views(method)
    oracle = NTXentLoss(temperature=method.options.temperature, memory_bank_size=(10, 4))
    oracle.memory_bank.bank, oracle.memory_bank.bank_ptr = method.queue.items.clone(), torch.zeros(1).long()
    twin = copy.deepcopy(method)
    torch.manual_seed(7)
    loss = method.step(views, 0.0).loss
    torch.manual_seed(7)
    key = twin._keys(views[1])[1]
    expected = oracle(twin.projector(twin.backbone(views[0])), key)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)


@both
def test_only_after_step_moves_the_key_network_and_by_one_minus_momentum(driver, name):
    method = driver.build(name, momentum=0.75, **SMALL)
    before = copy.deepcopy(method.key_backbone[0].weight)
    with torch.no_grad():
        method.backbone[0].weight.add_(1.0)
    driver.step(method)
    assert torch.equal(method.key_backbone[0].weight, before)
    method.after_step(0.0)
    torch.testing.assert_close(method.key_backbone[0].weight, before + 0.25)


def test_new_rows_replace_the_oldest_around_the_ring():
    ring = Ring(torch.zeros(5, 4))
    rows = torch.arange(28.0).view(7, 4)
    ring.add(rows[:3])
    ring.add(rows[3:7])
    assert torch.equal(ring.items, rows[[5, 6, 2, 3, 4]])
    assert ring.pointer.item() == 2


def test_more_rows_than_places_leave_the_last_ones():
    ring = Ring(torch.zeros(3, 4))
    rows = torch.arange(20.0).view(5, 4)
    ring.add(rows)
    assert torch.equal(ring.items, rows[2:])


def test_rows_of_accumulated_steps_enter_the_ring_together_in_their_order():
    ring, rows = Ring(torch.zeros(6, 2)), torch.arange(8.0).view(4, 2)
    ring.keep(rows[:1])
    ring.keep(rows[1:])
    assert not ring.items.any()
    ring.add_kept()
    ring.add_kept()
    assert torch.equal(ring.items[:4], rows) and ring.pointer.item() == 4


def test_a_ring_starts_with_random_unit_vectors_or_with_nothing():
    torch.testing.assert_close(random_ring(6, 3).items.norm(dim=1), torch.ones(6))
    assert not empty_ring(6, 3).items.any()


@both
def test_a_step_queues_unit_length_keys_of_its_second_view_only_after_the_step(driver, name):
    method = driver.build(name, **SMALL)
    queue = method.queue.items.clone()
    driver.step(method)
    assert torch.equal(method.queue.items, queue)
    method.after_step(0.0)
    assert torch.equal(method.queue.items[8:], queue[8:]) and not torch.equal(method.queue.items[:8], queue[:8])
    torch.testing.assert_close(method.queue.items.norm(dim=1), torch.ones(10))


@both
def test_keys_come_back_in_the_order_of_their_chips(driver, name):
    method = driver.build(name, bn_splits=2, **SMALL)
    method.key_backbone.eval()  # without batch statistics, order and groups cannot matter
    view = driver.views(method)[0]
    with torch.no_grad():
        expected = F.normalize(method.key_projector(method.key_backbone(view)), dim=1)
    torch.testing.assert_close(method._keys(view)[1], expected, rtol=1e-4, atol=1e-5)


@both
def test_keys_do_not_share_the_batch_statistics_of_all_chips(driver, name):
    method = driver.build(name, bn_splits=2, **SMALL)
    view = driver.views(method)[0]
    with torch.no_grad():
        together = F.normalize(method.key_projector(method.key_backbone(view)), dim=1)
    assert (method._keys(view)[1] - together).abs().max() > 1e-3


@both
def test_the_queue_is_cut_to_half_of_the_training_chips(driver, name):
    method = driver.build(name, queue=50, output_dim=4)
    assert len(method.queue) == 12 and method.state_dict()["queue.items"].shape == (12, 4)
