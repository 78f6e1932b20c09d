"""Ready chips: a folder of rasters with an index, described or inferred."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio
import yaml
from affine import Affine

from geossl import config
from geossl.chips.chipset import TABLE_COLUMNS, ChipSet
from geossl.chips.describe import ChipsetConfig
from geossl.chips.open import open_chips
from geossl.errors import InputError
from geossl.products import Flag

NAMES = ("B02", "B04", "B08", "B8A")
COMMON = ("blue", "red", "nir", "nir08")


def write(path: Path, data: np.ndarray, *, names=NAMES, crs="EPSG:32633", left=500_000.0, top=6_600_000.0, **more):
    path.parent.mkdir(parents=True, exist_ok=True)
    transform = Affine(10, 0, left, 0, -10, top) if crs else Affine.identity()
    count, height, width = data.shape
    facts = {"driver": "GTiff", "count": count, "height": height, "width": width, "dtype": data.dtype, "crs": crs}
    with rasterio.open(path, "w", transform=transform, **facts, **more) as target:
        target.write(data)
        if names:
            target.descriptions = names


def pixels(number: int, names=NAMES) -> np.ndarray:
    """A chip whose value tells chip, band name and column."""
    data = np.zeros((len(names), 8, 8), np.uint16)
    for place, name in enumerate(names):
        data[place] = 1000 * number + 100 * NAMES.index(name) + np.arange(8) + 1
    return data


@pytest.fixture
def folder(tmp_path):
    """Six described chips of three classes in two blocks; band B8A comes first in the files."""
    order = ("B8A", "B02", "B04", "B08")
    for number in range(6):
        write(tmp_path / "images" / f"{number}.tif", pixels(number, order), names=order, left=500_000 + 80 * number)
    index = pd.DataFrame(
        {
            "file": [f"{n}.tif" for n in range(6)],
            "kind": ["b", "a", "b", "a", "c", "a"],
            "many": ["x|y", "y", "", "x|z", "z", "x | y"],
            "place": [1, 1, 1, 2, 2, 2],
            "when": ["2018-06-01", "2018-07-01"] * 3,
        }
    )
    index.to_csv(tmp_path / "index.csv", index=False)
    describe(tmp_path)
    return tmp_path


def describe(where: Path, **changes) -> None:
    facts = {
        "folder": "images",
        "bands": dict(zip(NAMES, COMMON, strict=True)),
        "encoding": {"dtype": "uint16", "scale": 1e-4, "offset": 0.0, "nodata": None},
        "resolution_m": 10,
        "block": "place",
        "date": "when",
        "labels": {"kind": "class", "column": "kind"},
    }
    (where / "chipset.yaml").write_text(yaml.safe_dump({**facts, **changes}))


def test_a_described_folder_is_a_chip_set(folder):
    chips = open_chips(folder)
    assert isinstance(chips, ChipSet) and set(TABLE_COLUMNS) <= set(chips.table.columns)
    assert chips.bands == COMMON and chips.shape == (8, 8) and chips.resolution_m == 10
    first = chips.table.iloc[1]
    assert (first.chip, first.block, first.crs, first.left, first.top) == (
        "1",
        "1",
        "EPSG:32633",
        500_080.0,
        6_600_000.0,
    )
    assert first.datetime == pd.Timestamp("2018-07-01", tz="UTC")
    assert first.geometry.bounds == pytest.approx((15.0014, 59.5382, 15.0029, 59.5390), abs=1e-3)


def test_bands_are_taken_by_name_not_by_place(folder):
    data, flags = open_chips(folder).load([4, 0])
    assert data.dtype == np.uint16 and not flags.any()
    assert np.array_equal(data[0], pixels(4)) and np.array_equal(data[1], pixels(0))


def test_nodata_and_nan_are_flagged_and_nothing_else(folder, tmp_path):
    describe(folder, encoding={"dtype": "uint16", "scale": 1e-4, "nodata": 1})
    data, flags = open_chips(folder).load([0, 1])
    assert np.array_equal(flags == int(Flag.NODATA), (data == 1).any(axis=1)) and (flags > 0).sum() == 8
    write(tmp_path / "f" / "0.tif", np.array([[[np.nan, 0.5], [0.25, 0.0]]], np.float32), names=("red",))
    (tmp_path / "f" / "index.csv").write_text("file,block\n0.tif,a\n")
    _, flags = open_chips(tmp_path / "f").load([0])
    assert flags[0].tolist() == [[1, 0], [0, 0]]


def test_class_labels_are_numbers_in_the_order_of_names(folder):
    chips = open_chips(folder)
    assert (chips.label_kind, chips.label_names) == ("class", ("a", "b", "c"))
    assert chips.labels([0, 1, 4]).tolist() == [1, 0, 2]


def test_several_labels_a_chip_are_a_matrix_of_the_kept_ones(folder):
    describe(folder, labels={"kind": "multilabel", "column": "many", "keep": ["y", "x"]})
    chips = open_chips(folder)
    assert (chips.label_kind, chips.label_names) == ("multilabel", ("y", "x"))
    assert chips.labels(range(6)).tolist() == [[1, 1], [1, 0], [0, 0], [0, 1], [0, 0], [1, 1]]
    describe(folder, labels={"kind": "multilabel", "column": "many"})
    assert open_chips(folder).label_names == ("x", "y", "z")


def test_masks_are_class_indices_with_255_for_no_label(folder):
    values = np.zeros((1, 8, 8), np.int16)
    values[0, :2], values[0, 7] = 80, -1
    for number in range(6):
        write(folder / "masks" / f"{number}.tif", values, names=None)
    labels = {"kind": "mask", "folder": "masks", "classes": {0: "land", 80: "water"}, "ignore": [-1]}
    describe(folder, labels=labels)
    chips = open_chips(folder)
    masks = chips.labels([3, 1])
    assert chips.label_names == ("land", "water") and masks.shape == (2, 8, 8) and masks.dtype == np.uint8
    assert masks[0, :, 0].tolist() == [1, 1, 0, 0, 0, 0, 0, 255]
    describe(folder, labels={**labels, "ignore": []})
    with pytest.raises(InputError, match="value that is no class"):
        open_chips(folder).labels([0])


def test_the_id_follows_the_content(folder, tmp_path):
    first = open_chips(folder).id
    assert open_chips(folder / "index.csv").id == first
    changed = pixels(3, ("B8A", "B02", "B04", "B08"))
    changed[0, 0, 0] += 1
    write(folder / "images" / "3.tif", changed, names=("B8A", "B02", "B04", "B08"), left=500_240)
    assert open_chips(folder).id != first


def test_an_undescribed_folder_is_inferred_and_said(tmp_path, capsys):
    for number in range(4):
        write(tmp_path / f"{number}.tif", pixels(number), left=500_000 + 40_000 * number)
    (tmp_path / "index.csv").write_text("file,class\n" + "".join(f"{n}.tif,k{n % 2}\n" for n in range(4)))
    chips = open_chips(tmp_path)
    assert chips.bands == COMMON and chips.encoding.scale == 1e-4 and chips.label_names == ("k0", "k1")
    assert chips.table["block"].nunique() == 4 and chips.table["datetime"].isna().all()
    assert "inferred" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("names", "crs", "index", "message"),
    [
        (("one", "two", "three", "four"), "EPSG:32633", "file\n0.tif\n", "no names that are known"),
        (("blue", "red", "nir", "nir08"), "EPSG:32633", "file\n0.tif\n", "how these integers become reflectance"),
        (NAMES, None, "file\n0.tif\n", "no CRS"),
        (NAMES, "EPSG:32633", "name\n0.tif\n", "names no files"),
        (NAMES, "EPSG:32633", "file\n9.tif\n", "not beside the index"),
    ],
)
def test_what_cannot_be_inferred_is_an_error_with_the_remedy(tmp_path, names, crs, index, message):
    write(tmp_path / "0.tif", pixels(0), names=names, crs=crs)
    (tmp_path / "index.csv").write_text(index)
    with pytest.raises(InputError, match=message) as caught:
        open_chips(tmp_path)
    assert "chipset.yaml" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bands": {"B02": "blue", "B11": "swir16"}}, "band missing: B11"),
        ({"block": "nowhere"}, "no column 'nowhere'"),
        ({"labels": {"kind": "class", "column": "sort"}}, "no column 'sort'"),
        ({"labels": {"kind": "class"}}, "need 'column'"),
        (
            {"labels": {"kind": "class", "column": "kind", "keep": ["a", "b"]}},
            "class that the description does not keep",
        ),
        ({"encoding": {"dtype": "int16", "scale": 1e-4}}, "another type than described"),
        ({"date": "yesterday-ish"}, "neither a column nor a date"),
        ({"folder": "pictures"}, "files are missing"),
        ({"blocks": "place"}, "blocks: Extra inputs"),
    ],
)
def test_a_wrong_description_is_named(folder, change, message):
    describe(folder, **change)
    with pytest.raises(InputError, match=message):
        open_chips(folder)


def test_a_torn_file_is_an_error_not_zeros(folder):
    chips = open_chips(folder)
    path = folder / "images" / "2.tif"
    path.write_bytes(path.read_bytes()[:400])
    with pytest.raises(InputError, match=r"2\.tif"):
        chips.load([1, 2])


def test_unequal_chips_and_double_rows_are_refused(folder):
    write(folder / "images" / "5.tif", np.zeros((4, 9, 8), np.uint16), names=("B8A", "B02", "B04", "B08"))
    with pytest.raises(InputError, match="alike in shape"):
        open_chips(folder)
    index = pd.read_csv(folder / "index.csv").iloc[[0, 1, 1]]
    index.to_csv(folder / "index.csv", index=False)
    with pytest.raises(InputError, match="twice"):
        open_chips(folder)


def test_chips_without_labels_say_so(folder):
    describe(folder, labels=None)
    chips = open_chips(folder)
    assert chips.label_kind is None and chips.label_names == ()
    with pytest.raises(InputError, match="no labels"):
        chips.labels([0])


def test_neither_store_nor_index_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        open_chips(tmp_path / "nowhere")
    with pytest.raises(InputError, match="neither a chip store nor an index"):
        open_chips(tmp_path)


@pytest.mark.parametrize("name", ["bigearthnet-finland", "eurosat_ms", "dfc24-water"])
def test_shipped_descriptions_are_valid(name):
    settings = config.load(ChipsetConfig, "chipsets", name)
    assert settings.labels is not None and settings.title
