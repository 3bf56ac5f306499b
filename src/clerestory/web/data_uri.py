"""The payload of a ``data:`` URI as bytes, decoded in slices.

The standard library decodes a payload of many megabytes in calls of up to several seconds during which no other thread
can run.
"""

from __future__ import annotations

import base64

import numpy as np
from numpy.typing import NDArray

SLICE_BYTES = 1 << 20  # a multiple of 4, so that a slice of base64 is valid by itself
_TO_STANDARD_BASE64 = bytes.maketrans(b"-_", b"+/")
_BLANKS = b" \t\r\n\f\v"
_NOT_HEX = 16
_HEX = np.full(256, _NOT_HEX, np.uint8)  # the value of a hexadecimal digit
for _digits in (b"0123456789abcdef", b"0123456789ABCDEF"):
    _HEX[list(_digits)] = range(16)


def decode_payload(payload: str, is_base64: bool) -> bytes:
    """The bytes of a payload: percent-encoded, or base64 that may be percent-encoded besides.

    Base64 may be standard or URL-safe, wrapped or not, with or without padding.

    Raises:
        ValueError: the payload is not ASCII; base64 has other characters, or its length is impossible.
    """
    raw = payload.encode("ascii")
    if b"%" in raw:
        raw = unquote(raw)
    return _decode_base64(raw) if is_base64 else raw


def unquote(raw: bytes) -> bytes:
    """As ``urllib.parse.unquote_to_bytes``: a percent sign without two hexadecimal digits stays as it is."""
    parts = []
    start = 0
    while start < len(raw):
        end = min(start + SLICE_BYTES, len(raw))
        if end < len(raw):  # no escape is cut
            last = raw.rfind(b"%", end - 2, end)
            end = last if last >= 0 else end
        parts.append(_unquote_slice(np.frombuffer(raw, np.uint8, end - start, start)))
        start = end
    return b"".join(parts)


def _unquote_slice(raw: NDArray[np.uint8]) -> bytes:
    high, low = _HEX[raw[1:-1]], _HEX[raw[2:]]
    escapes = np.flatnonzero((raw[:-2] == ord("%")) & (high < _NOT_HEX) & (low < _NOT_HEX))
    out, kept = raw.copy(), np.ones(len(raw), dtype=bool)
    out[escapes] = high[escapes] * 16 + low[escapes]
    kept[escapes + 1] = kept[escapes + 2] = False
    return out[kept].tobytes()


def _decode_base64(raw: bytes) -> bytes:
    text = raw.translate(_TO_STANDARD_BASE64, _BLANKS).rstrip(b"=")
    if b"=" in text:
        raise ValueError("padding within base64")
    text += b"=" * (-len(text) % 4)
    slices = (text[start : start + SLICE_BYTES] for start in range(0, len(text), SLICE_BYTES))
    return b"".join(base64.b64decode(each, validate=True) for each in slices)
