"""What a split offers for retrieval: its pictures, its captions, and which belongs to which."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clerestory.core.errors import DataError, not_found
from clerestory.core.evidence import Finding
from clerestory.core.progress import Progress
from clerestory.core.sample import Dataset, Sample
from clerestory.models.protocols import Embedder
from clerestory.stages.evaluate.config import EvaluateConfig
from clerestory.stages.evaluate.shared.cached_embeddings import embed_texts
from clerestory.stages.evaluate.shared.embeddings import embed_dataset
from clerestory.store import Store

WHOLE = "all"
NO_CAPTION = "no caption in the language"
UNREADABLE = "the picture cannot be read"
# Such a reason may pass: the question is asked again next time.
UNANSWERED = "no answer"
PLAIN_SKIN = ("", "none")


@dataclass(frozen=True)
class RetrievalSplit:
    """One split, ready to be asked about.

    Attributes:
        split: its name.
        samples: the P pictures, without skin-tone variants.
        captions: the T distinct captions, in the order of the first sample that has each.
        labels: (P,) for each picture the place of its caption, -1 where it is not scored.
        reasons: for each picture why it is not scored, empty where it is.
        embeddings: (P, D) of the pictures.
        caption_embeddings: (T, D).
    """

    split: str
    samples: tuple[Sample, ...]
    captions: tuple[str, ...]
    labels: NDArray[np.int64]
    reasons: tuple[str, ...]
    embeddings: NDArray[np.float32]
    caption_embeddings: NDArray[np.float32]

    @property
    def scored(self) -> NDArray[np.int64]:
        """The places of the pictures that are scored: readable, with a caption."""
        return np.flatnonzero(self.labels >= 0)


def make_retrieval_split(
    model: Embedder, name: str, data: Dataset, config: EvaluateConfig, store: Store, progress: Progress
) -> RetrievalSplit:
    """Embed a split's pictures and its distinct captions.

    Raises:
        DataError: fewer than two captions are left after unreadable pictures.
        CapabilityError: the model gives something other than finite unit rows.
    """
    embeddings = embed_dataset(model, data, store, progress, config.batch_size)
    captions: dict[str, tuple[int, str]] = {}
    labels = np.full(len(data), -1, dtype=np.int64)
    reasons = []
    for i, sample in enumerate(data):
        text = caption_in(sample, config.language)
        reasons.append(NO_CAPTION if not text else UNREADABLE if np.isnan(embeddings[i]).any() else "")
        if not reasons[-1]:
            labels[i] = captions.setdefault(normal(text), (len(captions), text))[0]
    if len(captions) < 2:
        raise DataError(
            f"split {name!r} has {len(captions)} captions with a readable picture, and retrieval needs two",
            "replace the pictures that cannot be read",
        )
    texts = tuple(text for _, text in captions.values())
    embedded = embed_texts(model, texts, store.answer_cache, config.batch_size)
    return RetrievalSplit(name, data.samples, texts, labels, tuple(reasons), embeddings, embedded)


def normal(text: str) -> str:
    """Captions that differ only in case or spaces are one caption."""
    return " ".join(text.casefold().split())


def caption_in(sample: Sample, lang: str) -> str:
    """The first caption in a language, empty when there is none."""
    for caption in sample.captions:
        if (caption.lang == lang or caption.lang.startswith(lang + "-")) and caption.text.strip():
            return caption.text
    return ""


def concept_of(sample: Sample, lang: str) -> str:
    """The cluster of a sample: its concept, else its caption, else itself."""
    return sample.concept or normal(caption_in(sample, lang)) or sample.id


def choose_splits(data: Dataset, config: EvaluateConfig) -> tuple[dict[str, Dataset], list[Finding]]:
    """The splits that can be evaluated, and what was found wrong with the others.

    Raises:
        DataError: nothing can be evaluated; the sentence says why and what to do.
        NotFound: none of the wanted splits is in the data.
    """
    plain = data.where(lambda sample: sample.groups.get("skin_tone", "") in PLAIN_SKIN)
    known = Counter(sample.split for sample in plain)
    findings = [_left_out(len(data) - len(plain))] if len(plain) < len(data) else []
    if set(known) <= {""}:
        wanted = {WHOLE: plain}
    else:
        wanted = {name: plain.split(name) for name in config.splits if known[name]}
    if not wanted:
        fix = f"its splits are {', '.join(sorted(filter(None, known)))}; name one of them in the setting splits"
        raise not_found("split", config.splits[0], filter(None, known), fix)
    usable, problems = {}, []
    for name, part in wanted.items():
        problem = _problem(name, part, config)
        if problem is None:
            usable[name] = part
        else:
            problems.append(problem)
    if not usable:
        raise DataError(problems[0].message, problems[0].fix)
    if WHOLE not in wanted:
        problems += [_absent(name) for name in config.splits if not known[name]]
    return usable, findings + problems


def _problem(name: str, part: Dataset, config: EvaluateConfig) -> Finding | None:
    captioned = [sample for sample in part if caption_in(sample, config.language)]
    concepts = {concept_of(sample, config.language) for sample in captioned}
    captions = {normal(caption_in(sample, config.language)) for sample in captioned}
    if len(concepts) >= 2 and len(captions) >= 2:
        return None
    if captioned or not any(sample.captions for sample in part):
        message = (
            f"split {name!r} has {len(captioned)} captioned pictures of {len(concepts)} concepts with {len(captions)} "
            "different captions, and retrieval needs two of each"
        )
        fix = "add pictures of other things, or evaluate on another split (setting splits)"
    else:
        langs = sorted({caption.lang for sample in part for caption in sample.captions})
        message = f"no picture of split {name!r} has a caption in {config.language!r}"
        fix = f"set lang to one of: {', '.join(langs)}"
    return Finding("CLR-E003", "warning", "not_run", f"split {name}", message, fix)


def _absent(name: str) -> Finding:
    message = f"the data has no split {name!r}, so nothing was measured on it"
    return Finding("CLR-E003", "info", "not_applicable", f"split {name}", message, "add such a split, or leave it out")


def _left_out(count: int) -> Finding:
    message = (
        f"{count} skin-tone variants are left out: their captions differ from the plain picture's by the tone only"
    )
    return Finding("CLR-E006", "info", "not_applicable", "group skin_tone", message)
