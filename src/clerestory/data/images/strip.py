"""Remove the metadata of an image file without touching its pixels.

The coded image is copied byte for byte; a JPEG is not compressed again. What decides how the pixels look stays: the
orientation, alone in an EXIF block of 26 bytes, and the colour profile (ICC, gamma, chromaticities). Everything else
goes: EXIF with its coordinates, camera, times and preview, XMP, IPTC, comments, texts, blocks of unknown programs, and
what stands behind the end of the image, where telephones keep a second one with metadata of its own.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from clerestory.data.images.metadata import split_metadata

_ORIENTATION_TAG, _SHORT = 0x0112, 3
_PNG_HEADER = b"\x89PNG\r\n\x1a\n"
_PNG_KEPT = frozenset(
    (b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"sBIT", b"cICP", b"mDCV", b"cLLI", b"bKGD", b"pHYs")
    + (b"acTL", b"fcTL", b"fdAT")  # frames of an animation
)
_WEBP_KEPT = frozenset((b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ICCP", b"ANIM", b"ANMF"))
_WEBP_EXIF, _WEBP_XMP = 0x08, 0x04  # flags of VP8X
_ICC, _JFIF, _ADOBE = b"ICC_PROFILE\0", b"JFIF\0", b"Adobe"
_SOI, _EOI, _SOS = 0xD8, 0xD9, 0xDA


class MalformedImage(ValueError):
    """The structure of a file does not allow to tell its metadata from its pixels."""


def strip_metadata(content: bytes) -> bytes:
    """The same image without metadata; equal to ``content`` if it has none.

    Args:
        content: an encoded JPEG, PNG or WEBP image.

    Raises:
        MalformedImage: the structure of the file is damaged, or it has another format.
    """
    try:
        if content.startswith(b"\xff\xd8\xff"):
            return _strip_jpeg(content)
        if content.startswith(_PNG_HEADER):
            return _strip_png(content)
        if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
            return _strip_webp(content)
    except (struct.error, IndexError):
        raise MalformedImage("the file ends too early") from None
    raise MalformedImage("this is not a JPEG, PNG or WEBP image")


def orientation_exif(orientation: int) -> bytes:
    """A TIFF structure with one entry: the orientation, 1 to 8 (EXIF 2.32, 4.6.4)."""
    return struct.pack("<2sHIHHHIHHI", b"II", 42, 8, 1, _ORIENTATION_TAG, _SHORT, 1, orientation, 0, 0)


def _strip_jpeg(content: bytes) -> bytes:
    _, orientation = split_metadata(content, "JPEG")
    kept = [content[:2]]
    place = 2
    while place < len(content):
        if content[place] != 0xFF:
            raise MalformedImage("a segment does not begin with a marker")
        marker = content[place + 1]
        if marker == 0xFF:  # padding
            place += 1
            continue
        if marker == _EOI:
            kept.append(content[place : place + 2])
            break
        if marker == 0x01 or 0xD0 <= marker <= _SOI:  # without a length
            kept.append(content[place : place + 2])
            place += 2
            continue
        (length,) = struct.unpack_from(">H", content, place + 2)
        end = place + 2 + length
        if length < 2 or end > len(content):
            raise MalformedImage("a segment is longer than the file")
        body = content[place + 4 : end]
        is_metadata = 0xE0 <= marker <= 0xEF or marker == 0xFE
        if not is_metadata or _is_kept(marker, body):
            kept.append(content[place:end])
        place = end
        if marker == _SOS:
            end = _end_of_scan(content, place)
            kept.append(content[place:end])
            place = end
    if orientation != 1:
        body = b"Exif\0\0" + orientation_exif(orientation)
        after_jfif = 2 if kept[1][:2] == b"\xff\xe0" else 1  # JFIF has to be the first segment
        kept.insert(after_jfif, b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body)
    return b"".join(kept)


def _is_kept(marker: int, body: bytes) -> bool:
    """Whether an application segment decides how the pixels look: JFIF, an ICC profile, Adobe's colour transform."""
    starts = {0xE0: _JFIF, 0xE2: _ICC, 0xEE: _ADOBE}
    return marker in starts and body.startswith(starts[marker])


def _end_of_scan(content: bytes, start: int) -> int:
    """The place of the first marker behind the coded pixels of a scan, which may have restart markers in them."""
    place = start
    while (place := content.find(b"\xff", place)) >= 0 and place + 1 < len(content):
        following = content[place + 1]
        if following != 0 and not 0xD0 <= following <= 0xD7 and following != 0xFF:
            return place
        place += 1 if following == 0xFF else 2
    return len(content)  # without an end, which decoders accept


def _strip_png(content: bytes) -> bytes:
    _, orientation = split_metadata(content, "PNG")
    exif = _png_chunk(b"eXIf", orientation_exif(orientation)) if orientation != 1 else b""
    kept = [_PNG_HEADER]
    for name, chunk in _png_chunks(content):
        if name == b"IDAT" and exif:
            kept.append(exif)
            exif = b""
        if name in _PNG_KEPT or not name[:1].islower():
            kept.append(chunk)
        if name == b"IEND":
            return b"".join(kept)
    raise MalformedImage("the image has no end")


def _png_chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = len(_PNG_HEADER)
    while place < len(content):
        length, name = struct.unpack_from(">I4s", content, place)
        end = place + 12 + length
        if end > len(content):
            raise MalformedImage("a chunk is longer than the file")
        yield name, content[place:end]
        place = end


def _png_chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def _strip_webp(content: bytes) -> bytes:
    _, orientation = split_metadata(content, "WEBP")
    (size,) = struct.unpack_from("<I", content, 4)
    end = min(8 + size, len(content))
    kept: list[bytes] = []
    place = 12
    while place + 8 <= end:
        name, length = struct.unpack_from("<4sI", content, place)
        after = place + 8 + length
        if after > end:
            raise MalformedImage("a chunk is longer than the file")
        body = content[place + 8 : after]
        if name == b"VP8X":
            flags = body[0] & ~(_WEBP_EXIF | _WEBP_XMP) | (_WEBP_EXIF if orientation != 1 else 0)
            body = bytes([flags]) + body[1:]
        if name in _WEBP_KEPT:
            kept.append(_riff_chunk(name, body))
        place = after + length % 2
    if orientation != 1:
        kept.append(_riff_chunk(b"EXIF", orientation_exif(orientation)))
    chunks = b"".join(kept)
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WEBP" + chunks


def _riff_chunk(name: bytes, body: bytes) -> bytes:
    return name + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)
