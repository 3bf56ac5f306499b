"""The metadata of image files: the orientation is read, and everything else is removed before decoding.

Metadata is the part of an image file that is odd most often: broken EXIF values, profiles of several megabytes, texts
that inflate to gigabytes. Viewers show such images, so metadata must never stop one. Only the orientation changes
pixels, and it is read here from its few bytes; the decoder gets the file without profiles, texts and further frames.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress

MAX_TEXT_BYTES = 2**20
_ORIENTATION = 0x0112
_XMP_ORIENTATION = re.compile(rb"tiff:Orientation(?:=[\"']|>)([1-8])")
_EXIF_HEADER = b"Exif\0\0"
_PNG_HEADER = b"\x89PNG\r\n\x1a\n"
_PNG_PIXEL_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
_PNG_EXIF_TEXT, _PNG_XMP_TEXT = b"Raw profile type exif", b"XML:com.adobe.xmp"
_JPEG_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_JPEG_PIXEL_SEGMENTS = (0xE0, 0xEE)  # JFIF and Adobe: they tell the decoder the colour space
_JPEG_SCAN = 0xDA


def split_metadata(content: bytes, format_: str) -> tuple[bytes, int]:
    """The same image without its metadata, and its orientation.

    Args:
        content: an encoded image. A malformed one is returned as it is from the first malformed byte on.
        format_: ``JPEG``, ``PNG`` or ``WEBP``.

    Returns:
        The bytes to decode, and the EXIF orientation from 1 (upright) to 8; 1 if there is none or it cannot be read.
    """
    if format_ == "JPEG":
        return _split_jpeg(content)
    return _split_png(content) if format_ == "PNG" else (content, _webp_orientation(content))


def _split_jpeg(content: bytes) -> tuple[bytes, int]:
    kept, exif, xmp, start = [content[:2]], b"", b"", 2
    while content[start : start + 1] == b"\xff" and start + 4 <= len(content):
        marker, length = content[start + 1], int.from_bytes(content[start + 2 : start + 4])
        if marker == 0xFF:  # padding before a marker
            start += 1
            continue
        if marker == _JPEG_SCAN or 0xD0 <= marker <= 0xD9 or length < 2:
            break
        end = start + 2 + length
        if not (0xE0 <= marker <= 0xEF or marker == 0xFE) or marker in _JPEG_PIXEL_SEGMENTS:
            kept.append(content[start:end])
        elif marker == 0xE1:
            body = content[start + 4 : end]
            exif = exif or (body if body.startswith(_EXIF_HEADER) else b"")
            xmp = xmp or (body if body.startswith(_JPEG_XMP) else b"")
        start = end
    return b"".join([*kept, content[start:]]), _orientation(exif, xmp)


def _split_png(content: bytes) -> tuple[bytes, int]:
    kept, exif, xmp = [_PNG_HEADER], b"", b""
    end = len(_PNG_HEADER)
    for name, start, next_start in _chunks(content, end, ">"):
        end = next_start
        if name in _PNG_PIXEL_CHUNKS or not name[:1].islower():
            kept.append(content[start:next_start])
            continue
        body = content[start + 8 : next_start - 4]
        if name == b"eXIf":
            exif = exif or body
        elif name in (b"tEXt", b"zTXt", b"iTXt"):
            if not exif and body.startswith(_PNG_EXIF_TEXT + b"\0"):
                exif = _hex_profile(_png_text(name, body))
            elif not xmp and body.startswith(_PNG_XMP_TEXT + b"\0"):
                xmp = _png_text(name, body)
    return b"".join([*kept, content[end:]]), _orientation(exif, xmp)


def webp_size(content: bytes) -> tuple[int, int]:
    """Width and height of a WEBP image by its header; (0, 0) if the header is malformed."""
    kind = content[12:16]
    with suppress(struct.error):
        if kind == b"VP8X":
            low_w, high_w, low_h, high_h = struct.unpack_from("<HBHB", content, 24)
            return low_w + (high_w << 16) + 1, low_h + (high_h << 16) + 1
        if kind == b"VP8L":
            (bits,) = struct.unpack_from("<I", content, 21)
            return (bits & 0x3FFF) + 1, ((bits >> 14) & 0x3FFF) + 1
        if kind == b"VP8 ":
            width, height = struct.unpack_from("<HH", content, 26)
            return width & 0x3FFF, height & 0x3FFF
    return 0, 0


def _webp_orientation(content: bytes) -> int:
    bodies = {name: content[start + 8 : end] for name, start, end in _chunks(content, 12, "<")}
    return _orientation(bodies.get(b"EXIF", b""), bodies.get(b"XMP ", b""))


def _chunks(content: bytes, start: int, order: str) -> Iterator[tuple[bytes, int, int]]:
    """Name, start and end of each complete chunk of a PNG (``>``: length, name, body, CRC) or a RIFF (``<``) file."""
    while start + 8 <= len(content):
        if order == ">":
            length, name = struct.unpack_from(">I4s", content, start)
            end = start + 12 + length
        else:
            name, length = struct.unpack_from("<4sI", content, start)
            end = start + 8 + length + length % 2
        if end > len(content):
            return
        yield name, start, end
        start = end


def _png_text(name: bytes, body: bytes) -> bytes:
    """The text of a chunk without its keyword; empty if it is compressed and larger than ``MAX_TEXT_BYTES``."""
    text = body.partition(b"\0")[2]
    compressed = name == b"zTXt"
    if name == b"iTXt":
        compressed = text[:1] == b"\1"
        text = text[2:].partition(b"\0")[2].partition(b"\0")[2]
    elif compressed:
        text = text[1:]
    if not compressed:
        return text
    inflater = zlib.decompressobj()
    with suppress(zlib.error):
        inflated = inflater.decompress(text, MAX_TEXT_BYTES)
        return b"" if inflater.unconsumed_tail else inflated
    return b""


def _hex_profile(text: bytes) -> bytes:
    """A profile as ImageMagick writes it: a line with its name, a line with its length, and hexadecimal digits."""
    with suppress(ValueError):
        return bytes.fromhex(b"".join(text.split(b"\n")[3:]).decode("latin-1"))
    return b""


def _orientation(exif: bytes, xmp: bytes) -> int:
    """The orientation of EXIF data, or else of an XMP packet."""
    with suppress(struct.error, KeyError):
        return _exif_orientation(exif)
    found = _XMP_ORIENTATION.search(xmp)
    return int(found[1]) if found else 1


def _exif_orientation(exif: bytes) -> int:
    """The orientation in the first directory; other entries are not read.

    Raises:
        KeyError: there is none.
        struct.error: the data ends too early.
    """
    while exif.startswith(_EXIF_HEADER):
        exif = exif[len(_EXIF_HEADER) :]
    order = {b"II": "<", b"MM": ">"}[exif[:2]]
    (directory,) = struct.unpack_from(f"{order}I", exif, 4)
    (entries,) = struct.unpack_from(f"{order}H", exif, directory)
    for i in range(entries):
        tag, kind = struct.unpack_from(f"{order}HH", exif, directory + 2 + 12 * i)
        if tag == _ORIENTATION:
            size = {1: "B", 3: "H", 4: "I"}[kind]
            (value,) = struct.unpack_from(f"{order}{size}", exif, directory + 10 + 12 * i)
            return int(value) if 1 <= value <= 8 else 1
    raise KeyError(_ORIENTATION)
