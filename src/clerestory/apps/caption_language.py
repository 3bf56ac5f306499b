"""Which language captions are in: whether they are plainly not in the one that the data records, or the model reads.

A caption recorded as English may only lack a mark of its language. Single words and names say little, so only
captions of a few words count, and only a clear majority of them.
"""

from __future__ import annotations

from collections import Counter

from clerestory.apps.query_language import LONG, MANY, SURE, is_latin
from clerestory.core.sample import Dataset
from clerestory.data.sources import ENGLISH
from clerestory.models.languages import LANGUAGE_NAMES, language_detector, languages_of

MAX_CHECKED, MIN_CHECKED = 60, 5  # captions
MAJORITY = 0.6  # of the captions: each is short, so some are mistaken for a related language
MULTILINGUAL = "hf:google/siglip2-base-patch16-224"


def unmarked_language(data: Dataset) -> str:
    """The code of the language of captions that are recorded as English, but plainly are not; else empty."""
    texts = [s.caption.lower() for s in data if s.captions and s.captions[0].lang == ENGLISH]
    texts = [text for text in dict.fromkeys(texts) if len(text.split()) >= LONG or not is_latin(text)]
    if len(texts) < MIN_CHECKED:
        return ""
    count = min(len(texts), MAX_CHECKED)
    chosen = [texts[i * len(texts) // count] for i in range(count)]
    together = dict(language_detector().rank(" ".join(chosen)))
    best = max(together, key=together.__getitem__)
    if best == ENGLISH or together[best] < SURE:
        return ""
    each = [dict(language_detector().rank(text)) for text in chosen]
    agreeing = sum(max(scores, key=scores.__getitem__) == best for scores in each)
    return best if agreeing >= MAJORITY * len(chosen) else ""


def main_language(data: Dataset) -> str:
    """The code of the language of most captions, as recorded, or as it plainly is; empty without captions."""
    counts = Counter(s.captions[0].lang.partition("-")[0].lower() for s in data if s.captions)
    recorded = counts.most_common(1)[0][0] if counts else ""
    return unmarked_language(data) or recorded if recorded == ENGLISH else recorded


def unread_language(model: object, data: Dataset) -> str:
    """A sentence if most captions are in a language that a model was not trained on; empty otherwise."""
    known = languages_of(model)
    codes = {code.partition("-")[0] for code in known}
    if not codes or codes & MANY or (language := main_language(data)) in codes | {""}:
        return ""
    names = " and ".join(LANGUAGE_NAMES.get(code, code) for code in sorted(codes))
    return (
        f"the captions of {data.name} are in {LANGUAGE_NAMES.get(language, language)}, and the text tower of this "
        f"model was trained on {names} only, so little can be gained; a multilingual model "
        f"such as {MULTILINGUAL} reads them"
    )
