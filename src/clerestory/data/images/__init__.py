"""Safe decoding of untrusted images, the only place where images of users are decoded.

``decoding`` has the limits and the conversion to upright RGB, ``metadata`` finds the orientation and removes the rest
before decoding, ``strip`` writes a file without it, ``other_formats`` says what to do about a file that is not
accepted, and ``decode_process`` is for servers.
"""

from __future__ import annotations

from clerestory.data.images.declared_size import declared_size
from clerestory.data.images.decode_process import decode_beside_requests
from clerestory.data.images.decoding import (
    ImageHeader,
    check_image,
    decode_image,
    decode_sample,
    decode_small,
    image_batches,
)

__all__ = [
    "ImageHeader",
    "check_image",
    "declared_size",
    "decode_beside_requests",
    "decode_image",
    "decode_sample",
    "decode_small",
    "image_batches",
]
