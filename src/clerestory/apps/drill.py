"""A drill: something is broken on purpose in a throw-away copy of a store, with a real server and real requests.

Measurements: the time until an incident is opened, the answers of a wrong release, and the requests that failed.
"""

from __future__ import annotations

import base64
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from clerestory.apps.drift_reference import choose_reference
from clerestory.apps.drill_server import READY_S, DrillServer, DrillTraffic, drill_server, wait_for
from clerestory.apps.drill_store import add_drill_release, copy_for_drill, live_folder, with_zero_weights
from clerestory.core.errors import InputError
from clerestory.core.progress import QUIET, Progress
from clerestory.data import open_data
from clerestory.stages.release.promotion import start_canary
from clerestory.stages.watch.checks import IncidentConfig, StoreChecks
from clerestory.store import Store, open_store
from clerestory.store.operations.incidents import AlertKind, Incident, incidents
from clerestory.store.operations.rollouts import RolloutPlan

DrillKind = Literal["bad-model", "changed-alias", "drift", "full-queue", "killed-process", "slow-disk"]
DRILLS: dict[DrillKind, str] = {
    "bad-model": "a release with zero weights becomes a canary with 5 % of the requests; its guardrail takes it back",
    "changed-alias": "the alias live is moved in the database, past Clerestory",
    "drift": "clients send images of an art style that the reference does not have",
    "full-queue": "24 clients send to a server with one place in its queue",
    "killed-process": "the server is killed (SIGKILL) and started again after the incident",
    "slow-disk": "another process holds the database's write lock for 3 s out of every 3.1 s; reading goes on",
}
DETECTS: dict[DrillKind, AlertKind] = {
    "bad-model": AlertKind.ROLLOUT,
    "changed-alias": AlertKind.INTEGRITY,
    "drift": AlertKind.DRIFT,
    "full-queue": AlertKind.QUEUE,
    "killed-process": AlertKind.HEARTBEAT,
    "slow-disk": AlertKind.HEARTBEAT,
}
DETECT_S = 30.0
DRIFT_S = 240.0  # embedding the reference, and windows until the alarm
LOCK_S, FREE_S = 3.0, 0.1
DATA, USUAL, UNUSUAL, IMAGES = "icons", "test", "test_style", 400
CONFIG = IncidentConfig(every_seconds=0.25, window_seconds=30, min_requests=20, lost_seconds=2.0, min_free_bytes=0)
_LOCKS = """
import sqlite3, sys, time
database = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)
while True:
    database.execute("BEGIN IMMEDIATE")
    time.sleep(float(sys.argv[2]))
    database.execute("ROLLBACK")
    time.sleep(float(sys.argv[3]))
"""


@dataclass(frozen=True, slots=True)
class DrillResult:
    """What a drill measured.

    Attributes:
        kind: what was broken.
        release: the live release of the throw-away store.
        detected: whether an incident of the right kind was opened.
        detect_s: from the fault to the incident; None if there was none. The fault of ``bad-model`` is its first
            answer.
        recover_s: from the fault to the first good answer after the last bad, failed or refused one; None if none came.
        requests: how many requests were sent after the fault.
        failed: how many of them got no answer, or an error that is not 429.
        refused: how many got 429.
        bad_answers: how many were answered by a release that should not answer.
        slowest_s: the longest time that an answer took.
        title: of the incident.
    """

    kind: DrillKind
    release: str
    detected: bool
    detect_s: float | None
    recover_s: float | None
    requests: int
    failed: int
    refused: int
    bad_answers: int
    slowest_s: float = 0.0
    title: str = ""


@dataclass(slots=True)
class _Scene:
    kind: DrillKind
    store: Store
    home: Path
    name: str
    good: str
    server: DrillServer
    traffic: DrillTraffic
    progress: Progress
    bad: str = ""

    def wait_for_incident(self, begun: float, seconds: float, meanwhile: Callable[[], object] | None = None) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until and self.found(begun) is None:
            if meanwhile is not None:
                meanwhile()
            time.sleep(0.05)

    def found(self, begun: float) -> Incident | None:
        """The incident of the fault; one that was open in the original counts when it is noticed again."""
        kind = DETECTS[self.kind]
        return next((each for each in incidents(self.store) if each.kind is kind and each.last_seen >= begun), None)


def drill(kind: DrillKind, progress: Progress = QUIET, source: Store | None = None, name: str = "") -> DrillResult:
    """Break something in a throw-away store and measure how it is noticed.

    Args:
        kind: what is broken.
        progress: says what happens.
        source: a store of which a copy is used if it has a live release; it is only read. Without, a new store with
            the starter.
        name: the model name in that store; the first with a live release if empty.

    Raises:
        InputError: there is no such drill.
        Undecided: the server did not start.
        NotFound: no release of the model name is live.
    """
    if kind not in get_args(DrillKind):
        raise InputError(f"there is no drill {kind!r}", f"the drills are {', '.join(DRILLS)}")
    with tempfile.TemporaryDirectory(prefix="clerestory-drill-") as folder:
        home = Path(folder) / "home"
        name, good = copy_for_drill(source, name, home, progress)
        with open_store(home, f"sqlite:///{home / 'store.db'}") as store:
            if kind == "drift":
                choose_reference(store, name, DATA, USUAL, "a drill", progress)
            progress.write_line(f"drill {kind}: a server of {good} starts, in a throw-away store")
            with (
                drill_server(home, name, _settings(kind)) as server,
                DrillTraffic(24 if kind == "full-queue" else 2, server.url, name) as traffic,
            ):
                wait_for(lambda: traffic.count() > 0, READY_S, "no request was answered")
                scene = _Scene(kind, store, home, name, good, server, traffic, progress)
                return _result(scene, _FAULTS[kind](scene))


