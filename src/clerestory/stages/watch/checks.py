"""Checks of a store in service, each of which returns what is wrong now: alerts, from which incidents are opened.

They read what every server writes (request log, heartbeats, outbox), so each server sees the problems of all of them;
alerts with the same fingerprint are one incident, whoever notices first.
"""

from __future__ import annotations

import logging
import math
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Annotated

from sqlalchemy import Connection

from clerestory.core.codec import Tags
from clerestory.core.errors import ClerestoryError
from clerestory.core.settings import Range, check_settings
from clerestory.core.units import duration, memory, plural
from clerestory.stages.watch.incident_policy import IncidentPolicy
from clerestory.stages.watch.recovery import RecoveryWatch
from clerestory.store import Store
from clerestory.store.operations.feedback import Feedback, FeedbackKind, list_feedback
from clerestory.store.operations.incidents import Alert, AlertKind, IncidentSeverity, open_or_update
from clerestory.store.operations.outbox import oldest_waiting
from clerestory.store.operations.prediction import Arm, Prediction
from clerestory.store.operations.predictions import PredictionFilter, list_predictions
from clerestory.store.operations.servers import FORGET_SECONDS, list_servers

LOG = logging.getLogger("clerestory.watch")
MAX_PREDICTIONS = 2_000  # of one check, the newest
REPEAT_S = 60.0  # an alert that goes on is counted once a minute
LEVEL = 0.999  # of the lower bound that has to exceed a limit, since it is looked at again and again

Share = Annotated[float, Range(0, 1)]


@dataclass(frozen=True, slots=True)
class IncidentConfig:
    """What opens an incident, besides what releases and drift monitors report.

    Attributes:
        checks: whether this server checks the store.
        every_seconds: the pause between two checks.
        window_seconds: the requests of this long are judged.
        min_requests: fewer requests in the window are not judged.
        max_failed: the share of requests with a status of 500 or above that is accepted.
        slow_seconds: a request that takes longer is slow.
        max_slow: the share of slow requests that is accepted.
        max_refused: the share of requests refused because the queue is full (429) that is accepted.
        min_feedback: fewer thumbs and verdicts in the window are not judged.
        max_negative: the share of negative ones that is accepted.
        min_free_bytes: less free space on the disk of the store is an incident.
        lost_seconds: a server without a heartbeat for longer is lost.
        outbox_seconds: a notification that waits for longer is an incident.
    """

    checks: bool = True
    every_seconds: Annotated[float, Range(0.1, 3_600)] = 5.0
    window_seconds: Annotated[float, Range(1, 86_400)] = 300.0
    min_requests: Annotated[int, Range(1)] = 50
    max_failed: Share = 0.01
    slow_seconds: Annotated[float, Range(0.001, 3_600)] = 2.0
    max_slow: Share = 0.05
    max_refused: Share = 0.10
    min_feedback: Annotated[int, Range(1)] = 20
    max_negative: Share = 0.30
    min_free_bytes: Annotated[int, Range(0)] = 500_000_000
    lost_seconds: Annotated[float, Range(1, 3_600)] = 15.0
    outbox_seconds: Annotated[float, Range(1, 86_400)] = 600.0

    def __post_init__(self) -> None:
        check_settings(self)


def check_store(store: Store, config: IncidentConfig, now: float) -> list[Alert]:
    """Everything that is wrong with a store in service at a time."""
    store.database.ensure_operations()
    with store.database.reading() as connection:
        servers = list_servers(connection)
        alerts = _lost_servers(connection, config, now)
        alerts += [alert for each in servers if (alert := _load_problem(each.name, each.live, each.problem))]
        alerts += _outbox(connection, config, now)
        wanted = PredictionFilter(since=now - config.window_seconds)
        requests = [item for _, item in list_predictions(connection, wanted, MAX_PREDICTIONS)]
        said = list_feedback(connection, now - config.window_seconds, MAX_PREDICTIONS)
    alerts += _requests(requests, config)
    alerts += _feedback(requests, said, config)
    for name in sorted({each.name for each in servers if each.name}):
        alerts += integrity_alerts(store, name)
    return alerts + _disk(store, config)


