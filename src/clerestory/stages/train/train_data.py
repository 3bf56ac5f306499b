"""The training split made ready: pictures as one array, texts as embeddings, concepts as rows.

Only samples of the training split are read here, and of ``val`` for the curve in the log; never ``test``.

Shape suffixes: N pictures, U pictures without captions, H and W pixels, C channels, M texts, E shared space, L caption
positions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from clerestory.core.errors import DataError
from clerestory.core.progress import Progress
from clerestory.core.sample import SUPPLEMENT, TRAIN, VAL, Dataset, Sample
from clerestory.data.images import decode_image
from clerestory.models.processor import SPECIAL, make_tokenizer, to_pixels
from clerestory.models.projection import principal_axes
from clerestory.models.protocols import Matrix
from clerestory.models.text_tower import TextTower
from clerestory.stages.train.sampling import Concept, group_concepts, is_skin_tone_variant

LANGUAGE = "en"  # the text tower reads English


@dataclass(frozen=True, slots=True)
class Pictures:
    """Pictures with their texts, row by row.

    Attributes:
        pixels_NHWC: uint8.
        caption_N: the row of each picture's caption in ``texts_ME``.
        keywords: the rows of each picture's keywords in ``texts_ME``.
        texts_ME: the text tower's unit rows.
        captions: every distinct caption, as rows of ``texts_ME``.
        words: the texts themselves.
    """

    pixels_NHWC: Tensor
    caption_N: Tensor
    keywords: tuple[tuple[int, ...], ...]
    texts_ME: Matrix
    captions: Tensor
    words: tuple[str, ...]

    def caption(self, row: int) -> str:
        """The caption of one picture."""
        return self.words[int(self.caption_N[row])]


@dataclass(frozen=True, slots=True)
class Material:
    """All that a training run reads.

    Attributes:
        train: the training pictures.
        val: the validation pictures without variants, None where the data has no such split.
        concepts: what to draw from, as rows of ``train``.
        supplement: the same of the supplementary pictures, whose captions the decoder does not learn.
        rotation_EE: principal axes of the training captions.
        unlabelled_UHWC: training pictures without captions, uint8; none where nothing is learnt from them.
        left_out: how many training pictures without captions are not learnt from.
    """

    train: Pictures
    val: Pictures | None
    concepts: tuple[Concept, ...]
    rotation_EE: Matrix
    unlabelled_UHWC: Tensor
    left_out: int = 0
    supplement: tuple[Concept, ...] = ()

    def decoder_captions(self) -> list[int]:
        """The captions that the decoder learns, as rows of ``train.texts_ME``: all but those of the supplement."""
        rows = [row for concept in self.concepts for row in (*concept.plain, *concept.variants)]
        return sorted(set(self.train.caption_N[rows].tolist()))


def prepare(
    data: Dataset, store_side: int, side: int, tower: TextTower, progress: Progress, unlabelled: bool = False
) -> Material:
    """Read the pictures and embed the texts.

    Args:
        data: with a split ``train``, or without splits, when all of it is learnt from.
        store_side: side of the training pictures kept in memory; larger than ``side``, so that zooming stays sharp.
        side: side of the validation pictures.
        tower: the text tower.
        progress: told about the pictures read.
        unlabelled: whether training pictures without captions are read too, but for skin-tone variants.

    Raises:
        DataError: there is nothing to learn from.
    """
    splits = {s.split for s in data}
    of_train = [s for s in data if (s.split == TRAIN if TRAIN in splits else not s.split)]
    train, bare = [s for s in of_train if s.caption], [s for s in of_train if not s.caption]
    more = [s for s in bare if not is_skin_tone_variant(s.groups)] if unlabelled else []
    val = [s for s in data if s.split == VAL and s.caption and not is_skin_tone_variant(s.groups)]
    # Supplementary pictures come last: their rows follow those of the main ones.
    train.sort(key=_supplementary)
    main = sum(not _supplementary(s) for s in train)
    concepts, supplement = _concepts(train[:main], 0), _concepts(train[main:], main)
    if len(concepts) < 2:
        raise DataError(
            f"{data.name} has {len(concepts)} concepts with captions to learn from",
            "bring in pictures of at least two different things, with captions",
        )
    with progress.task("Reading pictures", len(train) + len(more) + len(val)) as task:
        train_pictures = _pictures(train, data, store_side, tower, task.advance)
        more_UHWC = _pixels(more, data, store_side, task.advance)
        val_pictures = _pictures(val, data, side, tower, task.advance) if val else None
    axes = principal_axes(train_pictures.texts_ME[train_pictures.captions.numpy()])
    left_out = 0 if unlabelled else len(bare)
    return Material(train_pictures, val_pictures, tuple(concepts), axes, more_UHWC, left_out, tuple(supplement))


def _supplementary(sample: Sample) -> bool:
    return sample.groups.get(SUPPLEMENT) == "yes"


def _concepts(samples: list[Sample], first: int) -> list[Concept]:
    """What the samples show, as rows counted from ``first``."""
    names = [s.concept or s.caption for s in samples]
    _, concepts = group_concepts(names, [is_skin_tone_variant(s.groups) for s in samples])
    return [Concept(*(tuple(first + row for row in rows) for rows in (c.plain, c.variants))) for c in concepts]


def _pictures(
    samples: list[Sample], data: Dataset, side: int, tower: TextTower, advance: Callable[[int], None]
) -> Pictures:
    keywords = [_keywords(s) for s in samples]
    words = sorted({s.caption for s in samples} | {k for row in keywords for k in row})
    place = {word: i for i, word in enumerate(words)}
    caption_rows = [place[s.caption] for s in samples]
    return Pictures(
        pixels_NHWC=_pixels(samples, data, side, advance),
        caption_N=torch.tensor(caption_rows),
        keywords=tuple(tuple(place[k] for k in row) for row in keywords),
        texts_ME=tower.embed_cached(words),
        captions=torch.tensor(sorted(set(caption_rows))),
        words=tuple(words),
    )


def _pixels(samples: list[Sample], data: Dataset, side: int, advance: Callable[[int], None]) -> Tensor:
    """The pictures themselves, ``(N, H, W, C)`` uint8."""
    pixels_NHWC = np.empty((len(samples), side, side, 3), np.uint8)
    for row, sample in enumerate(samples):
        pixels_NHWC[row] = to_pixels([decode_image(data.read(sample))], side)[0]
        if row % 100 == 99:
            advance(100)
    return torch.from_numpy(pixels_NHWC)


def _keywords(sample: Sample) -> tuple[str, ...]:
    """English keywords other than the caption itself, in a fixed order."""
    found = {c.text for c in sample.captions[1:] if c.lang == LANGUAGE and c.text and c.text != sample.caption}
    return tuple(sorted(found))


def caption_tokenizer(material: Material, known: Sequence[str] = SPECIAL) -> PreTrainedTokenizerFast:
    """The decoder's words: those of the captions it learns, and of nothing else; ``known`` ones keep their numbers."""
    captions = (material.train.words[row] for row in material.decoder_captions())
    return make_tokenizer(captions, known=known)
