"""Losses against independent oracles: lightly's, and the published formula written out in float64."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from lightly.loss import DCLLoss, NTXentLoss

from geossl.methods.parts import info_nce, nt_xent


def pair(n: int = 9, d: int = 6, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return torch.randn(n, d, dtype=dtype, requires_grad=True), torch.randn(n, d, dtype=dtype, requires_grad=True)


def value_and_gradients(loss, inputs):
    value = loss(*inputs)
    return value.detach(), torch.autograd.grad(value, inputs)


def written_out(first, second, temperature, decoupled):
    """Chen et al. 2020 eq. 1 and Yeh et al. 2021 eq. 6, term by term."""
    z = [F.normalize(row, dim=0) for row in torch.cat([first, second])]
    n, terms = len(first), []
    for i in range(2 * n):
        other = (i + n) % (2 * n)
        left_out = {i, other} if decoupled else {i}
        denominator = sum(torch.exp(z[i] @ z[j] / temperature) for j in range(2 * n) if j not in left_out)
        terms.append(-(z[i] @ z[other]) / temperature + torch.log(denominator))
    return torch.stack(terms).mean()


@pytest.mark.parametrize("temperature", [0.07, 0.2, 1.0])
@pytest.mark.parametrize(("decoupled", "oracle"), [(False, NTXentLoss), (True, DCLLoss)])
def test_loss_and_gradient_equal_lightly(decoupled, oracle, temperature):
    inputs = pair()
    mine = value_and_gradients(lambda a, b: nt_xent(a, b, temperature, decoupled), inputs)
    theirs = value_and_gradients(oracle(temperature=temperature), inputs)
    torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("decoupled", [False, True])
def test_loss_and_gradient_equal_the_formula_in_float64(decoupled):
    inputs = pair(5, 4, torch.float64)
    mine = value_and_gradients(lambda a, b: nt_xent(a, b, 0.2, decoupled), inputs)
    theirs = value_and_gradients(lambda a, b: written_out(a, b, 0.2, decoupled), inputs)
    torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-12)


def test_indistinguishable_projections_cost_the_logarithm_of_the_candidates():
    same = torch.ones(8, 4)
    assert nt_xent(same, same, 0.2).item() == pytest.approx(math.log(15), rel=1e-6)


def test_info_nce_equals_lightly_with_the_same_memory_bank():
    query, key = (F.normalize(x.detach(), dim=1).requires_grad_() for x in pair(6, 5))
    oracle = NTXentLoss(temperature=0.2, memory_bank_size=(16, 5))
    oracle(torch.rand(6, 5), torch.rand(6, 5))  # fills its bank
    queue = oracle.memory_bank.bank.clone()
    mine, (gradient,) = value_and_gradients(lambda q: info_nce(q, key, queue, 0.2), [query])
    theirs, (expected,) = value_and_gradients(lambda q: oracle(q, key.detach()), [query])
    torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)
    # lightly normalises inside, so its gradient lacks the part along the query: compare what is tangent to the sphere.
    tangent = gradient - (gradient * query).sum(1, keepdim=True) * query
    torch.testing.assert_close(tangent.detach(), expected, rtol=1e-4, atol=1e-6)


def test_keys_and_queue_get_no_gradient():
    query, key = pair(4, 3)
    queue = torch.randn(7, 3, requires_grad=True)
    info_nce(query, key, queue, 0.2).backward()
    assert query.grad is not None and key.grad is None and queue.grad is None


@pytest.mark.parametrize("decoupled", [False, True])
def test_losses_stay_float32_under_bfloat16_autocast(decoupled):
    first, second = pair()
    expected = nt_xent(first, second, 0.07, decoupled)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under = nt_xent(first, second, 0.07, decoupled)
        narrow = nt_xent(first.bfloat16(), second.bfloat16(), 0.07, decoupled)
        moco = info_nce(first, second, torch.randn(5, 6), 0.07)
    assert torch.equal(under, expected)
    assert narrow.dtype == under.dtype == moco.dtype == torch.float32
