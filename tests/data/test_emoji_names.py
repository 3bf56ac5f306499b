"""From the names that icon sets use to emoji, concepts, variants and plain words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clerestory.core.sample import Dataset
from clerestory.data import caption_phrases, emoji_names

WAVE, ASTRONAUT = "1f44b", "1f9d1-200d-1f680"


@pytest.mark.parametrize(
    ("code", "concept", "tone", "gender"),
    [
        ("1F44B", WAVE, "none", "none"),
        ("1F44B-1F3FD", WAVE, "medium", "none"),
        ("1F469-1F3FF-200D-1F680", "1f9d1-1f680", "dark", "woman"),
        ("1F468-200D-1F680", "1f9d1-1f680", "none", "man"),
        ("1F3C3-1F3FB-200D-2640-FE0F-200D-27A1-FE0F", "1f3c3", "light", "woman"),
        ("1F468-200D-1F469-200D-1F466", emoji_names.FAMILY, "none", "none"),
        ("1F469-200D-2764-FE0F-200D-1F48B-200D-1F469", emoji_names.KISS, "none", "woman"),
        ("1F468-1F3FB-200D-2764-FE0F-200D-1F468-1F3FF", emoji_names.LOVERS, "mixed", "man"),
        ("1FAF1-1F3FB-200D-1FAF2-1F3FF", emoji_names.HANDSHAKE, "mixed", "none"),
        ("1F1E7-1F1FB", "1f1f3-1f1f4", "none", "none"),
        ("0031-FE0F-20E3", "31-20e3", "none", "none"),
        ("31", "31-20e3", "none", "none"),
        ("1F3FD", "1f3fd", "none", "none"),
        ("2640-FE0F", "2640", "none", "none"),
        ("1F478-1F3FE", "1fac5", "medium-dark", "woman"),
        ("2764-FE0F", "2764", "none", "none"),
    ],
)
def test_variants_are_taken_away(code: str, concept: str, tone: str, gender: str) -> None:
    plain = "-".join(emoji_names.code_points(code))
    assert emoji_names.concept_code(plain) == concept
    assert emoji_names.skin_tone(plain) == tone
    assert emoji_names.gender(plain) == gender


@given(st.sampled_from([WAVE, ASTRONAUT, "1f3c3", "1f469-200d-1f33e"]), st.sampled_from(sorted(emoji_names.TONES)))
def test_a_tone_never_changes_the_concept(code: str, tone: str) -> None:
    first, *rest = code.split("-")
    toned = "-".join([first, tone, *rest])
    assert emoji_names.concept_code(toned) == emoji_names.concept_code(code)
    assert emoji_names.skin_tone(toned) == emoji_names.TONES[tone]
    assert emoji_names.without_tone(toned) == code


@pytest.mark.parametrize(
    ("label", "phrase"),
    [
        ("red apple", "red apple"),
        ("flag: Kenya", "flag of Kenya"),
        ("flag: United States", "flag of the United States"),
        ("family: man, woman, boy", "family of man, woman and boy"),
        ("kiss: woman, man", "kiss between woman and man"),
        ("couple with heart: man, man", "couple with heart, man and man"),
        ("woman: dark skin tone, red hair", "woman with red hair and dark skin tone"),
        ("man: medium skin tone, bald", "bald man with medium skin tone"),
        ("person walking: light skin tone, facing right", "person walking facing right with light skin tone"),
        ("keycap: #", "keycap number sign"),
        ("Japanese “here” button", 'Japanese "here" button'),
        ("woman’s boot", "woman's boot"),
    ],
)
def test_labels_become_plain_phrases(label: str, phrase: str) -> None:
    assert caption_phrases.phrase(label) == phrase


@pytest.mark.parametrize(
    ("sample", "caption", "concept"),
    [
        ("fxemoji/loudlycrying", "loudly crying face", "loudly-crying-face"),
        ("fxemoji/gma", "old woman", "older-person"),
        ("fxemoji/kiss", "face blowing a kiss", "face-blowing-a-kiss"),
        ("fxemoji/dog", "dog face", "dog-face"),
        ("fxemoji/foxwry", "fox with wry smile", "foxwry"),
        ("fxemoji/cjkunifiedideograph-a", 'Japanese "reserved" button', "japanese-reserved-button"),
        ("emojione-v1/flag-for-france", "flag of France", "flag-france"),
        ("emojione-v1/police-car-light", "police car light", "police-car-light"),
        ("emojione-v1/back-of-envelope", "back of envelope", "back-of-envelope"),
        ("emojione/bear-face", "bear", "bear"),
        ("noto/woman-climbing-dark-skin-tone", "woman climbing with dark skin tone", "person-climbing"),
        ("fluent-emoji-flat/skier-medium-dark", "skier with medium-dark skin tone", "skier"),
        ("openmoji/alabama-flag", "flag of Alabama", "alabama-flag"),
    ],
)
def test_odd_names_are_understood(icons: Dataset, sample: str, caption: str, concept: str) -> None:
    assert icons[sample].caption == caption
    assert icons[sample].concept == concept
