"""Untrusted images: every one becomes upright RGB, or one sentence with the correct HTTP status."""

from __future__ import annotations

import io
import struct
import threading
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tests.support.images import encode_image, solid_image

from clerestory.core.errors import UploadError
from clerestory.data import decode_image
from clerestory.data.images import check_image, decode_small


def refused(content: bytes) -> UploadError:
    with pytest.raises(UploadError) as caught:
        decode_image(content)
    with pytest.raises(UploadError) as same:
        check_image(content)
    assert same.value.status == caught.value.status
    assert caught.value.fix
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_the_three_formats_are_taken(kind: str) -> None:
    picture = decode_image(solid_image((200, 30, 60), kind=kind))
    assert picture.mode == "RGB"
    assert picture.size == (24, 16)
    assert np.abs(np.asarray(picture).astype(int) - (200, 30, 60)).max() <= 6


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "PPM", "ICO"])
def test_other_formats_are_refused_by_their_content(kind: str) -> None:
    assert refused(encode_image(Image.new("RGB", (16, 16)), kind)).status == 415


@pytest.mark.parametrize("content", [b"hello", b"<svg/>", b"%PDF-1.7", b"RIFF\x00\x00\x00\x00WAVEfmt ", b"\x00" * 64])
def test_what_is_no_picture_is_refused(content: bytes) -> None:
    assert refused(content).status == 415


def test_nothing_at_all_is_refused() -> None:
    assert refused(b"").status == 400


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("kept", [0.3, 0.6, 0.95])
def test_a_cut_off_picture_is_refused(kind: str, kept: float) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (80, 80, 3), dtype=np.uint8))
    content = encode_image(noise, kind)
    assert refused(content[: int(len(content) * kept)]).status == 400


def test_a_flipped_byte_in_a_png_is_detected_by_its_checksum() -> None:
    content = bytearray(encode_image(Image.new("RGB", (40, 40), "red"), "PNG"))
    content[content.index(b"IDAT") + 6] ^= 0xFF
    assert refused(bytes(content)).status == 400


