"""Whether a file has camera metadata (EXIF), and coordinates in it; no value is read.

EXIF is a TIFF structure: tables of entries of 12 bytes, one of which points to the table of the GPS (CIPA DC-008, 4.6).
Reading the two tables here, instead of with Pillow, reads nothing else and prints no warning about malformed values.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import suppress

GPS_TABLE = 0x8825
ORIENTATION = 0x0112
COORDINATES = {2, 4}  # latitude and longitude in the table of the GPS
_HEADER = b"Exif\0\0"
_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}
_ENTRY_BYTES = 12


def find_exif(content: bytes, format_: str) -> bytes:
    """The EXIF bytes of a file, empty if it has none.

    Args:
        content: the encoded image.
        format_: ``JPEG``, ``PNG`` or ``WEBP``.
    """
    if format_ == "JPEG":  # a segment: its length, which counts itself, then the header
        at = content.find(_HEADER)
        return content[at + len(_HEADER) : at - 2 + int.from_bytes(content[at - 2 : at])] if at >= 4 else b""
    if format_ == "PNG":  # a chunk: length, name, body; it may come after the pixels
        at = content.find(b"eXIf")
        return content[at + 4 : at + 4 + int.from_bytes(content[at - 4 : at])] if at >= 4 else b""
    at = content.find(b"EXIF")  # a chunk: name, length, body
    found = content[at + 8 : at + 8 + int.from_bytes(content[at + 4 : at + 8], "little")] if at >= 0 else b""
    return found.removeprefix(_HEADER)


def has_coordinates(exif: bytes) -> bool:
    """Whether there is a latitude or a longitude; False for malformed bytes."""
    order = _ORDERS.get(exif[:4])
    if order is None:
        return False
    with suppress(struct.error):
        (start,) = struct.unpack_from(f"{order}I", exif, 4)
        tables = [value for tag, value in _entries(exif, start, order) if tag == GPS_TABLE]
        return any(tag in COORDINATES for table in tables for tag, _ in _entries(exif, table, order))
    return False


def has_only_orientation(exif: bytes) -> bool:
    """Whether there is nothing but the orientation, without which the image would be shown turned."""
    order = _ORDERS.get(exif[:4])
    if order is None:
        return False
    with suppress(struct.error):
        (start,) = struct.unpack_from(f"{order}I", exif, 4)
        return [tag for tag, _ in _entries(exif, start, order)] == [ORIENTATION]
    return False


def _entries(exif: bytes, start: int, order: str) -> Iterator[tuple[int, int]]:
    """Tag and value of the entries of a table."""
    (count,) = struct.unpack_from(f"{order}H", exif, start)
    for k in range(count):
        tag, _, _, value = struct.unpack_from(f"{order}HHII", exif, start + 2 + k * _ENTRY_BYTES)
        yield tag, value
