"""Telling of a new layer: to exactly the addresses that were given, and to nobody without one."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from flows import notify
from geossl.errors import InputError, WorkError


@pytest.fixture
def hook() -> Iterator[tuple[str, list[dict[str, object]]]]:
    """A webhook on loopback: its address, and what it was told."""
    told: list[dict[str, object]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(500 if self.path.startswith("/broken") else 200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", told
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_message_names_the_versions_and_where_they_lie(tmp_path: Path) -> None:
    said = notify.message(tmp_path, "Drought, malardalen", ["2018-07-0a1b2c3d"])
    assert said["text"] == f"Drought, malardalen: 1 new layer version in {tmp_path}"
    assert said["layers"] == [{"version": "2018-07-0a1b2c3d", "folder": str(tmp_path / "2018-07-0a1b2c3d")}]


def test_the_webhook_gets_the_message_and_the_log_a_line(
    hook: tuple[str, list[dict[str, object]]], tmp_path: Path
) -> None:
    address, told = hook
    said = notify.message(tmp_path, "Drought", ["a", "b"])
    notify.send(said, address, str(tmp_path / "folder" / "log.jsonl"))
    notify.send(said, None, str(tmp_path / "folder" / "log.jsonl"))
    assert told == [said]
    lines = (tmp_path / "folder" / "log.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [said, said]


def test_with_neither_nothing_is_opened_or_connected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    notify.send(notify.message(tmp_path, "Drought", ["a"]), None, None)
    assert list(tmp_path.iterdir()) == []


def test_a_webhook_that_fails_is_an_error_that_keeps_its_secret(hook: tuple[str, list[dict[str, object]]]) -> None:
    address, _ = hook
    with pytest.raises(WorkError) as caught:
        notify.send({"text": "x"}, f"{address}/broken?token=s3cret", None)
    assert "s3cret" not in str(caught.value)
    assert "published" in str(caught.value.remedy)


@pytest.mark.parametrize("address", ["ftp://example.org", "example.org/hook", "file:///etc/passwd", "http://"])
def test_what_is_no_web_address_is_refused_before_any_work(address: str) -> None:
    with pytest.raises(InputError, match="no address"):
        notify.check_webhook(address)
