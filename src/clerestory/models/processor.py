"""Images to pixels and captions to word ids, in Hugging Face's processor layout.

Shape suffixes: B images, C channels, H and W pixels.
"""

# mypy: disable-error-code="no-untyped-call"
# torch and transformers leave a few of the functions called here without types.

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from PIL import Image
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor
from transformers import PreTrainedTokenizerFast, ProcessorMixin
from transformers.image_processing_backends import PilBackend
from transformers.image_utils import PILImageResampling

from clerestory.models.pixels import Pixels, pad_to_square

SPECIAL = ("<pad>", "<bos>", "<eos>", "<unk>")


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
