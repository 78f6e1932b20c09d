"""The shared sets of real chips open by their shipped descriptions and agree with their READMEs."""

import numpy as np
import pytest
import rasterio

from geossl.chips.open import open_chips
from geossl.chips.splits import split_blocks

pytestmark = pytest.mark.real


def test_bigearthnet_finland(real_data):
    chips = open_chips(real_data / "bigearthnet-finland")
    assert len(chips.table) == 1120 and chips.shape == (60, 60) and len(chips.bands) == 10
    assert chips.label_kind == "multilabel" and len(chips.label_names) == 11
    counts = dict(zip(chips.label_names, chips.labels(range(1120)).sum(axis=0).tolist(), strict=True))
    assert (counts["Mixed forest"], counts["Peatbogs"], counts["Salt marshes"]) == (838, 136, 22)
    sea = np.flatnonzero(chips.table["labels43"] == "Sea and ocean")[:20]
    land = np.flatnonzero(~chips.table["labels43"].str.contains("Sea|Water"))[:20]
    swir = chips.bands.index("swir16")
    means = [chips.encoding.decode(chips.load(rows)[0])[:, swir].mean() for rows in (sea, land)]
    assert means[0] < 0.05 < 0.1 < means[1]  # water is dark in the short-wave infrared
    # chips of one block join to a picture: neighbours differ by one chip side
    side = chips.table.drop_duplicates("grid_x").sort_values("grid_x")["left"].diff().dropna()
    assert set((side % 1200).round(3)) == {0.0}
    assert set(split_blocks(chips.table["block"], seed=0).values()) == {"train", "val", "test"}


def test_eurosat_takes_b8a_by_name(real_data):
    chips = open_chips(real_data / "eurosat_ms")
    assert len(chips.table) == 161 and chips.label_kind == "class" and len(chips.label_names) == 10
    row = 37
    data, _ = chips.load([row])
    with rasterio.open(chips.table["path"][row]) as source:
        assert source.descriptions[12] == "B8A"
        assert np.array_equal(data[0, chips.bands.index("nir08")], source.read(13))
        assert np.array_equal(data[0, chips.bands.index("nir09")], source.read(9))
    assert chips.label_names[chips.labels([row])[0]] == chips.table["class"][row]


def test_dfc24_water_has_masks_and_no_coordinates(real_data):
    chips = open_chips(real_data / "dfc24-water")
    assert len(chips.table) == 150 and chips.label_kind == "mask" and chips.label_names == ("other", "water")
    assert chips.table["crs"].isna().all() and chips.table["left"].isna().all()
    shares = (chips.labels(range(150)) == 1).mean(axis=(1, 2))
    assert np.allclose(shares, chips.table["water_fraction"], atol=1e-4)
    assert chips.encoding.decode(chips.load(range(150))[0]).min() < 0  # negative reflectance is kept


def test_baltic_coast_is_inferred(real_data):
    chips = open_chips(real_data / "baltic-coast-chips")
    assert len(chips.table) == 43 and len(chips.bands) == 12 and chips.label_kind is None
    assert 9 < chips.resolution_m < 11 and chips.table["datetime"].notna().all()
