"""Image files of at most 10 MB that are hard on memory: as many pixels as are allowed, in every expensive encoding."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
from PIL import Image

SIDE = 5000  # 25 megapixels
LONGEST = 32_768
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def png_chunk(name: bytes, body: bytes) -> bytes:
    """A chunk with its length and checksum."""
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(
    size: tuple[int, int], bits: int, kind: int, interlaced: bool = False, chunks: bytes = b"", channels: int = 4
) -> bytes:
    """A PNG of equal bytes, written without ever holding its pixels.

    Args:
        size: width and height.
        bits: of a channel.
        kind: the colour type of the PNG specification: 0 grey, 2 RGB, 3 palette, 4 grey with alpha, 6 RGBA.
        interlaced: in seven passes (Adam7).
        chunks: further chunks before the pixels.
        channels: of the colour type.
    """
    width, height = size
    packer = zlib.compressobj(1)
    pieces = []
    for x, y, dx, dy in ADAM7 if interlaced else ((0, 0, 1, 1),):
        columns, rows = -(-(width - x) // dx), -(-(height - y) // dy)
        line = b"\0" + b"\x55" * (-(-columns * bits * channels // 8)) if columns > 0 else b""
        pieces += [packer.compress(line) for _ in range(max(0, rows))]
    pixels = b"".join([*pieces, packer.flush()])
    header = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, int(interlaced))
    end = png_chunk(b"IDAT", pixels) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + chunks + end


def _profile() -> bytes:
    noise = np.random.default_rng(0).bytes(7_000_000)
    return png_chunk(b"iCCP", b"sRGB\0\0" + zlib.compress(noise, 1))


def _text_bomb() -> bytes:
    packer = zlib.compressobj(9)
    packed = b"".join([packer.compress(b"\0" * 10_000_000) for _ in range(100)] + [packer.flush()])
    return png_chunk(b"zTXt", b"XML:com.adobe.xmp\0\0" + packed)


def _palette() -> bytes:
    return png_chunk(b"PLTE", bytes(range(256)) * 3) + png_chunk(b"tRNS", bytes(range(256)))


def _saved(mode: str, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    Image.new(mode, (SIDE, SIDE), (40,) * len(mode)).save(out, kind, **options)
    return out.getvalue()


def _animated_webp() -> bytes:
    still = _saved("RGBA", "WEBP", lossless=True, method=0)
    frame = still[12:]  # its VP8L chunk
    size = (SIDE - 1).to_bytes(3, "little") * 2
    body = b"\0" * 6 + size + (100).to_bytes(3, "little") + b"\0" + frame
    frames = (b"ANMF" + struct.pack("<I", len(body)) + body) * 3
    canvas = b"VP8X" + struct.pack("<I", 10) + b"\x12\0\0\0" + size
    content = b"WEBP" + canvas + b"ANIM" + struct.pack("<I", 6) + b"\xff" * 4 + b"\0\0" + frames
    return b"RIFF" + struct.pack("<I", len(content)) + content


LARGE_IMAGES: dict[str, Callable[[], bytes]] = {
    "30000x1.png": lambda: png((30_000, 1), 8, 2, channels=3),
    "1x30000.png": lambda: png((1, 30_000), 8, 2, channels=3),
    "200xlongest.png": lambda: png((200, LONGEST), 8, 2, channels=3),
    "longest panorama.png": lambda: png((LONGEST, 25_000_000 // LONGEST), 8, 6),
    "rgba.png": lambda: png((SIDE, SIDE), 8, 6),
    "rgba of 16 bits, interlaced.png": lambda: png((SIDE, SIDE), 16, 6, interlaced=True),
    "grey of 16 bits.png": lambda: png((SIDE, SIDE), 16, 0, channels=1),
    "palette with transparency.png": lambda: png((SIDE, SIDE), 8, 3, chunks=_palette(), channels=1),
    "colour profile of 7 MB.png": lambda: png((SIDE, SIDE), 8, 6, chunks=_profile()),
    "text of 1 GB.png": lambda: png((SIDE, SIDE), 8, 2, chunks=_text_bomb(), channels=3),
    "progressive cmyk.jpg": lambda: _saved("CMYK", "JPEG", progressive=True, subsampling=0),
    "sideways.jpg": lambda: _saved(
        "RGB", "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\6\0\0\0\0\0\0\0"
    ),
    "animated.webp": _animated_webp,
}
