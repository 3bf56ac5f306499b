"""Where a text has the words of an option: as whole words, in any script, with its endings."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence

from clerestory.models.replies import lexicon
from clerestory.models.replies.mention import Mention, compose, fold

_NUMBERS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty"),
)


# What may stand beside a Chinese word of one character; beside others it is part of a longer word.
_HAN_BESIDE = set("的了只个個有为為即这這那在和选選像头頭匹条條张張一是到着著见見看出示画畫拍见正与與或也都很")


_SUFFIX = re.compile(r"'?(?:s|es|d[ıiuü]r|t[ıiuü]r)(?!\w)")


def text_mentions(text: str, options: Sequence[str]) -> list[Mention]:
    """Where a folded text has the words of options; of overlapping places only the longest."""
    found = [Mention(a, b, i) for i, option in enumerate(options) for a, b in _places(text, fold(compose(option)))]
    named = {mention.option for mention in found}
    exact = {fold(compose(option)) for option in options}
    bare = [(i, fold(compose(option)).rstrip(".!?;, ")) for i, option in enumerate(options) if i not in named]
    found += [Mention(a, b, i) for i, option in bare if option not in exact for a, b in _places(text, option)]
    named = {mention.option for mention in found}
    for i, option in enumerate(options):
        if i not in named:
            found += _inflected(text, fold(compose(option)), i)
    if not found:
        found = [m for i, option in enumerate(options) for m in _declined(text, fold(compose(option)), i)]
    if not found and all(option.strip().isdecimal() for option in options):
        spelt = [(i, _NUMBERS[int(o)]) for i, o in enumerate(options) if int(o) < len(_NUMBERS)]
        found = [Mention(a, b, i) for i, word in spelt for a, b in _places(text, word)]
    kept = [
        m
        for m in found
        if not any(o.start <= m.start and m.end <= o.end and o.end - o.start > m.end - m.start for o in found)
    ]
    twins = {m.start for m in kept for o in kept if o is not m and o.start == m.start and o.end == m.end}
    return [m for m in kept if m.start not in twins]


def _places(text: str, option: str) -> Iterator[tuple[int, int]]:
    option = re.sub(r"^(?:a|an|the)\s+(?=\S)", "", option.strip())
    if not option:
        return
    parts = [re.escape(part.strip(",;:\"'") or part) for part in option.split()]
    for match in re.finditer(r"[\s,;:\"'()-]+".join(parts), text):
        if _is_whole(text, match.start(), match.end()):
            yield match.span()


def is_word(char: str) -> bool:
    """Whether a character belongs to a word: a letter, a digit, or a mark on one."""
    return bool(char) and (char.isalnum() or char == "_" or unicodedata.category(char)[0] == "M")


def _unspaced(char: str) -> bool:
    return bool(re.match(f"[{lexicon.UNSPACED}]", char))


def _is_whole(text: str, start: int, end: int) -> bool:
    """Whether a place of a text is a whole word or number: nothing beside it belongs to it."""
    first, last, before, after = text[start], text[end - 1], text[start - 1 : start], text[end : end + 1]
    hangul = "\uac00" <= last <= "\ud7af"
    if hangul:
        return not ("\uac00" <= before <= "\ud7af")
    if _unspaced(first) and end - start == 1 and "\u3400" <= first <= "\u9fff":
        return all(not ("\u3400" <= char <= "\u9fff") or char in _HAN_BESIDE for char in (before, after) if char)
    if is_word(first) and is_word(before) and not _unspaced(first) and not _unspaced(before):
        return _has_prefix(text, start)
    if is_word(last) and is_word(after) and not _unspaced(last) and not _unspaced(after):
        return False
    if last.isdigit() and re.match(r"[.,:/]\d|\s?(?:[%‰]|percent|per cent|prozent)|[°#]", text[end:]):
        return False
    if first.isdigit() and re.search(r"(?:\d[.,:/]|(?<!\w)[-+±]\s?|\bminus\s|[$€£¥₹]\s?|\.|#)$", text[:start]):
        return False
    if last.isalnum() and after and (after in "+#" or (after == "*" and text[end + 1 : end + 2] != "*")):
        return False
    if last in "+#" and after == last:
        return False
    joined = after and (after in "\u200d" or "\U0001f3fb" <= after <= "\U0001f3ff")
    return not joined and before != "\u200d"


_PREFIXES = ("ال", "وال", "بال", "لل", "فال", "كال", "و", "ב", "ה", "ו", "וה", "ל", "ש")


def _has_prefix(text: str, start: int) -> bool:
    """Whether a word begins with an Arabic or Hebrew article or preposition."""
    match = re.search(r"(?<!\w)(\w+)$", text[:start])
    return match is not None and match[1] in _PREFIXES


def _inflected(text: str, option: str, index: int) -> Iterator[Mention]:
    """Places of an option with an ending: a plural, or a Turkish copula."""
    option = option.strip()
    if len(option) < 3 or not option[-1].isalpha():
        return
    for match in re.finditer(rf"(?<!\w){re.escape(option)}", text):
        if end := _SUFFIX.match(text, match.end()):
            yield Mention(match.start(), end.end(), index)


def _declined(text: str, option: str, index: int) -> Iterator[Mention]:
    """Places of a Slavic or Greek word in another case."""
    option = option.strip()
    if re.fullmatch(r"[\u0370-\u04ff]+", option):
        stem = option[: max(3, len(option) - 2)]
        for match in re.finditer(rf"(?<!\w){re.escape(stem)}\w*", text):
            if abs(len(match[0]) - len(option)) <= 2:
                yield Mention(match.start(), match.end(), index)
