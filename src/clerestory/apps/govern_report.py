"""The page of a governance run, from its result."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import groupby

from clerestory.core.digest import short
from clerestory.core.units import duration, plural
from clerestory.report.govern_page import (
    CheckView,
    FrameworkView,
    GovernPage,
    RequirementView,
    StatementView,
    render_governance,
)
from clerestory.stages.govern.catalogue import Catalogue, Item
from clerestory.stages.govern.run import DISCLAIMER, Governance
from clerestory.stages.govern.statements import Statement
from clerestory.stages.govern.states import Answer
from clerestory.stages.govern.verifiers import verifiers
from clerestory.store import Store

MAX_STEPS, MAX_CHANGES = 8, 40


def keep_page(store: Store, result: Governance, command: str = "") -> str:
    """The HTML of a run, kept in the store for the pages of the server.

    Args:
        store: keeps it.
        result: of the run.
        command: that makes the page again; the plain command by default.
    """
    html = render_governance(govern_page(result, command or f"clerestory govern {result.release.ref}"))
    store.cache_content(f"govern-page/{result.evidence.id}", html.encode())
    return html


def kept_page(store: Store, run: str) -> str | None:
    """The HTML of a run by the id of its evidence; None if it was not kept."""
    content = store.cache_read(f"govern-page/{run}")
    return content.decode() if content is not None else None


def govern_page(result: Governance, command: str) -> GovernPage:
    """Everything that the page shows.

    Args:
        result: of the run.
        command: that makes the page again.
    """
    answers = {(answer.catalogue, answer.item): answer for answer in result.answers}
    release, changes = result.release, result.changes
    shown = changes.items[:MAX_CHANGES] if changes else ()
    facts = (
        ("Release", f"{release.ref}, model {short(release.model)}"),
        ("Policy", f"{release.decision.policy}, verdict {release.decision.verdict}"),
        ("Evidence", result.evidence.id),
        ("Made on", f"{result.evidence.created}, in {duration(result.evidence.cost.seconds)}"),
        ("Records in the journal", f"{result.evidence.facts.integer('journal_records'):,}"),
    )
    return GovernPage(
        release=release.ref,
        note=DISCLAIMER,
        frameworks=tuple(_framework(each, answers, result) for each in result.catalogues),
        checks=_checks(result),
        steps=tuple(
            (
                step.command,
                f"about {duration(step.seconds)}" if step.seconds else "at once",
                f"{plural(step.items, 'requirement waits', 'requirements wait')} for it",
            )
            for step in result.steps[:MAX_STEPS]
        ),
        since=f"Changed since {changes.since} ({changes.when[:10]})" if changes else "",
        changes=tuple(
            (_anchor(each.catalogue, each.item), each.item, each.before.value, each.after.value) for each in shown
        ),
        facts=facts,
        command=command,
    )


def _framework(catalogue: Catalogue, answers: Mapping[tuple[str, str], Answer], result: Governance) -> FrameworkView:
    groups = []
    for group, items in groupby(catalogue.items, key=lambda item: item.group):
        views = tuple(_requirement(catalogue, item, answers[catalogue.id, item.id], result) for item in items)
        groups.append((group, views))
    return FrameworkView(
        f"framework-{catalogue.id}",
        catalogue.name,
        catalogue.edition,
        catalogue.source,
        catalogue.licence,
        tuple(groups),
    )


def _requirement(catalogue: Catalogue, item: Item, answer: Answer, result: Governance) -> RequirementView:
    notes = []
    if item.applies_from:
        notes.append(f"It applies from {item.applies_from}.")
    if item.amended_by:
        notes.append(f"Amended by {item.amended_by}.")
    if item.note:
        notes.append(item.note)
    return RequirementView(
        anchor=_anchor(catalogue.id, item.id),
        id=item.id,
        label=item.label,
        text="" if item.text == item.label else item.text,
        kind=item.kind,
        state=answer.state.value,
        basis=answer.basis,
        message=answer.message,
        checks=tuple(name for name in answer.checks if name in result.checks),
        statement=_statement(answer.statement) if answer.statement else None,
        notes=tuple(notes),
        commands=answer.commands,
    )


def _statement(statement: Statement) -> StatementView:
    return StatementView(
        statement.who, statement.when[:10], statement.expires, statement.text, statement.release, statement.record
    )


def _checks(result: Governance) -> tuple[CheckView, ...]:
    known = verifiers()
    items = [(each.id, item) for each in result.catalogues for item in each.items]
    return tuple(
        CheckView(
            name=name,
            title=known[name].title if name in known else name,
            outcome=check.outcome.value,
            message=check.message,
            evidence=tuple(short(each) for each in check.evidence[:6]),
            command=check.command,
            used=tuple((_anchor(catalogue, item.id), item.id) for catalogue, item in items if name in item.verifiers),
        )
        for name, check in result.checks.items()
    )


def _anchor(catalogue: str, item: str) -> str:
    """Unique: no two ids of a catalogue differ only in capitals, blanks and hyphens, and these are kept apart here."""
    name = re.sub(r"[^A-Za-z0-9.]", lambda match: "-" if match[0] in " -_" else f"x{ord(match[0]):x}", item)
    return f"item-{catalogue}-{name}"
