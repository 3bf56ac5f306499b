"""API keys, sessions and scopes on a real server; proxies, hosts and origins as hostile clients use them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.routing import Route
from tests.web.small_server import running

from clerestory.core.errors import InputError
from clerestory.stages.serve.access_config import AccessConfig
from clerestory.store import Store, open_store
from clerestory.store.operations.api_keys import KeyScope, create_key, revoke_key
from clerestory.web import create_app
from clerestory.web.access_control import SCOPE_RULES, AccessControl, needed_scope
from clerestory.web.proxies import apply_forwarded
from clerestory.web.serve_config import ServeConfig
from clerestory.web.server import run
from clerestory.web.sessions import SESSION_COOKIE, Sessions
from clerestory.web.sign_in import own_path

CAT = {"input": "a cat"}
EMBEDDINGS = "/v1/embeddings"


@dataclass(frozen=True)
class Guarded:
    """A server whose requests need keys, and one key of each kind."""

    base: str
    store: Store
    keys: dict[str, str]
    ids: dict[str, str]

    def client(self, key: str = "", **options: object) -> httpx.Client:
        headers = {"authorization": f"Bearer {self.keys[key]}"} if key else {}
        return httpx.Client(base_url=self.base, headers=headers, timeout=60, **options)  # type: ignore[arg-type]


@contextmanager
def guarded(home: Path, model: Path, access: AccessConfig) -> Iterator[Guarded]:
    with open_store(home) as store, ExitStack() as stack:
        keys, ids = {}, {}
        for name, scopes, limits in (
            ("infer", (KeyScope.INFER,), {}),
            ("poor", (KeyScope.INFER,), {"rate": 0.5, "burst": 6.0}),
            ("reader", (KeyScope.REGISTRY_READ,), {}),
            ("admin", (KeyScope.ADMIN,), {}),
            ("short", (KeyScope.INFER,), {"expires": time.time() + 2}),
        ):
            issued = create_key(store, name, scopes, "ada", "tests", **limits)  # type: ignore[arg-type]
            keys[name], ids[name] = issued.secret, issued.key.id
        app = create_app(store, None, model=str(model), config=ServeConfig(access=access))
        yield Guarded(stack.enter_context(running(app)), store, keys, ids)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[Guarded]:
    proxy = AccessConfig(
        hosts=("models.example.org",), origins=("https://app.example.org",), proxies=("127.0.0.1",), rate=10_000
    )
    with guarded(tmp_path_factory.mktemp("access") / "home", tiny_model, proxy) as made:
        yield made


def code_of(answer: httpx.Response) -> str:
    return str(answer.json()["error"]["code"])


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, "missing_api_key"),
        ({"authorization": "Bearer"}, "missing_api_key"),
        ({"authorization": "Basic YTpi"}, "missing_api_key"),
        ({"authorization": "Bearer clr_00000000_x"}, "invalid_api_key"),
        ({"x-api-key": "any"}, "invalid_api_key"),
        ({"authorization": "Bearer " + "x" * 5_000}, "invalid_api_key"),
        ({"cookie": f"{SESSION_COOKIE}=clr_00000000.99999999999.x.y"}, "invalid_api_key"),
    ],
)
def test_without_a_valid_key_there_is_no_answer(server: Guarded, headers: dict[str, str], code: str) -> None:
    with server.client() as client:
        answer = client.post(EMBEDDINGS, json=CAT, headers=headers)
    if "cookie" in headers:
        code = "missing_api_key"  # a cookie without an origin comes from no page of ours
    assert (answer.status_code, code_of(answer)) == (401, code)
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert "clerestory api-key create" in answer.json()["error"]["message"]


def test_both_headers_are_accepted_and_the_schema_is_public(server: Guarded) -> None:
    with server.client("infer") as client:
        assert client.post(EMBEDDINGS, json=CAT).status_code == 200
    with server.client() as client:
        assert client.post(EMBEDDINGS, json=CAT, headers={"x-api-key": server.keys["infer"]}).status_code == 200
        for path in ("/healthz", "/readyz", "/openapi.json", "/static/style.css", "/sign-in"):
            assert client.get(path).status_code == 200, path


def test_an_expired_key_is_called_expired(server: Guarded) -> None:
    time.sleep(2)
    with server.client("short") as client:
        assert code_of(client.get("/v1/models")) == "expired_api_key"


def test_a_key_may_do_what_its_scopes_say(server: Guarded) -> None:
    with server.client("infer") as client:
        refused = client.get("/releases", headers={"accept": "application/json"})
        assert (refused.status_code, code_of(refused)) == (403, "insufficient_scope")
        assert "registry:read" in refused.json()["error"]["message"]
    with server.client("reader") as client:
        assert client.get("/releases").status_code == 200
        assert client.post(EMBEDDINGS, json=CAT).status_code == 403
    with server.client("admin") as client:
        assert client.get("/releases").status_code == 200
        assert client.post(EMBEDDINGS, json=CAT).status_code == 200


def test_every_route_has_a_rule_or_needs_an_admin(server: Guarded, tmp_path: Path) -> None:
    with open_store(tmp_path / "home") as store:
        app = create_app(store, None)
        routes = [route for route in app.routes if isinstance(route, Route)]
        paths = {route.path.split("{")[0].rstrip("/") or "/" for route in routes}
    without = sorted(p for p in paths if needed_scope("GET", p) is needed_scope("PUT", p) is KeyScope.ADMIN)
    assert without == []
    assert needed_scope("POST", "/v1/feedback") is KeyScope.FEEDBACK
    assert needed_scope("POST", "/releases/icons/promote") is KeyScope.PROMOTE
    assert needed_scope("DELETE", "/v1/anything") is KeyScope.ADMIN
    assert needed_scope("GET", "/v1/embeddings-of-others") is KeyScope.ADMIN
    assert needed_scope("GET", "/staticx") is KeyScope.ADMIN
    assert len({(rule.prefix, rule.methods) for rule in SCOPE_RULES}) == len(SCOPE_RULES)


def test_a_revoked_key_is_refused_within_two_seconds(server: Guarded) -> None:
    issued = create_key(server.store, "soon lost", (KeyScope.INFER,), "ada", "tests")
    with httpx.Client(base_url=server.base, headers={"x-api-key": issued.secret}) as client:

        def wait_for(status: int) -> float:
            start = time.monotonic()
            while client.get("/v1/models").status_code != status:
                assert time.monotonic() - start < 60
                time.sleep(0.05)
            return time.monotonic() - start

        wait_for(200)
        revoke_key(server.store, issued.key.id, "ada", "lost")
        wait_for(401)
        assert code_of(client.get("/v1/models")) == "revoked_api_key"


def test_a_key_that_has_spent_everything_waits(server: Guarded) -> None:
    with server.client("poor") as client:
        answers = [client.get("/v1/models") for _ in range(8)]
        assert [each.status_code for each in answers[:5]] == [200] * 5
        limited = answers[-1]
        assert (limited.status_code, code_of(limited)) == (429, "rate_limited")
        assert 1 <= int(limited.headers["retry-after"]) <= 2
        assert limited.headers["x-ratelimit-limit"] == "6"
        assert limited.headers["x-ratelimit-remaining"] == "0"
        assert int(limited.headers["x-ratelimit-reset"]) >= 1
        big = client.post(EMBEDDINGS, json={"input": ["a " * 4_000] * 2}, headers={"accept": "*/*"})
        assert big.status_code in {413, 429}


def test_a_person_signs_in_with_a_key_and_out_again(server: Guarded) -> None:
    own = {"origin": server.base}
    with server.client() as client:
        first = client.get("/releases?name=icons")
        assert (first.status_code, first.headers["location"]) == (303, "/sign-in?next=%2Freleases%3Fname%3Dicons")
        wrong = client.post("/sign-in", data={"key": "clr_x", "next": "/releases"}, headers=own)
        assert wrong.status_code == 401
        assert "not a valid key" in wrong.text
        answer = client.post("/sign-in", data={"key": f" {server.keys['reader']} ", "next": "/releases"}, headers=own)
        assert (answer.status_code, answer.headers["location"]) == (303, "/releases")
        cookie = answer.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "samesite=strict" in cookie.lower()
        assert server.keys["reader"] not in cookie
        shown = client.get("/releases")
        assert shown.status_code == 200
        assert "Signed in as reader" in shown.text
        assert client.post("/describe", headers=own).status_code == 403  # the scope of the key
        assert client.post("/sign-out", headers=own).headers["location"] == "/sign-in"
        assert client.get("/releases").status_code == 303


def test_a_form_of_another_site_cannot_use_a_session(server: Guarded) -> None:
    session = Sessions(server.store, 60).issue(server.ids["admin"], time.time())
    with server.client(cookies={SESSION_COOKIE: session}) as client:
        assert client.get("/releases").status_code == 200
        assert client.post(EMBEDDINGS, json=CAT).status_code == 401
        assert client.post(EMBEDDINGS, json=CAT, headers={"origin": server.base}).status_code == 200
        for headers in ({"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site"}, {"origin": "null"}):
            assert client.post(EMBEDDINGS, json=CAT, headers=headers).status_code == 403
        foreign = {"origin": "https://evil.example"}
        assert client.post("/sign-in", data={"key": server.keys["admin"]}, headers=foreign).status_code == 403


def test_a_changed_or_old_cookie_is_no_session(server: Guarded) -> None:
    now = time.time()
    sessions = Sessions(server.store, 60)
    cookie = sessions.issue(server.ids["infer"], now)
    assert sessions.key_id(cookie, now) == server.ids["infer"]
    assert sessions.key_id(cookie, now + 61) == ""
    other = cookie.replace(server.ids["infer"], server.ids["admin"])
    for wrong in (other, cookie[:-1], cookie + "0", "", "...", cookie.replace(".", ".9", 1), "\ud800.1.a.b"):
        assert sessions.key_id(wrong, now) == "", wrong


@pytest.mark.parametrize("path", ["//evil.example", "/\\evil.example", "https://evil.example", "", "/a\nb", "/sign-in"])
def test_after_the_sign_in_nobody_is_sent_elsewhere(path: str) -> None:
    assert own_path(path) == "/"


@given(st.text())
def test_a_path_to_go_to_is_on_this_server(path: str) -> None:
    assert httpx.URL("http://a.example/").join(own_path(path)).host == "a.example"


def test_only_named_hosts_and_origins_are_accepted(server: Guarded) -> None:
    with server.client("infer") as client:
        for host, status in (
            ("models.example.org", 200),
            ("MODELS.example.org:8443", 200),
            ("evil.example", 421),
            ("models.example.org.evil.example", 421),
            ("10.0.0.5", 421),  # the server listens on the loopback address
        ):
            assert client.get("/v1/models", headers={"host": host}).status_code == status, host
        for origin, status in (
            ("https://app.example.org", 200),
            ("http://app.example.org", 403),
            ("https://app.example.org.evil.example", 403),
            ("https://models.example.org", 403),  # this server is reached over http here
        ):
            headers = {"origin": origin, "host": "models.example.org"}
            assert client.post(EMBEDDINGS, json=CAT, headers=headers).status_code == status, origin
        proxied = {"origin": "https://models.example.org", "x-forwarded-proto": "https"}
        for name in ("host", "x-forwarded-host"):
            headers = proxied | {name: "models.example.org"}
            assert client.post(EMBEDDINGS, json=CAT, headers=headers).status_code == 200
        spoofed = {"x-forwarded-host": "evil.example"}
        assert client.get("/v1/models", headers=spoofed).status_code == 421


def scope(client: str, **headers: str) -> dict[str, object]:
    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http", "client": (client, 1234), "scheme": "http", "headers": [(b"host", b"inner"), *pairs]}


@pytest.mark.parametrize(
    ("client", "forwarded", "seen"),
    [
        ("203.0.113.9", "1.1.1.1", "203.0.113.9"),  # not a proxy: its headers are what it would like to be
        ("10.0.0.2", "198.51.100.7", "198.51.100.7"),
        ("10.0.0.2", "1.1.1.1, 198.51.100.7", "198.51.100.7"),  # what stands before it may be invented
        ("10.0.0.2", "1.1.1.1, 198.51.100.7, 10.9.9.9", "198.51.100.7"),
        ("10.0.0.2", "10.1.1.1", "10.1.1.1"),
        ("10.0.0.2", "nonsense", "10.0.0.2"),
        ("10.0.0.2", "198.51.100.7:4711", "198.51.100.7"),
        ("10.0.0.2", "[2001:db8::1]:443", "2001:db8::1"),
        ("::ffff:10.0.0.2", "198.51.100.7", "198.51.100.7"),
        ("10.0.0.2", ", ,", "10.0.0.2"),
    ],
)
def test_only_a_trusted_proxy_says_who_sent_a_request(client: str, forwarded: str, seen: str) -> None:
    given_scope = scope(client, x_forwarded_for=forwarded, x_forwarded_proto="https", x_forwarded_host="outer")
    apply_forwarded(given_scope, AccessConfig(proxies=("10.0.0.0/8",)).networks)
    address, _ = given_scope["client"]  # type: ignore[misc]
    assert address == seen
    trusted = not client.startswith("203")
    assert given_scope["scheme"] == ("https" if trusted else "http")
    assert dict(given_scope["headers"])[b"host"] == (b"outer" if trusted else b"inner")  # type: ignore[call-overload]


def test_without_proxies_no_header_is_believed() -> None:
    given_scope = scope("127.0.0.1", x_forwarded_for="1.1.1.1", x_forwarded_host="evil.example")
    before = dict(given_scope)
    apply_forwarded(given_scope, ())
    assert given_scope == before


@pytest.mark.parametrize("access", [AccessConfig(), AccessConfig(keys="off"), AccessConfig(proxies=("10.0.0.1",))])
def test_strangers_are_not_let_in_without_keys(tmp_path: Path, access: AccessConfig) -> None:
    with open_store(tmp_path / "home") as store:
        host = "127.0.0.1" if access.proxies else "0.0.0.0"
        with pytest.raises(InputError, match="API key|demands no key"):
            run(create_app(store, None, config=ServeConfig(access=access)), host=host, port=0)


def test_a_server_for_others_accepts_addresses_but_no_unknown_names(tmp_path: Path) -> None:
    with open_store(tmp_path / "home") as store:
        control = AccessControl(AccessConfig(), store)
        assert not control.is_required
        create_key(store, "a", (KeyScope.INFER,), "ada", "tests")
        control.refresh()
        control.check_start("0.0.0.0", is_loopback=False)
        assert control.is_required
        assert control.accepts_host("192.0.2.1")
        assert control.accepts_host("2001:db8::1")
        assert not control.accepts_host("rebound.example")
        assert "other computers" in control.start_line()


def test_revoking_the_last_key_does_not_open_the_server(tmp_path: Path) -> None:
    with open_store(tmp_path / "home") as store:
        key = create_key(store, "a", (KeyScope.INFER,), "ada", "tests").key
        revoke_key(store, key.id, "ada", "tests")
        assert AccessControl(AccessConfig(), store).is_required
        assert not AccessControl(AccessConfig(keys="off"), store).is_required
