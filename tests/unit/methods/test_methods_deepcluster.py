"""DeepCluster: spherical k-means before each epoch, chips drawn evenly over clusters, clusters told from views."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.cluster import KMeans
from sklearn.metrics import normalized_mutual_info_score

from geossl.errors import InputError
from geossl.methods.deepcluster import cluster_loss
from geossl.methods.kmeans import assign, spherical_kmeans
from geossl.methods.protocol import build_method


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def groups_of_directions(each: int = 20, groups: int = 4, spread: float = 0.15) -> tuple[torch.Tensor, np.ndarray]:
    centres = torch.eye(groups, 6)
    rows = centres.repeat_interleave(each, 0) + spread * torch.randn(each * groups, 6, generator=seeded())
    return F.normalize(rows, dim=1), np.repeat(np.arange(groups), each)


def test_rows_belong_to_the_most_similar_centroid_as_sklearns_nearest():
    rows = F.normalize(torch.randn(60, 5, generator=seeded()), dim=1)
    centroids, labels = spherical_kmeans(rows, 6, seeded(1), iterations=30)
    torch.testing.assert_close(centroids.norm(dim=1), torch.ones(6))
    oracle = KMeans(6, init=centroids.numpy(), n_init=1, max_iter=1).fit(centroids.numpy())
    oracle.cluster_centers_ = centroids.numpy()
    assert (labels.numpy() == oracle.predict(rows.numpy())).all()
    assert torch.equal(labels, torch.tensor([int(torch.stack([row @ c for c in centroids]).argmax()) for row in rows]))


def test_converged_centroids_are_the_directions_of_the_means_of_their_rows():
    rows, _ = groups_of_directions()
    centroids, labels = spherical_kmeans(rows, 4, seeded(3), iterations=50)
    for cluster in range(4):
        mean = rows[labels == cluster].double().mean(dim=0)
        torch.testing.assert_close(centroids[cluster].double(), mean / mean.norm(), rtol=1e-5, atol=1e-6)


def test_separate_groups_are_found_like_sklearns():
    rows, truth = groups_of_directions()
    best = max(
        normalized_mutual_info_score(truth, spherical_kmeans(rows, 4, seeded(start))[1].numpy()) for start in range(8)
    )
    assert best == pytest.approx(normalized_mutual_info_score(truth, KMeans(4, n_init=8).fit_predict(rows.numpy())))


@pytest.mark.parametrize("rows", [torch.eye(3, 4).repeat(5, 1), torch.ones(15, 4) / 2], ids=["three", "one"])
def test_clusters_that_lose_their_rows_are_refilled(rows):
    centroids, labels = spherical_kmeans(rows, 6, seeded())
    assert labels.bincount(minlength=6).min() >= 1
    torch.testing.assert_close((centroids[labels] * rows).sum(dim=1), torch.ones(15))


def test_assignment_in_parts_equals_assignment_at_once(monkeypatch):
    rows, centroids = torch.randn(50, 4, generator=seeded()), torch.randn(7, 4, generator=seeded(1))
    whole = assign(rows, centroids)
    monkeypatch.setattr("geossl.methods.kmeans._AT_ONCE", 8)
    for a, b in zip(assign(rows, centroids), whole, strict=True):
        torch.testing.assert_close(a, b)


def test_the_loss_is_the_cross_entropy_of_all_views_in_float64():
    features = F.normalize(torch.randn(3, 5, 4, generator=seeded(), dtype=torch.float64), dim=2).requires_grad_()
    centroids, labels = torch.eye(4, dtype=torch.float64)[:3], torch.tensor([0, 2, 1, 1, 0])
    mine = cluster_loss(features, centroids, labels, 0.1)
    terms = []
    for view in features:
        for row, label in zip(view, labels, strict=True):
            weights = torch.exp(torch.stack([row @ c for c in centroids]) / 0.1)
            terms.append(-torch.log(weights[label] / weights.sum()))
    expected = torch.stack(terms).mean()
    torch.testing.assert_close(mine, expected)
    torch.testing.assert_close(torch.autograd.grad(mine, features), torch.autograd.grad(expected, features))


def test_a_step_learns_the_clusters_of_the_chips_at_its_places(driver):
    method = driver.begin(driver.build("deepcluster"))
    views, twin = driver.views(method), copy.deepcopy(method)
    places = torch.tensor([5, 3, 23, 0, 1, 2, 9, 11])
    large, small = twin.backbone(torch.cat(views[:2])), twin.backbone(torch.cat(views[2:]))
    features = F.normalize(twin.projector(torch.cat([large, small])), dim=1)
    expected = F.cross_entropy(features @ twin.centroids.T / 0.1, twin.labels[places].repeat(4))
    torch.testing.assert_close(method.step(views, 0.0, places).loss, expected)


def test_places_are_needed(driver):
    method = driver.begin(driver.build("deepcluster"))
    with pytest.raises(ValueError, match="places"):
        method.step(driver.views(method), 0.0)


def test_the_bank_is_the_projections_of_all_chips(driver, embed_chips):
    method = driver.begin(driver.build("deepcluster"))
    rows = F.normalize(embed_chips(torch.nn.Sequential(method.backbone, method.projector)), dim=1)
    assert torch.equal(assign(rows, method.centroids)[0], method.labels)


def test_every_cluster_is_drawn_as_often_as_any_other(driver):
    method = driver.begin(driver.build("deepcluster", clusters=5))
    weights = method.chip_weights()
    shares = torch.zeros(5).index_add_(0, method.labels, weights)
    torch.testing.assert_close(shares, torch.full((5,), 24 / 5))


def test_the_mutual_information_of_two_clusterings_is_logged_from_the_second_on(driver, embed_chips):
    method = driver.begin(driver.build("deepcluster"))
    assert driver.step(method).logs == {}
    before = method.labels.clone()
    method.begin_epoch(1, lambda network: embed_chips(network).flip(0))
    expected = normalized_mutual_info_score(before.numpy(), method.labels.numpy())
    assert driver.step(method).logs["nmi"].item() == pytest.approx(expected, rel=1e-6)


def test_a_clustering_depends_on_the_epoch_and_the_features_alone(driver):
    one, other = (driver.build("deepcluster", seed=0) for _ in range(2))
    torch.manual_seed(123)
    driver.begin(one, 4)
    torch.manual_seed(456)
    driver.begin(other, 4)
    assert torch.equal(one.labels, other.labels) and torch.equal(one.centroids, other.centroids)


def test_more_clusters_than_chips_are_refused(small_net):
    with pytest.raises(InputError, match="fewer training chips than clusters"):
        build_method("deepcluster", small_net, clusters=101).prepare(8, 100)
