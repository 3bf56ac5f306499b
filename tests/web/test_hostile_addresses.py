"""Every address with every foreign value in it is answered, never with a 500."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient
from tests.web.conftest import BASE, wait_ready

from clerestory.core.sample import Dataset
from clerestory.store import open_store
from clerestory.web import create_app

ADDRESSES = (
    "/?q={}",
    "/?like={}",
    "/?style={}&n={}",
    "/?q=cat&n={}",
    "/images/{}",
    "/images/{}?v={}",
    "/releases?name={}",
    "/releases/{}/1",
    "/releases/icons/{}",
    "/releases/{}/{}",
    "/evidence/{}",
    "/evidence/{}.json",
    "/describe/{}",
    "/describe/{}/{}.webp",
    "/describe/{}/captions.csv",
    "/describe/{}/progress",
    "/folder/images/{}/{}",
    "/static/{}",
    "/v1/models/{}",
    "/v1/{}",
    "/{}",
)
VALUES = (
    "%00",
    "%ff%fe",
    "%ED%A0%80",
    "%F0%9F%98%80",
    "9" * 18,
    "9" * 19,
    "9" * 5000,
    "-1",
    "0",
    "1e9",
    "٣",
    "a" * 300,
    "a" * 20_000,
    "..%2F..%2Fetc%2Fpasswd",
    "%5C..%5C",
    "//",
    "%",
    "%25",
    "*",
    "'",
    "[",
    "@:",
    "icons%4099999999999999999999",
    "con",
    "%3Cscript%3E",
)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, few_icons: Dataset) -> Iterator[TestClient]:
    ids = {sample.id for sample in few_icons.samples[:24]}
    data = few_icons.filter(lambda sample: sample.id in ids)
    app = create_app(open_store(tmp_path_factory.mktemp("addresses") / "home"), data, model=str(tiny_model))
    with TestClient(app, base_url=BASE, headers={"origin": BASE}, raise_server_exceptions=False) as client:
        wait_ready(client)
        yield client


@pytest.mark.parametrize("address", ADDRESSES)
def test_foreign_values_in_addresses_are_answered_below_500(small: TestClient, address: str) -> None:
    for value in VALUES:
        answer = small.get(address.replace("{}", value))
        assert answer.status_code < 500, (address, value[:40])


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(ADDRESSES), st.binary(max_size=40) | st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
)
def test_any_bytes_in_addresses_are_answered_below_500(small: TestClient, address: str, value: bytes | str) -> None:
    assert small.get(address.replace("{}", quote(value, safe=""))).status_code < 500


@pytest.mark.parametrize("number", ["9" * 19, "9" * 5000])
def test_a_number_of_many_digits_is_an_unknown_address(small: TestClient, number: str) -> None:
    assert small.get(f"/releases/icons/{number}").status_code == 404
    assert small.get(f"/describe/x/{number}.webp").status_code == 404


@pytest.mark.parametrize("field", ["do", "caption-1", "caption-" + "9" * 5000, "\x00"])
def test_foreign_values_in_forms_are_answered_below_500(small: TestClient, field: str) -> None:
    review = small.post("/describe/examples", follow_redirects=False).headers["location"]
    for value in ("accept-" + "9" * 5000, "use-1-" + "9" * 6, "remove-٣", "\x00", "\ufffe", "x" * 20_000):
        assert small.post(review, data={field: value}).status_code < 500


@pytest.mark.parametrize("boundary", ["", "x" * 70, "x" * 5000, '"', "\xff", "x; boundary=y"])
@pytest.mark.parametrize(
    "start", [b"", b"--", b"--x", b"--x\r\n", b"--x\r\nContent-Disposition: form-data; name=\xff\r\n\r\n"]
)
def test_foreign_forms_are_answered_below_500(small: TestClient, boundary: str, start: bytes) -> None:
    kind = f"multipart/form-data; boundary={boundary}".encode("latin-1")
    answer = small.post("/describe", content=start * 20, headers={"content-type": kind})  # type: ignore[dict-item]
    assert answer.status_code < 500
