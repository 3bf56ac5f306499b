"""Rollouts, promotion and the journal: ``make bench-operations-rollout``, or name sections of it.

Servers are real processes, the store is real SQLite on the disk, the models are tiny: the bench measures the machinery
and not the arithmetic of a model.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import resource
import sqlite3
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

sys.path.insert(0, str(Path(__file__).parents[1]))  # for tests.support
from tests.support.released_store import released_store
from tests.support.rollout_simulation import GuardrailSimulator
from tests.support.rollouts import log_e_path, two_releases
from tests.support.server_process import server_process
from tests.web.small_server import running

from clerestory.core.codec import Tags
from clerestory.core.digest import canonical
from clerestory.core.errors import ClerestoryError
from clerestory.core.release import Event
from clerestory.stages.release import promote, rollback
from clerestory.stages.release.promotion import start_canary
from clerestory.store import Store, open_store
from clerestory.store.journal import START, chain
from clerestory.store.operations.rollouts import OF_REQUESTS, Guardrail, RolloutPlan, RolloutState, list_rollouts
from clerestory.store.operations.servers import list_servers
from clerestory.web import create_app
from table import Row, measure

CLIENTS, FLIPS, MIN_REQUESTS = 32, 100, 50_000
ALPHA, ROLLOUTS, REQUESTS, SUBJECTS = 0.01, 1_000, 20_000, 5_000
PROMOTIONS, LONG_JOURNAL = 200, 100_000
RECORDS = 1_000_000
RACES, RACERS = 20, 8
FOLLOWS = 20


def flips() -> Iterator[Row]:
    """100 flips between two releases while 32 clients embed texts."""
    with tempfile.TemporaryDirectory() as folder, open_store(Path(folder) / "home") as store:
        released_store(store, Path(folder) / "models", 2)
        promote("icons@2", store, "ada", "both are loaded from here on", new_space=True)
        with server_process(Path(folder) / "home") as (_, client):
            base = str(client.base_url)
            _wait_for(store, lambda each: set(each.resident) == {"icons@1", "icons@2"})
            steady = asyncio.run(_load(base, 20.0, None, store))
            flipped = asyncio.run(_load(base, 0.0, FLIPS, store))
    failed = sum(each.status != 200 for each in flipped.answers)
    outside = sum(not each.allowed for each in flipped.answers)
    count = len(flipped.answers)
    yield Row("failed requests", failed, "", "0", failed == 0, count, note=f"{FLIPS} flips at {CLIENTS} clients")
    yield Row("requests during the flips", count, "", f"≥ {MIN_REQUESTS:,}", count >= MIN_REQUESTS, count)
    yield Row("answers from a version outside the admission", outside, "", "0", outside == 0, count)
    steady_p99, p99 = (_p99(each) for each in (steady, flipped))
    yield Row(
        "p99 during the flips, to steady", p99 / steady_p99, "×", "≤ 2", p99 <= 2 * steady_p99, count,
        note=f"{p99 * 1e3:.0f} ms and {steady_p99 * 1e3:.0f} ms of {len(steady.answers):,} requests",
    )  # fmt: skip


class _Answer:
    __slots__ = ("allowed", "seconds", "status")

    def __init__(self, status: int, seconds: float, allowed: bool) -> None:
        self.status, self.seconds, self.allowed = status, seconds, allowed


class _Load:
    def __init__(self) -> None:
        self.answers: list[_Answer] = []
        self.moves: list[tuple[float, float, str]] = []  # when a move began and was seen served, and to what


async def _load(base: str, seconds: float, flips: int | None, store: Store) -> _Load:
    """32 clients until the time is over, or until the flips are done and there were enough requests."""
    load, done = _Load(), asyncio.Event()
    raw: list[tuple[float, float, int, str]] = []
    limits = httpx.Limits(max_connections=CLIENTS, max_keepalive_connections=CLIENTS)
    async with httpx.AsyncClient(base_url=base, limits=limits, timeout=60) as client:

        async def one() -> None:
            while not done.is_set():
                start = time.monotonic()
                answer = await client.post("/v1/embeddings", json={"input": "a red heart"})
                raw.append((start, time.monotonic(), answer.status_code, answer.headers.get("clerestory-release", "")))

        clients = [asyncio.create_task(one()) for _ in range(CLIENTS)]
        if flips is None:
            await asyncio.sleep(seconds)
        else:
            for i in range(flips):
                start = time.monotonic()
                if i % 2:
                    alias = await asyncio.to_thread(promote, "icons@2", store, "ada", "flip", new_space=True)
                else:
                    alias = await asyncio.to_thread(rollback, "icons", store, "ada", "flip")
                ref = f"icons@{alias.number}"
                while (await client.get("/readyz")).json()["served"] != ref:
                    await asyncio.sleep(0.02)
                load.moves.append((start, time.monotonic(), ref))
                goal = MIN_REQUESTS * (i + 1) / flips
                while len(raw) < goal:
                    await asyncio.sleep(0.02)
        done.set()
        await asyncio.gather(*clients)
    load.answers = [
        _Answer(status, end - start, status != 200 or _allowed(load, start, end, ref))
        for start, end, status, ref in raw
    ]
    return load


def _allowed(load: _Load, start: float, end: float, ref: str) -> bool:
    """Whether a release could have been the served one at some time between the sending and the answer."""
    if not load.moves:
        return True
    served = {"icons@2"}  # before the first move
    for began, seen, target in load.moves:
        if seen <= start:
            served = {target}
        elif began <= end:
            served.add(target)
    return ref in served


def _p99(load: _Load) -> float:
    return float(np.percentile([each.seconds for each in load.answers], 99))


BREACHES = 10


def breach() -> Iterator[Row]:
    """From the answer whose evidence is enough to the last answer of the candidate, with two servers on one store."""
    took: list[float] = []
    bad: list[int] = []
    with tempfile.TemporaryDirectory() as folder, open_store(Path(folder) / "home") as store:
        released_store(store, Path(folder) / "models", 2)
        apps = [create_app(store, None), create_app(open_store(Path(folder) / "home"), None)]
        with running(apps[0]) as first, running(apps[1]) as second:
            for _ in range(BREACHES):
                # The candidate answers well until both servers have it, so that the first error is the first evidence.
                plan = RolloutPlan(steps=(0.5,), new_space=True, max_latency_s=30)
                rollout = start_canary("icons@2", store, plan, "ada", "a bench")
                _wait_for(
                    store,
                    lambda each, id=rollout.id: "icons@2" in each.resident and each.rollout == id,
                    servers=2,
                )
                models = [app.state.server.follower.resident(2).embedder for app in apps]
                for model in models:
                    model.embed_texts = _fails
                seconds, after = asyncio.run(_until_stable(store, (first, second)))
                for model in models:
                    del model.embed_texts
                took.append(seconds)
                bad.append(after)
    yield Row(
        "from the breach to 100 % stable", max(took), "s", "≤ 1", max(took) <= 1, len(took),
        note=f"2 servers, {2 * BREACH_CLIENTS} clients; median {statistics.median(took):.2f} s; "
        f"{statistics.median(bad):.0f} (at most {max(bad)}) answers of the candidate after the breach",
    )  # fmt: skip


BREACH_CLIENTS = 4  # of each server


def _fails(*_: object, **__: object) -> np.ndarray:
    raise RuntimeError("the candidate fails")


async def _until_stable(store: Store, bases: tuple[str, ...]) -> tuple[float, int]:
    """Seconds from the answer that completes the evidence to the last one of the candidate, and how many lie between.

    The evidence is that of the servers: the product of the e-values of each over its own answers, in their order.
    """
    seen: list[tuple[float, int, bool, bool]] = []  # when, server, whether the candidate answered, whether badly
    done = asyncio.Event()

    async def one(server: int) -> None:
        async with httpx.AsyncClient(base_url=bases[server], timeout=60) as client:
            while not done.is_set():
                answer = await client.post("/v1/embeddings", json={"input": "a red heart"})
                arm = answer.headers.get("clerestory-arm", "")
                assert arm or answer.status_code == 200, answer.text
                if arm:
                    seen.append((time.monotonic(), server, arm == "candidate", answer.status_code >= 500))

    clients = [asyncio.create_task(one(server)) for server in (0, 1) for _ in range(BREACH_CLIENTS)]
    until = time.monotonic() + 120
    while _newest_state(store) is not RolloutState.ROLLED_BACK:
        assert time.monotonic() < until, f"no rollback after {len(seen)} answers"
        await asyncio.sleep(0.05)
    await asyncio.sleep(2.0)  # what the candidate still answers
    done.set()
    await asyncio.gather(*clients)
    total = np.zeros(len(seen))
    for server in (0, 1):
        own = np.array([each[1] == server for each in seen])
        candidate = np.array([each[2] for each in seen])[own]
        wrong = np.array([each[3] for each in seen])[own]
        path = log_e_path(wrong, candidate, np.full(own.sum(), 0.5), RolloutPlan().error_tolerance)
        steps = np.zeros(len(seen))
        steps[own] = np.diff(path, prepend=0.0)
        total += np.cumsum(steps)
    at = int(np.argmax(total >= RolloutPlan().log_limit))
    assert total[at] >= RolloutPlan().log_limit, "it was rolled back without the evidence"
    later = [each for each in seen[at + 1 :] if each[2]]
    return (later[-1][0] - seen[at][0] if later else 0.0), len(later)


def _newest_state(store: Store) -> RolloutState:
    """The state of the newest rollout."""
    with store.database.reading() as connection:
        return list_rollouts(connection, "icons", 1)[0].state


# What the guardrails of requests count: the rate of each, as a multiple of the rate of errors.
RATES = {Guardrail.ERRORS: 1.0, Guardrail.LATENCY: 2.0, Guardrail.EMBEDDINGS: 0.1}
PLAN = RolloutPlan(alpha=ALPHA)
TOLERANCES = {
    Guardrail.ERRORS: PLAN.error_tolerance,
    Guardrail.LATENCY: PLAN.latency_tolerance,
    Guardrail.EMBEDDINGS: PLAN.embedding_tolerance,
}


def simulated() -> Iterator[Row]:
    """1,000 rollouts of a candidate that is as good, and how long a worse one lasts."""
    start = time.perf_counter()
    rng = np.random.default_rng(13)
    t = np.arange(REQUESTS)
    kinds = {
        "constant at 1 %": np.full(REQUESTS, 0.01),
        "rising from 1 % to 11 %": 0.01 + 0.1 * t / REQUESTS,
        "alternating 0.2 % and 15 %": np.where(t // 1_000 % 2, 0.002, 0.15),
    }
    weight = np.where(t < REQUESTS // 4, *PLAN.steps)
    simulators = {each: GuardrailSimulator(weight, TOLERANCES[each]) for each in OF_REQUESTS}
    for name, rate in kinds.items():
        stopped = 0
        for _ in range(ROLLOUTS):
            candidate = rng.random(REQUESTS) < weight
            bad = {each: rng.random(REQUESTS) < rate * RATES[each] for each in OF_REQUESTS}
            stopped += _rolled_back(simulators, bad, candidate)
        note = f"a look at each of {REQUESTS:,} requests, {len(OF_REQUESTS)} guardrails of requests"
        yield _rolled_back_row(f"identical arms rolled back, {name}", stopped, note)
    yield from _skewed(rng)
    for share in PLAN.steps:
        yield from _power(rng, share)
    seconds = time.perf_counter() - start
    yield Row("the simulations", seconds, "s", "≤ 60", seconds <= 60, 1, note="one process")


def _rolled_back(
    simulators: dict[Guardrail, GuardrailSimulator],
    bad: dict[Guardrail, NDArray[np.bool_]],
    candidate: NDArray[np.bool_],
) -> bool:
    reached = (simulators[each].first_reach(bad[each], candidate, PLAN.log_limit) for each in OF_REQUESTS)
    return any(each is not None for each in reached)


def _rolled_back_row(name: str, stopped: int, note: str) -> Row:
    share = 100 * stopped / ROLLOUTS
    # Clopper & Pearson 1934: exact, also for zero.
    low = 100 * beta.ppf(0.025, stopped, ROLLOUTS - stopped + 1) if stopped else 0.0
    high = 100 * beta.ppf(0.975, stopped + 1, ROLLOUTS - stopped)
    return Row(name, share, "%", "≤ 1", share <= 1, ROLLOUTS, note=f"95 % interval {low:.2f}-{high:.2f} %; {note}")


def _skewed(rng: np.random.Generator) -> Iterator[Row]:
    """A few subjects make most requests, and theirs fail or not by subject: the first request of each counts."""
    simulators = {each: GuardrailSimulator(np.full(REQUESTS, 0.25), TOLERANCES[each]) for each in OF_REQUESTS}
    stopped = without = 0
    for _ in range(ROLLOUTS):
        subjects = np.minimum(rng.zipf(1.3, REQUESTS), SUBJECTS) - 1
        arm = rng.random(SUBJECTS) < 0.25
        bad = {each: rng.random(SUBJECTS) < 0.05 * RATES[each] for each in OF_REQUESTS}
        for each in bad.values():
            each[:3] = True  # the busiest ones
        counted = subjects[np.sort(np.unique(subjects, return_index=True)[1])]
        stopped += _rolled_back(simulators, {each: rows[counted] for each, rows in bad.items()}, arm[counted])
        without += _rolled_back(simulators, {each: rows[subjects] for each, rows in bad.items()}, arm[subjects])
    note = f"Zipf 1.3, {SUBJECTS:,} subjects; if every request counted: {100 * without / ROLLOUTS:.0f} %"
    yield _rolled_back_row("identical arms rolled back, skewed returning subjects", stopped, note)


def _power(rng: np.random.Generator, share: float) -> Iterator[Row]:
    weight = np.full(REQUESTS, share)
    simulator = GuardrailSimulator(weight, PLAN.error_tolerance)
    lengths = []
    for _ in range(ROLLOUTS):
        candidate = rng.random(REQUESTS) < weight
        bad = rng.random(REQUESTS) < np.where(candidate, 0.1, 0.01)
        lengths.append(simulator.first_reach(bad, candidate, PLAN.log_limit))
    ended = sorted(each for each in lengths if each is not None)
    power = 100 * len(ended) / ROLLOUTS
    note = f"1 % of errors to 10 %, within {REQUESTS:,} requests"
    yield Row(f"worse candidates rolled back, {share:.0%} share", power, "%", "≥ 99", power >= 99, ROLLOUTS, note=note)
    median, most = np.percentile([each or REQUESTS for each in lengths], (50, 90))
    note = f"1 % of errors to 10 %; 90 % within {most:,.0f}"
    yield Row(f"requests until a rollback, {share:.0%} share", float(median), "", "-", True, ROLLOUTS, note=note)


def promotions() -> Iterator[Row]:
    """How long a promotion takes with its journal record, in a store with a long journal; racing promoters."""
    with tempfile.TemporaryDirectory() as folder, open_store(Path(folder) / "home") as store:
        two_releases(store, Path(folder))
        _fill_journal(store, LONG_JOURNAL)
        took = []
        for i in range(PROMOTIONS):
            start = time.perf_counter()
            if i % 2:
                rollback("icons", store, "ada", "a bench")
            else:
                promote("icons@2", store, "ada", "a bench")
            took.append(time.perf_counter() - start)
        later = took[1:]
        p99 = float(np.percentile(later, 99)) * 1e3
        yield Row(
            "promote or roll back, p99", p99, "ms", "≤ 50", p99 <= 50, len(later),
            note=f"median {statistics.median(later) * 1e3:.1f} ms, the first one of a process {took[0] * 1e3:.0f} ms; "
            f"journal of {LONG_JOURNAL:,} records",
        )  # fmt: skip
        winners = [_race(store.home) for _ in range(RACES)]
        holds = all(each == 1 for each in winners) and not store.journal.verify() + store.verify_registry("icons")
        yield Row("winners of a generation", max(winners), "", "1", holds, RACES, note=f"{RACERS} racing processes")


def _race(home: Path) -> int:
    """How many of eight processes that read the same generation have moved the alias."""
    with open_store(home) as store:
        live = store.alias("icons", "live")
        assert live is not None
        target = f"icons@{3 - live.number}"
    context = multiprocessing.get_context("fork")
    barrier, wins = context.Barrier(RACERS), context.Value("i", 0)
    racers = [
        context.Process(target=_promote_once, args=(home, target, live.generation, barrier, wins))
        for _ in range(RACERS)
    ]
    for each in racers:
        each.start()
    for each in racers:
        each.join()
    return int(wins.value)


def _promote_once(home: Path, target: str, generation: int, barrier: object, wins: object) -> None:
    with open_store(home) as store:
        barrier.wait()  # type: ignore[attr-defined]  # of multiprocessing
        with contextlib.suppress(ClerestoryError):
            promote(target, store, "ada", "a race", expected_generation=generation)
            with wins.get_lock():  # type: ignore[attr-defined]
                wins.value += 1  # type: ignore[attr-defined]


def followed() -> Iterator[Row]:
    """How long two running servers take to serve what was promoted; the release is in memory, or must be loaded."""
    with tempfile.TemporaryDirectory() as folder, open_store(Path(folder) / "home") as store:
        released_store(store, Path(folder) / "models", 2)
        home = Path(folder) / "home"
        with server_process(home) as (_, first), server_process(home) as (_, second):
            start = time.monotonic()
            promote("icons@2", store, "ada", "a bench", new_space=True)
            _served((first, second), "icons@2")
            loaded = time.monotonic() - start
            took = []
            for i in range(FOLLOWS):
                start = time.monotonic()
                if i % 2:
                    alias = promote("icons@2", store, "ada", "a bench", new_space=True)
                else:
                    alias = rollback("icons", store, "ada", "a bench")
                _served((first, second), f"icons@{alias.number}")
                took.append(time.monotonic() - start)
        note = f"2 servers, median {statistics.median(took):.2f} s; with a load of the tiny model {loaded:.1f} s"
        yield Row("followed by running servers", max(took), "s", "≤ 2", max(took) <= 2, len(took), note=note)


def _served(clients: tuple[httpx.Client, ...], ref: str) -> None:
    for client in clients:
        while client.get("/readyz").json().get("served") != ref:
            time.sleep(0.02)


def journal() -> Iterator[Row]:
    """A million records, and one flipped byte in the middle."""
    with tempfile.TemporaryDirectory() as folder:
        with open_store(Path(folder) / "home") as store:
            _fill_journal(store, RECORDS)
        context = multiprocessing.get_context("spawn")
        with context.Pool(1) as pool:  # of its own, so that its memory is that of the verification
            intact, seconds, memory = pool.apply(_verify, (Path(folder) / "home",))
            yield Row(
                "verification of 10⁶ journal records", seconds, "s", "≤ 60", seconds <= 60 and not intact, RECORDS,
                note=f"{memory:.0f} MiB at most in that process",
            )  # fmt: skip
            with contextlib.closing(sqlite3.connect(Path(folder) / "home" / "store.db")) as database:
                for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
                    database.execute(f"DROP TRIGGER {name}")
                change = "UPDATE journal SET record = replace(record, 'a bench', 'a bencH') WHERE seq = ?"
                database.execute(change, (RECORDS // 2,))
                database.commit()
            found, seconds, _ = pool.apply(_verify, (Path(folder) / "home",))
        holds = found and f"record {RECORDS // 2}" in found[0]
        yield Row("one flipped byte found", seconds, "s", "≤ 60", bool(holds and seconds <= 60), 1, note=found[0][:60])


def _verify(home: Path) -> tuple[list[str], float, float]:
    with open_store(home) as store:
        start = time.perf_counter()
        found = [finding.message for finding in store.journal.verify()]
        seconds = time.perf_counter() - start
    return found, seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _fill_journal(store: Store, count: int) -> None:
    """Append records of other names by one transaction."""
    length, previous = store.journal.head()

    def rows() -> Iterator[tuple[object, ...]]:
        nonlocal previous
        for i in range(length + 1, length + count + 1):
            event = Event(
                "checked", f"other@{i % 50 + 1}", "ada", "a bench", "2026-11-01T00:00:00+00:00", Tags(n=str(i))
            )
            record = canonical(event)
            digest = chain(previous, record)
            yield i, digest, previous, event.kind, event.subject, record.decode()
            previous = digest

    assert previous == START or length
    with contextlib.closing(sqlite3.connect(store.home / "store.db")) as database:
        database.executemany("INSERT INTO journal VALUES (?, ?, ?, ?, ?, ?)", rows())
        database.commit()


def _wait_for(store: Store, condition: object, servers: int = 1) -> None:
    until = time.monotonic() + 120
    while True:
        with store.database.reading() as connection:
            found = [each for each in list_servers(connection, "icons") if each.is_running()]
        if len(found) >= servers and all(condition(each) for each in found):  # type: ignore[operator]
            return
        assert time.monotonic() < until, found
        time.sleep(0.05)


SECTIONS = {
    "promotions": promotions,
    "followed": followed,
    "breach": breach,
    "flips": flips,
    "simulated": simulated,
    "journal": journal,
}

if __name__ == "__main__":
    threading.stack_size(0)
    sys.exit(measure("operations_rollout", SECTIONS, sys.argv[1:]))
