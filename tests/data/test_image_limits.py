"""Limits and metadata of images: no picture of a few bytes takes gigabytes, and no metadata stops one."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps, PngImagePlugin
from tests.support.images import encode_image, noise_images

from clerestory.core.digest import digest_bytes
from clerestory.core.errors import DataError, UploadError
from clerestory.core.sample import Dataset, Sample
from clerestory.data.images import check_image, decode_image, decode_sample, image_batches
from clerestory.data.images.metadata import webp_size

CORNERS = Image.new("RGB", (48, 32), "red")
CORNERS.paste("blue", (24, 0, 48, 32))
CORNERS.paste("white", (0, 0, 24, 8))


def exif_block(*entries: tuple[int, int, int, bytes], order: str = "<") -> bytes:
    """EXIF data with entries of (tag, type, count, four bytes of value), in this order."""
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    packed = b"".join(struct.pack(order + "HHI", tag, kind, count) + value for tag, kind, count, value in entries)
    return head + struct.pack(order + "H", len(entries)) + packed + struct.pack(order + "I", 0)


def with_exif(kind: str, exif: bytes) -> bytes:
    prefix = b"Exif\0\0" if kind in ("JPEG", "WEBP") else b""
    return encode_image(CORNERS, kind, exif=prefix + exif, **({"lossless": True} if kind == "WEBP" else {}))


def png_chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def with_chunks(content: bytes, *chunks: bytes) -> bytes:
    """A PNG with further chunks after its header."""
    return content[:33] + b"".join(chunks) + content[33:]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_gives_what_pillow_gives(kind: str, order: str, orientation: int) -> None:
    value = struct.pack(order + "H", orientation) + b"\0\0"
    content = with_exif(kind, exif_block((0x0112, 3, 1, value), order=order))
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("RGB")
    assert np.array_equal(np.asarray(decode_image(content)), np.asarray(expected))


ODD_ENTRIES = st.tuples(
    st.sampled_from([0x011A, 0x011B, 0x0128, 0x829A, 0x8769, 0x8825, 0xA005, 0x9286, 0x0001, 0xFFFF]),
    st.integers(0, 20),
    st.sampled_from([0, 1, 2, 3, 1000, 2**31, 2**32 - 1]),
    st.binary(min_size=4, max_size=4),
)


@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from(["JPEG", "PNG", "WEBP"]),
    before=st.lists(ODD_ENTRIES, max_size=4),
    after=st.lists(ODD_ENTRIES, max_size=4),
    order=st.sampled_from(["<", ">"]),
)
def test_odd_exif_entries_neither_stop_an_image_nor_hide_its_orientation(
    kind: str, before: list[tuple[int, int, int, bytes]], after: list[tuple[int, int, int, bytes]], order: str
) -> None:
    orientation = (0x0112, 3, 1, struct.pack(order + "H", 6) + b"\0\0")
    content = with_exif(kind, exif_block(*before, orientation, *after, order=order))
    check_image(content)
    assert decode_image(content).size == (32, 48)


@settings(max_examples=150, deadline=None)
@given(kind=st.sampled_from(["JPEG", "PNG", "WEBP"]), noise=st.binary(max_size=300))
def test_any_bytes_as_exif_leave_the_pixels_as_they_are(kind: str, noise: bytes) -> None:
    content = with_exif(kind, noise)
    check_image(content)
    assert sorted(decode_image(content).size) == [32, 48]


def test_a_signed_rational_with_a_zero_denominator_and_a_nan_are_only_metadata() -> None:
    rational = struct.pack("<ii", -1, 0)
    block = bytearray(exif_block((0x9204, 10, 1, b"\0\0\0\0"), (0xC6F7, 12, 1, b"\0\0\0\0")))
    struct.pack_into("<I", block, 10 + 8, len(block))
    struct.pack_into("<I", block, 22 + 8, len(block) + 8)
    content = with_exif("JPEG", bytes(block) + rational + struct.pack("<d", float("nan")))
    check_image(content)
    assert decode_image(content).size == (48, 32)


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from([b"iCCP", b"zTXt", b"tEXt", b"iTXt", b"eXIf", b"gAMA", b"pHYs", b"acTL", b"fcTL", b"abCd"]),
    body=st.one_of(
        st.binary(max_size=60),
        st.binary(max_size=60).map(lambda noise: b"Raw profile type exif\0\0" + zlib.compress(noise)),
        st.binary(max_size=60).map(lambda noise: b"XML:com.adobe.xmp\0" + noise),
    ),
    times=st.integers(1, 3),
)
def test_no_auxiliary_chunk_stops_a_png(name: bytes, body: bytes, times: int) -> None:
    content = with_chunks(encode_image(CORNERS), *[png_chunk(name, body)] * times)
    check_image(content)
    assert sorted(decode_image(content).size) == [32, 48]


@pytest.mark.parametrize("name", [b"iCCP", b"zTXt", b"iTXt"])
def test_profiles_and_texts_of_many_megabytes_are_fine(name: bytes) -> None:
    packed = zlib.compress(np.random.default_rng(0).bytes(3_000_000) + b"\0" * 90_000_000)
    head = {b"iCCP": b"sRGB\0\0", b"zTXt": b"XML:com.adobe.xmp\0\0", b"iTXt": b"XML:com.adobe.xmp\0\1\0\0\0"}[name]
    content = with_chunks(encode_image(CORNERS), png_chunk(name, head + packed))
    with pytest.raises((ValueError, OSError)):
        Image.open(io.BytesIO(content)).load()  # Pillow alone refuses it
    assert np.array_equal(np.asarray(decode_image(content)), np.asarray(CORNERS))


def test_the_orientation_of_imagemagick_profiles_and_of_xmp_is_used() -> None:
    exif = exif_block((0x0112, 3, 1, struct.pack("<H", 8) + b"\0\0"))
    info = PngImagePlugin.PngInfo()
    info.add_text("Raw profile type exif", f"\nexif\n{len(exif)}\n{exif.hex()}", zip=True)
    assert decode_image(encode_image(CORNERS, pnginfo=info)).size == (32, 48)
    info = PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", '<x tiff:Orientation="6"/>', zip=True)
    assert decode_image(encode_image(CORNERS, pnginfo=info)).size == (32, 48)
    packet = b'<x tiff:Orientation="6"/>'
    assert decode_image(encode_image(CORNERS, "JPEG", xmp=packet)).size == (32, 48)
    assert decode_image(encode_image(CORNERS, "WEBP", xmp=packet)).size == (32, 48)


def test_an_adobe_marker_still_tells_the_colours_of_a_jpeg() -> None:
    cmyk = Image.new("RGB", (32, 32), (250, 120, 10)).convert("CMYK")
    content = encode_image(cmyk, "JPEG", quality=95, exif=b"Exif\0\0" + exif_block())
    expected = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    assert np.array_equal(np.asarray(decode_image(content)), expected)


@pytest.mark.parametrize("size", [(32_769, 1), (1, 32_769), (60_000, 1), (200, 40_000), (1, 25_000_000)])
def test_a_side_of_more_than_32768_pixels_is_refused_by_the_header(size: tuple[int, int]) -> None:
    header = struct.pack(">IIBBBBB", *size, 8, 2, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", b"") + png_chunk(b"IEND", b"")
    for read in (decode_image, check_image):
        with pytest.raises(UploadError) as caught:
            read(content)
        assert caught.value.status == 413
    assert f"{size[0]}×{size[1]}" in caught.value.message


def test_the_longest_allowed_side_passes() -> None:
    assert decode_image(encode_image(Image.new("1", (32_768, 2)), "PNG")).size == (32_768, 2)


@settings(max_examples=120, deadline=None)
@given(
    kind=st.sampled_from(["PNG", "JPEG", "WEBP"]),
    mode=st.sampled_from(["RGB", "L", "RGBA", "P", "CMYK", "1", "LA", "I;16"]),
    cut=st.integers(0, 4000),
    flips=st.lists(st.tuples(st.integers(0, 2**16), st.integers(1, 255)), max_size=4),
)
def test_checking_and_decoding_agree_on_every_file(
    kind: str, mode: str, cut: int, flips: list[tuple[int, int]]
) -> None:
    image = noise_images((40, 30))[0]
    image = Image.fromarray(np.asarray(image)[..., 0].astype(np.uint16)) if mode == "I;16" else image.convert(mode)
    try:
        content = bytearray(encode_image(image, kind))
    except OSError:  # the format has no such mode
        return
    for place, change in flips:
        content[place % len(content)] ^= change
    content = content[: max(0, len(content) - cut)] if cut < 2000 else content

    def outcome(read: object) -> tuple[int, str]:
        try:
            read(bytes(content))  # type: ignore[operator]
        except UploadError as error:
            return error.status, error.message
        return 200, ""

    assert outcome(check_image) == outcome(decode_image)


@pytest.mark.parametrize("mode", ["P", "PA", "LA", "RGBA", "CMYK", "L", "1", "I;16", "YCbCr"])
def test_a_large_image_is_converted_like_a_small_one(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    image = noise_images((50, 33))[0].convert("RGBA" if mode in ("PA", "LA", "RGBA") else "RGB")
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image)[..., 0].astype(np.uint16) * 257)
    elif mode != "PA":
        image = image.convert(mode)
    content = encode_image(image, "JPEG" if mode in ("CMYK", "YCbCr") else "PNG")
    whole = np.asarray(decode_image(content))
    monkeypatch.setattr("clerestory.data.images.decoding.STRIP_PIXELS", 100)  # 3 rows at a time
    assert np.array_equal(np.asarray(decode_image(content)), whole)


@pytest.mark.parametrize(
    ("content", "kind", "remedy"),
    [
        (encode_image(CORNERS, "GIF"), "GIF", "magick"),
        (encode_image(CORNERS, "TIFF"), "TIFF", "magick"),
        (encode_image(CORNERS, "BMP"), "BMP", "magick"),
        (encode_image(CORNERS, "AVIF"), "AVIF", "magick"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC", "Most Compatible"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "HEIC", "Most Compatible"),
        (b"\0\0\0\x20ftypisom\0\0\2\0", "video", "ffmpeg"),
        (b"\xff\x0a\0\0", "JPEG XL", "magick"),
        (b"  <!DOCTYPE html><html>", "web page", "download"),
        (b"\xef\xbb\xbf<html><body>404", "web page", "download"),
        (b'<?xml version="1.0"?>\n<svg xmlns="', "SVG", "rsvg-convert"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:", "Git LFS", "git lfs pull"),
        (b"%PDF-1.7", "PDF", "magick"),
        (b"PK\3\4rest", "ZIP", "unpack"),
        (b"BMW is a car, not an image", "not a JPEG", "save it"),
        (b"P1 is a position", "not a JPEG", "save it"),
        (b"P6\n# made by hand\n3 2\n255\n", "PNM", "magick"),
        (b"anything else", "not a JPEG", "save it"),
    ],
)
def test_another_kind_of_file_is_named_with_its_remedy(content: bytes, kind: str, remedy: str) -> None:
    with pytest.raises(UploadError) as caught:
        decode_image(content)
    assert caught.value.status == 415
    assert kind in caught.value.message
    assert remedy in caught.value.fix


def test_an_error_names_the_sample() -> None:
    data = Dataset("shop", [Sample("shoes/17.jpg", digest_bytes(b"GIF89a"))], lambda sample: b"GIF89a")
    with pytest.raises(DataError, match=r"sample 'shoes/17.jpg' of 'shop'.*GIF"):
        decode_sample(data, data["shoes/17.jpg"])


def test_batches_are_shorter_where_images_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clerestory.data.images.decoding.MAX_BATCH_PIXELS", 1000)
    sides = [10, 10, 10, 40, 10, 0, 30, 30]

    def load(side: int) -> Image.Image | None:
        return Image.new("RGB", (side, side)) if side else None

    batches = [[(side, image and image.size) for side, image in batch] for batch in image_batches(sides, load, 3)]
    assert [[side for side, _ in batch] for batch in batches] == [[10, 10, 10], [40], [10, 0, 30], [30]]
    assert batches[2][1] == (0, None)


@pytest.mark.parametrize("options", [{}, {"lossless": True}, {"exif": b"Exif\0\0" + exif_block()}])
@pytest.mark.parametrize("size", [(1, 1), (257, 3), (300, 16_383)])
def test_the_size_of_a_webp_is_read_from_its_header(options: dict[str, object], size: tuple[int, int]) -> None:
    content = encode_image(Image.new("RGB", size), "WEBP", method=0, **options)
    assert webp_size(content) == size
    assert webp_size(content[:20]) == (0, 0)


def test_a_webp_of_268_megapixels_is_refused_before_its_decoder_allocates_them() -> None:
    content = bytearray(encode_image(Image.new("RGB", (8, 8)), "WEBP", exif=b"Exif\0\0" + exif_block()))
    content[24:30] = (16_382).to_bytes(3, "little") * 2
    with pytest.raises(UploadError, match="16383×16383") as caught:
        decode_image(bytes(content))
    assert caught.value.status == 413
