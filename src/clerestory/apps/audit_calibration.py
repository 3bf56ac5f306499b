"""Calibrating the audit of a dataset, and saying how far its silence can be trusted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from shlex import quote

from clerestory.core.codec import encode
from clerestory.core.digest import digest
from clerestory.core.evidence import Evidence, Measurement
from clerestory.core.findings import finding_codes
from clerestory.core.progress import QUIET, Progress
from clerestory.core.sample import Dataset
from clerestory.core.units import plural
from clerestory.stages.audit.calibration.config import CalibrationConfig
from clerestory.stages.audit.calibration.reading import DetectorQuality, calibration_of, detector_qualities
from clerestory.stages.audit.calibration.rounds import SWAPPED_SHARE
from clerestory.stages.audit.calibration.run import calibrate, calibration_code
from clerestory.stages.audit.caption_findings import MISMATCH
from clerestory.stages.audit.config import AuditConfig
from clerestory.stages.audit.detection import Detection
from clerestory.stages.audit.image_findings import COMPARISONS_LEFT_OUT, CROPS
from clerestory.store import Store

FEW_CAPTIONS = "; the check of captions with the model needs more captions to be calibrated"


@dataclass(frozen=True, slots=True)
class CalibratedDetector:
    """How far one detector of an audit can be trusted, for people.

    Attributes:
        code: of its finding.
        title: of the finding.
        recall, precision: with n and interval; an empty precision means that nothing was reported.
        weakest: the kind of fault that is found least often, with its recall; empty if all are found alike.
        silence: what follows for the images that the audit did not report.
    """

    code: str
    title: str
    recall: str
    precision: str
    weakest: str
    silence: str


def calibrate_source(
    data: Dataset,
    store: Store,
    audit: AuditConfig,
    config: CalibrationConfig,
    progress: Progress = QUIET,
    model: str = "",
) -> Evidence:
    """Calibrate the audit of a dataset.

    Args:
        data: the dataset.
        store: receives the evidence.
        audit: the limits of the audit.
        config: the extent of the calibration.
        progress: reports the rounds.
        model: a reference of the model whose check of captions is calibrated, too; none if empty.
    """
    if not model:
        return calibrate(data, store, audit, config, progress)
    from clerestory.apps.caption_match import match_captions  # here, because they import torch
    from clerestory.apps.loading import load_model
    from clerestory.models.protocols import require_capability

    loaded, _ = load_model(store, model)
    embedder = require_capability(loaded, "Embedder", "calibrating the check of captions", [])

    def matcher(part: Dataset) -> Sequence[Detection] | None:
        return match_captions(part, embedder, store)

    return calibrate(data, store, audit, config, progress, matcher=matcher, model=loaded.digest)


def current_calibration(store: Store, data: Dataset, audit: AuditConfig) -> Evidence | None:
    """The calibration of exactly this data, code and limits; None if there is none."""
    return calibration_of(store, data.digest, calibration_code(), digest(encode(audit)))


def calibrated_detectors(
    calibration: Evidence, detections: Sequence[Detection], samples: int
) -> list[CalibratedDetector]:
    """How far each detector can be trusted about the findings of an audit.

    Args:
        calibration: of the same data.
        detections: of the audit.
        samples: the number of images of the data.
    """
    reported: dict[str, set[str]] = {}
    for detection in detections:
        reported.setdefault(detection.code.code, set()).update(detection.samples)
    left_out = any(each.code == COMPARISONS_LEFT_OUT and each.reason == "crops" for each in detections)
    lines = [_detector(quality, reported, samples) for quality in detector_qualities(calibration)]
    sentence = "crops were not sought among so many images"
    return [replace(each, silence=sentence) if left_out and each.code == CROPS.code else each for each in lines]


def _detector(quality: DetectorQuality, reported: Mapping[str, set[str]], samples: int) -> CalibratedDetector:
    found = len(reported.get(quality.code, ()))
    weakest = min(quality.by_fault, key=lambda item: item[1].value, default=None)
    is_weak = weakest is not None and weakest[1].value < quality.recall.value
    return CalibratedDetector(
        code=quality.code,
        title=finding_codes()[quality.code].title,
        recall=_share(quality.recall),
        precision=_share(quality.precision) if quality.precision else "",
        weakest=f"{weakest[0]}: {weakest[1].value:.1%}" if weakest and is_weak else "",
        silence=_silence(quality, found, samples),
    )


def _silence(quality: DetectorQuality, found: int, samples: int) -> str:
    """What follows for the images that were not reported."""
    start = "none was reported" if found == 0 else f"{found:,} reported"
    if quality.code == MISMATCH.code:
        # It estimates the share of wrong captions first, so its recall falls with that share.
        return f"{start}; measured with {SWAPPED_SHARE:.0%} of the captions swapped, of fewer it detects fewer"
    missed = quality.may_be_missed(found)
    if missed is None:
        return f"{start}; the planted ones were missed, so this says nothing about the others"
    if missed == 0:
        return f"{start}; another one is unlikely"
    more = "" if found == 0 else " more"
    return f"{start}; up to {missed:,}{more} ({min(1.0, missed / samples):.1%} of the images) may have been missed"


def _share(measured: Measurement) -> str:
    interval = measured.interval
    around = f" ({interval.low:.1%} to {interval.high:.1%})" if interval else ""
    return f"{measured.value:.1%}{around}, n = {measured.n:,}"


def trust_sentence(calibration: Evidence | None, data: str) -> str:
    """How far the silence of an audit can be trusted, in one sentence."""
    if calibration is None:
        return (
            "How much these checks miss was not measured on this data (not calibrated), so no findings does not mean "
            f"no problems; measure it with: clerestory data audit {quote(data)} --calibrate"
        )
    samples = calibration.facts.integer("samples")
    is_measured = any(each.code == MISMATCH.code for each in detector_qualities(calibration))
    few = "" if is_measured or not calibration.facts.get("captions_matched") else FEW_CAPTIONS
    return (
        f"Calibrated on {calibration.created[:10]} with faults planted in a copy of {plural(samples, 'image')}; the "
        f"limits hold with 95 % confidence for faults like the planted ones{few}"
    )
