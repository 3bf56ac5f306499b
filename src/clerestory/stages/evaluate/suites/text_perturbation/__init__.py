"""Does the model still find the picture when people write differently?

Text to image on the first split, with every caption changed in five ways; the loss is against the same caption as it
stands, so both are about the same queries.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict

import numpy as np

from clerestory.core.codec import Tags
from clerestory.core.evidence import Measurement, Recipe
from clerestory.core.sample import Sample
from clerestory.stages.evaluate.context import EvaluationContext
from clerestory.stages.evaluate.shared.measures import scored
from clerestory.stages.evaluate.shared.retrieval_metrics import TEXT_TO_IMAGE
from clerestory.stages.evaluate.shared.retrieval_split import RetrievalSplit, concept_of
from clerestory.stages.evaluate.shared.row_builder import RowBuilder
from clerestory.stages.evaluate.shared.sliced_metrics import CONCEPT
from clerestory.stages.evaluate.suite import Suite, SuiteResult
from clerestory.stages.evaluate.suites.text_perturbation.perturbations import (
    KINDS,
    LETTERS_PER_TYPO,
    MOST_SYNONYMS,
    other_words,
    perturb,
)
from clerestory.stats.aggregate import Rows, measure
from clerestory.stats.ranking import best_ranks

K = 10


def run(bench: EvaluationContext) -> SuiteResult:
    """One row per distinct caption and kind of change."""
    split = next(iter(bench.splits))
    pool, table = bench.pool(split), bench.table()
    pictures: dict[int, list[Sample]] = defaultdict(list)
    for i in pool.scored.tolist():
        pictures[int(pool.labels[i])].append(pool.samples[i])
    clean = _ranks(pool, pool.caption_embeddings, np.arange(len(pool.captions)))
    changed = {}
    for kind in KINDS:
        changed[kind] = _add(table, bench, pool, kind, pictures, clean)
    rows = table.columns()
    measured = [one for kind in KINDS for one in losses(rows, split, kind)]
    facts = {
        "words": f"every distinct caption of split {split}, changed; seeded by caption and kind of change",
        "words.typos": f"a slip in about {LETTERS_PER_TYPO} letters, first letters spared",
        "words.synonyms": f"{MOST_SYNONYMS} other captions or keywords of its pictures, or the only one",
        "words.changed": ", ".join(f"{kind} {count}" for kind, count in changed.items()) + f" of {len(pool.captions)}",
    }
    return SuiteResult(rows, measured, [], facts)


def losses(rows: Rows, split: str, kind: str) -> list[Measurement]:
    """Recall@10 of the changed captions, and how much lower it is than that of the same captions unchanged."""
    where = {"task": TEXT_TO_IMAGE, "split": split, "condition": kind}
    if not scored(rows, where, "rank"):
        return []
    recall = Recipe("share_at_most", "rank", Tags(where), CONCEPT, float(K))
    loss = Recipe("mean", "amount", Tags(where), CONCEPT)
    return [
        measure(rows, recall, f"recall@{K}", where),
        measure(rows, loss, f"recall@{K}_loss", where),
    ]


def _add(
    table: RowBuilder,
    bench: EvaluationContext,
    pool: RetrievalSplit,
    kind: str,
    pictures: dict[int, list[Sample]],
    clean_T: np.ndarray,
) -> int:
    """The rows of one kind of change; returns how many captions it changed."""
    lang = bench.config.language
    made = [
        perturb(text, kind, bench.config.seed, other_words(text, pictures[label], lang))
        for label, text in enumerate(pool.captions)
    ]
    kept = np.array([label for label, (text, _) in enumerate(made) if text], dtype=np.int64)
    ranks_T = np.full(len(made), np.nan)
    if len(kept):
        ranks_T[kept] = _ranks(pool, bench.embed_texts([made[label][0] for label in kept.tolist()]), kept)
    hits_T, clean_hits_T = (np.where(np.isnan(ranks_T), np.nan, ranks <= K) for ranks in (ranks_T, clean_T))
    for label, (text, reason) in enumerate(made):
        table.add(
            pictures[label],
            task=TEXT_TO_IMAGE,
            split=pool.split,
            condition=kind,
            sample=pictures[label][0].id,
            concept=concept_of(pictures[label][0], lang),
            query=text,
            target=pool.captions[label],
            prompt=hashlib.sha256(text.encode()).hexdigest() if text else "",
            unscored=reason,
            rank=float(ranks_T[label]),
            relevant=float(len(pictures[label])),
            score=float(hits_T[label]),
            reference=float(clean_hits_T[label]),
            amount=float(clean_hits_T[label] - hits_T[label]),
        )
    return sum(bool(text) and text != pool.captions[label] for label, (text, _) in enumerate(made))


def _ranks(pool: RetrievalSplit, texts_ND: np.ndarray, labels_N: np.ndarray) -> np.ndarray:
    return best_ranks(texts_ND, pool.embeddings[pool.scored], labels_N, pool.labels[pool.scored])


SUITE = Suite(
    name="words",
    about="finding pictures for captions that are written differently",
    needs=("Embedder",),
    settings=(),
    run=run,
)
