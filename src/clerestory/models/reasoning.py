"""The reasoning blocks of generated text, which are not part of the answer."""

from __future__ import annotations

import re

_THINKING = (
    r"(?:think|thinking|thought|thoughts|reason|reasoning|rationale|reflection|"
    r"reflect|scratchpad|analysis|plan|cot|seed:think)"
)
_BRACKETS = ((r"<\|?\s*", r"\s*\|?>"), (r"\[\s*", r"\s*\]"), (r"◁\s*", r"\s*▷"))
_BLOCKS = [
    re.compile(rf"{opening}(?P<name>{_THINKING}){closing}.*?{opening}/\s*(?P=name){closing}", re.IGNORECASE | re.DOTALL)
    for opening, closing in _BRACKETS
]
_CLOSED = [
    re.compile(rf"^.*{opening}/\s*{_THINKING}{closing}", re.IGNORECASE | re.DOTALL) for opening, closing in _BRACKETS
]
_OPENED = [
    re.compile(rf"{opening}{_THINKING}{closing}.*$", re.IGNORECASE | re.DOTALL) for opening, closing in _BRACKETS
]
# Harmony, the format of gpt-oss: only the channel ``final`` is the answer.
_CHANNEL = re.compile(
    r"<\|channel\|>\s*(\w+)(?:\s*<\|constrain\|>\s*\w+)?\s*<\|message\|>(.*?)(?=<\|(?:end|"
    r"return|start|channel)\|>|$)",
    re.DOTALL,
)


def without_reasoning(text: str) -> str:
    """A reply without its reasoning blocks; what follows one that is never closed is reasoning too."""
    channels = _CHANNEL.findall(text)
    if channels:
        return "\n".join(content for name, content in channels if name.lower() == "final").strip()
    for block in _BLOCKS:
        text = block.sub(" ", text)
    # Some templates put the opening tag into the prompt, so that the reply has the closing one only.
    for pattern in (*_CLOSED, *_OPENED):
        text = pattern.sub(" ", text)
    return text.strip()
