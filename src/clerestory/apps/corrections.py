"""Corrected captions and labels on their way into the data: decided by a person, written as a new version, measured.

A correction needs its image: it is a sample of a dataset, or it was kept because the setting says so. An accepted
one becomes part of a new version of that dataset; the dataset itself is never changed.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from clerestory.apps.data_fix.write import SUFFIX, as_written, write_version
from clerestory.apps.loading import load_model
from clerestory.core.codec import Tags, encode
from clerestory.core.digest import canonical, digest, digest_bytes, short
from clerestory.core.errors import CapabilityError, ClerestoryError, InputError, NotFound
from clerestory.core.files import make_folder
from clerestory.core.people import person_name
from clerestory.core.progress import QUIET, Progress
from clerestory.core.provenance import current_user, now
from clerestory.core.release import Event
from clerestory.core.sample import TRAIN, Caption, Dataset, Sample, concept_of_caption
from clerestory.core.text import is_printable_name
from clerestory.core.units import plural
from clerestory.data.images import decode_image
from clerestory.models.protocols import Embedder
from clerestory.report.provenance import training_of
from clerestory.stages.watch.quality import LabelledShare, share_of
from clerestory.store import Store
from clerestory.store.operations.feedback import CorrectionState, Feedback, decide_correction, list_corrections
from clerestory.store.operations.kept_images import KeptImages
from clerestory.store.operations.prediction import Prediction
from clerestory.store.operations.predictions import find_prediction

DECIDED, MADE = "corrections_decided", "data_corrected"  # kinds of events in the journal
FOLDER = "datasets"  # of the store, as for the versions of a fix
SAMPLE_PREFIX = "feedback/"  # of the samples that were not in the dataset before
NO_IMAGE = "its image was not kept, so it cannot become a sample"


@dataclass(frozen=True, slots=True)
class Correction:
    """A corrected caption or label, with the facts about its image.

    Attributes:
        feedback: what somebody said; its position is the number of the correction.
        version: the release that answered, such as ``icons@3``; empty if it is no longer in the request log.
        replaces: the caption or label that was shown; empty if it is not known.
        sample: the id of the sample in the dataset; empty for a kept image.
        problem: why it cannot become a sample; empty if it can.
    """

    feedback: Feedback
    version: str
    replaces: str
    sample: str
    problem: str = ""

    @property
    def number(self) -> int:
        """The number by which people name it."""
        return self.feedback.position


@dataclass(frozen=True, slots=True)
class CorrectedVersion:
    """A new version of a dataset with corrections.

    Attributes:
        name, place: where it is.
        digest, samples: of its content.
        made_from: the digest of the parent.
        changed, added: samples with another caption, and samples that are new.
    """

    name: str
    place: str
    digest: str
    samples: int
    made_from: str
    changed: int
    added: int


@dataclass(frozen=True, slots=True)
class CorrectionEffect:
    """What a release does on the corrected images, beside the release that answered wrongly.

    Attributes:
        ref: the release.
        corrections: how many were compared.
        wrong_before: those on which the earlier release preferred the replaced text.
        fixed: those of them on which this one prefers the corrected text.
        broken: those that were right before and are wrong now.
        share: ``fixed`` of ``wrong_before`` with its interval; None if nothing was wrong before.
        trained_on_them: whether the release was trained on a version with these corrections.
        left_out: accepted corrections that could not be compared.
    """

    ref: str
    corrections: int
    wrong_before: int
    fixed: int
    broken: int
    share: LabelledShare | None
    trained_on_them: bool
    left_out: int

    @property
    def sentence(self) -> str:
        """The effect in words, for the people who made the corrections."""
        text = f"Your {plural(self.corrections, 'correction')} fixed {plural(self.fixed, 'case')} in {self.ref}"
        if self.share is not None:
            text += f", of {self.wrong_before:,} that were wrong before"
            if self.share.low is not None and self.share.high is not None:
                text += f" ({100 * self.share.value:.0f} %, 95 % interval {100 * self.share.low:.0f} to "
                text += f"{100 * self.share.high:.0f} %)"
        if self.broken:
            text += f"; {plural(self.broken, 'case')} that {'was' if self.broken == 1 else 'were'} right "
            text += f"{'is' if self.broken == 1 else 'are'} wrong now"
        if self.trained_on_them:
            text += ". It was trained on these images, so this does not say how it does on others"
        return text + "."


def corrections_of(store: Store, data: Dataset | None, state: CorrectionState | None = None) -> list[Correction]:
    """The corrections, the oldest first.

    Args:
        store: holds the feedback and the kept images.
        data: the dataset whose samples were shown; None if none was.
        state: only those in this state; all if None.
    """
    store.database.ensure_operations()
    images = KeptImages(store.files)
    ids = {sample.id for sample in data} if data is not None else set()
    found = []
    with store.database.reading() as connection:
        for item in list_corrections(connection, state):
            try:
                prediction: Prediction | None = find_prediction(connection, item.response)
            except NotFound:
                prediction = None
            found.append(_correction(item, prediction, data if item.item in ids else None, images))
    # Who accepts the suggested caption has corrected nothing.
    return [each for each in found if each.feedback.value.strip().casefold() != each.replaces.strip().casefold()]


def _correction(item: Feedback, prediction: Prediction | None, data: Dataset | None, images: KeptImages) -> Correction:
    version = f"{prediction.name}@{prediction.number}" if prediction and prediction.number else ""
    if data is not None:
        return Correction(item, version, item.suggested or data[item.item].caption, item.item)
    replaces = item.suggested or (prediction.label if prediction and item.kind == "label" else "")
    return Correction(item, version, replaces, "", "" if images.has(item.response) else NO_IMAGE)


def decide_corrections(
    store: Store, data: Dataset | None, numbers: Collection[int], state: CorrectionState, who: str = "", why: str = ""
) -> list[Correction]:
    """Accept or decline corrections; the journal gets their number and a digest, not their texts.

    Args:
        store: holds them.
        data: as for ``corrections_of``.
        numbers: of the corrections.
        state: accepted or declined.
        who: the person; by default the login name.
        why: the reason.

    Raises:
        InputError: the reason is missing, there is no such correction, or an accepted one has no image.
    """
    if not why.strip():
        raise InputError("deciding about corrections needs a reason", "give it: --why '...'")
    known = {each.number: each for each in corrections_of(store, data)}
    for number in numbers:
        if number not in known:
            raise InputError(f"there is no correction {number}", "list them with: clerestory watch corrections")
        if state is CorrectionState.ACCEPTED and known[number].problem:
            raise InputError(
                f"correction {number} cannot be accepted: {known[number].problem}", "decline it, or leave it"
            )
    who, when = person_name(who or current_user()), now()
    chosen = [known[number] for number in dict.fromkeys(numbers)]
    with store.database.writing() as connection:
        for each in chosen:
            decide_correction(connection, each.feedback, state, {"who": who, "why": why, "when": when})
        details = Tags(decision=str(state), corrections=str(len(chosen)), digest=digest([c.number for c in chosen]))
        store.journal.write(connection, Event(DECIDED, data.name if data else "feedback", who, why, when, details))
    return chosen


def make_corrected_version(
    store: Store,
    data: Dataset,
    source: str,
    name: str,
    *,
    who: str = "",
    why: str = "",
    force: bool = False,
    progress: Progress = QUIET,
) -> CorrectedVersion:
    """Write the accepted corrections as a new version of a dataset.

    A corrected sample gets the new caption in place of the shown one; a kept image becomes a sample of ``train``.

    Args:
        store: receives the version.
        data: the parent.
        source: its name, for the journal.
        name: of the new version.
        who: the person, for the journal; by default the login name.
        why: the reason, for the journal.
        force: replace an earlier version of this name.
        progress: reports the images.

    Raises:
        InputError: nothing is accepted, the name is taken or cannot be one, or the disk is full.
    """
    if not is_printable_name(name):
        raise InputError(f"{name!r} cannot be the name of a dataset", "use up to 100 characters without slashes")
    if name == source or (any(row.name == name for row in store.datasets()) and not force):
        raise InputError(f"there is a dataset {name!r} already", "choose another name; the parent is never changed")
    accepted = [each for each in corrections_of(store, data, CorrectionState.ACCEPTED) if not each.problem]
    if not accepted:
        raise InputError("no correction is accepted", "accept some: clerestory watch corrections --accept NUMBER")
    version, changed, added = _apply(store, data, accepted)
    make_folder(store.home / FOLDER)
    out = store.home / FOLDER / f"{name}-{short(version.digest)}{SUFFIX}"
    version = as_written(version, out)
    version.name = name
    write_version(version, out, store.runs, force, progress)
    who, when = person_name(who or current_user()), now()
    record = [[each.sample or SAMPLE_PREFIX + each.feedback.response, digest(each.feedback.value)] for each in accepted]
    details = Tags(
        digest=version.digest,
        samples=str(len(version)),
        made_from=data.digest,
        parent=source,
        corrections=str(len(accepted)),
        record=store.blobs.put(canonical(record)),
    )
    size = Tags(digest=version.digest, samples=str(len(version)))
    why = why or f"{plural(len(accepted), 'correction')} by users"
    events = (Event("data_added", name, who, why, when, size), Event(MADE, name, who, why, when, details))
    store.put_dataset(name, str(out.resolve()), version.digest, len(version), *events)
    with store.database.writing() as connection:
        for each in accepted:
            decided = dict(each.feedback.decided) | {"version": version.digest}
            decide_correction(connection, each.feedback, CorrectionState.ACCEPTED, decided)
    return CorrectedVersion(name, str(out), version.digest, len(version), data.digest, changed, added)


def _apply(store: Store, data: Dataset, accepted: Sequence[Correction]) -> tuple[Dataset, int, int]:
    """The dataset with the corrections; how many samples changed, and how many are new."""
    by_sample: defaultdict[str, list[Correction]] = defaultdict(list)
    for each in accepted:
        by_sample[each.sample].append(each)
    samples = [_corrected(sample, by_sample.get(sample.id, ())) for sample in data]
    changed = sum(new != old for new, old in zip(samples, data, strict=True))
    images, kept = KeptImages(store.files), {}
    for each in by_sample.get("", ()):
        if content := images.read(each.feedback.response):
            text = each.feedback.value.strip()
            id_ = SAMPLE_PREFIX + each.feedback.response
            kept[id_] = content
            samples.append(
                Sample(
                    id_,
                    digest_bytes(content),
                    (Caption(text),),
                    concept_of_caption(text),
                    source="an image that a user sent, kept with consent",
                    split=TRAIN,
                )
            )

    def read(sample: Sample) -> bytes:
        return kept[sample.id] if sample.id in kept else data.read(data[sample.id])

    return Dataset(data.name, samples, read), changed, len(kept)


def _corrected(sample: Sample, corrections: Sequence[Correction]) -> Sample:
    """The sample with the corrected caption first, and without the one that it replaces."""
    for each in corrections:
        text = " ".join(each.feedback.value.split())
        replaced = each.replaces.casefold()
        rest = [c for c in sample.captions if c.text.casefold() not in (replaced, text.casefold())]
        lang = next((c.lang for c in sample.captions if c.text.casefold() == replaced), "en")
        sample = replace(sample, captions=(Caption(text, lang), *rest))
    return sample


def correction_effect(
    store: Store, data: Dataset | None, ref: str, before: str = "", progress: Progress = QUIET
) -> CorrectionEffect:
    """What a release does on the accepted corrections.

    For each one, the similarity of the image to the corrected text is compared with that to the replaced text, by the
    release that answered and by the new one.

    Args:
        store: holds the corrections and the releases.
        data: as for ``corrections_of``.
        ref: the new release, such as ``icons@4``.
        before: the release to compare with; by default the one that answered.
        progress: reports the models.

    Raises:
        InputError: no accepted correction can be compared.
        CapabilityError: a model has no embeddings.
    """
    accepted = corrections_of(store, data, CorrectionState.ACCEPTED)
    usable = [each for each in accepted if each.replaces and not each.problem and (before or each.version)]
    if not usable:
        raise InputError("no accepted correction can be compared", "each needs its image and the text that it replaces")
    by_version: defaultdict[str, list[int]] = defaultdict(list)
    for i, each in enumerate(usable):
        by_version[before or each.version].append(i)
    was_right = [False] * len(usable)
    with progress.task("Comparing releases", len(by_version) + 1) as bar:
        for version, places in by_version.items():
            answers = _prefers_correction(store, data, version, [usable[i] for i in places])
            for i, answer in zip(places, answers, strict=True):
                was_right[i] = answer
            bar.advance()
        is_right = _prefers_correction(store, data, ref, usable)
        bar.advance()
    clusters = [each.sample or each.feedback.response for each in usable]
    pairs = [(new, cluster) for old, new, cluster in zip(was_right, is_right, clusters, strict=True) if not old]
    broken = sum(old and not new for old, new in zip(was_right, is_right, strict=True))
    model = store.resolve(ref)
    versions = {dict(each.feedback.decided).get("version") for each in usable}
    run = training_of(store, model.digest)
    shown = model.release.ref if model.release else ref
    effect = CorrectionEffect(
        shown,
        len(usable),
        len(pairs),
        sum(new for new, _ in pairs),
        broken,
        share_of(pairs),
        run is not None and run.subject.data in versions,
        len(accepted) - len(usable),
    )
    store.cache_content(_effect_key(shown), json.dumps({**encode(effect), "sentence": effect.sentence}).encode())
    return effect


def effect_sentence(store: Store, ref: str) -> str:
    """The sentence of the last comparison of a release; empty if there was none."""
    content = store.cache_read(_effect_key(ref))
    return str(json.loads(content)["sentence"]) if content else ""


def _effect_key(ref: str) -> str:
    return f"corrections/{ref}"


def _prefers_correction(store: Store, data: Dataset | None, ref: str, corrections: Sequence[Correction]) -> list[bool]:
    """Whether a model finds each corrected text more similar to the image than the replaced one."""
    try:
        model: Any = load_model(store, ref)[0]
    except ClerestoryError as error:
        raise InputError(f"{ref} cannot be loaded: {error.message}", "name another with --before") from error
    if not isinstance(model, Embedder):
        raise CapabilityError(f"{ref} has no embeddings to compare captions with", "name a release that can search")
    images = KeptImages(store.files)
    result = []
    for each in corrections:
        if each.sample and data is not None:
            content = data.read(data[each.sample])
        else:
            content = images.read(each.feedback.response) or b""
        image = model.embed_images([decode_image(content)])[0]
        texts = model.embed_texts([each.feedback.value, each.replaces])
        result.append(bool(image @ texts[0] > image @ texts[1]))
    return result


def default_name(source: str) -> str:
    """The name of a new version if nobody names one."""
    return f"{Path(source).name}-corrected"
