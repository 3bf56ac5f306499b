"""Where a drift monitor's observations come from: named data, a log, or a folder of dated images."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import ImageStat

from clerestory.apps.datasets import view_dataset
from clerestory.apps.folder_index.reading import date_taken
from clerestory.apps.folder_index.walking import list_images
from clerestory.core.codec import Tags
from clerestory.core.errors import DataError, InputError, UploadError
from clerestory.core.files import expand_user
from clerestory.core.progress import QUIET, Progress
from clerestory.core.provenance import code_digest
from clerestory.core.sample import Dataset
from clerestory.data.images import decode_image
from clerestory.models.protocols import Embedder
from clerestory.stages.evaluate.cached_embeddings import embed_images_by_key, read_image
from clerestory.stages.watch.drift.log import SUFFIXES, NothingToWatch, read_log
from clerestory.stages.watch.drift.observations import ObservationTable
from clerestory.store import Store

if TYPE_CHECKING:
    from PIL import Image

MAX_REFERENCE = 6_000  # images of named data; more make no monitor better
FACT_SIDE = 64
FOLDER = "folder"
_DATE = re.compile(r"(?<!\d)(19\d\d|20\d\d)[-_.]?(0[1-9]|1[0-2])[-_.]?(0[1-9]|[12]\d|3[01])(?!\d)")

Read = Callable[[str], bytes]


@dataclass(frozen=True)
class DriftSource:
    """Observations, and how to read the image of one by its id.

    Attributes:
        table: the observations.
        read: raises an error where there is no image.
    """

    table: ObservationTable
    read: Read


def image_numbers(image: Image.Image) -> dict[str, float]:
    """What is watched of an image beside its embedding: brightness (0 black, 1 white), width and height in pixels."""
    small = image.convert("L")
    small.thumbnail((FACT_SIDE, FACT_SIDE))
    return {
        "brightness": ImageStat.Stat(small).mean[0] / 255,
        "width": float(image.width),
        "height": float(image.height),
    }


def open_drift_source(
    source: str,
    store: Store,
    model: Callable[[], Embedder],
    *,
    split: str = "",
    columns: Sequence[str] = (),
    slice_by: Sequence[str] = (),
    is_dated: bool = False,
    file_times: bool = False,
    progress: Progress = QUIET,
) -> DriftSource:
    """Open a log, a folder of images or named data.

    Args:
        source: a Parquet or CSV log, a folder, or a dataset.
        store: holds the datasets and the cached embeddings.
        model: opens the model that embeds images; called only if there are images to embed.
        split: only this split of a dataset.
        columns: further columns of a log.
        slice_by: columns or groups to slice by.
        is_dated: each image of a folder needs a date.
        file_times: the time of a file counts where there is no other date.
        progress: reports embedding.

    Raises:
        DataError: it cannot be read or has nothing to watch; a folder has no dates where they are needed.
    """
    path = expand_user(source)
    if path.suffix.lower() in SUFFIXES and path.is_file() and not split and _is_log(path):
        return DriftSource(read_log(path, columns, slice_by), _reader_below(path.parent))
    if is_dated and path.is_dir():
        return _dated_folder(path, store, model(), file_times, progress)
    if is_dated:
        kind = "does not exist" if not path.exists() else "is neither a log nor a folder"
        raise DataError(f"{source} {kind}", "name a Parquet or CSV log, or a folder of dated images")
    return reference_of(view_dataset(store, source, progress), store, model(), split, progress)


def reference_of(
    data: Dataset, store: Store, model: Embedder, split: str = "", progress: Progress = QUIET
) -> DriftSource:
    """Named data as a reference: at most ``MAX_REFERENCE`` of its images, chosen by the digest of their ids.

    Raises:
        DataError: the split does not exist, or no image can be read.
    """
    samples = [sample for sample in data if not split or sample.split == split]
    if not samples:
        known = ", ".join(sorted({sample.split for sample in data} - {""})) or "no splits"
        raise DataError(f"{data.name} has no split {split!r}", f"it has {known}")
    # The order of hashes is a random order that is the same on any machine.
    samples.sort(key=lambda sample: hashlib.sha256(sample.id.encode()).digest())
    samples = samples[:MAX_REFERENCE]
    embeddings = embed_images_by_key(
        model,
        [sample.image for sample in samples],
        lambda i: read_image(data, samples[i]),
        store.answer_cache,
        progress,
        label=f"Embedding {data.name}",
        names=[sample.id for sample in samples],
    )
    key = f"drift-facts/{data.digest}/{split}/{MAX_REFERENCE}/{code_digest('data/images', 'apps/drift_sources')}"
    if (cached := store.cache_read(key)) is None:
        facts = []
        with progress.task(f"Measuring {data.name}", len(samples)) as bar:
            for sample in samples:
                image = read_image(data, sample)
                facts.append(image_numbers(image) if image is not None else {})
                bar.advance()
        store.cache_content(key, json.dumps(facts).encode())
    else:
        facts = json.loads(cached)
    kept = np.flatnonzero(np.isfinite(embeddings).all(axis=1))
    left_out = {"an image that cannot be read": len(samples) - len(kept)} if len(kept) < len(samples) else {}
    names = ("brightness", "width", "height")
    groups = sorted({name for sample in samples for name in sample.groups})
    table = ObservationTable(
        [sample.id for sample in samples],
        embeddings,
        {name: np.array([fact.get(name, np.nan) for fact in facts]) for name in names},
        {name: [sample.groups.get(name, "") for sample in samples] for name in groups},
        name=f"{data.name}, split {split}" if split else data.name,
        identity=Tags(data=data.digest, split=split, model=model.digest),
    ).take(kept)
    object.__setattr__(table, "left_out", left_out)
    return DriftSource(table, lambda id: data.read(data[id]))


def parse_until(text: str) -> float:
    """The beginning of a date or a time as seconds since the epoch, UTC where it names no zone.

    Raises:
        InputError: it is neither.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise InputError(f"--until is {text!r}, which is not a date", "write it as --until 2026-03-01") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def date_of_path(path: str) -> float | None:
    """The date in a file name, else in that of the nearest folder: ``2026-11-03``, ``IMG_20261103``."""
    for part in reversed(path.split("/")):
        if found := _DATE.search(part):
            try:
                day = date(*(int(number) for number in found.groups()))
            except ValueError:  # 31 February
                continue
            return datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()
    return None


