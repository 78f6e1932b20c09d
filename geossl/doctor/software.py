"""Python, the packages, torch and CUDA, GDAL and PROJ."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from importlib import metadata

from geossl.doctor.finding import Finding

_REINSTALL = "install again with the pinned versions: pip install -c constraints.txt -e '.[flows]'"


def python(version: tuple[int, ...] = tuple(sys.version_info[:3])) -> Finding:
    """The interpreter against what geossl is built for."""
    text = ".".join(map(str, version))
    if version[:2] == (3, 11):
        return Finding("python", "ok", text)
    return Finding("python", "fail", f"{text}; geossl is made for 3.11", "make the environment with python3.11")


def packages(
    requirements: Iterable[str] | None = None, installed: Mapping[str, str] | None = None, extra: str = "flows"
) -> Finding:
    """Installed versions against those geossl declares; pip does not say when a later install has broken them.

    Args:
        requirements: as ``pip`` writes them; by default geossl's own.
        installed: package → version; by default what is installed.
        extra: the optional packages that are looked at where they are installed.
    """
    from packaging.requirements import Requirement

    wrong, seen = [], 0
    for text in requirements if requirements is not None else metadata.requires("geossl") or []:
        wanted = Requirement(text)
        optional = wanted.marker is not None and not wanted.marker.evaluate({"extra": ""})
        if optional and not (wanted.marker is not None and wanted.marker.evaluate({"extra": extra})):
            continue
        version = _version(wanted.name, installed)
        if version is None and optional:
            continue
        seen += 1
        if version is None:
            wrong.append(f"{wanted.name} is missing")
        elif not wanted.specifier.contains(version, prereleases=True):
            wrong.append(f"{wanted.name} {version}, not {wanted.specifier}")
    if wrong:
        return Finding("packages", "fail", "; ".join(wrong), _REINSTALL)
    return Finding("packages", "ok", f"{seen} packages in the versions geossl is made for")


def _version(name: str, installed: Mapping[str, str] | None) -> str | None:
    if installed is not None:
        return installed.get(name)
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def torch_and_cuda() -> Finding:
    """torch, and whether its GPU computes."""
    import torch

    build = torch.version.cuda
    if not torch.cuda.is_available():
        threads = f"torch {torch.__version__} on the CPU, {torch.get_num_threads()} threads"
        if build is None:
            return Finding("torch", "ok", f"{threads} (a build without CUDA)")
        return Finding(
            "torch", "warn", f"{threads}: no GPU answers this build for CUDA {build}",
            "where there is a GPU, see that nvidia-smi lists it and that its driver supports this CUDA; without one, "
            "train with --max-minutes",
        )  # fmt: skip
    name = torch.cuda.get_device_name(0)
    try:
        total = float((torch.ones(64, 64, device="cuda") @ torch.ones(64, 64, device="cuda")).sum())
    except RuntimeError as error:
        return Finding(
            "torch", "fail", f"{name} is there and does not compute: {str(error).splitlines()[0]}",
            "install a torch that is built for this GPU and driver, or hide it with CUDA_VISIBLE_DEVICES=",
        )  # fmt: skip
    free, whole = torch.cuda.mem_get_info(0)
    found = f"torch {torch.__version__}, CUDA {build}, {name}, {free / 2**30:.1f} of {whole / 2**30:.1f} GiB free"
    if total != 64.0**3:
        return Finding("torch", "fail", f"{found}; it computes wrongly", "do not use this GPU")
    return Finding("torch", "ok", found)


def gdal_and_proj() -> list[Finding]:
    """GDAL with the drivers geossl writes, and PROJ with a database that knows the coordinate systems."""
    import rasterio
    from rasterio.drivers import raster_driver_extensions
    from rasterio.env import GDALVersion

    needed = {"GTiff": "tif", "JP2OpenJPEG": "jp2"}
    there = set(raster_driver_extensions().values())
    missing = [driver for driver in needed if driver not in there]
    found = f"GDAL {GDALVersion.runtime()} (rasterio {rasterio.__version__})"
    drivers = Finding("gdal", "ok", found)
    if missing:
        drivers = Finding("gdal", "warn", f"{found} without {', '.join(missing)}", "install rasterio's own wheel")
    return [drivers, _proj()]


def _proj() -> Finding:
    """Both libraries carry a PROJ of their own, and one environment variable can break either."""
    import os

    import pyproj
    from pyproj.exceptions import ProjError
    from rasterio.errors import CRSError, RasterioError
    from rasterio.warp import transform

    set_by_hand = [f"{name}={os.environ[name]}" for name in ("PROJ_DATA", "PROJ_LIB") if os.environ.get(name)]
    remedy = f"unset {' and '.join(set_by_hand)}" if set_by_hand else _REINSTALL
    try:
        east, north = pyproj.Transformer.from_crs("EPSG:4326", "EPSG:32633", always_xy=True).transform(15.0, 59.0)
        (easting,), (northing,) = transform("EPSG:4326", "EPSG:32633", [15.0], [59.0])
    except (ProjError, CRSError, RasterioError) as error:
        return Finding("proj", "fail", f"a coordinate system is not known: {str(error).splitlines()[0]}", remedy)
    apart = max(abs(east - easting), abs(north - northing))
    if apart > 0.01:
        return Finding("proj", "fail", f"pyproj and GDAL disagree by {apart:.2f} m", remedy)
    found = f"PROJ {pyproj.proj_version_str}; pyproj and GDAL agree"
    if set_by_hand:
        return Finding("proj", "warn", f"{found}, with {', '.join(set_by_hand)} set", remedy)
    return Finding("proj", "ok", found)
