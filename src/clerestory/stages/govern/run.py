"""Run every verifier for a release, combine the results with the statements of people, and store the answers."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from clerestory.core.codec import Facts, Tags, encode
from clerestory.core.digest import canonical, digest, digest_bytes
from clerestory.core.errors import NotWritable
from clerestory.core.evidence import Cost, Evidence, Finding, Subject
from clerestory.core.progress import QUIET, Progress
from clerestory.core.provenance import environment_digest, metered, now, stage_code
from clerestory.core.release import Release
from clerestory.core.units import plural
from clerestory.stages.govern import findings as codes
from clerestory.stages.govern.catalogue import Catalogue
from clerestory.stages.govern.check import Check, Verifier, run_verifier
from clerestory.stages.govern.context import GovernContext
from clerestory.stages.govern.statements import clock_problem, newest_statements, standing_of, today_of
from clerestory.stages.govern.states import Answer, ItemState, combine
from clerestory.stages.govern.steps import NextStep, next_steps
from clerestory.stages.govern.verifiers import verifiers
from clerestory.store import Store

KIND, ARTIFACT, FORMAT = "govern", "answers", 1
DISCLAIMER = "This is an evidence index, not a compliance determination."


@dataclass(frozen=True, slots=True)
class AnswerChange:
    """A requirement whose answer differs from an earlier run."""

    catalogue: str
    item: str
    before: ItemState
    after: ItemState


@dataclass(frozen=True, slots=True)
class GovernanceChanges:
    """What changed since an earlier run.

    Attributes:
        since: the release of that run.
        when: of that run.
        items: the requirements with another answer, in the order of the catalogues.
        new: how many requirements had no answer then.
    """

    since: str
    when: str
    items: tuple[AnswerChange, ...]
    new: int


@dataclass(frozen=True, slots=True)
class Governance:
    """The answers for one release.

    Attributes:
        evidence: as stored.
        release: what they are about.
        catalogues: whose requirements they answer.
        answers: one for each requirement, in the order of the catalogues.
        checks: the result of every verifier that ran, by name.
        steps: the commands that answer more, the cheapest first.
        changes: since the newest run of the release before, else of this release; None without one.
    """

    evidence: Evidence
    release: Release
    catalogues: tuple[Catalogue, ...]
    answers: tuple[Answer, ...]
    checks: dict[str, Check]
    steps: tuple[NextStep, ...]
    changes: GovernanceChanges | None

    def counts(self, catalogue: str = "") -> dict[ItemState, int]:
        """The number of requirements in each state, of one catalogue or of all."""
        counted = Counter(answer.state for answer in self.answers if catalogue in ("", answer.catalogue))
        return {state: counted[state] for state in ItemState}

    @property
    def is_clean(self) -> bool:
        """Whether nothing failed and nothing is stale."""
        return not any(answer.state in (ItemState.FAILED, ItemState.STALE) for answer in self.answers)


def govern(
    context: GovernContext,
    catalogues: Sequence[Catalogue],
    progress: Progress = QUIET,
    *,
    registry: Mapping[str, Verifier] | None = None,
    moment: datetime | None = None,
) -> Governance:
    """Answer the requirements of some catalogues for a release, and store the answers as evidence of kind ``govern``.

    Args:
        context: the release in its store, with what other stages measure.
        catalogues: the requirements.
        progress: reports the verifiers.
        registry: the verifiers by name; all of them if None.
        moment: the time for expiries; that of the clock if None.
    """
    known = verifiers() if registry is None else registry
    time = moment or datetime.now(UTC)
    needed = dict.fromkeys(name for each in catalogues for item in each.items for name in item.verifiers)
    with metered() as meter:
        checks = _run(known, list(needed), context, progress)
        answers = _answers(context, catalogues, checks, time)
    before = _earlier(context.store, context.release)
    found = _findings(context, catalogues, answers, checks, time)
    content = _content(context.release, answers, checks)
    evidence = _evidence(context, catalogues, answers, digest_bytes(content), found, meter.cost)
    try:
        context.store.blobs.put(content)
        context.store.put_evidence(evidence)
    except NotWritable as error:  # whoever only reads a store still gets the answers
        progress.write_line(f"notice: the answers are not stored: {error.message}")
    return Governance(
        evidence,
        context.release,
        tuple(catalogues),
        tuple(answers),
        checks,
        next_steps(answers, checks),
        _changes(before, answers, context.store),
    )


def _run(
    known: Mapping[str, Verifier], needed: Sequence[str], context: GovernContext, progress: Progress
) -> dict[str, Check]:
    checks = {}
    with progress.task("checking", len(needed)) as task:
        for name in needed:
            if name in known:
                checks[name] = run_verifier(known[name], context)
            task.advance(1, name)
    return checks


def _answers(
    context: GovernContext, catalogues: Sequence[Catalogue], checks: Mapping[str, Check], time: datetime
) -> list[Answer]:
    statements, today = newest_statements(context.records), today_of(context.records, time)
    answers = []
    for catalogue in catalogues:
        for item in catalogue.items:
            statement = statements.get((catalogue.id, item.id))
            standing = None
            if statement is not None:
                standing = standing_of(
                    statement,
                    item,
                    model=context.release.model,
                    today=today,
                    journal_intact=not context.journal_findings,
                )
            ran = [checks[name] for name in item.verifiers if name in checks]
            answers.append(combine(catalogue.id, item, ran, standing))
    return answers


def _findings(
    context: GovernContext,
    catalogues: Sequence[Catalogue],
    answers: Sequence[Answer],
    checks: Mapping[str, Check],
    time: datetime,
) -> list[Finding]:
    found = []
    if problem := clock_problem(context.records, time):
        found.append(codes.CLOCK_IN_THE_PAST.finding("clock", problem))
    for name, check in checks.items():
        if check.error:
            found.append(codes.VERIFIER_ERROR.finding(name, check.message, verifier=name))
    for answer in answers:
        code = {ItemState.FAILED: codes.NOT_MET, ItemState.STALE: codes.STALE_ANSWER}.get(answer.state)
        if code:
            where, fix = f"{answer.catalogue} {answer.item}", next(iter(answer.commands), code.fix)
            found.append(code.finding(where, answer.message, fix=fix, catalogue=answer.catalogue, item=answer.item))
    for catalogue in catalogues:
        for state, code in ((ItemState.UNTESTED, codes.UNTESTED), (ItemState.NEEDS_PERSON, codes.NEEDS_PERSON)):
            items = tuple(a.item for a in answers if a.catalogue == catalogue.id and a.state is state)
            if items:
                verb = "is untested" if state is ItemState.UNTESTED else "needs a person"
                many = verb.replace("is ", "are ", 1).replace("needs", "need", 1)
                message = f"{plural(len(items), f'item {verb}', f'items {many}')} of {len(catalogue.items)}"
                found.append(code.finding(catalogue.id, message, count=len(items), items=items))
    return found


def _content(release: Release, answers: Sequence[Answer], checks: Mapping[str, Check]) -> bytes:
    return canonical(
        {
            "format": FORMAT,
            "release": release.ref,
            "answers": [encode(answer) for answer in answers],
            "checks": {name: encode(check) for name, check in checks.items()},
        }
    )


def _evidence(
    context: GovernContext,
    catalogues: Sequence[Catalogue],
    answers: Sequence[Answer],
    content: str,
    found: Sequence[Finding],
    cost: Cost,
) -> Evidence:
    release = context.release
    counted = Counter(answer.state for answer in answers)
    return Evidence(
        kind=KIND,
        subject=Subject(
            model=release.model,
            data=context.evaluated_data,
            code=stage_code(KIND),
            config=digest({catalogue.id: catalogue.digest for catalogue in catalogues}),
            environment=environment_digest(),
        ),
        measurements=(),
        findings=tuple(found),
        cost=cost,
        created=now(),
        artifacts=Tags({ARTIFACT: content}),
        facts=Facts(
            {
                "release": release.ref,
                "catalogues": tuple(catalogue.id for catalogue in catalogues),
                "journal_records": context.store.journal.head()[0],
                **{state.value: counted[state] for state in ItemState},
            }
        ),
    )


def read_answers(evidence: Evidence, store: Store) -> dict[tuple[str, str], ItemState]:
    """The stored states of an earlier run, by the ids of catalogue and item."""
    content = json.loads(store.blobs.get(evidence.artifacts[ARTIFACT]))
    return {(each["catalogue"], each["item"]): ItemState(each["state"]) for each in content["answers"]}


def _earlier(store: Store, release: Release) -> Evidence | None:
    """The newest run of the release before, else of this release."""
    runs = store.find_evidence(KIND)
    parent = f"{release.name}@{release.parent}" if release.parent else ""
    for ref in filter(None, (parent, release.ref)):
        found = next((run for run in runs if run.facts.get("release") == ref), None)
        if found is not None:
            return found
    return None


def _changes(before: Evidence | None, answers: Sequence[Answer], store: Store) -> GovernanceChanges | None:
    if before is None:
        return None
    earlier = read_answers(before, store)
    items, new = [], 0
    for answer in answers:
        state = earlier.get((answer.catalogue, answer.item))
        if state is None:
            new += 1
        elif state is not answer.state:
            items.append(AnswerChange(answer.catalogue, answer.item, state, answer.state))
    return GovernanceChanges(before.facts.text("release"), before.created, tuple(items), new)
