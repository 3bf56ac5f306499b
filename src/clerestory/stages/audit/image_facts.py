"""The facts about each image that the checks need: read once, cached by the digest of its bytes.

An audit that was interrupted, or of data that has grown, reads only the images that it has not seen. Decoding takes
most of the time, so a JPEG is decoded at a fraction of its size, and every fact comes from that one small image.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from enum import IntFlag

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clerestory.core.errors import ClerestoryError
from clerestory.core.progress import Progress
from clerestory.core.provenance import code_digest
from clerestory.core.sample import Dataset, Sample
from clerestory.data.images import ImageHeader, decode_small
from clerestory.stages.audit.exif import find_exif, has_coordinates, has_only_orientation
from clerestory.stages.audit.hashing import MIN_SIDE, ORIENTATIONS, PDQ_BYTES, SIDE, hash_images, sum_of_fields
from clerestory.store.answer_cache import AnswerCache, answer_key

BATCH_SIZE = 256  # images of a transaction: a kill loses at most these
FORMATS = {"JPEG": b"\xff\xd8\xff", "PNG": b"\x89PNG\r\n\x1a\n", "WEBP": b"RIFF"}  # and how a file of it begins
ANIMATION_BYTES = 2**16  # of a PNG, in which the chunk acTL stands before the pixels
THUMB_SIDE, CHROMA_SIDE = 32, 8
BRIGHTNESS_BINS, CHROMA_BINS = 4, 6
COLOUR_BINS = BRIGHTNESS_BINS * CHROMA_BINS**2
CHROMA_SPREAD = 96  # of Cb and Cr around grey, beyond which colours are rare
_VALUES = np.arange(256)
_BRIGHTNESS_BIN = _VALUES * BRIGHTNESS_BINS // 256 * CHROMA_BINS**2
_CHROMA_BIN = np.clip((_VALUES - 128 + CHROMA_SPREAD) * CHROMA_BINS // (2 * CHROMA_SPREAD), 0, CHROMA_BINS - 1)


class ImageFlag(IntFlag):
    """What a file has besides its pixels."""

    ANIMATED = 1
    CMYK = 2
    TRANSPARENT = 4
    EXIF = 8
    GPS = 16


FACTS = np.dtype(
    [
        ("width", "<u4"),  # pixels, as stored: before an orientation is applied
        ("height", "<u4"),
        ("num_bytes", "<u8"),  # of the file
        ("format", "u1"),  # position in FORMATS
        ("flags", "u1"),  # of ImageFlag
        ("brightness", "<f4"),  # 0 to 255: the 95th percentile of the means of brightness
        ("contrast", "<f4"),  # 0 to 255: their standard deviation
        ("sharpness", "<f4"),  # the standard deviation of the Laplacian over that of the brightness
        ("quality", "u1"),  # of the PDQ hash, 0 to 100
        ("phash", "<u8"),
        ("pdq", "u1", (ORIENTATIONS, PDQ_BYTES)),
        ("thumb", "u1", (THUMB_SIDE, THUMB_SIDE)),  # means of brightness
        ("chroma", "u1", (CHROMA_SIDE, CHROMA_SIDE, 2)),  # means of Cb and Cr
        ("colours", "u1", (COLOUR_BINS,)),  # square roots of the shares of colours, of 255
    ]
)


def read_image_facts(data: Dataset, cache: AnswerCache, progress: Progress) -> tuple[NDArray[np.void], list[str]]:
    """The facts (N,) of ``FACTS`` about the image of every sample, in the order of the data.

    Args:
        data: the dataset.
        cache: keeps the facts of an image; a batch of images is one transaction.
        progress: reports the images that are read.

    Returns:
        The facts, all zero for an image that cannot be read any more, and the ids of those samples.
    """
    code = code_digest("stages/audit/image_facts", "stages/audit/exif", "stages/audit/hashing", "data/images")
    keys = [answer_key("image facts", code, sample.image) for sample in data]
    known = cache.get(list(dict.fromkeys(keys)))
    missing = {key: sample for key, sample in zip(keys, data, strict=True) if key not in known}
    unreadable: set[bytes] = set()
    if missing:
        entries = list(missing.items())
        with progress.task("Reading images", len(entries)) as bar, ThreadPoolExecutor(os.cpu_count()) as threads:
            for start in range(0, len(entries), BATCH_SIZE):
                batch = entries[start : start + BATCH_SIZE]
                facts = _facts_of([sample for _, sample in batch], data, threads)
                read = {key: row.tobytes() for (key, _), row in zip(batch, facts, strict=True) if row["width"]}
                unreadable.update(key for key, _ in batch if key not in read)
                cache.put(read)
                known |= read
                bar.advance(len(batch))
    blank = bytes(FACTS.itemsize)
    rows = np.frombuffer(b"".join(known.get(key, blank) for key in keys), dtype=FACTS)
    return rows, [sample.id for key, sample in zip(keys, data, strict=True) if key in unreadable]


def _facts_of(samples: Sequence[Sample], data: Dataset, threads: ThreadPoolExecutor) -> NDArray[np.void]:
    facts = np.zeros(len(samples), FACTS)
    means = np.zeros((len(samples), SIDE, SIDE), np.uint8)

    def fill(place: int) -> None:
        try:
            content = data.read(samples[place])
            image, header = decode_small(content, MIN_SIDE)
        except (ClerestoryError, OSError):  # it has gone, or changed, since the data was opened
            return
        _describe_file(content, header, facts[place])
        means[place] = _describe_pixels(image, facts[place])

    list(threads.map(fill, range(len(samples))))
    hashes = hash_images(means)
    facts["pdq"], facts["quality"], facts["phash"] = hashes.pdq, hashes.quality, hashes.phash
    facts["contrast"] = means.std(axis=(1, 2))
    facts["thumb"] = ((sum_of_fields(means) + 2) // 4).astype(np.uint8)
    facts["brightness"] = np.percentile(facts["thumb"], 95, axis=(1, 2))
    facts[facts["width"] == 0] = np.zeros(1, FACTS)
    return facts


def _describe_file(content: bytes, header: ImageHeader, row: np.void) -> None:
    """Fill in what the header says."""
    flags = ImageFlag(0)
    row["width"], row["height"] = header.width, header.height
    row["num_bytes"] = len(content)
    row["format"] = list(FORMATS).index(header.format)
    if header.mode == "CMYK":
        flags |= ImageFlag.CMYK
    if header.is_transparent:
        flags |= ImageFlag.TRANSPARENT
    if header.is_animated or (header.format == "PNG" and b"acTL" in content[:ANIMATION_BYTES]):
        flags |= ImageFlag.ANIMATED
    exif = find_exif(content, header.format)
    if exif and not has_only_orientation(exif):
        flags |= ImageFlag.EXIF
    if has_coordinates(exif):
        flags |= ImageFlag.GPS
    row["flags"] = int(flags)


def _describe_pixels(image: Image.Image, row: np.void) -> NDArray[np.uint8]:
    """Fill in sharpness and colours of a decoded image; returns its means of brightness (64, 64)."""
    factor = min(image.size) // MIN_SIDE
    if factor > 1:  # what the decoder of a JPEG has already done
        image = image.reduce(factor)
    colours = image if image.mode == "YCbCr" else image.convert("YCbCr")
    row["sharpness"] = _sharpness(colours.getchannel(0))
    fields = colours.resize((SIDE, SIDE), Image.Resampling.HAMMING)
    row["chroma"] = np.asarray(fields.reduce(SIDE // CHROMA_SIDE))[..., 1:]
    small = np.asarray(fields)
    row["colours"] = _colour_shares(small)
    return small[..., 0]


def _colour_shares(small: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """How often each colour occurs, which a crop changes little: square roots of shares, so that rare ones count."""
    bins = _BRIGHTNESS_BIN[small[..., 0]] + _CHROMA_BIN[small[..., 1]] * CHROMA_BINS + _CHROMA_BIN[small[..., 2]]
    shares = np.bincount(bins.ravel(), minlength=COLOUR_BINS) / bins.size
    return (np.sqrt(shares) * 255).round().astype(np.uint8)


def _sharpness(grey: Image.Image) -> float:
    """The standard deviation of the Laplacian, relative to that of the brightness.

    Blur removes the former and leaves the latter; a scene of low contrast loses both. The shorter side has fewer than
    twice ``MIN_SIDE`` pixels, so that the detail that counts is of a size in proportion to the image.
    """
    if min(grey.size) < 3:
        return 0.0
    values = np.asarray(grey).astype(np.int16)
    rows = values[1:-1]
    inner = rows[:, 1:-1] * np.int16(4)
    for neighbour in (values[:-2, 1:-1], values[2:, 1:-1], rows[:, :-2], rows[:, 2:]):
        inner -= neighbour
    deviation = _deviation(values)
    return _deviation(inner) / deviation if deviation else 0.0


def _deviation(values: NDArray[np.int16]) -> float:
    flat = values.ravel().astype(np.float32)
    flat -= flat.mean()
    return math.sqrt(float(flat @ flat) / flat.size)
