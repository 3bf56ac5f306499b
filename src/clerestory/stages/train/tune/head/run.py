"""``tune`` with a head: fits it on a frozen encoder, measures its gain, and makes the model with it.

Shape suffixes: N images, F features, D width of an embedding.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clerestory.core.codec import Facts, Tags
from clerestory.core.digest import digest
from clerestory.core.errors import CapabilityError, ClerestoryError, DataError
from clerestory.core.evidence import Evidence, Finding, Measurement, Recipe, Subject
from clerestory.core.progress import QUIET, Progress
from clerestory.core.provenance import code_digest, environment_digest, metered, now, stage_code
from clerestory.core.sample import Dataset, Sample, concept_of_caption
from clerestory.core.units import plural
from clerestory.data.images import decode_sample, image_batches
from clerestory.models.photo.space import Floats
from clerestory.models.protocols import AnyModel
from clerestory.stages.train.sampling import captions_of
from clerestory.stages.train.tune.findings import DRAFTS_NOT_BETTER, GAIN_NOT_SHOWN
from clerestory.stages.train.tune.head import drafts
from clerestory.stages.train.tune.head.caption_tags import learn_from_captions
from clerestory.stages.train.tune.head.drafts import (
    DECODER,
    FREQUENT,
    NEAREST,
    SOURCES,
    DraftData,
    MeasuredDraft,
    measure_drafts,
    train_decoder,
)
from clerestory.stages.train.tune.head.encoders import HeadEncoder, OwnParts, WithoutHead, head_encoder
from clerestory.stages.train.tune.head.fit import (
    FittedHead,
    HeadData,
    caption_ranks,
    cross_fitted,
    fit_head,
    near_duplicates,
    reciprocal_ranks,
)
from clerestory.stages.train.tune.head.requirements import MIN_IMAGES, NUM_FOLDS, samples_for_head
from clerestory.stats.aggregate import measure
from clerestory.stats.rows import write_rows
from clerestory.store import Store
from clerestory.store.answer_cache import AnswerCache, answer_key

KIND = "tune"
BATCH_SIZE = 32
RECALL = 10
SHARED_CAPTION = 0.2  # of the images, from which on a caption that they share is named
WITHOUT, WITH, CHANGE = "without head", "with head", "change"
TEXT_TO_IMAGE, IMAGE_TO_TEXT = "text_to_image", "image_to_text"
DRAFTS = "caption_drafts"
CHANGE_FROM = {source: f"change from the {source}" for source in (NEAREST, FREQUENT)}
# The measurements, their columns and phases; all must be above 0 for a decoder to be kept.
DRAFT_CHANGES = tuple((f"{name}_change", name, phase) for name in ("cider", "chrf") for phase in CHANGE_FROM.values())
Rows = dict[str, NDArray[Any]]
TEXTS = ("task", "phase", "sample", "caption", "group")
NUMBERS = ("reciprocal_rank", "hit", "cider", "chrf")


@dataclass(frozen=True, slots=True)
class HeadResult:
    """The result of fitting a head, in the store.

    Attributes:
        evidence: its gain on images that it was not fitted on.
        model: digest of the model with the head; empty if the gain is not shown, since nothing is then gained by it.
        cached: whether it is the result of an earlier run with the same model, data and code.
    """

    evidence: Evidence
    model: str
    cached: bool


def tune_head(
    model: AnyModel,
    data: Dataset,
    store: Store,
    progress: Progress = QUIET,
    *,
    base: str = "",
    with_drafts: bool = False,
) -> HeadResult:
    """Fit a head on captioned images, measure its gain in folds, and store the model with it if it gains.

    After an interrupt or a kill, the same call takes the features of images and the folds of drafts that were finished
    from the store; a training that was under way begins anew.

    Args:
        model: ``photos`` (a head that it already has is replaced) or a Hugging Face dual encoder.
        data: its splits ``train`` and ``val`` are used, or all of it if it has no splits.
        store: receives the model and the evidence, and keeps the features of the images.
        progress: reports the embedding of images.
        base: the model's reference, for the evidence.
        with_drafts: also train a caption decoder, and keep it if its drafts are nearer to the captions of other images
            than the nearest and the most frequent caption are.

    Raises:
        CapabilityError: a model of another kind, or drafts for one that is not for photographs.
        DataError: too few images have captions.
    """
    encoder = head_encoder(model)
    if with_drafts and not encoder.reads_photographs:
        raise CapabilityError("caption drafts need the model photos, or one that was tuned from it", "name photos")
    settings = digest([model.digest, NUM_FOLDS, with_drafts])
    subject = Subject(data=data.digest, code=stage_code(KIND), config=settings, environment=environment_digest())
    if (earlier := _earlier(subject, store)) is not None:
        return earlier
    tags = None
    with metered() as meter:
        chosen = samples_for_head(data, drafts.MIN_IMAGES if with_drafts else MIN_IMAGES)
        samples, features_NF = _features(encoder, chosen, data, store.answer_cache, progress)
        texts = [(i, text) for i, sample in enumerate(samples) for text in captions_of(sample)]
        captions, owner_M = [text for _, text in texts], np.array([i for i, _ in texts])
        groups_N = near_duplicates(features_NF, [sample.concept or sample.image for sample in samples])
        if (number := len(np.unique(groups_N))) < NUM_FOLDS:
            raise _too_few_groups(data.name, samples, number)
        prepared, without = encoder.prepare(features_NF, captions, owner_M, groups_N)
        with progress.task("Fitting the head", 3) as task:
            held_out_ND = cross_fitted(prepared, encoder.reads_photographs)
            task.advance()
            fitted = fit_head(prepared, encoder.reads_photographs)
            task.advance()
            if encoder.reads_photographs:
                tags = learn_from_captions(features_NF, [captions_of(sample) for sample in samples], groups_N)
            task.advance()
        rows = _rows(samples, captions, prepared, without, held_out_ND)
        measurements = _measurements(rows)
        gain = measurements[0]
        is_shown = is_positive(gain) and fitted.head.share < 1
        held_out = _held_out(data, chosen)
        findings = [] if is_shown else [_not_shown(gain, samples, held_out, fitted.head.share)]
        own = OwnParts(fitted.head, tags)
        if is_shown and with_drafts:
            draft_data = DraftData.of(prepared, held_out_ND, captions)
            depends_on = digest([model.digest, subject.code, subject.environment])
            measured = measure_drafts(draft_data, encoder.embed_texts, progress, store.answer_cache, depends_on)
            _add_drafts(rows, measured, samples, prepared)
            measurements += (of_drafts := _draft_measurements(rows))
            if all(map(is_positive, of_drafts[: len(DRAFT_CHANGES)])):
                own = own._replace(drafts=train_decoder(draft_data, encoder.embed_texts, progress))
            else:
                findings.append(_drafts_not_better(of_drafts, len(samples)))
        model_digest = _store_model(encoder, own, samples, base, store) if is_shown else ""
    evidence = Evidence(
        kind=KIND,
        # Without a gain it is about no model: not about the base model, which has never seen the data.
        subject=Subject(model_digest, *_rest(subject)),
        measurements=measurements,
        findings=tuple(findings),
        cost=meter.cost,
        created=now(),
        rows=store.blobs.put(write_rows(rows)),
        facts=_facts(
            encoder, data, samples, held_out, fitted, own if model_digest else OwnParts(fitted.head), base, model_digest
        ),
    )
    store.put_evidence(evidence)
    return HeadResult(evidence, model_digest, cached=False)


def is_positive(change: Measurement) -> bool:
    """Whether a change is above 0 with its whole interval."""
    return change.interval is not None and change.interval.low > 0


def _too_few_groups(name: str, samples: list[Sample], number: int) -> DataError:
    """The images are too much alike for folds: they look the same, or the data says that they show the same."""
    concepts = {sample.concept for sample in samples}
    from_captions = {concept_of_caption(sample.caption) for sample in samples}
    if len(concepts) < NUM_FOLDS and concepts != from_captions:  # of a column, or of the names of folders
        return DataError(
            f"the images of {name} are of {plural(len(concepts), 'thing')} by their concept or label "
            f"({', '.join(sorted(concepts))}), and measuring a gain needs at least {NUM_FOLDS}",
            "add images of other things, or leave out the concepts or labels",
        )
    return DataError(
        f"the images of {name} are nearly the same, in {plural(number, 'group')} of near-duplicates or of equal "
        f"captions, and measuring a gain needs at least {NUM_FOLDS}",
        "add images of other things, with captions that say what each of them shows",
    )


def _held_out(data: Dataset, chosen: list[Sample]) -> dict[str, int]:
    """The number of captioned images in each split that is left for an evaluation."""
    used = {sample.id for sample in chosen}
    counted = Counter(sample.split for sample in data if captions_of(sample) and sample.id not in used)
    return dict(sorted(counted.items()))


def _features(
    encoder: HeadEncoder, samples: list[Sample], data: Dataset, cache: AnswerCache, progress: Progress
) -> tuple[list[Sample], Floats]:
    """The samples that can be read, and their features; each image is computed once for a model."""
    code = code_digest("data/images", "models")
    keys = [answer_key("features of a head", encoder.features_key, code, s.image) for s in samples]
    known = cache.get(list(dict.fromkeys(keys)))
    missing = {key: sample for key, sample in zip(keys, samples, strict=True) if key not in known}
    if missing:
        with progress.task("Embedding images", len(missing)) as task:
            for batch in image_batches(missing.items(), lambda item: _decode(data, item[1]), BATCH_SIZE):
                readable = [(key, image) for (key, _), image in batch if image is not None]
                if readable:
                    rows_NF = encoder.features([image for _, image in readable])
                    stored = {
                        k: np.asarray(row, "<f4").tobytes() for (k, _), row in zip(readable, rows_NF, strict=True)
                    }
                    cache.put(stored)
                    known |= stored
                task.advance(len(batch))
    kept = [(sample, known[key]) for key, sample in zip(keys, samples, strict=True) if key in known]
    if len(kept) < len(samples):
        progress.write_line(f"{plural(len(samples) - len(kept), 'unreadable image')} left out")
    return [sample for sample, _ in kept], np.stack([np.frombuffer(row, "<f4") for _, row in kept])


def _decode(data: Dataset, sample: Sample) -> Any:
    try:
        return decode_sample(data, sample)
    except (DataError, OSError):
        return None


def _rows(
    samples: list[Sample], captions: list[str], data: HeadData, without: WithoutHead, held_out_ND: Floats
) -> Rows:
    """One row for each caption and each image, phase and task."""
    columns: dict[str, list[Any]] = {name: [] for name in (*TEXTS, *NUMBERS)}

    def add(task: str, phase: str, ranks: NDArray[np.float64], owner: NDArray[np.int64], texts: list[str]) -> None:
        columns["task"] += [task] * len(ranks)
        columns["phase"] += [phase] * len(ranks)
        columns["sample"] += [samples[i].id for i in owner]
        columns["caption"] += texts
        columns["group"] += [str(data.groups[i]) for i in owner]
        columns["reciprocal_rank"] += (1 / ranks).tolist()
        columns["hit"] += (ranks <= RECALL).astype(float).tolist()

    images = np.arange(len(samples))
    ranks = {}
    for phase, rows, texts in (
        (WITHOUT, without.images, without.captions),
        (WITH, held_out_ND, data.texts),
    ):
        ranks[phase] = 1 / reciprocal_ranks(texts, rows, data.owner)
        add(TEXT_TO_IMAGE, phase, ranks[phase], data.owner, captions)
        add(IMAGE_TO_TEXT, phase, caption_ranks(texts, rows, data.owner), images, [""] * len(images))
    gain = 1 / ranks[WITH] - 1 / ranks[WITHOUT]
    add(TEXT_TO_IMAGE, CHANGE, np.ones(len(gain)), data.owner, captions)
    columns["reciprocal_rank"][-len(gain) :] = gain.tolist()
    columns["hit"][-len(gain) :] = [None] * len(gain)
    columns["cider"] = columns["chrf"] = [None] * len(columns["hit"])
    return {name: np.array(cells, np.float64 if name in NUMBERS else object) for name, cells in columns.items()}


def _add_drafts(rows: Rows, measured: Sequence[MeasuredDraft], samples: Sequence[Sample], data: HeadData) -> None:
    """Add one row for each image and source of a caption, and one for each difference between two sources."""
    score = {(each.image, each.source): each for each in measured}
    added: list[tuple[Any, ...]] = [
        (DRAFTS, each.source, each.image, each.text, each.cider, each.chrf) for each in measured
    ]
    for each in (one for one in measured if one.source == DECODER):
        for source, phase in CHANGE_FROM.items():
            other = score[each.image, source]
            added.append((DRAFTS, phase, each.image, each.text, each.cider - other.cider, each.chrf - other.chrf))
    tasks, phases, images, texts, ciders, chrfs = zip(*added, strict=True)
    columns = {
        "task": tasks,
        "phase": phases,
        "sample": [samples[i].id for i in images],
        "caption": texts,
        "group": [str(data.groups[i]) for i in images],
        "cider": ciders,
        "chrf": chrfs,
    }
    for name, cells in rows.items():
        more = np.array(columns.get(name, [np.nan] * len(added)), cells.dtype)
        rows[name] = np.concatenate([cells, more])


def _draft_measurements(rows: Rows) -> tuple[Measurement, ...]:
    """The changes first, in the order of ``DRAFT_CHANGES``; then the scores of every source."""

    def one(name: str, column: str, phase: str) -> Measurement:
        where = Tags(task=DRAFTS, phase=phase)
        return measure(rows, Recipe("mean", column, where, "group"), name, where)

    changes = [one(name, column, phase) for name, column, phase in DRAFT_CHANGES]
    return (*changes, *(one(column, column, source) for source in SOURCES for column in ("cider", "chrf")))


def _measurements(rows: dict[str, NDArray[Any]]) -> tuple[Measurement, ...]:
    """The change of the mean reciprocal rank first, then both phases of every metric."""

    def one(metric: str, column: str, task: str, phase: str) -> Measurement:
        where = Tags(task=task, phase=phase)
        return measure(rows, Recipe("mean", column, where, "group"), metric, where)

    recall = f"recall@{RECALL}"
    measured = [one("mrr_change", "reciprocal_rank", TEXT_TO_IMAGE, CHANGE)]
    for phase in (WITHOUT, WITH):
        measured += [
            one(recall, "hit", TEXT_TO_IMAGE, phase),
            one("mrr", "reciprocal_rank", TEXT_TO_IMAGE, phase),
            one(recall, "hit", IMAGE_TO_TEXT, phase),
        ]
    return tuple(measured)


def _not_shown(gain: Measurement, samples: list[Sample], held_out: Mapping[str, int], encoder_share: float) -> Finding:
    images = len(samples)
    interval = f" ({gain.interval.low:+.3f} to {gain.interval.high:+.3f})" if gain.interval else ""
    splits = " and ".join(f"{count} in the split {split}" for split, count in held_out.items())
    others = f" (not counting {splits}, held out for an evaluation)" if splits else ""
    outcome = "nothing is gained yet, so the model without a head stays the better choice"
    if encoder_share == 1:
        outcome = "no share of the head above 0 ranks better, so the model with it would answer as without"
    caption, number = Counter(sample.caption for sample in samples).most_common(1)[0]
    if number > SHARED_CAPTION * images:
        outcome += f"; {number} of them have the caption {caption!r}, which says nothing about each of them"
    return GAIN_NOT_SHOWN.finding(
        "head",
        f"with {images} captioned images{others} the change of the mean reciprocal rank is {gain.value:+.3f}{interval}"
        f": {outcome}",
        fix="caption more images: a gain begins at a few hundred",
        count=images,
        gain=gain.value,
        head_share=1 - encoder_share,
    )


def _drafts_not_better(of_drafts: Sequence[Measurement], images: int) -> Finding:
    worst = next(change for change in of_drafts[: len(DRAFT_CHANGES)] if not is_positive(change))
    interval = f" ({worst.interval.low:+.3f} to {worst.interval.high:+.3f})" if worst.interval else ""
    score = {"cider_change": "CIDEr-D", "chrf_change": "chrF"}[worst.name]
    known = worst.slice["phase"].removeprefix("change from ")
    return DRAFTS_NOT_BETTER.finding(
        "caption_drafts",
        f"with {images} captioned images the drafts have a {score} that differs by {worst.value:+.3f}{interval} "
        f"from that of {known}, which is not a significant improvement; the model has no caption decoder",
        count=images,
        change=worst.value,
    )


def _store_model(encoder: HeadEncoder, own: OwnParts, samples: list[Sample], base: str, store: Store) -> str:
    trained_on = f"a head on {plural(len(samples), 'captioned image')} of the user"
    if own.tags:
        trained_on += f", and tags learned from the captions: {', '.join(own.tags.names)}"
    if own.drafts:
        trained_on += ", and a caption decoder trained on the same captions"
    with tempfile.TemporaryDirectory(dir=store.runs) as folder:
        encoder.save(own, trained_on, base, Path(folder))
        return store.put_model(Path(folder))


def _facts(
    encoder: HeadEncoder,
    data: Dataset,
    samples: list[Sample],
    held_out: Mapping[str, int],
    fitted: FittedHead,
    own: OwnParts,
    base: str,
    model_digest: str,
) -> Facts:
    licences = data.training_licences()
    return Facts(
        {
            "model": model_digest,
            "base": base,
            "base_model": encoder.model.digest,
            "kind": "head",
            "method": "ridge regression and contrastive steps" if encoder.reads_photographs else "ridge regression",
            "trained_parameters": fitted.head.weight.size + _num_parameters(own),
            "data": data.name,
            "licences": tuple(licences),
            "licence_images": tuple(licences.values()),
            "train_samples": len(samples),
            "held_out_samples": sum(held_out.values()),
            "held_out_splits": tuple(held_out),
            "penalty": fitted.penalty,
            "encoder_share": fitted.head.share,
            "folds": NUM_FOLDS,
            "learned_tags": own.tags.names if own.tags else (),
            "drafts_captions": own.drafts is not None,
        }
    )


def _num_parameters(own: OwnParts) -> int:
    return sum(p.numel() for p in own.drafts.decoder.parameters()) if own.drafts else 0


def _rest(subject: Subject) -> tuple[str, str, str, str]:
    return subject.data, subject.code, subject.config, subject.environment


def _earlier(subject: Subject, store: Store) -> HeadResult | None:
    """The result of an equal earlier run whose model still exists."""
    data, code, config, environment = _rest(subject)
    for evidence in store.find_evidence(KIND, data=data, code=code, config=config, environment=environment):
        model = evidence.facts.text("model")
        try:
            if model:
                store.model_folder(model)
        except ClerestoryError:
            continue
        return HeadResult(evidence, model, cached=True)
    return None
