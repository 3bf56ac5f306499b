"""Queries in other languages are recognised, English ones, also short ones and names, are not mistaken for them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from clerestory.apps.query_language import QueryLanguages
from clerestory.core.sample import Caption, Dataset, Sample
from clerestory.models import open_reference
from clerestory.models.languages import card_languages, languages_of, vocabulary_of, whole_words

# The limits were set so that none of "english" is mistaken; nothing else of this file was used to set them.
QUERIES = json.loads(Path(__file__).with_name("queries.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("with_captions", [True, False], ids=["icons", "no captions"])
def test_other_languages_are_recognised_and_english_is_not_mistaken(icons: Dataset, with_captions: bool) -> None:
    model = open_reference("starter")
    assert languages_of(model) == ("en",)
    languages = QueryLanguages(model, icons.samples if with_captions else ())
    assert languages.names == ("English",)
    assert [query for query in QUERIES["english"] if languages.check(query)] == []
    english = QUERIES["new_english"]
    false_alarms = [query for query in english if languages.check(query)]
    recognised = {}
    named = []
    for language, queries in QUERIES["other_languages"].items():
        found = [languages.check(query) for query in queries]
        recognised[language] = np.mean([each is not None for each in found])
        named += [each.language == language for each in found if each is not None]
    assert len(false_alarms) <= 0.02 * len(english), false_alarms
    assert min(recognised.values()) >= 0.5, recognised
    assert np.mean(list(recognised.values())) >= 0.85, recognised
    assert np.mean(named) >= 0.9


def test_a_single_word_may_be_a_name_unless_it_is_in_another_script() -> None:
    languages = QueryLanguages(open_reference("starter"))
    assert [languages.check(query) for query in ("siesta", "Schnauzer", "perro", "", "42")] == [None] * 5
    found = languages.check("猫")
    assert found is not None
    assert found.sentence.endswith("but the model was trained on English only; write it in English")


class _Model:
    def __init__(self, *languages: str, vocabulary: str = "a dog on the beach") -> None:
        self.languages, self.vocabulary = languages, frozenset(vocabulary.split())


def test_other_models_are_judged_by_the_languages_of_their_model_card() -> None:
    spanish, german = "un perro en la playa con su amigo", "ein Hund spielt mit dem Ball am Strand"
    assert QueryLanguages(_Model("es", "en")).check(spanish) is None
    other = QueryLanguages(_Model("es", "en")).check(german)
    assert other is not None
    assert other.language == "German"
    assert other.known == ("Spanish", "English")
    assert QueryLanguages(_Model("multilingual")).check(german) is None
    unknown = QueryLanguages(_Model()).check(german)
    assert unknown is not None
    assert "not known which languages" in unknown.sentence


def test_captions_in_another_language_are_evidence() -> None:
    samples = [Sample("1", "0" * 64, (Caption("cat"), Caption("gato feliz", "es"))), Sample("2", "0" * 64, ())]
    model = _Model("en")
    assert QueryLanguages(model).check("gato feliz") is None
    found = QueryLanguages(model, samples).check("gato feliz")
    assert found is not None


def test_languages_of_a_model_card(tmp_path: Path) -> None:
    assert card_languages(tmp_path) == ()
    for header, expected in (("language: en", ("en",)), ("language:\n- en\n- zh", ("en", "zh")), ("license: mit", ())):
        (tmp_path / "README.md").write_text(f"---\n{header}\n---\n# A model\n")
        assert card_languages(tmp_path) == expected
    (tmp_path / "README.md").write_text("---\nlanguage: [en\n---\n")
    assert card_languages(tmp_path) == ()


def test_whole_words_of_each_kind_of_tokenizer() -> None:
    assert whole_words(["dog", "##s", "Cat"]) == {"dog", "cat"}
    assert whole_words(["dog</w>", "do", "g"]) == {"dog"}
    assert whole_words(["\u2581dog", "s"]) == whole_words(["\u0120dog", "s"]) == {"dog"}
    assert "beach" in vocabulary_of(open_reference("starter"))
