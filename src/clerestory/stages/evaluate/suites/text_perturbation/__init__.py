"""Robustness of text-to-image retrieval to captions that are written differently.

Every caption of the first split is changed in five ways: typos, upper case, lower case, synonyms, another word order.
The loss is relative to the same captions unchanged. Every change depends only on the seed, the caption and its kind.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from clerestory.core.codec import Fact, Tags
from clerestory.core.evidence import Measurement, Recipe
from clerestory.core.rows import CLUSTER_COLUMN, TEXT_PERTURBATIONS, Condition, TaskName, Unscored
from clerestory.core.sample import Sample
from clerestory.stages.evaluate.context import EvaluationContext
from clerestory.stages.evaluate.row_builder import RowBuilder, has_scores
from clerestory.stages.evaluate.samples import concept_of, is_in_language, normalize_caption
from clerestory.stages.evaluate.shared.retrieval_split import RetrievalSplit, retrieval_split
from clerestory.stages.evaluate.suite import MeasuredSlices, Suite, SuiteResult
from clerestory.stats.aggregate import Rows, measure
from clerestory.stats.ranking import best_ranks

RECALL_K = 10
LETTERS_PER_TYPO = 8
MIN_LETTERS = 4  # of a word that gets a typo
MAX_SYNONYMS = 2

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def run(context: EvaluationContext) -> SuiteResult:
    """One row per caption and perturbation."""
    split = retrieval_split(context, context.first_split)
    builder = context.row_builder()
    images = {t: [split.samples[i] for i in split.images_of(t)] for t in range(len(split.captions))}
    clean_T = _ranks(split, split.caption_embeddings, np.arange(len(split.captions)))
    facts: dict[str, Fact] = {
        "text_perturbation.split": split.split,
        "text_perturbation.captions": len(split.captions),
    }
    for kind in TEXT_PERTURBATIONS:
        facts[f"text_perturbation.changed.{kind}"] = _add_rows(builder, context, split, kind, images, clean_T)
    rows = builder.columns()
    measurements = [m for kind in TEXT_PERTURBATIONS for m in _measurements(rows, split.split, kind)]
    return SuiteResult(rows, measurements, [], facts)


def perturb(caption: str, kind: Condition, seed: int, synonyms: Sequence[str] = ()) -> tuple[str, Unscored | str]:
    """The changed caption, or an empty one with the reason why it cannot be changed.

    Args:
        caption: the text.
        kind: one of ``TEXT_PERTURBATIONS``.
        seed: of the choice.
        synonyms: other descriptions of the same thing, see ``synonyms_of``.
    """
    key = int.from_bytes(hashlib.sha256(f"{seed}/{kind}/{caption}".encode()).digest()[:16], "little")
    rng = np.random.Generator(np.random.Philox(key=key))
    if kind == Condition.UPPER_CASE:
        return caption.upper(), ""
    if kind == Condition.LOWER_CASE:
        return caption.lower(), ""
    if kind == Condition.TYPOS:
        return _with_typos(caption, rng)
    if kind == Condition.WORD_ORDER:
        return _reordered(caption, rng)
    if not synonyms:
        return "", Unscored.NO_SYNONYM
    chosen = sorted(rng.permutation(len(synonyms))[:MAX_SYNONYMS].tolist())
    return ", ".join(synonyms[i] for i in chosen), ""


def synonyms_of(caption: str, samples: Iterable[Sample], language: str) -> list[str]:
    """Other captions and keywords of the images of a caption, without those whose words it contains."""
    synonyms: dict[str, str] = {}
    words = set(normalize_caption(caption).replace(",", " ").replace(":", " ").split())
    for sample in samples:
        for other in sample.captions:
            text = normalize_caption(other.text)
            if is_in_language(other, language) and text and not set(text.split()) <= words:
                synonyms.setdefault(text, other.text)
    synonyms.pop(normalize_caption(caption), None)
    return [synonyms[text] for text in sorted(synonyms)]


def _with_typos(caption: str, rng: np.random.Generator) -> tuple[str, Unscored | str]:
    """One typo in about eight letters, at least one: two letters swapped, one omitted, or one doubled."""
    words = caption.split()
    long = [i for i, word in enumerate(words) if sum(c.isalpha() for c in word) >= MIN_LETTERS]
    if not long:
        return "", Unscored.NO_LONG_WORD
    typos = max(1, sum(len(word) for word in words) // LETTERS_PER_TYPO)
    for i in rng.permutation(long)[:typos].tolist():
        words[i] = _mistyped(words[i], rng)
    return " ".join(words), ""


def _mistyped(word: str, rng: np.random.Generator) -> str:
    # First letters are seldom mistyped, and are what readers go by.
    at = 1 + int(rng.integers(len(word) - 2))
    swapped = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    options = [word[:at] + word[at + 1 :], word[:at] + word[at] + word[at:]]
    if swapped != word:
        options.append(swapped)
    return options[int(rng.integers(len(options)))]


def _reordered(caption: str, rng: np.random.Generator) -> tuple[str, Unscored | str]:
    words = caption.split()
    if len(set(words)) < 2:
        return "", Unscored.ONE_WORD_ORDER
    shuffled = words
    while shuffled == words:
        shuffled = [words[i] for i in rng.permutation(len(words)).tolist()]
    return " ".join(shuffled), ""


def _add_rows(
    builder: RowBuilder,
    context: EvaluationContext,
    split: RetrievalSplit,
    kind: Condition,
    images: Mapping[int, list[Sample]],
    clean_T: Floats,
) -> int:
    """Add the rows of one perturbation; returns how many captions it changed."""
    language = context.config.language
    perturbed = [
        perturb(text, kind, context.config.seed, synonyms_of(text, images[label], language))
        for label, text in enumerate(split.captions)
    ]
    possible = np.array([label for label, (text, _) in enumerate(perturbed) if text], dtype=np.int64)
    ranks_T = np.full(len(perturbed), np.nan)
    if len(possible):
        embedded = context.embed_texts([perturbed[label][0] for label in possible.tolist()])
        ranks_T[possible] = _ranks(split, embedded, possible)
    hits_T, clean_hits_T = (np.where(np.isnan(ranks_T), np.nan, ranks <= RECALL_K) for ranks in (ranks_T, clean_T))
    for label, (text, reason) in enumerate(perturbed):
        builder.add(
            images[label],
            task=TaskName.TEXT_TO_IMAGE,
            split=split.split,
            condition=kind,
            sample=images[label][0].id,
            concept=concept_of(images[label][0], language),
            query=text,
            target=split.captions[label],
            prompt=hashlib.sha256(text.encode()).hexdigest() if text else "",
            unscored=reason,
            rank=float(ranks_T[label]),
            relevant=float(len(images[label])),
            score=float(hits_T[label]),
            reference=float(clean_hits_T[label]),
            amount=float(clean_hits_T[label] - hits_T[label]),
        )
    return sum(bool(text) and text != split.captions[label] for label, (text, _) in enumerate(perturbed))


def _ranks(split: RetrievalSplit, texts_ND: NDArray[np.float32], labels_N: Ints) -> Floats:
    groups_N = split.caption_groups[labels_N]
    return best_ranks(texts_ND, split.embeddings[split.scored], groups_N, split.groups[split.scored])


def _measurements(rows: Rows, split: str, kind: Condition) -> list[Measurement]:
    """Recall@10 of the changed captions, and how much lower it is than that of the same captions unchanged."""
    where = {"task": TaskName.TEXT_TO_IMAGE, "split": split, "condition": kind}
    if not has_scores(rows, where, "rank"):
        return []
    recall = Recipe("share_at_most", "rank", Tags(where), CLUSTER_COLUMN, float(RECALL_K))
    loss = Recipe("mean", "amount", Tags(where), CLUSTER_COLUMN)
    return [
        measure(rows, recall, f"recall@{RECALL_K}", where),
        measure(rows, loss, f"recall@{RECALL_K}_loss", where),
    ]


SUITE = Suite(
    name="text_perturbation",
    description="finding images for captions that are written differently",
    capabilities=("Embedder",),
    settings=("retrieval_protocol",),
    run=run,
    measures=(MeasuredSlices((TaskName.TEXT_TO_IMAGE,), keys=("condition",)),),
)
