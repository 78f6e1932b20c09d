"""SwaV: codes by Sinkhorn's algorithm, swapped between views; unit prototypes that are frozen at first."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from lightly.loss import SwaVLoss
from lightly.loss.swav_loss import sinkhorn as lightlys_sinkhorn

from geossl.errors import InputError
from geossl.methods.protocol import build_method
from geossl.methods.sinkhorn import sinkhorn
from geossl.methods.swav import swapped_prediction


def unit(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype), dim=-1)


@pytest.mark.parametrize("epsilon", [0.05, 0.5])
@pytest.mark.parametrize("iterations", [1, 3, 10])
def test_codes_equal_lightlys(epsilon, iterations):
    scores = unit(20, 6) @ unit(7, 6, seed=1).T
    mine = sinkhorn(scores, epsilon, iterations)
    torch.testing.assert_close(mine, lightlys_sinkhorn(scores, iterations, epsilon), rtol=1e-4, atol=1e-6)


def test_codes_sum_to_one_a_sample_and_use_all_prototypes_equally():
    codes = sinkhorn(unit(30, 6, dtype=torch.float64) @ unit(5, 6, seed=1, dtype=torch.float64).T, 0.1, 200)
    torch.testing.assert_close(codes.sum(dim=1), torch.ones(30, dtype=torch.float64))
    torch.testing.assert_close(codes.sum(dim=0), torch.full((5,), 6.0, dtype=torch.float64))


def test_codes_are_float32_and_finite_where_float16_would_overflow():
    scores = (unit(8, 6) @ unit(4, 6, seed=1).T).half()
    codes = sinkhorn(scores, 0.05)
    assert codes.dtype == torch.float32 and codes.isfinite().all()
    assert torch.exp(torch.tensor(1.0).half() / 0.05).isinf()
    extreme = sinkhorn(torch.tensor([[1.0, -1.0], [1.0, -1.0]]), 0.025)
    torch.testing.assert_close(extreme, torch.full((2, 2), 0.5))


def test_samples_without_mass_do_not_count():
    scores = unit(9, 6) @ unit(4, 6, seed=1).T
    weights = torch.tensor([1.0] * 6 + [0.0] * 3)
    codes = sinkhorn(scores, 0.05, 3, weights)
    torch.testing.assert_close(codes[:6], sinkhorn(scores[:6], 0.05, 3))
    assert not codes[6:].any()


@pytest.mark.parametrize("small", [0, 3])
def test_loss_and_gradient_equal_lightlys(small):
    features, prototypes = unit(2 + small, 10, 6).requires_grad_(), unit(5, 6, seed=1).requires_grad_()
    codes = torch.stack([sinkhorn(view @ prototypes.detach().T) for view in features[:2].detach()])
    mine = swapped_prediction(features, prototypes, codes, 0.1)
    scores = list((features @ prototypes.T).unbind())
    theirs = SwaVLoss(temperature=0.1)(scores[:2], scores[2:]).squeeze()
    torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)
    for a, b in zip(*(torch.autograd.grad(x, (features, prototypes)) for x in (mine, theirs)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_a_step_with_a_queue_equals_lightlys(driver):
    method = driver.build("swav", prototypes=5, output_dim=6, queue=9, queue_from=0.2)
    method.queue.add(unit(9, 6, seed=4))
    views = driver.views(method)
    twin = copy.deepcopy(method)
    large, small = twin.backbone(torch.cat(views[:2])), twin.backbone(torch.cat(views[2:]))
    projected = F.normalize(twin.projector(torch.cat([large, small])), dim=1)
    scores = list((projected @ twin.prototypes.T).chunk(4))
    queue = [twin.queue.items @ twin.prototypes.T] * 2
    oracle = SwaVLoss(temperature=0.1, sinkhorn_epsilon=method.options.epsilon)
    early = copy.deepcopy(method).step(views, 0.1).loss
    torch.testing.assert_close(early, oracle(scores[:2], scores[2:]).squeeze(), rtol=1e-5, atol=1e-6)
    late = method.step(views, 0.2).loss
    torch.testing.assert_close(late, oracle(scores[:2], scores[2:], queue).squeeze(), rtol=1e-5, atol=1e-6)
    assert (early - late).abs() > 1e-5


def test_empty_places_of_the_queue_do_not_count(driver):
    with_queue = driver.build("swav", prototypes=5, queue=9, queue_from=0.0)
    without = driver.build("swav", prototypes=5)
    torch.testing.assert_close(driver.step(with_queue).loss, driver.step(without).loss)


def test_after_a_step_the_queue_holds_the_projections_of_the_large_views(driver):
    method = driver.build("swav", output_dim=6, queue=12)
    driver.step(method)
    assert not method.queue.items.any()
    method.after_step(0.0)
    torch.testing.assert_close(method.queue.items.norm(dim=1), torch.ones(12))


def test_prototypes_have_no_bias_and_unit_length_after_every_step(driver):
    method = driver.build("swav")
    optimizer = driver.optimizer(method)
    for step in range(5):
        driver.train(method, optimizer, range(step, step + 1))
        torch.testing.assert_close(method.prototypes.norm(dim=1), torch.ones(len(method.prototypes)))
    assert [key for key in method.state_dict() if key.startswith("prototypes")] == ["prototypes"]


def test_prototypes_are_frozen_during_the_first_epoch_only(driver):
    method = driver.build("swav")
    optimizer = torch.optim.SGD(method.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
    start = method.prototypes.detach().clone()
    driver.train(method, optimizer, range(3))
    torch.testing.assert_close(method.prototypes.detach(), start)
    driver.train(method, optimizer, range(3, 5))
    assert (method.prototypes - start).abs().max() > 1e-3


def test_there_is_a_prototype_for_thirty_chips_unless_told_otherwise(small_net):
    def count(chips: int, **settings) -> int:
        method = build_method("swav", small_net, **settings)
        method.prepare(8, chips)
        return len(method.prototypes)

    assert [count(10), count(300), count(1200), count(10**6)] == [10, 16, 40, 3000]
    assert count(300, prototypes=50) == 50


def test_more_prototypes_than_chips_are_refused(small_net):
    with pytest.raises(InputError, match="fewer training chips than prototypes") as caught:
        build_method("swav", small_net, prototypes=101).prepare(8, 100)
    assert "leave prototypes out" in str(caught.value.remedy)
