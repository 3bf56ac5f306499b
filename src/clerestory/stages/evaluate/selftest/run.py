"""Runs every gate on every fault, and on many rebuilds of the unchanged pipeline."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clerestory.core.codec import Facts, Tags
from clerestory.core.digest import digest
from clerestory.core.errors import CapabilityError
from clerestory.core.evidence import Evidence, Finding, Measurement, Recipe, Subject
from clerestory.core.progress import QUIET, Progress
from clerestory.core.provenance import environment_digest, metered, now, stage_code
from clerestory.core.sample import Dataset
from clerestory.models.protocols import Embedder
from clerestory.stages.evaluate.config import SelfTestConfig
from clerestory.stages.evaluate.findings import FAULT_MISSED, FAULT_NOT_APPLICABLE
from clerestory.stages.evaluate.held_images import changed_images
from clerestory.stages.evaluate.selftest.faults import FAULTS
from clerestory.stages.evaluate.selftest.gates import GATES
from clerestory.stages.evaluate.selftest.probe import PipelineOutputs, ProbeSet, make_probe_set, run_pipeline
from clerestory.stats.aggregate import measure
from clerestory.stats.rows import write_rows
from clerestory.store import Store

KIND = "self_test"
ANY_GATE = "any"
FAULT, REBUILD = "fault", "rebuild"
MAX_BATCH_SIZE = 64


def self_test(
    model: Embedder,
    data: Dataset,
    config: SelfTestConfig,
    store: Store,
    reload: Callable[[], Embedder] | None = None,
    progress: Progress = QUIET,
) -> Evidence:
    """Inject known faults into a copy of the pipeline; count the gates that detect them, and their false alarms.

    Evidence of kind ``self_test``. Its rows: one per case and gate (``caught`` 1 or 0), and one per case with gate
    ``any``. Measurements: ``faults_caught`` (share of the faults that any gate detects) and the same by gate,
    ``false_alarms`` (share of the rebuilds).

    Args:
        model: the model.
        data: images and captions.
        config: the size of the test, and when a gate raises an alarm.
        store: receives the evidence.
        reload: reads the same model from disk again, for the rebuilds; if None it is not reloaded.
        progress: reports each case.

    Raises:
        CapabilityError: the model does not embed images and texts.
    """
    if not isinstance(model, Embedder):
        raise CapabilityError(
            "the self-test compares embeddings, and this model is not an Embedder", "use a dual encoder"
        )
    subject = Subject(
        model=model.digest,
        data=data.digest,
        code=stage_code(KIND),
        config=digest(config),
        environment=environment_digest(),
    )
    stored = store.find_evidence(KIND, subject.model, subject.data, subject.code, subject.config, subject.environment)
    if stored:
        return stored[0]
    with metered() as meter:
        probe = make_probe_set(data, config)
        original = run_pipeline(model, probe)
        cases = _Cases(config)
        findings = _test_faults(model, probe, original, cases, progress)
        _test_rebuilds(model, probe, cases, reload, progress)
        rows = cases.columns()
        measurements = _measurements(rows)
    evidence = Evidence(
        kind=KIND,
        subject=subject,
        measurements=tuple(measurements),
        findings=tuple(findings),
        cost=meter.cost,
        created=now(),
        rows=store.blobs.put(write_rows(rows)),
        facts=Facts(
            images=len(probe.images),
            captions=len(probe.captions),
            reloaded=reload is not None,
            alpha=config.alpha,
            margin=config.margin,
        ),
    )
    store.put_evidence(evidence)
    return evidence


class _Cases:
    """The results of every gate in every case, as rows."""

    def __init__(self, config: SelfTestConfig) -> None:
        self.config = config
        self.rows: list[dict[str, Any]] = []

    def test(
        self,
        case: str,
        name: str,
        description: str,
        before: PipelineOutputs,
        after: PipelineOutputs,
        probe: ProbeSet,
    ) -> bool:
        """Add one row per gate and one for all of them; returns whether any raised an alarm."""
        cells = {"case": case, "name": name, "description": description}
        alarms = {gate: check(before, after, probe, self.config) for gate, check in GATES.items()}
        for gate, alarm in alarms.items():
            self.rows.append(
                cells | {"gate": gate, "caught": float(alarm.raised), "value": alarm.value, "message": alarm.message}
            )
        raised = [gate for gate, alarm in alarms.items() if alarm.raised]
        count = {"caught": float(bool(raised)), "value": float(len(raised)), "message": ", ".join(raised)}
        self.rows.append(cells | {"gate": ANY_GATE} | count)
        return bool(raised)

    def columns(self) -> dict[str, NDArray[Any]]:
        """The rows as columns."""
        texts = ("case", "name", "description", "gate", "message")
        columns: dict[str, NDArray[Any]] = {
            name: np.array([row[name] for row in self.rows], dtype=object) for name in texts
        }
        return columns | {name: np.array([row[name] for row in self.rows], np.float64) for name in ("caught", "value")}


def _test_faults(
    model: Embedder, probe: ProbeSet, original: PipelineOutputs, cases: _Cases, progress: Progress
) -> list[Finding]:
    findings = []
    with progress.task("Injecting faults", len(FAULTS)) as bar:
        for number, fault in enumerate(FAULTS):
            rng = np.random.default_rng([cases.config.seed, number])
            outputs = fault.inject(model, probe, original, rng)
            if outputs is None:
                message = f"the fault {fault.description!r} cannot be injected into this model"
                findings.append(FAULT_NOT_APPLICABLE.finding(fault.name, message, fault=fault.name))
            elif not cases.test(FAULT, fault.name, fault.description, original, outputs, probe):
                message = f"no gate raises an alarm when {fault.description}"
                findings.append(FAULT_MISSED.finding(fault.name, message, fault=fault.name))
            bar.advance()
    return findings


def _test_rebuilds(
    model: Embedder,
    probe: ProbeSet,
    cases: _Cases,
    reload: Callable[[], Embedder] | None,
    progress: Progress,
) -> None:
    """The unchanged pipeline, built again: every alarm is a false alarm."""
    config = cases.config
    subset = probe.first(config.rebuild_images)
    before = run_pipeline(model, subset)
    with progress.task("Rebuilding the unchanged pipeline", config.num_rebuilds) as bar:
        for number in range(config.num_rebuilds):
            rng = np.random.default_rng([config.seed, 1000 + number])
            if reload is not None and number % config.reload_every == 0:
                model = reload()
            encoded = _reencode(subset, rng)
            batch_size = int(rng.integers(1, MAX_BATCH_SIZE + 1))
            outputs = run_pipeline(model, encoded, batch_size, rng.permutation(len(subset.images)))
            cases.test(REBUILD, f"rebuild {number + 1}", f"batch size {batch_size}", before, outputs, subset)
            bar.advance()


def _reencode(probe: ProbeSet, rng: np.random.Generator) -> ProbeSet:
    """The same pixels after another lossless round trip through a file."""
    levels = [int(rng.integers(0, 4)) for _ in range(len(probe.images))]

    def reencoded(position: int, image: Image.Image) -> Image.Image:
        out = io.BytesIO()
        image.save(out, "PNG", compress_level=levels[position])
        with Image.open(io.BytesIO(out.getvalue())) as opened:
            return opened.convert("RGB")

    return replace(probe, images=changed_images(probe.images, reencoded))


def _measurements(rows: dict[str, NDArray[Any]]) -> list[Measurement]:
    measurements = []
    for gate in (ANY_GATE, *GATES):
        where = {} if gate == ANY_GATE else {"gate": gate}
        for case, name in ((FAULT, "faults_caught"), (REBUILD, "false_alarms")):
            if ((rows["case"] == case) & (rows["gate"] == gate)).any():
                recipe = Recipe("mean", "caught", Tags(case=case, gate=gate))
                measurements.append(measure(rows, recipe, name, where))
    return measurements
