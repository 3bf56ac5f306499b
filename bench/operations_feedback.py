"""Feedback: what survives kill -9, and how much a group commit is worth: ``make bench-operations-feedback``.

``python bench/operations_feedback.py kills`` runs one section. Sections: commits, http, observer, quality, kills.
``CLERESTORY_BENCH_KILLS`` sets the number of kills.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import httpx

sys.path.insert(0, str(Path(__file__).parents[1]))  # for tests.support
from tests.support.feedback_under_kill import Acknowledged, compare_reviews, compare_with_disk, kill_under_load
from tests.support.released_store import released_store
from tests.support.served_requests import DAY, prediction, verdict, write_feedback, write_predictions
from tests.support.server_process import server_process

from clerestory.stages.watch.quality import quality_in_service
from clerestory.store import Store, open_store
from clerestory.store.operations.feedback import Recorded
from clerestory.store.operations.recorder import Recorder
from table import Row, measure

KILLS = int(os.environ.get("CLERESTORY_BENCH_KILLS", "200"))
ROUNDS = 5
ROWS, ROWS_ALONE = 6_000, 400
WAITING = 64  # who wait for an acknowledgement at the same time
CLIENTS = 16
BATCH = 1_000
LOG_ROWS = 100_000


def commits() -> Iterator[Row]:
    """Acknowledged rows a second: in groups, and one a commit; alternating."""
    grouped, alone = [], []
    with tempfile.TemporaryDirectory() as folder, open_store(Path(folder) / "home") as store:
        item = prediction()
        write_predictions(store, [item])
        for _ in range(ROUNDS):
            grouped.append(_rows_per_second(store, item.response, ROWS, Recorder(store.database)))
            alone.append(_rows_per_second(store, item.response, ROWS_ALONE, Recorder(store.database, group=1)))
    ratios = sorted(a / b for a, b in zip(grouped, alone, strict=True))
    spread = f"{min(grouped):,.0f} to {max(grouped):,.0f} in {ROUNDS} rounds; {WAITING} wait at a time"
    value = statistics.median(grouped)
    yield Row(
        "acknowledged feedback, group commit", value, "rows/s", "≥ 3,000", value >= 3_000, ROWS * ROUNDS, "", spread
    )
    value = statistics.median(alone)
    spread = f"{min(alone):,.0f} to {max(alone):,.0f}"
    yield Row(
        "acknowledged feedback, one per commit", value, "rows/s", "beside it", True, ROWS_ALONE * ROUNDS, "", spread
    )
    value = statistics.median(ratios)
    note = f"{ratios[0]:.1f} to {ratios[-1]:.1f}"
    yield Row("group commit against one per commit", value, "×", "≥ 5", value >= 5, ROUNDS, "one per commit", note)


def _rows_per_second(store: Store, response: str, count: int, recorder: Recorder) -> float:
    """``WAITING`` people, each of whom sends the next row when the last one is acknowledged."""
    done = threading.Event()
    left, lock = iter(range(count)), threading.Lock()
    finished = 0

    def send(result: Future[list[Recorded]] | None = None) -> None:
        nonlocal finished
        with lock:
            if result is not None:
                assert result.result()[0].error is None
                finished += 1
                if finished == count:
                    done.set()
            if next(left, None) is None:
                return
        recorder.submit([verdict(response)]).add_done_callback(send)

    start = time.perf_counter()
    for _ in range(WAITING):
        send()
    assert done.wait(300)
    seconds = time.perf_counter() - start
    recorder.close()
    return count / seconds


def http() -> Iterator[Row]:
    """Over HTTP: one row a request, and batches of late labels."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        with open_store(home) as store:
            released_store(store, Path(folder), count=1)
        with server_process(home) as (_, client):
            address = str(client.base_url)
            response = client.post("/v1/embeddings", json={"input": "a cat"}).json()["id"]
            single = [asyncio.run(_singles(address, response, 400)) for _ in range(ROUNDS)]
            batches = []
            for round_ in range(ROUNDS):
                items = [
                    {"response": response, "kind": "label", "value": "cat", "key": f"{round_}-{i}"}
                    for i in range(BATCH)
                ]
                start = time.perf_counter()
                answer = client.post("/v1/feedback/batch", json={"items": items}).json()
                batches.append(BATCH / (time.perf_counter() - start))
                assert answer["added"] == BATCH, answer
    value = statistics.median(single)
    note = f"{CLIENTS} clients in Python on the same two cores; {min(single):,.0f} to {max(single):,.0f}"
    yield Row("POST /v1/feedback, acknowledged", value, "rows/s", "beside it", True, 400 * ROUNDS, "", note)
    value = statistics.median(batches)
    note = f"{BATCH:,} rows a request; {min(batches):,.0f} to {max(batches):,.0f}"
    yield Row("POST /v1/feedback/batch", value, "rows/s", "≥ 3,000", value >= 3_000, BATCH * ROUNDS, "", note)


