"""Given logits and sparse labels; then only labelled pixels count, and every loss falls when the answer gets better."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from geossl.tasks.losses import class_weights, make_loss, one_hot
from geossl.tasks.spec import TaskSpec, changed, load_task

LOSSES = ("cross-entropy", "focal", "dice")


def task(**fields: object) -> TaskSpec:
    return changed(load_task("drought"), "test", references=(), **fields)


def quantity() -> TaskSpec:
    return TaskSpec(name="depth", title="Depth", kind="regression", unit="m")


def example() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 4, 5, generator=generator)
    return logits, torch.randint(0, 3, (2, 4, 5), generator=generator)


@pytest.mark.parametrize("name", LOSSES)
def test_unlabelled_pixels_neither_count_nor_teach(name: str) -> None:
    logits, target = example()
    target[:, 1:] = 255
    loss = make_loss(task(loss=name))
    seen = logits.clone().requires_grad_()
    value = loss(seen, target)
    value.backward()
    assert seen.grad is not None and (seen.grad[:, :, 1:] == 0).all() and (seen.grad[:, :, 0] != 0).any()
    assert torch.allclose(value, loss(logits[:, :, :1], target[:, :1]))
    nothing = loss(logits, torch.full_like(target, 255))
    assert nothing == 0


@pytest.mark.parametrize("name", LOSSES)
def test_a_better_answer_costs_less(name: str) -> None:
    logits, target = example()
    loss, towards = make_loss(task(loss=name)), one_hot(target, 3)
    values = [loss(logits + step * towards, target).item() for step in (0, 1, 3, 30)]
    assert values == sorted(values, reverse=True) and values[-1] < 1e-3


def test_cross_entropy_is_the_one_everybody_knows_and_focal_weighs_it() -> None:
    logits, target = example()
    weights = torch.tensor([1.0, 2.0, 0.5])
    ours = make_loss(task(), weights)(logits, target)
    assert torch.allclose(ours, F.cross_entropy(logits, target, weight=weights))
    right = logits.softmax(1).gather(1, target[:, None])[:, 0]
    focal = ((1 - right) ** 2 * -right.log()).mean()
    assert torch.allclose(make_loss(task(loss="focal"))(logits, target), focal)


def test_dice_counts_overlap_of_the_classes_that_are_there() -> None:
    target = torch.tensor([[[0, 0, 1, 255]]])
    sure = 50 * one_hot(torch.tensor([[[0, 1, 1, 2]]]), 3)  # one of two 0 is missed; the last pixel is unlabelled
    loss = make_loss(task(loss="dice"))(sure, target) - make_loss(task())(sure, target)
    assert loss.item() == pytest.approx(1 - (2 / 3 + 2 / 3) / 2, abs=1e-4)


@pytest.mark.parametrize("name", LOSSES)
def test_proportions_are_targets_too_and_sure_ones_are_classes(name: str) -> None:
    logits, target = example()
    loss = make_loss(task(loss=name))
    assert torch.allclose(loss(logits, one_hot(target, 3)), loss(logits, target))
    shares = torch.tensor([0.5, 0.3, 0.2]).reshape(1, 3, 1, 1).expand(2, 3, 4, 5)
    if name == "cross-entropy":  # its minimum lies at the proportions themselves
        assert loss(shares.log(), shares) < min(loss(logits, shares), loss(30 * one_hot(target, 3), shares))
    unlabelled = shares.clone()
    unlabelled[:, :, 2:] = 0
    assert torch.allclose(loss(logits, unlabelled), loss(logits[:, :, :2], shares[:, :, :2]))


def test_numbers_have_a_robust_loss_that_skips_what_is_unknown() -> None:
    loss = make_loss(quantity())
    target = torch.tensor([[0.0, 2.0], [torch.nan, torch.nan]])[None]
    said = torch.tensor([[0.5, 12.0], [7.0, 7.0]])[None, None]
    assert loss(said, target).item() == pytest.approx((0.125 + 9.5) / 2)  # a square near, a line far away
    assert loss(said, torch.full_like(target, torch.nan)) == 0


def test_rare_classes_weigh_as_much_as_common_ones_and_absent_ones_nothing() -> None:
    weights = class_weights(task(), np.array([0] * 8 + [1] * 2))
    assert weights is not None and weights.tolist() == pytest.approx([0.625, 2.5, 0.0])
    soft = class_weights(task(), np.array([[0.8, 0.2, 0.0]] * 10))
    assert soft is not None and soft.tolist() == pytest.approx([0.625, 2.5, 0.0])
    assert class_weights(task(balanced=False), np.array([0, 1])) is None
    assert class_weights(quantity(), np.array([0.5, 1.5])) is None
