"""``/operations``: whether the service works, on one screen: traffic, versions, servers, queue, incidents."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response

from clerestory.store.operations.incidents import Incident, incidents
from clerestory.store.operations.outbox import oldest_waiting
from clerestory.store.operations.prediction import Prediction
from clerestory.store.operations.predictions import PredictionFilter, list_predictions
from clerestory.store.operations.rollouts import active_rollout
from clerestory.store.operations.servers import ServerStatus, list_servers
from clerestory.web.drift import ServerDriftView, drift_views
from clerestory.web.state import ServerState, server_state
from clerestory.web.views import page

MINUTES = 15
MAX_READ = 20_000  # requests of the figures; with more traffic they are of a shorter time
REFRESH_SECONDS = 10
MAX_ERROR_SHARE = 0.01
MAX_WAITING_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class VersionTraffic:
    """The requests that one version answered.

    Attributes:
        version: such as ``icons@3``.
        arm: stable, candidate or shadow.
        requests, failed: how many, and how many with a status of 500 or above.
        median_ms, p95_ms: the latencies.
    """

    version: str
    arm: str
    requests: int
    failed: int
    median_ms: float
    p95_ms: float


@dataclass(frozen=True, slots=True)
class Traffic:
    """The requests of the last minutes.

    Attributes:
        requests, failed: how many, and how many with a status of 500 or above.
        seconds: the time that they cover.
        versions: the same for each version, the busiest first.
    """

    requests: int
    failed: int
    seconds: float
    versions: tuple[VersionTraffic, ...]

    @property
    def per_second(self) -> float:
        """Requests per second."""
        return self.requests / self.seconds


@dataclass(frozen=True, slots=True)
class Concern:
    """Something that a person should look at; ``link`` leads to it."""

    text: str
    link: str = ""


async def operations_page(request: Request) -> Response:
    """``GET /operations``: the state of the service; with ``refresh=1`` the page loads again by itself."""
    server = server_state(request)
    refreshes = request.query_params.get("refresh", "") == "1"
    context = await asyncio.to_thread(_context, server)
    response = page(request, "operations.html", {**context, "refreshes": refreshes, "refresh_s": REFRESH_SECONDS})
    if refreshes:
        response.headers["refresh"] = str(REFRESH_SECONDS)
    return response


def _context(server: ServerState) -> dict[str, object]:
    store, at = server.store, time.time()
    store.database.ensure_operations()
    with store.database.reading() as connection:
        servers = list_servers(connection)
        rollout = active_rollout(connection, server.name)
        waiting, since = oldest_waiting(connection)
        wanted = PredictionFilter(since=at - 60 * MINUTES)
        recent = [each for _, each in list_predictions(connection, wanted, MAX_READ)]
    running = [each for each in servers if each.is_running(at)]
    open_incidents = incidents(store, unresolved=True, limit=50)
    drift = drift_views(store, server.name)
    traffic = traffic_of(recent, at)
    waits = at - since if waiting else 0.0
    return {
        "concerns": concerns_of(traffic, running, open_incidents, waiting, waits, server.follower.load_error)
        + drift_concerns(drift, running),
        "drift": drift,
        "traffic": traffic,
        "minutes": MINUTES,
        "is_partial": len(recent) == MAX_READ,
        "running": running,
        "stopped": [each for each in servers if not each.is_running(at)],
        "rollout": rollout,
        "incidents": open_incidents[:5],
        "num_incidents": len(open_incidents),
        "waiting": waiting,
        "queued": server.queue.admitted,
        "max_queued": server.queue.config.max_requests,
        "counts": server.request_log.recorder.counts,
        "aliases": [(each.alias, f"{each.name}@{each.number}", each.number) for each in store.aliases(server.name)],
        "now": at,
    }


def traffic_of(recent: Sequence[Prediction], at: float) -> Traffic:
    """The figures of requests, the newest first.

    Args:
        recent: the requests of the last ``MINUTES``, or the newest of them.
        at: the present time, in seconds since the epoch.
    """
    groups: dict[tuple[str, str], list[Prediction]] = defaultdict(list)
    for each in recent:
        version = f"{each.name}@{each.number}" if each.number else each.name
        groups[version, str(each.arm)].append(each)
    versions = []
    for (version, arm), own in groups.items():
        latencies = sorted(each.latency_s for each in own)
        failed = sum(each.status >= 500 for each in own)
        median, p95 = (1000 * latencies[min(len(own) - 1, int(q * len(own)))] for q in (0.5, 0.95))
        versions.append(VersionTraffic(version, arm, len(own), failed, median, p95))
    versions.sort(key=lambda each: (-each.requests, each.version, each.arm))
    seconds = 60.0 * MINUTES if len(recent) < MAX_READ else max(1.0, at - recent[-1].at)
    failed = sum(each.status >= 500 for each in recent)
    return Traffic(len(recent), failed, seconds, tuple(versions))


def concerns_of(
    traffic: Traffic,
    running: Sequence[ServerStatus],
    open_incidents: Sequence[Incident],
    waiting: int,
    waits_s: float,
    load_error: str,
) -> list[Concern]:
    """What a person should look at, the worst first; empty if nothing is wrong.

    Args:
        traffic: of the last minutes.
        running: the servers that have sent a heartbeat.
        open_incidents: not resolved.
        waiting: notifications that were not delivered yet.
        waits_s: for how long the oldest of them has waited, in seconds.
        load_error: why this server does not serve what is live; empty if it does.
    """
    found = [
        Concern(f"Incident {each.number} is {each.state.value}: {each.title}", f"/incidents/{each.number}")
        for each in open_incidents[:5]
    ]
    if traffic.requests and traffic.failed / traffic.requests > MAX_ERROR_SHARE:
        share = 100 * traffic.failed / traffic.requests
        found.append(Concern(f"{share:.1f} % of the requests failed in the last {MINUTES} minutes"))
    if load_error:
        found.append(Concern(load_error, "/releases"))
    found += [
        Concern(f"The server {each.host}, process {each.process}: {each.problem}")
        for each in running
        if each.problem and each.problem != load_error
    ]
    served = {each.served for each in running if each.served}
    if len(served) > 1:
        found.append(Concern(f"The servers answer with different versions: {', '.join(sorted(served))}"))
    if waiting and waits_s > MAX_WAITING_SECONDS:
        found.append(Concern(f"{waiting} notifications wait, the oldest for {waits_s / 60:.0f} minutes", "/incidents"))
    return found


def drift_concerns(drift: Sequence[ServerDriftView], running: Sequence[ServerStatus]) -> list[Concern]:
    """The alarms of the drift monitors, one for each server.

    Args:
        drift: what each server has seen.
        running: the servers that have sent a heartbeat.
    """
    alarmed = [each for each in drift if each.tone == "no"]
    where = " on one of the servers" if len(alarmed) < len(drift) and len(running) > 1 else ""
    return [Concern(f"{each.answer}{where}", f"/drift/{quote(each.name, safe='')}") for each in alarmed[:3]]