async def _singles(address: str, response: str, count: int) -> float:
    async with httpx.AsyncClient(base_url=address, timeout=60) as client:
        left = iter(range(count))

        async def send() -> None:
            for _ in left:
                body = {"response": response, "kind": "thumbs", "value": "up"}
                assert (await client.post("/v1/feedback", json=body)).status_code == 200

        start = time.perf_counter()
        await asyncio.gather(*(send() for _ in range(CLIENTS)))
        return count / (time.perf_counter() - start)


def observer() -> Iterator[Row]:
    """What the request log costs a request: the call of the observer, also while the disk is blocked."""
    times_us = []
    with tempfile.TemporaryDirectory() as folder, open_store(Path(folder) / "home") as store:
        recorder = Recorder(store.database)
        with store.database.writing():  # the writer waits, the observer must not
            for _ in range(10_000):
                item = prediction()
                start = time.perf_counter()
                recorder.observe(item)
                times_us.append(1e6 * (time.perf_counter() - start))
        recorder.flush(60)
        written = recorder.counts.written
        recorder.close()
    value = sorted(times_us)[int(0.99 * len(times_us))]
    note = f"median {statistics.median(times_us):.1f} µs; another process has the lock of the database"
    yield Row("observer of a request, p99", value, "µs", "≤ 1,000", value <= 1_000, len(times_us), "", note)
    yield Row("rows written afterwards", written, "rows", "= 10,000", written == 10_000, 10_000)


def quality() -> Iterator[Row]:
    """The table of quality over a large log."""
    rng = random.Random(0)
    with tempfile.TemporaryDirectory() as folder, open_store(Path(folder) / "home") as store:
        now = time.time()
        for _ in range(LOG_ROWS // 5_000):
            items = [prediction(at=now - rng.random() * 60 * DAY, label="cat") for _ in range(5_000)]
            write_predictions(store, items)
            write_feedback(store, [verdict(item.response) for item in items if rng.random() < 0.2], now)
        start = time.perf_counter()
        rows = quality_in_service(store)
        seconds = time.perf_counter() - start
    note = f"{len(rows)} weeks, a fifth of the answers labelled"
    yield Row("quality by week of a log", seconds, "s", "≤ 30", seconds <= 30, LOG_ROWS, "", note)


def kills() -> Iterator[Row]:
    """Feedback, reviews and journal records under load, and kill -9; Ctrl-C ends it early."""
    rng = random.Random()
    acknowledged = Acknowledged()
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        with open_store(home) as store:
            released_store(store, Path(folder), count=1)
        done = 0
        with contextlib.suppress(KeyboardInterrupt):  # what was acknowledged until then is compared
            while done < KILLS:
                kill_under_load(home, acknowledged, rng.uniform(0.05, 1.0), done)
                done += 1
                if done % 20 == 0:
                    print(f"{done} kills, {len(acknowledged.feedback):,} acknowledged", file=sys.stderr, flush=True)
        compare_with_disk(home, acknowledged)
        compare_reviews(home, acknowledged)
    captions = acknowledged.steps
    note = f"{len(acknowledged.feedback):,} feedback, {captions:,} reviewed captions, "
    note += f"{len(acknowledged.journal):,} journal records acknowledged; {time.perf_counter() - start:.0f} s"
    lost = len(acknowledged.lost)
    yield Row(
        "acknowledged work lost in kill -9 under load",
        lost,
        "rows",
        "0 in 200 kills",
        lost == 0 and done >= 200,
        done,
        "",
        note,
    )


if __name__ == "__main__":
    sections = {"commits": commits, "http": http, "observer": observer, "quality": quality, "kills": kills}
    sys.exit(measure("operations_feedback", sections, sys.argv[1:]))
