"""BYOL: each view predicts the target of the other; the target follows ever more slowly."""

from __future__ import annotations

import copy

import pytest
import torch
from lightly.loss import NegativeCosineSimilarity
from lightly.utils.scheduler import cosine_schedule

from geossl.methods.byol import cosine_distance
from geossl.methods.parts import cosine_momentum


def test_loss_and_gradient_are_two_plus_twice_lightlys_negative_cosine():
    torch.manual_seed(0)
    predicted, target = torch.randn(6, 5, requires_grad=True), torch.randn(6, 5)
    mine = cosine_distance(predicted, target)
    theirs = 2 + 2 * NegativeCosineSimilarity()(predicted, target)
    torch.testing.assert_close(mine, theirs)
    torch.testing.assert_close(torch.autograd.grad(mine, predicted), torch.autograd.grad(theirs, predicted))


def test_the_distance_is_the_squared_one_of_unit_vectors():
    a, b = torch.tensor([[3.0, 0.0], [0.0, 2.0]]), torch.tensor([[0.0, 1.0], [0.0, -1.0]])
    assert cosine_distance(a, b).item() == pytest.approx((2 + 4) / 2)


def test_both_views_predict_the_other_ones_target(driver):
    method = driver.build("byol", hidden_dim=16, output_dim=6)
    views = driver.views(method)
    twin = copy.deepcopy(method).train()
    loss = method.step(views, 0.0).loss
    joined = twin.predictor(twin.projector(twin.backbone(torch.cat(views))))
    with torch.no_grad():
        target = twin.target_projector(twin.target_backbone(torch.cat(views)))
    first, second = joined.chunk(2)
    expected = (cosine_distance(first, target[8:]) + cosine_distance(second, target[:8])) / 2
    torch.testing.assert_close(loss, expected)


def test_the_momentum_follows_lightlys_cosine_from_its_start_to_one():
    for step in range(11):
        assert cosine_momentum(0.99, step / 10) == pytest.approx(cosine_schedule(step, 11, 0.99, 1.0), abs=1e-12)
    assert cosine_momentum(0.99, 0.0) == pytest.approx(0.99) and cosine_momentum(0.9, 0.5) == pytest.approx(0.95)


@pytest.mark.parametrize(("progress", "moved"), [(0.0, 0.2), (0.5, 0.1), (1.0, 0.0)])
def test_the_target_moves_by_one_minus_the_momentum_of_the_moment(driver, progress, moved):
    method = driver.build("byol", momentum=0.8)
    before = method.target_backbone[0].weight.clone()
    with torch.no_grad():
        method.backbone[0].weight.add_(1.0)
    method.after_step(progress)
    torch.testing.assert_close(method.target_backbone[0].weight, before + moved)


def test_the_targets_running_statistics_are_those_of_its_own_activations(driver):
    method = driver.build("byol")
    with torch.no_grad():
        method.target_backbone[0].weight.mul_(3.0)
    views = driver.views(method)
    with torch.no_grad():
        activations = method.target_backbone[0](torch.cat(views))
    method.step(views, 0.0)
    expected = 0.1 * activations.mean(dim=(0, 2, 3))  # momentum 0.1 from zero
    torch.testing.assert_close(method.target_backbone[1].running_mean, expected)
    before = method.target_backbone[1].running_mean.clone()
    method.after_step(0.0)
    assert torch.equal(method.target_backbone[1].running_mean, before)
