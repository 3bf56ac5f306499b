"""Whether a query is in a language that the model was not trained on; such a query finds wrong images without an error.

Two kinds of evidence are combined, because either alone mistakes names and rare words for another language:

- py3langid (BSD-3-Clause, offline), a detector by letter sequences, gives the probability of each language;
- words: those that the model's tokenizer does not split, and those of the dataset's captions, whose language is known.

A query of two words or more is in another language if the detector is sure (``SURE``) and enough of its words are
unknown. If most of its words are in captions of other languages only, less certainty is needed (``LIKELY``). A single
word is too little: it may be a name. Letters of another script need no more evidence. The limits were set on the names
of the built-in icons in eight languages, their English keywords, and 200 English queries with names and loan words
("koi pond"); ``tests/apps/test_query_language.py`` measures queries that were not used for that.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

from clerestory.core.sample import Sample
from clerestory.models.languages import LANGUAGE_NAMES, language_detector, languages_of, vocabulary_of

SURE = 0.99
LIKELY = 0.9
MIN_UNKNOWN = 0.6  # share of words that the tokenizer splits: of two words both, because one may be a loan word
MIN_UNKNOWN_LONG = 0.2  # of four words or more, for which the detector is more reliable
LONG = 4
MANY = frozenset({"multilingual", "multi", "mul"})  # how model cards say "many languages"
ENGLISH = ("en",)


@dataclass(frozen=True, slots=True)
class ForeignQuery:
    """A query in a language that the model was not trained on.

    Attributes:
        language: the name of the language; empty if it is not clear which one it is.
        known: the names of the model's languages; empty if they are not known.
    """

    language: str
    known: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """What that means for the user, with the remedy."""
        seems = f"this seems to be {self.language}" if self.language else "this seems to be in another language"
        if not self.known:
            return f"{seems}, and it is not known which languages the model was trained on; compare with English"
        return f"{seems}, but the model was trained on {_listed(self.known)} only; write it in {self.known[0]}"


class QueryLanguages:
    """Recognises queries in a language that a model was not trained on.

    Args:
        model: whose languages and vocabulary count; one that does not name its languages is judged as an English one.
        samples: the images to search, whose captions are evidence of the language of a word.
    """

    def __init__(self, model: object, samples: Iterable[Sample] = ()) -> None:
        self.codes = tuple(dict.fromkeys(code.partition("-")[0] for code in languages_of(model)))
        self._accepted = frozenset(self.codes or ENGLISH)
        self._vocabulary = vocabulary_of(model)
        self._caption_words: dict[str, str] = {}  # words of captions in other languages only, and their language
        if not self._accepted & MANY:
            self._caption_words = self._words_of_other_languages(samples)

    @property
    def names(self) -> tuple[str, ...]:
        """The model's languages for people; empty if they are not known, or are many."""
        return () if self._accepted & MANY else tuple(LANGUAGE_NAMES.get(code, code) for code in self.codes)

    def check(self, query: str) -> ForeignQuery | None:
        """The language of a query that the model was not trained on; None for any other query."""
        words = _words(query)
        if not words or self._accepted & MANY or not self._accepted <= LANGUAGE_NAMES.keys():
            return None
        from_captions = [self._caption_words[word] for word in words if word in self._caption_words]
        unknown = sum(word not in self._vocabulary for word in words) / len(words)
        minimum = MIN_UNKNOWN_LONG if len(words) >= LONG else MIN_UNKNOWN
        in_latin, is_of_captions = is_latin(query), 2 * len(from_captions) > len(words)
        if in_latin and (len(words) == 1 or not (is_of_captions or unknown >= minimum)):
            return None  # without loading the detector
        probabilities = dict(language_detector().rank(query.lower()))
        others = {code: p for code, p in probabilities.items() if code not in self._accepted}
        best = max(others, key=others.__getitem__)
        total = sum(others.values())
        if not in_latin:
            foreign = best == max(probabilities, key=probabilities.__getitem__)
        else:
            foreign = total >= (LIKELY if is_of_captions else SURE)
        if not foreign:
            return None
        if from_captions and others[best] < 0.5:
            best = max(set(from_captions), key=from_captions.count)
        return ForeignQuery(LANGUAGE_NAMES[best] if others[best] >= 0.5 or from_captions else "", self.names)

    def _words_of_other_languages(self, samples: Iterable[Sample]) -> dict[str, str]:
        texts = {(caption.lang.partition("-")[0], caption.text) for sample in samples for caption in sample.captions}
        accepted = {word for code, text in texts if code in self._accepted for word in _words(text)}
        others = {word: code for code, text in sorted(texts) if code in LANGUAGE_NAMES for word in _words(text)}
        return {w: code for w, code in others.items() if w not in accepted and w not in self._vocabulary}


def _words(text: str) -> list[str]:
    """The words in lower case and without accents, as the tokenizers of English models read them."""
    plain = "".join(c for c in unicodedata.normalize("NFD", text.lower()) if not unicodedata.combining(c))
    return re.findall(r"[^\W\d_]+", plain)


def is_latin(text: str) -> bool:
    """Whether most letters of a text are Latin."""
    letters = [c for c in text if c.isalpha()]
    return 2 * sum("LATIN" in unicodedata.name(c, "") for c in letters) > len(letters)


def _listed(names: tuple[str, ...]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
