"""The embedded pictures: about 22,000 open icons in eight art styles, with words in several languages.

``python -m clerestory.data.icons fetch`` brings the pinned packages; ``open_icons()`` renders them once and opens
the cached Parquet file from then on.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

from clerestory.core.codec import Tags
from clerestory.core.digest import digest, digest_bytes
from clerestory.core.errors import ClerestoryError, DataError, IntegrityError
from clerestory.core.evidence import Finding
from clerestory.core.progress import QUIET, Progress
from clerestory.core.provenance import PACKAGE
from clerestory.core.sample import TEST, TEST_STYLE, VAL, Caption, Dataset, Sample
from clerestory.data import caption_phrases, emoji_names, packages, parquet, render
from clerestory.data import findings as data_findings
from clerestory.data.cache import cache_folder, only_one
from clerestory.data.concepts import Shown, concepts
from clerestory.data.splits import split_of

UNSEEN_STYLE = "openmoji"
LANGUAGES = ("de", "es", "fr", "it", "nl", "pl", "pt")
# Lead's decision, keep: about 500 captions in test; validation small, since every concept it takes is not learnt from.
SHARES = {TEST: 0.21, VAL: 0.05}
SALT = "icons"


@dataclass(frozen=True, slots=True)
class Icon:
    """One drawing of one set, before it is rendered."""

    style: str
    name: str
    svg: str
    code: str
    caption: str
    licence: str
    source: str

    @property
    def id(self) -> str:
        """``style/name``."""
        return f"{self.style}/{self.name}"


def open_icons(progress: Progress = QUIET) -> Dataset:
    """The embedded pictures; rendered on first use (about a minute on two cores), then opened from the cache.

    Raises:
        DataError: the packages have not been fetched, and cannot be.
    """
    path = cache_folder() / f"icons-{recipe()}.parquet"
    cached = _open_cached(path)
    if cached is not None:
        return cached
    with only_one(cache_folder() / ".icons.lock"):
        # Another process may have built it while this one waited.
        cached = _open_cached(path)
        return cached if cached is not None else _build(path, progress)


def _open_cached(path: Path) -> Dataset | None:
    try:
        return parquet.open_written(path, "icons")
    except (DataError, IntegrityError, OSError):
        return None


@lru_cache(maxsize=1)
def recipe() -> str:
    """What the content follows from: the pins, the renderer and the code of this room. Twelve characters."""
    sources = ("icons.py", "concepts.py", "naming.py", "wording.py", "parquet.py", "splits.py", "icon_names.json")
    return digest([_rendering(), {name: _file_digest(name) for name in sources}])[:12]


def _rendering() -> str:
    """What the pictures alone follow from."""
    pins = [[package.spec, package.sha512] for package in packages.ALL]
    return digest([pins, metadata.version("resvg_py"), _file_digest("render.py"), emoji_names.by_hand()["boxes"]])


def _file_digest(name: str) -> str:
    return digest_bytes((PACKAGE / "data" / name).read_bytes())


def _build(path: Path, progress: Progress) -> Dataset:
    packages.fetch(progress=progress)
    sets, chars, licences = _read_sets()
    emoji, names, translations = _read_words(sets, chars)
    icons = _read_icons(sets, names, licences)
    icons, pictures, findings = _visible(icons, _pictures(icons, path, progress))
    samples, content = _samples(icons, pictures, emoji, translations)
    dataset = Dataset("icons", samples, lambda sample: content[sample.image], findings)
    parquet.write(dataset, path, {"rendering": _rendering()}, progress)
    _tidy(path)
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
) -> tuple[dict[str, emoji_names.Emoji], emoji_names.Names, dict[str, dict[str, str]]]:
    """English entries by code, the resolver of names, and labels by language and code."""
    members = ["en/data.json", "meta/groups.json", *(f"{lang}/compact.json" for lang in LANGUAGES)]
    shortcodes = ["en/shortcodes/joypixels.json", "en/shortcodes/github.json", "en/shortcodes/emojibase.json"]
    read = packages.read_json(packages.tarball(packages.WORDS), *members, *shortcodes)
    groups = {int(number): key for number, key in read["meta/groups.json"]["groups"].items()}
    emoji = emoji_names.read_emoji(read["en/data.json"], groups)
    short: dict[str, Any] = {}
    for name in shortcodes:
        short = {**read[name], **short}
    translations = {
        lang: {
            "-".join(emoji_names.points(each["hexcode"])): each["label"]
            for entry in read[f"{lang}/compact.json"]
            for each in (entry, *entry.get("skins", ()))
        }
        for lang in LANGUAGES
    }
    return emoji, emoji_names.Names(emoji, sets, chars, short), translations


def _read_icons(sets: Mapping[str, Any], names: emoji_names.Names, licences: Mapping[str, str]) -> list[Icon]:
    """Every drawing of every set; where a set has the same drawing twice, the plainest name of it is kept."""
    icons = []
    for style, icon_set in sets.items():
        source = packages.ICON_PACKAGES[style].spec
        drawings = [
            (
                bool(entry.get("hidden")),
                Icon(
                    style,
                    name,
                    render.drawing({**entry, **names.box(style, name)}, icon_set),
                    names.code(style, name),
                    names.caption(style, name),
                    licences[style],
                    source,
                ),
            )
            for name, entry in icon_set["icons"].items()
        ]
        drawings.sort(key=lambda item: (item[0], item[1].code != emoji_names.concept_code(item[1].code), item[1].name))
        seen: set[str] = set()
        for _, icon in drawings:
            if icon.svg not in seen:
                seen.add(icon.svg)
                icons.append(icon)
    return icons


def _pictures(icons: list[Icon], path: Path, progress: Progress) -> list[bytes]:
    """PNG bytes of every icon; taken from an older cached file where only the words have changed since."""
    known = _rendered_before(path)
    missing = [icon for icon in icons if icon.id not in known]
    drawn = render.render_all([icon.svg for icon in missing], progress) if missing else []
    known.update((icon.id, picture) for icon, picture in zip(missing, drawn, strict=True))
    return [known[icon.id] for icon in icons]


def _rendered_before(path: Path) -> dict[str, bytes]:
    for older in path.parent.glob("icons-*.parquet"):
        side = parquet.read_side(older)
        if side is not None and side.facts.get("rendering") == _rendering():
            try:
                dataset = parquet.open_written(older)
                return {sample.id: dataset.read(sample) for sample in dataset}
            except (ClerestoryError, OSError):
                continue
    return {}


def _tidy(path: Path) -> None:
    """Remove what older code has cached, but for the newest of it (another checkout may use that)."""
    others = [other for other in path.parent.glob("icons-*.parquet") if other != path]
    for old in sorted(others, key=lambda other: other.stat().st_mtime)[:-1]:
        parquet.side_file(old).unlink(missing_ok=True)
        old.unlink(missing_ok=True)


def _visible(icons: list[Icon], pictures: list[bytes]) -> tuple[list[Icon], list[bytes], list[Finding]]:
    """Keep out the few drawings that are white only (made to be laid over something else)."""
    nothing = render.render(render.drawing({"body": ""}, {}))
    kept, findings = [], []
    for icon, picture in zip(icons, pictures, strict=True):
        if picture != nothing:
            kept.append((icon, picture))
        else:
            findings.append(data_findings.blank(icon.id))
    return [icon for icon, _ in kept], [picture for _, picture in kept], findings


def _samples(
    icons: list[Icon],
    pictures: list[bytes],
    emoji: Mapping[str, emoji_names.Emoji],
    translations: Mapping[str, Mapping[str, str]],
) -> tuple[list[Sample], dict[str, bytes]]:
    content = {digest_bytes(picture): picture for picture in pictures}
    images = [digest_bytes(picture) for picture in pictures]
    captions = [_captions(icon, emoji, translations) for icon in icons]
    shown = [
        Shown(icon.code, icon.name, words[0].text, image)
        for icon, words, image in zip(icons, captions, images, strict=True)
    ]
    named = concepts(shown, emoji)
    drawn_elsewhere = {concept for icon, concept in zip(icons, named, strict=True) if icon.style != UNSEEN_STYLE}
    samples = []
    for icon, concept, words, image in zip(icons, named, captions, images, strict=True):
        split = split_of(concept, SHARES, SALT)
        known = emoji.get(icon.code) or emoji.get(emoji_names.without_tone(icon.code))
        groups = {
            "style": icon.style,
            "emoji_group": known.group if known else "other",
            "skin_tone": emoji_names.skin_tone(icon.code),
            "gender": _gender(icon),
        }
        if icon.style == UNSEEN_STYLE:
            groups["concept_split"] = split if concept in drawn_elsewhere else "none"
            split = TEST_STYLE
        samples.append(Sample(icon.id, image, words, concept, Tags(groups), icon.licence, icon.source, split))
    return samples, content


def _captions(
    icon: Icon, emoji: Mapping[str, emoji_names.Emoji], translations: Mapping[str, Mapping[str, str]]
) -> tuple[Caption, ...]:
    """English name, English keywords, then the name in other languages."""
    known, tone = emoji.get(icon.code), ""
    if known is None and (known := emoji.get(emoji_names.without_tone(icon.code))) is not None:
        tone = f" with {emoji_names.skin_tone(icon.code)} skin tone"
    if known is None:
        return (Caption(icon.caption),)
    name = caption_phrases.phrase(known.label) + tone
    keywords = [Caption(tag, kind="keyword") for tag in dict.fromkeys(known.tags) if tag.lower() != name.lower()]
    others = [Caption(table[icon.code], lang) for lang, table in translations.items() if icon.code in table]
    return (Caption(name), *keywords, *others)


def _gender(icon: Icon) -> str:
    if icon.code and not emoji_names.is_private(icon.code):
        return emoji_names.gender(icon.code)
    return emoji_names.neutral_name(icon.name)[1]


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
