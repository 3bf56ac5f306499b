"""A few queries a person can look at, with what the model found nearest.

The artifact is JSON::

    {"examples": [{"split", "task", "kind": "best"|"typical"|"worst", "sample", "caption", "concept", "rank",
                   "candidates", "neighbours": [{"sample", "caption", "score", "correct"}, …best first]}],
     "captions": [{"split", "sample", "caption", "chrf", "suggestions": [{"text", "score"}]}]}

For image→text the query is the picture ``sample`` and the neighbours are captions (each with a picture that has it);
for text→image the query is the text ``caption`` and the neighbours are pictures.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from clerestory.stages.evaluate.shared.retrieval_metrics import IMAGE_TO_TEXT, TEXT_TO_IMAGE
from clerestory.stages.evaluate.shared.retrieval_split import RetrievalSplit, concept_of
from clerestory.stats.ranking import top

EACH = 4
NEIGHBOURS = 6
CAPTIONS = 12


def retrieval_examples(
    pool: RetrievalSplit, picture_ranks: NDArray[np.float64], caption_ranks: NDArray[np.float64], lang: str
) -> list[dict[str, Any]]:
    """Best, typical and worst queries in both directions, each of another concept."""
    first = {int(pool.labels[i]): int(i) for i in reversed(pool.scored)}
    concepts = [concept_of(sample, lang) for sample in pool.samples]
    examples = []
    for kind, i in _picks(picture_ranks, concepts):
        example = _example(pool, IMAGE_TO_TEXT, kind, i, int(pool.labels[i]), float(picture_ranks[i]), concepts[i])
        scores = pool.caption_embeddings @ pool.embeddings[i]
        example["candidates"] = len(pool.captions)
        example["neighbours"] = [
            _neighbour(pool, first[t], t, scores[t], t == pool.labels[i]) for t in top(scores, NEIGHBOURS).tolist()
        ]
        examples.append(example)
    for kind, t in _picks(caption_ranks, [concepts[first[t]] for t in range(len(pool.captions))]):
        example = _example(pool, TEXT_TO_IMAGE, kind, first[t], t, float(caption_ranks[t]), concepts[first[t]])
        scores = pool.embeddings[pool.scored] @ pool.caption_embeddings[t]
        places = pool.scored[top(scores, NEIGHBOURS)].tolist()
        score = dict(zip(pool.scored.tolist(), scores.tolist(), strict=True))
        example["candidates"] = len(pool.scored)
        example["neighbours"] = [
            _neighbour(pool, i, int(pool.labels[i]), score[i], pool.labels[i] == t) for i in places
        ]
        examples.append(example)
    return examples


def caption_examples(said: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Descriptions of some pictures of each split, in the order they were chosen."""
    splits = dict.fromkeys(one["split"] for one in said)
    return [one for split in splits for one in [s for s in said if s["split"] == split][:CAPTIONS]]


def _picks(ranks: NDArray[np.float64], concepts: list[str]) -> list[tuple[str, int]]:
    """A few places with the lowest, the middlemost and the highest ranks, no concept twice; NaN is not picked."""
    known = np.flatnonzero(~np.isnan(ranks))
    order = known[np.argsort(ranks[known], kind="stable")]
    middle = order[np.argsort(np.abs(ranks[order] - np.median(ranks[order])), kind="stable")]
    seen: set[str] = set()
    picked = []
    for kind, places in (("worst", order[::-1]), ("best", order), ("typical", middle)):
        taken = 0
        for place in places.tolist():
            if taken == EACH:
                break
            if concepts[place] not in seen:
                seen.add(concepts[place])
                picked.append((kind, place))
                taken += 1
    return sorted(picked, key=lambda pick: ("best", "typical", "worst").index(pick[0]))


def _example(pool: RetrievalSplit, task: str, kind: str, i: int, t: int, rank: float, concept: str) -> dict[str, Any]:
    return {
        "split": pool.split,
        "task": task,
        "kind": kind,
        "sample": pool.samples[i].id,
        "caption": pool.captions[t],
        "concept": concept,
        "rank": rank,
    }


def _neighbour(pool: RetrievalSplit, i: int, t: int, score: float, correct: bool) -> dict[str, Any]:
    return {
        "sample": pool.samples[i].id,
        "caption": pool.captions[t],
        "score": round(float(score), 4),
        "correct": bool(correct),
    }
