"""Copies of images: exact, near and cropped ones, and those that leak from one split into another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from clerestory.core.codec import Tags
from clerestory.core.findings import FindingCode
from clerestory.core.progress import Progress
from clerestory.core.sample import TRAIN, Dataset
from clerestory.core.units import plural
from clerestory.stages.audit import image_findings as codes
from clerestory.stages.audit.config import AuditConfig
from clerestory.stages.audit.detection import Detection
from clerestory.stages.audit.hamming import group_pairs
from clerestory.stages.audit.near_duplicates import find_near_duplicates
from clerestory.stages.audit.partial_copies import find_partial_copies


def check_copies(data: Dataset, facts: NDArray[np.void], config: AuditConfig, progress: Progress) -> list[Detection]:
    """Find copies of images, and copies of one image in several splits.

    Args:
        data: the dataset.
        facts: about the image of each sample (``read_image_facts``).
        config: the limits.
        progress: reports the comparisons.
    """
    near = find_near_duplicates(data, facts, config.min_structure, progress)
    exact, nearly = near.groups_of("same bytes", "same pixels"), near.groups_of("nearly the same")
    detections = [
        _grouped(data, codes.EXACT_COPIES, exact, "have the same pixels as another one"),
        _grouped(data, codes.NEAR_DUPLICATES, nearly, "show nearly the same as another one"),
    ]
    pairs = list(near.kinds)
    copied = {place for group in near.groups for place in group[1:]}  # one of each group stands for it
    clear = (facts["quality"] >= config.min_structure) & (facts["width"] > 0)
    places = np.array([place for place in np.flatnonzero(clear).tolist() if place not in copied], dtype=np.int64)
    if len(places) <= config.max_crop_images:
        crops = [
            (min(c.whole, c.part), max(c.whole, c.part)) for c in find_partial_copies(data, facts, places, progress)
        ]
        detections.append(
            _grouped(data, codes.CROPS, _groups(crops), "show a part of another one, or have a bar added")
        )
        pairs += crops
    else:
        message = f"crops were not sought among {len(places):,} images; the limit is {config.max_crop_images:,}"
        fix = f"allow it, which takes longer: --set max_crop_images={len(places)}"
        detections.append(Detection(codes.COMPARISONS_LEFT_OUT, message, (), len(data), reason="crops", fix=fix))
    if near.left_out:
        message = f"{near.left_out:,} comparisons of images with a very common hash were left out"
        detections.append(Detection(codes.COMPARISONS_LEFT_OUT, message, (), len(data), reason="common_hashes"))
    detections += _leakage(data, _groups(pairs))
    return [each for each in detections if each.samples or each.code is codes.COMPARISONS_LEFT_OUT]


def leaked_samples(detections: Iterable[Detection]) -> tuple[str, ...]:
    """The samples of evaluation splits that have a copy in the training split."""
    return tuple(sample for each in detections if each.code is codes.LEAKAGE for sample in each.samples)


def _groups(pairs: Sequence[tuple[int, int]]) -> list[list[int]]:
    ends = np.array(sorted(set(pairs)), dtype=np.int64).reshape(-1, 2)
    return group_pairs(ends[:, 0], ends[:, 1], int(ends.max(initial=0)) + 1)


def _ids(data: Dataset, places: Iterable[int]) -> tuple[str, ...]:
    return tuple(data.samples[place].id for place in places)


def _grouped(data: Dataset, code: FindingCode, groups: list[list[int]], what: str) -> Detection:
    samples = _ids(data, sorted(place for group in groups for place in group))
    message = f"{plural(len(samples), 'image')} of {len(data):,} {what}, in {plural(len(groups), 'group')}"
    return Detection(code, message, samples, len(data), groups=tuple(_ids(data, group) for group in groups))


def _leakage(data: Dataset, groups: list[list[int]]) -> list[Detection]:
    leaked: list[int] = []
    across: list[list[int]] = []
    for group in groups:
        evaluated = [place for place in group if data.samples[place].split not in ("", TRAIN)]
        if evaluated and any(data.samples[place].split == TRAIN for place in group):
            leaked += evaluated
            across.append(group)
    if not leaked:
        return []
    splits = {place: data.samples[place].split for group in across for place in group}
    counts = Counter(splits[place] for place in leaked)
    sizes = Counter(sample.split for sample in data)
    named = ", ".join(f"{n:,} of {sizes[split]:,} of {split}" for split, n in sorted(counts.items()))
    verb = "has a copy" if len(leaked) == 1 else "have copies"
    message = f"{plural(len(leaked), 'image')} of an evaluation split {verb} in the training split ({named})"
    notes = Tags({data.samples[place].id: f"split {split}" for place, split in splits.items()})
    groups_of_ids = tuple(_ids(data, group) for group in across)
    return [Detection(codes.LEAKAGE, message, _ids(data, sorted(leaked)), len(data), groups_of_ids, notes)]
