"""Planting: one round for each kind of fault, in a copy of the data in memory, and what the detectors report.

Every chosen image gets every kind of fault, one kind in a round. What the detectors report about the unchanged images
is subtracted: it was there before, and whether it is right is not known. The rest is right if it was planted.

In a round of copies half of the images are in the training split with their copy in the test split, which is planted
leakage; the others are in the test split together with their copy.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from random import Random

import numpy as np
from numpy.typing import NDArray

from clerestory.core.digest import digest_bytes
from clerestory.core.errors import ClerestoryError
from clerestory.core.progress import QUIET
from clerestory.core.sample import TEST, TRAIN, Caption, Dataset, Sample
from clerestory.stages.audit import caption_findings, image_findings
from clerestory.stages.audit.calibration.images import CODE_OF_COPY, CODE_OF_ODD, COPY_CODES, ImageFault, plant_image
from clerestory.stages.audit.calibration.texts import decoy_phrase, personal_phrase
from clerestory.stages.audit.config import AuditConfig
from clerestory.stages.audit.copies_check import check_copies
from clerestory.stages.audit.detection import Detection
from clerestory.stages.audit.hamming import group_pairs
from clerestory.stages.audit.image_check import check_images
from clerestory.stages.audit.image_facts import read_image_facts
from clerestory.stages.audit.personal_data import CODE_OF, PersonalDataKind, check_personal_data
from clerestory.store.answer_cache import AnswerCache

Matcher = Callable[[Dataset], Sequence[Detection] | None]
SWAPPED, SWAP_ROUNDS = "swapped captions", 5
SWAPPED_SHARE = 0.1
_COPY = "planted\0"  # before the id of a planted copy; no id of a source has a zero byte


@dataclass(frozen=True, slots=True)
class PlantRow:
    """One planted fault, or one report of a detector that was not planted.

    Attributes:
        sample: the image it was planted in, or that was reported.
        code: of the finding.
        fault: the kind of fault; empty for a report that was not planted.
        is_found: whether it was reported; None for a report that was not planted.
    """

    sample: str
    code: str
    fault: str = ""
    is_found: bool | None = None


@dataclass(frozen=True, slots=True)
class PlantContext:
    """What every round uses.

    Attributes:
        data: the chosen images, unchanged.
        config: the limits of the audit.
        cache: keeps the facts about images for the time of the calibration.
        seed: of all planted faults.
    """

    data: Dataset
    config: AuditConfig
    cache: AnswerCache
    seed: int

    def rng(self, sample: Sample, what: str) -> Random:
        """Chooses for one image and kind of fault, whatever else is planted."""
        return Random(digest_bytes(f"{self.seed}\0{sample.id}\0{what}".encode()))


def copy_rounds(context: PlantContext) -> Iterator[list[PlantRow]]:
    """One round for each kind of copy: recall of the three findings about copies, and of leakage."""
    data = context.data
    before = _components(data, check_copies(*_facts(data, context), context.config, QUIET))
    for number, (fault, code) in enumerate(CODE_OF_COPY.items()):
        contents = _plant(context, fault)
        # Images that trained and tested alternate, so that each is planted as a leak in half of the rounds.
        trained = {sample.id for i, sample in enumerate(data) if (i + number) % 2 == 0}
        originals = [replace(sample, split=TRAIN if sample.id in trained else TEST) for sample in data]
        copies = [replace(data[id], id=_COPY + id, image=digest, split=TEST) for id, (digest, _) in contents.items()]
        round_ = _dataset(context, [*originals, *copies], contents)
        found = check_copies(*_facts(round_, context), context.config, QUIET)
        yield [
            *_copy_rows(found, before, code.code, fault, contents),
            *_leak_rows(found, before, trained, fault, contents),
        ]


def _components(data: Dataset, detections: Iterable[Detection]) -> dict[str, int]:
    """A number for each image, equal for images that are copies of one another before anything is planted."""
    places = {sample.id: i for i, sample in enumerate(data)}
    groups = [group for each in detections if each.code in COPY_CODES for group in each.groups]
    pairs = [(places[group[0]], places[other]) for group in groups for other in group[1:]]
    ends = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    component = dict(places)
    for group in group_pairs(ends[:, 0], ends[:, 1], len(places)):
        component.update({data.samples[place].id: group[0] for place in group})
    return component


def _copy_rows(
    found: Sequence[Detection], before: Mapping[str, int], code: str, fault: ImageFault, planted: Iterable[str]
) -> Iterator[PlantRow]:
    partners: defaultdict[str, set[str]] = defaultdict(set)
    for detection in found:
        if detection.code not in COPY_CODES:
            continue
        for group in detection.groups:
            for id in group:
                partners[id].update(group)
            origins = {before[_original(id)]: _original(id) for id in group}
            # Images that were copies before, and their copies, belong together; every further one is a false alarm.
            for id in sorted(origins.values())[1:]:
                yield PlantRow(id, detection.code.code)
    for id in planted:
        yield PlantRow(id, code, fault, id in partners[_COPY + id])


def _leak_rows(
    found: Sequence[Detection], before: Mapping[str, int], trained: set[str], fault: ImageFault, planted: Iterable[str]
) -> Iterator[PlantRow]:
    code = image_findings.LEAKAGE
    reported = {id for detection in found if detection.code is code for id in detection.samples}
    of_training = {before[id] for id in trained}
    for id in planted:
        if id in trained:
            yield PlantRow(id, code.code, fault, _COPY + id in reported)
    for id in reported:
        if before[_original(id)] not in of_training:
            yield PlantRow(_original(id), code.code)


def _original(id: str) -> str:
    return id.removeprefix(_COPY)


def odd_rounds(context: PlantContext) -> Iterator[list[PlantRow]]:
    """One round for each fault of a single image: blank, blurred, dark, with coordinates."""
    codes = {code.code for code in CODE_OF_ODD.values()}
    data, facts = _facts(context.data, context)
    before = _reported(check_images(data, facts, (), context.config))
    for fault, code in CODE_OF_ODD.items():
        contents = _plant(context, fault)
        changed = [replace(context.data[id], image=digest) for id, (digest, _) in contents.items()]
        round_, facts = _facts(_dataset(context, changed, contents), context)
        reported = _reported(check_images(round_, facts, (), context.config))
        rows = [PlantRow(id, code.code, fault, id in reported[code.code]) for id in contents]
        for other in codes - {code.code}:
            rows += [PlantRow(id, other) for id in sorted(reported[other] - before[other])]
        yield rows


def text_rounds(context: PlantContext) -> Iterator[list[PlantRow]]:
    """One round for each kind of personal data, and one of texts that only look like some; none without captions."""
    captioned = context.data.filter(lambda sample: bool(sample.captions))
    if not len(captioned):
        return
    before = _reported(check_personal_data(captioned))
    for kind in (*PersonalDataKind, None):
        planted = [_with_phrase(sample, kind, context) for sample in captioned]
        reported = _reported(check_personal_data(_dataset(context, planted, {})))
        rows = (
            []
            if kind is None
            else [
                PlantRow(sample.id, CODE_OF[kind].code, kind, sample.id in reported[CODE_OF[kind].code])
                for sample in captioned
            ]
        )
        for other in (each for each in PersonalDataKind if each is not kind):
            code = CODE_OF[other].code
            rows += [PlantRow(id, code) for id in sorted(reported[code] - before[code])]
        yield rows


def _with_phrase(sample: Sample, kind: PersonalDataKind | None, context: PlantContext) -> Sample:
    first = sample.captions[0]
    rng = context.rng(sample, kind or "decoy")
    phrase = decoy_phrase(rng) if kind is None else personal_phrase(kind, first.lang, rng)
    # Alone, so that a value that the caption already has is not what is reported.
    base = first.text if len(first.text) < 300 else ""
    return replace(sample, captions=(Caption(f"{base} {phrase}".strip(), first.lang, first.kind),))


def swap_rounds(context: PlantContext, matcher: Matcher) -> Iterator[list[PlantRow]]:
    """Rounds in which a tenth of the images have the captions of another one; none if there are too few to tell.

    Args:
        context: the images.
        matcher: reports the captions that do not fit their image; None if there are too few.
    """
    code = caption_findings.MISMATCH.code
    captioned = [sample for sample in context.data if sample.captions]
    unchanged = matcher(_dataset(context, captioned, {})) if captioned else None
    if unchanged is None:
        return
    before = _reported(unchanged)[code]
    order = list(captioned)
    Random(context.seed).shuffle(order)
    size = max(2, round(SWAPPED_SHARE * len(order)))
    for number in range(min(SWAP_ROUNDS, len(order) // size)):
        part = order[number * size : (number + 1) * size]
        captions = {one.id: other.captions for one, other in zip(part, [*part[1:], part[0]], strict=True)}
        wrong = {s.id for s in part if captions[s.id] != s.captions}
        mixed = [replace(sample, captions=captions.get(sample.id, sample.captions)) for sample in captioned]
        reported = _reported(matcher(_dataset(context, mixed, {})) or ())[code]
        rows = [PlantRow(id, code, SWAPPED, id in reported) for id in sorted(wrong)]
        yield rows + [PlantRow(id, code) for id in sorted(reported - wrong - before)]


def _plant(context: PlantContext, fault: ImageFault) -> dict[str, tuple[str, bytes]]:
    """The digest and the bytes of the changed file of each image, by the id of its sample."""

    def change(sample: Sample) -> bytes | None:
        try:
            return plant_image(context.data.read(sample), fault, context.rng(sample, fault))
        except ClerestoryError:  # it has gone since the data was opened
            return None

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        changed = list(threads.map(change, context.data))
    contents = zip(context.data, changed, strict=True)
    return {sample.id: (digest_bytes(content), content) for sample, content in contents if content is not None}


def _dataset(context: PlantContext, samples: list[Sample], contents: Mapping[str, tuple[str, bytes]]) -> Dataset:
    planted = dict(contents.values())

    def read(sample: Sample) -> bytes:
        return (
            planted[sample.image] if sample.image in planted else context.data.read(context.data[_original(sample.id)])
        )

    return Dataset(context.data.name, samples, read)


def _facts(data: Dataset, context: PlantContext) -> tuple[Dataset, NDArray[np.void]]:
    facts, _ = read_image_facts(data, context.cache, QUIET)
    return data, facts


def _reported(detections: Iterable[Detection]) -> defaultdict[str, set[str]]:
    """The samples that each code concerns."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for detection in detections:
        found[detection.code.code].update(detection.samples)
    return found