def png_claiming(width: int, height: int) -> bytes:
    """A PNG of a few bytes that claims a huge size."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 10)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("size", [(5001, 5000), (10_000, 10_000), (20_000, 20_000), (2**31 - 1, 2**31 - 1)])
def test_a_decompression_bomb_is_refused_by_its_header(size: tuple[int, int]) -> None:
    assert refused(png_claiming(*size)).status == 413


def test_exactly_25_megapixels_pass() -> None:
    assert decode_image(encode_image(Image.new("1", (5000, 5000)), "PNG")).size == (5000, 5000)


def test_an_animation_gives_its_first_frame() -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "green", "blue")]
    for kind in ("WEBP", "PNG"):
        content = encode_image(frames[0], kind, save_all=True, append_images=frames[1:], duration=50)
        assert decode_image(content).getpixel((8, 8))[0] > 200


def test_cmyk_and_grey_become_rgb() -> None:
    cmyk = decode_image(encode_image(Image.new("RGB", (16, 16), (250, 10, 10)).convert("CMYK"), "JPEG"))
    assert cmyk.mode == "RGB"
    assert cmyk.getpixel((3, 3))[0] > 200
    assert decode_image(encode_image(Image.new("L", (8, 8), 90), "JPEG")).getpixel((0, 0)) == pytest.approx(
        (90,) * 3, abs=3
    )


def test_sixteen_bits_are_scaled_not_clipped() -> None:
    ramp = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    grey = np.asarray(decode_image(encode_image(Image.fromarray(ramp), "PNG")))[..., 0].ravel()
    assert grey[0] == 0
    assert grey[-1] == 255
    assert np.abs(grey.astype(int) - np.arange(256)).max() <= 1


def test_transparency_is_laid_on_white() -> None:
    clear = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    assert decode_image(encode_image(clear, "PNG")).getpixel((0, 0)) == (255, 255, 255)
    half = Image.new("RGBA", (8, 8), (255, 0, 0, 128))
    assert decode_image(encode_image(half, "WEBP", lossless=True)).getpixel((0, 0)) == pytest.approx(
        (255, 127, 127), abs=2
    )
    grey = Image.new("LA", (8, 8), (0, 0))
    assert decode_image(encode_image(grey, "PNG")).getpixel((0, 0)) == (255, 255, 255)


def test_a_palette_with_a_transparent_colour_is_laid_on_white() -> None:
    palette = Image.new("P", (8, 8), 1)
    palette.putpalette([255, 0, 0, 0, 0, 255])
    assert decode_image(encode_image(palette, "PNG", transparency=1)).getpixel((0, 0)) == (255, 255, 255)
    assert decode_image(encode_image(palette, "PNG", transparency=b"\xff\x00")).getpixel((0, 0)) == (255, 255, 255)
    assert decode_image(encode_image(palette, "PNG")).getpixel((0, 0)) == (0, 0, 255)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_picture_taken_sideways_is_turned_upright(kind: str) -> None:
    picture = Image.new("RGB", (40, 20), "red")
    picture.paste("blue", (20, 0, 40, 20))
    exif = Image.Exif()
    exif[0x0112] = 6
    upright = decode_image(encode_image(picture, kind, exif=exif))
    assert upright.size == (20, 40)
    assert upright.getpixel((10, 5))[0] > 200
    assert upright.getpixel((10, 35))[2] > 200


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(["PNG", "JPEG", "WEBP"]),
    st.lists(st.tuples(st.integers(0, 2**16), st.integers(1, 255)), max_size=6),
)
def test_damage_never_raises_anything_but_an_upload_error(kind: str, flips: list[tuple[int, int]]) -> None:
    content = bytearray(solid_image("teal", (20, 20), kind))
    for place, change in flips:
        content[place % len(content)] ^= change
    status, mode = 0, ""
    try:
        mode = decode_image(bytes(content)).mode
    except UploadError as error:
        status = error.status
    assert (status in {400, 413, 415}) != (mode == "RGB")


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200), st.sampled_from([b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF\x10\x00\x00\x00WEBP"]))
def test_noise_behind_a_true_beginning_is_an_upload_error(noise: bytes, start: bytes) -> None:
    with pytest.raises(UploadError):
        decode_image(start + noise)


def test_pictures_are_decoded_in_threads_without_a_word() -> None:
    content, wrong = solid_image(kind="JPEG"), []

    def work() -> None:
        for _ in range(40):
            try:
                decode_image(content)
            except Exception as error:
                wrong.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_small_image_is_that_of_all_pixels_in_fewer_of_them(mode: str) -> None:
    across, down = np.meshgrid(np.linspace(0, 255, 480), np.linspace(0, 255, 320))
    image = Image.fromarray(np.stack([across, down, 255 - across], axis=2).astype(np.uint8)).convert(mode)
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    image.save(file, "JPEG", quality=95, exif=exif)
    small, header = decode_small(file.getvalue(), 50)
    assert small.size == (80, 120)
    assert small.mode == ("RGB" if mode != "RGB" else "YCbCr")
    assert (header.format, header.width, header.height, header.mode) == ("JPEG", 480, 320, mode)
    whole = decode_image(file.getvalue()).resize(small.size, Image.Resampling.BOX)
    assert np.abs(np.asarray(small.convert("RGB"), dtype=int) - np.asarray(whole, dtype=int)).mean() < 3


def test_the_header_names_transparency_and_frames() -> None:
    frames = [Image.new("RGBA", (9, 5), (k, 0, 0, 100)) for k in (10, 200)]
    file = io.BytesIO()
    frames[0].save(file, "WEBP", save_all=True, append_images=frames[1:])
    small, header = decode_small(file.getvalue(), 50)
    assert small.mode == "RGB"
    assert (header.width, header.height, header.is_transparent, header.is_animated) == (9, 5, True, True)
