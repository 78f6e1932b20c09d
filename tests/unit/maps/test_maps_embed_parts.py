"""Pieces of ``embed``: principal components of joined maps, and nearest neighbours of a chip."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from shapely.geometry import box

from geossl.errors import InputError
from geossl.maps.embed_cells import fit_components
from geossl.maps.embed_chips import part_table
from geossl.maps.embed_neighbours import draw_neighbours, find_neighbours
from geossl.maps.embed_plan import find_query


def test_components_find_the_directions_in_which_cells_differ() -> None:
    rng = np.random.default_rng(0)
    signal = rng.normal(size=(500, 1))
    features = signal @ np.array([[3.0, 0.0, -3.0]]) + 7 + 0.01 * rng.normal(size=(500, 3))
    found = fit_components(features.astype(np.float32), [3], count=2)
    scores = features @ found.basis.numpy().T - found.offset.numpy()
    assert found.explained[0] > 0.99
    assert abs(np.corrcoef(scores[:, 0], signal[:, 0])[0, 1]) > 0.999
    np.testing.assert_allclose(scores.mean(0), 0, atol=1e-3)


def test_no_map_drowns_the_others_by_its_larger_numbers() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(2, 4000))
    features = np.stack([1000 * one, other], 1).astype(np.float32)
    assert fit_components(features, [1, 1], count=2).explained == pytest.approx((0.5, 0.5), abs=0.03)


def test_there_are_no_more_components_than_channels() -> None:
    features = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    assert fit_components(features, [1, 2]).basis.shape == (3, 3)


def table(clear: list[float], tiles: list[str] | None = None, days: list[str] | None = None) -> pd.DataFrame:
    count = len(clear)
    return pd.DataFrame(
        {
            "chip": [f"c{number}" for number in range(count)],
            "tile": tiles or [f"t{number}" for number in range(count)],
            "datetime": pd.to_datetime(days or ["2018-07-01"] * count, utc=True),
            "clear": clear,
            "block": "b",
            "geometry": [box(number, 0, number + 1, 1) for number in range(count)],
        }
    )


def store(folder: Path, rows: pd.DataFrame, embeddings: list[list[float]]) -> Path:
    pq.write_table(part_table(rows, np.array(embeddings)), folder / "embeddings.parquet")
    return folder / "embeddings.parquet"


SQUARE = [[5.0, 6.0], [5.0, 4.0], [5.1, 5.9], [6.0, 5.1]]
"""Around (5, 5): c0 and c2 lie in nearly the same direction from their mean, c1 in the opposite one."""


def test_neighbours_are_ranked_by_the_cosine_of_centred_embeddings(tmp_path: Path) -> None:
    found = find_neighbours(store(tmp_path, table([1.0] * 4), SQUARE), "c0")
    assert found["chip"].tolist() == ["c0", "c2", "c3", "c1"]
    assert found["rank"].tolist() == [0, 1, 2, 3]
    centred = np.array(SQUARE) - np.mean(SQUARE, 0)
    cosine = centred[2] @ centred[0] / np.linalg.norm(centred[2]) / np.linalg.norm(centred[0])
    assert found["distance"].iloc[1] == pytest.approx(1 - cosine, abs=1e-6)


def test_neighbours_lie_on_other_tiles_one_a_tile_and_are_clear(tmp_path: Path) -> None:
    rows = table([1.0, 1.0, 0.5, 1.0, 1.0], tiles=["a", "a", "b", "c", "c"])
    values = [[0.0, 1.0], [0.0, 1.0], [0.0, 1.0], [0.2, 0.9], [1.0, 0.0]]
    assert find_neighbours(store(tmp_path, rows, values), "c0")["chip"].tolist() == ["c0", "c3"]


def test_a_chip_that_is_not_in_the_table_has_no_neighbours(tmp_path: Path) -> None:
    file = store(tmp_path, table([1.0, 0.0]), [[1.0, 0.0], [0.0, 1.0]])
    with pytest.raises(InputError, match="was not embedded"):
        find_neighbours(file, "c1")
    with pytest.raises(InputError, match="no other tile"):
        find_neighbours(file, "c0")


def test_the_chip_at_a_point_is_the_latest_clear_one() -> None:
    rows = table([1.0, 1.0, 0.2], tiles=["a"] * 3, days=["2018-07-01", "2018-08-01", "2018-09-01"])
    rows["geometry"] = [box(0, 0, 1, 1)] * 3
    everything = np.arange(3)
    assert find_query(rows, everything, (0.5, 0.5)) == 1
    assert find_query(rows, np.array([0, 2]), (0.5, 0.5)) == 0
    with pytest.raises(InputError, match="nothing clear at this point") as caught:
        find_query(rows, np.array([2]), (0.5, 0.5))
    assert "20 %" in str(caught.value)
    with pytest.raises(InputError, match="no chip lies at this point"):
        find_query(rows, everything, (1.5, 0.5))
    with pytest.raises(InputError, match="no coordinates"):
        find_query(rows.assign(geometry=None), everything, (0.5, 0.5))


def test_the_picture_names_tile_date_and_distance(tmp_path: Path) -> None:
    rows = table([1.0] * 4, days=["2018-07-01", "2018-08-01", "2018-07-01", "2018-07-01"])
    found = find_neighbours(store(tmp_path, rows, SQUARE), "c0")
    found["datetime"] = found["datetime"].where(found["chip"] != "c3")
    values = np.random.default_rng(0).random((4, 3, 8, 8)).astype(np.float32)
    figure = draw_neighbours(values, ("blue", "green", "red"), found, "Nearest neighbours")
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[0] == "t0\n2018-07-01\nthis chip"
    assert titles[1] == f"t2\n2018-07-01\ndistance {found['distance'].iloc[1]:.4f}"
    assert "date not known" in titles[2]
    assert titles[3].startswith("t1\n2018-08-01")
