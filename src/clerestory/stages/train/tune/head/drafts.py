"""Trains a decoder that drafts captions, and measures whether its drafts are worth anything.

The decoder reads the embedding of a photograph with the user's head, which is small and already knows what the captions
are about; the positions of things in the photograph add nothing measurable (ADR 10). In training each photograph is
embedded by the head that was fitted without its fold, as a new photograph would be.

Each fold takes about as long as the training of the decoder itself, so its scores are kept under the digest of
everything that they depend on: an interrupted run does not measure it again.

The drafts are measured on photographs whose captions the decoder was not trained on (the heads that embed the other
photographs have seen them, though), beside two captions that cost nothing: the
nearest one among the others' captions, and the most frequent one. A decoder that is not better than both is not kept.

Shape suffixes: N photographs, E width of an embedding, L caption positions, V vocabulary.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clerestory.core.digest import canonical, digest, digest_bytes
from clerestory.core.progress import QUIET, Progress, ProgressTask
from clerestory.core.text import words_of
from clerestory.core.units import plural
from clerestory.models.decoder import PAD, UNKNOWN, CaptionDecoder
from clerestory.models.photo.caption_decoder import (
    MAX_TOKENS,
    WIDTH,
    EmbedTexts,
    PhotoCaptionDecoder,
    TrainedDecoder,
    draft_captions,
)
from clerestory.models.photo.caption_words import SPECIAL, CaptionWords, padded
from clerestory.models.photo.space import Floats, unit_rows
from clerestory.stages.train.tune.head.fit import HeadData, Ints, assign_folds
from clerestory.stages.train.tune.head.requirements import NUM_FOLDS
from clerestory.stats.captions import CiderD, tokenise
from clerestory.stats.text import chrf
from clerestory.store.answer_cache import AnswerCache, answer_key

MIN_IMAGES = 300
MIN_MEASURED = 300  # images that the drafts are measured on, if there are as many
DECODER, NEAREST, FREQUENT = "caption decoder", "nearest caption", "most frequent caption"
SOURCES = (DECODER, NEAREST, FREQUENT)

MIN_COUNT = 2  # captions that a word occurs in
DROPOUT, WORD_DROPOUT, LABEL_SMOOTHING = 0.3, 0.1, 0.1
BATCH_SIZE, EPOCHS = 64, 10
MIN_STEPS, MAX_STEPS = 500, 5_000
WARMUP_STEPS = 100
LENGTH_NOISE = 6  # words, so that the batches differ from epoch to epoch
LEARNING_RATE, WEIGHT_DECAY, BETAS, MAX_GRAD_NORM = 2e-3, 0.1, (0.9, 0.98), 1.0
INITIAL_STD, MEANING_STD = 0.02, 0.05


@dataclass(frozen=True, slots=True)
class DraftData:
    """What a decoder is trained on.

    Attributes:
        embeddings: of the photographs, each by a head that was fitted without it ``(N, E)``.
        captions: of each photograph.
        texts: embeddings of all captions ``(M, E)``.
        owner: the photograph of each of them (M), ascending.
        groups: the number of each photograph's group (N).
        rows: the number of each photograph in the data of the head (N).
    """

    embeddings: Floats
    captions: Sequence[Sequence[str]]
    texts: Floats
    owner: Ints
    groups: Ints
    rows: Ints

    @property
    def digest(self) -> str:
        """SHA-256 over all of it."""
        arrays = (self.embeddings, self.texts, self.owner, self.groups, self.rows)
        contents = [[str(each.dtype), list(each.shape), digest_bytes(each.tobytes())] for each in arrays]
        return digest([contents, [list(own) for own in self.captions]])

    @classmethod
    def of(cls, data: HeadData, embeddings_NE: Floats, captions: Sequence[str]) -> DraftData:
        """The data of a head, with embeddings that were made without each photograph's fold.

        Captions without a word are left out, and photographs with no others.
        """
        with_words = np.array([bool(words_of(caption)) for caption in captions])
        rows = np.unique(data.owner[with_words])
        place = np.full(len(data), -1)
        place[rows] = np.arange(len(rows))
        by_image: list[list[str]] = [[] for _ in rows]
        numbers = sorted(np.flatnonzero(with_words).tolist(), key=lambda i: int(data.owner[i]))
        for i in numbers:
            by_image[place[data.owner[i]]].append(captions[i])
        return cls(
            embeddings_NE[rows], by_image, data.texts[numbers], place[data.owner[numbers]], data.groups[rows], rows
        )


@dataclass(frozen=True, slots=True)
class MeasuredDraft:
    """One photograph's caption from one source, compared with the photograph's own captions.

    Attributes:
        image: its number.
        source: one of ``SOURCES``.
        text: the caption.
        cider: CIDEr-D.
        chrf: of the most similar of the own captions, in lower case.
    """

    image: int
    source: str
    text: str
    cider: float
    chrf: float


def num_steps(num_captions: int) -> int:
    """The steps of a training."""
    return min(max(math.ceil(EPOCHS * num_captions / BATCH_SIZE), MIN_STEPS), MAX_STEPS)


def measured_folds(num_images: int) -> int:
    """The number of folds that drafts are measured on: as many as are needed for ``MIN_MEASURED`` images."""
    return min(math.ceil(MIN_MEASURED / (num_images / NUM_FOLDS)), NUM_FOLDS)


def measure_drafts(
    data: DraftData,
    embed_texts: EmbedTexts,
    progress: Progress = QUIET,
    cache: AnswerCache | None = None,
    depends_on: str = "",
) -> list[MeasuredDraft]:
    """Drafts of photographs by decoders that were trained without their fold, and the two captions that cost nothing.

    Args:
        data: the photographs and captions.
        embed_texts: of the model.
        progress: reports the steps of training.
        cache: keeps the scores of each fold as soon as it is measured.
        depends_on: digest of everything that the scores depend on besides the data: model, code and environment.
    """
    key = digest([depends_on, data.digest])
    keys = [answer_key("drafts of a fold", key, str(i)) for i in range(measured_folds(len(data.captions)))]
    kept = {} if cache is None else cache.get(keys)
    if kept:
        progress.write_line(f"{len(kept)} of {plural(len(keys), 'fold')} measured before are taken from the store")
    measured: list[MeasuredDraft] = []
    cider = CiderD(data.captions)
    for fold, fold_key in enumerate(keys):
        if fold_key in kept:
            measured += [MeasuredDraft(*fields) for fields in json.loads(kept[fold_key])]
            continue
        of_fold = _measure_fold(data, fold, cider, embed_texts, progress)
        if cache is not None:
            cache.put({fold_key: canonical([astuple(each) for each in of_fold])})
        measured += of_fold
    return measured


def _measure_fold(
    data: DraftData, fold: int, cider: CiderD, embed_texts: EmbedTexts, progress: Progress
) -> list[MeasuredDraft]:
    folds_N, measured = assign_folds(data.groups), []
    rows, others = np.flatnonzero(folds_N == fold), np.flatnonzero(folds_N != fold)
    label = f"Training without fold {fold + 1} of {NUM_FOLDS}"
    trained = train_decoder(data, embed_texts, progress, label, others)
    references = [data.captions[i] for i in rows.tolist()]
    frequent = _most_frequent([caption for i in others.tolist() for caption in data.captions[i]])
    nearest = _nearest(data, rows, others)
    with progress.task("Drafting captions", len(rows)) as task:
        for i, own in zip(rows.tolist(), references, strict=True):
            drafts = draft_captions(trained.decoder, trained.words, embed_texts, data.embeddings[i], 1)
            draft = drafts[0].text if drafts else ""
            for source, text in zip(SOURCES, (draft, nearest[i], frequent), strict=True):
                similar = max(float(chrf(text.lower(), caption.lower())) for caption in own)
                score = float(cider.score(text, own))
                measured.append(MeasuredDraft(int(data.rows[i]), source, text, score, similar))
            task.advance()
    return measured


def train_decoder(
    data: DraftData,
    embed_texts: EmbedTexts,
    progress: Progress = QUIET,
    label: str = "Training the caption decoder",
    rows: Ints | None = None,
) -> TrainedDecoder:
    """Train a decoder; equal arguments give equal weights on the same machine.

    Args:
        data: the photographs and captions.
        embed_texts: of the model: words begin as what they mean, as a few hundred captions cannot tell.
        progress: reports the steps.
        label: of the progress bar.
        rows: the photographs to train on; all by default.
    """
    numbers = range(len(data.captions)) if rows is None else rows.tolist()
    captions = [data.captions[i] for i in numbers]
    words = CaptionWords.of([caption for own in captions for caption in own], MIN_COUNT)
    pairs = [(i, words.ids(caption, MAX_TOKENS)) for i, own in enumerate(captions) for caption in own]
    steps = num_steps(len(pairs))
    with torch.random.fork_rng(devices=[]), progress.task(label, steps) as task:
        torch.manual_seed(0)
        decoder = PhotoCaptionDecoder(len(words), data.embeddings.shape[1], DROPOUT)
        _initialise(decoder, embed_texts(words.spellings[len(SPECIAL) :]))
        _train(decoder, torch.from_numpy(data.embeddings[list(numbers)].astype(np.float32)), pairs, steps, task)
    return TrainedDecoder(decoder.requires_grad_(False).eval(), words)


def _train(
    decoder: PhotoCaptionDecoder,
    embeddings_NE: Tensor,
    pairs: Sequence[tuple[int, list[int]]],
    steps: int,
    task: ProgressTask,
) -> None:
    parameters = list(decoder.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": WEIGHT_DECAY},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=LEARNING_RATE, betas=BETAS)
    lengths = torch.tensor([len(ids) for _, ids in pairs])
    batches: list[list[int]] = []
    for step in range(steps):
        batches = batches or _batches(lengths)
        batch = [pairs[i] for i in batches.pop()]
        ids_BL = torch.tensor(padded([ids for _, ids in batch]))
        loss = _loss(decoder, ids_BL, embeddings_NE[[i for i, _ in batch]])
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * min(1, (step + 1) / WARMUP_STEPS) * _cosine(step / steps)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it without types
        nn.utils.clip_grad_norm_(parameters, MAX_GRAD_NORM)
        optimizer.step()
        task.advance(note=f"loss {loss.item():.2f}")


def _batches(lengths: Tensor) -> list[list[int]]:
    """Every caption once, in random batches of captions that are about as long: padding costs as much as words."""
    by_length = (lengths + LENGTH_NOISE * torch.rand(len(lengths))).argsort()
    batches = [batch.tolist() for batch in torch.split(by_length, BATCH_SIZE)]
    return [batches[i] for i in torch.randperm(len(batches)).tolist()]


def _loss(decoder: PhotoCaptionDecoder, ids_BL: Tensor, embeddings_BE: Tensor) -> Tensor:
    """Cross-entropy of the next word; some words that it depends on are hidden, so that the photograph is needed."""
    inputs_BL, targets_BL = ids_BL[:, :-1], ids_BL[:, 1:]
    hidden_BL = (torch.rand(inputs_BL.shape) < WORD_DROPOUT) & (inputs_BL >= len(SPECIAL))
    logits_BLV = decoder(inputs_BL.masked_fill(hidden_BL, UNKNOWN), embeddings_BE)
    known_BL = targets_BL.masked_fill(targets_BL == UNKNOWN, PAD)  # never generated, so never learned
    return F.cross_entropy(
        logits_BLV.flatten(0, 1), known_BL.flatten(), ignore_index=PAD, label_smoothing=LABEL_SMOOTHING
    )


def _cosine(share: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * share))


@torch.no_grad()
def _initialise(decoder: PhotoCaptionDecoder, meanings_VD: Floats) -> None:
    for module in decoder.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=INITIAL_STD)
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)
        if isinstance(module, CaptionDecoder):
            nn.init.normal_(module.position_LD, std=INITIAL_STD)
    nn.init.normal_(decoder.from_embedding.weight, std=decoder.from_embedding.in_features**-0.5)
    vectors_VD = unit_rows(meanings_VD[:, 1 : WIDTH + 1])  # the first coordinate is the length, the others are nested
    decoder.decoder.words.weight[len(SPECIAL) :] = torch.from_numpy(MEANING_STD * math.sqrt(WIDTH) * vectors_VD)


def _most_frequent(captions: Sequence[str]) -> str:
    """The most frequent caption, as it is written first; case and punctuation make no difference."""
    counts = Counter(tuple(tokenise(caption)) for caption in captions)
    best = max(counts.values())
    return next(caption for caption in captions if counts[tuple(tokenise(caption))] == best)


def _nearest(data: DraftData, rows: Ints, others: Ints) -> Mapping[int, str]:
    """For each photograph the caption of another one that is nearest to it."""
    is_other = np.isin(data.owner, others)
    captions = [caption for own in data.captions for caption in own]
    numbers = np.flatnonzero(is_other)
    best = (data.embeddings[rows] @ data.texts[is_other].T).argmax(axis=1)
    return {int(i): captions[numbers[k]] for i, k in zip(rows, best, strict=True)}
