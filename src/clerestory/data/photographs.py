"""The built-in photographs: fifteen images in the public domain, for a first search and for the demo.

They come from pinned packages of npm and PyPI, which are only read. ``photographs.json`` names the file and the source
of each one, and its licence in the words of the package; the captions are our own. There are too few to train or to
judge a model: they show what a search looks like.

``python -m clerestory.data.photographs fetch`` fetches the packages; ``open_data("photographs")`` does so on first use.
"""

from __future__ import annotations

import json
import sys
from functools import lru_cache
from importlib.resources import files
from typing import Any

from clerestory.core.codec import Tags
from clerestory.core.digest import digest, digest_bytes
from clerestory.core.errors import ClerestoryError, DataError, IntegrityError
from clerestory.core.files import cache_folder, file_lock
from clerestory.core.progress import QUIET, Progress
from clerestory.core.sample import TEST, Caption, Dataset, Sample
from clerestory.data import packages, parquet

NAME = "photographs"
CONTENT_SOURCES = ("photographs.py", "photographs.json")


def open_photographs(progress: Progress = QUIET) -> Dataset:
    """The built-in photographs, all of them in the split ``test``; fetched on first use, then opened from the cache.

    Raises:
        ClerestoryError: the packages are missing and cannot be fetched.
    """
    path = cache_folder() / f"{NAME}-{_cache_key()}.parquet"
    with file_lock(cache_folder() / f".{NAME}.lock"):
        try:
            return parquet.open_dataset(path, NAME)
        except (DataError, IntegrityError, OSError):
            parquet.write_dataset(_build(progress), path, progress=progress)
            return parquet.open_dataset(path, NAME)


@lru_cache(maxsize=1)
def pinned_packages() -> dict[str, packages.Package]:
    """The pinned packages by name."""
    return {name: packages.Package(name, **pin) for name, pin in _table()["packages"].items()}


@lru_cache(maxsize=1)
def _table() -> dict[str, Any]:
    table: dict[str, Any] = json.loads(
        files("clerestory.data").joinpath("photographs.json").read_text(encoding="utf-8")
    )
    return table


def _cache_key() -> str:
    sources = [files("clerestory.data").joinpath(name).read_bytes() for name in CONTENT_SOURCES]
    return digest([digest_bytes(source) for source in sources])[:12]


def _build(progress: Progress) -> Dataset:
    packages.fetch(tuple(pinned_packages().values()), progress)
    samples, content = [], {}
    for name, package in pinned_packages().items():
        entries = [entry for entry in _table()["photographs"] if entry["package"] == name]
        members = packages.read_members(packages.read_package(package), *(entry["member"] for entry in entries))
        for entry in entries:
            image = digest_bytes(members[entry["member"]])
            content[image] = members[entry["member"]]
            samples.append(_sample(entry, package, image))
    return Dataset(NAME, samples, lambda sample: content[sample.image])


def _sample(entry: dict[str, Any], package: packages.Package, image: str) -> Sample:
    captions = tuple(Caption(text) for text in entry["captions"])
    source = f"{package.spec}; {entry['source']}"
    groups = Tags(colour=entry["colour"])
    concept = entry["id"].partition(".")[0].replace("-", " ")
    return Sample(entry["id"], image, captions, concept, groups, entry["licence"], source, TEST)


def main(arguments: list[str]) -> int:
    """``fetch`` fetches the packages and prepares the photographs."""
    if arguments != ["fetch"]:
        sys.stderr.write("usage: python -m clerestory.data.photographs fetch\n")
        return 2
    try:
        dataset = open_photographs()
        sys.stderr.write(f"photographs: {len(dataset)} images, digest {dataset.digest}\n")
    except ClerestoryError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
