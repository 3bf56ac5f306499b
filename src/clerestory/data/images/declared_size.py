"""The size that an image file declares, read from its first bytes without a decoder; for limits before decoding."""

from __future__ import annotations

from clerestory.data.images.metadata import webp_size

_PNG = b"\x89PNG\r\n\x1a\n"
_WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD9)}  # markers of JPEG that no segment follows
_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
MAX_SEGMENTS = 1_000


def declared_size(content: bytes) -> tuple[int, int]:
    """Width and height of a JPEG, PNG or WEBP, before any orientation; (0, 0) if they are not where they should be."""
    if content[:8] == _PNG and content[12:16] == b"IHDR":
        return int.from_bytes(content[16:20]), int.from_bytes(content[20:24])
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return webp_size(content)
    if content[:2] == b"\xff\xd8":
        return _jpeg_size(content)
    return 0, 0


def _jpeg_size(content: bytes) -> tuple[int, int]:
    position = 2
    for _ in range(MAX_SEGMENTS):
        position = content.find(b"\xff", position)
        while position >= 0 and content[position + 1 : position + 2] == b"\xff":  # fill bytes
            position += 1
        if position < 0 or position + 9 > len(content):
            return 0, 0
        marker = content[position + 1]
        if marker in _FRAMES:
            height, width = content[position + 5 : position + 7], content[position + 7 : position + 9]
            return int.from_bytes(width), int.from_bytes(height)
        position += 2
        if marker not in _WITHOUT_LENGTH:
            position += int.from_bytes(content[position : position + 2])
    return 0, 0
