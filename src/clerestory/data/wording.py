"""Plain words for icons: emojibase's labels turned into phrases, and names into words."""

from __future__ import annotations

import re

_WITH_ARTICLE = re.compile(
    r"(Islands|Territories|Territory|Republic|Emirates|Kingdom|States|Nations|Union|Maldives|Bahamas|Gambia|Netherlands"
    r"|Philippines|Comoros|Seychelles|Vatican City|Congo - .*|Isle of Man)$"
)
_ANSWERS = {"*": "asterisk", "#": "number sign"}


def phrase(label: str) -> str:
    """An emojibase label as a plain English phrase.

    ``flag: Kenya`` → ``flag of Kenya``; ``family: man, woman, boy`` → ``family with man, woman and boy``;
    ``woman: dark skin tone, red hair`` → ``woman with dark skin tone and red hair``.
    """
    text = label.replace("“", '"').replace("”", '"').replace("’", "'").replace("⊛ ", "").strip()
    head, colon, tail = text.partition(": ")
    if not colon:
        return text
    if head == "flag":
        return f"flag of {'the ' if _WITH_ARTICLE.search(tail) and not tail.startswith('Vatican') else ''}{tail}"
    if head == "keycap":
        return f"keycap {_ANSWERS.get(tail, tail)}"
    return f"{head} with {_join(tail.split(', '))}"


def words(name: str) -> str:
    """An icon's name as words: ``bear-face`` → ``bear face``."""
    return re.sub(r"\s+", " ", name.replace("-", " ")).strip()


def _join(parts: list[str]) -> str:
    parts = [part.replace(": ", ", ") for part in parts if part]
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]