def _is_log(path: Path) -> bool:
    """Whether a table is a log rather than a dataset of captions: it has an embedding or a watched column."""
    try:
        read_log(path)
    except NothingToWatch:
        return False
    except DataError:
        return True
    return True


def _reader_below(folder: Path) -> Read:
    """Reads images that a log names by their path below its folder, and nothing outside of it."""
    root = folder.resolve()

    def read(id: str) -> bytes:
        path = (root / id).resolve()
        if not path.is_relative_to(root):
            raise OSError(f"{id} is outside of {root}")
        return path.read_bytes()

    return read


def _dated_folder(folder: Path, store: Store, model: Embedder, file_times: bool, progress: Progress) -> DriftSource:
    listing = list_images(folder)
    if not listing.images:
        raise DataError(f"the folder {folder} has no images", "name a folder with JPEG, PNG or WebP images")
    left_out: Counter[str] = Counter()
    left_out["a file or folder that cannot be read"] = len(listing.problems)
    rows: list[tuple[float, str, str, dict[str, float]]] = []
    with progress.task("Reading images", len(listing.images)) as bar:
        for path in sorted(listing.images):
            bar.advance()
            try:
                content = (folder / path).read_bytes()
                numbers = image_numbers(decode_image(content))
            except (OSError, UploadError):
                left_out["an image that cannot be read"] += 1
                continue
            at = date_taken(content) or date_of_path(path)
            if at is None and file_times:
                at = (folder / path).stat().st_mtime
            if at is None:
                left_out["no date in its EXIF data or its name"] += 1
                continue
            rows.append((float(at), path, hashlib.sha256(content).hexdigest(), numbers))
    if not rows:
        reasons = ", ".join(f"{count:,} with {reason}" for reason, count in left_out.items() if count)
        raise DataError(
            f"no image in {folder} can be used: {reasons}",
            "dates come from EXIF, or from names such as 2026-11-03; use the times of the files with --file-times",
        )
    rows.sort(key=lambda row: (row[0], row[1]))
    paths = [path for _, path, _, _ in rows]
    embeddings = embed_images_by_key(
        model,
        [key for _, _, key, _ in rows],
        lambda i: decode_image((folder / paths[i]).read_bytes()),
        store.answer_cache,
        progress,
        names=paths,
    )
    is_undated = left_out["no date in its EXIF data or its name"] > 0
    notes = ("--file-times uses the time of the file where an image has no other date",) if is_undated else ()
    table = ObservationTable(
        paths,
        embeddings,
        {name: np.array([numbers[name] for *_, numbers in rows]) for name in ("brightness", "width", "height")},
        {FOLDER: [path.rpartition("/")[0] for path in paths]},
        np.array([at for at, *_ in rows]),
        left_out={reason: count for reason, count in left_out.items() if count},
        notes=notes,
        name=folder.name or str(folder),
        identity=Tags(model=model.digest),
    )
    return DriftSource(table, _reader_below(folder))
