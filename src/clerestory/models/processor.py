"""Images to pixels and captions to word ids, in Hugging Face's processor layout.

Shape suffixes: B images, C channels, H and W pixels.
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

from clerestory.models.pixels import WHITE, to_rgb

Pixels = NDArray[np.uint8]
SPECIAL = ("<pad>", "<bos>", "<eos>", "<unk>")
REDUCING_GAP = 3.0
TILE_PIXELS = 1_000_000


def pad_to_square(image: Image.Image, side: int) -> Image.Image:
    """An RGB image of ``side`` × ``side``: transparency on white, and white padding to a square.

    The same pixels as padding first and then resizing with ``reducing_gap=3.0``, but the memory depends on the number
    of pixels of the image only: a padded strip of 1 × 30,000 pixels would have 900 million.
    """
    image = to_rgb(image)
    longer = max(image.size)
    if image.size == (side, side):
        return image
    factor = int(longer / side / REDUCING_GAP) or 1  # as in Pillow's resize
    reduced = _pad_and_reduce(image, factor)
    if longer == side:
        return reduced
    box = (0, 0, longer / factor, longer / factor)
    return reduced.resize((side, side), Image.Resampling.BILINEAR, box)


def _pad_and_reduce(image: Image.Image, factor: int) -> Image.Image:
    """``image`` in the middle of a white square, reduced by ``factor``; a part of the square at a time."""
    longer = max(image.size)
    if image.width == image.height:
        return image.reduce(factor) if factor > 1 else image
    left, top = (longer - image.width) // 2, (longer - image.height) // 2
    # The rows and columns of the square with pixels of the image, as whole blocks of factor × factor.
    x0, y0 = left // factor * factor, top // factor * factor
    x1, y1 = (min(longer, -(-end // factor) * factor) for end in (left + image.width, top + image.height))
    wide = image.width > image.height
    step = max(1, TILE_PIXELS // ((y1 - y0 if wide else x1 - x0) * factor)) * factor
    reduced = Image.new("RGB", (-(-longer // factor),) * 2, WHITE)
    for start in range(0, longer, step):
        end = min(longer, start + step)
        x, y, right, bottom = (start, y0, end, y1) if wide else (x0, start, x1, end)
        tile = Image.new("RGB", (right - x, bottom - y), WHITE)
        tile.paste(image, (left - x, top - y))
        reduced.paste(tile.reduce(factor), (x // factor, y // factor))
    return reduced


def to_pixels(images: Sequence[Image.Image], side: int) -> Pixels:
    """``(B, H, W, C)`` uint8 pixels of images of any size and mode."""
    out_BHWC = np.empty((len(images), side, side, 3), np.uint8)
    for row, image in enumerate(images):
        out_BHWC[row] = np.asarray(pad_to_square(image, side))
    return out_BHWC


def normalise(pixels_BHWC: Pixels) -> Tensor:
    """uint8 pixels to the model's input, ``(B, C, H, W)`` in -1..1 (white is 1)."""
    return torch.from_numpy(pixels_BHWC).permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)


class ClerestoryImageProcessor(PilBackend):
    """Pads to a square, resizes and scales to -1..1; does not need torchvision."""

    resample = PILImageResampling.BILINEAR
    image_mean = [0.5, 0.5, 0.5]
    image_std = [0.5, 0.5, 0.5]
    size = {"height": 48, "width": 48}
    do_resize = True
    do_rescale = True
    do_normalize = True
    do_convert_rgb = True

    def process_image(self, image: Any, *args: Any, **kwargs: Any) -> Any:
        """Pad to a square on white before the inherited resizing."""
        if isinstance(image, Image.Image):
            image = pad_to_square(image, int(self.size["height"]))
        return super().process_image(image, *args, **kwargs)


class ClerestoryProcessor(ProcessorMixin):
    """An image processor and the caption tokenizer.

    Args:
        image_processor: a ``ClerestoryImageProcessor``.
        tokenizer: of the caption decoder, as ``make_tokenizer`` builds it.
    """

    def __init__(self, image_processor: Any = None, tokenizer: Any = None, **kwargs: Any) -> None:
        super().__init__(image_processor, tokenizer, **kwargs)


def make_tokenizer(
    captions: Iterable[str], vocab_size: int = 8192, base_vocab: Sequence[str] = SPECIAL
) -> PreTrainedTokenizerFast:
    """A word-level tokenizer of the most frequent words of some captions.

    Words are separated by spaces only, so joining them with spaces restores the caption exactly.

    Args:
        captions: the source of the words.
        vocab_size: maximum number of words, special tokens included.
        base_vocab: words with fixed ids, beginning with the special tokens, such as those of an earlier tokenizer.
    """
    counts = Counter(word for caption in captions for word in caption.split())
    words = sorted(counts.keys() - set(base_vocab), key=lambda word: (-counts[word], word))
    vocabulary = {word: i for i, word in enumerate([*base_vocab, *words[: max(0, vocab_size - len(base_vocab))]])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A <eos>", special_tokens=[("<bos>", 1), ("<eos>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>", unk_token="<unk>"
    )
