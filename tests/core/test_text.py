"""The words of a text, in any script."""

from __future__ import annotations

import unicodedata

import pytest

from clerestory.core.text import words_of


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A dog, two cats.", ["A", "dog", "two", "cats"]),
        ("grandma's ice-cream, 3.5 cm", ["grandma's", "ice-cream", "3.5", "cm"]),
        ("grandma’s ‘hat’", ["grandma’s", "hat"]),
        ("'quoted' -- a_b ... end-", ["quoted", "a", "b", "end"]),
        ("Straße Ünal x²", ["Straße", "Ünal", "x²"]),
        ("एक लड़की किताब पढ़ रही है।", ["एक", "लड़की", "किताब", "पढ़", "रही", "है"]),
        ("கடற்கரையில் நாய்", ["கடற்கரையில்", "நாய்"]),
        ("שָׁלוֹם", ["שָׁלוֹם"]),
        ("می‌خواهم", ["می‌خواهم"]),
        ("I ❤️ 🐕‍🦺 dogs", ["I", "dogs"]),
        ("", []),
    ],
)
def test_words_of(text: str, words: list[str]) -> None:
    assert words_of(text) == [unicodedata.normalize("NFC", word) for word in words]


def test_composed_and_decomposed_text_have_the_same_words() -> None:
    composed = "Ein Café in München, tiếng Việt"
    decomposed = unicodedata.normalize("NFD", composed)
    assert decomposed != composed
    assert words_of(decomposed) == words_of(composed) == ["Ein", "Café", "in", "München", "tiếng", "Việt"]
