"""The policy of incidents: what is how bad, who is notified, what the system may do by itself, and reporting duties."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal

from clerestory.core.codec import decode
from clerestory.core.errors import ConfigError, SettingError, not_found
from clerestory.core.files import read_problem
from clerestory.core.settings import Range, check_settings
from clerestory.stages.watch.notify.config import SeverityName
from clerestory.store.operations.incidents import AlertKind, Incident

POLICY_FILE = "incidents.toml"
DONE = ".done"
_RUNBOOK = re.compile(r"[a-z0-9][a-z0-9-]{0,60}")


@dataclass(frozen=True, slots=True)
class IncidentRule:
    """What to do about the alerts of one kind; the first rule that matches an incident applies.

    Attributes:
        kind: of the alert, such as drift; ``*`` for every kind.
        name: of the model; may contain ``*``.
        subject: of the alert, such as style=openmoji; may contain ``*``.
        severity: how bad it is; as the alert says if empty.
        runbook: the name of its runbook, a Markdown file in the folder runbooks beside this file, or an included one.
        notify: the channels that are notified; all that accept the incident if empty.
        action: rollback makes the previous release live again, if the incident concerns the live one.
        resolve_after: seconds after which an incident whose condition no longer holds is resolved; 0: a person does it.
    """

    kind: str = "*"
    name: str = "*"
    subject: str = "*"
    severity: SeverityName | Literal[""] = ""
    runbook: str = ""
    notify: tuple[str, ...] = ()
    action: Literal["", "rollback"] = ""
    resolve_after: Annotated[float, Range(0)] = 0.0

    def __post_init__(self) -> None:
        check_settings(self)
        known = [kind.value for kind in AlertKind]
        if self.kind != "*" and self.kind not in known:
            raise SettingError("kind", f"is {self.kind!r}", f"the kinds are {', '.join(known)}, or *")
        if self.runbook and not _RUNBOOK.fullmatch(self.runbook):
            raise SettingError("runbook", f"is {self.runbook!r}", "give the name of the file without folder and .md")

    def matches(self, incident: Incident) -> bool:
        """Whether the rule is for an incident."""
        return (
            self.kind in ("*", incident.kind.value)
            and fnmatchcase(incident.name, self.name)
            and fnmatchcase(incident.subject, self.subject)
        )


@dataclass(frozen=True, slots=True)
class ReportingDuty:
    """A time within which somebody has to be informed. Not legal advice: whether it applies is for people to decide.

    Attributes:
        name: names it on the command line, such as gdpr-33.
        title: the duty in a few words.
        hours: how long after the start the report is due.
        source: where it is written.
        starts: what starts it, in words.
    """

    name: str
    title: str
    hours: Annotated[float, Range(0, exclusive_minimum=True)]
    source: str = ""
    starts: str = ""

    def __post_init__(self) -> None:
        check_settings(self)
        if not _RUNBOOK.fullmatch(self.name):
            raise SettingError("name", f"is {self.name!r}", "use small letters, digits and hyphens")


@dataclass(frozen=True, slots=True)
class RunningClock:
    """A reporting duty of one incident.

    Attributes:
        duty: the duty.
        started, due: seconds since the epoch.
        done: when it was fulfilled; 0 if it was not.
    """

    duty: ReportingDuty
    started: float
    due: float
    done: float

    def left_s(self, at: float) -> float:
        """The seconds that are left at a time; negative when it is overdue, 0 when it was fulfilled."""
        return 0.0 if self.done else self.due - at


@dataclass(frozen=True, slots=True)
class IncidentPolicy:
    """The policy of incidents.

    Attributes:
        name: for people.
        on: the rules, the first that matches applies.
        duty: the reporting duties that can be started for an incident.
        version: raised with every change.
    """

    name: str = "incidents"
    on: tuple[IncidentRule, ...] = ()
    duty: tuple[ReportingDuty, ...] = ()
    version: Annotated[int, Range(1)] = 1

    def __post_init__(self) -> None:
        check_settings(self)
        counts = Counter(duty.name for duty in self.duty)
        if twice := [name for name, count in counts.items() if count > 1]:
            raise SettingError("duty", f"has {twice[0]!r} twice", "give each a name of its own")

    def rule(self, incident: Incident) -> IncidentRule:
        """The rule that applies to an incident; one without effect if none matches."""
        return next((rule for rule in self.on if rule.matches(incident)), IncidentRule())

    def reporting_duty(self, name: str) -> ReportingDuty:
        """A duty by its name.

        Raises:
            NotFound: the policy has no such duty.
        """
        duties = {duty.name: duty for duty in self.duty}
        if name not in duties:
            raise not_found("reporting duty", name, duties)
        return duties[name]

    def clocks(self, incident: Incident) -> list[RunningClock]:
        """The duties that were started for an incident, the first due first."""
        duties = {duty.name: duty for duty in self.duty}
        running = []
        for name, started in incident.clocks.items():
            if name.endswith(DONE):
                continue
            # A duty that was removed from the policy meanwhile is shown all the same.
            duty = duties.get(name) or ReportingDuty(name, f"{name} (not in the policy any more)", 1)
            begin = datetime.fromisoformat(started).timestamp()
            done = incident.clocks.get(name + DONE, "")
            ended = datetime.fromisoformat(done).timestamp() if done else 0.0
            running.append(RunningClock(duty, begin, begin + duty.hours * 3600, ended))
        return sorted(running, key=lambda clock: clock.due)


def load_incident_policy(path: Path | None = None) -> IncidentPolicy:
    """Read a policy of incidents; the included one if ``path`` is None.

    Raises:
        ConfigError: the file cannot be read, is not TOML, or has an unknown key or an invalid value; names the place.
    """
    source = path if path is not None else files(__package__).joinpath("incident_policy.toml")
    try:
        data = tomllib.loads(source.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {read_problem(error)}", "name a TOML file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}", "correct the file") from error
    return decode(IncidentPolicy, data, str(path or "incident_policy.toml"))


def policy_in(home: Path) -> tuple[IncidentPolicy, Path | None]:
    """The policy ``incidents.toml`` in a folder, else the included one; and the folder of its runbooks."""
    file = home / POLICY_FILE
    return (load_incident_policy(file), home / "runbooks") if file.is_file() else (load_incident_policy(), None)


def runbook(name: str, folder: Path | None = None) -> str:
    """A runbook as Markdown: the one in the folder beside the policy, else the included one; empty if there is none."""
    if not _RUNBOOK.fullmatch(name):
        return ""
    if folder is not None and (own := folder / f"{name}.md").is_file():
        return own.read_text(encoding="utf-8", errors="replace")
    included = files(__package__).joinpath("runbooks", f"{name}.md")
    return included.read_text(encoding="utf-8") if included.is_file() else ""
