"""SimCLR v2: three layers, the first of which is kept, and a memory of further negatives."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from geossl.methods.parts import nt_xent


def test_the_first_layer_of_the_head_is_kept_with_its_norm_and_relu(driver):
    method = driver.build("simclr2", hidden_dim=16)
    kept = method.kept_projection()
    assert [type(layer).__name__ for layer in kept] == ["Linear", "BatchNorm1d", "ReLU"]
    assert kept[0].weight is method.projector.layers[0].weight  # trained with the head, not a copy
    assert kept(torch.rand(4, 12)).shape == (4, 16)


def test_the_other_methods_keep_the_backbone_alone(driver):
    assert driver.build("simclr").kept_projection() is None


def test_the_head_has_three_layers_with_batch_norm(driver):
    layers = [type(layer).__name__ for layer in driver.build("simclr2").projector.layers]
    assert layers.count("Linear") == layers.count("BatchNorm1d") == 3


def test_without_a_memory_there_is_no_second_network(driver):
    assert not [key for key in driver.build("simclr2").state_dict() if key.startswith(("key_", "queue"))]


def test_the_memory_adds_negatives_to_every_projection():
    torch.manual_seed(0)
    first, second = torch.randn(2, 5, 4, dtype=torch.float64)
    memory = F.normalize(torch.randn(3, 4, dtype=torch.float64), dim=1)
    z = F.normalize(torch.cat([first, second]), dim=1)
    terms = []
    for i in range(10):
        positive = z[i] @ z[(i + 5) % 10] / 0.2
        others = [z[i] @ z[j] / 0.2 for j in range(10) if j != i] + [z[i] @ row / 0.2 for row in memory]
        terms.append(torch.logsumexp(torch.stack(others), 0) - positive)
    torch.testing.assert_close(nt_xent(first, second, 0.2, memory=memory), torch.stack(terms).mean())


def test_a_memory_without_similarity_costs_only_its_number():
    same, memory = torch.tensor([[1.0, 0.0]] * 4), torch.zeros(9, 2)
    expected = math.log(7 + 9 * math.exp(-1 / 0.2))
    assert math.isclose(nt_xent(same, same, 0.2, memory=memory).item(), expected, rel_tol=1e-5)


def test_after_a_step_the_memory_holds_unit_projections_of_the_moving_average(driver):
    method = driver.build("simclr2", queue=10, output_dim=4, momentum=0.5)
    with torch.no_grad():
        method.key_projector.layers[0].weight.mul_(0.5)
    online = method.projector.layers[0].weight.clone()
    driver.step(method)
    method.after_step(0.0)
    torch.testing.assert_close(method.key_projector.layers[0].weight, 0.75 * online)
    assert method.queue.pointer.item() == 8
    torch.testing.assert_close(method.queue.items.norm(dim=1), torch.ones(10))


def test_the_memory_is_cut_to_half_of_the_training_chips(driver):
    assert len(driver.build("simclr2", queue=50).queue) == 12
