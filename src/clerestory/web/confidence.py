"""How sure? Scores in words that have been measured.

A similarity says nothing to people, and the same number means different things for different models. So when a model
is loaded, it answers questions whose answers are known, about things it has not seen while learning where there are
any; of the answers with about the same score, the share that was right is what the words stand for.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from clerestory.apps.search import Index
from clerestory.core.codec import decode
from clerestory.core.digest import canonical
from clerestory.core.errors import UploadError
from clerestory.core.provenance import code_digest
from clerestory.core.sample import TEST, TEST_STYLE, TRAIN, VAL, Dataset, Sample
from clerestory.data.images import decode_image
from clerestory.models.protocols import Describer, Embedder
from clerestory.stats.ranking import top
from clerestory.store import Store

QUESTIONS = 240
PICTURES = 48
ANSWERS = 10
LEAST = 60  # answers; fewer are not worth a word
BINS = 16

LEVELS = ((0.7, 3, "very sure"), (0.4, 2, "fairly sure"), (0.15, 1, "not so sure"), (0.0, 0, "a guess"))


@dataclass(frozen=True, slots=True)
class Sure:
    """How sure one answer is: words, a level from 0 to 3, and one sentence that says what they rest on."""

    words: str
    level: int
    detail: str


@dataclass(frozen=True, slots=True)
class Scale:
    """From a score to the share of right answers, measured.

    Attributes:
        scores: rising scores.
        shares: the share of answers about that score that were right; never falling.
        n: how many answers this rests on.
        questions: how many questions they answered.
        unseen: whether all of them were about things not learnt from.
    """

    scores: tuple[float, ...]
    shares: tuple[float, ...]
    n: int
    questions: int
    unseen: bool

    def sure(self, score: float) -> Sure:
        """A score in words."""
        share = float(np.interp(score, self.scores, self.shares))
        level, said = next((level, said) for least, level, said in LEVELS if share >= least)
        return Sure(said, level, f"Of 100 answers with such a score, about {round(100 * share)} were right")


@dataclass(frozen=True, slots=True)
class Sureness:
    """The scales of one model on one set of pictures; None where there was too little to measure."""

    words: Scale | None = None
    likeness: Scale | None = None
    captions: Scale | None = None


def explain(scale: Scale | None, question: str, right: str) -> str:
    """What the words mean, for whoever asks.

    Args:
        scale: what was measured.
        question: what was asked, such as "the names of things".
        right: when an answer counts as right.
    """
    if scale is None:
        return "It has not been measured for these pictures, since too few of them have known names."
    unseen = " that the model had never seen while learning" if scale.unseen else ""
    steps = "; ".join(f"“{said}” at least {round(100 * least)} in 100" for least, _, said in LEVELS[:-1])
    return (
        f"It was measured on this computer, with {scale.questions} {question}{unseen}: {right} "
        f"The words say how many of the answers with such a score were right: {steps}; “{LEVELS[-1][2]}” fewer."
    )


def measure_sureness(model: Embedder | Describer, index: Index | None, data: Dataset | None, store: Store) -> Sureness:
    """Measure the scales, or read them from the store if that was done before."""
    if index is None or data is None or not isinstance(model, Embedder):
        return Sureness()
    key = f"sureness/{model.digest}/{data.digest}/{code_digest('data', 'models', 'web/confidence')}"
    kept = store.recall(key)
    if kept is not None:
        return decode(Sureness, json.loads(store.blobs.get(kept)))
    asked, unseen = _questions(index)
    rows = [i for i, _ in asked]
    result = Sureness()
    if asked:
        found = index.at(None)
        texts = model.embed_texts([sample.caption for _, sample in asked])
        result = Sureness(
            words=_scale(_answers(index, found @ texts.T, asked, itself=True), len(asked), unseen),
            likeness=_scale(_answers(index, found @ found[rows].T, asked, itself=False), len(asked), unseen),
            captions=_caption_scale(model, data, [sample for _, sample in asked], unseen),
        )
    store.remember(key, store.blobs.put(canonical(result)))
    return result


def _questions(index: Index) -> tuple[list[tuple[int, Sample]], bool]:
    """One picture of each thing, with its place in the index, from what was not learnt from where there is any."""
    readable = np.isfinite(index.at(None)[:, 0])
    splits = {sample.split for sample in index.samples}
    wanted = next((split for split in (TEST, VAL, TEST_STYLE) if split in splits), None)
    things: dict[str, tuple[int, Sample]] = {}
    for i, sample in enumerate(index.samples):
        if sample.caption and readable[i] and wanted in {None, sample.split}:
            things.setdefault(_thing(sample), (i, sample))
    chosen = list(things.values())
    step = max(1, len(chosen) // QUESTIONS)
    return chosen[::step][:QUESTIONS], wanted is not None and TRAIN in splits


def _thing(sample: Sample) -> str:
    return sample.concept or sample.caption.casefold()


def _answers(
    index: Index, scores: NDArray[np.float32], asked: Sequence[tuple[int, Sample]], itself: bool
) -> list[tuple[float, bool]]:
    """Score and rightness of the first answers to each question; ``scores`` is (pictures, questions)."""
    answers = []
    for (row, sample), column in zip(asked, scores.T, strict=True):
        best = [i for i in top(column, ANSWERS + 1).tolist() if itself or i != row]
        answers += [(float(column[i]), _thing(index.samples[i]) == _thing(sample)) for i in best[:ANSWERS]]
    return answers


def _caption_scale(model: Embedder | Describer, data: Dataset, samples: Sequence[Sample], unseen: bool) -> Scale | None:
    """How often a suggested caption is one of the picture's own."""
    if not isinstance(model, Describer):
        return None  # and no remote model is both, so measuring never sends pictures anywhere
    answers, described = [], 0
    for sample in samples[:: max(1, len(samples) // PICTURES)][:PICTURES]:
        try:
            picture = decode_image(data.read(sample))
        except UploadError:
            continue
        described += 1
        own = {caption.text.casefold() for caption in sample.captions}
        answers += [(s.score, s.text.casefold() in own) for s in model.describe([picture], 3)[0]]
    return _scale(answers, described, unseen)


def _scale(answers: Sequence[tuple[float, bool]], questions: int, unseen: bool) -> Scale | None:
    """Shares by score: bins of equally many answers, then made never to fall (isotonic regression)."""
    if len(answers) < LEAST:
        return None
    ordered = sorted(answers)
    bins = np.array_split(np.array(ordered, dtype=float), max(2, min(BINS, len(ordered) // (LEAST // 2))))
    scores = [float(part[:, 0].mean()) for part in bins]
    shares = isotonic_regression([part[:, 1].mean() for part in bins], weights=[len(part) for part in bins]).x
    return Scale(tuple(scores), tuple(round(float(s), 4) for s in shares), len(ordered), questions, unseen)
