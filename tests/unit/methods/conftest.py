"""A small network and chips for methods; ``build`` and ``take_step`` treat all methods alike."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from geossl.methods.protocol import Method, StepResult, build_method

CHIPS, BATCH = 24, 8
STEPS_PER_EPOCH = CHIPS // BATCH


class SmallNet(nn.Sequential):
    """Two bands to 12 features, with batch norm."""

    out_dim = 12

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(2, 8, 3, stride=2, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 12, 3, bias=False),
            nn.BatchNorm2d(12),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )


def embed(network: nn.Module) -> Tensor:
    """What training hands to ``begin_epoch``: outputs on all chips in evaluation mode."""
    chips = torch.randn(CHIPS, 2, 16, 16, generator=torch.Generator().manual_seed(5))
    network.eval()
    with torch.no_grad():
        outputs = network(chips).float()
    network.train()
    return outputs


class Driver:
    """Builds methods and drives them as training does, on noise that depends on the step alone."""

    def build(self, name: str, seed: int = 0, backbone: nn.Module | None = None, **settings) -> Method:
        torch.manual_seed(seed)
        method = build_method(name, backbone or SmallNet(), **settings)
        method.prepare(BATCH, CHIPS)
        return method.train()

    def views(self, method: Method, seed: int = 1, n: int = BATCH) -> list[Tensor]:
        generator = torch.Generator().manual_seed(seed)
        large = [torch.randn(n, 2, 16, 16, generator=generator) for _ in range(method.n_views)]
        small = [torch.randn(n, 2, 10, 10, generator=generator) for _ in range(2)] if method.takes_small_views else []
        return large + small

    def places(self, step: int) -> Tensor:
        first = step % STEPS_PER_EPOCH * BATCH
        return torch.arange(first, first + BATCH)

    def begin(self, method: Method, epoch: int = 0) -> Method:
        if method.needs_epochs:
            method.begin_epoch(epoch, embed)
        return method

    def step(self, method: Method, step: int = 0) -> StepResult:
        torch.manual_seed(step)
        return method.step(self.views(method, step), step / 10, self.places(step))

    def optimizer(self, method: Method) -> torch.optim.Optimizer:
        return torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr=0.02, momentum=0.9)

    def train(self, method: Method, optimizer: torch.optim.Optimizer, steps: range) -> list[float]:
        losses = []
        for step in steps:
            if step % STEPS_PER_EPOCH == 0:
                self.begin(method, step // STEPS_PER_EPOCH)
            result = self.step(method, step)
            optimizer.zero_grad()
            result.loss.backward()
            optimizer.step()
            method.after_step(step / 10)
            losses.append(result.loss.item())
        return losses


@pytest.fixture
def driver() -> Driver:
    return Driver()


@pytest.fixture
def embed_chips() -> Callable[[nn.Module], Tensor]:
    return embed


@pytest.fixture
def small_net() -> nn.Module:
    torch.manual_seed(0)
    return SmallNet()
