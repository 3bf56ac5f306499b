"""Pictures to pixels and captions to word ids, in Hugging Face's processor layout.

Shape suffixes: B pictures, C channels, H and W pixels.
"""

# mypy: disable-error-code="no-untyped-call"
# torch and transformers leave a few of the functions called here without types.

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor
from transformers import PreTrainedTokenizerFast, ProcessorMixin
from transformers.image_processing_backends import PilBackend
from transformers.image_utils import PILImageResampling

Pixels = NDArray[np.uint8]
SPECIAL = ("<pad>", "<bos>", "<eos>", "<unk>")
WHITE = (255, 255, 255)


def square(image: Image.Image, side: int) -> Image.Image:
    """An RGB picture of ``side`` × ``side``: transparency on white, white bars around what is not square."""
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, (*WHITE, 255)), rgba)
    image = image.convert("RGB")
    if image.width != image.height:
        longest = max(image.size)
        frame = Image.new("RGB", (longest, longest), WHITE)
        frame.paste(image, ((longest - image.width) // 2, (longest - image.height) // 2))
        image = frame
    if image.width == side:
        return image
    return image.resize((side, side), Image.Resampling.BILINEAR, reducing_gap=3.0)


def to_pixels(images: Sequence[Image.Image], side: int) -> Pixels:
    """``(B, H, W, C)`` uint8 of pictures of any size and mode."""
    out_BHWC = np.empty((len(images), side, side, 3), np.uint8)
    for row, image in enumerate(images):
        out_BHWC[row] = np.asarray(square(image, side))
    return out_BHWC


def normalise(pixels_BHWC: Pixels) -> Tensor:
    """uint8 pixels to the model's input, ``(B, C, H, W)`` in -1..1 (white is 1)."""
    return torch.from_numpy(pixels_BHWC).permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)


class ClerestoryImageProcessor(PilBackend):
    """Square, resize, scale to -1..1; needs no torchvision."""

    resample = PILImageResampling.BILINEAR
    image_mean = [0.5, 0.5, 0.5]
    image_std = [0.5, 0.5, 0.5]
    size = {"height": 48, "width": 48}
    do_resize = True
    do_rescale = True
    do_normalize = True
    do_convert_rgb = True

    def process_image(self, image: Any, *args: Any, **kwargs: Any) -> Any:
        """Square a picture on white before the common resizing sees it."""
        if isinstance(image, Image.Image):
            image = square(image, int(self.size["height"]))
        return super().process_image(image, *args, **kwargs)


class ClerestoryProcessor(ProcessorMixin):
    """An image processor and the caption tokenizer.

    Args:
        image_processor: a ``ClerestoryImageProcessor``.
        tokenizer: the caption decoder's words, as ``make_tokenizer`` builds them.
    """

    def __init__(self, image_processor: Any = None, tokenizer: Any = None, **kwargs: Any) -> None:
        super().__init__(image_processor, tokenizer, **kwargs)


def make_tokenizer(
    captions: Iterable[str], most: int = 8192, known: Sequence[str] = SPECIAL
) -> PreTrainedTokenizerFast:
    """A word-level tokenizer of the words of some captions, most frequent first, at most ``most`` of them.

    Words are separated by blanks only, so joining them with blanks gives the caption back exactly.

    Args:
        captions: whose words it knows.
        most: words.
        known: words that keep their numbers, beginning with the special ones: those of an earlier tokenizer.
    """
    counts = Counter(word for caption in captions for word in caption.split())
    words = sorted(counts.keys() - set(known), key=lambda word: (-counts[word], word))
    vocabulary = {word: i for i, word in enumerate([*known, *words[: max(0, most - len(known))]])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A <eos>", special_tokens=[("<bos>", 1), ("<eos>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>", unk_token="<unk>"
    )
