"""Downloads from a server of this process that can cut a download off."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from msn_mm.convert.download import download
from msn_mm.convert.source import read_source
from msn_mm.errors import UserError


class Server(ThreadingHTTPServer):
    def __init__(self) -> None:
        self.content = torch.randn(50_000).numpy().tobytes()
        self.tag: str | None = '"one"'
        self.break_after: int | None = None
        self.asked: list[str | None] = []
        super().__init__(("127.0.0.1", 0), Handler)

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{name}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server, wanted = self.server, self.headers.get("Range")
        server.asked.append(wanted)
        if self.path.startswith("/absent"):
            self.send_error(404)
            return
        start = 0
        if wanted and self.headers.get("If-Range") == server.tag:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
        self.send_response(206 if start else 200)
        if server.tag:
            self.send_header("ETag", server.tag)
        body = server.content[start:]
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: server.break_after])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("MSN_MM_CACHE", str(tmp_path / "cache"))
    running = Server()
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield running
    running.shutdown()
    thread.join()
    running.server_close()


def test_an_address_is_downloaded_once(server: Server, tmp_path: Path) -> None:
    torch.save({"w": torch.arange(3)}, tmp_path / "x")
    server.content = (tmp_path / "x").read_bytes()
    raw = read_source(server.url("a/vits16.pth.tar"))
    assert raw.source == server.url("a/vits16.pth.tar")
    assert torch.equal(raw.content["w"], torch.arange(3))
    read_source(server.url("a/vits16.pth.tar"))
    assert server.asked == [None]
    download(server.url("b/vits16.pth.tar"))  # same name, another file
    assert len(server.asked) == 2


def test_a_download_goes_on_where_it_broke_off(server: Server) -> None:
    server.break_after = 70_000
    with pytest.raises(UserError, match=r"broke off.*call again and it goes on"):
        download(server.url("a.pth"))
    server.break_after = None
    assert download(server.url("a.pth")).read_bytes() == server.content
    assert server.asked == [None, "bytes=70000-"]


@pytest.mark.parametrize("tag", ['"two"', None])
def test_another_version_starts_anew(server: Server, tag: str | None) -> None:
    if tag is None:
        server.tag = None  # a server that names no versions
    server.break_after = 70_000
    with pytest.raises(UserError, match="broke off"):
        download(server.url("a.pth"))
    server.break_after, server.tag = None, tag
    server.content = server.content[::-1]
    assert download(server.url("a.pth")).read_bytes() == server.content


def test_hashes_are_checked(server: Server) -> None:
    digest = hashlib.sha256(server.content).hexdigest()
    download(server.url("a.pth"), digest)
    download(server.url(f"resnet50-{digest[:8]}.pth"))
    download(server.url("vit_20220826.pth"))
    download(server.url("vit-20220826.pth"))
    for url, sha in (("b.pth", "0" * 64), ("resnet50-0123abcd.pth", None)):
        with pytest.raises(UserError, match="is another file than wanted"):
            download(server.url(url), sha)
    before = len(server.asked)
    with pytest.raises(UserError, match="is another file than wanted"):
        download(server.url("b.pth"), "0" * 64)  # what was wrong is not kept
    assert server.asked[before:] == [None]


def test_what_cannot_be_had_gets_one_line(server: Server) -> None:
    with pytest.raises(UserError, match=r"absent\.pth' cannot be downloaded: 404"):
        download(server.url("absent.pth"))
    with pytest.raises(UserError, match="names no file"):
        download(server.url(""))
    with pytest.raises(UserError, match="cannot be downloaded"):
        download("http://127.0.0.1:9/x.pth")
