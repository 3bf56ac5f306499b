"""Auditing a dataset by its name, with a model by its reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from clerestory.apps.datasets import view_dataset
from clerestory.core.progress import QUIET, Progress
from clerestory.core.sample import Dataset
from clerestory.stages.audit.config import AuditConfig
from clerestory.stages.audit.detection import Detection
from clerestory.stages.audit.hash_pack import HashPack
from clerestory.stages.audit.image_engines import HaarFaceDetector, RapidOcrReader
from clerestory.stages.audit.run import Audit, audit
from clerestory.store import Store


@dataclass(frozen=True, slots=True)
class AuditedData:
    """A dataset with the result of its audit."""

    data: Dataset
    audit: Audit


@dataclass(frozen=True, slots=True)
class ModelChecks:
    """What the embeddings of a model say about a dataset.

    Attributes:
        model: its digest; empty without a model.
        captions: the captions that do not fit their image; None if there are too few, or the model does not embed.
        labels: the labels that are probably wrong; None if there are no classes, or the model does not embed.
        similar: images with similar embeddings.
    """

    model: str = ""
    captions: list[Detection] | None = None
    labels: list[Detection] | None = None
    similar: tuple[Detection, ...] = ()


def audit_source(
    store: Store,
    source: str,
    config: AuditConfig,
    progress: Progress = QUIET,
    model: str = "",
    packs: Sequence[HashPack] = (),
    ocr: bool = False,
    faces: bool = False,
) -> AuditedData:
    """Open and audit a dataset.

    Args:
        store: keeps the facts about images, and receives the evidence.
        source: the name of a dataset, or any source that ``open_data`` opens.
        config: the limits of the checks.
        progress: reports the work.
        model: a reference of a model that also finds captions that do not fit their image; none if empty.
        packs: hash packs of data that the dataset should not contain.
        ocr: whether the text in images is read, and personal data looked for in it.
        faces: whether images with a face are looked for.

    Raises:
        MissingExtra: an engine for text or faces is not installed; before any image is read.
    """
    reader = RapidOcrReader() if ocr else None
    detector = HaarFaceDetector() if faces else None
    data = view_dataset(store, source, progress)
    checks = check_with_model(store, model, data, config, progress) if model else ModelChecks()
    result = audit(
        data,
        store,
        config,
        progress,
        model=checks.model,
        of_model=checks.captions,
        of_labels=checks.labels,
        similar=checks.similar,
        packs=packs,
        text_reader=reader,
        face_detector=detector,
    )
    return AuditedData(data, result)


def check_with_model(
    store: Store, ref: str, data: Dataset, config: AuditConfig, progress: Progress = QUIET
) -> ModelChecks:
    """The checks of a dataset with the embeddings of a model."""
    from clerestory.apps.caption_match import match_captions  # here, because they import torch
    from clerestory.apps.label_match import match_labels
    from clerestory.apps.loading import load_model
    from clerestory.apps.similar_images import find_similar_images
    from clerestory.models.protocols import Embedder

    model, _ = load_model(store, ref)
    if not isinstance(model, Embedder):
        return ModelChecks(model.digest)
    return ModelChecks(
        model.digest,
        labels=match_labels(data, model, store, config.label_group, progress),
        captions=match_captions(data, model, store, progress),
        similar=tuple(find_similar_images(data, model, store, config.min_similarity, progress)),
    )
