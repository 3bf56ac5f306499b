"""Every fault against every gate, and the same without any fault, many times."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clerestory.core.codec import Tags
from clerestory.core.digest import digest
from clerestory.core.errors import CapabilityError
from clerestory.core.evidence import Evidence, Finding, Measurement, Recipe, Subject
from clerestory.core.progress import QUIET, Progress
from clerestory.core.provenance import environment_digest, metered, now, stage_code
from clerestory.core.sample import Dataset
from clerestory.models.protocols import Embedder
from clerestory.stages.evaluate.selftest.config import SelfTestConfig
from clerestory.stages.evaluate.selftest.faults import FAULTS
from clerestory.stages.evaluate.selftest.gates import GATES
from clerestory.stages.evaluate.selftest.probe import Answers, Probe, ask, make_probe
from clerestory.stats.aggregate import measure
from clerestory.stats.rows import write_rows
from clerestory.store import Store

KIND = "self_test"
ANY = "any"
FAULT, REBUILD = "fault", "rebuild"


def self_test(
    model: Embedder,
    data: Dataset,
    config: SelfTestConfig,
    store: Store,
    reopen: Callable[[], Embedder] | None = None,
    progress: Progress = QUIET,
) -> Evidence:
    """Put known faults into a copy of the pipeline and report which gates notice; count false alarms without a fault.

    Evidence of kind ``self_test``. Its rows: one per case and gate (``caught`` 1 or 0), and one per case with gate
    ``any``. Measurements: ``faults_caught`` (share of the faults that any gate notices) and the same by gate,
    ``false_alarms`` (share of the rebuilds).

    Args:
        model: the model in question.
        data: where the pictures and captions come from.
        config: how large, and when a gate speaks.
        store: where the evidence is kept.
        reopen: reads the same model from disk anew, for the rebuilds; they go without where it is None.
        progress: told about each case.

    Raises:
        CapabilityError: the model does not embed pictures and texts.
    """
    if not isinstance(model, Embedder):
        raise CapabilityError("the self-test compares embeddings, and this model gives none", "use a dual encoder")
    subject = Subject(
        model=model.digest,
        data=data.digest,
        code=stage_code(KIND),
        config=digest(config),
        environment=environment_digest(),
    )
    known = store.find_evidence(KIND, subject.model, subject.data, subject.code, subject.config, subject.environment)
    if known:
        return known[0]
    with metered() as meter:
        probe = make_probe(data, config)
        sound = ask(model, probe)
        cases = _Cases(config)
        findings = _faults(model, probe, sound, cases, progress)
        _rebuilds(model, probe, cases, reopen, progress)
        rows = cases.columns()
        measurements = _measurements(rows)
    evidence = Evidence(
        kind=KIND,
        subject=subject,
        measurements=tuple(measurements),
        findings=tuple(findings),
        cost=meter.cost,
        made=now(),
        rows=store.blobs.put(write_rows(rows)),
        facts=Tags(
            pictures=str(len(probe.pictures)),
            captions=str(len(probe.captions)),
            rebuilds="the model opened again, other batch sizes, another order, pictures packed anew without loss",
            quality=f"mean reciprocal rank, paired; alarm at alpha {config.alpha:g}",
        ),
    )
    store.put_evidence(evidence)
    return evidence


class _Cases:
    """What each gate said in each case, as rows."""

    def __init__(self, config: SelfTestConfig) -> None:
        self.config = config
        self.rows: list[dict[str, Any]] = []

    def judge(self, case: str, name: str, words: str, before: Answers, after: Answers, probe: Probe) -> bool:
        """One row per gate and one for all of them; whether any spoke."""
        alarms = {gate: look(before, after, probe, self.config) for gate, look in GATES.items()}
        for gate, alarm in alarms.items():
            self._add(case, name, words, gate, alarm.raised, alarm.value, alarm.sentence)
        raised = [gate for gate, alarm in alarms.items() if alarm.raised]
        self._add(case, name, words, ANY, bool(raised), float(len(raised)), ", ".join(raised))
        return bool(raised)

    def _add(self, case: str, name: str, words: str, gate: str, caught: bool, value: float, said: str) -> None:
        self.rows.append(
            {
                "case": case,
                "name": name,
                "words": words,
                "gate": gate,
                "caught": float(caught),
                "value": value,
                "said": said,
            }
        )

    def columns(self) -> dict[str, NDArray[Any]]:
        texts = {
            n: np.array([row[n] for row in self.rows], dtype=object) for n in ("case", "name", "words", "gate", "said")
        }
        return texts | {n: np.array([row[n] for row in self.rows], dtype=np.float64) for n in ("caught", "value")}


def _faults(model: Embedder, probe: Probe, sound: Answers, cases: _Cases, progress: Progress) -> list[Finding]:
    findings = []
    with progress.task("Putting faults in", len(FAULTS)) as bar:
        for number, fault in enumerate(FAULTS):
            random = np.random.default_rng([cases.config.seed, number])
            answers = fault.answers(model, probe, sound, random)
            if answers is None:
                message = f"the fault {fault.words!r} cannot be put into this model"
                findings.append(Finding("CLR-E030", "info", "not_applicable", fault.name, message))
            elif not cases.judge(FAULT, fault.name, fault.words, sound, answers, probe):
                message = f"no gate notices when {fault.words}"
                fix = "evaluate on more pictures (pictures in SelfTestConfig), or add a gate for it"
                findings.append(Finding("CLR-E031", "warning", "warn", fault.name, message, fix))
            bar.advance()
    return findings


def _rebuilds(
    model: Embedder,
    probe: Probe,
    cases: _Cases,
    reopen: Callable[[], Embedder] | None,
    progress: Progress,
) -> None:
    """The same thing built again: whatever a gate says is a false alarm."""
    config = cases.config
    part = probe.first(config.rebuild_pictures)
    before = ask(model, part)
    with progress.task("Building the same again", config.rebuilds) as bar:
        for number in range(config.rebuilds):
            random = np.random.default_rng([config.seed, 1000 + number])
            if reopen is not None and number % config.reopen_every == 0:
                model = reopen()
            again = _packed_anew(part, random)
            batch = int(random.integers(1, 65))
            answers = ask(model, again, batch, random.permutation(len(part.pictures)))
            cases.judge(REBUILD, f"rebuild {number + 1}", f"batches of {batch}", before, answers, part)
            bar.advance()


def _packed_anew(probe: Probe, random: np.random.Generator) -> Probe:
    """The same pixels after another lossless round trip through a file."""
    pictures = []
    for image in probe.pictures:
        out = io.BytesIO()
        image.save(out, "PNG", compress_level=int(random.integers(0, 4)))
        with Image.open(io.BytesIO(out.getvalue())) as opened:
            pictures.append(opened.convert("RGB"))
    return Probe(pictures, probe.captions, probe.labels, probe.concepts, probe.ids)


def _measurements(rows: dict[str, NDArray[Any]]) -> list[Measurement]:
    found = []
    kinds = ((FAULT, "faults_caught"), (REBUILD, "false_alarms"))
    for gate in (ANY, *GATES):
        where = {} if gate == ANY else {"gate": gate}
        for case, name in kinds:
            if ((rows["case"] == case) & (rows["gate"] == gate)).any():
                recipe = Recipe("mean", "caught", Tags(case=case, gate=gate))
                found.append(measure(rows, recipe, name, where))
    return found
