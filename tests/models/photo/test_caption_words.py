"""The vocabulary of a decoder that is trained on a user's captions: spelled as that user writes."""

from __future__ import annotations

import pytest

from clerestory.models.decoder import BEGIN, END, UNKNOWN
from clerestory.models.photo.caption_words import MAX_WORDS, SPECIAL, CaptionWords, padded

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
    cut = words.ids("two dogs two dogs two dogs", 6)
    assert len(cut) == 6
    assert END not in cut, "a caption does not end where it is cut"


@pytest.mark.parametrize("captions", [("",), (), ("   ", "!!!")])
def test_captions_without_words_make_an_empty_vocabulary(captions: tuple[str, ...]) -> None:
    words = words_of(captions)
    assert words.spellings == SPECIAL
    assert words.text([]) == ""


def test_other_scripts_are_words_too() -> None:
    words = words_of(("собака на снегу", "собака и снег"), min_count=2)
    assert words.spellings[len(SPECIAL) :] == ("собака",)
    hindi = words_of(("हिन्दी में कुत्ता।", "कुत्ता।"), min_count=2)
    assert hindi.text(hindi.ids("कुत्ता", 24)[1:-1]) == "कुत्ता।", "marks belong to words, and a script has its own stop"
    composed = words_of(("Cafe\u0301 am See", "im Caf\u00e9"), min_count=2)
    assert [spelling.lower() for spelling in composed.spellings[len(SPECIAL) :]] == ["caf\u00e9"]


def test_settings_are_read_as_they_were_written_and_others_are_refused() -> None:
    words = words_of(CAPTIONS)
    assert CaptionWords.from_settings(words.to_settings()) == words
    good = words.to_settings()
    for broken in (
        None,
        {},
        {**good, "spellings": 3},
        {**good, "spellings": ["dog"]},
        {**good, "spellings": [*SPECIAL, 3]},
        {**good, "spellings": [*SPECIAL, "dog", "dog"]},
        {**good, "spellings": [*SPECIAL, *map(str, range(MAX_WORDS))]},
        {**good, "stop": "<script>"},
    ):
        with pytest.raises((KeyError, TypeError, ValueError)):
            CaptionWords.from_settings(broken)


def test_rows_are_padded_to_the_longest() -> None:
    assert padded([[1, 5, 2], [1, 2]]) == [[1, 5, 2], [1, 2, 0]]
