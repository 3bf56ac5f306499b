"""The vocabulary of a decoder that is trained on a user's captions: spelled as that user writes."""

from __future__ import annotations

import pytest

from clerestory.models.decoder import BEGIN, END, UNKNOWN
from clerestory.models.photo.caption_words import SPECIAL, CaptionWords, padded

CAPTIONS = (
    "Two dogs at Lake Constance.",
    "Dogs playing near Lake Constance!",
    "The ice-cream shop, two doors down.",
    "Grandma's ice-cream, and two dogs.",
)


def words_of(captions: tuple[str, ...], min_count: int = 2, max_words: int = 100) -> CaptionWords:
    return CaptionWords.of(captions, min_count, max_words)


def test_a_caption_is_written_as_the_user_writes() -> None:
    words = words_of(CAPTIONS)
    ids = words.ids("dogs at lake constance", 24)
    assert ids[0] == BEGIN
    assert ids[-1] == END
    assert ids.count(UNKNOWN) == 1, "“at” occurs once, so it is unknown"
    known = [i for i in ids[1:-1] if i != UNKNOWN]
    assert words.text(known) == "Dogs Lake Constance."
    plain = words_of(tuple(caption.lower().rstrip(".!") for caption in CAPTIONS))
    assert plain.text(plain.ids("Two dogs", 24)[1:-1]) == "two dogs"


def test_hyphens_and_apostrophes_stay_inside_a_word() -> None:
    words = words_of(CAPTIONS, min_count=1)
    assert {"ice-cream", "grandma's"} <= {spelling.lower() for spelling in words.spellings}


def test_the_rarest_words_are_left_out_of_a_full_vocabulary_and_long_captions_are_cut() -> None:
    words = words_of(CAPTIONS, min_count=1, max_words=len(SPECIAL) + 2)
    assert words.spellings[len(SPECIAL) :] == ("dogs", "two"), "three captions each; then in the order of the alphabet"
    assert len(words.ids("two dogs two dogs two dogs", 6)) == 6
    assert words.ids("two dogs two dogs two dogs", 6)[-1] == END


@pytest.mark.parametrize("captions", [("",), (), ("   ", "!!!")])
def test_captions_without_words_make_an_empty_vocabulary(captions: tuple[str, ...]) -> None:
    words = words_of(captions)
    assert words.spellings == SPECIAL
    assert words.text([]) == ""


def test_other_scripts_are_words_too() -> None:
    words = words_of(("собака на снегу", "собака и снег"), min_count=2)
    assert words.spellings[len(SPECIAL) :] == ("собака",)


def test_settings_are_read_as_they_were_written_and_others_are_refused() -> None:
    words = words_of(CAPTIONS)
    assert CaptionWords.from_settings(words.to_settings()) == words
    for broken in ({}, {**words.to_settings(), "spellings": ["dog"]}, {**words.to_settings(), "spellings": 3}, None):
        with pytest.raises((KeyError, TypeError, ValueError)):
            CaptionWords.from_settings(broken)


def test_rows_are_padded_to_the_longest() -> None:
    assert padded([[1, 5, 2], [1, 2]]) == [[1, 5, 2], [1, 2, 0]]
