"""The drift monitors of a running server: an observer of requests with a thread of its own.

``observe`` puts an image's embedding into a bounded queue and returns. The thread compares, and after each window it
writes the state of the detectors to the table ``monitors``, together with the incident of an alarm in one transaction,
so that a server that was killed resumes there. Only embeddings of images are compared: texts are embedded
elsewhere in the space, and there is no reference for them.
"""

from __future__ import annotations

import hashlib
import logging
import os
import platform
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from clerestory.apps.drift_reference import ReferenceChoice, open_reference, reference_choice
from clerestory.apps.drift_report import alarm_sentences, alarm_title, budget_sentences
from clerestory.apps.drift_sources import image_numbers
from clerestory.core.codec import Tags, encode
from clerestory.core.digest import digest, short
from clerestory.core.errors import ClerestoryError, UploadError
from clerestory.data.images import decode_image
from clerestory.models.protocols import Embedder
from clerestory.stages.watch.drift.alarms import DriftAlarm
from clerestory.stages.watch.drift.monitors import PENDING, DriftMonitors, DriftPoint
from clerestory.stages.watch.drift.observations import ALL, EMBEDDING, DriftObservation, Embeddings
from clerestory.stages.watch.drift.settings import DriftSettings
from clerestory.stats.alarm_budget import per_day
from clerestory.store import Store
from clerestory.store.operations.incidents import Alert, AlertKind, open_or_update
from clerestory.store.operations.kept_images import KeptImages
from clerestory.store.operations.monitor_states import (
    REFERENCE,
    RESET,
    SUMMARY,
    MonitorRecord,
    read_monitors,
    remove_monitors,
    write_monitor,
)
from clerestory.store.operations.prediction import Arm, Prediction

LOG = logging.getLogger("clerestory.operations")
MAX_WAITING = 2_000  # observations in the queue
MAX_WAITING_BYTES = 64_000_000  # of their images
CHECK_SECONDS = 2.0  # between two looks at the reference and at requests of people
SAVE_SECONDS = 10.0  # a window that is not full is saved as often
RETRY_SECONDS = 60.0  # after a reference that could not be opened, or a disk that was full
MAX_ALARMS = 20  # that are kept with a server
MAX_SAVED_POINTS = 400
COLUMNS = (EMBEDDING, "brightness", "width", "height")


@dataclass(frozen=True, slots=True)
class _Waiting:
    prediction: Prediction
    embedding: Embeddings
    image: bytes


