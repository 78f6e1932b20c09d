"""Manifests of encoders that an older geossl wrote, brought to the present format.

Format 1: no transformer, no projection; ``encoding`` said how the training chips stored reflectance.
Format 2: ``image_px`` and ``projection`` are named; ``encoding`` became ``radiometry``, which also says the quantity
the encoder takes; a STAC item lies beside the manifest (an older directory stays without one).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Manifest = dict[str, Any]


def radiometry(encoding: dict[str, Any] | None) -> dict[str, Any]:
    """What an encoder takes, and how its training chips stored it (None where that is not known)."""
    return {"quantity": "reflectance", "unit": "1", "stored_as": encoding}


def migrate(manifest: Manifest) -> Manifest:
    """The manifest in the present format; one of the present format comes back as it is."""
    for version in range(max(int(manifest.get("format_version", 1)), 1), max(_STEPS) + 1):
        manifest = _STEPS[version](dict(manifest)) | {"format_version": version + 1}
    return manifest


def _from_1(manifest: Manifest) -> Manifest:
    encoding = manifest.pop("encoding", None)
    return {**manifest, "image_px": None, "projection": None, "radiometry": radiometry(encoding)}


_STEPS: dict[int, Callable[[Manifest], Manifest]] = {1: _from_1}
"""What brings each format to the next."""
