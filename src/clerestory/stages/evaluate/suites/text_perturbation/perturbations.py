"""The same caption as other people would write it: with typos, in capitals, in other words, in another order.

Every change hangs on the seed, the caption and the kind of change, and on nothing else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np

from clerestory.core.sample import Sample
from clerestory.stages.evaluate.shared.retrieval_split import normal

TYPOS, UPPER, LOWER, SYNONYMS, ORDER = "typos", "upper_case", "lower_case", "synonyms", "word_order"
KINDS = (TYPOS, UPPER, LOWER, SYNONYMS, ORDER)
NO_SYNONYM = "the data has no other words for it"
ONE_ORDER = "its words have no other order"
NO_LETTERS = "it has no word of four letters to mistype"
LETTERS_PER_TYPO = 8
LEAST_LETTERS = 4
MOST_SYNONYMS = 2


def perturb(caption: str, kind: str, seed: int, others: Sequence[str] = ()) -> tuple[str, str]:
    """The changed caption, or an empty one with the reason why it cannot be changed so.

    Args:
        caption: the words.
        kind: one of ``KINDS``.
        seed: of the choice.
        others: other words for the same thing, see ``other_words``.
    """
    rng = np.random.Generator(np.random.Philox(key=_number(seed, kind, caption)))
    if kind == UPPER:
        return caption.upper(), ""
    if kind == LOWER:
        return caption.lower(), ""
    if kind == TYPOS:
        return _typos(caption, rng)
    if kind == ORDER:
        return _reordered(caption, rng)
    if not others:
        return "", NO_SYNONYM
    chosen = sorted(rng.permutation(len(others))[:MOST_SYNONYMS].tolist())
    return ", ".join(others[i] for i in chosen), ""


def other_words(caption: str, samples: Iterable[Sample], lang: str) -> list[str]:
    """What else the pictures of a caption are called in a language; words that the caption holds already are not."""
    found: dict[str, str] = {}
    inside = set(normal(caption).replace(",", " ").replace(":", " ").split())
    for sample in samples:
        for each in sample.captions:
            fits = each.lang == lang or each.lang.startswith(lang + "-")
            if fits and each.text.strip() and not set(normal(each.text).split()) <= inside:
                found.setdefault(normal(each.text), each.text)
    found.pop(normal(caption), None)
    return [found[name] for name in sorted(found)]


def _typos(caption: str, rng: np.random.Generator) -> tuple[str, str]:
    """One slip in about eight letters, at least one: two letters swapped, one left out, or one doubled."""
    words = caption.split()
    long = [i for i, word in enumerate(words) if sum(c.isalpha() for c in word) >= LEAST_LETTERS]
    if not long:
        return "", NO_LETTERS
    slips = max(1, sum(len(word) for word in words) // LETTERS_PER_TYPO)
    for i in rng.permutation(long)[:slips].tolist():
        words[i] = _slip(words[i], rng)
    return " ".join(words), ""


def _slip(word: str, rng: np.random.Generator) -> str:
    # First letters are seldom mistyped, and are what readers go by.
    at = 1 + int(rng.integers(len(word) - 2))
    swapped = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    options = [word[:at] + word[at + 1 :], word[:at] + word[at] + word[at:]]
    if swapped != word:
        options.append(swapped)
    return options[int(rng.integers(len(options)))]


def _reordered(caption: str, rng: np.random.Generator) -> tuple[str, str]:
    words = caption.split()
    if len(set(words)) < 2:
        return "", ONE_ORDER
    shuffled = words
    while shuffled == words:
        shuffled = [words[i] for i in rng.permutation(len(words)).tolist()]
    return " ".join(shuffled), ""


def _number(seed: int, kind: str, caption: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}/{kind}/{caption}".encode()).digest()[:16], "little")