def integrity_alerts(store: Store, name: str) -> list[Alert]:
    """An alert if a release or an alias of a model name is not what the journal says."""
    findings = store.verify_registry(name)
    if not findings:
        return []
    first = findings[0]
    details = Tags(finding=first.code, where=first.where, findings=str(len(findings)))
    title = f"{name} was changed outside Clerestory: {first.message}"
    return [Alert(AlertKind.INTEGRITY, title, name, name, IncidentSeverity.CRITICAL, details)]


def lower_bound(bad: int, total: int) -> float:
    """The lower bound of a share, one-sided, at ``LEVEL`` (Wilson 1927); in plain Python: a server may lack scipy."""
    if not bad:
        return 0.0
    z = NormalDist().inv_cdf(LEVEL)
    share, square = bad / total, z * z
    spread = z * math.sqrt(share * (1 - share) / total + square / (4 * total * total))
    return max(0.0, (share + square / (2 * total) - spread) / (1 + square / total))


def _requests(requests: list[Prediction], config: IncidentConfig) -> list[Alert]:
    groups: dict[tuple[str, int], list[Prediction]] = {}
    for item in requests:
        if item.arm is not Arm.SHADOW:
            groups.setdefault((item.name, item.number), []).append(item)
    alerts = []
    for (name, number), items in groups.items():
        if len(items) < config.min_requests:
            continue
        release = f"{name}@{number}" if number else name
        failed = [item for item in items if item.status >= 500 or not item.finite]
        refused = [item for item in items if item.status == 429]
        slow = [item for item in items if item.latency_s > config.slow_seconds]
        checks = (
            (AlertKind.ERROR_RATE, failed, config.max_failed, "failed", IncidentSeverity.CRITICAL),
            (AlertKind.QUEUE, refused, config.max_refused, "were refused: the queue is full", IncidentSeverity.ERROR),
            (AlertKind.LATENCY, slow, config.max_slow, f"took over {config.slow_seconds:g} s", IncidentSeverity.ERROR),
        )
        for kind, bad, limit, words, severity in checks:
            if lower_bound(len(bad), len(items)) > limit:
                title = (
                    f"{len(bad):,} of {plural(len(items), 'request')} to {release} {words}; accepted are {limit:.0%}"
                )
                details = Tags(bad=str(len(bad)), requests=str(len(items)), limit=f"{limit:g}", release=release)
                begun = min(item.at for item in bad)
                alerts.append(Alert(kind, title, name, release, severity, details, begun=begun))
    return alerts


def _feedback(requests: list[Prediction], said: list[Feedback], config: IncidentConfig) -> list[Alert]:
    of = {item.response: item for item in requests}
    groups: dict[tuple[str, int], dict[str, bool]] = {}
    for each in said:
        item = of.get(each.response)
        if item is not None and each.kind in (FeedbackKind.THUMBS, FeedbackKind.VERDICT):
            groups.setdefault((item.name, item.number), {})[each.response] = each.is_negative
    alerts = []
    for (name, number), judged in groups.items():
        bad = sum(judged.values())
        if len(judged) < config.min_feedback or lower_bound(bad, len(judged)) <= config.max_negative:
            continue
        release = f"{name}@{number}" if number else name
        title = f"{bad:,} of {len(judged):,} judged answers of {release} are called wrong"
        details = Tags(bad=str(bad), judged=str(len(judged)), limit=f"{config.max_negative:g}", release=release)
        begun = min(of[response].at for response, is_bad in judged.items() if is_bad)
        alerts.append(Alert(AlertKind.FEEDBACK, title, name, release, details=details, begun=begun))
    return alerts


def _lost_servers(connection: Connection, config: IncidentConfig, now: float) -> list[Alert]:
    alerts = []
    for each in list_servers(connection):
        silent = now - each.seen
        if not config.lost_seconds < silent < FORGET_SECONDS:
            continue
        title = f"a server of {each.name} on {each.host or 'an unknown host'} sends no heartbeat"
        details = Tags(server=each.id, process=str(each.process), served=each.served, silent=duration(silent))
        alerts.append(Alert(AlertKind.HEARTBEAT, title, each.name, each.id, details=details, begun=each.seen))
    return alerts


