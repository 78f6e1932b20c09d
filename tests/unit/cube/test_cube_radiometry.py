"""Scale, offset and nodata: every provider's way of saying it ends in the same reflectance."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geossl.cube import profiles, radiometry
from geossl.cube.radiometry import Scaling, encode, is_nodata, s2_baseline, settle
from geossl.cube.stac import Wanted, read_source
from geossl.products import S2_ENCODING, Encoding, load_profile

EARTHSEARCH = load_profile("sentinel-2-l2a")
ESA = load_profile("sentinel-2-l2a-esa")


def read_items(path: Path) -> list[dict[str, Any]]:
    found = read_source(str(path), Wanted(product="sentinel-2-l2a"))
    return [item for items in found.collections.values() for item in items]


def offset_of(path: Path, band: str) -> float:
    """The offset geossl settles for one band of a real item document."""
    (item,) = read_items(path)
    collection = item.get("collection") or "sentinel-2-l2a"
    profile, _ = profiles.of_items(collection, [item], None)
    found = profiles.find_rasters(profile, item)
    measurement = next(name for name, spec in profile.bands.items() if spec.common == band)
    raster = found[measurement]
    return settle(profile, item["properties"], raster.scale, raster.offset, raster.nodata).offset


@pytest.mark.parametrize(
    ("document", "offset"),
    [
        ("earth-search-v1/S2A_13TDE_20231008_0_L2A.json", 0.0),  # removed, though raster:bands say -0.1
        ("earth-search-v1/S2B_T20EPT_20250731T131905_L2A.json", -0.1),  # Collection 1 keeps it
        ("earth-search-v1/S2B_20EPT_20250731_0_L1C.json", -0.1),
        ("earth-search-v0/S2A_28QCH_20200714_0_L2A.json", 0.0),  # baseline 02.14, flag false
        ("earth-search-v0/S2A_17SPR_20221106_0_L2A.json", 0.0),  # v0 with the flag true
        ("earth-search-v0/S2B_42TUM_20220107_0_L2A.json", 0.0),  # v0 without flag: N0301 in the product's name
        ("earth-search-v0/S2A_28QCH_20200714_0_L2A_old.json", 0.0),  # STAC 1.0.0-beta.1
        ("planetary-computer/S2B_MSIL2A_20190629T212529_R043_T06VVN_20201006T080531.json", 0.0),  # 02.12
        ("stactools-sentinel2/S2A_OPER_MSI_L1C_TL_SGS__20181231T203637_A018414_T10SDG.json", 0.0),  # 02.07
        ("stactools-sentinel2/S2A_T01LAC_20200717T221944_L1C.json", 0.0),  # 02.09
        ("stactools-sentinel2/S2A_OPER_MSI_L2A_TL_SGS__20181231T210250_A018414_T10SDG.json", 0.0),  # 02.11
        ("stactools-sentinel2/S2B_T22HBD_20210122T133224_L2A.json", 0.0),  # 02.14
        ("stactools-sentinel2/S2A_T46RER_20210908T043714_L1C.json", 0.0),  # 03.01
        ("stactools-sentinel2/S2B_T33XWJ_20220413T150756_L2A.json", -0.1),  # 04.00
        ("stactools-sentinel2/S2A_T01WCP_20230625T234624_L2A.json", -0.1),  # 05.09
        ("stactools-sentinel2/S2A_OPER_MSI_L2A_TL_2APS_20240108T121951_A044635_T34VEL.json", -0.1),  # 05.10
        ("stactools-sentinel2/S2A_T34LBQ_20220401T090142_L2A.json", -0.7),  # what its own metadata say
    ],
)
def test_the_offset_of_real_sentinel_2_items(real_data: Path, document: str, offset: float) -> None:
    assert offset_of(real_data / "stac-items" / document, "red") == pytest.approx(offset)


@pytest.mark.parametrize("folder", ["earth-search-v1", "planetary-computer", "stactools-landsat"])
def test_landsat_collection_2_scales_to_reflectance(real_data: Path, folder: str) -> None:
    path = sorted((real_data / "stac-items" / folder).glob("L[CET]0*.json"))[0]
    item = json.loads(path.read_text())
    profile, origin = profiles.of_items(item["collection"], [item], None)
    assert origin == "profile landsat-c2-l2"
    raster = profiles.find_rasters(profile, item)["red"]
    scaling = settle(profile, item["properties"], raster.scale, raster.offset, raster.nodata)
    assert scaling == Scaling(2.75e-05, -0.2, 0.0)
    assert profile.encoding == Encoding("uint16", 2.75e-05, -0.2, 0)


def test_a_stated_offset_beats_the_baseline_and_a_missing_one_falls_back_to_it() -> None:
    new, old = {"s2:processing_baseline": "05.10"}, {"s2:processing_baseline": "02.14"}
    assert settle(ESA, new).offset == -0.1
    assert settle(ESA, old).offset == 0.0
    assert settle(ESA, new, offset=0.0).offset == 0.0


def test_without_any_baseline_the_day_of_the_change_decides() -> None:
    assert settle(EARTHSEARCH, {"datetime": "2022-01-24T10:00:00Z"}).offset == 0.0
    assert settle(EARTHSEARCH, {"datetime": "2022-01-25T10:00:00Z"}).offset == -0.1


@pytest.mark.parametrize(
    ("properties", "baseline"),
    [
        ({"s2:processing_baseline": "05.11"}, 5.11),
        ({"sentinel:product_id": "S2A_MSIL2A_20200714T115221_N0214_R123_T28QCH_20200714T191310"}, 2.14),
        ({"s2:product_uri": "S2A_MSIL2A_20240612T103031_N0510_R108_T33VVF_20240612T181246.SAFE"}, 5.1),
        ({"datetime": "2024-01-01"}, None),
    ],
)
def test_the_baseline_is_stated_or_in_the_product_name(properties: dict[str, Any], baseline: float | None) -> None:
    assert s2_baseline(properties) == baseline


def test_numbers_with_the_offset_in_pass_unchanged_and_older_ones_get_1000() -> None:
    dn = np.array([1, 1000, 4321, 65535], np.uint16)
    none = np.zeros(4, bool)
    assert encode(dn.copy(), none, Scaling(1e-4, -0.1, 0), S2_ENCODING).tolist() == dn.tolist()
    assert encode(dn.copy(), none, Scaling(1e-4, 0.0, 0), S2_ENCODING).tolist() == [1001, 2000, 5321, 65535]


def test_missing_pixels_become_the_encodings_nodata_and_values_never_do() -> None:
    dn = np.array([0, -1000, -2000, 5], np.int16)
    missing = np.array([False, False, False, True])
    stored = encode(dn, missing, Scaling(1e-4, 0.0, None), S2_ENCODING)
    assert stored.tolist() == [1000, 1, 1, 0]  # a reflectance of -0.1 and less stays a value


@given(st.floats(-0.05, 1.5), st.sampled_from([0.0, -0.1]))
def test_any_sentinel_2_number_decodes_to_its_reflectance(value: float, offset: float) -> None:
    dn = np.array([round((value - offset) * 10_000)], np.float32)  # float files occur (Digital Earth Sweden)
    stored = encode(dn, np.zeros(1, bool), Scaling(1e-4, offset, -9999), S2_ENCODING)
    assert S2_ENCODING.decode(stored)[0] == pytest.approx(dn[0] * 1e-4 + offset, abs=1e-4)


def test_another_scale_is_converted_and_rounded() -> None:
    encoding = Encoding("uint16", 2.75e-05, -0.2, 0)
    stored = encode(np.array([5000], np.int16), np.zeros(1, bool), Scaling(1e-4, 0.0, None), encoding)
    assert stored[0] == round((0.5 + 0.2) / 2.75e-05)


@pytest.mark.parametrize(
    ("dn", "nodata", "expected"),
    [
        (np.array([0, 1], np.uint16), 0.0, [True, False]),
        (np.array([0, 65535], np.uint16), 65535.0, [False, True]),
        (np.array([0, 1], np.uint16), -9999.0, [False, False]),  # cannot be in this type
        (np.array([0, 1], np.uint16), None, [False, False]),
        (np.array([np.nan, 1], np.float32), None, [True, False]),
        (np.array([np.nan, -9999], np.float32), -9999.0, [True, True]),
        (np.array([np.nan, 1], np.float32), float("nan"), [True, False]),
    ],
)
def test_what_counts_as_no_value(dn: np.ndarray, nodata: float | None, expected: list[bool]) -> None:
    assert is_nodata(dn, nodata).tolist() == expected


def test_the_rules_know_the_day_of_baseline_4() -> None:
    assert radiometry.S2_OFFSET_SINCE_DAY.isoformat() == "2022-01-25"
