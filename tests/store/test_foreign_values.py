"""Names and numbers that no database can hold are unknown names, not failures."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clerestory.core.errors import InputError, NotFound
from clerestory.store import Store

ANY_TEXT = st.text(st.characters(), max_size=30)  # with surrogates, NUL and every other character
SHARED_STORE = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@SHARED_STORE
@given(ref=ANY_TEXT | st.builds("{}@{}".format, ANY_TEXT, ANY_TEXT | st.integers().map(str)))
def test_no_reference_is_anything_but_unknown(store: Store, ref: str) -> None:
    with pytest.raises(InputError):
        store.resolve(ref)


@pytest.mark.parametrize("digits", [18, 19, 20, 4300, 5000])
def test_a_release_number_of_many_digits_is_unknown(store: Store, digits: int) -> None:
    with pytest.raises(NotFound, match="there is no release or model named"):
        store.resolve("icons@" + "9" * digits)


@SHARED_STORE
@given(name=ANY_TEXT, number=st.integers(-(2**80), 2**80))
def test_no_release_is_found_under_any_name_and_number(store: Store, name: str, number: int) -> None:
    with pytest.raises(InputError):
        store.release(name, number)


@SHARED_STORE
@given(text=ANY_TEXT)
def test_every_look_up_by_a_foreign_text_ends_in_a_result_or_an_input_error(store: Store, text: str) -> None:
    for look_up in (
        store.evidence,
        store.dataset,
        store.cache_get,
        store.releases,
        store.aliases,
        lambda name: store.alias(name, name),
        lambda name: store.find_evidence(name, model=name),
    ):
        with contextlib.suppress(InputError):
            assert not look_up(text)  # type: ignore[operator]  # each takes one text
