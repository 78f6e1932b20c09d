"""Reading tiles through the cube's reader against bare rasterio: the same blocks, the same threads, one run.

A simulated scene of 12 single-band COGs (2048², tiles of 512, deflate) without a database: the reader works from
dataset documents alone. Ways are interleaved in every round; the median and the minimum of the paired ratio count.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import rasterio
from odc.geo.geobox import GeoBox
from odc.geo.geom import box
from rasterio.transform import from_origin
from rasterio.windows import Window

SIDE, BLOCK, WINDOW, THREADS, ROUNDS = 2048, 512, 1024, 2, 7
BANDS = (
    "coastal",
    "blue",
    "green",
    "red",
    "rededge1",
    "rededge2",
    "rededge3",
    "nir",
    "nir08",
    "nir09",
    "swir16",
    "swir22",
)
ORIGIN = (600000.0, 6600000.0)


def write_scene(folder: Path) -> Path:
    """A catalogue of one scene whose twelve bands all have 10 m pixels, so that both ways read the same blocks."""
    import pystac

    rng = np.random.default_rng(0)
    smooth = rng.normal(0, 1, (SIDE // 16, SIDE // 16)).repeat(16, 0).repeat(16, 1)
    item_folder = folder / "scene"
    item_folder.mkdir(parents=True)
    geobox = GeoBox((SIDE, SIDE), from_origin(*ORIGIN, 10, 10), "EPSG:32633")
    outline = geobox.geographic_extent
    item = pystac.Item(
        "scene",
        outline.json,
        list(outline.boundingbox),
        datetime(2018, 7, 1, 10, 20, tzinfo=UTC),
        {
            "proj:epsg": 32633,
            "proj:shape": [SIDE, SIDE],
            "proj:transform": list(geobox.transform)[:6],
            "s2:processing_baseline": "05.10",
            "earthsearch:boa_offset_applied": False,
        },
        collection="sandbox_s2_l2a",
        stac_extensions=["https://stac-extensions.github.io/projection/v1.1.0/schema.json"],
    )
    for number, name in enumerate((*BANDS, "scl")):
        values = 2000 + 300 * smooth + 60 * rng.normal(0, 1, (SIDE, SIDE)) + 50 * number
        array = np.full((SIDE, SIDE), 4, np.uint8) if name == "scl" else values.astype(np.uint16)
        with rasterio.open(
            item_folder / f"{name}.tif",
            "w",
            driver="GTiff",
            width=SIDE,
            height=SIDE,
            count=1,
            dtype=array.dtype,
            crs="EPSG:32633",
            transform=geobox.transform,
            nodata=0,
            tiled=True,
            blockxsize=BLOCK,
            blockysize=BLOCK,
            compress="deflate",
            predictor=2,
        ) as file:
            file.write(array, 1)
        item.add_asset(name, pystac.Asset(f"./{name}.tif", media_type=pystac.MediaType.COG, roles=["data"]))
    item.links = []
    (item_folder / "scene.json").write_text(json.dumps(item.to_dict(include_self_link=False)), encoding="utf-8")
    return item_folder / "scene.json"


def bare(folder: Path, window: Window) -> np.ndarray:
    """The window of every band and the mask, by rasterio alone, a file opened per read."""

    def read(name: str) -> np.ndarray:
        with rasterio.open(folder / f"{name}.tif") as file:
            return file.read(1, window=window)

    with ThreadPoolExecutor(THREADS) as pool:
        return np.stack(list(pool.map(read, (*BANDS, "scl"))))


def main() -> int:
    import os

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        folder.chmod(0o755)
        os.environ["GEOSSL_HOME"] = str(folder / "home")
        import geossl
        from geossl.cube.files import close_all
        from geossl.cube.read import read_scenes

        source = write_scene(folder)
        geossl.index_source(str(source))
        with geossl.open_cube("sandbox_s2_l2a") as cube:
            product = cube.product("sandbox_s2_l2a")
            scenes = cube.find(product, geometry=box(-180, -90, 180, 90, "EPSG:4326").geom)
        windows = [(y, x) for y in range(0, SIDE, WINDOW) for x in range(0, SIDE, WINDOW)]
        times: dict[str, list[float]] = {"rasterio": [], "geossl": []}
        for round_number in range(ROUNDS + 1):
            for way in times if round_number % 2 else reversed(times):
                close_all()  # with the files goes GDAL's block cache: every round decodes every block once
                start = time.perf_counter()
                for y, x in windows:
                    if way == "rasterio":
                        bare(source.parent, Window(x, y, WINDOW, WINDOW))
                    else:
                        transform = from_origin(ORIGIN[0] + 10 * x, ORIGIN[1] - 10 * y, 10, 10)
                        geobox = GeoBox((WINDOW, WINDOW), transform, "EPSG:32633")
                        read = read_scenes(scenes, product, geobox, threads=THREADS)
                if round_number:
                    times[way].append(time.perf_counter() - start)
        bare_last, ours_last = bare(source.parent, Window(x, y, WINDOW, WINDOW))[:-1], read.data
        if not np.array_equal(bare_last, ours_last):
            print("the pixels differ", file=sys.stderr)
            return 1
    amount = SIDE * SIDE * len(BANDS) / 1e6
    ratios = [a / b for a, b in zip(times["rasterio"], times["geossl"], strict=True)]
    figures = {
        "rasterio_mpx_band_s": amount / statistics.median(times["rasterio"]),
        "geossl_mpx_band_s": amount / statistics.median(times["geossl"]),
        "ratio_median": statistics.median(ratios),
        "ratio_of_minima": min(times["rasterio"]) / min(times["geossl"]),
    }
    print("## Tiles: reading through the cube\n")
    print(f"12 bands and the mask, {WINDOW}² windows of {SIDE}², COG blocks of {BLOCK}, {THREADS} threads, "
          f"{ROUNDS} interleaved rounds, pixels checked identical.\n")  # fmt: skip
    print("| way | Mpx·band/s (median) | ratio (median) | ratio (minima) |\n|---|---|---|---|")
    print(f"| rasterio, bare | {figures['rasterio_mpx_band_s']:.0f} | 1 | 1 |")
    print(f"| geossl `read_scenes` (mask decoded, radiometry settled) | {figures['geossl_mpx_band_s']:.0f} | "
          f"{figures['ratio_median']:.2f} | {figures['ratio_of_minima']:.2f} |")  # fmt: skip
    print()
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
