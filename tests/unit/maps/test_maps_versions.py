"""Layer versions: one current version a period, earlier ones kept, each step atomic and found again by its manifest."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pystac
import pytest
from maps_fakes import PixelHead, cut_chips, task

from geossl.artefacts import read_manifest
from geossl.errors import InputError
from geossl.maps import versions
from geossl.maps.make import make_map
from geossl.maps.versions import (
    current_versions,
    mark_announced,
    publish_version,
    to_announce,
)


def make(root: Path, picture: np.ndarray, period: str, side: int = 16) -> Path:
    """A layer where the next version of a period is made."""
    chips = cut_chips(picture, side=side, date=f"{period}-01")
    made = make_map(PixelHead(task()), chips=chips, block="b1", period=period, out=root / f".next-{period}")
    return made.layer


def name_of(layer: Path, period: str) -> str:
    return f"{period}-{read_manifest(layer, 'layer')['inputs_hash'][:8]}"


def test_a_version_is_named_by_its_period_and_all_it_depends_on(picture: np.ndarray, tmp_path: Path) -> None:
    root = tmp_path / "cover-picture"
    layer = make(root, picture, "2018-07")
    name = name_of(layer, "2018-07")
    made = publish_version(root, "2018-07", layer, "Land cover")
    assert (made.version, made.layer, made.replaces) == (name, root / name, None)
    assert not layer.exists()
    assert (root / name / "class.tif").is_file()
    assert current_versions(root) == {"2018-07": name}
    assert (root / "latest" / "class.tif").is_file()


def test_a_new_version_replaces_the_old_one_which_stays(picture: np.ndarray, tmp_path: Path) -> None:
    root = tmp_path / "layers"
    first = publish_version(root, "2018-07", make(root, picture, "2018-07"), "Land cover")
    second = publish_version(root, "2018-07", make(root, picture, "2018-07", side=32), "Land cover")
    assert second.replaces == first.version
    assert current_versions(root) == {"2018-07": second.version}
    assert (first.layer / "class.tif").is_file()
    assert (root / "latest").resolve() == second.layer.resolve()

    again = publish_version(root, "2018-07", first.layer, "Land cover")  # the head was taken back: the old one counts
    assert again.replaces == second.version
    assert current_versions(root) == {"2018-07": first.version}


def test_publishing_what_is_out_changes_nothing(picture: np.ndarray, tmp_path: Path) -> None:
    root = tmp_path / "layers"
    first = publish_version(root, "2018-07", make(root, picture, "2018-07"), "Land cover")
    before = (root / "collection.json").read_bytes()
    again = publish_version(root, "2018-07", first.layer, "Land cover")
    assert again.replaces is None
    assert (root / "collection.json").read_bytes() == before


def test_the_collection_is_stac_and_points_to_the_newest_period(picture: np.ndarray, tmp_path: Path) -> None:
    root = tmp_path / "layers"
    later = publish_version(root, "2018-07", make(root, picture, "2018-07"), "Land cover")
    earlier = publish_version(root, "2018-06", make(root, picture, "2018-06"), "Land cover")  # a late scene
    collection = pystac.Collection.from_file(str(root / "collection.json"))
    assert [item.get_self_href() for item in collection.get_items()] == [
        str(made.layer / "item.json") for made in (earlier, later)
    ]
    links = json.loads((root / "collection.json").read_text(encoding="utf-8"))["links"]
    assert [link["href"] for link in links if link["rel"] == "latest-version"] == [f"./{later.version}/item.json"]
    assert collection.extent.temporal.intervals[0][0].date().isoformat() == "2018-06-01"
    assert (root / "latest").resolve() == later.layer.resolve()


def test_a_run_that_died_before_listing_its_layer_is_finished(
    picture: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "layers"
    layer = make(root, picture, "2018-07")
    name = name_of(layer, "2018-07")

    def die(*_: object) -> None:
        raise SystemExit

    with monkeypatch.context() as patched:
        patched.setattr(versions, "_write_collection", die)
        with pytest.raises(SystemExit):
            publish_version(root, "2018-07", layer, "Land cover")
    assert current_versions(root) == {}

    due = versions.Due("2018-07", name, 60, published=False)
    found = versions.make_version("no head is needed", root, due, region="malardalen")
    assert publish_version(root, "2018-07", found, "Land cover").version == name
    assert current_versions(root) == {"2018-07": name}


def test_versions_somebody_removed_do_not_count(picture: np.ndarray, tmp_path: Path) -> None:
    import shutil

    root = tmp_path / "layers"
    first = publish_version(root, "2018-07", make(root, picture, "2018-07"), "Land cover")
    second = publish_version(root, "2018-07", make(root, picture, "2018-07", side=32), "Land cover")
    shutil.rmtree(second.layer)
    assert current_versions(root) == {"2018-07": first.version}


def test_each_version_is_announced_until_somebody_was_told(picture: np.ndarray, tmp_path: Path) -> None:
    root = tmp_path / "layers"
    first = publish_version(root, "2018-07", make(root, picture, "2018-07"), "Land cover")
    assert to_announce(root) == [first.version]
    assert to_announce(root) == [first.version]  # a run that died while telling tells again
    mark_announced(root, [first.version])
    assert to_announce(root) == []
    second = publish_version(root, "2018-06", make(root, picture, "2018-06"), "Land cover")
    assert to_announce(root) == [second.version]


def test_a_folder_of_something_else_is_refused(picture: np.ndarray, tmp_path: Path) -> None:
    root = tmp_path / "layers"
    layer = make(root, picture, "2018-07")
    (root / "collection.json").write_text('{"type": "Collection"}', encoding="utf-8")
    with pytest.raises(InputError, match="no collection of layer versions"):
        publish_version(root, "2018-07", layer, "Land cover")
