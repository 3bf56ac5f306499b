"""Metadata is removed from image files, and not one pixel changes."""

from __future__ import annotations

import contextlib
import io
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, PngImagePlugin
from tests.support.faulty_data import scene

from clerestory.core.errors import UploadError
from clerestory.data.images import decode_image
from clerestory.data.images.metadata import split_metadata
from clerestory.data.images.strip import MalformedImage, orientation_exif, strip_metadata
from clerestory.stages.audit.exif import find_exif, has_coordinates, has_only_orientation

PLACE = 48.1371
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
FORMATS = ("JPEG", "PNG", "WEBP")
TRACES = (b"Exif\0\0MM", b"a camera", b"xpacket", b"a comment", b"8BIM", b"behind the end")


def metadata(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x010F] = "a camera"
    if orientation != 1:
        exif[0x0112] = orientation
    exif.get_ifd(0x8825).update({1: "N", 2: (PLACE, 0.0, 0.0), 3: "E", 4: (11.5, 0.0, 0.0)})
    return exif


def encoded(image: Image.Image, format_: str, orientation: int = 1, **more: Any) -> bytes:
    """An image file with everything that can be removed."""
    xmp = b'<?xpacket begin="" id="1"?><x:xmpmeta xmlns:x="adobe:ns:meta/"/><?xpacket end="w"?>'
    options: dict[str, Any] = {"exif": metadata(orientation), "icc_profile": PROFILE, **more}
    if format_ == "JPEG":
        options |= {"comment": b"a comment", "xmp": xmp}
    elif format_ == "PNG":
        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add_text("Comment", "a comment")
    else:
        options["xmp"] = xmp
    out = io.BytesIO()
    image.save(out, format_, **options)
    content = out.getvalue()
    if format_ == "JPEG":
        irb = b"Photoshop 3.0\x008BIM\x04\x04\0\0\0\0\0\0"
        content = content[:2] + b"\xff\xed" + struct.pack(">H", len(irb) + 2) + irb + content[2:]
    return content + b"behind the end"


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pixels_orientation_and_profile_stay_and_the_rest_goes(format_: str, orientation: int) -> None:
    content = encoded(scene(orientation, (61, 47)), format_, orientation)
    assert has_coordinates(find_exif(content, format_))
    stripped = strip_metadata(content)
    assert decode_image(stripped).tobytes() == decode_image(content).tobytes()
    assert split_metadata(stripped, format_)[1] == orientation
    exif = find_exif(stripped, format_)
    assert has_only_orientation(exif) if orientation != 1 else exif == b""
    with Image.open(io.BytesIO(stripped)) as image:
        assert image.info["icc_profile"] == PROFILE
        assert dict(image.getexif()) == ({0x0112: orientation} if orientation != 1 else {})
    assert not any(trace in stripped for trace in TRACES)
    assert strip_metadata(stripped) == stripped


@pytest.mark.parametrize(
    ("mode", "format_", "more"),
    [
        ("CMYK", "JPEG", {}),
        ("L", "JPEG", {"progressive": True}),
        ("RGB", "JPEG", {"progressive": True, "restart_marker_blocks": 3}),
        ("P", "PNG", {"transparency": 3}),
        ("RGBA", "PNG", {}),
        ("RGBA", "WEBP", {"lossless": True}),
    ],
)
def test_every_kind_of_pixels(mode: str, format_: str, more: dict[str, Any]) -> None:
    content = encoded(scene(1).convert(mode), format_, 6, icc_profile=None, **more)
    stripped = strip_metadata(content)
    assert decode_image(stripped).tobytes() == decode_image(content).tobytes()
    assert len(stripped) < len(content)


@pytest.mark.parametrize("format_", ["PNG", "WEBP"])
def test_an_animation_keeps_its_frames(format_: str) -> None:
    frames = [scene(seed, (20, 20)) for seed in range(3)]
    out = io.BytesIO()
    frames[0].save(out, format_, save_all=True, append_images=frames[1:], exif=metadata(1), lossless=True)
    stripped = strip_metadata(out.getvalue())
    with Image.open(io.BytesIO(stripped)) as image:
        assert getattr(image, "n_frames", 1) == 3
        image.seek(2)
        assert np.array_equal(np.asarray(image.convert("RGB")), np.asarray(frames[2]))


def test_a_file_without_metadata_stays_as_it_is() -> None:
    for format_ in FORMATS:
        out = io.BytesIO()
        scene(1).save(out, format_)
        assert strip_metadata(out.getvalue()) == out.getvalue()


@settings(max_examples=150)
@given(st.sampled_from(FORMATS), st.data())
def test_a_damaged_file_is_refused_or_decodes_as_before(format_: str, data: st.DataObject) -> None:
    content = bytearray(encoded(scene(3, (40, 30)), format_, 3))
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=3)):
        content[place] ^= data.draw(st.integers(1, 255))
    content = content[: data.draw(st.integers(1, len(content)))]
    try:
        stripped = strip_metadata(bytes(content))
    except MalformedImage:
        return
    with contextlib.suppress(UploadError):
        assert decode_image(stripped).tobytes() == decode_image(bytes(content)).tobytes()


def test_the_block_of_an_orientation_is_what_others_read() -> None:
    exif = Image.Exif()
    exif.load(b"Exif\0\0" + orientation_exif(8))
    assert dict(exif) == {0x0112: 8}
