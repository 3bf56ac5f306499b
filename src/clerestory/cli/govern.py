"""``clerestory govern``: requirements of frameworks, answered by verifiers that run again and by people."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter
from rich.table import Table
from rich.text import Text

from clerestory.cli.main import SUBCOMMANDS
from clerestory.cli.output import PLAIN, Common
from clerestory.core.codec import encode
from clerestory.core.errors import InputError
from clerestory.core.outputs import check_output, write_output
from clerestory.core.units import duration, plural

if TYPE_CHECKING:
    from clerestory.stages.govern.catalogue import Catalogue, Item
    from clerestory.stages.govern.run import Governance, GovernanceChanges
    from clerestory.stages.govern.statements import Statement
    from clerestory.stages.govern.states import ItemState

STYLES = {
    "failed": "bold red",
    "stale": "yellow",
    "passed": "green",
    "untested": "dim",
    "needs_person": "cyan",
    "not_applicable": "dim",
}
MAX_LINES, MAX_STEPS, MAX_MESSAGE, MAX_NAMED = 12, 6, 220, 8


def govern_(
    release: str = "",
    /,
    *,
    catalogue: str = "all",
    report: Path | None = None,
    csv: Path | None = None,
    force: Annotated[bool, Parameter(negative=())] = False,
    items: Annotated[bool, Parameter(negative=())] = False,
    common: Common = PLAIN,
) -> int:
    """Answer the requirements of frameworks for a release, each by verifiers that run again now and by people.

    It is an evidence index, not a compliance determination. Exit code 1 when a requirement failed or its answer is
    stale; untested ones and those that need a person do not count as failed.

    Args:
        release: A release, such as icons@3 (default: the live one).
        catalogue: nist-ai-rmf-1.0, nist-ai-600-1, iso-42001, eu-ai-act-annex-iv, all, or a TOML file of your own.
        report: Write a page with every requirement and its evidence to this file, such as govern.html.
        csv: Write a row for each requirement to this file.
        force: Overwrite the files of --report and --csv.
        items: Print every requirement instead of those that failed or are stale.
    """
    from clerestory.apps.governing import govern_release  # here, because it imports numpy
    from clerestory.store import open_store

    for path in filter(None, (report, csv)):
        check_output(path, force)
    store = open_store(common.home)
    result = govern_release(store, release, catalogue, common.out)
    common.out.result(_as_json(result), *_lines(result, items))
    from clerestory.apps.govern_report import keep_page

    named = f" --catalogue {quote(catalogue)}" if catalogue != "all" else ""
    to_file = f" --report {quote(str(report))}" if report else ""
    html = keep_page(store, result, f"clerestory govern {result.release.ref}{named}{to_file}")
    if report:
        write_output(report, html.encode(), force)
        common.out.write_line(f"wrote {report}")
    if csv:
        from clerestory.apps.captioning import captions_csv

        write_output(csv, captions_csv(_rows(result)).encode(), force)
        common.out.write_line(f"wrote {csv}")
    for step in result.steps[:1]:
        common.out.next(step.command)
    return 0 if result.is_clean else 1


def state_(
    item: str,
    /,
    *items: str,
    text: str,
    expires: str = "",
    who: str = "",
    catalogue: str = "all",
    release: str = "",
    common: Common = PLAIN,
) -> None:
    """State how a requirement is met, or sign for the measurements; kept in the journal with author, date and expiry.

    Args:
        item: The number of a requirement, such as "GOVERN 1.1" or A.2.2.
        items: More numbers that the same statement answers.
        text: The statement.
        expires: The last day on which it counts, such as 2027-06-30 (default: in a year).
        who: The author (default: $CLERESTORY_WHO or the login name).
        catalogue: The catalogue of the requirement, by name or file, if its number is in several.
        release: The release that is signed for (default: the live one).
    """
    _record(common, (item, *items), text, expires, who, catalogue, release, not_applicable=False)


def not_applicable_(
    item: str,
    /,
    *items: str,
    why: str,
    expires: str = "",
    who: str = "",
    catalogue: str = "all",
    release: str = "",
    common: Common = PLAIN,
) -> None:
    """State that a requirement does not apply, and why.

    Args:
        item: The number of a requirement, such as MS-2.7-007.
        items: More numbers that do not apply for the same reason.
        why: The reason.
        expires: The last day on which this counts, such as 2027-06-30 (default: in a year).
        who: The author (default: $CLERESTORY_WHO or the login name).
        catalogue: The catalogue of the requirement, by name or file, if its number is in several.
        release: The release that it is stated for (default: the live one).
    """
    _record(common, (item, *items), why, expires, who, catalogue, release, not_applicable=True)


def _record(
    common: Common,
    names: tuple[str, ...],
    text: str,
    expires: str,
    who: str,
    catalogue: str,
    release: str,
    *,
    not_applicable: bool,
) -> None:
    from clerestory.apps.governing import governed_release, live_release
    from clerestory.stages.govern.statements import state_items
    from clerestory.store import open_store

    found = _items(names, catalogue)
    store = open_store(common.home)
    about = governed_release(store, release) if release else live_release(store)
    signed = [item.id for _, item in found if item.kind == "P"]
    if signed and about is None and not not_applicable:
        raise InputError(
            f"whoever states {signed[0]} signs for the measurements of a release, and none is live",
            "name one with --release, such as icons@1",
        )
    statements = state_items(store, found, text, expires=expires, who=who, not_applicable=not_applicable, release=about)
    common.out.result([encode(each) for each in statements], *[_recorded(each) for each in statements])
    common.out.next("clerestory govern")


def _recorded(statement: Statement) -> str:
    said = "does not apply" if statement.not_applicable else "stated"
    about = f", for {statement.release}" if statement.release else ""
    return (
        f"✓ {statement.item} {said}, by {statement.who}, until {statement.expires}{about} (record {statement.record})"
    )


def withdraw_(
    item: str, /, *items: str, why: str, who: str = "", catalogue: str = "all", common: Common = PLAIN
) -> None:
    """Withdraw a statement; its record stays in the journal.

    Args:
        item: The number of a requirement.
        items: More numbers.
        why: The reason.
        who: The author (default: $CLERESTORY_WHO or the login name).
        catalogue: The catalogue of the requirement, by name or file, if its number is in several.
    """
    from clerestory.stages.govern.statements import withdraw
    from clerestory.store import open_store

    found = _items((item, *items), catalogue)
    withdrawn = withdraw(open_store(common.home), found, why, who=who)
    lines = [f"✓ the statement of {each.who} about {each.item} no longer counts" for each in withdrawn]
    common.out.result([encode(each) for each in withdrawn], *lines)


def statements_(*, catalogue: str = "all", common: Common = PLAIN) -> None:
    """List the statements of people, with author, date and expiry.

    Args:
        catalogue: Only those about one catalogue, by name or file.
    """
    from clerestory.apps.governing import catalogues_of
    from clerestory.stages.govern.statements import newest_statements
    from clerestory.store import open_store

    wanted = {each.id for each in catalogues_of(catalogue)} if catalogue != "all" else None
    found = newest_statements(open_store(common.home).journal.records()).values()
    shown = [each for each in found if wanted is None or each.catalogue in wanted]
    table = Table("item", "", "by", "on", "until", "text", box=None)
    for each in shown:
        kind = "does not apply" if each.not_applicable else "stated"
        table.add_row(each.item, kind, each.who, each.when[:10], each.expires, _short(each.text, 120))
    common.out.result([encode(each) for each in shown], table if shown else "nobody has stated anything yet")


def items_(*, catalogue: str = "all", common: Common = PLAIN) -> None:
    """List the requirements of a catalogue, who answers each, and where their text comes from.

    Args:
        catalogue: Its name or file, or all.
    """
    from clerestory.apps.governing import catalogues_of
    from clerestory.stages.govern.catalogue import KIND_TEXTS

    found = catalogues_of(catalogue)
    lines: list[str | Table | Text] = []
    for each in found:
        table = Table("item", "answered by", "requirement", "verifiers", box=None)
        for item in each.items:
            table.add_row(item.id, KIND_TEXTS[item.kind], item.label, ", ".join(item.verifiers))
        lines += [Text(f"{each.name}, edition {each.edition}: {plural(len(each.items), 'item')}", "bold")]
        lines += [f"source: {each.source}; licence of the text: {each.licence}", table]
    common.out.result([encode(each) for each in found], *lines)


def diff_(old: str, new: str, /, *, common: Common = PLAIN) -> int:
    """Compare two editions of a catalogue: what the new one adds, changes, removes, and what nobody has answered.

    Exit code 1 when the new edition has requirements that nobody has answered.

    Args:
        old: The edition before, by name or file.
        new: The new edition.
    """
    from clerestory.apps.governing import catalogue_of
    from clerestory.stages.govern.editions import compare_editions
    from clerestory.stages.govern.statements import newest_statements
    from clerestory.store import open_store

    before, after = catalogue_of(old), catalogue_of(new)
    statements = newest_statements(open_store(common.home).journal.records())
    result = compare_editions(before, after, statements)
    lines: list[str | Text] = [
        f"{before.name}, edition {before.edition} → {after.edition}: {len(result.added)} added, "
        f"{len(result.changed)} changed, {len(result.removed)} removed, {result.same} the same"
    ]
    lines += [Text(f"+ {item.id}  {item.label}", "green") for item in result.added]
    lines += [Text(f"~ {each.id}  {', '.join(each.fields)}", "yellow") for each in result.changed]
    lines += [Text(f"- {item.id}  {item.label}", "red") for item in result.removed]
    if result.unanswered:
        lines.append(f"nobody has answered yet: {', '.join(result.unanswered)}")
    data = {
        "old": before.id,
        "new": after.id,
        "added": [encode(item) for item in result.added],
        "changed": [{"id": each.id, "fields": list(each.fields), "old": encode(each.old), "new": encode(each.new)}
                    for each in result.changed],
        "removed": [encode(item) for item in result.removed],
        "same": result.same,
        "unanswered": list(result.unanswered),
    }  # fmt: skip
    common.out.result(data, *lines)
    return 1 if result.unanswered else 0


def _items(names: tuple[str, ...], catalogue: str) -> list[tuple[Catalogue, Item]]:
    from clerestory.apps.governing import catalogues_of
    from clerestory.stages.govern.catalogue import find_item

    catalogues = catalogues_of(catalogue)
    found = [find_item(name, catalogues) for name in names]
    return list({(each.id, item.id): (each, item) for each, item in found}.values())


def _lines(result: Governance, every: bool) -> list[str | Table | Text]:
    from clerestory.stages.govern.run import DISCLAIMER
    from clerestory.stages.govern.states import STATE_TEXTS, ItemState

    table = Table("framework", *STATE_TEXTS.values(), "of", box=None)
    for column in table.columns[1:]:
        column.justify = "right"
    for each in result.catalogues:
        counts = result.counts(each.id)
        cells = [Text(str(counts[state]), STYLES[state.value] if counts[state] else "dim") for state in STATE_TEXTS]
        table.add_row(f"{each.name} ({each.edition})", *cells, str(len(each.items)))
    lines: list[str | Table | Text] = [f"{result.release.ref}: {DISCLAIMER}", table]
    stated = sum(answer.basis == "stated" for answer in result.answers)
    if stated:
        lines.append(f"{stated} of those that passed rest on the statement of a person alone")
    attention = (ItemState.FAILED, ItemState.STALE)
    alike: dict[tuple[ItemState, str], list[str]] = {}
    for answer in result.answers:
        if every or answer.state in attention:
            key = (answer.state, f"{answer.item}: {answer.message}" if every else answer.message)
            alike.setdefault(key, []).append(answer.item)
    shown = [(*key, some) for state in STATE_TEXTS for key, some in alike.items() if key[0] is state]
    limit = len(shown) if every else MAX_LINES
    lines += [_answer_line(state, message, () if every else some) for state, message, some in shown[:limit]]
    if len(shown) > limit:
        lines.append(f"{len(shown) - limit} more: add --items, or --report govern.html")
    lines += _step_lines(result)
    return lines + _change_lines(result.changes)


def _answer_line(state: ItemState, message: str, items: Sequence[str]) -> Text:
    from clerestory.stages.govern.states import STATE_TEXTS

    named = ", ".join(items[:MAX_NAMED]) + (f" and {len(items) - MAX_NAMED} more" if len(items) > MAX_NAMED else "")
    label = f"{STATE_TEXTS[state]:<14} "
    return Text.assemble((label, STYLES[state.value]), _short(message, MAX_MESSAGE), (f"  {named}", "dim"))


def _step_lines(result: Governance) -> list[str]:
    if not result.steps:
        return []
    lines = ["cheapest next steps:"]
    for step in result.steps[:MAX_STEPS]:
        time = f"about {duration(step.seconds)}" if step.seconds else "at once"
        lines.append(f"  {step.command}   ({time}, {plural(step.items, 'requirement')})")
    return lines


def _change_lines(changes: GovernanceChanges | None) -> list[str]:
    from clerestory.stages.govern.states import STATE_TEXTS

    if changes is None:
        return []
    since = f"since {changes.since} ({changes.when[:10]})"
    if not changes.items:
        return [f"nothing has changed {since}"]
    lines = [f"{plural(len(changes.items), 'answer')} changed {since}:"]
    shown = changes.items[:MAX_LINES]
    lines += [f"  {each.item}: {STATE_TEXTS[each.before]} → {STATE_TEXTS[each.after]}" for each in shown]
    more = len(changes.items) - MAX_LINES
    return [*lines, f"  and {more} more"] if more > 0 else lines


def _as_json(result: Governance) -> dict[str, Any]:
    from clerestory.stages.govern.run import DISCLAIMER

    return {
        "release": result.release.ref,
        "model": result.release.model,
        "note": DISCLAIMER,
        "evidence": result.evidence.id,
        "catalogues": [
            {
                "id": each.id,
                "name": each.name,
                "edition": each.edition,
                "counts": {state.value: count for state, count in result.counts(each.id).items()},
            }
            for each in result.catalogues
        ],
        "answers": [encode(answer) for answer in result.answers],
        "checks": [encode(check) for check in result.checks.values()],
        "next_steps": [encode(step) for step in result.steps],
        "changes": encode(result.changes) if result.changes else None,
        "findings": [encode(finding) for finding in result.evidence.findings],
    }


def _rows(result: Governance) -> list[dict[str, str]]:
    items = {(each.id, item.id): item for each in result.catalogues for item in each.items}
    rows = []
    for answer in result.answers:
        item, statement = items[answer.catalogue, answer.item], answer.statement
        rows.append(
            {
                "framework": answer.catalogue,
                "item": item.id,
                "requirement": item.title or item.text,
                "kind": item.kind,
                "state": answer.state.value,
                "rests_on": answer.basis,
                "why": answer.message,
                "by": statement.who if statement else "",
                "until": statement.expires if statement else "",
                "next": "; ".join(answer.commands),
            }
        )
    return rows


def _short(text: str, length: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= length else f"{line[: length - 2].rsplit(' ', 1)[0]} …"


GROUP = App(name="govern", help_format="plaintext", help_epilogue="", default_command=govern_)
for _position, (_name, _help) in enumerate(SUBCOMMANDS["govern"].items()):
    GROUP.command(f"{__name__}:{_name.replace('-', '_')}_", name=_name, help=_help, sort_key=_position)
