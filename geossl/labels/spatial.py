"""How labels lie to each other: the same twice, of different classes in one place, in clusters. Knows no pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import shapely
from pandas.util import hash_array
from scipy.spatial import cKDTree

from geossl.labels.read import Labels

_AT_ONCE = 20_000


def duplicates(labels: Labels) -> np.ndarray:
    """(n,) int64: position of an earlier label with the same geometry, value and date; -1 where there is none."""
    frame = labels.frame
    shapes, hashed = frame.geometry.to_numpy(), np.empty(len(frame), dtype=np.uint64)
    for start in range(0, len(shapes), _AT_ONCE):  # 64 bits of a shape each: normalised copies of all would fill memory
        some = slice(start, start + _AT_ONCE)
        hashed[some] = hash_array(shapely.to_wkb(shapely.normalize(shapes[some])))
    key = pd.DataFrame(
        {
            "shape": hashed,
            "value": frame["value"].to_numpy(),
            "date": frame["date"].fillna(pd.Timestamp(0)).to_numpy(),
        }
    )
    first = key.reset_index().groupby(["shape", "value", "date"], sort=False)["index"].transform("first").to_numpy()
    found: np.ndarray = np.where(first < np.arange(len(frame)), first, -1)
    return found


def conflicts(labels: Labels, resolution_m: float, days: float) -> np.ndarray:
    """Pairs (m, 2) of labels that give one place different values (in the labels' CRS, metres).

    Points conflict in one pixel's reach, polygons where they overlap by more than a tenth of a pixel (neighbours that
    share an edge do not); dated labels only within ``days`` of each other. Works through the labels in parts, so that
    memory stays small.
    """
    shapes, value = labels.frame.geometry.to_numpy(), labels.frame["value"].to_numpy()
    day = labels.frame["date"].to_numpy().astype("datetime64[D]")
    areal = shapely.area(shapes) > 0
    tree, found = shapely.STRtree(shapes), [np.empty((0, 2), dtype=np.int64)]
    for start in range(0, len(shapes), _AT_ONCE):
        some = shapes[start : start + _AT_ONCE]
        left, right = tree.query(some, predicate="dwithin", distance=np.where(areal[start : start + _AT_ONCE], 0,
                                                                             resolution_m / 2))  # fmt: skip
        left += start
        apart = np.abs((day[left] - day[right]).astype("timedelta64[D]"))
        together = np.isnat(apart) | (apart <= np.timedelta64(int(days), "D"))
        keep = (left < right) & (value[left] != value[right]) & together
        left, right = left[keep], right[keep]
        both = areal[left] & areal[right]
        overlap = np.full(len(left), np.inf)
        overlap[both] = shapely.area(shapely.intersection(shapes[left[both]], shapes[right[both]]))
        mixed = areal[left] != areal[right]
        overlap[mixed & ~shapely.intersects(shapes[left], shapes[right])] = 0
        real = overlap > resolution_m**2 / 10
        found.append(np.column_stack([left[real], right[real]]))
    return np.concatenate(found)


@dataclass(frozen=True)
class Clustering:
    """Clark and Evans 1954: mean distance to the nearest label over that of a random pattern; below 1 is clustered.

    ``z`` is the normal score; no edge correction is made, so a ratio a little above 1 means nothing.
    """

    ratio: float
    z: float
    mean_m: float
    random_m: float


def clustering(places: np.ndarray, area_m2: float) -> Clustering | None:
    """Of places (n, 2) in metres within an area; None for fewer than three."""
    count = len(places)
    if count < 3 or area_m2 <= 0:
        return None
    mean, expected = float(nearest(places).mean()), 0.5 / float(np.sqrt(count / area_m2))
    return Clustering(
        mean / expected, (mean - expected) / (0.26136 / float(np.sqrt(count**2 / area_m2))), mean, expected
    )


def nearest(places: np.ndarray, others: np.ndarray | None = None) -> np.ndarray:
    """(n,) distance of each of these places (n, d) to the nearest of the others (m, d), or to its nearest fellow."""
    distance, _ = cKDTree(places if others is None else others).query(places, k=2 if others is None else 1)
    found: np.ndarray = distance[:, 1] if others is None else distance
    return found
