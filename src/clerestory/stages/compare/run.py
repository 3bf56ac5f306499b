"""Compare two models on the data of their evaluations, and store the comparison as evidence."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from clerestory.core.codec import Facts, Tags, decode, encode
from clerestory.core.comparison import Comparison, ComparisonRow
from clerestory.core.digest import canonical, digest, short
from clerestory.core.errors import InputError, Undecided
from clerestory.core.evidence import Evidence, Interval, Measurement, Recipe, Subject
from clerestory.core.provenance import environment_digest, metered, now, stage_code
from clerestory.core.rows import CLUSTER_COLUMN
from clerestory.core.stage import stage
from clerestory.stages.compare.config import CompareConfig
from clerestory.stages.compare.flips import find_flips
from clerestory.stages.compare.paired_scores import pair_scores
from clerestory.stages.compare.results import compare_slices
from clerestory.stats.aggregate import Rows, measure
from clerestory.stats.rows import read_rows, write_rows
from clerestory.store import Store

KIND, ARTIFACT = "compare", "comparison"
SOURCE_KIND = "evaluate"  # the evidence whose per-sample rows are compared


@dataclass(frozen=True)
class _Model:
    """One of the two models.

    Attributes:
        name: in messages and tables.
        ref: in commands.
        digest: of the model.
    """

    name: str
    ref: str
    digest: str


def compare(
    a: str,
    b: str,
    store: Store,
    config: CompareConfig | None = None,
    data: str = "",
    digests: Mapping[str, str] | None = None,
    tasks: Sequence[str] = (),
) -> Comparison:
    """Compare two models, sample by sample, on the data of their evaluations.

    The rows of the newest evaluations of both are joined on the question, so only differences on the same questions
    count; errors are clustered by concept. The result is stored as evidence of kind ``compare``; the same two
    evaluations are not compared twice.

    Args:
        a: a release or a digest: the first model, whose outcomes are reported.
        b: the model it is compared with.
        store: holds the evaluations, and receives the comparison.
        config: the thresholds.
        data: digest of the dataset to compare on; if empty, the newest on which both were evaluated.
        digests: of models that are not in the store (``hf:``, ``openai:``, a folder), by reference.
        tasks: references of the tasks with this data, for the suggested commands.

    Raises:
        NotFound: one of these names is unknown.
        InputError: both are the same model.
        Undecided: an evaluation is missing or stale, or used other data; the fix is the command to run.
    """
    config = config or CompareConfig()
    model_a, model_b = (_model(ref, store, digests or {}) for ref in (a, b))
    if model_a.digest == model_b.digest:
        raise InputError(f"{a} and {b} are the same model, {short(model_a.digest)}", "name two different models")
    evidence_a, evidence_b = _evaluations(model_a, model_b, store, data, tasks)
    subject = Subject(
        model=model_a.digest,
        data=evidence_a.subject.data,
        code=stage_code(KIND),
        config=digest([encode(config), evidence_a.id, evidence_b.id, model_a.name, model_b.name]),
        environment=environment_digest(),
    )
    stored = _stored(store, subject)
    if stored is not None:
        return stored
    with metered() as meter:
        rows_a, rows_b = (read_rows(store.blobs.get(each.rows)) for each in (evidence_a, evidence_b))
        pairs = pair_scores(evidence_a, evidence_b, rows_a, rows_b)
        results = compare_slices(pairs, config, (model_a.name, model_b.name))
        if not results:
            raise Undecided(
                f"no question is scored for both {model_a.name} and {model_b.name}",
                "see the findings of the two evaluations",
            )
        comparison = Comparison(
            a=model_a.name,
            b=model_b.name,
            model_a=model_a.digest,
            model_b=model_b.digest,
            evidence_a=evidence_a.id,
            evidence_b=evidence_b.id,
            data=evidence_a.subject.data,
            margin=config.margin,
            alpha=config.alpha,
            results=tuple(results),
            flips=tuple(find_flips(pairs, config)),
            exclusions=tuple(dict.fromkeys(pairs.exclusions)),
        )
        measurements = tuple(each for row in results for each in _measurements(row, pairs.rows, config))
    evidence = Evidence(
        kind=KIND,
        subject=subject,
        measurements=measurements,
        findings=(),
        cost=meter.cost,
        created=now(),
        rows=store.blobs.put(write_rows(pairs.rows)),
        artifacts=Tags({ARTIFACT: store.blobs.put(canonical(comparison))}),
        facts=Facts(
            a=model_a.name,
            b=model_b.name,
            model_b=model_b.digest,
            evidence_a=evidence_a.id,
            evidence_b=evidence_b.id,
            margin=config.margin,
            alpha=config.alpha,
        ),
    )
    return replace(comparison, evidence=store.put_evidence(evidence))


def _stored(store: Store, subject: Subject) -> Comparison | None:
    """The stored comparison of the same two evaluations, if it is undamaged."""
    for evidence in store.find_evidence(KIND, subject.model, subject.data, subject.code, subject.config):
        if evidence.subject == subject and not store.verify_evidence(evidence.id):
            comparison = decode(Comparison, json.loads(store.blobs.get(evidence.artifacts[ARTIFACT])))
            return replace(comparison, evidence=evidence.id)
    return None


def _model(ref: str, store: Store, digests: Mapping[str, str]) -> _Model:
    if ref in digests:
        return _Model(ref, ref, digests[ref])
    resolved = store.resolve(ref)
    if resolved.release is not None:
        return _Model(resolved.release.ref, resolved.release.ref, resolved.digest)
    return _Model(short(resolved.digest), short(resolved.digest), resolved.digest)


def _evaluations(a: _Model, b: _Model, store: Store, data: str, tasks: Sequence[str]) -> tuple[Evidence, Evidence]:
    """The newest current evaluations of both models on the same data; preferably with the same settings."""
    evidence_a, evidence_b = _fresh(a, store, data, tasks), _fresh(b, store, data, tasks)
    pairs = [(one, two) for one in evidence_a for two in evidence_b if one.subject.data == two.subject.data]
    if not pairs:
        raise Undecided(
            f"{b.name} was not evaluated on the data of the evaluation of {a.name}",
            _command(b, evidence_a[0].subject.data, store, tasks),
        )
    return next((pair for pair in pairs if pair[0].subject.config == pair[1].subject.config), pairs[0])


def _fresh(model: _Model, store: Store, data: str, tasks: Sequence[str]) -> list[Evidence]:
    """The evaluations of a model by the current code in the current environment, newest first.

    Raises:
        Undecided: there are none.
    """
    stored = store.find_evidence(SOURCE_KIND, model=model.digest)
    current = (stage_code(SOURCE_KIND), environment_digest())
    fresh = [each for each in stored if (each.subject.code, each.subject.environment) == current]
    usable = [each for each in fresh if not data or each.subject.data == data]
    if usable:
        return usable
    command = _command(model, data, store, tasks)
    if not stored:
        raise Undecided(f"{model.name} was never evaluated here", command)
    if fresh:
        raise Undecided(f"{model.name} was evaluated on other data only", command)
    changed = "code" if stored[0].subject.code != current[0] else "library versions or the kind of machine"
    raise Undecided(f"the evaluation of {model.name} is stale: {changed} changed since", command)


def _command(model: _Model, data: str, store: Store, tasks: Sequence[str]) -> str:
    """The command that evaluates a model on a dataset; it names the data if the store has a name for it."""
    options = next((f" --data {row.name}" for row in store.datasets() if row.digest == data), "")
    options += "".join(f" --task {task}" for task in tasks)
    return stage(SOURCE_KIND).command.format(model=model.ref, data=options)


def _measurements(row: ComparisonRow, rows: Rows, config: CompareConfig) -> Iterable[Measurement]:
    """The difference and, if overall, the values of both models, each with its recipe over the joined rows."""
    where = {"task": row.task, "split": row.split, "family": str(row.condition)}
    if row.group:
        where[row.group] = row.value
    tags = Tags(where)
    for model in ("a", "b") if row.is_overall else ():
        yield measure(rows, Recipe("mean", model, tags, CLUSTER_COLUMN), f"{row.metric}.{model}", tags)
    yield Measurement(
        name=f"{row.metric}.difference",
        value=row.difference,
        unit="share",
        n=row.n,
        interval=Interval(row.low or 0.0, row.high or 0.0, row.method, 1 - config.alpha) if row.method else None,
        no_interval="" if row.method else row.message,
        slice=tags,
        clusters=row.clusters,
        recipe=Recipe("paired", "a", tags, CLUSTER_COLUMN, against="b"),
    )
