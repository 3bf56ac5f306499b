"""A dataset with faults that an audit finds, in images and captions."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageFilter

from clerestory.core.digest import digest_bytes
from clerestory.core.sample import Caption, Dataset, Sample

VALUES = ("ada.lovelace@example.org", "4111 1111 1111 1111", "+49 89 12345678")  # personal data
COMMENT, LATITUDE = b"a comment in the file", 48.1371
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>"


def scene(seed: int, size: tuple[int, int] = (240, 180)) -> Image.Image:
    """An image with coarse structure, as a photograph has: random blots, enlarged."""
    values = np.random.default_rng(seed).integers(0, 255, (9, 12, 3), dtype=np.uint8)
    return Image.fromarray(values).resize(size, Image.Resampling.BICUBIC)


def jpeg(image: Image.Image, **options: object) -> bytes:
    """The bytes of a JPEG file."""
    out = io.BytesIO()
    image.save(out, "JPEG", **{"quality": 92, **options})
    return out.getvalue()


def make_dataset(images: Sequence[tuple[str, bytes, str, str]]) -> Dataset:
    """A dataset in memory from id, file, split and caption of each sample."""
    contents = {digest_bytes(content): content for _, content, _, _ in images}
    samples = [
        Sample(id, digest_bytes(content), (Caption(caption),) if caption else (), licence="MIT", split=split)
        for id, content, split, caption in images
    ]
    return Dataset("faulty", samples, lambda sample: contents[sample.image])


def faulty_data() -> Dataset:
    """Copies in several splits, a blurred image, coordinates in a file, personal data and markup in captions."""
    exif = Image.Exif()
    exif.get_ifd(0x8825).update({1: "N", 2: (LATITUDE, 0.0, 0.0), 3: "E", 4: (11.5, 0.0, 0.0)})
    images = [(f"plain{i}.jpg", jpeg(scene(i)), "train", f"scene number {i} with some blots") for i in range(6)]
    images += [
        ("copy.jpg", jpeg(scene(0)), "test", "a copy of a training image here"),
        ("smaller.jpg", jpeg(scene(1).resize((120, 90))), "test", "a smaller copy of another image"),
        ("blurred.jpg", jpeg(scene(20).filter(ImageFilter.GaussianBlur(20))), "train", "nothing to see in it"),
        ("gps.jpg", jpeg(scene(21), exif=exif, comment=COMMENT), "train", "taken at a place"),
        ("mail.jpg", jpeg(scene(22)), "train", f"<b>write</b> to {VALUES[0]} for prints"),
        ("card.jpg", jpeg(scene(23)), "train", f"paid with {VALUES[1]} in a shop"),
        ("phone.jpg", jpeg(scene(24)), "train", f"call {VALUES[2]} for a taxi"),
        (f"{HOSTILE}.jpg", jpeg(scene(25)), "train", HOSTILE),
        (f"{VALUES[0]}.jpg", jpeg(scene(26)), "train", "<i>a caption</i> beside a telling name"),
    ]
    return make_dataset(images)
