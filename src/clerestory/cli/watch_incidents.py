"""``clerestory watch incidents``: what needs somebody, the steps taken, and the postmortem."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from rich.table import Table
from rich.text import Text

from clerestory.cli.output import PLAIN, Common
from clerestory.core.codec import Tags, encode
from clerestory.core.errors import InputError
from clerestory.core.files import expand_user
from clerestory.core.outputs import check_output, write_output
from clerestory.core.units import duration, plural
from clerestory.store import open_store

if TYPE_CHECKING:
    from clerestory.store.operations.incidents import Incident

STYLES = {
    "open": "bold red",
    "acknowledged": "yellow",
    "mitigating": "yellow",
    "mitigated": "cyan",
    "resolved": "green",
    "postmortem": "green",
}
Force = Annotated[bool, Parameter(negative=())]


def list_(
    *,
    all: Annotated[bool, Parameter(negative=())] = False,
    name: str = "",
    limit: int = 50,
    common: Common = PLAIN,
) -> int:
    """List the incidents that are not resolved, newest first; exit code 1 if there are any.

    Args:
        all: Also those that are resolved.
        name: Only those of this model name.
        limit: Only the newest ones.
    """
    from clerestory.store.operations.incidents import incidents

    found = incidents(open_store(common.home), not all, name, max(1, limit))
    table = Table("", "state", "severity", "opened", "alerts", "model", "title", box=None)
    for each in found:
        state = Text(each.state.value, STYLES[each.state.value])
        age = f"{duration(max(0.0, time.time() - each.opened))} ago"
        table.add_row(
            str(each.number), state, each.severity.value, age, str(each.occurrences), each.name or "-", each.title
        )
    common.out.result(found, *([table] if found else ["no incident is open" if not all else "there is no incident"]))
    if found:
        common.out.next(f"clerestory watch incidents show {found[0].number}")
    return int(any(not each.is_resolved for each in found))


def show_(number: int, /, *, common: Common = PLAIN) -> None:
    """Show one incident: its timeline, the clocks of reporting duties, and the runbook.

    Args:
        number: Of the incident.
    """
    from clerestory.stages.watch.incident_policy import policy_in, runbook
    from clerestory.stages.watch.postmortem import clock_words, response_times
    from clerestory.store.operations.incidents import incident, timeline

    store = open_store(common.home)
    each = incident(store, number)
    policy, folder = policy_in(store.home)
    name = each.runbook or policy.rule(each).runbook
    text, entries, now = runbook(name, folder) if name else "", timeline(store, number), time.time()
    clocks = [(clock, clock_words(clock, now)) for clock in policy.clocks(each)]
    facts = Table(box=None, show_header=False)
    for key, value in _facts(each):
        facts.add_row(key, value)
    for key, value in response_times(each):
        facts.add_row(key, value)
    for clock, words in clocks:
        facts.add_row("clock", f"{clock.duty.title}: {words} ({clock.duty.source}; not legal advice)")
    history = Table("time (UTC)", "event", "by", "why", box=None)
    for entry in entries:
        event = entry.kind.removeprefix("incident_").replace("_", " ")
        history.add_row(_time(entry.at), event, entry.who, entry.why)
    data = {
        **encode(each),
        "timeline": encode(entries),
        "clocks": [{"duty": clock.duty.name, "due": _time(clock.due), "standing": words} for clock, words in clocks],
        "runbook": name,
        "runbook_text": text,
    }
    more: list[str | Text | Table] = ["", f"runbook {name}", "", text] if text else []
    common.out.result(data, f"incident {number}: {each.title}", facts, "", history, *more)


def open_(
    title: str,
    /,
    *,
    name: str = "",
    subject: str = "",
    severity: Literal["critical", "error", "warning", "info"] = "error",
    who: str = "",
    common: Common = PLAIN,
) -> None:
    """Report an incident that no check has noticed.

    Args:
        title: One sentence for whoever is notified.
        name: The model name it concerns.
        subject: The object, such as icons@3.
        severity: How bad it is.
        who: Who reports it (default: $CLERESTORY_WHO or the login name).
    """
    from clerestory.core.people import person_name
    from clerestory.core.provenance import current_user
    from clerestory.store.operations.incidents import Alert, AlertKind, IncidentSeverity, open_or_update

    if not title.strip():
        raise InputError("an incident needs a title", "say in one sentence what happened")
    store = open_store(common.home)
    alert = Alert(AlertKind.REPORTED, title, name, subject, IncidentSeverity(severity), group=title.casefold())
    _show(open_or_update(store, alert, who=person_name(who or current_user())), common)


def acknowledge_(number: int, /, *, why: str, who: str = "", common: Common = PLAIN) -> None:
    """Say that you take care of an incident.

    Args:
        number: Of the incident.
        why: The reason, for the journal.
        who: The person (default: $CLERESTORY_WHO or the login name).
    """
    _transition(number, "acknowledged", why, who, common)


def mitigate_(
    number: int,
    /,
    *,
    why: str,
    who: str = "",
    begin: Annotated[bool, Parameter(negative=())] = False,
    common: Common = PLAIN,
) -> None:
    """Say that users do not suffer from an incident any more.

    Args:
        number: Of the incident.
        why: The reason, for the journal, such as: rolled back to icons@3.
        who: The person (default: $CLERESTORY_WHO or the login name).
        begin: Say that you have begun to mitigate it.
    """
    _transition(number, "mitigating" if begin else "mitigated", why, who, common)


def resolve_(number: int, /, *, why: str, who: str = "", common: Common = PLAIN) -> None:
    """Say that nobody has to act any more.

    Args:
        number: Of the incident.
        why: The reason, for the journal.
        who: The person (default: $CLERESTORY_WHO or the login name).
    """
    _transition(number, "resolved", why, who, common)


def note_(
    number: int,
    why: str,
    /,
    *,
    severity: Literal["critical", "error", "warning", "info", ""] = "",
    who: str = "",
    common: Common = PLAIN,
) -> None:
    """Add a remark to the timeline of an incident.

    Args:
        number: Of the incident.
        why: The remark.
        severity: How bad it is, if that has changed.
        who: The person (default: $CLERESTORY_WHO or the login name).
    """
    from clerestory.store.operations.incidents import IncidentSeverity, note

    store = open_store(common.home)
    _show(note(store, number, why, who, severity=IncidentSeverity(severity) if severity else None), common)


def postmortem_(
    number: int,
    /,
    *,
    out: Path | None = None,
    done: str = "",
    who: str = "",
    force: Force = False,
    common: Common = PLAIN,
) -> None:
    """Draft the postmortem from the journal and the request log, as Markdown; or record the finished one.

    Args:
        number: Of the incident.
        out: Write the draft to this file, such as postmortem.md (default: print it).
        done: Record that the postmortem is finished: where it is, or a summary. The incident must be resolved.
        who: The person (default: $CLERESTORY_WHO or the login name).
        force: Overwrite the file of --out.
    """
    from clerestory.stages.watch.incident_policy import policy_in
    from clerestory.stages.watch.postmortem import draft_postmortem
    from clerestory.store.operations.incidents import incident

    if done:
        _transition(number, "postmortem", done, who, common)
        return
    if out is not None:
        check_output(out, force)
    store = open_store(common.home)
    text = draft_postmortem(store, incident(store, number), policy_in(store.home)[0], time.time())
    if out is None:
        common.out.result({"incident": number, "markdown": text}, text)
        return
    write_output(out, text.encode(), force)
    common.out.result({"incident": number, "file": str(out)}, f"written to {out}")


def clock_(
    number: int,
    duty: str,
    /,
    *,
    why: str,
    who: str = "",
    since: str = "",
    reported: Annotated[bool, Parameter(negative=())] = False,
    common: Common = PLAIN,
) -> None:
    """Start the clock of a reporting duty, or record that the report was made. Not legal advice.

    Args:
        number: Of the incident.
        duty: The name of a duty of the policy, such as gdpr-33.
        why: The reason, for the journal.
        who: The person (default: $CLERESTORY_WHO or the login name).
        since: When the time began, ISO 8601, such as 2027-06-30T09:00 (UTC without a zone; default: now).
        reported: Record that the report was made.
    """
    from clerestory.stages.watch.clocks import fulfil_duty, start_clock
    from clerestory.stages.watch.incident_policy import policy_in
    from clerestory.stages.watch.postmortem import clock_words

    store = open_store(common.home)
    policy, _ = policy_in(store.home)
    chosen = policy.reporting_duty(duty)
    if reported:
        each = fulfil_duty(store, number, chosen, who, why)
    else:
        each = start_clock(store, number, chosen, who, why, since)
    lines = [
        f"{clock.duty.title}: {clock_words(clock, time.time())}, due {_time(clock.due)} UTC"
        for clock in policy.clocks(each)
    ]
    common.out.result(each, *lines, "not legal advice")


def silence_(
    matcher: Annotated[tuple[str, ...], Parameter(negative=())] = (),
    /,
    *,
    hours: float = 4.0,
    why: str = "",
    who: str = "",
    end: str = "",
    common: Common = PLAIN,
) -> None:
    """Mute notifications for some hours; the incidents stay visible. Without arguments, list the silences.

    Args:
        matcher: What is muted, such as kind=drift name=icons, or incident=3.
        hours: How long.
        why: The reason, for the journal.
        who: The person (default: $CLERESTORY_WHO or the login name).
        end: End the silence with this id now.
    """
    from clerestory.store.operations.silences import end_silence, silence, silences

    store = open_store(common.home)
    if end:
        ended = end_silence(store, end, who, why)
        common.out.result(ended, f"silence {ended.id} has ended")
        return
    if matcher:
        pairs = [each.partition("=") for each in matcher]
        if bad := [key for key, sign, value in pairs if not (key and sign and value)]:
            raise InputError(f"{bad[0]!r} is not a condition", "write it as key=value, such as kind=drift")
        silence(store, Tags({key: value for key, _, value in pairs}), hours, who, why)
    found = silences(store)
    table = Table("id", "mutes", "for", "by", "why", box=None)
    for each in found:
        table.add_row(each.id, str(each.matcher), duration(max(0.0, each.until - time.time())), each.who, each.why)
    common.out.result(found, *([table] if found else ["nothing is silenced"]))


def add_case_(
    number: int,
    /,
    *,
    image: Path,
    expected: str,
    instead_of: Annotated[tuple[str, ...], Parameter(negative=())] = (),
    folder: Path | None = None,
    policy: Path | None = None,
    who: str = "",
    common: Common = PLAIN,
) -> None:
    """Make a failure case permanent: from now on the policy of the gate requires it to be answered correctly.

    Args:
        number: Of the incident.
        image: The image that was answered wrongly; it is copied.
        expected: The right label.
        instead_of: The wrong answer, and further labels to tell it from.
        folder: The folder of the task (default: cases in the folder of the store).
        policy: The policy of the gate (default: policy.toml in the folder of the store, made from the included one).
        who: The person (default: $CLERESTORY_WHO or the login name).
    """
    from shlex import quote

    from clerestory.stages.watch.failure_cases import add_case
    from clerestory.store.operations.incidents import incident, note

    store = open_store(common.home)
    incident(store, number)  # what does not exist is named before anything is written
    cases = add_case(
        expand_user(folder) if folder else store.home / "cases",
        expand_user(image),
        expected,
        instead_of,
        number,
        expand_user(policy) if policy else store.home / "policy.toml",
        files("clerestory.stages.release").joinpath("policy.toml").read_text(encoding="utf-8"),
    )
    if cases.added:
        note(store, number, f"a failure case was made permanent: {expected}", who, Tags(image=image.name))
    common.out.result(
        cases,
        f"{'added' if cases.added else 'it is there already'}: {plural(cases.count, 'case')} in {cases.table}",
        f"required by {cases.policy}",
    )
    task = f"--task {quote(str(cases.task))}"
    common.out.next(
        f"clerestory evaluate MODEL {task}, then clerestory release gate MODEL {task} "
        f"--policy {quote(str(cases.policy))}"
    )


def _transition(number: int, state: str, why: str, who: str, common: Common) -> None:
    from clerestory.store.operations.incidents import IncidentState, transition

    _show(transition(open_store(common.home), number, IncidentState(state), who, why), common)


def _show(each: Incident, common: Common) -> None:
    common.out.result(each, f"incident {each.number} is {each.state.value}: {each.title}")
    steps = {"open": "acknowledge", "acknowledged": "mitigate", "mitigating": "mitigate", "mitigated": "resolve"}
    if step := steps.get(each.state.value):
        common.out.next(f"clerestory watch incidents {step} {each.number} --why '...'")
    elif each.state.value == "resolved":
        common.out.next(f"clerestory watch incidents postmortem {each.number} --out postmortem.md")


def _facts(each: Incident) -> list[tuple[str, str]]:
    from clerestory.stages.watch.recovery import cleared_since

    since = 0.0 if each.is_resolved else cleared_since(each)
    return [
        ("state", each.state.value),
        ("severity", each.severity.value),
        ("kind", each.kind.value),
        ("model", each.name or "-"),
        ("subject", each.subject or "-"),
        ("alerts", f"{each.occurrences}, the latest {_time(each.last_seen)}"),
        ("began", _time(each.begun)),
        *([("no longer holds", f"since {_time(since)}")] if since else []),
        *((name, value) for name, value in each.details.items()),
        *([("earlier", f"incident {each.earlier}")] if each.earlier else []),
    ]


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")
