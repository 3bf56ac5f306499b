"""Measure how much the audit detects on some data, and store it as evidence."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clerestory.core.codec import Facts, Tags, encode
from clerestory.core.digest import digest
from clerestory.core.errors import InputError
from clerestory.core.evidence import Evidence, Measurement, Recipe, Subject
from clerestory.core.files import make_folder
from clerestory.core.progress import QUIET, Progress
from clerestory.core.provenance import code_digest, environment_digest, metered, now
from clerestory.core.sample import Dataset
from clerestory.core.units import plural
from clerestory.stages.audit.calibration.config import MIN_IMAGES, CalibrationConfig
from clerestory.stages.audit.calibration.images import CODE_OF_COPY, CODE_OF_ODD
from clerestory.stages.audit.calibration.rounds import (
    SWAP_ROUNDS,
    Matcher,
    PlantContext,
    PlantRow,
    copy_rounds,
    odd_rounds,
    swap_rounds,
    text_rounds,
)
from clerestory.stages.audit.calibration.spec import SPEC
from clerestory.stages.audit.config import AuditConfig
from clerestory.stages.audit.personal_data import PersonalDataKind
from clerestory.stats.aggregate import measure
from clerestory.stats.rows import write_rows
from clerestory.store import Store
from clerestory.store.answer_cache import AnswerCache

KIND = SPEC.kind
RECALL, PRECISION = "detector_recall", "detector_precision"
SAMPLE, FINDING, PLANTED, FOUND, RIGHT = "sample", "finding", "planted", "found", "right"


def calibrate(
    data: Dataset,
    store: Store,
    audit: AuditConfig | None = None,
    config: CalibrationConfig | None = None,
    progress: Progress = QUIET,
    *,
    matcher: Matcher | None = None,
    model: str = "",
) -> Evidence:
    """Plant faults in a copy of some data, and store how many of them each detector of the audit reports.

    The data is only read; the copy is in memory and gone afterwards, also after an interruption. The same data,
    settings and seed give the same rows.

    Args:
        data: the data.
        store: receives the evidence.
        audit: the limits of the audit whose detectors are measured.
        config: how many images, and the seed.
        progress: reports the rounds.
        matcher: reports captions that do not fit their image; without one that detector is not measured.
        model: digest of the model of the matcher.

    Raises:
        InputError: the data has too few images.
    """
    audit, config = audit or AuditConfig(), config or CalibrationConfig()
    if len(data) < MIN_IMAGES:
        raise InputError(
            f"{data.name} has {plural(len(data), 'image')}, and a calibration needs {MIN_IMAGES} or more",
            "calibrate on a larger dataset of the same kind",
        )
    chosen = {sample.id for sample in _chosen(data, config)}
    make_folder(store.files / "tmp")
    with metered() as meter, TemporaryDirectory(dir=store.files / "tmp") as folder:
        cache = AnswerCache(Path(folder) / "facts.db")
        context = PlantContext(data.filter(lambda sample: sample.id in chosen), audit, cache, config.seed)
        total = len(CODE_OF_COPY) + len(CODE_OF_ODD) + len(PersonalDataKind) + 1 + (SWAP_ROUNDS if matcher else 0)
        planted: list[PlantRow] = []
        with progress.task("Planting faults", total) as bar:
            for rounds in (copy_rounds(context), odd_rounds(context), text_rounds(context)):
                for rows in rounds:
                    planted += rows
                    bar.advance()
            for rows in swap_rounds(context, matcher) if matcher else ():
                planted += rows
                bar.advance()
        columns = _columns(planted)
        measurements = _measurements(columns)
    evidence = Evidence(
        kind=KIND,
        subject=Subject(
            model=model,
            data=data.digest,
            code=calibration_code(),
            config=digest([encode(audit), encode(config)]),
            environment=environment_digest(),
        ),
        measurements=tuple(measurements),
        findings=(),
        cost=meter.cost,
        created=now(),
        rows=store.blobs.put(write_rows(columns)),
        facts=Facts(
            dataset=data.name,
            samples=len(chosen),
            seed=config.seed,
            audit_config=digest(encode(audit)),
            captions_matched=matcher is not None,
        ),
    )
    store.put_evidence(evidence)
    return evidence


def calibration_code() -> str:
    """SHA-256 of the code that a calibration depends on."""
    return code_digest(*SPEC.code_layers, excluded=SPEC.code_excluded)


def _chosen(data: Dataset, config: CalibrationConfig) -> Iterable[Any]:
    """The images to plant in: different ones, chosen by the seed and their bytes."""
    by_image = {sample.image: sample for sample in reversed(data.samples)}
    different = [by_image[image] for image in sorted(by_image)]
    return Random(config.seed).sample(different, min(config.samples, len(different)))


def _columns(rows: list[PlantRow]) -> dict[str, NDArray[Any]]:
    def number(values: Iterable[float | None]) -> NDArray[Any]:
        return np.array([np.nan if value is None else float(value) for value in values])

    return {
        SAMPLE: np.array([row.sample for row in rows], dtype=object),
        FINDING: np.array([row.code for row in rows], dtype=object),
        PLANTED: np.array([str(row.fault) for row in rows], dtype=object),
        FOUND: number(row.is_found for row in rows),
        RIGHT: number(0 if row.is_found is None else 1 if row.is_found else None for row in rows),
    }


def _measurements(columns: dict[str, NDArray[Any]]) -> list[Measurement]:
    """Recall of each finding and kind of fault, and precision of each finding of which anything was reported."""
    measured = []
    pairs = dict.fromkeys(zip(columns[FINDING].tolist(), columns[PLANTED].tolist(), strict=True))
    for code in sorted({code for code, _ in pairs}):
        faults = [fault for each, fault in pairs if each == code and fault]
        if faults:
            measured.append(measure(columns, Recipe("mean", FOUND, Tags(finding=code), SAMPLE), RECALL))
        for fault in faults if len(faults) > 1 else ():
            where = Tags(finding=code, planted=fault)
            measured.append(measure(columns, Recipe("mean", FOUND, where, SAMPLE), RECALL))
        if np.isfinite(columns[RIGHT][columns[FINDING] == code]).any():
            measured.append(measure(columns, Recipe("mean", RIGHT, Tags(finding=code), SAMPLE), PRECISION))
    return measured
