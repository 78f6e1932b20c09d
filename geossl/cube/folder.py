"""A folder of GeoTIFFs as STAC items: dates by the profile's regular expression, grids from the files themselves."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from geossl.cube.assets import Item, word
from geossl.cube.documents import Refusal
from geossl.cube.stac import Found, Wanted
from geossl.errors import InputError
from geossl.products import ProductProfile


def read_folder(folder: Path, profile: ProductProfile | None, wanted: Wanted) -> Found:
    """The scenes of a folder: one a date (and ``tile``), with a band a file or all bands in one file.

    Raises:
        InputError: no profile, a profile without ``filename``, or no file whose path it parses.
    """
    if profile is None or profile.filename is None:
        raise InputError(
            "a folder of GeoTIFFs needs a product profile that parses its file names",
            where=folder,
            expected="--profile with a 'filename' expression that names the group (?P<date>…)",
            found="no --profile" if profile is None else f"profile '{profile.title}' without 'filename'",
            remedy="see configs/products/sentinel-2-stacks.yaml for an example",
        )
    pattern = _pattern(profile, folder)
    scenes: dict[tuple[str, datetime], dict[str, Any]] = {}
    found = Found()
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in {".tif", ".tiff", ".jp2"})
    for path in files:
        relative = path.relative_to(folder).as_posix()
        match = pattern.fullmatch(relative) or pattern.fullmatch(path.name)
        if match is None:
            continue
        groups = match.groupdict()
        try:
            day = datetime.strptime(groups["date"], profile.date_format).replace(tzinfo=UTC)
        except ValueError as error:
            found.refused.append(
                Refusal(relative, f"its date does not fit date_format '{profile.date_format}' ({error})")
            )
            continue
        key = (str(groups.get("tile") or ""), day)
        try:
            _add_file(scenes.setdefault(key, _new_item(folder, *key)), path, groups.get("band"), profile)
        except ValueError as error:
            found.refused.append(Refusal(relative, str(error)))
    if not scenes and not found.refused:
        raise InputError(
            "no file name here fits the profile",
            where=folder,
            expected=profile.filename,
            found=", ".join(path.relative_to(folder).as_posix() for path in files[:3]) or "no GeoTIFFs",
            remedy="correct the profile's 'filename'; it must match the whole name, or the whole path in the folder",
        )
    items = [item for _, item in sorted(scenes.items(), key=lambda scene: (scene[0][1], scene[0][0])) if item["assets"]]
    found.add(
        [item for item in items if wanted.takes(item)][: wanted.limit], wanted.product or word(folder.resolve().name)
    )
    return found


def _pattern(profile: ProductProfile, folder: Path) -> re.Pattern[str]:
    assert profile.filename is not None
    try:
        pattern = re.compile(profile.filename)
    except re.error as error:
        raise InputError("this is no regular expression", where="profile: filename", found=error) from None
    if "date" not in pattern.groupindex:
        raise InputError(
            "this file name expression names no date",
            where="profile: filename",
            expected="a group (?P<date>…)",
            found=profile.filename,
        )
    return pattern


def _new_item(folder: Path, tile: str, day: datetime) -> Item:
    name = "_".join(part for part in (word(folder.resolve().name), word(tile), day.strftime("%Y%m%dT%H%M%S")) if part)
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "id": name,
        "geometry": None,
        "properties": {"datetime": day.isoformat().replace("+00:00", "Z")},
        "assets": {},
    }


def _add_file(item: Item, path: Path, band: str | None, profile: ProductProfile) -> None:
    """Add the bands of a file to an item; raises ``ValueError`` with the reason where the file is of no use."""
    import rasterio
    from rasterio.errors import RasterioError
    from rasterio.warp import transform_geom

    try:
        with rasterio.open(path) as file:
            if file.crs is None:
                raise ValueError("the file names no CRS")
            code = file.crs.to_epsg()
            grid = {
                "proj:code": f"EPSG:{code}" if code else None,
                "proj:wkt2": None if code else file.crs.to_wkt(),
                "proj:shape": list(file.shape),
                "proj:transform": list(file.transform)[:6],
            }
            outline = _outline(file)
            names = [band] if band else _band_names(file, profile)
            for number, name in enumerate(names, 1):
                if name in item["assets"]:
                    raise ValueError(f"band {name} of this date is already in another file")
                item["assets"][name] = {
                    "href": str(path.absolute()),
                    "type": "image/tiff; application=geotiff",
                    "roles": ["data"],
                    "geossl:band": number,
                    "data_type": file.dtypes[number - 1],
                    "nodata": file.nodatavals[number - 1],
                    **grid,
                }
            item["geometry"] = item["geometry"] or transform_geom(file.crs, "EPSG:4326", outline)
    except RasterioError as error:
        raise ValueError(f"cannot be opened ({error})") from None


def _outline(file: Any) -> dict[str, Any]:
    from shapely.geometry import box, mapping

    return dict(mapping(box(*file.bounds)))


def _band_names(file: Any, profile: ProductProfile) -> list[str]:
    """Names of the bands of a multi-band file: its descriptions; without any, the profile's bands in their order."""
    described = [text for text in file.descriptions if text]
    if len(described) == file.count:
        return described
    if file.count == len(profile.bands):
        return list(profile.bands)
    raise ValueError(
        f"it has {file.count} bands without descriptions, and the profile names {len(profile.bands)}: which is which?"
    )