class LiveDriftMonitor:
    """Watch the images of a server for drift; see the module.

    Args:
        store: holds the reference, the states and the incidents.
        embedder: the served model by its digest; None if it is not loaded.
        settings: window, budget, …
        server: identifies this server over restarts; of two on one computer the second gets another.

    Attributes:
        dropped: observations that did not fit into the queue.
        problem: why nothing is compared; empty if something is.
    """

    def __init__(
        self,
        store: Store,
        embedder: Callable[[str], Embedder | None],
        settings: DriftSettings,
        server: str = "",
    ) -> None:
        self.settings = settings
        self.dropped = 0
        self.problem = "no image has arrived yet"
        self._store = store
        self._embedder = embedder
        self._server = server or platform.node()[:40] or "server"
        self._queue: deque[_Waiting] = deque()
        self._queued_bytes = 0
        self._wake = threading.Event()
        self._closing = False
        self._thread: threading.Thread | None = None
        self._monitors: DriftMonitors | None = None
        self._name = self._model = self._identity = ""
        self._choice: ReferenceChoice | None = None
        self._alarms: list[dict[str, Any]] = []
        self._notes: list[str] = []
        self._since = 0.0
        self._changes: tuple[float, ...] = ()
        self._retry_at = 0.0
        self._checked_at = self._saved_at = 0.0
        self._images: OrderedDict[str, bytes] = OrderedDict()

    def start(self) -> None:
        """Nothing: the thread starts with the first image."""

    def observe(self, prediction: Prediction, embeddings: Embeddings | None, images: Sequence[bytes]) -> None:
        """Put one image of a request into the queue; returns at once, and drops it if the queue is full."""
        if (
            not self.settings.enabled
            or embeddings is None
            or not images
            or len(images) != len(embeddings)
            or prediction.arm is not Arm.STABLE
            or prediction.status != 200
        ):
            return
        if len(self._queue) >= MAX_WAITING or self._queued_bytes > MAX_WAITING_BYTES:
            self.dropped += 1
            return
        # One image of a request, whatever it sends: many similar ones at once are not drift.
        place = int(hashlib.sha256(prediction.response.encode()).hexdigest()[:8], 16) % len(images)
        self._queued_bytes += len(images[place])
        self._queue.append(_Waiting(prediction, embeddings[place].copy(), images[place]))
        if self._thread is None and not self._closing:
            self._thread = threading.Thread(target=self._run, name="drift", daemon=True)
            self._thread.start()
        self._wake.set()

    def close(self) -> None:
        """Compare what waits, save, and end the thread."""
        self._closing = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout=10.0)

    def gauges(self) -> list[tuple[str, dict[str, str], float]]:
        """What a metrics endpoint shows: names, labels and values."""
        monitors = self._monitors
        rows: list[tuple[str, dict[str, str], float]] = [("clerestory_drift_dropped", {}, float(self.dropped))]
        for each in monitors.monitors if monitors is not None else ():
            labels = {"model": self._name, "monitor": each.monitor, "slice": each.slice}
            rows.append(("clerestory_drift_evidence", labels, each.detector.evidence))
            rows.append(("clerestory_drift_alarm", labels, float(each.detector.latched)))
            rows.append(("clerestory_drift_windows", labels, float(each.detector.num_windows)))
        return rows

    # The thread.

    def _run(self) -> None:
        while True:
            self._wake.wait(CHECK_SECONDS)
            self._wake.clear()
            while self._queue:
                waiting = self._queue.popleft()
                self._queued_bytes -= len(waiting.image)
                self._guarded(partial(self._take, waiting))
            self._guarded(self._look)
            if self._closing:
                self._guarded(lambda: self._save([]))
                return

    def _guarded(self, work: Callable[[], None]) -> None:
        """A full disk or a database that does not answer must not end the thread."""
        try:
            work()
        except ClerestoryError as error:
            self.problem = error.message
            self._retry_at = time.time() + RETRY_SECONDS
        except Exception as error:
            if not self.problem.startswith("internal"):
                LOG.exception("the drift monitor failed")
            self.problem = f"internal error: {type(error).__name__}"
            self._retry_at = time.time() + RETRY_SECONDS

    def _take(self, waiting: _Waiting) -> None:
        prediction = waiting.prediction
        if (prediction.name, prediction.model) != (self._name, self._model):
            self._open(prediction.name, prediction.model)
        if self._monitors is None:
            if time.time() < self._retry_at:
                return
            self._open(prediction.name, prediction.model)
        if self._monitors is None:
            return
        try:
            numbers = image_numbers(decode_image(waiting.image))
        except UploadError:
            numbers = {}
        categories = {name: value for name, value in prediction.facts.items() if name in self.settings.slice_by}
        observation = DriftObservation(
            prediction.response, prediction.at, prediction.subject, waiting.embedding, numbers, categories
        )
        if self.settings.keep_images:
            self._images[prediction.response] = waiting.image
            while len(self._images) > self.settings.keep_images:
                self._images.popitem(last=False)
        before = self._monitors.num_pending
        alarms = self._monitors.observe(observation)
        if alarms or self._monitors.num_pending < before:
            self._save(alarms)

    def _open(self, name: str, model: str) -> None:
        """Open the reference for a model, and the states that fit to it."""
        self._monitors, self._name, previous, self._model = None, name, self._model, model
        self._retry_at = time.time() + RETRY_SECONDS
        self._changes = self._change_times()
        self._choice = reference_choice(self._store, name, model)
        if self._choice is None:
            self.problem = f"there is no reference; choose one with: clerestory watch reference {name} --data DATA"
            return
        embedder = self._embedder(model)
        if embedder is None:
            self.problem = "the model is not loaded any more"
            return
        source = open_reference(self._store, self._choice, embedder)
        monitors = DriftMonitors(source.table, self.settings, (*COLUMNS, *self.settings.slice_by))
        self._identity = digest([dict(source.table.identity), _plain(self.settings), list(source.table.ids)])
        self._server = self._claim(name)
        kept = read_monitors(self._store.database, name, self._server)
        summary = next((row for row in kept if row.monitor == SUMMARY), None)
        self._alarms, self._notes, self._since = [], [], time.time()
        if summary is not None and summary.body.get("identity") == self._identity:
            monitors.restore({(_unnamed(row.monitor), row.slice): row.state for row in kept if row.state})
            points = {(row.monitor, row.slice): row.body.get("points", []) for row in kept}
            for each in monitors.monitors:
                each.points.extend(DriftPoint(*point) for point in points.get((each.monitor, each.slice), []))
            self._alarms, self._notes = list(summary.body["alarms"]), list(summary.body["notes"])
            self._since = float(summary.body["since"])
        elif summary is not None or previous:
            self._notes = [f"started again for {name}, model {short(model)}: model, reference or settings have changed"]
            self._alarms = list(summary.body.get("alarms", [])) if summary is not None else []
        self._monitors, self.problem = monitors, ""
        self._save([], replace=True)

    def _claim(self, name: str) -> str:
        """The id of this server; another one if a running process on this computer has it."""
        base, number = self._server.partition("#")[0], 1
        while True:
            server = base if number == 1 else f"{base}#{number}"
            rows = read_monitors(self._store.database, name, server)
            owner = next((int(row.body.get("pid", 0)) for row in rows if row.monitor == SUMMARY), 0)
            if owner in (0, os.getpid()) or not _is_running(owner):
                return server
            number += 1

    def _change_times(self) -> tuple[float, ...]:
        rows = read_monitors(self._store.database, self._name, "") if self._name else []
        return tuple(row.updated for row in rows if row.monitor in (REFERENCE, RESET))

    def _look(self) -> None:
        """Follow a reference that was chosen and a reset that was requested meanwhile; save a part of a window."""
        now = time.time()
        if not self._name or now - self._checked_at < CHECK_SECONDS:
            return
        self._checked_at = now
        rows = [row for row in read_monitors(self._store.database, self._name, "") if row.monitor in (REFERENCE, RESET)]
        times = tuple(row.updated for row in rows)
        if times != self._changes:
            chosen = reference_choice(self._store, self._name, self._model)
            self._changes = times
            if chosen != self._choice:
                self._open(self._name, self._model)
            elif self._monitors is not None:
                count = self._monitors.reset()
                self._notes = [f"reset by a person on {_date(now)}; {count} of the monitors had an alarm"]
                self._save([])
        elif self._monitors is not None and now - self._saved_at > SAVE_SECONDS:
            self._save([])

    def _save(self, alarms: Sequence[DriftAlarm], replace: bool = False) -> None:
        monitors = self._monitors
        if monitors is None:
            return
        now = time.time()
        for alarm in alarms:
            self._alarms.insert(0, self._record(alarm, now))
        del self._alarms[MAX_ALARMS:]
        self._store.database.ensure_operations()
        states = monitors.state()
        with self._store.database.writing() as connection:
            if replace:
                remove_monitors(connection, self._name, self._server)
            summary = MonitorRecord(self._name, SUMMARY, "", self._server, now, self._summary(now))
            write_monitor(connection, summary)
            for each in monitors.monitors:
                body = {
                    "windows": each.detector.num_windows,
                    "evidence": each.detector.evidence,
                    "alarm": each.detector.latched,
                    "fresh_windows": each.detector.num_fresh_windows,
                    "spend": each.points[-1].spend if each.points else 0.0,
                    "points": [[p.window, p.at, p.evidence, p.spend] for p in each.points][-MAX_SAVED_POINTS:],
                }
                state = states.pop((each.monitor, each.slice))
                record = MonitorRecord(self._name, each.monitor, each.slice, self._server, now, body, state)
                write_monitor(connection, record)
            for (monitor, slice_), state in states.items():
                record = MonitorRecord(self._name, _named(monitor), slice_, self._server, now, {}, state)
                write_monitor(connection, record)
            for alarm in alarms:
                open_or_update(self._store, self._alert(alarm), connection)
        self._saved_at = now
        self._keep_images(alarms)

    def _summary(self, now: float) -> dict[str, Any]:
        monitors, choice = self._monitors, self._choice
        assert monitors is not None
        assert choice is not None
        elapsed = now - self._since
        windows = sum(each.detector.num_windows for each in monitors.monitors if each.slice == ALL)
        windows //= max(1, sum(each.slice == ALL for each in monitors.monitors))
        rate = per_day(windows, elapsed)
        spends = [point.spend for each in monitors.monitors for point in each.points]
        budget = budget_sentences(
            len(spends) / sum(spends) if spends else 1 / (monitors.share * 1e-3),
            self.settings.window,
            rate,
            self.settings.max_false_alarms_per_year,
            len(monitors.monitors),
            True,
        )
        return {
            "identity": self._identity,
            "pid": os.getpid(),
            "model": self._model,
            "reference": encode(choice),
            "reference_name": monitors.reference.name,
            "reference_size": len(monitors.reference),
            "settings": _plain(self.settings),
            "since": self._since,
            "windows": windows,
            "windows_per_day": rate if windows else 0.0,
            "pending": monitors.num_pending,
            "observed": monitors.num_observed,
            "left_out": dict(monitors.left_out),
            "dropped": self.dropped,
            "unwatched": dict(monitors.unwatched),
            "budget": list(budget),
            "notes": self._notes[-10:],
            "alarms": self._alarms,
        }

    def _record(self, alarm: DriftAlarm, now: float) -> dict[str, Any]:
        identity = digest([self._identity, self._server, alarm.monitor, alarm.slice, alarm.window])[:16]
        return {
            "id": identity,
            "raised": now,
            "title": alarm_title(alarm),
            "sentences": list(alarm_sentences(alarm)),
            "data": self._choice.data if self._choice else "",
            "digest": self._choice.digest if self._choice else "",
            **encode(alarm),
        }

    def _alert(self, alarm: DriftAlarm) -> Alert:
        title = f"{alarm_title(alarm)}. {' '.join(alarm_sentences(alarm))}"
        details = Tags(
            monitor=alarm.monitor,
            slice=alarm.slice,
            page=f"/drift/{self._name}",
            reference=self._choice.data if self._choice else "",
            windows_per_false_alarm=f"{1 / alarm.spend:.0f}",
        )
        return Alert(
            AlertKind.DRIFT,
            title,
            name=self._name,
            subject=f"{alarm.monitor}/{alarm.slice}",
            details=details,
            at=alarm.at or 0.0,
            begun=alarm.began or 0.0,
        )

    def _keep_images(self, alarms: Sequence[DriftAlarm]) -> None:
        """The images that carry an alarm, if the settings allow to keep any; retention and erasure remove them."""
        kept = KeptImages(self._store.files)
        for alarm in alarms:
            for observation in alarm.observations:
                if content := self._images.get(observation.id):
                    kept.keep(observation.id, content)


def _plain(settings: DriftSettings) -> dict[str, Any]:
    encoded: dict[str, Any] = encode(settings)
    return encoded


def _named(monitor: str) -> str:
    return "#pending" if monitor == PENDING else monitor


def _unnamed(monitor: str) -> str:
    return PENDING if monitor == "#pending" else monitor


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # of another user
        return True
    return True


def _date(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.gmtime(at))
