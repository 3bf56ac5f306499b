"""The dataset that a plan makes of another one; nothing is written here.

The bytes of an image change only where its metadata is removed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace

from clerestory.apps.data_fix.plan import FixPlan, SampleFix
from clerestory.apps.data_fix.rules import FixAction
from clerestory.core.digest import digest_bytes
from clerestory.core.errors import DataError
from clerestory.core.evidence import Finding
from clerestory.core.progress import QUIET, Progress
from clerestory.core.sample import TEST_STYLE, TRAIN, Caption, Dataset, Sample, concept_of_caption
from clerestory.data import findings as data_findings
from clerestory.data.images import decode_image
from clerestory.data.images.strip import MalformedImage, strip_metadata
from clerestory.stages.audit.caption_text import normalised
from clerestory.stages.audit.personal_data import CODE_OF, find_personal_data, redact

KIND_OF = {code.code: kind for kind, code in CODE_OF.items()}


@dataclass(frozen=True, slots=True)
class FixedData:
    """A dataset with its fixes applied.

    Attributes:
        data: the new version; its images are read from the parent, and stripped as they are read.
        unstripped: ids of samples whose file is too damaged to remove its metadata; they are unchanged.
    """

    data: Dataset
    unstripped: tuple[str, ...]


def apply_plan(data: Dataset, plan: FixPlan, progress: Progress = QUIET) -> FixedData:
    """Apply a plan.

    Args:
        data: the parent.
        plan: made for it.
        progress: reports the files whose metadata is removed.

    Raises:
        DataError: no sample would be left.
    """
    fixes = plan.by_sample()
    concepts: defaultdict[str, set[str]] = defaultdict(set)
    for sample in data:
        concepts[sample.concept].add(sample.split)
    samples: list[Sample] = []
    unstripped: list[str] = []
    to_strip = [id for id, own in fixes.items() if any(fix.action is FixAction.STRIP for fix in own)]
    with progress.task("Removing metadata", len(to_strip)) as bar:
        for sample in data:
            own = fixes.get(sample.id, [])
            actions = {fix.action for fix in own}
            if FixAction.DROP in actions:
                continue
            if FixAction.STRIP in actions:
                stripped = _stripped(data, sample)
                if stripped is None:
                    unstripped.append(sample.id)
                else:
                    sample = _with_image(sample, digest_bytes(stripped))
                bar.advance()
            if FixAction.MOVE in actions:
                sample = replace(sample, split=TRAIN)
            samples.append(_with_captions(sample, own, actions, concepts))
    if not samples:
        raise DataError(f"no image of {data.name} would be left", "name the findings to fix with --only")
    stripped_ids = set(to_strip) - set(unstripped)

    def read(sample: Sample) -> bytes:
        content = data.read(data[sample.id])
        return strip_metadata(content) if sample.id in stripped_ids else content

    fixed = Dataset(data.name, samples, read, _findings(samples), file_of=lambda sample: data.file_of(data[sample.id]))
    return FixedData(fixed, tuple(unstripped))


def _stripped(data: Dataset, sample: Sample) -> bytes | None:
    """The file of a sample without its metadata; None if that is not possible without touching its pixels."""
    content = data.read(sample)
    try:
        stripped = strip_metadata(content)
    except MalformedImage:
        return None
    return stripped if decode_image(stripped).tobytes() == decode_image(content).tobytes() else None


def _with_image(sample: Sample, digest: str) -> Sample:
    """The sample with another file; the concept of an image without a caption is made from its digest."""
    is_digest = sample.concept and sample.concept == sample.image[: len(sample.concept)]
    return replace(sample, image=digest, concept=digest[: len(sample.concept)] if is_digest else sample.concept)


def _with_captions(
    sample: Sample, own: list[SampleFix], actions: set[FixAction], concepts: dict[str, set[str]]
) -> Sample:
    captions = list(sample.captions)
    if FixAction.REDACT in actions:
        kinds = [KIND_OF[fix.code] for fix in own if fix.action is FixAction.REDACT]
        captions = [replace(caption, text=redact(caption.text, caption.lang, kinds)) for caption in captions]
        captions = list(dict.fromkeys(captions))
    if FixAction.REMOVE_CAPTION in actions:
        captions = _different(captions)
    if tuple(captions) == sample.captions:
        return sample
    return replace(sample, captions=tuple(captions), concept=_concept(sample, captions, concepts))


def _different(captions: Iterable[Caption]) -> list[Caption]:
    """Captions without those that repeat the words of an earlier one, as CLR-A025 counts them."""
    first: dict[tuple[str, str, str], Caption] = {}
    for caption in captions:
        first.setdefault((caption.kind, caption.lang, normalised(caption.text) or caption.text), caption)
    return list(first.values())


def _concept(sample: Sample, captions: list[Caption], concepts: dict[str, set[str]]) -> str:
    """The concept without personal data: that of the new caption, or of the image if another split has that one."""
    old = sample.captions[0].text
    if sample.concept != concept_of_caption(old) and not find_personal_data(sample.concept, sample.captions[0].lang):
        return sample.concept
    new = concept_of_caption(captions[0].text)
    others = concepts[new] - {sample.split, TEST_STYLE} if new != sample.concept else set()
    if not new or others:
        return sample.image[:16]
    concepts[new].add(sample.split)
    return new


def _findings(samples: Iterable[Sample]) -> list[Finding]:
    """What reading the new version would find: concepts in several splits, and images without a caption."""
    splits: defaultdict[str, set[str]] = defaultdict(set)
    uncaptioned = []
    for sample in samples:
        if sample.concept and sample.split and sample.split != TEST_STYLE:
            splits[sample.concept].add(sample.split)
        if not sample.captions:
            uncaptioned.append(sample.id)
    found = [data_findings.split_conflict(name, sorted(own)) for name, own in sorted(splits.items()) if len(own) > 1]
    return found + ([data_findings.no_caption(len(uncaptioned), uncaptioned[0])] if uncaptioned else [])
