"""The built-in images: about 22,000 open icons in eight art styles, with captions in several languages.

``python -m clerestory.data.icons fetch`` fetches the pinned packages; ``open_icons()`` renders them once and opens the
cached Parquet file from then on.
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
from clerestory.core.files import cache_folder, file_lock
from clerestory.core.progress import QUIET, Progress
from clerestory.core.provenance import PACKAGE
from clerestory.core.sample import TEST, TEST_STYLE, VAL, Caption, Dataset, Sample
from clerestory.data import caption_phrases, emoji_names, packages, parquet, render
from clerestory.data import findings as data_findings
from clerestory.data.concepts import IconRecord, concepts
from clerestory.data.splits import split_of

HELD_OUT_STYLE = "openmoji"
LANGUAGES = ("de", "es", "fr", "it", "nl", "pl", "pt")
# About 500 captions in test; a small validation split, since its concepts are missing from the training data.
SHARES = {TEST: 0.21, VAL: 0.05}
SALT = "icons"


@dataclass(frozen=True, slots=True)
class Icon:
    """One icon of one set, before it is rendered."""

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
    """The built-in images; rendered on first use (about a minute on two cores), then opened from the cache.

    Raises:
        DataError: the packages are missing and cannot be fetched.
    """
    path = cache_folder() / f"icons-{cache_key()}.parquet"
    cached = _open_cached(path)
    if cached is not None:
        return cached
    with file_lock(cache_folder() / ".icons.lock"):
        # Another process may have built it while this one was waiting.
        cached = _open_cached(path)
        return cached if cached is not None else _build(path, progress)


def _open_cached(path: Path) -> Dataset | None:
    try:
        return parquet.open_dataset(path, "icons")
    except (DataError, IntegrityError, OSError):
        return None


@lru_cache(maxsize=1)
def cache_key() -> str:
    """A digest of everything that the content depends on: pins, renderer and code. Twelve characters."""
    sources = (
        "icons.py",
        "concepts.py",
        "emoji_names.py",
        "caption_phrases.py",
        "parquet.py",
        "splits.py",
        "icon_names.json",
    )
    return digest([_rendering_key(), {name: _file_digest(name) for name in sources}])[:12]


def _rendering_key() -> str:
    """A digest of everything that the images depend on, without captions and splits."""
    pins = [[package.spec, package.sha512] for package in packages.ALL_PACKAGES]
    return digest([pins, metadata.version("resvg_py"), _file_digest("render.py"), emoji_names.manual_table()["boxes"]])


def _file_digest(name: str) -> str:
    return digest_bytes((PACKAGE / "data" / name).read_bytes())


def _build(path: Path, progress: Progress) -> Dataset:
    packages.fetch(progress=progress)
    sets, chars, licences = _read_sets()
    emoji, names, translations = _read_emojibase(sets, chars)
    icons = _read_icons(sets, names, licences)
    icons, images, findings = _drop_blank(icons, _images(icons, path, progress))
    samples, content = _samples(icons, images, emoji, translations)
    dataset = Dataset("icons", samples, lambda sample: content[sample.image], findings)
    parquet.write_dataset(dataset, path, {"rendering": _rendering_key()}, progress)
    _remove_old_caches(path)
    return parquet.open_dataset(path, "icons")


def _read_sets() -> tuple[dict[str, Any], dict[str, dict[str, str]], dict[str, str]]:
    sets, chars, licences = {}, {}, {}
    for style, package in packages.ICON_PACKAGES.items():
        documents = packages.read_json(packages.read_package(package), "icons.json", "chars.json", "info.json")
        sets[style] = documents["icons.json"]
        licences[style] = documents["info.json"]["license"]["spdx"]
        if "chars.json" in documents:
            chars[style] = documents["chars.json"]
    return sets, chars, licences


def _read_emojibase(
    sets: Mapping[str, Any], chars: Mapping[str, dict[str, str]]
) -> tuple[dict[str, emoji_names.Emoji], emoji_names.NameResolver, dict[str, dict[str, str]]]:
    """English entries by code, the name resolver, and labels by language and code."""
    members = ["en/data.json", "meta/groups.json", *(f"{lang}/compact.json" for lang in LANGUAGES)]
    shortcodes = ["en/shortcodes/joypixels.json", "en/shortcodes/github.json", "en/shortcodes/emojibase.json"]
    documents = packages.read_json(packages.read_package(packages.EMOJIBASE), *members, *shortcodes)
    groups = {int(number): key for number, key in documents["meta/groups.json"]["groups"].items()}
    emoji = emoji_names.read_emoji(documents["en/data.json"], groups)
    names: dict[str, Any] = {}
    for file in shortcodes:
        names = {**documents[file], **names}
    translations = {
        lang: {
            "-".join(emoji_names.code_points(each["hexcode"])): each["label"]
            for entry in documents[f"{lang}/compact.json"]
            for each in (entry, *entry.get("skins", ()))
        }
        for lang in LANGUAGES
    }
    return emoji, emoji_names.NameResolver(emoji, sets, chars, names), translations


def _read_icons(sets: Mapping[str, Any], names: emoji_names.NameResolver, licences: Mapping[str, str]) -> list[Icon]:
    """Every icon of every set; if a set has the same drawing twice, its simplest name is used."""
    icons = []
    for style, icon_set in sets.items():
        source = packages.ICON_PACKAGES[style].spec
        candidates = [
            (
                bool(entry.get("hidden")),
                Icon(
                    style,
                    name,
                    render.svg_document({**entry, **names.box(style, name)}, icon_set),
                    names.code(style, name),
                    names.caption(style, name),
                    licences[style],
                    source,
                ),
            )
            for name, entry in icon_set["icons"].items()
        ]
        candidates.sort(
            key=lambda item: (item[0], item[1].code != emoji_names.concept_code(item[1].code), item[1].name)
        )
        seen: set[str] = set()
        for _, icon in candidates:
            if icon.svg not in seen:
                seen.add(icon.svg)
                icons.append(icon)
    return icons


def _images(icons: list[Icon], path: Path, progress: Progress) -> list[bytes]:
    """PNG bytes of every icon; from an older cached file if only captions or splits have changed."""
    known = _cached_images(path)
    missing = [icon for icon in icons if icon.id not in known]
    rendered = render.render_all([icon.svg for icon in missing], progress) if missing else []
    known.update((icon.id, image) for icon, image in zip(missing, rendered, strict=True))
    return [known[icon.id] for icon in icons]


def _cached_images(path: Path) -> dict[str, bytes]:
    for older in path.parent.glob("icons-*.parquet"):
        sidecar = parquet.read_sidecar(older)
        if sidecar is not None and sidecar.cache_keys.get("rendering") == _rendering_key():
            try:
                dataset = parquet.open_dataset(older)
                return {sample.id: dataset.read(sample) for sample in dataset}
            except (ClerestoryError, OSError):
                continue
    return {}


def _remove_old_caches(path: Path) -> None:
    """Remove the cached files of older code, except the newest one, which another checkout may use."""
    others = [other for other in path.parent.glob("icons-*.parquet") if other != path]
    for old in sorted(others, key=lambda other: other.stat().st_mtime)[:-1]:
        parquet.sidecar_path(old).unlink(missing_ok=True)
        old.unlink(missing_ok=True)


def _drop_blank(icons: list[Icon], images: list[bytes]) -> tuple[list[Icon], list[bytes], list[Finding]]:
    """Skip the few icons that are completely white (meant as overlays)."""
    blank = render.render(render.svg_document({"body": ""}, {}))
    visible, findings = [], []
    for icon, image in zip(icons, images, strict=True):
        if image != blank:
            visible.append((icon, image))
        else:
            findings.append(data_findings.blank_icon(icon.id))
    return [icon for icon, _ in visible], [image for _, image in visible], findings


def _samples(
    icons: list[Icon],
    encoded: list[bytes],
    emoji: Mapping[str, emoji_names.Emoji],
    translations: Mapping[str, Mapping[str, str]],
) -> tuple[list[Sample], dict[str, bytes]]:
    content = {digest_bytes(image): image for image in encoded}
    images = [digest_bytes(image) for image in encoded]
    captions = [_captions(icon, emoji, translations) for icon in icons]
    records = [
        IconRecord(icon.code, icon.name, texts[0].text, image)
        for icon, texts, image in zip(icons, captions, images, strict=True)
    ]
    concept_names = concepts(records, emoji)
    in_other_styles = {
        concept for icon, concept in zip(icons, concept_names, strict=True) if icon.style != HELD_OUT_STYLE
    }
    samples = []
    for icon, concept, texts, image in zip(icons, concept_names, captions, images, strict=True):
        split = split_of(concept, SHARES, SALT)
        known = emoji.get(icon.code) or emoji.get(emoji_names.without_tone(icon.code))
        groups = {
            "style": icon.style,
            "emoji_group": known.group if known else "other",
            "skin_tone": emoji_names.skin_tone(icon.code),
            "gender": _gender(icon),
        }
        if icon.style == HELD_OUT_STYLE:
            groups["concept_split"] = split if concept in in_other_styles else "none"
            split = TEST_STYLE
        samples.append(Sample(icon.id, image, texts, concept, Tags(groups), icon.licence, icon.source, split))
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
    """``fetch`` fetches the packages, ``render`` also renders the images."""
    if arguments not in (["fetch"], ["render"]):
        sys.stderr.write("usage: python -m clerestory.data.icons fetch|render\n")
        return 2
    try:
        count = packages.fetch()
        sys.stderr.write(
            f"icon packages: {count} fetched, {len(packages.ALL_PACKAGES)} in {packages.packages_folder()}\n"
        )
        if arguments == ["render"]:
            dataset = open_icons()
            sys.stderr.write(f"icons: {len(dataset)} images, digest {dataset.digest}\n")
    except ClerestoryError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
