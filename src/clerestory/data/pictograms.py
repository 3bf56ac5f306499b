"""Additional training data: tens of thousands of pictograms, with their names as captions, beside the built-in icons.

The training split of the icons has only some 1,300 concepts, which limits how well a model names unseen ones. Sets of
pictograms (interfaces, maps, games, medicine …) have many more, in other styles, mostly outlines. They are added to the
training split only, and a pictogram with a name of a held-out concept of the icons is excluded: see ``held_out_names``.
``open_data("pictograms")`` gives the icons with unchanged splits, and the pictograms.

The first use needs the network: the packages are pinned by version and hash (``pictogram_sets.json``) and fetched.
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
from clerestory.core.files import cache_folder, file_lock
from clerestory.core.progress import QUIET, Progress
from clerestory.core.sample import SUPPLEMENT, TRAIN, Caption, Dataset, Sample
from clerestory.data import packages, parquet, render
from clerestory.data.held_out_names import MEANINGS, HeldOutNames, Key, name_key
from clerestory.data.icons import open_icons

NAME = "pictograms"
CONTENT_SOURCES = ("pictograms.py", "held_out_names.py", MEANINGS, "render.py")
MAX_PER_NAME = 2  # pictograms of one name in one set, such as filled and outlined

_EXCLUDED_NAMES = re.compile(
    r"^(brand|logos?|letter|number|numeric|alpha|roman|format|arrows?|align|border|layout|ai|vscode|language|skill"
    r"|flags?|sort|text|table|select|axis|chevron|caret)-|(-logo|-logomark)$|^(letter|number)"
)
_STYLE_SUFFIX = re.compile(
    r"-(outlined?|filled|fill|lined?|light|regular|bold|duotone|thin|linear|broken|rounded|round|sharp|solid"
    r"|off|alt|variant|negative|two-tone|[0-9]+)$"
)


@dataclass(frozen=True, slots=True)
class Pictogram:
    """One pictogram before it is rendered; ``counterpart`` is the icon of the same emoji in another style."""

    style: str
    name: str
    svg: str
    caption: str
    concept: str
    licence: str
    source: str
    counterpart: Sample | None = None


def open_pictograms(progress: Progress = QUIET) -> Dataset:
    """The built-in icons with the pictograms in their training split; rendered on first use (about a minute).

    Raises:
        DataError: the packages are missing and cannot be fetched.
    """
    icons = open_icons(progress)
    path = cache_folder() / f"{NAME}-{_cache_key(icons.digest)}.parquet"
    with file_lock(cache_folder() / f".{NAME}.lock"):
        try:
            pictograms = parquet.open_dataset(path, NAME)
        except (DataError, IntegrityError, OSError):
            parquet.write_dataset(_build(icons, progress), path, progress=progress)
            pictograms = parquet.open_dataset(path, NAME)
    pictogram_ids = {sample.id for sample in pictograms}

    def read(sample: Sample) -> bytes:
        return pictograms.read(sample) if sample.id in pictogram_ids else icons.read(sample)

    return Dataset(NAME, [*icons, *pictograms], read, icons.findings)


@lru_cache(maxsize=1)
def sets() -> dict[str, packages.Package]:
    """The pinned packages by style."""
    return {
        style: packages.Package(f"@iconify-json/{style}", pin["version"], pin["sha512"])
        for style, pin in _pins()["sets"].items()
    }


@lru_cache(maxsize=1)
def _pins() -> dict[str, Any]:
    pins: dict[str, Any] = json.loads(
        files("clerestory.data").joinpath("pictogram_sets.json").read_text(encoding="utf-8")
    )
    return pins


def _cache_key(icons: str) -> str:
    sources = [files("clerestory.data").joinpath(name).read_bytes() for name in CONTENT_SOURCES]
    return digest([icons, _pins(), [digest_bytes(source) for source in sources]])[:12]


def _build(icons: Dataset, progress: Progress) -> Dataset:
    packages.fetch(tuple(sets().values()), progress)
    held_out = HeldOutNames(icons)
    pictograms = [pictogram for style in sets() for pictogram in _read_set(style, icons, held_out)]
    images = render.render_all([pictogram.svg for pictogram in pictograms], progress)
    blank = render.render(render.svg_document({"body": ""}, {}))
    known = {sample.image for sample in icons}
    content: dict[str, bytes] = {}
    samples = []
    for pictogram, png in zip(pictograms, images, strict=True):
        image = digest_bytes(png)
        # A byte-identical icon could be in a held-out split.
        if png != blank and image not in known:
            content[image] = png
            samples.append(_sample(pictogram, image))
    return Dataset(NAME, samples, lambda sample: content[sample.image])


def _sample(pictogram: Pictogram, image: str) -> Sample:
    id_, icon = f"{pictogram.style}/{pictogram.name}", pictogram.counterpart
    if icon is not None:
        groups, captions = {**icon.groups, "style": pictogram.style}, icon.captions
    else:
        groups, captions = {"style": pictogram.style, SUPPLEMENT: "yes"}, (Caption(pictogram.caption),)
    licence, source = pictogram.licence, pictogram.source
    return Sample(id_, image, captions, pictogram.concept, Tags(groups), licence, source, TRAIN)


def _read_set(style: str, icons: Dataset, held_out: HeldOutNames) -> Iterator[Pictogram]:
    package = sets()[style]
    read = packages.read_json(packages.read_package(package), "icons.json", "info.json")
    icon_set, licence = read["icons.json"], read["info.json"]["license"].get("spdx", "")
    counterpart_style = _pins()["counterparts"].get(style)
    entries = {name: entry for name, entry in icon_set["icons"].items() if not entry.get("hidden")}
    if counterpart_style is not None:
        by_id = {sample.id: sample for sample in icons}
        for name, entry in entries.items():
            icon = by_id.get(f"{counterpart_style}/{name}")
            if icon is not None and icon.split == TRAIN:
                svg = render.svg_document(entry, icon_set)
                yield Pictogram(style, name, svg, icon.caption, icon.concept, licence, package.spec, icon)
        return
    yield from _named(style, entries, icon_set, licence, package.spec, held_out)


def _named(
    style: str,
    entries: Mapping[str, Any],
    icon_set: Mapping[str, Any],
    licence: str,
    source: str,
    held_out: HeldOutNames,
) -> Iterator[Pictogram]:
    """The pictograms whose name is usable as a caption, shortest names first."""
    counts: Counter[Key] = Counter()
    for name in sorted(entries, key=lambda name: (len(name), name)):
        base = base_name(name)
        words = name_key(base)
        caption = base.replace("-", " ")
        if not words or _EXCLUDED_NAMES.search(base) or max(map(len, words)) < 3 or caption in held_out:
            continue
        counts[words] += 1
        if counts[words] <= MAX_PER_NAME:
            svg = render.svg_document(entries[name], icon_set)
            yield Pictogram(style, name, svg, caption, "+".join(sorted(words)), licence, source)


def base_name(name: str) -> str:
    """``home-outline-24-filled`` → ``home``: a name without its style suffixes."""
    while (shorter := _STYLE_SUFFIX.sub("", name)) != name:
        name = shorter
    return name
