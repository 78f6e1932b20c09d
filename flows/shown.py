"""What a flow shows on the server: log lines, a progress bar, tables and pictures.

Showing is never worth losing work for: where the server does not answer, a line in the log says so and work goes on.
"""

from __future__ import annotations

import base64
import io
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from prefect import get_run_logger
from prefect.artifacts import (
    create_image_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.exceptions import PrefectException

from geossl.progress import heard_by
from geossl.report.pages import format_value

_EVERY_S = 5.0
_WIDEST_PX = 1000
_PATIENCE_S = 600.0
"""After a call that failed (Prefect tries each for about a minute) nothing is shown for so long."""
_lost = -_PATIENCE_S


@contextmanager
def heard(what: str) -> Iterator[None]:
    """Send what the library says about its work to the run's log, and its progress to a bar on the server."""
    logger = get_run_logger()
    bars: dict[str, UUID] = {}
    last = -_EVERY_S

    def listen(line: str, share: float | None) -> None:
        nonlocal last
        now = time.monotonic()
        if share is None:
            logger.info(line)
        elif share >= 1 or now - last > _EVERY_S:
            last = now
            logger.info(line)
            _try(lambda: _progress(bars, what, line, share))

    with heard_by(listen):
        yield


def _progress(bars: dict[str, UUID], what: str, line: str, share: float) -> None:
    percent = round(100 * min(max(share, 0.0), 1.0), 1)
    key = _key(f"{what}-{line.split(':')[0]}")
    if key in bars:
        update_progress_artifact(bars[key], progress=percent, description=line)
    else:
        bars[key] = create_progress_artifact(progress=percent, key=key, description=line)


def show_table(key: str, rows: Sequence[Mapping[str, Any]], description: str) -> None:
    """A table; every value as text, as reports show it."""
    shown = [{name: format_value(value) for name, value in row.items()} for row in rows]
    _try(lambda: create_table_artifact(table=shown, key=_key(key), description=description))


def show_picture(key: str, picture: Path | bytes | None, description: str) -> None:
    """A PNG, embedded in the artifact and at most 1000 pixels wide; ``None`` shows nothing."""
    if picture is None:
        return
    png = _narrowed(picture.read_bytes() if isinstance(picture, Path) else picture)
    address = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    _try(lambda: create_image_artifact(image_url=address, key=_key(key), description=description))


def picture_of_report(report: Path) -> bytes | None:
    """The first picture of one of geossl's reports, which hold their pictures inside."""
    found = re.search(r'src="data:image/png;base64,([^"]+)"', report.read_text(encoding="utf-8"))
    return base64.b64decode(found.group(1)) if found else None


def _narrowed(png: bytes) -> bytes:
    from PIL import Image

    image = Image.open(io.BytesIO(png))
    if image.width <= _WIDEST_PX:
        return png
    height = max(1, round(image.height * _WIDEST_PX / image.width))
    stream = io.BytesIO()
    image.resize((_WIDEST_PX, height), Image.Resampling.LANCZOS).save(stream, format="PNG")
    return stream.getvalue()


def _key(text: str) -> str:
    """A key as the server wants it: lower-case letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _try(show: Callable[[], Any]) -> None:
    global _lost
    if time.monotonic() - _lost < _PATIENCE_S:
        return
    try:
        show()
    except (httpx.HTTPError, PrefectException, RuntimeError) as error:
        _lost = time.monotonic()
        get_run_logger().warning("not shown on the server (%s: %s)", type(error).__name__, error)
