"""Packages are taken by npm from a registry, and only when they are what the pin says. The registry runs here."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from clerestory.core.errors import ClerestoryError, DataError, IntegrityError
from clerestory.data import packages
from clerestory.data.packages import Package, fetch, packages_folder, read_json, sha512_of, tarball


def packed(files: dict[str, str]) -> bytes:
    """A package tarball as npm makes them."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(text.encode())
            tar.addfile(info, io.BytesIO(text.encode()))
    return out.getvalue()


CONTENT = packed({
    "package/package.json": json.dumps({"name": "@clerestory-test/words", "version": "1.0.0"}),
    "package/words.json": '{"hello": "world"}',
})  # fmt: skip
PACKAGE = Package("@clerestory-test/words", "1.0.0", sha512_of(CONTENT))


@pytest.fixture
def registry(tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A registry on this machine that knows one package."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path.endswith(".tgz"):
                self.reply(CONTENT, "application/octet-stream")
            elif self.path.replace("%2f", "/").replace("%2F", "/") == f"/{PACKAGE.name}":
                self.reply(json.dumps(about(f"http://127.0.0.1:{server.server_port}")).encode(), "application/json")
            else:
                self.send_error(404)

        def reply(self, body: bytes, kind: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("npm_config_registry", f"http://127.0.0.1:{server.server_port}/")
    monkeypatch.setenv("npm_config_cache", str(tmp_path / "npm"))
    monkeypatch.setenv("npm_config_fetch_retries", "0")
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    yield
    server.shutdown()
    server.server_close()
    thread.join()


def about(address: str) -> dict[str, Any]:
    sha512 = base64.b64encode(hashlib.sha512(CONTENT).digest()).decode()
    dist = {
        "tarball": f"{address}/{PACKAGE.name}/-/words-1.0.0.tgz",
        "integrity": f"sha512-{sha512}",
        "shasum": hashlib.sha1(CONTENT, usedforsecurity=False).hexdigest(),
    }
    version = {"name": PACKAGE.name, "version": "1.0.0", "dist": dist}
    return {"name": PACKAGE.name, "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": version}}


def test_the_bundled_client_fetches_where_the_machine_has_none(registry: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert fetch([PACKAGE]) == 1
    assert read_json(tarball(PACKAGE), "words.json", "absent.json") == {"words.json": {"hello": "world"}}
    assert fetch([PACKAGE]) == 0, "what is here and intact is not fetched again"


def test_what_is_not_what_the_pin_says_is_refused_and_not_kept(registry: None) -> None:
    other = replace(PACKAGE, sha512=sha512_of(b"something else"))
    with pytest.raises(IntegrityError, match="words@1"):
        fetch([other])
    assert not (packages_folder() / PACKAGE.file_name).exists()


def test_a_package_that_nobody_has_is_one_sentence(registry: None) -> None:
    with pytest.raises(ClerestoryError, match="could not fetch") as caught:
        fetch([Package("@clerestory-test/none", "9.9.9", "")])
    assert caught.value.fix


def test_a_flipped_byte_in_a_kept_package_is_refused(own_cache: Path) -> None:
    packages_folder().mkdir(parents=True)
    damaged = bytearray(CONTENT)
    damaged[30] ^= 1
    (packages_folder() / PACKAGE.file_name).write_bytes(damaged)
    with pytest.raises(IntegrityError, match=PACKAGE.file_name):
        tarball(PACKAGE)


def test_a_package_that_is_not_here_says_how_to_get_it(own_cache: Path) -> None:
    with pytest.raises(DataError, match="fetch"):
        tarball(PACKAGE)


def test_members_that_point_elsewhere_are_never_read() -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        link = tarfile.TarInfo("package/words.json")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        tar.addfile(link)
        hard = tarfile.TarInfo("package/other.json")
        hard.type, hard.linkname = tarfile.LNKTYPE, "/etc/hostname"
        tar.addfile(hard)
        up = tarfile.TarInfo("package/../words.json")
        up.size = 2
        tar.addfile(up, io.BytesIO(b"{}"))
    assert read_json(out.getvalue(), "words.json", "other.json") == {}


def test_every_pin_is_a_whole_sha512_of_one_version() -> None:
    assert len(packages.ALL) == 9
    for package in packages.ALL:
        assert len(base64.b64decode(package.sha512)) == 64
        assert package.version.count(".") == 2


def test_the_kept_packages_are_what_the_pins_say() -> None:
    for package in packages.ALL:
        assert sha512_of(tarball(package)) == package.sha512
