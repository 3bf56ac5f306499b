"""More to learn from: tens of thousands of pictograms whose names are their captions, beside the embedded icons.

The icons show some 1,300 concepts to learn from, which is what limits a model that must name things it has never seen.
Sets of pictograms (interfaces, maps, games, medicine …) show many more, in other styles, mostly outlines. They only
ever join the training split. Nothing that a held-out concept of the icons is called by may come in with them: see
``Held``. ``open_data("pictograms")`` gives the icons, their splits untouched, and these.

Needs the network once: the packages are fetched on first use, by name, version and hash (``pictogram_sets.json``).
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any

from clerestory.core.codec import Tags
from clerestory.core.digest import digest, digest_bytes
from clerestory.core.errors import DataError, IntegrityError
from clerestory.core.progress import QUIET, Progress
from clerestory.core.sample import SUPPLEMENT, TEST, TRAIN, VAL, Caption, Dataset, Sample
from clerestory.data import packages, parquet, render
from clerestory.data.cache import cache_folder, only_one
from clerestory.data.icons import open_icons

NAME = "pictograms"
DRAWINGS = 2  # of one name in one set: filled and outlined, say
Key = frozenset[str]

_NOT_A_THING = re.compile(
    r"^(brand|logos?|letter|number|numeric|alpha|roman|format|arrows?|align|border|layout|ai|vscode|language|skill"
    r"|flags?|sort|text|table|select|axis|chevron|caret)-|(-logo|-logomark)$|^(letter|number)"
)
_MANNER = re.compile(
    r"-(outlined?|filled|fill|lined?|light|regular|bold|duotone|thin|linear|broken|rounded|round|sharp|solid"
    r"|off|alt|variant|negative|two-tone|[0-9]+)$"
)
_EMPTY_WORDS = frozenset(("with", "of", "the", "a", "and", "in", "on", "for")) | frozenset(
    ("face", "button", "sign", "symbol", "person", "man", "woman", "people")
)


@dataclass(frozen=True, slots=True)
class Drawing:
    """One pictogram before it is rendered; ``twin`` is the icon of another set that shows the same emoji."""

    style: str
    name: str
    svg: str
    caption: str
    concept: str
    licence: str
    source: str
    twin: Sample | None = None


def open_pictograms(progress: Progress = QUIET) -> Dataset:
    """The embedded icons with the pictograms in their training split; rendered on first use (about a minute).

    Raises:
        DataError: the packages are not here and cannot be fetched.
    """
    icons = open_icons(progress)
    path = cache_folder() / f"{NAME}-{_recipe(icons.digest)}.parquet"
    with only_one(cache_folder() / f".{NAME}.lock"):
        try:
            more = parquet.open_written(path, NAME)
        except (DataError, IntegrityError, OSError):
            parquet.write(_build(icons, progress), path, progress=progress)
            more = parquet.open_written(path, NAME)
    ours = {sample.id for sample in more}

    def read(sample: Sample) -> bytes:
        return more.read(sample) if sample.id in ours else icons.read(sample)

    return Dataset(NAME, [*icons, *more], read, icons.findings)


@lru_cache(maxsize=1)
def sets() -> dict[str, packages.Package]:
    """The pinned packages by style."""
    return {
        style: packages.Package(f"@iconify-json/{style}", pin["version"], pin["sha512"])
        for style, pin in _listed()["sets"].items()
    }


@lru_cache(maxsize=1)
def _listed() -> dict[str, Any]:
    listed: dict[str, Any] = json.loads(
        files("clerestory.data").joinpath("pictogram_sets.json").read_text(encoding="utf-8")
    )
    return listed


def _recipe(icons: str) -> str:
    sources = [files("clerestory.data").joinpath(name).read_bytes() for name in ("pictograms.py", "render.py")]
    return digest([icons, _listed(), [digest_bytes(source) for source in sources]])[:12]


def _build(icons: Dataset, progress: Progress) -> Dataset:
    packages.fetch(tuple(sets().values()), progress)
    held = Held(icons)
    drawings = [drawing for style in sets() for drawing in _read_set(style, icons, held)]
    pictures = render.render_all([drawing.svg for drawing in drawings], progress)
    nothing = render.render(render.drawing({"body": ""}, {}))
    known = {sample.image for sample in icons}
    content: dict[str, bytes] = {}
    samples = []
    for drawing, picture in zip(drawings, pictures, strict=True):
        image = digest_bytes(picture)
        # An icon's own picture to the byte could be one that is held out.
        if picture != nothing and image not in known:
            content[image] = picture
            samples.append(_sample(drawing, image))
    return Dataset(NAME, samples, lambda sample: content[sample.image])


def _sample(drawing: Drawing, image: str) -> Sample:
    name, twin = f"{drawing.style}/{drawing.name}", drawing.twin
    if twin is not None:
        groups, captions = {**twin.groups, "style": drawing.style}, twin.captions
    else:
        groups, captions = {"style": drawing.style, SUPPLEMENT: "yes"}, (Caption(drawing.caption),)
    return Sample(name, image, captions, drawing.concept, Tags(groups), drawing.licence, drawing.source, TRAIN)


def _read_set(style: str, icons: Dataset, held: Held) -> Iterator[Drawing]:
    package = sets()[style]
    read = packages.read_json(packages.tarball(package), "icons.json", "info.json")
    icon_set, licence = read["icons.json"], read["info.json"]["license"].get("spdx", "")
    twins = _listed()["twins"].get(style)
    entries = {name: entry for name, entry in icon_set["icons"].items() if not entry.get("hidden")}
    if twins is not None:
        by_id = {sample.id: sample for sample in icons}
        for name, entry in entries.items():
            twin = by_id.get(f"{twins}/{name}")
            if twin is not None and twin.split == TRAIN:
                svg = render.drawing(entry, icon_set)
                yield Drawing(style, name, svg, twin.caption, twin.concept, licence, package.spec, twin)
        return
    yield from _named(style, entries, icon_set, licence, package.spec, held)


def _named(
    style: str, entries: Mapping[str, Any], icon_set: Mapping[str, Any], licence: str, source: str, held: Held
) -> Iterator[Drawing]:
    """The drawings whose name is a caption, plainest names first."""
    drawn: Counter[Key] = Counter()
    for name in sorted(entries, key=lambda name: (len(name), name)):
        base = thing(name)
        words = key(base)
        if not words or _NOT_A_THING.search(base) or max(map(len, words)) < 3 or words in held:
            continue
        drawn[words] += 1
        if drawn[words] <= DRAWINGS:
            svg = render.drawing(entries[name], icon_set)
            yield Drawing(style, name, svg, base.replace("-", " "), "+".join(sorted(words)), licence, source)


class Held:
    """What the held-out concepts of the icons are called.

    A name is held when its words, singular and without small words, are all among those of a held-out caption or
    concept (``apple`` for "red apple"), contain all of them ("apple pie" for "apple"), or are one of its keywords.

    Args:
        icons: with their splits.
    """

    def __init__(self, icons: Dataset) -> None:
        out = [sample for sample in icons if sample.split in (TEST, VAL)]
        self._keywords = {key(c.text) for sample in out for c in sample.captions[1:] if c.lang == "en"}
        self._names: dict[str, set[Key]] = {}  # by each of their words: a name that shares none cannot be held
        for name in {key(text) for sample in out for text in (sample.caption, sample.concept)}:
            for word in name:
                self._names.setdefault(word, set()).add(name)

    def __contains__(self, words: Key) -> bool:
        alike = (name for word in words for name in self._names.get(word, ()))
        return words in self._keywords or any(words <= name or words >= name for name in alike)


def thing(name: str) -> str:
    """``home-outline-24-filled`` → ``home``: a name without the manner in which it is drawn."""
    while (shorter := _MANNER.sub("", name)) != name:
        name = shorter
    return name


def key(text: str) -> Key:
    """The words that matter, in the singular and in no order."""
    words = re.findall(r"[a-z0-9]+", text.lower())
    return frozenset(_singular(word) for word in words if word not in _EMPTY_WORDS and not word.isdigit())


def _singular(word: str) -> str:
    if len(word) <= 3 or word.endswith("ss") or not word.endswith("s"):
        return word
    if word.endswith("ies"):
        return word[:-3] + "y"
    if word.endswith("es") and word[-3] in "sxzh":
        return word[:-2]
    return word[:-1]
