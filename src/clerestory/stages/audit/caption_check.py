"""Faults of the captions of a dataset, without looking at the images."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from statistics import median

from clerestory.core.codec import Tags
from clerestory.core.findings import FindingCode
from clerestory.core.progress import QUIET, Progress
from clerestory.core.sample import Caption, Dataset, Sample
from clerestory.core.units import plural
from clerestory.models.languages import LANGUAGE_NAMES
from clerestory.stages.audit import caption_findings as codes
from clerestory.stages.audit.caption_findings import Boilerplate, WrongLanguage
from clerestory.stages.audit.caption_text import (
    MAX_TOKENS,
    boilerplate,
    damaged_characters,
    is_long,
    markup,
    may_name_an_object,
    min_tokens,
    normalised,
    num_words,
    other_language,
)
from clerestory.stages.audit.detection import Detection
from clerestory.stages.audit.personal_data import find_personal_data

SENTENCE_WORDS = 5  # median of the captions of a dataset that has sentences
MIN_AMBIGUOUS = 3  # different images with a placeholder, from which on a word such as "photo" does not name an object
MIN_SHARED = 10  # different images with the same caption
MIN_TEMPLATE, MIN_TEMPLATE_SHARE = 10, 0.02  # different images whose captions share a part
MOST = 0.5  # of the captions whose language is certain
MIN_CERTAIN = 5
MAX_QUOTED = 40  # characters

# The parts of a caption that a web page adds: "Blue sofa | Home & Garden", "Blue sofa - Free shipping".
_SEPARATOR = re.compile(r" [|\u2022\u00b7\u00bb\u2013\u2014-] | ?:: ?| ?\| ?")
_SENTENCE_END = re.compile(r"(?<=[.!?]) ")
MAX_PARTS = 20  # of a caption, beyond which it is a text rather than a template


@dataclass(frozen=True, slots=True)
class _Place:
    """A caption in its dataset: its sample, and its position from 1 on."""

    sample: Sample
    number: int
    caption: Caption

    @property
    def text(self) -> str:
        return self.caption.text


def check_captions(data: Dataset, progress: Progress = QUIET) -> list[Detection]:
    """One detection for each kind of fault in the captions of a dataset, in the order of their codes."""
    places = [_Place(sample, i, caption) for sample in data for i, caption in enumerate(sample.captions, 1)]
    names = [place for place in places if place.caption.kind == "name"]
    checks: tuple[Callable[[], list[Detection]], ...] = (
        lambda: _without_caption(data),
        lambda: _short(data, names),
        lambda: _boilerplate(data, names),
        lambda: _by_text(data, places, codes.MARKUP, markup, "contains", "contain", "markup"),
        lambda: _languages(data, names, progress),
        lambda: _duplicates(data),
        lambda: _shared(data, names),
        lambda: _long(data, places),
        lambda: _by_text(data, places, codes.DAMAGED_TEXT, damaged_characters, "has", "have", "damaged characters"),
    )
    detections: list[Detection] = []
    with progress.task("captions", len(checks)) as task:
        for check in checks:
            detections += check()
            task.advance()
    return detections


def _detection(
    data: Dataset, code: FindingCode, message: str, notes: Mapping[str, str], reason: str = "", fix: str = ""
) -> Detection:
    """A detection whose samples are those with a note."""
    samples = tuple(sample.id for sample in data if sample.id in notes)
    return Detection(code, message, samples, len(data), notes=Tags(notes), reason=reason, fix=fix or None)


def _notes(found: list[tuple[_Place, str]]) -> dict[str, str]:
    by_sample: dict[str, list[str]] = defaultdict(list)
    for place, note in found:
        by_sample[place.sample.id].append(f"caption {place.number}: {note}")
    return {sample: "; ".join(notes) for sample, notes in by_sample.items()}


def _counted(found: list[tuple[_Place, str]], one: str, many: str) -> str:
    """``3 captions of 2 images are …``."""
    images = len({place.sample.id for place, _ in found})
    return f"{plural(len(found), 'caption')} of {plural(images, 'image')} {one if len(found) == 1 else many}"


def _quoted(text: str, source: _Place) -> str:
    """A part of a caption for a message; empty if the caption contains personal data, which no message may repeat."""
    short = text if len(text) <= MAX_QUOTED else text[: MAX_QUOTED - 1] + "…"
    return "" if find_personal_data(source.text, source.caption.lang or "en") else f"“{short}”"


def _without_caption(data: Dataset) -> list[Detection]:
    empty = {s.id: "no caption" for s in data if not any(normalised(c.text) for c in s.captions)}
    if not empty or not any(sample.captions for sample in data):
        # Data without any caption is meant to be: images to embed or to sort.
        return []
    return [_detection(data, codes.NO_CAPTION, f"{plural(len(empty), 'image')} without a caption", empty)]


def _short(data: Dataset, names: list[_Place]) -> list[Detection]:
    """Captions of one word, in a dataset (or a language of it) whose captions are sentences."""
    found = []
    for group in _by_language(names).values():
        words = [num_words(place.text) for place in group]
        if median(words) >= SENTENCE_WORDS:
            found += [(place, plural(n, "word")) for place, n in zip(group, words, strict=True) if n == 1]
    found = [(place, note) for place, note in found if boilerplate(place.text) is None]
    if not found:
        return []
    message = _counted(found, "has one word", "have one word") + ", where others are sentences"
    return [_detection(data, codes.SHORT_CAPTION, message, _notes(found))]


def _boilerplate(data: Dataset, names: list[_Place]) -> list[Detection]:
    by_reason: dict[Boilerplate, list[tuple[_Place, str]]] = defaultdict(list)
    for place in names:
        if reason := boilerplate(place.text):
            by_reason[reason].append((place, reason.value.replace("_", " ")))
    placeholders = by_reason[Boilerplate.PLACEHOLDER]
    if len({place.sample.image for place, _ in placeholders}) < MIN_AMBIGUOUS:
        by_reason[Boilerplate.PLACEHOLDER] = [item for item in placeholders if not may_name_an_object(item[0].text)]
    detections = []
    for reason, one, many in (
        (Boilerplate.FILE_NAME, "is a file name", "are file names"),
        (Boilerplate.PLACEHOLDER, "is a placeholder", "are placeholders"),
    ):
        if found := by_reason[reason]:
            message = _counted(found, one, many)
            detections.append(_detection(data, codes.BOILERPLATE, message, _notes(found), reason))
    return detections + _templates(data, names)


def _templates(data: Dataset, names: list[_Place]) -> list[Detection]:
    """Parts that many different captions share, such as the name of a shop behind a separator."""
    images: dict[str, set[str]] = defaultdict(set)
    rests: dict[str, set[str]] = defaultdict(set)
    places: dict[str, list[_Place]] = defaultdict(list)
    spelling: dict[str, _Place] = {}
    for place in names:
        for part, rest in _parts(place.text):
            if part not in spelling:
                spelling[part] = place
            images[part].add(place.sample.image)
            rests[part].add(rest)
            places[part].append(place)
    minimum = max(MIN_TEMPLATE, MIN_TEMPLATE_SHARE * len({sample.image for sample in data}))
    shared = [p for p in images if len(images[p]) >= minimum and len(rests[p]) >= minimum]
    if not shared:
        return []
    found = {(place.sample.id, place.number): place for part in shared for place in places[part]}
    most = max(shared, key=lambda part: (len(images[part]), part))
    quoted = _quoted(most, spelling[most])
    message = _counted([(p, "") for p in found.values()], "repeats a part", "repeat a part")
    message += f" that many images share{', most often ' + quoted if quoted else ''}"
    notes = _notes([(place, "template") for place in found.values()])
    return [_detection(data, codes.BOILERPLATE, message, notes, Boilerplate.TEMPLATE)]


def _parts(text: str) -> Iterator[tuple[str, str]]:
    """The parts of a caption that a template may have made, each with the rest; numbers count as one."""
    masked = re.sub(r"\d+", "0", " ".join(text.split()))
    for separator, min_words in ((_SEPARATOR, 1), (_SENTENCE_END, 3)):
        pieces = [normalised(piece) for piece in separator.split(masked)]
        if not 2 <= len(pieces) <= MAX_PARTS:
            continue
        for i, piece in enumerate(pieces):
            if len(piece.split()) >= min_words and len(piece) > 2:
                yield piece, " ".join(pieces[:i] + pieces[i + 1 :])
    if re.search(r"\d", text) and len(masked.split()) >= 2:
        yield normalised(masked), text  # "Product 17, front view"


def _languages(data: Dataset, names: list[_Place], progress: Progress) -> list[Detection]:
    """One detection for each recorded language in which captions are in another one."""
    detections = []
    for lang, group in _by_language(names).items():
        if lang not in LANGUAGE_NAMES:
            continue
        certain: list[tuple[_Place, str]] = []
        known: dict[str, str | None] = {}
        with progress.task(f"language of captions ({lang})", len(group)) as task:
            for place in group:
                if place.text not in known:
                    known[place.text] = other_language(place.text, lang)
                if code := known[place.text]:
                    certain.append((place, code))
                task.advance()
        others = [(place, code) for place, code in certain if code != lang]
        if not others:
            continue
        ((most, count),) = Counter(code for _, code in others).most_common(1)
        recorded, language = LANGUAGE_NAMES[lang], LANGUAGE_NAMES[most]
        notes = _notes([(place, LANGUAGE_NAMES[code]) for place, code in others])
        unknown = len(group) - len(certain)
        of_all = f"{len(others):,} of {plural(len(certain), 'caption')}"
        silent = f"; {plural(unknown, 'other')} too short or unclear to tell" if unknown else ""
        if len(certain) >= MIN_CERTAIN and count >= MOST * len(certain):
            message = f"{of_all} recorded as {recorded} {'is' if len(others) == 1 else 'are'} in {language}{silent}"
            fix = f"record them as {language} ({most}), or use a multilingual model"
            detections.append(_detection(data, codes.WRONG_LANGUAGE, message, notes, WrongLanguage.MOST_CAPTIONS, fix))
        else:
            are = "is" if len(others) == 1 else "are"
            message = f"{of_all} recorded as {recorded} {are} in another language, mostly {language}{silent}"
            detections.append(_detection(data, codes.WRONG_LANGUAGE, message, notes, WrongLanguage.SOME_CAPTIONS))
    return detections


def _duplicates(data: Dataset) -> list[Detection]:
    """Captions that one image has twice, as they are or in the same words."""
    notes, exact, same_words = {}, 0, 0
    for sample in data:
        first: dict[tuple[str, str, str], int] = {}
        own = []
        for number, caption in enumerate(sample.captions, 1):
            key = (caption.kind, caption.lang, normalised(caption.text) or caption.text)
            earlier = first.setdefault(key, number)
            if earlier == number:
                continue
            is_exact = sample.captions[earlier - 1].text == caption.text
            exact, same_words = exact + is_exact, same_words + (not is_exact)
            own.append(f"caption {number}: {'equals' if is_exact else 'has the words of'} caption {earlier}")
        if own:
            notes[sample.id] = "; ".join(own)
    if not notes:
        return []
    message = (
        f"{plural(exact + same_words, 'caption')} of {plural(len(notes), 'image')} "
        f"{'repeats' if exact + same_words == 1 else 'repeat'} another caption of the same image "
        f"({exact:,} exactly, {same_words:,} apart from case and punctuation)"
    )
    return [_detection(data, codes.DUPLICATE_CAPTION, message, notes)]


def _shared(data: Dataset, names: list[_Place]) -> list[Detection]:
    """Captions that at least ``MIN_SHARED`` different images have."""
    images: dict[str, set[str]] = defaultdict(set)
    places: dict[str, list[_Place]] = defaultdict(list)
    for place in names:
        if (text := normalised(place.text)) and boilerplate(place.text) is None:
            images[text].add(place.sample.image)
            places[text].append(place)
    shared = sorted((t for t in images if len(images[t]) >= MIN_SHARED), key=lambda t: (-len(images[t]), t))
    if not shared:
        return []
    first = places[shared[0]][0]
    quoted = _quoted(first.text, first)
    notes = _notes([(p, f"{len(images[text]):,} images have it") for text in shared for p in places[text]])
    has = "is" if len(shared) == 1 else "are"
    message = (
        f"{plural(len(shared), 'caption')} {has} on {MIN_SHARED} or more different images, together on {len(notes):,}; "
        f"the most frequent one{', ' + quoted + ',' if quoted else ''} is on {len(images[shared[0]]):,}"
    )
    return [_detection(data, codes.SHARED_CAPTION, message, notes)]


def _long(data: Dataset, places: list[_Place]) -> list[Detection]:
    found = [(p, f"at least {min_tokens(p.text):,} tokens") for p in places if is_long(p.text)]
    if not found:
        return []
    message = (
        _counted(found, "has", "have") + f" more than {MAX_TOKENS} tokens, of which the text tower reads the first"
    )
    return [_detection(data, codes.LONG_CAPTION, message, _notes(found))]


def _by_text(
    data: Dataset,
    places: list[_Place],
    code: FindingCode,
    kinds_of: Callable[[str], tuple[str, ...]],
    one: str,
    many: str,
    noun: str,
) -> list[Detection]:
    """Captions whose text has a fault of some kinds."""
    found = [(place, ", ".join(kinds)) for place in places if (kinds := kinds_of(place.text))]
    if not found:
        return []
    counts = Counter(kind for place, _ in found for kind in kinds_of(place.text))
    named = ", ".join(f"{kind} ({count:,})" for kind, count in counts.most_common())
    return [_detection(data, code, f"{_counted(found, one, many)} {noun}: {named}", _notes(found))]


def _by_language(names: list[_Place]) -> dict[str, list[_Place]]:
    groups: dict[str, list[_Place]] = defaultdict(list)
    for place in names:
        code = place.caption.lang.replace("_", "-").partition("-")[0].lower()
        groups["no" if code in ("nb", "nn") else code].append(place)
    return groups
