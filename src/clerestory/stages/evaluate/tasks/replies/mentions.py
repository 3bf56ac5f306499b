"""The options that a text mentions, by label or by text, and whether it affirms them."""

from __future__ import annotations

from collections.abc import Sequence

from clerestory.stages.evaluate.tasks.replies.labels import label_mentions, numbered_mentions
from clerestory.stages.evaluate.tasks.replies.mention import Mention, compose, fold
from clerestory.stages.evaluate.tasks.replies.polarity import judge_mentions
from clerestory.stages.evaluate.tasks.replies.words import text_mentions


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
    mentions = sorted([*labels, *texts], key=lambda mention: mention.start)
    judge_mentions(fold(text), mentions)
    return mentions
