"""Which names of supplementary images are names of held-out concepts, so that they must not be trained on.

"Nothing held out comes in" is a statement about meanings, so three comparisons are made. *Words*: in the singular and
by their stems ("skiing" for "skis", "japanese flag" for "flag: Japan"). *Spelling*: written together or apart
("rollercoaster" for "roller coaster"), a letter more, less or another ("fleur-de-lys" for "fleur-de-lis"), or cut short
("videocam" for "video camera"). *Meaning*: a cosine of at least 0.8 in the text tower ("racing car" for "race car").
The last one needs the tower, which this layer does not have: ``held_out_meanings.json`` has the names it excludes, and
``python -m bench.experiments.held_out_meanings`` makes that file; a test compares.

It errs on the side of dropping: a name too many costs one drawing of tens of thousands.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from functools import lru_cache
from importlib.resources import files

from clerestory.core.sample import TEST, VAL, Dataset

Key = frozenset[str]
MEANINGS = "held_out_meanings.json"
MIN_STEM = 3
MIN_WORD = 5  # letters of a word, or of a name written together, that are compared by their spelling
MIN_PREFIX = 7

_STOP_WORDS = frozenset(("with", "of", "the", "a", "and", "in", "on", "for")) | frozenset(
    ("face", "button", "sign", "symbol", "person", "man", "woman", "people")
)
_SUFFIXES = (
    *("ization", "ations", "ation", "nesses", "ments"),
    *("ings", "iers", "ness", "ment", "ians", "ing", "ier", "ers", "ors", "ies", "ian", "ese", "ish"),
    *("er", "or", "ed", "es", "ic", "al", "ly"),
)


def name_key(text: str) -> Key:
    """The content words of a name in the singular, as a set."""
    return frozenset(_singular(word) for word in words_of(text))


def words_of(text: str) -> list[str]:
    """The content words of a name, in their order."""
    found = re.findall(r"[a-z0-9]+", text.lower())
    return [word for word in found if word not in _STOP_WORDS and not word.isdigit()]


@lru_cache(maxsize=2**16)
def stem(word: str) -> str:
    """A word without its inflection and the commonest derivations, in the manner of Porter (1980), only bolder."""
    word = _singular(word)
    for suffix in _SUFFIXES:
        if word.endswith(suffix) and len(word) - len(suffix) >= MIN_STEM:
            word = word[: -len(suffix)]
            if len(word) > MIN_STEM and word[-1] == word[-2] and word[-1] not in "aeiouls":
                word = word[:-1]  # running → run
            break
    return word.rstrip("eyi") if len(word.rstrip("eyi")) >= MIN_STEM else word


class HeldOutNames:
    """The names of the held-out concepts of the icons.

    A name is held out when its words, singular and without stop words, are a subset of those of a held-out caption or
    concept ("apple" for "red apple"), contain all of them ("apple pie" for "apple"), or are one of its keywords; also
    by stems, by spelling and by meaning, as the module says.

    Args:
        icons: with their splits.
    """

    def __init__(self, icons: Dataset) -> None:
        held_out = [sample for sample in icons if sample.split in (TEST, VAL)]
        keywords = {c.text for sample in held_out for c in sample.captions[1:] if c.lang == "en"}
        names = {text for sample in held_out for text in (sample.caption, sample.concept)}
        self._keywords = {name_key(text) for text in keywords}
        self._names = _by_word(name_key(text) for text in names)
        self._stems = _by_word(_stems(text) for text in names)
        self._joined = {joined for text in names if len(joined := "".join(words_of(text))) >= MIN_WORD}
        self._near = {near for joined in self._joined for near in _deletions(joined)}
        self._prefixes = {joined[:end] for joined in self._joined for end in range(MIN_PREFIX, len(joined))}

    def __contains__(self, name: str) -> bool:
        words = name_key(name)
        return (
            words in self._keywords
            or _matches(words, self._names)
            or _matches(_stems(name), self._stems)
            or self._is_spelt_like_one("".join(words_of(name)))
            or self._is_compound(name)
            or name in held_out_meanings()
        )

    def _is_spelt_like_one(self, joined: str) -> bool:
        """Written together: equal except for one letter, or cut short."""
        if len(joined) < MIN_WORD:
            return False
        close = not self._near.isdisjoint(_deletions(joined)) and len(joined) > MIN_WORD
        return joined in self._joined or close or joined in self._prefixes

    def _is_compound(self, name: str) -> bool:
        """Whether one of its words, cut in two, has the stems of a held-out name."""
        words = words_of(name)
        for i, word in enumerate(words):
            for cut in range(MIN_STEM, len(word) - MIN_STEM + 1):
                parts = frozenset(stem(w) for w in (*words[:i], word[:cut], word[cut:], *words[i + 1 :]))
                if any(parts >= known for part in parts for known in self._stems.get(part, ()) if len(known) > 1):
                    return True
        return False


@lru_cache(maxsize=1)
def held_out_meanings() -> frozenset[str]:
    """The names with a cosine of at least 0.8 to a held-out caption that the other comparisons do not find."""
    content = json.loads(files("clerestory.data").joinpath(MEANINGS).read_text(encoding="utf-8"))
    return frozenset(content["names"])


def _by_word(keys: Iterable[Key]) -> dict[str, set[Key]]:
    """The keys by each of their words, since a match shares at least one."""
    found: dict[str, set[Key]] = {}
    for key in keys:
        for word in key:
            found.setdefault(word, set()).add(key)
    return found


def _matches(words: Key, names: dict[str, set[Key]]) -> bool:
    candidates = (name for word in words for name in names.get(word, ()))
    return any(words <= name or words >= name for name in candidates)


def _stems(text: str) -> Key:
    return frozenset(map(stem, words_of(text)))


def _deletions(word: str) -> set[str]:
    """The word, and the word without one of its letters: two words that are one edit apart have one in common."""
    return {word, *(word[:i] + word[i + 1 :] for i in range(len(word)))}


def _singular(word: str) -> str:
    if len(word) <= 3 or word.endswith("ss") or not word.endswith("s"):
        return word
    if word.endswith("ies"):
        return word[:-3] + "y"
    if word.endswith("es") and word[-3] in "sxzh":
        return word[:-2]
    return word[:-1]
