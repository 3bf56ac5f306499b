"""The words of a caption decoder that is trained on one user's captions, and how that user writes.

A few hundred captions have too few words to learn each spelling of a word, so the decoder reads and writes words in
lower case without punctuation. Its captions are then spelled as the user does: a word is written as it most often is
inside a caption, and a caption begins with a capital and ends with a full stop, of the user's script, if most do.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from clerestory.core.text import words_of
from clerestory.models.decoder import BEGIN, END, PAD, UNKNOWN

SPECIAL = ("<pad>", "<bos>", "<eos>", "<unk>")
FULL_STOPS = (".", "!", "?", "。", "।", "؟")
MAX_WORDS = 8_192  # of a vocabulary, special tokens included


@dataclass(frozen=True)  # without slots, for its cached property
class CaptionWords:
    """A vocabulary.

    Attributes:
        spellings: how each word is written, in the order of the ids, special tokens first.
        begins_with_capital: whether a caption does.
        stop: what a caption ends with; empty for nothing.
    """

    spellings: tuple[str, ...]
    begins_with_capital: bool
    stop: str

    @classmethod
    def of(cls, captions: Sequence[str], min_count: int, max_words: int = MAX_WORDS) -> CaptionWords:
        """The words that occur in at least ``min_count`` captions, the most frequent first, at most ``max_words``."""
        counts: Counter[str] = Counter()
        spellings: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for caption in captions:
            words = words_of(caption)
            counts.update({word.lower() for word in words})
            for word in words[1:]:  # the first one may have a capital because it is the first
                spellings[word.lower()][word] += 1
        known = sorted((w for w in counts if counts[w] >= min_count), key=lambda word: (-counts[word], word))
        usual = [max(spellings[w], key=lambda s: (spellings[w][s], s)) if w in spellings else w for w in known]
        written = [caption.strip() for caption in captions if caption.strip()]
        capitals = sum(caption[0].isupper() for caption in written)
        stops = Counter(caption[-1] for caption in written if caption.endswith(FULL_STOPS))
        half = len(written) / 2
        stop = stops.most_common(1)[0][0] if stops.total() > half else ""
        return cls((*SPECIAL, *usual[: max_words - len(SPECIAL)]), capitals > half, stop)

    @classmethod
    def from_settings(cls, settings: Any) -> CaptionWords:
        """The words of the value that ``to_settings`` returned.

        Raises:
            KeyError, TypeError, ValueError: it is another value.
        """
        spellings = tuple(settings["spellings"])
        if len(spellings) > MAX_WORDS or not all(isinstance(word, str) and word for word in spellings):
            raise ValueError
        stop = settings["stop"]
        if (
            spellings[: len(SPECIAL)] != SPECIAL
            or len(set(spellings)) < len(spellings)
            or stop not in ("", *FULL_STOPS)
        ):
            raise ValueError
        return cls(spellings, bool(settings["begins_with_capital"]), stop)

    def to_settings(self) -> dict[str, object]:
        """The words as a value for ``config.json``."""
        return {
            "spellings": list(self.spellings),
            "begins_with_capital": self.begins_with_capital,
            "stop": self.stop,
        }

    def __len__(self) -> int:
        return len(self.spellings)

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {spelling.lower(): i for i, spelling in enumerate(self.spellings) if i >= len(SPECIAL)}

    def ids(self, caption: str, max_tokens: int) -> list[int]:
        """The ids of a caption's words after the begin token, at most ``max_tokens`` in all.

        They end with the end token, unless the caption is longer: nobody ends in the middle of a sentence.
        """
        words = [self._ids.get(word.lower(), UNKNOWN) for word in words_of(caption)]
        return [BEGIN, *words, END][:max_tokens]

    def text(self, ids: Sequence[int]) -> str:
        """The caption of ids without special tokens, as the user would write it."""
        caption = " ".join(self.spellings[i] for i in ids)
        if self.begins_with_capital:
            caption = caption[:1].upper() + caption[1:]
        return caption + self.stop if caption else caption


def padded(rows: Sequence[Sequence[int]]) -> list[list[int]]:
    """The rows with padding to the same length."""
    longest = max(map(len, rows))
    return [[*row, *[PAD] * (longest - len(row))] for row in rows]
