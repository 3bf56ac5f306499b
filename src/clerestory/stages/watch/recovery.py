"""Incidents whose condition has cleared: noted in their timeline, and resolved after a while if the policy says so.

A check that returns no alert is evidence only where it could have returned one: rates need requests, and a lost server
has to send heartbeats again. What no check returns (drift, rollouts, reports by people) is left to people.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from clerestory.core.codec import Tags
from clerestory.core.errors import Conflict
from clerestory.core.units import duration
from clerestory.stages.watch.incident_policy import IncidentPolicy
from clerestory.store import Store
from clerestory.store.operations.incidents import (
    NOTED,
    SYSTEM,
    AlertKind,
    Incident,
    IncidentChange,
    IncidentState,
    change_incident,
    incidents,
    transition,
)
from clerestory.store.operations.predictions import PredictionFilter, list_predictions
from clerestory.store.operations.servers import list_servers

CLEARED_SINCE = "cleared_since"  # the key in the details of the note
QUIET_S = 120.0  # without an alert; a server counts an alert that goes on once a minute
MAX_REQUESTS = 2_000  # of the window, the newest
ALWAYS_JUDGED = (AlertKind.INTEGRITY, AlertKind.MODEL_LOAD, AlertKind.OUTBOX, AlertKind.DISK)
OF_REQUESTS = (AlertKind.ERROR_RATE, AlertKind.LATENCY, AlertKind.QUEUE, AlertKind.FEEDBACK)


def cleared_since(incident: Incident) -> float:
    """Since when the condition of an incident no longer holds, in seconds since the epoch; 0 if it holds."""
    for each in reversed(incident.changes):
        if each.kind == NOTED and CLEARED_SINCE in each.details:
            since = float(each.details[CLEARED_SINCE])
            return since if incident.last_seen < since else 0.0
    return 0.0


@dataclass
class RecoveryWatch:
    """Follows the incidents that no check notices any more.

    Args:
        store: holds the incidents.
        policy: says after how many seconds an incident is resolved.
        window_seconds, min_requests: how many requests are enough to judge rates.
        lost_seconds: a server without a heartbeat for longer is lost.
        server: this one, which alone knows how many requests it refused.
    """

    store: Store
    policy: IncidentPolicy
    window_seconds: float
    min_requests: int
    lost_seconds: float
    server: str = ""
    _since: dict[int, float] = field(default_factory=dict)  # when an incident was first not noticed

    def step(self, noticed: Collection[str], now: float) -> None:
        """Take in the result of a check.

        Args:
            noticed: the fingerprints of its alerts.
            now: the time of the check, in seconds since the epoch.
        """
        unresolved = incidents(self.store, unresolved=True)
        gone = [each for each in unresolved if each.fingerprint not in noticed]
        judged = self._judged(gone, now) if gone else []
        before, self._since = self._since, {}
        for each in judged:
            first = before.get(each.number, 0.0)
            self._since[each.number] = first if first > each.last_seen else now  # else another server noticed it
            if now - each.last_seen >= QUIET_S:
                self._follow(each, self._since[each.number], now)

    def _follow(self, incident: Incident, since: float, now: float) -> None:
        noted = cleared_since(incident)
        wait = self.policy.rule(incident).resolve_after
        try:
            if not noted:
                self._note(incident, max(since, incident.last_seen + 0.01), now)
            elif wait and now - noted >= wait:
                why = f"its condition no longer holds for {duration(now - noted)}; {self.policy.name} says so"
                transition(
                    self.store, incident.number, IncidentState.RESOLVED, SYSTEM, why, incident.generation, at=now
                )
        except Conflict:  # another server or a person was first
            return

    def _note(self, incident: Incident, since: float, now: float) -> None:
        words = datetime.fromtimestamp(since, UTC).isoformat(timespec="seconds")
        entry = IncidentChange(
            NOTED, now, SYSTEM, f"its condition no longer holds since {words}", Tags({CLEARED_SINCE: f"{since:.3f}"})
        )

        def change(current: Incident) -> tuple[Incident, IncidentChange]:
            if cleared_since(current) or current.last_seen != incident.last_seen:
                raise Conflict("another server has noted it, or the condition is back", "look at it again")
            return current, entry

        change_incident(self.store, incident.number, change)

    def _judged(self, gone: Sequence[Incident], now: float) -> list[Incident]:
        """Those for which the check would have returned an alert if the condition held."""
        with self.store.database.reading() as connection:
            running = {each.id for each in list_servers(connection) if now - each.seen <= self.lost_seconds}
            requests: dict[str, int] = {}
            if any(each.kind in OF_REQUESTS for each in gone):
                window = PredictionFilter(since=now - self.window_seconds)
                for _, item in list_predictions(connection, window, MAX_REQUESTS):
                    requests[item.name] = requests.get(item.name, 0) + 1
        return [
            each
            for each in gone
            if each.kind in ALWAYS_JUDGED
            or (each.kind is AlertKind.HEARTBEAT and each.subject in running)
            or (each.kind is AlertKind.QUEUE and self.server and each.name == self.server)
            or (each.kind in OF_REQUESTS and requests.get(each.name, 0) >= self.min_requests)
        ]
