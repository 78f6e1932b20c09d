"""Showing on the server: never worth losing work for, nor waiting for again and again."""

from __future__ import annotations

import logging

import httpx
import pytest

from flows import shown


def test_a_server_that_is_gone_costs_one_attempt_and_a_line_in_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[str] = []

    def refuse(**given: str) -> None:
        asked.append(given["key"])
        raise httpx.ConnectError("nobody is there")

    monkeypatch.setattr(shown, "create_table_artifact", refuse)
    monkeypatch.setattr(shown, "get_run_logger", lambda: logging.getLogger("shown"))
    monkeypatch.setattr(shown, "_lost", -shown._PATIENCE_S)
    shown.show_table("Tiles of 2018", [{"new": 3, "share": 0.25}], "chips")
    shown.show_table("another", [{"new": 3}], "chips")
    assert asked == ["tiles-of-2018"]
    assert caplog.text.count("nobody is there") == 1


def test_wide_pictures_are_made_narrow_and_others_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    import base64
    import io

    from PIL import Image

    sent: list[str] = []
    monkeypatch.setattr(shown, "create_image_artifact", lambda **given: sent.append(given["image_url"]))
    for width in (300, 2400):
        stream = io.BytesIO()
        Image.new("RGB", (width, 100)).save(stream, format="PNG")
        shown.show_picture("map", stream.getvalue(), "a map")
    shown.show_picture("map", None, "no picture")
    assert all(address.startswith("data:image/png;base64,") for address in sent)
    widths = [Image.open(io.BytesIO(base64.b64decode(address.split(",")[1]))).width for address in sent]
    assert widths == [300, 1000]
