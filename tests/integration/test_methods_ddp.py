"""Two processes (gloo) on halves of a batch have, on given embeddings, the loss and gradients of the joined batch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, distributed, multiprocessing, nn

from geossl.methods.parts import frozen_copy, gather, own_rows
from geossl.methods.protocol import Method, build_method, load_method, method_names

WORLD, BATCH, CHIPS, DIM = 2, 8, 20, 6
CASES = {
    **{name: (name, {}) for name in method_names()},
    "simclr-dcl": ("simclr", {"dcl": True}),
    "simclr2-queue": ("simclr2", {"queue": 7}),
    "swav-queue": ("swav", {"queue": 9, "queue_from": 0.0}),
}


class Given(nn.Module):
    """A backbone that takes its images (n, DIM) for embeddings, times weights that learn."""

    out_dim = DIM

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(0.5, 1.5, DIM))

    def forward(self, images: Tensor) -> Tensor:
        return images * self.weight


def given_embeddings(case: str) -> tuple[Method, list[Tensor], Tensor]:
    """A method without batch norm, which alone looks across a batch; views and places of the whole batch."""
    name, settings = CASES[case]
    torch.manual_seed(0)
    method = build_method(load_method(name), Given(), output_dim=DIM, **settings)
    for part in ("projector", "predictor"):
        if hasattr(method, part):
            setattr(method, part, nn.Linear(DIM, DIM))
    for part, _ in list(method.named_children()):
        if part.startswith(("key_", "target_")):
            setattr(method, part, frozen_copy(getattr(method, part.split("_", 1)[1])))
    method.prepare(BATCH // WORLD, CHIPS)
    if method.needs_epochs:
        method.begin_epoch(0, lambda network: torch.randn(CHIPS, DIM, generator=torch.Generator().manual_seed(3)))
    for _ in range(CHIPS):
        method.after_step(0.0)  # past the epoch in which prototypes are frozen
    views = [torch.randn(BATCH, DIM) for _ in range(method.n_views + 2 * method.takes_small_views)]
    return method, views, torch.arange(BATCH)


def outcome(case: str, rows: slice) -> dict[str, Tensor]:
    """Loss, gradients and the state afterwards of one process's ``rows`` of the batch."""
    method, views, places = given_embeddings(case)
    own = [view[rows].clone().requires_grad_() for view in views]
    loss = method.step(own, 0.5, places[rows]).loss
    loss.backward()
    found = {f"view {number}": view.grad for number, view in enumerate(own) if view.grad is not None}
    found |= {f"parameter {key}": p.grad for key, p in method.named_parameters() if p.grad is not None}
    method.after_step(0.5)
    return {"loss": loss.detach(), **found, **{f"state {key}": value for key, value in method.state_dict().items()}}


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=WORLD)
    share = BATCH // WORLD
    rows = slice(rank * share, (rank + 1) * share)
    found = {case: outcome(case, rows) for case in CASES}
    own = torch.full((2, 1), float(rank), requires_grad=True)
    everything = gather(own)
    (everything * torch.arange(4.0)[:, None]).sum().backward()
    found["gather"] = {"all": everything.detach(), "own": own_rows(everything).detach(), "grad": own.grad}
    torch.save(found, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, dict[str, Tensor]]]:
    folder: Path = tmp_path_factory.mktemp("ddp")
    multiprocessing.spawn(work, (str(folder),), nprocs=WORLD)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(WORLD)]


@pytest.mark.parametrize("case", CASES)
def test_the_mean_loss_of_the_processes_is_that_of_the_joined_batch(ranks, case):
    joined = outcome(case, slice(None))
    mean = torch.stack([rank[case]["loss"] for rank in ranks]).mean()
    torch.testing.assert_close(mean, joined["loss"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("case", CASES)
def test_the_averaged_gradients_of_the_processes_are_those_of_the_joined_batch(ranks, case):
    joined = outcome(case, slice(None))
    views = [key for key in joined if key.startswith("view")]
    assert views
    for key in views:  # each row lives in one process; DDP divides what reaches the weights by the processes
        found = torch.cat([rank[case][key] for rank in ranks]) / WORLD
        torch.testing.assert_close(found, joined[key], rtol=1e-4, atol=1e-6, msg=lambda text, key=key: f"{key}: {text}")
    for key in [key for key in joined if key.startswith("parameter")]:
        found = torch.stack([rank[case][key] for rank in ranks]).mean(dim=0)
        torch.testing.assert_close(found, joined[key], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("case", CASES)
def test_queues_and_clusters_are_the_same_in_all_processes_and_those_of_the_joined_batch(ranks, case):
    joined = outcome(case, slice(None))
    for key in [key for key in joined if key.startswith("state")]:
        assert torch.equal(ranks[0][case][key].nan_to_num(), ranks[1][case][key].nan_to_num()), key
        torch.testing.assert_close(
            ranks[0][case][key], joined[key], equal_nan=True, msg=lambda text, key=key: f"{key}: {text}"
        )


def test_gathered_rows_are_in_the_order_of_ranks_and_gradients_flow_back_summed(ranks):
    for number, rank in enumerate(ranks):
        assert rank["gather"]["all"].flatten().tolist() == [0, 0, 1, 1]
        assert rank["gather"]["own"].flatten().tolist() == [number, number]
        assert rank["gather"]["grad"].flatten().tolist() == [2 * (2 * number), 2 * (2 * number + 1)]


def test_one_process_gathers_nothing():
    rows = torch.rand(3, 2)
    assert gather(rows) is rows and own_rows(rows) is rows
