"""Telling somebody that a layer is out: a webhook, a line in a file. Only where the caller names one."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from geossl.errors import InputError, WorkError
from geossl.progress import say

_TIMEOUT_S = 30


def message(root: Path, title: str, versions: Sequence[str]) -> dict[str, Any]:
    """What is told: a sentence in ``text`` (as chat services want it), and the layers' places."""
    return {
        "text": f"{title}: {len(versions)} new layer version{'s' if len(versions) != 1 else ''} in {root}",
        "layers": [{"version": version, "folder": str(root / version)} for version in versions],
        "collection": str(root / "collection.json"),
    }


def check_webhook(webhook: str | None) -> None:
    """Refuse an address that no message can be posted to, before any work is done."""
    if webhook is not None and (urlsplit(webhook).scheme not in {"http", "https"} or not urlsplit(webhook).hostname):
        raise InputError("this is no address to post to", where="webhook", expected="http(s)://…", found=webhook)


def send(said: dict[str, Any], webhook: str | None, log: str | None) -> None:
    """Append a JSON line to ``log``, post the message to ``webhook``; with neither, nothing leaves the process.

    Raises:
        WorkError: the webhook does not take the message.
    """
    say(str(said["text"]))
    if webhook is not None:
        check_webhook(webhook)
        request = urllib.request.Request(
            webhook, json.dumps(said).encode(), {"Content-Type": "application/json"}, method="POST"
        )
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S):
                pass
        except (urllib.error.URLError, OSError) as error:
            raise WorkError(
                "the webhook did not take the message",
                where=f"{urlsplit(webhook).scheme}://{urlsplit(webhook).hostname}",  # the rest may hold a secret
                found=error,
                remedy="the layer is published; correct the address, the next run sends the message",
            ) from None
    if log is not None:
        path = Path(log).expanduser()
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(said, ensure_ascii=False) + "\n")
