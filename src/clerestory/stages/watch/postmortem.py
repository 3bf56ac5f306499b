"""The draft of a postmortem, from the journal and the request log: what happened, when, to how many; no blame.

Times and counts are filled in; what only people know is left as a question.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from clerestory.core.units import duration, plural
from clerestory.stages.watch.incident_policy import IncidentPolicy, RunningClock
from clerestory.store import Store
from clerestory.store.operations.feedback import read_feedback
from clerestory.store.operations.incidents import (
    Incident,
    IncidentChange,
    IncidentState,
    change_kind,
    timeline,
)
from clerestory.store.operations.predictions import PredictionFilter, list_predictions

MAX_PREDICTIONS = 100_000  # that are read for one draft
_PAGE = 2_000
_ENDS = (IncidentState.MITIGATED, IncidentState.RESOLVED)


@dataclass(frozen=True, slots=True)
class Impact:
    """What the request log says about the time of an incident.

    Attributes:
        begun, ended: the time, in seconds since the epoch; from when the problem began, as far as it is known, until it
            was mitigated or resolved, or until now.
        requests: how many requests of the model name were answered.
        failed: how many of them with a status of 500 or above.
        rejected: how many with 429.
        not_finite: how many with an embedding that is not finite or has length zero.
        negative: how many were called wrong by somebody.
        versions: the releases that answered, with their numbers of requests.
        complete: whether all of the log of that time was read.
    """

    begun: float
    ended: float
    requests: int = 0
    failed: int = 0
    rejected: int = 0
    not_finite: int = 0
    negative: int = 0
    versions: tuple[tuple[str, int], ...] = ()
    complete: bool = True


def impact_of(store: Store, incident: Incident, now: float) -> Impact:
    """Count the requests in the time of an incident."""
    ends = [at for state in _ENDS if (at := incident.when(state))]
    begun, ended = incident.begun, min(ends) if ends else now
    wanted = PredictionFilter(name=incident.name, since=begun, until=max(ended, begun + 1e-3))
    failed = rejected = not_finite = negative = requests = 0
    versions: dict[str, int] = {}
    before: int | None = None
    while requests < MAX_PREDICTIONS:
        with store.database.reading() as connection:
            page = list_predictions(connection, wanted, _PAGE, before)
            responses = [item.response for _, item in page]
            said = read_feedback(connection, responses) if responses else []
        negative += len({each.response for each in said if each.is_negative})
        for _, item in page:
            requests += 1
            failed += item.status >= 500
            rejected += item.status == 429
            not_finite += not item.finite
            version = f"{item.name}@{item.number}" if item.number else item.name
            versions[version] = versions.get(version, 0) + 1
        if len(page) < _PAGE:
            break
        before = page[-1][0]
    ranked = tuple(sorted(versions.items(), key=lambda each: -each[1]))
    complete = requests < MAX_PREDICTIONS
    return Impact(begun, ended, requests, failed, rejected, not_finite, negative, ranked, complete)


def draft_postmortem(store: Store, incident: Incident, policy: IncidentPolicy, now: float) -> str:
    """A postmortem in Markdown, to be completed by people.

    Args:
        store: holds the journal and the request log.
        incident: the incident.
        policy: of incidents, for the clocks of reporting duties.
        now: the time, in seconds since the epoch.
    """
    entries = timeline(store, incident.number)
    impact = impact_of(store, incident, now)
    lines = [
        f"# Incident {incident.number}: {incident.title}",
        "",
        f"*Draft, made from the journal and the request log on {_time(now)}. It describes what the system and its "
        "processes did; it looks for causes, not for somebody to blame.*",
        "",
        "| | |",
        "|---|---|",
        *(f"| {name} | {_cell(value)} |" for name, value in _facts(incident)),
        "",
        "## Summary",
        "",
        "<!-- Two sentences for somebody who was not there: what users noticed, and how it ended. -->",
        "",
        "## Impact",
        "",
        *_impact_lines(incident, impact),
        "",
        "## How long it took",
        "",
        "| | after it began |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in response_times(incident)),
        "",
        "## Timeline (UTC)",
        "",
        "| time | event | by | |",
        "|---|---|---|---|",
        *(_timeline_row(each) for each in entries),
        "",
        "## What ended it",
        "",
        *_ending(entries),
        "",
        *_clock_lines(policy.clocks(incident), now),
        "## Questions for people",
        "",
        *(f"- [ ] {question}" for question in _questions(incident, impact)),
        "",
        "## Actions",
        "",
        "| action | owner | until |",
        "|---|---|---|",
        "| | | |",
        "",
    ]
    return "\n".join(lines)


def response_times(incident: Incident) -> list[tuple[str, str]]:
    """How long it took to detect, acknowledge, mitigate and resolve an incident, from when it began."""
    rows = [("detected", _since(incident.begun, incident.opened))]
    for state in (IncidentState.ACKNOWLEDGED, IncidentState.MITIGATED, IncidentState.RESOLVED):
        at = incident.when(state)
        rows.append((state.value, _since(incident.begun, at) if at else "not yet"))
    return rows


def _facts(incident: Incident) -> list[tuple[str, str]]:
    earlier = f"incident {incident.earlier}" if incident.earlier else "none with this fingerprint"
    return [
        ("kind", incident.kind.value.replace("_", " ")),
        ("severity", incident.severity.value),
        ("state", incident.state.value),
        ("model", incident.name or "-"),
        ("subject", incident.subject or "-"),
        ("alerts", str(incident.occurrences)),
        ("began", _time(incident.begun)),
        ("detected", _time(incident.opened)),
        ("earlier incident", earlier),
        *((name, value) for name, value in incident.details.items()),
    ]


def _impact_lines(incident: Incident, impact: Impact) -> list[str]:
    if not impact.requests:
        return [
            f"The request log has no request{f' to {incident.name}' if incident.name else ''} between "
            f"{_time(impact.begun)} and {_time(impact.ended)}: nobody used it, or the log was off or has expired."
        ]
    at_least = "" if impact.complete else "at least "
    versions = ", ".join(f"{name} ({count:,})" for name, count in impact.versions)
    return [
        f"Between {_time(impact.begun)} and {_time(impact.ended)}:",
        "",
        f"- {at_least}{plural(impact.requests, 'request')}, answered by {versions}",
        f"- {impact.failed:,} failed (status 500 and above), {impact.rejected:,} refused because of overload (429)",
        f"- {impact.not_finite:,} with an unusable embedding",
        f"- {impact.negative:,} called wrong by somebody",
    ]


def _timeline_row(entry: IncidentChange) -> str:
    event = entry.kind.removeprefix("incident_").replace("_", " ")
    details = ", ".join(f"{key}={value}" for key, value in entry.details.items() if not key.startswith("incident."))
    more = _cell(f" ({details})") if details else ""
    return f"| {_time(entry.at)} | {event} | {_cell(entry.who)} | {_cell(entry.why)}{more} |"


def _ending(entries: list[IncidentChange]) -> list[str]:
    kinds = {change_kind(state) for state in (IncidentState.MITIGATING, *_ENDS)}
    found = [f"- {_time(each.at)}, {_cell(each.who)}: {_cell(each.why)}" for each in entries if each.kind in kinds]
    return found or ["Nothing in the journal yet."]


def _clock_lines(clocks: list[RunningClock], now: float) -> list[str]:
    if not clocks:
        return []
    rows = [f"| {_cell(each.duty.title)} | {_time(each.due)} | {clock_words(each, now)} |" for each in clocks]
    return [
        "## Reporting duties",
        "",
        "Not legal advice.",
        "",
        "| duty | due | |",
        "|---|---|---|",
        *rows,
        "",
    ]


def clock_words(clock: RunningClock, now: float) -> str:
    """Where a reporting duty stands."""
    if clock.done:
        late = clock.done - clock.due
        return f"reported {duration(late)} late" if late > 0 else "reported in time"
    left = clock.left_s(now)
    return f"{duration(left)} left" if left >= 0 else f"overdue by {duration(-left)}"


def _questions(incident: Incident, impact: Impact) -> list[str]:
    questions = [
        "What did users notice, and how did they find out?",
        "Which change or event began it? Which conditions made it possible?",
        "Why was it not detected earlier? Which check would have caught it before the release?",
        "What went well, and what was luck?",
    ]
    if not incident.when(IncidentState.ACKNOWLEDGED):
        questions.append("Nobody acknowledged it: did the notification reach somebody?")
    if impact.negative or incident.kind.value in ("feedback", "reported", "drift"):
        questions.append(
            f"Which failure cases become permanent? clerestory watch incidents add-case {incident.number} "
            "--image FILE --expected LABEL"
        )
    if incident.earlier:
        questions.append(f"It happened before (incident {incident.earlier}): which action was meant to prevent it?")
    questions.append("Does somebody have to be informed: users, customers, an authority?")
    return questions


def _since(begun: float, at: float) -> str:
    return duration(max(0.0, at - begun))


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _cell(text: str) -> str:
    """A text in a cell of a table."""
    return text.replace("|", "\\|").replace("<", "&lt;")
