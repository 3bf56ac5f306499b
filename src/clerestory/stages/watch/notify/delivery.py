"""Delivery of what waits in the outbox: routed by the policy, one thread for each channel, tried until it succeeds.

A channel that hangs or answers 500 for an hour holds up only itself. Several servers may deliver from one store: a row
is claimed by compare-and-swap. A process that is killed while it sends leaves a claim that runs out, and the row is
sent again with the same key (at least once).
"""

from __future__ import annotations

import logging
import random
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from sqlalchemy import Connection

from clerestory.core.codec import Tags
from clerestory.core.errors import ClerestoryError, NotFound
from clerestory.stages.watch.incident_policy import IncidentPolicy
from clerestory.stages.watch.notify.config import NotifyChannel
from clerestory.stages.watch.notify.senders import DeliveryError, send
from clerestory.store import Store
from clerestory.store.operations.incidents import (
    NOTED,
    SYSTEM,
    Incident,
    IncidentChange,
    IncidentSeverity,
    change_incident,
    read_incident,
)
from clerestory.store.operations.outbox import (
    ALL_CHANNELS,
    MAX_RETRY_S,
    OutboxRow,
    OutboxState,
    claim,
    enqueue,
    finish,
    mute,
    outbox_rows,
    retry,
    unmute,
)
from clerestory.store.operations.release_notices import RELEASE_NOTICE
from clerestory.store.operations.silences import read_silences

LOG = logging.getLogger("clerestory.watch")
POLL_S = 0.5
FIRST_RETRY_S = 2.0
ROUTED = "incident_routed"


