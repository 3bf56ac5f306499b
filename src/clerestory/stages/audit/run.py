"""Audit a dataset, and store the findings as evidence."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clerestory.core.codec import Facts, Tags, decode, encode
from clerestory.core.digest import canonical, digest, digest_bytes
from clerestory.core.evidence import Evidence, Measurement, Recipe, Subject
from clerestory.core.files import expand_user
from clerestory.core.findings import FindingCode, finding_codes
from clerestory.core.licences.table import extended_table, licence_table
from clerestory.core.progress import QUIET, Progress
from clerestory.core.provenance import environment_digest, metered, now, stage_code
from clerestory.core.rows import CLUSTER_COLUMN
from clerestory.core.sample import Dataset
from clerestory.stages.audit.balance_check import check_balance
from clerestory.stages.audit.caption_check import check_captions
from clerestory.stages.audit.config import AuditConfig
from clerestory.stages.audit.copies_check import check_copies, leaked_samples
from clerestory.stages.audit.corrected_scores import CONTAMINATED, LEAKED, CorrectedScore, correct_scores
from clerestory.stages.audit.detection import Detection
from clerestory.stages.audit.detection_cache import cached_detections
from clerestory.stages.audit.hash_pack import HashPack
from clerestory.stages.audit.image_check import check_images
from clerestory.stages.audit.image_content import ContentCheck, check_faces, check_text_in_images
from clerestory.stages.audit.image_engines import FaceDetector, TextReader
from clerestory.stages.audit.image_facts import read_image_facts
from clerestory.stages.audit.label_classes import label_classes
from clerestory.stages.audit.licence_check import check_licences
from clerestory.stages.audit.pack_check import check_packs, contaminated_samples
from clerestory.stages.audit.personal_data import check_personal_data
from clerestory.stages.audit.shortcut_check import check_shortcuts
from clerestory.stats.aggregate import measure
from clerestory.stats.rows import write_rows
from clerestory.store import Store

KIND, ARTIFACT, SETTINGS = "audit", "detections", "settings"
LEAKED_COLUMN, CONTAMINATED_COLUMN = LEAKED, CONTAMINATED  # also the names of their metrics


@dataclass(frozen=True, slots=True)
class Audit:
    """The result of an audit.

    Attributes:
        evidence: as stored.
        detections: every kind of finding with the samples concerned.
        scores: a model's scores without the leaked samples, if a model was named and there are any; then those without
            the samples of hash packs.
    """

    evidence: Evidence
    detections: tuple[Detection, ...]
    scores: tuple[CorrectedScore, ...] = ()


def audit(
    data: Dataset,
    store: Store,
    config: AuditConfig | None = None,
    progress: Progress = QUIET,
    *,
    model: str = "",
    of_model: Sequence[Detection] | None = None,
    of_labels: Sequence[Detection] | None = None,
    similar: Sequence[Detection] = (),
    packs: Sequence[HashPack] = (),
    text_reader: TextReader | None = None,
    face_detector: FaceDetector | None = None,
) -> Audit:
    """Audit a dataset, and store the findings as evidence of kind ``audit``.

    Images that an earlier audit of any dataset has read are not read again, so an interrupted audit continues, and an
    audit of data that has grown reads only what is new. An audit of the same data with the same settings compares
    nothing again.

    Args:
        data: the dataset.
        store: holds the facts about images, and receives the evidence.
        config: the limits of the checks.
        progress: reports reading and comparing.
        model: digest of a model whose scores are given without the leaked samples, too.
        of_model: the detections of the check of captions with the embeddings of this model; None if it was not made.
        of_labels: the same of the check of labels.
        similar: images with similar embeddings by this model.
        packs: hash packs of data that the dataset should not contain.
        text_reader: reads the text in images, in which personal data is looked for; None if it is not.
        face_detector: finds the images with a face; None if they are not looked for.
    """
    config = config or AuditConfig()
    licences = extended_table(expand_user(config.licence_table)) if config.licence_table else licence_table()
    with metered() as meter:
        classes = label_classes(data, config.label_group)  # first: a wrong name is an error before images are read
        facts, unreadable = read_image_facts(data, store.answer_cache, progress)

        def check() -> list[Detection]:
            return [
                *check_images(data, facts, unreadable, config),
                *check_copies(data, facts, config, progress),
                *check_captions(data, progress),
                *check_personal_data(data, progress),
                *check_licences(data, config.licences, progress, licences),
                *check_balance(data, classes, config),
                *check_shortcuts(data, facts, classes, config),
            ]

        read = digest_bytes(facts.tobytes() + canonical(unreadable))
        settings = digest(encode(config))
        depends_on = (data.digest, data.name, read, settings, licences.digest, stage_code(KIND), environment_digest())
        detections = cached_detections(store.answer_cache, check, *depends_on)
        detections += check_packs(data, facts, packs, progress)
        detections += [*(of_model or ()), *(of_labels or ()), *similar]
        text, faces = _content(data, store, config, progress, text_reader, face_detector)
        content = [check for check in (text, faces) if check]
        for check_ in content:
            detections += check_.detections
        detections.sort(key=lambda each: (each.code.code, each.reason))
        evaluation, scores = _corrected(detections, model, data.digest, store)
        rows = _rows(data, detections, bool(packs), content)
        measurements = _measurements(rows, detections, content)
    also = [*(pack.digest for pack in packs), *(check.engine for check in content)]
    for score in scores:
        measurements += score.measurements()
    evidence = Evidence(
        kind=KIND,
        subject=Subject(
            model=model,
            data=data.digest,
            code=stage_code(KIND),
            config=digest([settings, *also]) if also else settings,
            environment=environment_digest(),
        ),
        measurements=tuple(measurements),
        findings=(*data.findings, *(detection.finding() for detection in detections)),
        cost=meter.cost,
        created=now(),
        rows=store.blobs.put(write_rows(rows)),
        artifacts=Tags(
            {
                ARTIFACT: store.blobs.put(canonical(_stored(detections))),
                SETTINGS: store.blobs.put(canonical(config)),
            }
        ),
        facts=Facts(
            dataset=data.name,
            samples=len(data),
            evaluation=evaluation,
            licence_table=licences.digest,
            captions_matched=of_model is not None,
            text_engine=text.engine if text else "",
            text_images=len(text.searched) if text else 0,
            face_engine=faces.engine if faces else "",
            face_images=len(faces.searched) if faces else 0,
            labels_checked=of_labels is not None,
            packs=tuple(f"{pack.name} {pack.digest}" for pack in packs),
        ),
    )
    store.put_evidence(evidence)
    return Audit(evidence, tuple(detections), tuple(scores))


def read_detections(evidence: Evidence, store: Store) -> list[dict[str, Any]]:
    """The stored detections of an audit: code, reason, samples, groups and notes, as plain data."""
    stored: list[dict[str, Any]] = json.loads(store.blobs.get(evidence.artifacts[ARTIFACT]))
    return stored


def _content(
    data: Dataset,
    store: Store,
    config: AuditConfig,
    progress: Progress,
    text_reader: TextReader | None,
    face_detector: FaceDetector | None,
) -> tuple[ContentCheck | None, ContentCheck | None]:
    """What images show: text, and faces; None if they are not looked for."""
    cache = store.answer_cache
    text = check_text_in_images(data, text_reader, cache, config, progress) if text_reader else None
    faces = check_faces(data, face_detector, cache, config, progress) if face_detector else None
    return text, faces


def _corrected(
    detections: Sequence[Detection], model: str, data: str, store: Store
) -> tuple[str, list[CorrectedScore]]:
    """The scores of a model without the leaked samples, then without those of hash packs; and of which evaluation."""
    evaluation, scores = "", list[CorrectedScore]()
    causes = {LEAKED: leaked_samples(detections), CONTAMINATED: contaminated_samples(detections)}
    for cause, samples in causes.items():
        if model and samples:
            evaluation, corrected = correct_scores(samples, model, data, store, cause)
            scores += corrected
    return evaluation, scores


def read_audit(evidence: Evidence, store: Store) -> tuple[Audit, AuditConfig]:
    """A stored audit as ``audit`` returned it, and its settings; images are not read.

    Raises:
        IntegrityError, NotFound: a stored part of it is damaged or missing.
    """
    stored, codes = read_detections(evidence, store), finding_codes()
    findings = evidence.findings[len(evidence.findings) - len(stored) :]
    detections = [
        Detection(
            codes.get(finding.code) or FindingCode(finding.code, finding.severity, finding.code),
            finding.message,
            tuple(each["samples"]),
            int(finding.details.number("checked")),
            tuple(map(tuple, each["groups"])),
            Tags(each["notes"]),
            each["reason"],
            finding.state,
            finding.severity,
            finding.fix,
        )
        for each, finding in zip(stored, findings, strict=True)
    ]
    settings = evidence.artifacts.get(SETTINGS, "")
    config = decode(AuditConfig, json.loads(store.blobs.get(settings))) if settings else AuditConfig()
    _, scores = _corrected(detections, evidence.subject.model, evidence.subject.data, store)
    return Audit(evidence, tuple(detections), tuple(scores)), config


def _stored(detections: Sequence[Detection]) -> list[dict[str, Any]]:
    return [
        {
            "code": each.code.code,
            "reason": each.reason,
            "samples": list(each.samples),
            "groups": [list(group) for group in each.groups],
            "notes": dict(each.notes),
        }
        for each in detections
    ]


def _rows(
    data: Dataset, detections: Sequence[Detection], compares_packs: bool, content: Sequence[ContentCheck] = ()
) -> dict[str, NDArray[Any]]:
    """A row for each sample, and a column for each code: 1 if it concerns the sample, NaN if it was not checked."""
    ids = [sample.id for sample in data]
    position = {sample_id: place for place, sample_id in enumerate(ids)}
    rows: dict[str, NDArray[Any]] = {
        "sample": np.array(ids, dtype=object),
        CLUSTER_COLUMN: np.array([sample.concept or sample.id for sample in data], dtype=object),
        "split": np.array([sample.split for sample in data], dtype=object),
        LEAKED_COLUMN: np.zeros(len(ids)),
    }
    for check in content:
        was_searched = np.array([sample_id in check.searched for sample_id in ids], dtype=bool)
        rows |= {code: np.where(was_searched, 0.0, np.nan) for code in check.codes}
    for detection in detections:
        if detection.samples:
            column = rows.setdefault(detection.code.code, np.zeros(len(ids)))
            column[[position[sample] for sample in detection.samples]] = 1.0
    rows[LEAKED_COLUMN][[position[sample] for sample in leaked_samples(detections)]] = 1.0
    if compares_packs:
        rows[CONTAMINATED_COLUMN] = np.zeros(len(ids))
        rows[CONTAMINATED_COLUMN][[position[sample] for sample in contaminated_samples(detections)]] = 1.0
    return rows


def _measurements(
    rows: dict[str, NDArray[Any]], detections: Sequence[Detection], content: Sequence[ContentCheck] = ()
) -> list[Measurement]:
    found_codes = {detection.code.code for detection in detections if detection.samples}
    # Also a share of 0, whose interval says how many may be among the images that were not searched.
    codes = sorted(found_codes | {code for check in content if check.searched for code in check.codes})
    measurements = [
        measure(rows, Recipe("mean", code, cluster=CLUSTER_COLUMN), "affected", {"finding": code}) for code in codes
    ]
    if leaked_samples(detections):
        splits = sorted(set(rows["split"][rows[LEAKED_COLUMN] == 1].tolist()))
        measurements += [
            measure(rows, Recipe("mean", LEAKED_COLUMN, Tags(split=split), CLUSTER_COLUMN), "leaked")
            for split in splits
        ]
    if CONTAMINATED_COLUMN in rows:  # also a share of 0, whose interval says how much may have been missed
        found = set(rows["split"][rows[CONTAMINATED_COLUMN] == 1].tolist()) - {""}
        slices = [Tags(), *(Tags(split=split) for split in sorted(found))]
        measurements += [
            measure(rows, Recipe("mean", CONTAMINATED_COLUMN, where, CLUSTER_COLUMN), "contaminated")
            for where in slices
        ]
    return measurements
