"""Samples as an evaluation sees them: their caption and concept, the splits to evaluate, and seeded selections."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

from clerestory.core.errors import DataError, not_found
from clerestory.core.evidence import Finding
from clerestory.core.rows import ALL_SAMPLES
from clerestory.core.sample import Caption, Dataset, Sample
from clerestory.stages.evaluate import findings
from clerestory.stages.evaluate.config import EvaluateConfig, RetrievalProtocol

# Values of the group skin_tone of images that are not skin-tone variants of another image.
BASE_SKIN_TONES = ("", "none")

PUBLISHED_CAPTIONS = 5  # per image, of the retrieval protocol of Flickr and COCO

T = TypeVar("T")


def normalize_caption(text: str) -> str:
    """The text in lower case with single spaces; captions that are then equal count as one caption."""
    return " ".join(text.casefold().split())


def caption_in(sample: Sample, language: str) -> str:
    """The first caption in a language, empty when there is none."""
    return next(
        (caption.text for caption in sample.captions if caption.text.strip() and is_in_language(caption, language)), ""
    )


def captions_of(sample: Sample, language: str, protocol: RetrievalProtocol) -> list[str]:
    """The captions of a sample that take part in retrieval; keywords and captions in other languages do not."""
    first = next((c for c in sample.captions if c.text.strip() and is_in_language(c, language)), None)
    if first is None:
        return []
    if protocol == "first_caption":
        return [first.text]
    several = [c.text for c in sample.captions if c.kind == "name" and c.lang == first.lang and c.text.strip()]
    return (several or [first.text])[: PUBLISHED_CAPTIONS if protocol == "five_captions" else None]


def is_in_language(caption: Caption, language: str) -> bool:
    """Whether a caption is in a language or one of its regional variants."""
    return caption.lang == language or caption.lang.startswith(f"{language}-")


def concept_of(sample: Sample, language: str) -> str:
    """The cluster of a sample: its concept, else its caption, else its id."""
    return sample.concept or normalize_caption(caption_in(sample, language)) or sample.id


def is_base_image(sample: Sample) -> bool:
    """Whether a sample is not a skin-tone variant."""
    return sample.groups.get("skin_tone", "") in BASE_SKIN_TONES


def select_samples(samples: Iterable[Sample], count: int, seed: int) -> list[Sample]:
    """The first ``count`` samples by a hash of seed and id, an order that other samples do not change."""
    return sorted(samples, key=lambda s: hashlib.sha256(f"{seed}/{s.id}".encode()).digest())[:count]


def batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of ``size`` items; the last may be shorter."""
    remaining = iter(items)
    while batch := list(islice(remaining, size)):
        yield batch


def choose_splits(data: Dataset, config: EvaluateConfig) -> tuple[dict[str, Dataset], list[Finding]]:
    """The splits that can be evaluated, without skin-tone variants, and findings about all that is excluded.

    Raises:
        DataError: no split can be evaluated.
        NotFound: none of the configured splits is in the data.
    """
    base = data.filter(is_base_image)
    sizes = Counter(sample.split for sample in base)
    notes = [_excluded_variants(len(data) - len(base))] if len(base) < len(data) else []
    if set(sizes) <= {""}:
        wanted = {ALL_SAMPLES: base}
    else:
        wanted = {name: base.split(name) for name in config.splits if sizes[name]}
    if not wanted:
        known = ", ".join(sorted(filter(None, sizes)))
        fix = f"its splits are {known}; name one of them in the setting splits (evaluate --splits)"
        raise not_found("split", config.splits[0], filter(None, sizes), fix)
    usable, problems = {}, []
    for name, split in wanted.items():
        problem = _problem(name, split, config)
        if problem is None:
            usable[name] = split
        else:
            problems.append(problem)
    if not usable:
        raise DataError(problems[0].message, problems[0].fix)
    if ALL_SAMPLES not in wanted:
        problems += [_absent(name) for name in config.splits if not sizes[name]]
    return usable, notes + problems


def _problem(name: str, split: Dataset, config: EvaluateConfig) -> Finding | None:
    """Why a split cannot be evaluated, None if it can."""
    captioned = [sample for sample in split if caption_in(sample, config.language)]
    concepts = {concept_of(sample, config.language) for sample in captioned}
    captions = {normalize_caption(caption_in(sample, config.language)) for sample in captioned}
    if len(concepts) >= 2 and len(captions) >= 2:
        return None
    if captioned or not any(sample.captions for sample in split):
        message = (
            f"split {name!r} has {len(captioned)} captioned images of {len(concepts)} concepts with {len(captions)} "
            "different captions, but retrieval needs at least two of each"
        )
        fix = "add images of other concepts, or evaluate another split (evaluate --splits)"
    else:
        languages = sorted({caption.lang for sample in split for caption in sample.captions})
        message = f"no image of split {name!r} has a caption in {config.language!r}"
        fix = f"set language to one of {', '.join(languages)}"
    return findings.UNUSABLE_SPLIT.finding(
        f"split {name}", message, fix=fix, count=len(captioned), concepts=len(concepts), captions=len(captions)
    )


def _absent(name: str) -> Finding:
    message = f"the data has no split {name!r}, so it was not evaluated"
    fix = "add this split to the data, or remove it from the setting splits"
    return findings.UNUSABLE_SPLIT.finding(f"split {name}", message, fix=fix, severity="info", state="not_applicable")


def _excluded_variants(count: int) -> Finding:
    message = (
        f"{count} skin-tone variants are excluded: only the tone distinguishes their captions from the base image's"
    )
    return findings.EXCLUDED_VARIANTS.finding("group skin_tone", message, count=count)
