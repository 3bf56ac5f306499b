"""The declared size agrees with a decoder, and no bytes make it fail."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tests.support.images import encode_image

from clerestory.data.images import declared_size


@pytest.mark.parametrize("size", [(1, 1), (640, 3), (17, 2000)])
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("PNG", {}),
        ("JPEG", {}),
        ("JPEG", {"progressive": True, "exif": b"Exif\0\0" + b"\xff" * 3000}),
        ("WEBP", {}),
        ("WEBP", {"lossless": True}),
    ],
)
def test_it_agrees_with_the_encoder(kind: str, options: dict[str, object], size: tuple[int, int]) -> None:
    assert declared_size(encode_image(Image.new("RGB", size, "red"), kind, **options)) == size


HEADS = st.sampled_from([b"", b"\xff\xd8", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"RIFF\0\0\0\0WEBPVP8 "])


@given(HEADS, st.binary(max_size=200))
def test_no_bytes_make_it_fail(head: bytes, rest: bytes) -> None:
    assert all(side >= 0 for side in declared_size(head + rest))
