"""Sources of scenes: static STAC, item files, a STAC API on this machine, folders of GeoTIFFs; and what is refused."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from cube_scenes import make_item, write_tif

from geossl.cube import documents, profiles
from geossl.cube.documents import RefusedItem, dataset_document
from geossl.cube.folder import read_folder
from geossl.cube.stac import Found, Wanted, is_raster_folder, read_source
from geossl.errors import InputError
from geossl.products import ProductProfile, load_profile
from geossl.regions import load_region, parse_period

RED = np.full((8, 8), 2000, np.uint16)


def ids(found: Found) -> list[str]:
    return [item["id"] for items in found.collections.values() for item in items]


# ---- static STAC


def test_a_static_catalogue_gives_its_items_with_absolute_links(real_data: Path) -> None:
    found = read_source(str(real_data / "l8-new-york-2018"), Wanted())
    assert {name: len(items) for name, items in found.collections.items()} == {"landsat-8-ny": 19}
    href = found.collections["landsat-8-ny"][0]["assets"]["B2"]["href"]
    assert Path(href).is_absolute() and Path(href).is_file()


def test_period_region_and_limit_choose_items(real_data: Path) -> None:
    source = str(real_data / "s2-slovenia-l1c" / "s2-slovenia-ndvi" / "collection.json")
    assert len(ids(read_source(source, Wanted()))) == 68
    assert len(ids(read_source(source, Wanted(limit=7)))) == 7
    july = ids(read_source(source, Wanted(period=parse_period("2016-07"))))
    assert july and all("201607" in name for name in july)
    assert ids(read_source(source, Wanted(region=load_region("10,50,11,51")))) == []


def test_one_broken_item_costs_one_item(tmp_path: Path, real_data: Path) -> None:
    import shutil

    copy = tmp_path / "catalog"
    shutil.copytree(real_data / "s2-barbellino", copy)
    broken = next((copy / "s2-barbellino-l2a").glob("*/*.json"))
    broken.chmod(0o644)
    broken.write_text("{")
    found = read_source(str(copy), Wanted())
    assert len(ids(found)) == 3
    assert [Path(refusal.item).name for refusal in found.refused] == [broken.name]


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "not readable JSON"), ("[]", "not STAC"), ('{"type": "Topology"}', "not STAC")],
)
def test_what_is_not_stac_is_said_to_be_none(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "catalog.json"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        read_source(str(path), Wanted())


def test_a_missing_source_and_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such source"):
        read_source(str(tmp_path / "nothing"), Wanted())
    with pytest.raises(InputError, match="nothing to index here"):
        read_source(str(tmp_path), Wanted())


# ---- what is refused


def test_footprints_in_pixel_coordinates_are_refused(real_data: Path) -> None:
    found = read_source(str(real_data / "stac-items" / "digital-earth-sweden"), Wanted(product="s2"))
    assert ids(found) == [] and len(found.refused) == 2
    assert all("not in degrees" in refusal.reason for refusal in found.refused)


def reason(item: dict[str, Any], profile: ProductProfile | None = None) -> str:
    chosen = profile or profiles.of_items("sentinel-2-l2a", [item], None)[0]
    with pytest.raises(RefusedItem) as caught:
        dataset_document(item, "p", chosen)
    return str(caught.value)


def test_an_item_without_time_band_or_grid_is_refused_with_the_reason(tmp_path: Path) -> None:
    whole = make_item(tmp_path, {"red": (RED, 10), "nir": (RED, 10)})
    profile, _ = profiles.of_items("sentinel-2-l2a", [whole], None)

    timeless = {**whole, "properties": {**whole["properties"], "datetime": None}}
    assert "neither datetime" in reason(timeless, profile)

    bandless = {**whole, "assets": {"red": whole["assets"]["red"]}}
    assert "lacks the bands nir" in reason(bandless, profile)

    gridless = json.loads(json.dumps(whole))
    for asset in gridless["assets"].values():
        del asset["proj:transform"]
        asset["href"] = str(tmp_path / "gone.tif")
    assert "cannot be opened" in reason(gridless, profile)

    away = {**whole, "geometry": {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]]}}
    assert "does not touch its own raster" in reason(away, profile)


def test_a_grid_the_item_does_not_state_comes_from_the_file(tmp_path: Path) -> None:
    item = make_item(tmp_path, {"red": (RED, 10)})
    expected = dataset_document(item, "p", profiles.of_items("sentinel-2-l2a", [item], None)[0])
    for asset in item["assets"].values():
        del asset["proj:transform"], asset["proj:shape"]
    assert dataset_document(item, "p", profiles.of_items("sentinel-2-l2a", [item], None)[0]) == expected


def test_an_interval_item_takes_its_start(tmp_path: Path) -> None:
    times = {"datetime": None, "start_datetime": "2019-01-01T00:00:00Z", "end_datetime": "2019-12-31T00:00:00Z"}
    item = make_item(tmp_path, {"red": (RED, 10)}, **times)
    document = dataset_document(item, "p", profiles.of_items("sentinel-2-l2a", [item], None)[0])
    assert document["properties"]["datetime"] == "2019-01-01T00:00:00Z"


def test_zarr_assets_are_no_rasters_geossl_reads(real_data: Path) -> None:
    item = json.loads(next((real_data / "stac-items" / "eopf-zarr").glob("*.json")).read_text())
    with pytest.raises(InputError, match="no raster bands"):
        profiles.of_items("eopf", [item], None)


# ---- documents


def test_the_document_keeps_scale_offset_and_nodata_of_every_band(real_data: Path) -> None:
    item = read_source(str(real_data / "s2-karlstad-vanern"), Wanted()).collections["s2-karlstad-l2a"][0]
    profile, origin = profiles.of_items("s2-karlstad-l2a", [item], None)
    document = dataset_document(item, "s2_karlstad_l2a", profile)
    assert origin == "inferred from the items"
    scaling = {"scale": 1e-4, "offset": -0.1, "nodata": -9999.0}
    assert document["properties"][documents.RADIOMETRY] == {"b04": scaling, "b11": scaling}
    assert document["crs"] == "EPSG:3006"


def test_a_crs_without_a_code_is_kept_as_wkt(real_data: Path) -> None:
    item = read_source(str(real_data / "modis-sinop-ndvi"), Wanted(limit=1)).collections["mod13q1-ndvi"][0]
    profile, _ = profiles.of_items("mod13q1-ndvi", [item], None)
    document = dataset_document(item, "m", profile)
    assert "Sinusoidal" in document["crs"] and document["grids"]["default"]["shape"] == [147, 255]


def test_the_finest_grid_is_the_default_one_and_ids_follow_odcs_rule(tmp_path: Path) -> None:
    import uuid

    item = make_item(tmp_path, {"swir16": (RED, 20), "red": (np.full((16, 16), 5, np.uint16), 10)})
    document = dataset_document(item, "s2", profiles.of_items("sentinel-2-l2a", [item], None)[0])
    assert document["grids"]["default"]["shape"] == [16, 16]
    assert document["grids"][document["measurements"]["swir16"]["grid"]]["shape"] == [8, 8]
    assert "grid" not in document["measurements"]["red"]
    assert document["id"] == str(uuid.uuid5(uuid.UUID("55d26088-a6d0-5c77-bf9a-3a7f3c6a6dab"), "s2\nscene\n"))


def test_footprints_across_the_antimeridian_are_split_not_stretched(real_data: Path) -> None:
    from shapely.geometry import shape

    folder = real_data / "stac-items" / "planetary-computer"
    item = json.loads((folder / "S2A_MSIL2A_20190101T000001_R116_T60VUJ_20201007T214652.json").read_text())
    profile, _ = profiles.of_items("sentinel-2-l2a", [item], None)
    footprint = shape(dataset_document(item, "s2", profile)["properties"][documents.FOOTPRINT])
    assert footprint.area < 10  # square degrees; stretched over the globe it would be hundreds


# ---- profiles


@pytest.mark.parametrize(
    ("document", "profile"),
    [
        ("earth-search-v1/S2A_13TDE_20231008_0_L2A.json", "sentinel-2-l2a"),
        ("earth-search-v1/S2B_T20EPT_20250731T131905_L2A.json", "sentinel-2-l2a"),
        ("earth-search-v1/S2B_20EPT_20250731_0_L1C.json", "sentinel-2-l1c"),
        ("earth-search-v0/S2A_17SPR_20221106_0_L2A.json", "sentinel-2-l2a-cogs"),
        ("planetary-computer/S2B_MSIL2A_20190629T212529_R043_T06VVN_20201006T080531.json", "sentinel-2-l2a-esa"),
        ("planetary-computer/LC09_L2SP_084068_20250722_02_T2.json", "landsat-c2-l2"),
        ("earth-search-v1/LC08_L2SP_033032_20231008_02_T1.json", "landsat-c2-l2"),
    ],
)
def test_real_items_find_their_profile_with_all_its_bands(real_data: Path, document: str, profile: str) -> None:
    item = json.loads((real_data / "stac-items" / document).read_text())
    resolved, origin = profiles.of_items(item["collection"], [item], None)
    assert origin == f"profile {profile}"
    assert resolved == load_profile(profile)


def test_every_shipped_sentinel_2_profile_names_the_same_common_names() -> None:
    l2a = [profile for profile in profiles.shipped().values() if profile.family == "sentinel-2-l2a"]
    names = {tuple(band.common for band in profile.bands.values()) for profile in l2a}
    assert len(l2a) >= 5 and names == {tuple(name for name in profiles.SENTINEL2_BANDS.values() if name != "cirrus")}


def test_a_product_without_profile_is_inferred(real_data: Path) -> None:
    item = read_source(str(real_data / "s2-romania-series"), Wanted(limit=1)).collections["s2-romania-l2a"][0]
    profile, _ = profiles.of_items("s2-romania-l2a", [item], None)
    assert profile.family == "sentinel-2-l2a"
    assert [band.common for band in profile.bands.values()] == ["blue", "green", "red", "nir", "nir08", "swir16"]
    assert profile.mask is not None and profile.mask.band == "scl" and profile.mask.cloud == (8, 9, 10)


def test_bands_of_another_scale_do_not_share_an_encoding(real_data: Path) -> None:
    item = read_source(str(real_data / "l8-new-york-2018"), Wanted(limit=1)).collections["landsat-8-ny"][0]
    profile, _ = profiles.of_items("landsat-8-ny", [item], None)
    assert "lwir11" not in [band.common for band in profile.bands.values()]  # brightness, not reflectance
    assert profile.encoding.scale == 2e-05 and profile.encoding.offset == -0.1


def test_named_classes_make_a_mask(tmp_path: Path) -> None:
    item = make_item(tmp_path, {"red": (RED, 10), "qual": (RED.astype(np.uint8), 10)})
    item["assets"]["qual"]["classification:classes"] = [
        {"value": 0, "name": "no_data"}, {"value": 1, "name": "clear"}, {"value": 2, "name": "cloud"},
        {"value": 3, "name": "cloud_shadow"}, {"value": 4, "name": "snow"},
    ]  # fmt: skip
    mask = profiles.inferred("mine", item).mask
    assert mask is not None
    assert (mask.band, mask.nodata, mask.cloud, mask.shadow, mask.snow) == ("qual", (0,), (2,), (3,), (4,))


# ---- folders of GeoTIFFs


def test_a_folder_of_stacks_is_read_by_its_profile(real_data: Path) -> None:
    folder = real_data / "boadella-reservoir"
    assert is_raster_folder(str(folder))
    found = read_folder(folder, load_profile("sentinel-2-stacks"), Wanted())
    items = found.collections["boadella_reservoir"]
    assert [item["properties"]["datetime"][:10] for item in items][:2] == ["2020-01-13", "2020-01-18"]
    assert len(items) == 9 and items[0]["assets"]["B8A"]["geossl:band"] == 9
    assert items[0]["assets"]["B02"]["proj:code"] == "EPSG:4326"


def test_files_of_one_band_each_join_to_a_scene(tmp_path: Path) -> None:
    profile = load_profile("sentinel-2-stacks").model_copy(
        update={"filename": r"(?P<tile>\w+)/(?P<date>\d{8})_(?P<band>B\d\w)\.tif", "date_format": "%Y%m%d"}
    )
    for day in ("20240601", "20240611"):
        for band in ("B04", "B08"):
            write_tif(tmp_path / "33VVF" / f"{day}_{band}.tif", RED, 10)
    (tmp_path / "33VVF" / "notes_B04.tif").write_text("no raster, and no date")
    items = read_folder(tmp_path, profile, Wanted()).collections[tmp_path.name.replace("-", "_").lower()]
    assert [sorted(item["assets"]) for item in items] == [["B04", "B08"], ["B04", "B08"]]


def test_a_folder_without_profile_or_fitting_names_says_what_is_needed(tmp_path: Path) -> None:
    write_tif(tmp_path / "a.tif", RED, 10)
    with pytest.raises(InputError, match="needs a product profile"):
        read_folder(tmp_path, None, Wanted())
    with pytest.raises(InputError, match="no file name here fits"):
        read_folder(tmp_path, load_profile("sentinel-2-stacks"), Wanted())


# ---- a STAC API


class Api(BaseHTTPRequestHandler):
    items: ClassVar[list[dict[str, Any]]] = []

    def do_GET(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.answer()

    def answer(self) -> None:
        base = f"http://127.0.0.1:{self.server.server_port}"  # type: ignore[attr-defined]
        collections = [
            {
                "type": "Collection", "stac_version": "1.0.0", "id": name, "description": name, "license": "other",
                "extent": {"spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": [[None, None]]}},
                "links": [],
            }
            for name in ("sentinel-2-l2a", "landsat-c2-l2")
        ]  # fmt: skip
        answers: dict[str, Any] = {
            "/": {
                "type": "Catalog", "stac_version": "1.0.0", "id": "api", "description": "api",
                "conformsTo": [
                    "https://api.stacspec.org/v1.0.0/core", "https://api.stacspec.org/v1.0.0/item-search",
                    "https://api.stacspec.org/v1.0.0/collections",
                ],
                "links": [
                    {"rel": "self", "href": base}, {"rel": "root", "href": base},
                    {"rel": "data", "href": f"{base}/collections"},
                    {"rel": "search", "href": f"{base}/search", "method": "POST", "type": "application/geo+json"},
                ],
            },
            "/collections": {"collections": collections, "links": []},
            "/search": {"type": "FeatureCollection", "features": self.items, "links": []},
            "/plain": {"hello": "world"},
        }  # fmt: skip
        body = answers.get(self.path.partition("?")[0])
        self.send_response(200 if body else 404)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@pytest.fixture
def api(tmp_path: Path) -> Iterator[str]:
    Api.items = [make_item(tmp_path, {"red": (RED, 10)}, name=f"s{number}") for number in range(3)]
    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


def test_a_stac_api_is_searched(api: str) -> None:
    found = read_source(api, Wanted(product="sentinel_2_l2a", limit=2))
    assert {name: len(items) for name, items in found.collections.items()} == {"sentinel-2-l2a": 2}


def test_an_api_of_several_collections_asks_which(api: str) -> None:
    with pytest.raises(InputError, match="several collections") as caught:
        read_source(api, Wanted())
    assert "landsat-c2-l2" in str(caught.value) and "--product" in str(caught.value)
    with pytest.raises(InputError, match="no collection 'sentinel-9'"):
        read_source(api, Wanted(product="sentinel-9"))


def test_an_address_that_is_no_stac_or_does_not_answer(api: str) -> None:
    with pytest.raises(InputError, match="this is not STAC"):
        read_source(f"{api}plain", Wanted())
    with pytest.raises(InputError, match="cannot reach this address"):
        read_source("http://127.0.0.1:9/", Wanted())
