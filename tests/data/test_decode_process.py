"""A large WEBP is decoded in a process of its own, with the same result."""

from __future__ import annotations

import resource

import pytest
from tests.support.images import solid_image

from clerestory.core.errors import UploadError
from clerestory.data.images import decode_beside_requests, decode_image

LARGE = (2_000, 1_200)


def child_page_faults() -> int:
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_minflt


@pytest.mark.parametrize(
    ("kind", "size", "elsewhere"), [("WEBP", LARGE, True), ("WEBP", (64, 64), False), ("PNG", LARGE, False)]
)
def test_only_a_large_webp_is_decoded_elsewhere(kind: str, size: tuple[int, int], elsewhere: bool) -> None:
    content = solid_image("teal", size, kind)
    before = child_page_faults()
    image = decode_beside_requests(content)
    assert (child_page_faults() > before) == elsewhere
    expected = decode_image(content)
    assert (image.mode, image.size) == (expected.mode, expected.size)
    assert image.tobytes() == expected.tobytes()


def test_a_damaged_one_is_the_same_error() -> None:
    content = solid_image("teal", LARGE, "WEBP")
    damaged = content[: len(content) // 2]
    with pytest.raises(UploadError) as expected:
        decode_image(damaged)
    with pytest.raises(UploadError) as error:
        decode_beside_requests(damaged)
    assert (str(error.value), error.value.status) == (str(expected.value), expected.value.status)
