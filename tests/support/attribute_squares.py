"""Data and models whose correct answers, biases and weaknesses are known by construction.

Every image is a coloured square; a block at the bottom right encodes its shape, one at the top left its gender. The
model decodes both exactly, and makes only the errors that a test asks for.
"""

from collections.abc import Sequence

import numpy as np
from PIL import Image
from tests.support.images import encode_image

from clerestory.core.codec import Tags
from clerestory.core.digest import digest, digest_bytes
from clerestory.core.sample import Caption, Dataset, Sample
from clerestory.models.protocols import CaptionCandidate
from clerestory.stages.evaluate.config import EvaluateConfig
from clerestory.stages.evaluate.context import EvaluationContext
from clerestory.store import Store

COLOURS = {"red": (250, 20, 20), "green": (20, 250, 20), "blue": (20, 20, 250), "white": (250, 250, 250)}
COLOURS["yellow"] = (250, 250, 20)
SHAPES = {"ball": 0, "box": 60, "cone": 120, "star": 180, "moon": 240}
SPLITS = {"ball": "test", "box": "test", "cone": "train", "star": "train", "moon": "val"}
TONES = ("none", "light", "medium", "dark")
GENDERS = {"man": (0, 0, 0), "woman": (255, 255, 255)}
DUSK = 0.5
SIDE = 32


class ShapeModel:
    """Embeds images by their colour and shape and texts by those they name, in lower case only.

    Args:
        logit_scale: the scale that it reports.
        biased: it recognises the wrong colour in images of men.
        dusk: it recognises the wrong colour in dim images.
        fragile: it recognises red in every image that is not exactly one of the data.
        constant: it gives every image the same embedding.
    """

    dims = (10,)

    def __init__(self, logit_scale: float = 4.0, **faults: bool) -> None:
        self.digest = digest({"model": "shapes", "scale": logit_scale, **faults})
        self.logit_scale = logit_scale
        self.faults = faults
        self.images_seen = self.described = 0

    def embed_images(self, images: Sequence[Image.Image], dim: int | None = None) -> np.ndarray:
        self.images_seen += len(images)
        return np.stack([self._image(np.asarray(image.convert("RGB")).astype(float)) for image in images])

    def _image(self, x_HWC: np.ndarray) -> np.ndarray:
        row = np.zeros(10)
        if self.faults.get("constant"):
            row[0] = 1
            return row.astype(np.float32)
        fill, corner, shape = x_HWC[14:18, 14:18].mean((0, 1)), x_HWC[:8, :8].mean(), x_HWC[-8:, -8:].mean()
        dim = fill.max() < 180
        colour = int(np.linalg.norm(np.array(list(COLOURS.values())) - fill / (DUSK if dim else 1), axis=1).argmin())
        if (self.faults.get("dusk") and dim) or (self.faults.get("biased") and corner < 5):
            colour = (colour + 1) % len(COLOURS)
        if self.faults.get("fragile") and (x_HWC[12:20, 12:20].std((0, 1)).max() > 0 or not _is_original(fill)):
            colour = 0
        row[colour] = row[5 + int(np.abs(np.array(list(SHAPES.values())) - shape).argmin())] = np.sqrt(0.5)
        return row.astype(np.float32)

    def embed_texts(self, texts: Sequence[str], dim: int | None = None) -> np.ndarray:
        rows = []
        for text in texts:
            row = np.array([float(name in text.split()) for name in (*COLOURS, *SHAPES)])
            row = row if row.any() else np.ones(10)
            rows.append(row / np.linalg.norm(row))
        return np.stack(rows).astype(np.float32)


class CaptionOnlyModel:
    """Only captions images, with the colour and the shape that ``ShapeModel`` recognises."""

    def __init__(self) -> None:
        self.digest = digest({"model": "teller"})
        self.described = 0
        self._encoder = ShapeModel()

    def caption_images(self, images: Sequence[Image.Image], n: int = 3) -> list[list[CaptionCandidate]]:
        self.described += len(images)
        names = (*COLOURS, *SHAPES)
        rows = self._encoder.embed_images(images)
        return [[CaptionCandidate(" ".join(names[i] for i in np.flatnonzero(row)), float("nan"))] for row in rows]


def square_image(colour: str, shape: str, gender: str, dim: bool, mark: int) -> bytes:
    """PNG bytes; ``mark`` colours one pixel, so that no two images are equal."""
    pixels = np.full((SIDE, SIDE, 3), COLOURS[colour], dtype=np.uint8)
    pixels = (pixels * (DUSK if dim else 1)).astype(np.uint8)
    pixels[:8, :8] = GENDERS.get(gender, pixels[0, 0])
    pixels[-8:, -8:] = SHAPES[shape]
    pixels[0, 31] = mark % 256
    return encode_image(Image.fromarray(pixels))


def attribute_data(splits: bool = True) -> Dataset:
    """25 concepts (colour and shape) in three styles, two genders and four tones; ``dusk`` is ``test_style``."""
    contents, samples = {}, []
    kinds = [(style, gender, tone) for style in ("flat", "line") for gender in GENDERS for tone in TONES]
    kinds += [(style, "none", "none") for style in ("flat", "line", "dusk")]
    for colour in COLOURS:
        for shape, split in SPLITS.items():
            for mark, (style, gender, tone) in enumerate(kinds):
                content = square_image(colour, shape, gender, style == "dusk", mark)
                contents[digest_bytes(content)] = content
                named = f"{colour} {shape}" if gender == "none" else f"{colour} {shape} {gender}"
                captions = (Caption(named), Caption(f"{shape}like", "en", "keyword"))
                groups = Tags(category=colour, style=style, gender=gender, skin_tone=tone)
                split_ = ("test_style" if style == "dusk" else split) if splits else ""
                name = f"{style}/{colour}-{shape}-{gender}-{tone}"
                samples.append(
                    Sample(name, digest_bytes(content), captions, f"{colour}-{shape}", groups, "CC0-1.0", "", split_)
                )
    return Dataset("shapes", samples, lambda sample: contents[sample.image])


def make_context(model: object, store: Store, data: Dataset | None = None, **settings: object) -> EvaluationContext:
    """An evaluation context of the model on the data."""
    return EvaluationContext(model, data or attribute_data(), EvaluateConfig(**settings), store)  # type: ignore[arg-type]  # checked inside


def rows_where(rows: dict[str, np.ndarray], **where: str) -> np.ndarray:
    selected = np.ones(len(rows["task"]), dtype=bool)
    for name, value in where.items():
        selected &= rows[name] == value
    return selected


def _is_original(fill: np.ndarray) -> bool:
    return any(np.abs(np.array(colour) * scale - fill).max() < 2 for colour in COLOURS.values() for scale in (1, DUSK))
