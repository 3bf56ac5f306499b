"""The facts of one image file: digest, size, date and perceptual hash; and its decoded image."""

from __future__ import annotations

import hashlib
import os
import stat
import struct
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from clerestory.apps.folder_index.walking import Stamp, stamp_of
from clerestory.apps.tags import Tag
from clerestory.core.errors import InputError, UploadError
from clerestory.core.files import read_problem
from clerestory.data.images import decode_image

if TYPE_CHECKING:
    from collections.abc import Callable

    from PIL import Image

MAX_FILE_BYTES = 256 * 2**20
HASH_SIDE = 32  # pixels of the reduced image
COLOUR_SIDE = 4  # fields of the colour grid
HASH_BITS_SIDE = 8  # of its lowest frequencies
_EXIF_BYTES = 256 * 2**10  # dates are in the first segments of a file
_EXIF_DATE = 0x9003  # DateTimeOriginal
_EXIF_IFD = 0x8769


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """The properties of one image, whatever the name of its file.

    Attributes:
        width, height: pixels, upright.
        phash: perceptual hash, 64 bits as a signed integer.
        colours: the mean colours of a grid of 4 × 4 fields, 48 bytes; the hash knows nothing of colours.
        taken: when the photograph was taken, as seconds since 1970 in the camera's time; None if it does not say.
        tags: what a photograph shows; empty means "not sure". None for other images, and where the model has no tags.
    """

    width: int
    height: int
    phash: int
    colours: bytes
    taken: int | None
    tags: tuple[Tag, ...] | None = None


@dataclass(slots=True)
class ReadFile:
    """A file after it was read.

    Attributes:
        path: below the folder.
        stamp: of the bytes that were read.
        sha256: of the bytes; empty if they could not be read, or decoded for a reason that may pass: it is tried again.
        problem: why it is not an image that can be used; empty if it is one, or if its content was known.
        facts, image: of an image whose content was not known.
    """

    path: str
    stamp: Stamp
    sha256: str = ""
    problem: str = ""
    facts: ImageFacts | None = None
    image: Image.Image | None = None


def read_file(root: Path, path: str, stamp: Stamp, is_known: Callable[[str], bool]) -> ReadFile:
    """Read a file, and decode it if its content is not known.

    Args:
        root: the folder.
        path: of the file below it.
        stamp: from the listing.
        is_known: whether the content with this SHA-256 needs no decoding.
    """
    result = ReadFile(path, stamp)
    try:
        # Without blocking: a pipe may have taken the place of a file since the folder was listed.
        handle = os.open(root / path, os.O_RDONLY | os.O_NONBLOCK)
        with os.fdopen(handle, "rb") as file:
            status = os.fstat(file.fileno())
            # A file that changes while it is read has another stamp in the next listing and is read again.
            result.stamp = stamp_of(status)
            if not stat.S_ISREG(status.st_mode):
                result.problem = "it is a pipe, a device or a socket, not a file"
                return result
            if status.st_size > MAX_FILE_BYTES:
                result.problem = f"the file is larger than {MAX_FILE_BYTES >> 20} MiB"
                return result
            content = file.read()
    except OSError as error:
        result.problem = read_problem(error)
        return result
    result.sha256 = hashlib.sha256(content).hexdigest()
    if is_known(result.sha256):
        return result
    try:
        image = decode_image(content)
    except InputError as error:
        result.problem = str(error)
        if isinstance(error, UploadError) and error.status >= 500:  # such as too little memory: not the image's fault
            result.sha256 = ""
        return result
    result.image = image
    result.facts = ImageFacts(image.width, image.height, *perceptual_hash(image), date_taken(content))
    return result


def perceptual_hash(image: Image.Image) -> tuple[int, bytes]:
    """The DCT hash (pHash) of an RGB image, 64 bits as a signed integer, and its mean colours, 4 × 4 × 3 bytes.

    The bits are the signs of the lowest 8 × 8 frequencies of the grey image against their median; re-encoding and
    resizing change few of them.
    """
    small = image.resize((HASH_SIDE, HASH_SIDE), resample=3, reducing_gap=2.0)
    pixels = np.asarray(small.convert("L"), dtype=np.float32)
    low = (_DCT @ pixels @ _DCT.T)[1:, 1:].ravel()
    bits = np.packbits(low > np.median(low))
    fields = np.asarray(small).reshape(COLOUR_SIDE, -1, COLOUR_SIDE, HASH_SIDE // COLOUR_SIDE, 3).mean(axis=(1, 3))
    return int.from_bytes(bits.tobytes(), "big", signed=True), fields.round().astype(np.uint8).tobytes()


def _dct_matrix(rows: int, n: int) -> NDArray[np.float32]:
    k, i = np.arange(rows)[:, None], np.arange(n)[None]
    return np.cos(np.pi * k * (2 * i + 1) / (2 * n)).astype(np.float32)


_DCT = _dct_matrix(HASH_BITS_SIDE + 1, HASH_SIDE)


def date_taken(content: bytes) -> int | None:
    """The date in the EXIF data of a JPEG, as seconds since 1970 in the time of the camera; None if there is none."""
    start = content[:_EXIF_BYTES].find(b"Exif\0\0")
    if start < 0:
        return None
    exif = content[start + 6 : start + 6 + 65_536]
    with suppress(struct.error, KeyError, ValueError, OverflowError):
        order = {b"II": "<", b"MM": ">"}[exif[:2]]
        (first,) = struct.unpack_from(f"{order}I", exif, 4)
        (directory,) = _entry(exif, order, first, _EXIF_IFD)
        (offset,) = _entry(exif, order, directory, _EXIF_DATE)
        text = exif[offset : offset + 19].decode("ascii", "replace")
        return int(datetime.strptime(text, "%Y:%m:%d %H:%M:%S").replace(tzinfo=UTC).timestamp())
    return None


def _entry(exif: bytes, order: str, directory: int, tag: int) -> tuple[int]:
    (count,) = struct.unpack_from(f"{order}H", exif, directory)
    for i in range(min(count, 512)):
        found, _, _, value = struct.unpack_from(f"{order}HHII", exif, directory + 2 + 12 * i)
        if found == tag:
            return (value,)
    raise KeyError(tag)
