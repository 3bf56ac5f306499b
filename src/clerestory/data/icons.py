"""The embedded pictures: about 22,000 open icons in eight art styles, with words in several languages.

``python -m clerestory.data.icons fetch`` brings the pinned packages; ``open_icons()`` renders them once and opens
the cached Parquet file from then on.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

from clerestory.core.codec import Tags
from clerestory.core.digest import digest, digest_bytes
from clerestory.core.errors import ClerestoryError, DataError, IntegrityError
from clerestory.core.progress import QUIET, Progress
from clerestory.core.provenance import PACKAGE
from clerestory.core.sample import TEST, TEST_STYLE, VAL, Caption, Dataset, Sample
from clerestory.data import naming, packages, parquet, render, wording
from clerestory.data.cache import cache_folder, only_one
from clerestory.data.splits import split_of

UNSEEN_STYLE = "openmoji"
LANGUAGES = ("de", "es", "fr", "it", "nl", "pl", "pt")
SHARES = {TEST: 0.19, VAL: 0.08}
SALT = "icons"


@dataclass(frozen=True, slots=True)
class Icon:
    """One drawing of one set, before it is rendered."""

    style: str
    name: str
    svg: str
    code: str
    licence: str
    source: str


def open_icons(progress: Progress = QUIET) -> Dataset:
    """The embedded pictures; rendered on first use (about a minute on two cores), then opened from the cache.

    Raises:
        DataError: the packages have not been fetched, and cannot be.
    """
    path = cache_folder() / f"icons-{recipe()}.parquet"
    with only_one(cache_folder() / ".icons.lock"):
        try:
            return parquet.open_written(path, "icons")
        except (DataError, IntegrityError, OSError):
            return _build(path, progress)


@lru_cache(maxsize=1)
def recipe() -> str:
    """What the content follows from: the pins, the renderer and the code of this room. Twelve characters."""
    here = PACKAGE / "data"
    sources = ("icons.py", "naming.py", "wording.py", "render.py", "parquet.py", "splits.py", "icon_names.json")
    return digest([_rendering(), {name: digest_bytes((here / name).read_bytes()) for name in sources}])[:12]


def _rendering() -> str:
    """What the pictures alone follow from."""
    code = digest_bytes((PACKAGE / "data" / "render.py").read_bytes())
    pins = [[p.spec, p.sha512] for p in packages.ALL]
    return digest([pins, render.SIZE, metadata.version("resvg_py"), code])


def _build(path: Path, progress: Progress) -> Dataset:
    packages.fetch(progress=progress)
    sets, chars, licences = _read_sets()
    emoji, names, translations = _read_words(sets, chars)
    icons = _read_icons(sets, names, licences)
    pictures = _pictures(icons, path, progress)
    samples, content = _samples(icons, pictures, emoji, translations)
    dataset = Dataset("icons", samples, lambda sample: content[sample.image])
    parquet.write(dataset, path, {"rendering": _rendering()})
    return parquet.open_written(path, "icons")


def _read_sets() -> tuple[dict[str, Any], dict[str, dict[str, str]], dict[str, str]]:
    sets, chars, licences = {}, {}, {}
    for style, package in packages.ICON_PACKAGES.items():
        read = packages.read_json(packages.tarball(package), "icons.json", "chars.json", "info.json")
        sets[style] = read["icons.json"]
        licences[style] = read["info.json"]["license"]["spdx"]
        if "chars.json" in read:
            chars[style] = read["chars.json"]
    return sets, chars, licences


def _read_words(
    sets: Mapping[str, Any], chars: Mapping[str, dict[str, str]]
) -> tuple[dict[str, naming.Emoji], naming.Names, dict[str, dict[str, str]]]:
    """English entries by code, the resolver of names, and labels by language and code."""
    members = ["en/data.json", "meta/groups.json", *(f"{lang}/compact.json" for lang in LANGUAGES)]
    shortcodes = ["en/shortcodes/joypixels.json", "en/shortcodes/github.json", "en/shortcodes/emojibase.json"]
    read = packages.read_json(packages.tarball(packages.WORDS), *members, *shortcodes)
    groups = {int(number): key for number, key in read["meta/groups.json"]["groups"].items()}
    emoji = naming.read_emoji(read["en/data.json"], groups)
    short: dict[str, Any] = {}
    for name in shortcodes:
        short = {**read[name], **short}
    translations = {
        lang: {
            "-".join(naming.points(each["hexcode"])): each["label"]
            for entry in read[f"{lang}/compact.json"]
            for each in (entry, *entry.get("skins", ()))
        }
        for lang in LANGUAGES
    }
    return emoji, naming.Names(emoji, sets, chars, short), translations


def _read_icons(sets: Mapping[str, Any], names: naming.Names, licences: Mapping[str, str]) -> list[Icon]:
    """Every drawing of every set; of several with the same drawing in one set the first by name."""
    icons = []
    for style, icon_set in sets.items():
        seen: set[str] = set()
        order = sorted(icon_set["icons"].items(), key=lambda item: (bool(item[1].get("hidden")), item[0]))
        for name, entry in order:
            svg = render.drawing(entry, icon_set)
            if svg in seen:
                continue
            seen.add(svg)
            source = packages.ICON_PACKAGES[style].spec
            icons.append(Icon(style, name, svg, names.code(style, name), licences[style], source))
    return icons


def _pictures(icons: list[Icon], path: Path, progress: Progress) -> list[bytes]:
    """PNG bytes of every icon; taken from an older cached file where only the words have changed since."""
    for older in sorted(path.parent.glob("icons-*.parquet")):
        side = parquet.read_side(older)
        if side is None or side.facts.get("rendering") != _rendering():
            continue
        try:
            known = parquet.open_written(older)
            return [known.read(known[f"{icon.style}/{icon.name}"]) for icon in icons]
        except (ClerestoryError, OSError):
            continue
    return render.render_all([icon.svg for icon in icons], progress)


def _samples(
    icons: list[Icon],
    pictures: list[bytes],
    emoji: Mapping[str, naming.Emoji],
    translations: Mapping[str, Mapping[str, str]],
) -> tuple[list[Sample], dict[str, bytes]]:
    concepts = [_concept(icon, emoji) for icon in icons]
    seen_in_training: defaultdict[str, str] = defaultdict(lambda: "none")
    for icon, concept in zip(icons, concepts, strict=True):
        if icon.style != UNSEEN_STYLE:
            seen_in_training[concept] = split_of(concept, SHARES, SALT)
    samples, content = [], {}
    for icon, concept, picture in zip(icons, concepts, pictures, strict=True):
        image = digest_bytes(picture)
        content[image] = picture
        unseen = icon.style == UNSEEN_STYLE
        known = emoji.get(icon.code)
        groups = {
            "style": icon.style,
            "emoji_group": known.group if known else "other",
            "skin_tone": naming.skin_tone(icon.code),
            "gender": naming.gender(icon.code),
        }
        if unseen:
            groups["concept_split"] = seen_in_training[concept]
        samples.append(
            Sample(
                id=f"{icon.style}/{icon.name}",
                image=image,
                captions=_captions(icon, emoji, translations),
                concept=concept,
                groups=Tags(groups),
                licence=icon.licence,
                source=icon.source,
                split=TEST_STYLE if unseen else seen_in_training[concept],
            )
        )
    return samples, content


def _concept(icon: Icon, emoji: Mapping[str, naming.Emoji]) -> str:
    """The name of what an icon shows, the same for every set, skin tone and gender."""
    if not icon.code:
        return icon.name
    code = naming.concept_code(icon.code)
    known = emoji.get(code)
    return naming.slug(known.label) if known else code


def _captions(
    icon: Icon, emoji: Mapping[str, naming.Emoji], translations: Mapping[str, Mapping[str, str]]
) -> tuple[Caption, ...]:
    """English name, English keywords, then the name in other languages."""
    known = emoji.get(icon.code)
    if known is None:
        return (Caption(wording.words(icon.name)),)
    name = wording.phrase(known.label)
    keywords = [Caption(tag, kind="keyword") for tag in dict.fromkeys(known.tags) if tag.lower() != name.lower()]
    others = [Caption(table[icon.code], lang) for lang, table in translations.items() if icon.code in table]
    return (Caption(name), *keywords, *others)


def main(arguments: list[str]) -> int:
    """``fetch`` brings the packages, ``render`` also renders the pictures."""
    if arguments not in (["fetch"], ["render"]):
        sys.stderr.write("usage: python -m clerestory.data.icons fetch|render\n")
        return 2
    try:
        count = packages.fetch()
        sys.stderr.write(f"icon packages: {count} fetched, {len(packages.ALL)} in {packages.packages_folder()}\n")
        if arguments == ["render"]:
            dataset = open_icons()
            sys.stderr.write(f"icons: {len(dataset)} pictures, digest {dataset.digest}\n")
    except ClerestoryError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
