"""Payloads are decoded in slices as the standard library decodes them at once."""

from __future__ import annotations

import base64
import tracemalloc
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clerestory.web import data_uri
from clerestory.web.data_uri import decode_payload, unquote

PIECES = st.lists(st.sampled_from(["%", "%4", "%41", "%fF", "%zz", "a", "=", "+"])).map("".join)
ANY = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(autouse=True)
def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_uri, "SLICE_BYTES", 4)


@ANY
@given(PIECES)
def test_escapes_are_replaced_wherever_a_slice_ends(payload: str) -> None:
    assert unquote(payload.encode()) == unquote_to_bytes(payload)


@ANY
@given(st.binary(), st.booleans())
def test_base64_is_decoded_wherever_a_slice_ends(content: bytes, url_safe: bool) -> None:
    encoded = (base64.urlsafe_b64encode if url_safe else base64.b64encode)(content).decode()
    assert decode_payload(encoded, is_base64=True) == content
    assert decode_payload(encoded.rstrip("="), is_base64=True) == content
    assert decode_payload(" " + encoded.replace("=", "%3D"), is_base64=True) == content


@pytest.mark.parametrize("payload", ["A", "AA==AAAA", "AAA=AAAA", "AA!A", "\u00e9AAA", "AAAAA"])
def test_what_is_not_base64_is_an_error(payload: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  the caller writes the sentence
        decode_payload(payload, is_base64=True)


def test_many_escapes_take_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """The standard library makes an object of each, in one call that no other thread can interrupt."""
    monkeypatch.undo()
    payload = "%41" * 1_500_000
    tracemalloc.start()
    try:
        assert decode_payload(payload, is_base64=False) == b"A" * 1_500_000
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * len(payload)
