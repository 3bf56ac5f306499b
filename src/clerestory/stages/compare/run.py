"""The verb: compare two models on what both were examined on, and keep what was found as evidence."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from clerestory.core.codec import Tags, decode, encode
from clerestory.core.comparison import Comparison, Line
from clerestory.core.digest import canonical, digest, short
from clerestory.core.errors import InputError, Undecided
from clerestory.core.evidence import Evidence, Interval, Measurement, Recipe, Subject
from clerestory.core.provenance import environment_digest, metered, now, stage_code
from clerestory.stages.compare.config import CompareConfig
from clerestory.stages.compare.lines import CLUSTER, make_flips, make_lines
from clerestory.stages.compare.pairs import pair
from clerestory.stats.aggregate import Rows, measure
from clerestory.stats.rows import read_rows, write_rows
from clerestory.store import Store

KIND, READS, ARTIFACT = "compare", "evaluate", "comparison"


@dataclass(frozen=True)
class _Model:
    """One of the two: what people call it, how a command names it, and its digest."""

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
) -> Comparison:
    """Hold two models against one another, sample by sample, on what both were examined on.

    The rows of the newest examinations of both are joined on what was asked, so only differences on the same questions
    count, with errors between concepts. The result is kept as evidence of kind ``compare``; the same two examinations
    are not compared twice.

    Args:
        a: a release or a digest: the one the verdicts are about.
        b: the one it is held against.
        store: where the examinations are, and the comparison goes.
        config: when a difference counts.
        data: digest of the data set to compare on; the newest that both were examined on when empty.
        digests: of models that the store does not keep (``hf:``, ``openai:``, a folder), by reference.

    Raises:
        NotFound: nothing has one of these names.
        InputError: both are the same model.
        Undecided: an examination is missing or stale, or was made on other data; the fix is the command that mends it.
    """
    config = config or CompareConfig()
    ours, theirs = (_model(ref, store, digests or {}) for ref in (a, b))
    if ours.digest == theirs.digest:
        raise InputError(f"{a} and {b} are the same model, {short(ours.digest)}", "name two that differ")
    mine, other = _examinations(ours, theirs, store, data)
    subject = Subject(
        model=ours.digest,
        data=mine.subject.data,
        code=stage_code(KIND),
        config=digest([encode(config), mine.id, other.id, ours.name, theirs.name]),
        environment=environment_digest(),
    )
    known = _known(store, subject)
    if known is not None:
        return known
    with metered() as meter:
        rows = [read_rows(store.blobs.get(each.rows)) for each in (mine, other)]
        pairs = pair(mine, other, rows[0], rows[1])
        lines = make_lines(pairs, config, (ours.name, theirs.name))
        if not lines:
            raise Undecided(f"no question is scored for both {ours.name} and {theirs.name}", "see their findings")
        made = Comparison(
            a=ours.name,
            b=theirs.name,
            model_a=ours.digest,
            model_b=theirs.digest,
            evidence_a=mine.id,
            evidence_b=other.id,
            data=mine.subject.data,
            margin=config.margin,
            alpha=config.alpha,
            lines=tuple(lines),
            flips=tuple(make_flips(pairs, config)),
            notes=tuple(dict.fromkeys(pairs.notes)),
            blocked=pairs.blocked,
        )
        measurements = tuple(each for line in lines for each in _measurements(line, pairs.rows, config))
    evidence = Evidence(
        kind=KIND,
        subject=subject,
        measurements=measurements,
        findings=(),
        cost=meter.cost,
        made=now(),
        rows=store.blobs.put(write_rows(pairs.rows)),
        artifacts=Tags({ARTIFACT: store.blobs.put(canonical(made))}),
        facts=Tags(a=ours.name, b=theirs.name, model_b=theirs.digest, evidence_a=mine.id, evidence_b=other.id,
                   margin=f"{config.margin:g}", alpha=f"{config.alpha:g}"),
    )  # fmt: skip
    return replace(made, evidence=store.put_evidence(evidence))


def _known(store: Store, subject: Subject) -> Comparison | None:
    """The stored comparison of the same two examinations, where it is sound."""
    for found in store.find_evidence(KIND, subject.model, subject.data, subject.code, subject.config):
        if found.subject == subject and not store.verify_evidence(found.id):
            held = decode(Comparison, json.loads(store.blobs.get(found.artifacts[ARTIFACT])))
            return replace(held, evidence=found.id)
    return None


def _model(ref: str, store: Store, digests: Mapping[str, str]) -> _Model:
    if ref in digests:
        return _Model(ref, ref, digests[ref])
    resolved = store.resolve(ref)
    if resolved.release is not None:
        return _Model(resolved.release.ref, resolved.release.ref, resolved.digest)
    return _Model(short(resolved.digest), short(resolved.digest), resolved.digest)


def _examinations(ours: _Model, theirs: _Model, store: Store, data: str) -> tuple[Evidence, Evidence]:
    """The newest examinations of both on the same data, of today; those of the same settings come first."""
    mine, other = _fresh(ours, store, data), _fresh(theirs, store, data)
    both = [(m, o) for m in mine for o in other if m.subject.data == o.subject.data]
    if not both:
        names = _names(store, mine[0].subject.data)
        raise Undecided(
            f"{theirs.name} was not examined on the data that {ours.name} was examined on",
            f"clerestory evaluate {theirs.ref}{names}",
        )
    return next((two for two in both if two[0].subject.config == two[1].subject.config), both[0])


def _fresh(model: _Model, store: Store, data: str) -> list[Evidence]:
    """The examinations of today, newest first.

    Raises:
        Undecided: there is none.
    """
    held = store.find_evidence(READS, model=model.digest)
    today = (stage_code(READS), environment_digest())
    fresh = [each for each in held if (each.subject.code, each.subject.environment) == today]
    found = [each for each in fresh if not data or each.subject.data == data]
    if found:
        return found
    command = f"clerestory evaluate {model.ref}{_names(store, data)}"
    if not held:
        raise Undecided(f"{model.name} was never examined here", command)
    if fresh:
        raise Undecided(f"{model.name} was examined on other data only", command)
    changed = "code" if held[0].subject.code != today[0] else "libraries or another kind of machine"
    raise Undecided(f"the examination of {model.name} is stale, it was made with other {changed}", command)


def _names(store: Store, data: str) -> str:
    """The option that names a data set, where the store knows its name."""
    return next((f" --data {row.name}" for row in store.datasets() if row.digest == data), "")


def _measurements(line: Line, rows: Rows, config: CompareConfig) -> Iterable[Measurement]:
    """Their difference and, on the whole, the values of both, each with its recipe over the joined rows."""
    where = {"task": line.task, "split": line.split, "family": line.condition}
    if line.group:
        where[line.group] = line.value
    tags = Tags(where)
    for side in ("a", "b") if line.whole else ():
        yield measure(rows, Recipe("mean", side, tags, CLUSTER), f"{line.measure}.{side}", tags)
    yield Measurement(
        name=f"{line.measure}.difference",
        value=line.difference,
        unit="share",
        n=line.n,
        interval=Interval(line.low or 0.0, line.high or 0.0, line.method, 1 - config.alpha) if line.method else None,
        no_interval="" if line.method else line.sentence,
        slice=tags,
        clusters=line.clusters,
        recipe=Recipe("paired", "a", tags, CLUSTER, against="b"),
    )