@dataclass
class Deliverer:
    """Routes and delivers the notifications of one store.

    Attributes:
        store: holds the outbox.
        channels: where notifications go.
        policy: severity, runbook and channels of an incident.
        act: called once for an incident whose rule has an action, after it was routed; it must be safe to call again.
        wait: the pause before the next attempt, by the number of attempts so far.
    """

    store: Store
    channels: Sequence[NotifyChannel]
    policy: IncidentPolicy
    act: Callable[[Incident, str], None] | None = None
    wait: Callable[[int], float] = field(default_factory=lambda: backoff)
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        """Begin to deliver, in threads of its own."""
        jobs: list[tuple[str, Callable[[], bool]]] = [("route", self.route)]
        jobs += [(channel.name, partial(self.deliver, channel)) for channel in self.channels]
        for name, job in jobs:
            thread = threading.Thread(target=self._loop, args=(job,), name=f"notify-{name}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def close(self, wait_s: float = 2.0) -> None:
        """Stop; an attempt that hangs is left to its end, and its row is delivered by whoever comes next."""
        self._stop.set()
        until = time.monotonic() + wait_s
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        self._threads.clear()

    def once(self) -> tuple[int, int]:
        """Route and deliver everything that is due, each row once; returns how many were delivered, and failed."""
        self.store.database.ensure_operations()
        while self.route():
            pass
        delivered = failed = 0
        for channel in self.channels:
            while (row := self._claim(channel.name)) is not None:
                if self._attempt(channel, row):
                    delivered += 1
                else:
                    failed += 1
        return delivered, failed

    def route(self) -> bool:
        """Apply the policy to one notification and queue it for each of its channels; False if none waits."""
        self._unmute()
        row = self._claim(ALL_CHANNELS)
        if row is None:
            return False
        if row.payload["event"] == RELEASE_NOTICE:
            self._route_notice(row)
            return True
        action, incident = "", None
        with self.store.database.writing() as connection:
            try:
                incident = read_incident(connection, int(row.payload["incident"]))
            except NotFound:  # of another store: the database was restored
                finish(connection, row, OutboxState.DROPPED, "there is no such incident any more")
                return True
            if not incident.routed:
                incident = self._apply_policy(connection, incident)
                action = self.policy.rule(incident).action
            now = time.time()
            silence = next((each for each in read_silences(connection, now) if each.mutes(incident, now)), None)
            if silence is not None:
                mute(connection, row, f"silenced by {silence.who}: {silence.why}")
            else:
                self._fan_out(connection, row, incident)
        if action and self.act is not None:
            self._act(incident, action)
        return True

    def deliver(self, channel: NotifyChannel) -> bool:
        """Attempt the next notification of a channel that is due; False if there is none."""
        row = self._claim(channel.name)
        if row is None:
            return False
        self._attempt(channel, row)
        return True

    def _claim(self, channel: str) -> OutboxRow | None:
        return claim(self.store.database, channel, secrets.token_hex(16))

    def _attempt(self, channel: NotifyChannel, row: OutboxRow) -> bool:
        try:
            send(channel, row.key, row.payload)
        except ClerestoryError as error:
            pause = self.wait(row.attempts)
            if isinstance(error, DeliveryError):
                pause = max(pause, min(error.retry_after_s, MAX_RETRY_S))
            LOG.warning("%s: %s (attempt %d, again in %.0f s)", channel.name, error.message, row.attempts, pause)
            with self.store.database.writing() as connection:
                retry(connection, row, pause, error.message)
            return False
        with self.store.database.writing() as connection:
            finish(connection, row, OutboxState.DELIVERED)
        return True

    def _apply_policy(self, connection: Connection, incident: Incident) -> Incident:
        rule = self.policy.rule(incident)
        severity = IncidentSeverity(rule.severity) if rule.severity else incident.severity

        def change(current: Incident) -> tuple[Incident, IncidentChange]:
            details = Tags(
                policy=f"{self.policy.name} version {self.policy.version}",
                severity=severity.value,
                runbook=rule.runbook,
                action=rule.action,
            )
            entry = IncidentChange(ROUTED, max(time.time(), current.updated), SYSTEM, "the policy applies", details)
            return replace(current, severity=severity, runbook=rule.runbook, routed=True), entry

        return change_incident(self.store, incident.number, change, connection=connection)

    def _fan_out(self, connection: Connection, row: OutboxRow, incident: Incident) -> None:
        wanted = self.policy.rule(incident).notify
        payload = {**row.payload, "severity": incident.severity.value, "runbook": incident.runbook}
        for channel in self.channels:
            if channel.accepts(incident) and (not wanted or channel.name in wanted):
                enqueue(connection, f"{row.key}/{channel.name}", channel.name, payload, row.stream)
        finish(connection, row, OutboxState.ROUTED)

    def _route_notice(self, row: OutboxRow) -> None:
        """Queue the notice of a release for the channels that want it; silences are of incidents only."""
        with self.store.database.writing() as connection:
            for channel in self.channels:
                if channel.accepts_release(row.payload["kind"], row.payload["name"]):
                    enqueue(connection, f"{row.key}/{channel.name}", channel.name, row.payload, row.stream)
            finish(connection, row, OutboxState.ROUTED)

    def _unmute(self) -> None:
        """Let go what a silence had muted, when none mutes it any more; not where the incident is over meanwhile."""
        with self.store.database.reading() as connection:
            muted = outbox_rows(connection, OutboxState.MUTED)
        if not muted:
            return
        with self.store.database.writing() as connection:
            now = time.time()
            lasting = read_silences(connection, now)
            unheard = {row.stream for row in muted if row.payload["event"] == "trigger"}
            free: list[int] = []
            over: list[int] = []
            for row in muted:
                incident = read_incident(connection, int(row.payload["incident"]))
                if any(each.mutes(incident, now) for each in lasting):
                    continue
                # Nobody heard of it, and it is over: there is nothing to say.
                (over if incident.is_resolved and row.stream in unheard else free).append(row.position)
            unmute(connection, free)
            unmute(connection, over, OutboxState.DROPPED)

    def _act(self, incident: Incident, action: str) -> None:
        assert self.act is not None
        try:
            self.act(incident, action)
        except ClerestoryError as error:
            LOG.error("the action %s of incident %d failed: %s", action, incident.number, error.message)
            reason = f"the action {action} failed: {error.message}"
            entry = IncidentChange(NOTED, time.time(), SYSTEM, reason)
            change_incident(self.store, incident.number, lambda current: (current, entry), "update")

    def _loop(self, job: Callable[[], bool]) -> None:
        while not self._stop.is_set():
            try:
                self.store.database.ensure_operations()
                busy = job()
            except ClerestoryError as error:  # a full disk, a locked database: the row is there when it is over
                LOG.warning("notifications wait: %s", error.message)
                self._stop.wait(5.0)
                continue
            except Exception:
                LOG.exception("an unexpected error of a notification; it is tried again")
                self._stop.wait(5.0)
                continue
            if not busy:
                self._stop.wait(POLL_S)


def backoff(attempts: int) -> float:
    """The pause after some failed attempts, in seconds: doubled each time up to 15 minutes, less up to half of it.

    Jitter keeps the servers of one store, and the rows of one channel, from coming at the same moment.
    """
    ceiling = min(FIRST_RETRY_S * 2.0 ** min(attempts - 1, 20), MAX_RETRY_S)
    return ceiling * random.uniform(0.5, 1.0)
