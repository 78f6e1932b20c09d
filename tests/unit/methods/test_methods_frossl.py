"""FroSSL: agreement of views against the Frobenius norm of their covariances."""

from __future__ import annotations

import math

import pytest
import torch
from lightly.loss import FroSSLLoss

from geossl.methods.frossl import frossl


@pytest.mark.parametrize("views", [2, 4])
@pytest.mark.parametrize(("n", "d"), [(5, 9), (12, 4)], ids=["gram", "covariance"])
@pytest.mark.parametrize("invariance", [1.0, 0.3])
def test_loss_and_gradient_equal_lightlys(views, n, d, invariance):
    torch.manual_seed(0)
    projected = torch.randn(views, n, d, requires_grad=True)
    mine = frossl(projected, invariance)
    theirs = FroSSLLoss(invariance_weight=invariance)(list(projected.unbind()))
    torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)
    # lightly's trace carries no gradient; it is d whatever the projections, so none is missing.
    for a, b in zip(torch.autograd.grad(mine, projected), torch.autograd.grad(theirs, projected), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_the_objective_in_float64():
    torch.manual_seed(0)
    projected = torch.randn(3, 7, 4, dtype=torch.float64)
    scaled = [view / view.square().sum(dim=0).sqrt() for view in projected]
    mean = sum(scaled) / 3
    expected = 0.0
    for view in scaled:
        values = torch.linalg.eigvalsh(view.T @ view)
        expected += math.log(float((values / values.sum()).square().sum()))
        expected += 3 * 4 * float((view - mean).square().mean())
    assert frossl(projected).item() == pytest.approx(expected, rel=1e-10)


def test_collapse_costs_most_and_agreeing_orthogonal_features_least():
    same = torch.ones(2, 6, 6)
    assert frossl(same).item() == pytest.approx(0, abs=1e-5)
    spread = torch.eye(6).repeat(2, 1, 1)
    assert frossl(spread).item() == pytest.approx(2 * math.log(1 / 6), rel=1e-5)


def test_any_number_of_views_is_learnt_from(driver):
    method = driver.build("frossl", output_dim=16)
    views = driver.views(method)
    assert driver.build("frossl", output_dim=16).step(views[:3], 0.0).loss != method.step(views, 0.0).loss