def _load_problem(name: str, live: str, problem: str) -> Alert | None:
    if not problem:
        return None
    title = f"{live or name} is not served: {problem}"
    return Alert(AlertKind.MODEL_LOAD, title, name, live, details=Tags(problem=problem))


def _outbox(connection: Connection, config: IncidentConfig, now: float) -> list[Alert]:
    count, since = oldest_waiting(connection)
    if not count or now - since <= config.outbox_seconds:
        return []
    title = f"{plural(count, 'notification')} wait, the oldest for {duration(now - since)}"
    return [Alert(AlertKind.OUTBOX, title, subject="outbox", details=Tags(waiting=str(count)), begun=since)]


def _disk(store: Store, config: IncidentConfig) -> list[Alert]:
    free = shutil.disk_usage(store.files).free
    if free >= config.min_free_bytes:
        return []
    title = f"the disk of the store has {memory(free / 2**20)} left"
    details = Tags(free_bytes=str(free), limit=str(config.min_free_bytes))
    return [Alert(AlertKind.DISK, title, subject="disk", severity=IncidentSeverity.CRITICAL, details=details)]


@dataclass
class StoreChecks:
    """Runs the checks of a store in a thread of its own.

    Attributes:
        store: the store.
        config: what is checked, and the limits.
        clock: the time in seconds since the epoch.
        refused: how many requests this server has received, and how many of them it refused because its queue is full;
            these are not in the request log. None where no server runs.
        server: what the alerts of ``refused`` are about.
        policy: says when incidents whose condition no longer holds are resolved; never if None.
    """

    store: Store
    config: IncidentConfig
    clock: Callable[[], float] = time.time
    refused: Callable[[], tuple[int, int]] | None = None
    server: str = ""
    policy: IncidentPolicy | None = None
    _counts: deque[tuple[float, int, int]] = field(default_factory=deque)
    _seen: dict[str, float] = field(default_factory=dict)
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    _recovery: RecoveryWatch = field(init=False)

    def __post_init__(self) -> None:
        config, policy = self.config, self.policy or IncidentPolicy()
        self._recovery = RecoveryWatch(
            self.store, policy, config.window_seconds, config.min_requests, config.lost_seconds, self.server
        )

    def start(self) -> None:
        """Begin to check; nothing without ``checks``."""
        if self.config.checks:
            self._thread = threading.Thread(target=self._loop, name="incident-checks", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Stop, after the check that runs."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(5.0)

    def once(self) -> list[Alert]:
        """Check now; opens or updates an incident for each alert, unless it did less than a minute ago.

        What no alert is about any more is noted in its incident.
        """
        at = self.clock()
        alerts = check_store(self.store, self.config, at) + self._overload()
        for alert in alerts:
            last = self._seen.get(alert.fingerprint)
            if last is None or time.monotonic() - last >= REPEAT_S:
                self._seen[alert.fingerprint] = time.monotonic()
                open_or_update(self.store, alert)
        self._recovery.step({alert.fingerprint for alert in alerts}, at)
        return alerts

    def _overload(self) -> list[Alert]:
        """An alert if this server refused too large a share of the requests in the window."""
        if self.refused is None:
            return []
        now = time.monotonic()
        self._counts.append((now, *self.refused()))
        while self._counts[0][0] < now - self.config.window_seconds:
            self._counts.popleft()
        (_, total_before, bad_before), (_, total_now, bad_now) = self._counts[0], self._counts[-1]
        total, bad = total_now - total_before, bad_now - bad_before
        if total < self.config.min_requests or lower_bound(min(bad, total), total) <= self.config.max_refused:
            return []
        title = f"{bad:,} of {plural(total, 'request')} were refused: the queue is full"
        details = Tags(bad=str(bad), requests=str(total), limit=f"{self.config.max_refused:g}")
        return [Alert(AlertKind.QUEUE, title, self.server, details=details)]

    def _loop(self) -> None:
        while not self._stop.wait(self.config.every_seconds):
            try:
                self.once()
            except ClerestoryError as error:  # a full disk: the incident is opened as soon as it can be written
                LOG.warning("the checks of the store failed: %s", error.message)
            except Exception:
                LOG.exception("an unexpected error of the checks of the store")
