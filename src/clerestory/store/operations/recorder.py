"""One thread writes the request log and the feedback of a server, in groups.

A prediction is never waited for: it is put into a bounded queue, and what does not fit is dropped and counted. Feedback
is acknowledged after the commit that holds it. All that waits is committed together, predictions first, so feedback on
a response that is still in the queue finds it, and a thousand people who wait share one flush of the disk.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any

from clerestory.core.errors import ClerestoryError, NotWritable, Unavailable
from clerestory.store.database import Database
from clerestory.store.operations.feedback import Feedback, Recorded, add_feedback, check_feedback
from clerestory.store.operations.prediction import Prediction
from clerestory.store.operations.predictions import add_predictions, row_of

LOG = logging.getLogger("clerestory.operations")
MAX_WAITING = 20_000  # predictions in the queue
MAX_FEEDBACK_WAITING = 20_000  # rows in the queue
GROUP = 2_000  # of each in one commit
WRITE_SECONDS = 0.2  # until a prediction is written at the latest, if the disk keeps up
RETRY_SECONDS = 1.0  # after a commit that failed
UPKEEP_SECONDS = 600.0
CLOSE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class RecorderCounts:
    """What a recorder has done since it was started.

    Attributes:
        written: predictions in the request log.
        dropped: predictions that are not in it, because the queue was full: under overload or on a full disk.
        failed: commits that failed.
        feedback: rows of feedback.
        commits: transactions.
        waiting: predictions in the queue.
        problem: why the last commit failed; empty if it did not.
    """

    written: int = 0
    dropped: int = 0
    failed: int = 0
    feedback: int = 0
    commits: int = 0
    waiting: int = 0
    problem: str = ""


@dataclass(slots=True)
class _Submitted:
    items: list[Feedback]
    result: Future[list[Recorded]]


class Recorder:
    """Writes predictions and feedback; an observer of requests. Its thread starts with the first of either.

    Args:
        database: receives the rows.
        upkeep: called now and then when there is time; True if it wants to be called again at once. Removes what is
            older than its retention.
        max_waiting: the length of the queue of predictions.
        group: the largest number of rows of each kind in one commit; 1 commits each alone, for comparison.
    """

    def __init__(
        self,
        database: Database,
        upkeep: Callable[[], bool] | None = None,
        max_waiting: int = MAX_WAITING,
        group: int = GROUP,
    ) -> None:
        self._database = database
        self._upkeep = upkeep
        self._max_waiting = max_waiting
        self._group = group
        self._predictions: deque[Prediction] = deque()
        self._feedback: deque[_Submitted] = deque()
        self._feedback_rows = 0
        self._wake = threading.Condition()
        self._closing = False
        self._flushing = 0
        self._busy = False
        self._thread: threading.Thread | None = None
        self._counts = RecorderCounts()

    @property
    def counts(self) -> RecorderCounts:
        """What it has done so far."""
        return replace(self._counts, waiting=len(self._predictions))

    def observe(self, prediction: Prediction) -> None:
        """Put a prediction into the queue; returns at once, and drops it if the queue is full."""
        with self._wake:
            if self._closing or len(self._predictions) >= self._max_waiting:
                self._counts = replace(self._counts, dropped=self._counts.dropped + 1)
                return
            self._predictions.append(prediction)
            self._start()
            if len(self._predictions) == 1:
                self._wake.notify()

    def submit(self, items: Sequence[Feedback]) -> Future[list[Recorded]]:
        """Queue feedback; the result is there once it is committed.

        Raises:
            InputError: a value is out of its bounds; none of them is queued.
            Unavailable: too much feedback is waiting, or the server is closing.
        """
        checked = [check_feedback(item) for item in items]
        result: Future[list[Recorded]] = Future()
        if not checked:
            result.set_result([])
            return result
        with self._wake:
            if self._closing:
                raise Unavailable("the server is closing", "send the feedback again when it is back")
            if self._feedback_rows + len(checked) > MAX_FEEDBACK_WAITING:
                raise Unavailable("too much feedback is waiting", "send it again in a second, in smaller batches")
            self._feedback.append(_Submitted(checked, result))
            self._feedback_rows += len(checked)
            self._start()
            self._wake.notify()
        return result

    def flush(self, timeout_s: float = 10.0) -> bool:
        """Wait until everything that is in the queue now is written; False after the time, or if it cannot be."""
        until = time.monotonic() + timeout_s
        with self._wake:
            self._flushing += 1
            self._wake.notify_all()
            try:
                while self._predictions or self._feedback or self._busy:
                    if not self._wake.wait(until - time.monotonic()) and time.monotonic() >= until:
                        return False
            finally:
                self._flushing -= 1
        return True

    def close(self) -> None:
        """Write what waits, for at most ``CLOSE_SECONDS``, and end the thread."""
        with self._wake:
            self._closing = True
            self._wake.notify_all()
        if self._thread is not None:
            self._thread.join(CLOSE_SECONDS + RETRY_SECONDS)

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        next_upkeep, give_up = time.monotonic(), 0.0
        while True:
            with self._wake:
                self._wait(next_upkeep)
                predictions = [self._predictions.popleft() for _ in range(min(len(self._predictions), self._group))]
                submitted = self._take_feedback()
                if not predictions and not submitted:
                    self._wake.notify_all()
                    if self._closing:
                        return
                self._busy = bool(predictions or submitted)
                closing = self._closing
            if closing:
                give_up = give_up or time.monotonic() + CLOSE_SECONDS
            if predictions or submitted:
                is_written = self._write(predictions, submitted)
                with self._wake:
                    self._busy = False
                    if not is_written and not (closing and time.monotonic() > give_up):
                        self._put_back(predictions)
                    self._wake.notify_all()
                if not is_written:
                    time.sleep(RETRY_SECONDS if not closing else 0.1)
            elif time.monotonic() >= next_upkeep:
                next_upkeep = time.monotonic() + (0.1 if self._keep_up() else UPKEEP_SECONDS)

    def _wait(self, next_upkeep: float) -> None:
        """Until there is feedback, or predictions have waited for a moment, or it is time for the upkeep."""
        if not self._predictions and not self._feedback and not self._closing:
            self._wake.wait(max(0.0, next_upkeep - time.monotonic()))
        if self._predictions and not self._feedback and not self._closing and not self._flushing:
            self._wake.wait_for(lambda: self._feedback or self._closing or self._flushing, WRITE_SECONDS)

    def _take_feedback(self) -> list[_Submitted]:
        taken: list[_Submitted] = []
        rows = 0
        while self._feedback and (not taken or rows + len(self._feedback[0].items) <= self._group):
            taken.append(self._feedback.popleft())
            rows += len(taken[-1].items)
        self._feedback_rows -= rows
        return taken

    def _put_back(self, predictions: list[Prediction]) -> None:
        room = max(0, self._max_waiting - len(self._predictions))
        kept = predictions[len(predictions) - min(room, len(predictions)) :]
        self._predictions.extendleft(reversed(kept))
        dropped = len(predictions) - len(kept)
        self._counts = replace(self._counts, dropped=self._counts.dropped + dropped)

    def _write(self, predictions: list[Prediction], submitted: list[_Submitted]) -> bool:
        """Commit a group; False if that failed, and the predictions may be tried again."""
        rows = self._rows(predictions)
        items = [item for each in submitted for item in each.items]
        try:
            self._database.ensure_operations()
            with self._database.writing() as connection:
                add_predictions(connection, rows)
                results = add_feedback(connection, items, time.time()) if items else []
        except Exception as error:  # whatever it is: the thread must go on, and who waits must get an answer
            self._on_failure(error, submitted)
            # A disk that is full today has room tomorrow; anything else would fail again.
            if isinstance(error, NotWritable | Unavailable):
                return False
            self._counts = replace(self._counts, dropped=self._counts.dropped + len(predictions))
            return True
        written = sum(each.error is None and each.is_new for each in results)
        counts = self._counts
        self._counts = replace(
            counts,
            written=counts.written + len(rows),
            feedback=counts.feedback + written,
            commits=counts.commits + 1,
            problem="",
        )
        start = 0
        for each in submitted:
            _finish(each.result, results[start : start + len(each.items)])
            start += len(each.items)
        return True

    def _rows(self, predictions: list[Prediction]) -> list[dict[str, Any]]:
        rows = []
        for each in predictions:
            try:
                rows.append(row_of(each))
            except (ValueError, TypeError):
                LOG.exception("a request cannot be written to the request log")
                self._counts = replace(self._counts, dropped=self._counts.dropped + 1)
        return rows

    def _on_failure(self, error: Exception, submitted: list[_Submitted]) -> None:
        known = isinstance(error, ClerestoryError)
        if not self._counts.problem:  # once, not once a second
            LOG.error("the request log cannot be written: %s", error, exc_info=not known)
        self._counts = replace(self._counts, failed=self._counts.failed + 1, problem=str(error))
        for each in submitted:
            if each.result.set_running_or_notify_cancel():
                each.result.set_exception(error)

    def _keep_up(self) -> bool:
        if self._upkeep is None:
            return False
        try:
            return self._upkeep()
        except ClerestoryError as error:
            LOG.warning("what is older than its retention cannot be removed: %s", error)
        return False


def _finish(result: Future[list[Recorded]], value: list[Recorded]) -> None:
    if result.set_running_or_notify_cancel():
        result.set_result(value)
