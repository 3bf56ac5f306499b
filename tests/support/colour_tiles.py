"""Coloured tiles, and a model that knows the names of their colours."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageColor, ImageDraw
from tests.support.images import encode_image

from clerestory.core.codec import Tags
from clerestory.core.digest import digest, digest_bytes
from clerestory.core.sample import Caption, Dataset, Sample
from clerestory.models.protocols import CaptionCandidate

NAMES = """
red green blue yellow orange purple brown pink cyan magenta olive navy
teal maroon gold indigo coral salmon khaki orchid tan turquoise violet crimson
"""
COLOURS = NAMES.split()
TINTS = {"plain": 0.0, "pale": 0.25, "dusky": -0.2}


def features(colours: np.ndarray) -> np.ndarray:
    """(N, 3) in 0..1 to unit rows (N, 8)."""
    r, g, b = (colours.astype(np.float64) - 0.5).T
    rows = np.stack([r, g, b, np.full_like(r, 0.2), r * g, g * b, b * r, r * g * b], axis=1)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


class ColourModel:
    """Embeds an image by its mean colour and a text by the colours it names; captions with the nearest names."""

    dims = (4, 8)

    def __init__(self, silent: str = "navy") -> None:
        self.digest = digest({"model": "colours", "silent": silent})
        self.silent = silent
        self.images_seen = 0
        self.texts_seen: list[str] = []

    def embed_images(self, images: Sequence[Image.Image], dim: int | None = None) -> np.ndarray:
        self.images_seen += len(images)
        return self._cut(features(np.stack([np.asarray(image).reshape(-1, 3).mean(0) / 255 for image in images])), dim)

    def embed_texts(self, texts: Sequence[str], dim: int | None = None) -> np.ndarray:
        self.texts_seen += texts
        rows = []
        for text in texts:
            named = [ImageColor.getrgb(word) for word in text.lower().split() if word in COLOURS] or [(128, 128, 128)]
            rows.append(np.mean(named, axis=0) / 255)
        return self._cut(features(np.stack(rows)), dim)

    def caption_images(self, images: Sequence[Image.Image], n: int = 3) -> list[list[CaptionCandidate]]:
        likeness = self.embed_images(images) @ self.embed_texts(COLOURS).T
        answers = []
        for row in likeness:
            order = np.argsort(-row)[:n]
            quiet = COLOURS[order[0]] == self.silent
            answers.append(
                [] if quiet else [CaptionCandidate(f"{COLOURS[i]} tile", float((1 + row[i]) / 2)) for i in order]
            )
        return answers

    def _cut(self, rows: np.ndarray, dim: int | None) -> np.ndarray:
        cut = rows[:, : dim or 8]
        return cut / np.linalg.norm(cut, axis=1, keepdims=True)


class EmbedderOnly:
    """The same model without captioning."""

    def __init__(self, model: ColourModel) -> None:
        self.digest, self.dims = model.digest, model.dims
        self.embed_images, self.embed_texts = model.embed_images, model.embed_texts


def tile_image(colour: str, style: str, mark: int = 0) -> bytes:
    """PNG bytes of a tile; ``mark`` sets one pixel, so that equal-looking tiles differ."""
    shade = np.array(ImageColor.getrgb(colour)) / 255
    shade = np.clip(shade + TINTS[style] * (1 - shade if TINTS[style] > 0 else shade), 0, 1)
    image = Image.new("RGB", (12, 12), tuple(int(255 * part) for part in shade))
    ImageDraw.Draw(image).point((0, 0), fill=(mark, mark, mark))
    return encode_image(image)


def tiles(splits: bool = True, broken: Sequence[str] = (), colours: Sequence[str] = tuple(COLOURS)) -> Dataset:
    """Every colour in three styles, ``dusky`` the unseen one; skin-tone variants and a German caption, too."""
    contents: dict[str, bytes] = {}
    samples = []

    def add(name: str, content: bytes, captions: tuple[Caption, ...], concept: str, **groups: str) -> None:
        split = ("test_style" if groups["style"] == "dusky" else "test") if splits else ""
        contents[digest_bytes(content)] = content
        tags = Tags({"skin_tone": "none", "gender": "none", **groups})
        samples.append(Sample(name, digest_bytes(content), captions, concept, tags, "CC0-1.0", "drawn", split))

    for i, colour in enumerate(colours):
        # Two of the captions differ in case and spaces only from those of the other styles.
        for style in TINTS:
            name = f"{style}/{colour}"
            text = f"{colour.upper()}  tile" if style == "pale" and i < 2 else f"{colour} tile"
            content = b"this is no picture" + colour.encode() if name in broken else tile_image(colour, style, i)
            seen = {"concept_split": "train" if i % 2 else "none"} if style == "dusky" else {}
            captions = (Caption(f"{colour} Kachel", "de"), Caption(text, "en-GB"), Caption("square", "en", "keyword"))
            add(name, content, captions, colour, style=style, **seen)
        dark = tile_image(colour, "plain", 200 + i)
        add(f"plain/{colour}-dark", dark, (Caption(f"{colour} tile: dark"),), colour, style="plain", skin_tone="dark")
    add("plain/zz-deutsch", tile_image("red", "plain", 99), (Caption("rot", "de"),), "rot", style="plain")
    return Dataset("tiles", samples, lambda sample: contents[sample.image])
