"""The server under load and under attack: ``make bench-serving``, or ``python bench/serving.py throughput``.

Starts ``clerestory serve`` with the starter on the store of ``make demo`` (``$CLERESTORY_HOME`` or ./.clerestory) and
sends requests over the loopback address.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil  # type: ignore[import-untyped]  # it ships no types
from schemathesis import Case, GenerationMode

sys.path.insert(0, str(Path(__file__).parents[1]))  # for tests.support
from tests.support.hostile_bodies import for_each_case, hostile_bodies
from tests.support.images import solid_image
from tests.support.released_store import add_release, released_store
from tests.support.server_process import accept_until_killed, accepted_captions, server_process

from clerestory.models.starter import starter_folder
from clerestory.stages.release import promote, rollback
from clerestory.store import Store, open_store
from table import Row, measure

CLERESTORY = [sys.executable, "-c", "import sys; from clerestory.cli.main import main; sys.exit(main())"]
CLIENTS, REQUESTS = 32, 1_000
HOSTILE = 2_000
KILLS = 20
ROLLBACKS = 50
LARGE_MEGABYTES = 40
COLD_STARTS = 5
MAX_COLD_S = 5
MAX_HEALTH_S = 0.2
MAX_ROLLBACK_S = 2
ASKING = 4  # clients
MAX_GROWTH_MIB = 200
THREADS = 4  # that send hostile bodies
WORDS = "red blue small large happy angry cat dog house tree car fruit flag heart star face hand book".split(" ")  # noqa: SIM905  shorter


@contextlib.contextmanager
def served() -> Iterator[tuple[str, int]]:
    """The URL of a new server on the store of ``make demo``, once it is ready, and its process id."""
    command = [*CLERESTORY, "serve", "--port", "0", "--model", "starter"]
    with tempfile.TemporaryFile() as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            address = ""
            while not address or httpx.get(f"{address}/readyz").status_code != 200:
                time.sleep(0.2)
                assert process.poll() is None, "the server has ended"
                log.seek(0)
                found = re.search(rb"http://[\d.]+:\d+", log.read())
                address = found[0].decode() if found else ""
            yield address, process.pid
        finally:
            process.terminate()


def cold() -> Iterator[Row]:
    """From the command until the server is ready: a new process, the embeddings of the images being cached."""
    with served():
        pass
    times_s, cpu_s = [], []
    for _ in range(COLD_STARTS):
        start = time.perf_counter()
        with served() as (_, pid):
            times_s.append(time.perf_counter() - start)
            cpu_s.append(sum(psutil.Process(pid).cpu_times()[:2]))
    median = statistics.median(times_s)
    note = f"median; all: {', '.join(f'{each:.1f}' for each in times_s)}; processor time {min(cpu_s):.1f} s; {_load()}"
    yield Row("from the command until ready", median, "s", "≤ 5 s", median <= MAX_COLD_S, COLD_STARTS, note=note)


def throughput() -> Iterator[Row]:
    """Requests of 32 clients, each of which waits for its answer before it sends the next."""
    with served() as (base, _):
        for name, send in (("/v1/embeddings, one text each", _embed), ("search by text", _search)):
            asyncio.run(_closed_loop(base, send, 64))
            statuses, times_s, seconds = asyncio.run(_closed_loop(base, send, REQUESTS))
            failed, busy = sum(n for s, n in statuses.items() if s >= 500), statuses[429]
            share = 100 * busy / REQUESTS
            times = f"p50 {1000 * statistics.median(times_s):.0f} ms, p99 {1000 * sorted(times_s)[-10]:.0f} ms"
            note = f"{REQUESTS / seconds:.0f} requests per second; {times}; {_counts(statuses)}"
            yield Row(f"{name}: 500s, {CLIENTS} clients", failed, "answers", "0", failed == 0, REQUESTS, note=note)
            yield Row(f"{name}: refused with 429, {CLIENTS} clients", share, "%", "≤ 5 %", share <= 5, REQUESTS)


async def _embed(client: httpx.AsyncClient, i: int) -> int:
    text = f"a {WORDS[i % 18]} {WORDS[i // 18 % 18]} number {i}"
    return (await client.post("/v1/embeddings", json={"input": text})).status_code


async def _search(client: httpx.AsyncClient, i: int) -> int:
    return (await client.get("/", params={"q": f"a {WORDS[i % 18]} {WORDS[i // 18 % 18]} {i}"})).status_code


async def _closed_loop(base: str, send: Callable[..., object], total: int) -> tuple[Counter[int], list[float], float]:
    """The statuses and times of ``total`` requests, and the time of all together."""
    numbers, statuses, times_s = iter(range(total)), Counter[int](), []

    async def work(client: httpx.AsyncClient) -> None:
        for i in numbers:
            start = time.perf_counter()
            statuses[await send(client, i)] += 1  # type: ignore[misc]  # awaitable
            times_s.append(time.perf_counter() - start)

    async with httpx.AsyncClient(base_url=base, timeout=600) as client:
        start = time.perf_counter()
        await asyncio.gather(*(work(client) for _ in range(CLIENTS)))
        return statuses, times_s, time.perf_counter() - start


def hostile() -> Iterator[Row]:
    """Two thousand hostile bodies, large and small, while health and memory are watched."""
    with served() as (base, pid):
        process = psutil.Process(pid)
        for i in range(8):
            httpx.post(f"{base}/v1/embeddings", json={"input": ["a cat"] * 2**i}, timeout=600)
        before = process.memory_info().rss
        statuses: Counter[int] = Counter()
        # In a process of its own, since this one is busy with making large bodies.
        context = multiprocessing.get_context("spawn")
        ended, results = context.Event(), context.SimpleQueue()
        watching = context.Process(target=_watch, args=(base, pid, ended, results))
        watching.start()
        with ThreadPoolExecutor(THREADS) as pool:
            by_hand = [pool.submit(_post, base, body.content, body.headers) for body in hostile_bodies(LARGE_MEGABYTES)]
            statuses.update(each.result() for each in by_hand)
        drawn = -(-(HOSTILE - statuses.total()) // 2)  # of each mode

        with ThreadPoolExecutor(THREADS) as pool:

            def send(case: Case[Any]) -> None:
                sent.append(pool.submit(lambda: case.call(base_url=base, timeout=600).status_code))

            sent: list[Future[int]] = []
            for mode in GenerationMode:  # one after the other: ast.parse of Python 3.11 fails in several threads
                for_each_case(base, drawn, 1, send, mode)
            statuses.update(each.result() for each in sent)
        ended.set()
        health_s, control_s, peak = results.get()
        watching.join()
        growth = (process.memory_info().rss - before) / 2**20
        slowest = max(health_s)
        failed = sum(n for status, n in statuses.items() if status >= 500)
        n = statuses.total()
    note = (
        f"{_counts(statuses)}; {len(by_hand)} written by hand, up to {LARGE_MEGABYTES} MB, the others by schemathesis"
    )
    yield Row("hostile bodies: 500s", failed, "answers", "0", failed == 0, n, note=note)
    p99 = statistics.quantiles(health_s, n=100)[-1]
    control = f"a sleep of 1 ms in another process took up to {1000 * max(control_s):.0f} ms"
    note = f"p99 {1000 * p99:.0f} ms; {control}; {_load()}"
    holds = slowest <= MAX_HEALTH_S
    yield Row("hostile bodies: slowest /healthz", 1000 * slowest, "ms", "≤ 200 ms", holds, len(health_s), note=note)
    note = f"at most {(peak - before) / 2**20:.0f} MiB meanwhile; {before / 2**20:.0f} MiB before"
    yield Row("hostile bodies: growth of memory", growth, "MiB", "≤ 200 MiB", growth <= MAX_GROWTH_MIB, n, note=note)


def _watch(base: str, pid: int, ended: Any, results: Any) -> None:
    """Until it ends: the times of /healthz, those of a short sleep as a control, and the largest resident memory."""
    health_s, control_s, peak = [], [], 0
    process = psutil.Process(pid)
    with httpx.Client(base_url=base, timeout=600) as client:
        while not ended.wait(0.02):
            start = time.perf_counter()
            client.get("/healthz")
            health_s.append(time.perf_counter() - start)
            peak = max(peak, process.memory_info().rss)
            start = time.perf_counter()
            time.sleep(0.001)
            control_s.append(time.perf_counter() - start)
    results.put((health_s, control_s, peak))


def _post(base: str, content: bytes, headers: dict[str, str]) -> int:
    encoded = {name: value.encode("latin-1") for name, value in headers.items()}
    return httpx.post(f"{base}/v1/embeddings", content=content, headers=encoded, timeout=600).status_code  # type: ignore[arg-type]  # bytes


def _load() -> str:
    return f"load average {os.getloadavg()[0]:.1f}"


def _counts(statuses: Counter[int]) -> str:
    return ", ".join(f"{status}: {n:,}" for status, n in sorted(statuses.items()))


def kills() -> Iterator[Row]:
    """``kill -9`` at random moments while captions are accepted; what was acknowledged is asked of a new server."""
    acknowledged = lost = 0
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        with open_store(home) as store:
            released_store(store, Path(folder), 1)
        for i in range(KILLS):
            review, captions = accept_until_killed(home, solid_image(), 0.02 * (i + 1))
            acknowledged += len(captions)
            lost += len(set(captions) - set(accepted_captions(home, review)))
    note = f"{acknowledged} captions acknowledged"
    yield Row("accepted captions lost by kill -9", lost, "captions", "0", lost == 0, KILLS, note=note)


def rollbacks() -> Iterator[Row]:
    """Promote, roll back during the load, promote again, roll back; four clients ask meanwhile.

    Every round promotes a release of its own, which is not in memory yet.
    """
    times_s, during_load, answers, wrong = [], 0, 0, 0
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        with open_store(home) as store:
            first = released_store(store, Path(folder), 1)[0].ref
            releases = [add_release(store, starter_folder()).ref for _ in range(ROLLBACKS)]
            with server_process(home) as (_, client), _asking(str(client.base_url)) as asked:
                for release in releases:
                    promote(release, store, "bench", "newer")
                    state = _wait_until(client, lambda state: release in {state["loading"], state["served"]})  # noqa: B023  # called at once
                    during_load += state["served"] == first
                    times_s.append(_roll_back(store, client, first))
                    promote(release, store, "bench", "newer, once more")
                    _wait_until(client, lambda state: state["served"] == release)  # noqa: B023  # called at once
                    times_s.append(_roll_back(store, client, first))
                    followed = time.perf_counter()
                    time.sleep(0.1)  # for some answers
                    late = [answer for begun, answer in list(asked) if begun > followed]
                    answers, wrong = answers + len(late), wrong + sum(answer != first for answer in late)
    worst, n = max(times_s), len(times_s)
    note = (
        f"median {statistics.median(times_s):.2f} s; {during_load} of {n} while the release was being loaded; {_load()}"
    )
    yield Row("a rollback is followed, worst", worst, "s", "≤ 2 s", worst <= MAX_ROLLBACK_S, n, note=note)
    note = "of requests that began after the rollback had been followed"
    yield Row("answers from a release that was taken back", wrong, "answers", "0", wrong == 0, answers, note=note)


@contextlib.contextmanager
def _asking(base: str) -> Iterator[list[tuple[float, str]]]:
    """Four clients that go on asking: when each request began, and the release that answered it."""
    asked: list[tuple[float, str]] = []
    ended = threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=base, timeout=600) as client:
            while not ended.wait(0.01):
                begun = time.perf_counter()
                answer = client.post("/v1/embeddings", json={"input": "cat"})
                asked.append((begun, answer.json()["model"]))

    with ThreadPoolExecutor(ASKING) as pool:
        clients = [pool.submit(ask) for _ in range(ASKING)]
        try:
            yield asked
        finally:
            ended.set()
        for each in clients:
            each.result()


def _roll_back(store: Store, client: httpx.Client, to: str) -> float:
    """Roll back; the seconds until the server says that the release before is live and answers."""
    rollback("icons", store, "bench", "it is wrong")
    start = time.perf_counter()
    _wait_until(client, lambda state: state["live"] == state["served"] == to)
    return time.perf_counter() - start


def _wait_until(client: httpx.Client, holds: Callable[[dict[str, str]], bool]) -> dict[str, str]:
    """Ask ``/readyz`` until its answer is as wanted."""
    while True:
        state: dict[str, str] = client.get("/readyz").json()
        if holds(state):
            return state
        time.sleep(0.01)


SECTIONS = {"cold": cold, "throughput": throughput, "hostile": hostile, "kills": kills, "rollbacks": rollbacks}

if __name__ == "__main__":
    sys.exit(measure("serving", SECTIONS, sys.argv[1:]))
