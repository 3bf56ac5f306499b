from __future__ import annotations

from html.parser import HTMLParser

import pytest
from starlette.testclient import TestClient
from tests.web.conftest import BASE, World

from clerestory.web.security import SECURITY_HEADERS, host_name

PAGES = (
    "/",
    "/?q=cat",
    "/?like={sample}",
    "/describe",
    "/data",
    "/governance",
    "/drift",
    "/incidents",
    "/releases",
    "/feedback",
    "/feedback/received?response=x&item=y&back=/",
    "/trace",
    "/operations",
    "/channel/icons",
    "/journal",
    "/journal/1",
    "/releases/icons/1",
    "/evidence/{evidence}",
    "/sign-in",
    "/no",
)


def addresses(world: World) -> list[str]:
    return [p.format(sample=world.data.samples[0].id, evidence=world.live.evidence[0]) for p in PAGES]


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:8000", "", "[::1"])
def test_a_foreign_host_name_is_rejected(client: TestClient, host: str) -> None:
    answer = client.get("/", headers={"host": host})
    assert answer.status_code == 421
    assert "localhost" in answer.text
    assert client.get("/v1/models", headers={"host": host}).json()["error"]["type"] == "wrong_host"


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:80", "127.0.0.1:8000", "[::1]:8000"])
def test_every_loopback_name_is_answered(client: TestClient, host: str) -> None:
    assert client.get("/healthz", headers={"host": host}).status_code == 200


def test_host_names_are_read_as_browsers_write_them() -> None:
    assert host_name("[::1]:8000") == "::1"
    assert host_name("user@localhost:1") == "localhost"
    assert host_name("[::1") == ""


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"origin": BASE}, 400),
        ({"origin": "null"}, 403),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "http://127.0.0.1:9"}, 403),
        ({"origin": BASE, "sec-fetch-site": "cross-site"}, 403),
        ({"origin": BASE, "sec-fetch-site": "same-site"}, 403),
        ({"origin": BASE, "sec-fetch-site": "same-origin"}, 400),
        ({}, 403),
    ],
)
def test_a_form_is_accepted_from_our_own_pages_only(client: TestClient, headers: dict[str, str], status: int) -> None:
    asked = client.build_request("POST", "/describe", files=[("images", ("", b""))])
    del asked.headers["origin"]
    asked.headers.update(headers)
    assert client.send(asked).status_code == status


def test_every_answer_carries_the_security_headers(client: TestClient, world: World) -> None:
    for path in [*addresses(world), "/healthz", "/v1/nothing", "/static/style.css", "/static/nothing"]:
        headers = client.get(path).headers
        for name, value in SECURITY_HEADERS.items():
            assert headers[name] == value, (path, name)


def test_a_crash_shows_nothing_of_the_inside(client: TestClient, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("secret inside")

    monkeypatch.setattr(world.store, "releases", broken)
    answer = client.get("/releases")
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert "something went wrong" in answer.text.lower()
    assert answer.headers["content-security-policy"] == SECURITY_HEADERS["content-security-policy"]


class Inline(HTMLParser):
    """Collects what the content security policy would block, and ids that are there twice."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.ids: list[str] = []
        self.foreign: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "style" or (tag == "script" and "src" not in given):
            self.found.append(tag)
        self.found += [f"{tag} {name}" for name in given if name.startswith("on") or name == "style"]
        self.ids += [str(given["id"])] if "id" in given else []
        addresses = [given.get("src") or "", given.get("action") or "", given.get("href") or ""]
        self.foreign += [each for each in addresses if "//" in each]


def test_pages_hold_nothing_inline_nothing_foreign_and_no_id_twice(client: TestClient, world: World) -> None:
    for path in addresses(world):
        seen = Inline()
        seen.feed(client.get(path).text)
        assert seen.found == [], path
        assert seen.foreign == [], path
        assert len(seen.ids) == len(set(seen.ids)), path
