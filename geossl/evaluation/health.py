"""Is a representation alive? Spread, rank, alignment, uniformity, duplicates of embeddings, and signs of collapse."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

_DUPLICATE = 1e-3
"""Chord length under which two unit-length embeddings count as the same (cosine above 1 - 5e-7)."""

LIMITS = {"feature_std": 0.01, "effective_rank": 1.5, "duplicates": 0.5}
"""Beyond these a run has collapsed; an untrained ResNet and near-identical chips stay on the right side."""


def representation_health(embeddings: np.ndarray, positives: np.ndarray | None = None) -> dict[str, float]:
    """Figures of embeddings (n, d), scaled to unit length first; n >= 2.

    Args:
        embeddings: one row a chip.
        positives: (n, d) embeddings of other views of the same chips, for the alignment.

    Returns:
        ``feature_std``: standard deviation a dimension times sqrt(d): 0 collapsed, 1 spread evenly over the sphere
        (Chen & He 2021, arXiv:2011.10566).
        ``effective_rank``: exp of the entropy of the centred embeddings' normalised singular values (Roy & Vetterli
        2007), 1 to min(n, d).
        ``uniformity``: log mean exp(-2 |x - y|^2) over pairs, 0 collapsed, -4 at best (Wang & Isola 2020,
        arXiv:2005.10242).
        ``duplicates``: share of rows that equal another row.
        ``alignment``: mean |x - x+|^2 of positives, with ``positives`` only (same paper).
        ``finite``: share of rows without NaN or infinity; the other figures are of those rows.
    """
    given = np.asarray(embeddings, dtype=np.float64)
    finite = np.isfinite(given).all(axis=1)
    x = _unit(given[finite])
    n, d = x.shape
    figures = {"finite": float(finite.mean())}
    if n < 2:
        return figures | {"feature_std": 0.0, "effective_rank": 1.0, "uniformity": 0.0, "duplicates": 1.0}
    figures["feature_std"] = float(x.std(axis=0).mean() * np.sqrt(d))
    figures["effective_rank"] = effective_rank(x)
    squared = np.clip(2 - 2 * (x @ x.T), 0, None)
    pairs = squared[np.triu_indices(n, k=1)]
    figures["uniformity"] = float(np.log(np.exp(-2 * pairs).mean()))
    np.fill_diagonal(squared, np.inf)
    figures["duplicates"] = float((squared.min(axis=1) < _DUPLICATE**2).mean())
    if positives is not None:
        other = _unit(np.asarray(positives, dtype=np.float64)[finite])
        figures["alignment"] = float(((x - other) ** 2).sum(axis=1).mean())
    return figures


def effective_rank(x: np.ndarray) -> float:
    """exp of the entropy of the singular values of ``x`` (n, d) after centring; 1 for rank one or no spread."""
    centred = x - x.mean(axis=0)
    gram = centred @ centred.T if len(x) <= x.shape[1] else centred.T @ centred
    spread = np.sqrt(np.clip(np.linalg.eigvalsh(gram), 0, None))
    if spread.sum() < 1e-9:
        return 1.0
    share = spread / spread.sum()
    share = share[share > 1e-12]
    return float(np.exp(-(share * np.log(share)).sum()))


def collapse_signs(health: Mapping[str, float]) -> list[str]:
    """What in the figures of :func:`representation_health` says that the encoder maps everything to one place.

    One sentence a sign; none for a healthy or merely weak representation.
    """
    signs = []
    if health["finite"] < 1:
        signs.append(f"{1 - health['finite']:.0%} of the embeddings are not finite numbers")
    if health["feature_std"] < LIMITS["feature_std"]:
        signs.append(f"the features hardly vary (standard deviation {health['feature_std']:.4f} of 1)")
    if health["effective_rank"] < LIMITS["effective_rank"]:
        signs.append(f"the features vary in one direction only (effective rank {health['effective_rank']:.2f})")
    if health["duplicates"] > LIMITS["duplicates"]:
        signs.append(f"{health['duplicates']:.0%} of the chips have the same embedding as another chip")
    return signs


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