def _settings(kind: DrillKind) -> list[str]:
    settings = [
        f"queue.max_requests={1 if kind == 'full-queue' else 1024}",
        f"incidents.every_seconds={CONFIG.every_seconds}",
        f"incidents.min_requests={CONFIG.min_requests}",
        f"incidents.window_seconds={CONFIG.window_seconds}",
        "incidents.min_free_bytes=0",
        "log.access=off",
    ]
    return [*settings, f"incidents.lost_seconds={CONFIG.lost_seconds}"] if kind == "slow-disk" else settings


# The faults: each returns when the problem began.


def _bad_model(scene: _Scene) -> float:
    broken = with_zero_weights(live_folder(scene.store, scene.good), scene.home.parent / "broken")
    scene.bad = add_drill_release(scene.store, scene.name, broken)
    plan = RolloutPlan(steps=(0.05,), new_space=True)
    start_canary(scene.bad, scene.store, plan, "drill", "a release with zero weights, as a drill")
    started, before = time.time(), len(scene.traffic.answers)

    def trouble() -> float:
        answers = scene.traffic.answers[before:]
        return next((each.at for each in answers if each.release == scene.bad or each.status != 200), 0.0)

    wait_for(lambda: bool(trouble()) or scene.found(started) is not None, READY_S, "the canary answered no request")
    scene.wait_for_incident(started, DETECT_S)
    time.sleep(1.0)  # an answer of the candidate after the rollback would be counted
    return trouble() or started


def _changed_alias(scene: _Scene) -> float:
    """Point live at another release past Clerestory, as somebody with access to the database would."""
    scene.bad = add_drill_release(scene.store, scene.name, live_folder(scene.store, scene.good))
    begun = time.time()
    with closing(sqlite3.connect(scene.home / "store.db", timeout=30)) as database, database:
        statement = "UPDATE aliases SET number = ?, generation = generation + 1 WHERE name = ? AND alias = 'live'"
        database.execute(statement, (int(scene.bad.rpartition("@")[2]), scene.name))
    scene.wait_for_incident(begun, DETECT_S)
    time.sleep(1.0)
    return begun


def _drift(scene: _Scene) -> float:
    data = open_data(DATA, scene.progress)

    def images(split: str) -> Sequence[Any]:
        samples = [sample for sample in data if sample.split == split]
        chosen = samples[:: max(1, len(samples) // IMAGES)][:IMAGES]
        return tuple("data:image/png;base64," + base64.b64encode(data.read(each)).decode() for each in chosen)

    usual, unusual = images(USUAL), images(UNUSUAL)
    scene.traffic.inputs = usual
    scene.progress.write_line("images like those of the reference")
    before = scene.traffic.count()
    wait_for(lambda: scene.traffic.count() - before >= len(usual), READY_S, "the images were not answered")
    begun = time.time()
    scene.traffic.inputs = unusual
    scene.progress.write_line("images of an art style that the reference does not have")
    scene.wait_for_incident(begun, DRIFT_S)
    return begun


def _full_queue(scene: _Scene) -> float:
    begun = time.time()
    scene.wait_for_incident(begun, DETECT_S)
    return begun


def _killed_process(scene: _Scene) -> float:
    begun = time.time()
    scene.server.kill()
    checks = StoreChecks(scene.store, CONFIG)
    scene.wait_for_incident(begun, DETECT_S, checks.once)  # as another server of the store does
    scene.server.start(port=scene.server.port)
    before = scene.traffic.count()
    wait_for(lambda: scene.traffic.count() > before, READY_S, "the server did not come back")
    return begun


def _slow_disk(scene: _Scene) -> float:
    begun = time.time()
    command = [sys.executable, "-c", _LOCKS, str(scene.home / "store.db"), str(LOCK_S), str(FREE_S)]
    process = subprocess.Popen(command)
    try:
        scene.wait_for_incident(begun, DETECT_S)
    finally:
        process.kill()
        process.wait()
    time.sleep(1.0)
    return begun


_FAULTS: dict[DrillKind, Callable[[_Scene], float]] = {
    "bad-model": _bad_model,
    "changed-alias": _changed_alias,
    "drift": _drift,
    "full-queue": _full_queue,
    "killed-process": _killed_process,
    "slow-disk": _slow_disk,
}


def _result(scene: _Scene, begun: float) -> DrillResult:
    found = scene.found(begun)
    after = [each for each in list(scene.traffic.answers) if each.at >= begun]
    bad = [each for each in after if scene.bad and each.release == scene.bad and each.status == 200]
    troubled = [each.at for each in after if each.status != 200] + [each.at for each in bad]
    last = max(troubled, default=0.0)
    good = [each.at for each in after if each.status == 200 and each.release != scene.bad and each.at > last]
    recover = good[0] - begun if troubled and good else None
    noticed = (found.opened if found.opened >= begun else found.last_seen) if found else None
    return DrillResult(
        scene.kind,
        scene.good,
        found is not None,
        round(noticed - begun, 3) if noticed is not None else None,
        round(recover, 3) if recover is not None else None,
        len(after),
        sum(each.status not in (200, 429) for each in after),
        sum(each.status == 429 for each in after),
        len(bad),
        round(max((each.seconds for each in after), default=0.0), 3),
        found.title if found else "",
    )
