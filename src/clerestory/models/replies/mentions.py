"""The options that a text mentions, by label or by text, and whether it affirms them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from clerestory.models.replies.labels import label_mentions, numbered_mentions
from clerestory.models.replies.mention import Mention, compose, fold
from clerestory.models.replies.polarity import judge_mentions
from clerestory.models.replies.words import text_mentions

_BESIDE = re.compile(r"[ \t:.,(\"“'–—-]*(?:\b(?:a|an|the)\s+)?")


def find_mentions(text: str, options: Sequence[str]) -> list[Mention]:
    """Every option that a text mentions, in order, with its polarity and weight."""
    text = compose(text)
    found = label_mentions(text, len(options))
    if not any(char.isdigit() for option in options for char in option):
        found += numbered_mentions(fold(text), len(options))
    texts = text_mentions(fold(text), options)
    labels = [
        mention
        for mention in found
        # A letter inside the text of an option, as in "vitamin C", belongs to that option.
        if mention.solo or not any(t.start <= mention.start and mention.end <= t.end for t in texts)
    ]
    texts = [t for t in texts if not any(m.start <= t.start and t.end <= m.end for m in labels)]
    mentions = _joined(text, sorted([*labels, *texts], key=lambda mention: mention.start))
    judge_mentions(fold(text), mentions)
    return mentions


def _joined(text: str, mentions: Sequence[Mention]) -> list[Mention]:
    """The mentions, with the letter and the text of one option side by side, as in ``(B) a dog``, as one."""
    joined: list[Mention] = []
    for mention in mentions:
        last = joined[-1] if joined else None
        if last and last.option == mention.option and _BESIDE.fullmatch(text[last.end : mention.start]):
            joined[-1] = replace(last, end=mention.end)
        else:
            joined.append(mention)
    return joined
