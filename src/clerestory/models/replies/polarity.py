"""Which options a text mentions, by label or by text, and which of these it affirms, denies or gives as its answer.

A text is read from left to right in sentences. A negation concerns the options that follow it up to a contrast
("not A, but B"), or those before it ("A is wrong"); a word such as *answer* makes the options beside it explicit, and
one such as *because* makes those after it a mere reason.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from clerestory.models.replies import lexicon
from clerestory.models.replies.mention import EXPLICIT, PLAIN, REASON, Mention


class _Event(NamedTuple):
    start: int
    end: int
    kind: str


_KINDS = re.compile(
    "|".join(
        f"(?P<{kind}>{pattern})"
        for kind, pattern in (
            ("idiom", lexicon.IDIOMS.pattern),
            ("correction", lexicon.CORRECTION),
            ("because", lexicon.BECAUSE),
            ("thought", lexicon.FIRST_THOUGHT),
            ("contrast", lexicon.CONTRAST),
            ("concession", lexicon.CONCESSION),
            ("wrong", lexicon.WRONG),
            ("after", lexicon.NEGATION_AFTER),
            ("negation", lexicon.NEGATION),
            ("cue", lexicon.CUE),
            ("comparison", lexicon.COMPARISON),
            ("restart", lexicon.RESTART),
            ("end", r"[?？؟\n]|[.!。！।]+(?=[\s\"'”’)\]]|$)|[。！।]"),
            ("colon", r"[:：]"),
            ("pause", r"[,;，；、،؛—–()（）]|\s-+\s"),
        )
    )
)


_TRUTH = re.compile(
    rf"(?:\W+\w+){{0,2}}?\W*(?:{lexicon.RIGHT}|\b(?:it|shown|present|visible|there|seen|answer|"
    rf"match\w*|fit\w*|appear\w*|possible|likely|here)\b)"
)


_GAP = re.compile(
    rf"(?:[\s,;、，()'\"*]|{lexicon.CONJUNCTION}|\b(?:a|an|the|option|choice|ein|eine|un|une|"
    rf"una|el|la|le|der|die|das)\b)*"
)


_ONE_OF = re.compile(lexicon.CONJUNCTION)


_AT_END = re.compile(r"\s*(?:[,.;:!，。！、؛،—–]|-\s|$)")


_VERDICT = re.compile(
    rf"[\s:：,()|–—-]*(?:(?:is|are|ist|es|est|è|é)\s+|[是为がは이가]\s*)?(?:(?P<no>{lexicon.WRONG}|"
    rf"{lexicon.NO})|(?P<yes>{lexicon.RIGHT}|{lexicon.YES}))"
    r"(?:的|です|だ|입니다|\s+है)?[\s.,;!()，。；、|]*"
)


_LIST_PARTICLE = re.compile(r"[\s、,，]*(?:도|でも|も|이나|या|ve|veya)?[\s、,，]*")


def judge_mentions(text: str, mentions: Sequence[Mention]) -> None:
    """Set polarity and weight of the mentions of a text, sentence by sentence."""
    # A label at the start of a line is a sentence of its own.
    ends = {mention.end for mention in mentions if mention.solo}
    scan = _Scan(text, mentions)
    verdicts = _verdicts(text, mentions)
    events: list[_Event | Mention] = [
        event for event in _events(text, mentions) if not any(a <= event.start < b for a, b in verdicts)
    ]
    events += mentions
    for event in sorted(events, key=lambda each: each.start):
        if isinstance(event, Mention):
            scan.mention(event)
            if event.end in ends:
                scan.end(event, carries=False)
        else:
            scan.event(event)
    scan.end(None, carries=False)
    for mention, affirms in verdicts.values():
        mention.affirmed = affirms and mention.affirmed
        mention.weight = EXPLICIT if affirms else mention.weight
    # "A: B" is an answer, and "B, C" are two.
    for one, other in zip(mentions, mentions[1:], strict=False):
        gap = text[one.end : other.start]
        if not (one.by_label and other.by_label and one.affirmed and other.affirmed and one.option != other.option):
            continue
        if text[one.start : other.start].strip() == "a:":
            one.affirmed, other.weight = False, EXPLICIT
        elif one.solo and "\n" not in gap and _GAP.fullmatch(gap):
            one.weight = PLAIN


def _verdicts(text: str, mentions: Sequence[Mention]) -> dict[tuple[int, int], tuple[Mention, bool]]:
    """The places of a lone verdict behind a mention, such as "A: no" or "B ✓", with the mention and the verdict."""
    found = {}
    for i, mention in enumerate(mentions):
        after = mentions[i + 1].start if i + 1 < len(mentions) else len(text)
        segment = text[mention.end : after].partition("\n")[0]
        match = _VERDICT.fullmatch(segment)
        following = mentions[i + 1 : i + 2] if mention.end + len(segment) == after else []
        listed = all(text[each.start : each.end].rstrip()[-1] in ").:" for each in (mention, *following))
        goes_on = following and segment[-1:] not in ".;|" and not listed
        if match and goes_on and match["no"] and re.fullmatch(lexicon.NEGATION, match["no"]):
            continue  # "A, not B"
        if match:
            found[mention.end, mention.end + len(segment)] = (mention, match["no"] is None)
    return found


def _events(text: str, mentions: Sequence[Mention]) -> Iterator[_Event]:
    for match in _KINDS.finditer(text):
        if not any(m.start < match.end() and match.start() < m.end for m in mentions):
            yield _Event(match.start(), match.end(), str(match.lastgroup))


class _Scan:
    """The state of reading a text from left to right."""

    def __init__(self, text: str, mentions: Sequence[Mention]) -> None:
        self.text, self.mentions = text, mentions
        self.sentence: list[Mention] = []
        self.clause: list[Mention] = []
        self.cue = False
        self.sentence_start = 0
        self.double_negation_end = -1
        self._reset()

    def _reset(self) -> None:
        self.negated = self.used = self.reason = self.conceding = False
        self.group_end = -1

    def mention(self, mention: Mention) -> None:
        mention.affirmed = not self.negated or (self.used and mention.start > self.group_end)
        if self.negated and not self.used:
            self.group_end = self._end_of_list(mention)
        if self.negated:
            self.used = True
        if mention.solo:
            mention.weight = EXPLICIT
        elif self.reason:
            mention.weight = REASON
        elif self.cue:
            mention.weight = EXPLICIT
        self.sentence.append(mention)
        self.clause.append(mention)

    def _end_of_list(self, first: Mention) -> int:
        """The end of "A, B or C", which a negation concerns as a whole; without a conjunction that of its first."""
        end, joined, last = first.end, False, first
        for mention in self.mentions[self.mentions.index(first) + 1 :]:
            gap = self.text[last.end : mention.start]
            if not _GAP.fullmatch(gap):
                break
            joined = joined or bool(_ONE_OF.search(gap))
            end, last = mention.end, mention
        return end if joined else first.end

    def event(self, event: _Event) -> None:
        getattr(self, f"_{event.kind}")(event)

    def _idiom(self, event: _Event) -> None:
        pass

    def _negation(self, event: _Event) -> None:
        before = self.text[self.sentence_start : event.start].rstrip(" \"'“(")
        if before[-1:] in ("", *",;:—–，、،") and _AT_END.match(self.text[event.end :]):
            return  # "No, it is B": an interjection
        follows = re.match(r"\W*\w+(?:\W+\w+)?", self.text[event.end :])
        wrong = re.match(rf"(?:\W+\w+)?\W*{lexicon.WRONG}", self.text[event.end :])
        if wrong and follows:
            self.double_negation_end = event.end + wrong.end()  # "not wrong"
            return
        if self.clause and _TRUTH.match(self.text[event.end :]) and not self._mention_before_break(event.end):
            self._deny(self.clause)  # "A is not correct"
        elif self.clause and not self.text[event.end :].strip(" .!"):
            self._deny(self.clause)
        else:
            self.negated, self.used, self.group_end = True, False, -1

    def _mention_before_break(self, position: int) -> bool:
        """Whether an option follows in the same clause."""
        pause = re.compile(r"[,;.!?:，；。！？\n]").search(self.text, position)
        end = pause.start() if pause else len(self.text)
        return any(position <= mention.start < end for mention in self.mentions)

    def _after(self, event: _Event) -> None:
        some = [mention for mention in self.clause if mention.affirmed] or [m for m in self.sentence if m.affirmed]
        self._deny(some[-1:])
        for one, last in zip(reversed(some[:-1]), reversed(some), strict=False):
            if not _LIST_PARTICLE.fullmatch(self.text[one.end : last.start]):
                break
            self._deny([one])  # "A도 B도 아니고"
        self._pause(event)

    def _correction(self, event: _Event) -> None:
        self._deny([mention for mention in self.mentions if mention.end <= event.start])
        self._clear()
        self.cue = True

    def _thought(self, event: _Event) -> None:
        self.reason = True

    def _comparison(self, event: _Event) -> None:
        if self.clause and (self.cue or self.text[event.start : event.end] != "over"):
            self.negated, self.used, self.group_end = True, False, -1

    def _wrong(self, event: _Event) -> None:
        if event.start < self.double_negation_end:
            return
        if self.clause:
            self._deny(self.clause)
        else:
            self.negated, self.used, self.group_end = True, False, -1

    @staticmethod
    def _deny(mentions: Sequence[Mention]) -> None:
        for mention in mentions:
            mention.affirmed = False

    def _cue(self, event: _Event) -> None:
        if event.start < self.double_negation_end:
            return
        if not self.used and re.fullmatch(lexicon.CONCLUSION, self.text[event.start : event.end]):
            self.negated = False
        self.cue = True
        for mention in self.clause:
            if mention.weight == PLAIN:
                mention.weight = EXPLICIT

    def _because(self, event: _Event) -> None:
        self.reason = bool(self.sentence)
        self._clear()
        self.cue = self.cue and not self.sentence

    def _concession(self, event: _Event) -> None:
        self._clear()
        self.reason, self.conceding = True, not self.sentence

    def _contrast(self, event: _Event) -> None:
        self._clear()
        self.cue = self.cue and not any(mention.affirmed for mention in self.sentence)
        self.reason = False

    def _restart(self, event: _Event) -> None:
        self._pause(event)

    def _colon(self, event: _Event) -> None:
        self._pause(event)

    def _pause(self, event: _Event) -> None:
        if self.conceding and self.sentence:
            self.reason = self.conceding = False
        if self.used and event.start >= self.group_end:
            self._clear()
        if self.clause and any(mention.affirmed for mention in self.clause):
            self.cue = False
        if not self.negated:
            self.clause = []

    def _clear(self) -> None:
        self.negated = self.used = False
        self.group_end = -1
        self.clause = []

    def _end(self, event: _Event) -> None:
        mark = self.text[event.start : event.end]
        if mark[0] in "?？؟":
            for mention in self.sentence:
                mention.weight = min(mention.weight, REASON) if not mention.solo else mention.weight
        carries = mark[0] in "?？؟\n" or self.text[: event.start].rstrip()[-1:] in (":", "：")
        self.end(event, carries)

    def end(self, event: _Event | Mention | None, carries: bool) -> None:
        """End a sentence; an announced answer may follow on the next line."""
        self.cue = self.cue and carries and not self.sentence
        self.sentence, self.clause = [], []
        self.sentence_start = event.end if event else 0
        self._reset()
