"""MoCo v2: the key network is a true copy and a moving average, and the queue a ring."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from lightly.models.utils import update_momentum

from geossl.encoders.build import seeded_encoder
from geossl.methods.moco2 import MoCo2, MoCo2Settings
from geossl.methods.parts import frozen_copy, move_towards

BANDS = ("red", "nir")


def moco(**settings) -> MoCo2:
    torch.manual_seed(0)
    defaults = {"queue": 10, "hidden_dim": 16, "output_dim": 4}
    return MoCo2(seeded_encoder("resnet18", BANDS, 0), MoCo2Settings(**{**defaults, **settings})).train()


def test_the_key_network_is_a_true_copy_without_shared_storage_or_gradients():
    method = moco()
    for mine, keys in ((method.backbone, method.key_backbone), (method.projector, method.key_projector)):
        own = dict(mine.state_dict())
        assert own.keys() == keys.state_dict().keys()
        for name, value in keys.state_dict().items():
            assert torch.equal(value, own[name]) and value.data_ptr() != own[name].data_ptr()
        assert not any(p.requires_grad for p in keys.parameters())


def test_the_moving_average_equals_lightlys():
    network = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))
    mine = frozen_copy(torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2)))
    theirs = copy.deepcopy(mine)
    for _ in range(3):
        move_towards(mine, network, 0.9)
        update_momentum(network, theirs, 0.9)
    for a, b in zip(mine.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_only_after_step_moves_the_key_network_and_by_one_minus_momentum():
    method = moco(momentum=0.75)
    before = method.key_projector.layers[0].weight.clone()
    with torch.no_grad():
        method.projector.layers[0].weight.add_(1.0)
    method.step([torch.randn(8, 2, 32, 32)] * 2, 0.0)
    assert torch.equal(method.key_projector.layers[0].weight, before)
    method.after_step(0.0)
    torch.testing.assert_close(method.key_projector.layers[0].weight, before + 0.25)


def test_new_keys_replace_the_oldest_around_the_ring():
    method = moco(queue=5)
    keys = torch.arange(28.0).view(7, 4)
    method.enqueue(keys[:3])
    method.enqueue(keys[3:7])
    assert torch.equal(method.queue, keys[[5, 6, 2, 3, 4]])
    assert method.pointer.item() == 2


def test_more_keys_than_places_leave_the_last_ones():
    method = moco(queue=3)
    keys = torch.arange(20.0).view(5, 4)
    method.enqueue(keys)
    assert torch.equal(method.queue, keys[2:])


def test_a_step_queues_unit_length_keys_of_its_second_view_only_after_the_step():
    method = moco(queue=10)
    queue = method.queue.clone()
    torch.manual_seed(3)
    pair = [torch.randn(8, 2, 32, 32), torch.randn(8, 2, 32, 32)]
    method.step(pair, 0.0)
    assert torch.equal(method.queue, queue)
    method.after_step(0.0)
    assert torch.equal(method.queue[8:], queue[8:]) and not torch.equal(method.queue[:8], queue[:8])
    torch.testing.assert_close(method.queue.norm(dim=1), torch.ones(10))


def test_keys_come_back_in_the_order_of_their_chips():
    method = moco(bn_splits=2)
    method.key_backbone.eval()  # without batch statistics, order and groups cannot matter
    view = torch.randn(8, 2, 32, 32)
    with torch.no_grad():
        expected = F.normalize(method.key_projector(method.key_backbone(view)), dim=1)
    torch.testing.assert_close(method._keys(view)[1], expected, rtol=1e-4, atol=1e-5)


def test_keys_do_not_share_the_batch_statistics_of_all_chips():
    method = moco(bn_splits=2)
    view = torch.randn(8, 2, 32, 32)
    with torch.no_grad():
        together = F.normalize(method.key_projector(method.key_backbone(view)), dim=1)
    assert (method._keys(view)[1] - together).abs().max() > 1e-3


def test_the_queue_is_cut_to_half_of_the_training_chips():
    method = moco(queue=50)
    method.prepare(8, 30)
    assert len(method.queue) == 15 and method.state_dict()["queue"].shape == (15, 4)


def test_queue_and_pointer_survive_a_state_dict():
    method = moco()
    method.enqueue(torch.rand(7, 4))
    other = moco()
    other.load_state_dict(method.state_dict())
    assert torch.equal(other.queue, method.queue) and other.pointer.item() == 7
