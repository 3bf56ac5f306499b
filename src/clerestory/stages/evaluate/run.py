"""The verb: evaluate a model on data, and keep what was found as evidence."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from clerestory.core.codec import Tags
from clerestory.core.digest import canonical, digest
from clerestory.core.errors import IntegrityError
from clerestory.core.measure import Evidence, Finding, Measurement, Subject
from clerestory.core.progress import QUIET, Progress
from clerestory.core.provenance import environment_digest, metered, now, stage_code
from clerestory.core.sample import Dataset
from clerestory.models.protocols import Embedder, Generator
from clerestory.stages.evaluate.config import EvaluateConfig
from clerestory.stages.evaluate.describing import CAPTION, NO_DESCRIPTION, describe_pool
from clerestory.stages.evaluate.examples import caption_examples, retrieval_examples
from clerestory.stages.evaluate.latency import time_pool
from clerestory.stages.evaluate.measures import measurements
from clerestory.stages.evaluate.pool import NO_CAPTION, UNREADABLE, choose_splits, make_pool
from clerestory.stages.evaluate.retrieval import facts, image_to_text, text_to_image
from clerestory.stages.evaluate.table import Table
from clerestory.stats.aggregate import Rows
from clerestory.stats.rows import write_rows
from clerestory.store import Store

KIND = "evaluate"
NAMED = 8


def evaluate(
    model: Embedder, data: Dataset, config: EvaluateConfig, store: Store, progress: Progress = QUIET
) -> Evidence:
    """Measure retrieval in both directions, descriptions and latency, and store the evidence with its rows.

    Evidence for the same model, data, code, configuration and environment is not made twice: the stored one is
    returned at once. A model that cannot describe pictures is evaluated on the rest, and a finding says so.

    Args:
        model: anything that embeds pictures and texts; also a ``Generator`` where descriptions are wanted.
        data: pictures with captions; only the splits that ``config`` names are used, all of it if it has none.
        config: what to measure, and on how much.
        store: where embeddings, rows and evidence are kept.
        progress: told about each step.

    Raises:
        NotFound: the data has none of the wanted splits.
        DataError: no wanted split has two captioned concepts.
        CapabilityError: the model gives NaN or other unusable embeddings; the sample is named.
    """
    subject = Subject(
        model=model.digest,
        data=data.digest,
        code=stage_code(KIND),
        config=digest(config),
        environment=environment_digest(),
    )
    known = _stored(store, subject, progress)
    if known is not None:
        return known
    with metered() as meter:
        result = _examine(model, data, config, store, progress)
    evidence = Evidence(
        kind=KIND,
        subject=subject,
        measurements=tuple(result.measurements),
        findings=tuple(result.findings),
        cost=meter.cost,
        made=now(),
        rows=store.blobs.put(write_rows(result.rows)),
        artifacts=Tags(examples=store.blobs.put(canonical(result.examples))),
        facts=Tags(result.facts),
    )
    store.put_evidence(evidence)
    return evidence


def _stored(store: Store, subject: Subject, progress: Progress) -> Evidence | None:
    """The newest sound evidence for a subject. Damaged evidence is none: its fix is to make it again."""
    try:
        found = store.find_evidence(
            KIND, subject.model, subject.data, subject.code, subject.config, subject.environment
        )
    except IntegrityError as error:
        progress.say(f"{error.message}; evaluating again")
        return None
    sound = next((one for one in found if not store.verify_evidence(one.id)), None)
    if found and sound is None:
        progress.say("files of the stored evidence are damaged; evaluating again")
    return sound


@dataclass
class _Result:
    """What an examination finds, before it is evidence."""

    rows: Rows
    measurements: list[Measurement]
    findings: list[Finding]
    examples: dict[str, Any]
    facts: dict[str, str]


def _examine(model: Embedder, data: Dataset, config: EvaluateConfig, store: Store, progress: Progress) -> _Result:
    splits, findings = choose_splits(data, config)
    table = Table({name for part in splits.values() for sample in part for name in sample.groups})
    found = _about(config)
    shown: list[dict[str, Any]] = []
    said: list[dict[str, Any]] = []
    pools = {name: make_pool(model, name, part, config, store, progress) for name, part in splits.items()}
    for name, pool in pools.items():
        pictures, captions = image_to_text(pool, table, config.lang), text_to_image(pool, table, config.lang)
        shown += retrieval_examples(pool, pictures, captions, config.lang)
        found |= facts(pool)
        if isinstance(model, Generator) and config.described:
            said += describe_pool(model, pool, splits[name], config, table, progress)
    if not isinstance(model, Generator):
        findings.append(_cannot_describe())
    if config.timed:
        name, pool = next(iter(pools.items()))
        time_pool(model, pool, splits[name], config, table, progress)
    rows = table.columns()
    measured, small = measurements(rows, table, config)
    findings += _unscored(rows) + small
    return _Result(rows, measured, findings, {"examples": shown, "captions": caption_examples(said)}, found)


def _about(config: EvaluateConfig) -> dict[str, str]:
    return {
        "captions": f"the first caption of each picture in {config.lang!r}; equal but for case and spaces is equal",
        "image_to_text": "each picture against the distinct captions of its split",
        "text_to_image": "each distinct caption against the pictures of its split; the rank of its best picture",
        "ties": "equal scores count against the model (pessimistic)",
        "left_out": "skin-tone variants",
        "chrf": f"chrF2 of the first suggestion, ignoring case, on at most {config.described} pictures per split",
        "latency": f"{config.timed} single requests per operation after {config.warm_up} to warm up; texts are new",
        "seed": str(config.seed),
    }


def _unscored(rows: Rows) -> list[Finding]:
    """One finding for each task, split and reason; it counts the samples and names the first of them."""
    groups: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    columns = (rows[name].tolist() for name in ("task", "split", "unscored", "sample"))
    for task, split, reason, sample in zip(*columns, strict=True):
        if reason:
            groups[task, split, reason].append(sample)
    findings = []
    for (task, split, reason), samples in groups.items():
        names = ", ".join(samples[:NAMED]) + (f" and {len(samples) - NAMED} more" if len(samples) > NAMED else "")
        message = f"{len(samples)} samples of split {split!r} are not scored for {task}: {reason}"
        code = "CLR-E002" if reason == NO_DESCRIPTION else "CLR-E001"
        findings.append(Finding(code, "warning", "warn", names, message, _FIXES[reason]))
    return findings


_FIXES = {
    NO_CAPTION: "add captions to these samples, or set lang to a language they have",
    UNREADABLE: "replace these pictures",
    NO_DESCRIPTION: "train the caption decoder longer",
}


def _cannot_describe() -> Finding:
    message = "the model does not describe pictures, so its descriptions were neither scored nor timed"
    return Finding("CLR-E004", "info", "not_applicable", f"task {CAPTION}", message)
