"""What a file is that is not one of the accepted image formats, and what to do about it."""

from __future__ import annotations

import re

CONVERT = "convert it, for example with ImageMagick: magick {0} image.{1}"
SAVE_AGAIN = "save it as JPEG, PNG or WEBP and try again"
_PNM = re.compile(rb"P[1-6]\s+(?:#[^\n]*\n\s*)*\d")
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"miaf")
_HEIC_FIX = (
    "convert it, for example with ImageMagick: magick image.heic image.jpg; for new photos choose "
    "Settings > Camera > Formats > Most Compatible on the iPhone"
)
_KINDS: tuple[tuple[tuple[bytes, ...], str, str], ...] = (
    ((b"GIF87a", b"GIF89a"), "a GIF image", CONVERT.format("image.gif[0]", "png")),
    ((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), "a TIFF image", CONVERT.format("image.tif[0]", "png")),
    ((b"\xff\x0a", b"\0\0\0\x0cJXL "), "a JPEG XL image", CONVERT.format("image.jxl", "png")),
    ((b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51"), "a JPEG 2000 image", CONVERT.format("image.jp2", "png")),
    ((b"8BPS",), "a Photoshop file", CONVERT.format("image.psd[0]", "png")),
    ((b"\0\0\1\0",), "a Windows icon", CONVERT.format("image.ico[0]", "png")),
    ((b"%PDF",), "a PDF document", CONVERT.format("-density 150 document.pdf[0]", "png")),
    ((b"PK\3\4",), "a ZIP archive", "unpack it, and name the folder with the images"),
    ((b"\x1f\x8b",), "a gzip archive", "unpack it, and name the folder with the images"),
    ((b"version https://git-lfs",), "a Git LFS pointer instead of the image", "fetch the images with: git lfs pull"),
)
_WEB_PAGE_FIX = "the download of the image failed: download it again"


def other_format(content: bytes) -> tuple[str, str]:
    """What some bytes are that are not a JPEG, PNG or WEBP image, and the remedy; the first is empty if unknown."""
    if content[4:8] == b"ftyp":
        brand = content[8:12]
        if brand in (b"avif", b"avis"):
            return "an AVIF image", CONVERT.format("image.avif", "png")
        if brand in _HEIF_BRANDS:
            return "a HEIC image", _HEIC_FIX
        return "a video", "extract a frame, for example with: ffmpeg -i video.mp4 -frames:v 1 image.jpg"
    for starts, kind, fix in _KINDS:
        if content.startswith(starts):
            return kind, fix
    if content.startswith(b"BM") and content[6:10] == b"\0\0\0\0":
        return "a BMP image", CONVERT.format("image.bmp", "png")
    if _PNM.match(content):
        return "a PNM image", CONVERT.format("image.ppm", "png")
    text = content[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype html", b"<html")):
        return "a web page", _WEB_PAGE_FIX
    if text.startswith(b"<svg") or (text.startswith((b"<?xml", b"<!--", b"<!doctype svg")) and b"<svg" in text):
        return "an SVG drawing", "render it, for example with: rsvg-convert -w 512 image.svg -o image.png"
    return "", SAVE_AGAIN
