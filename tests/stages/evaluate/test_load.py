"""The load generator on simulated time, where the right answer is known exactly."""

from __future__ import annotations

import asyncio
import math
import threading
from typing import Self

import numpy as np
import pytest
from tests.stages.evaluate.closed_loop import closed_loop
from tests.stages.evaluate.virtual import run_virtually
from tests.support.delay_server import Law, Server, running

from clerestory.core.errors import ConfigError
from clerestory.stages.evaluate.suites.latency.load import LoadConfig, LoadResult, arrivals
from clerestory.stages.evaluate.suites.latency.load_generator import RequestFailed, ThreadTarget, offer_load, run_load
from clerestory.stages.evaluate.suites.latency.load_http import HttpPayload, HttpTarget, json_field
from clerestory.stats.aggregate import recompute

CONFIG = LoadConfig(
    arrival_rate_per_s=75, seconds=20, warm_up_seconds=2, slo_ms=250, timeout_seconds=10, max_in_flight=400
)


class Simulated:
    """A target in the event loop; ``answer`` may be overridden."""

    cancellable = True

    def __init__(self, law: Law | None = None) -> None:
        self.server = Server(law or Law())
        self.now = self.most = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    async def send(self, index: int) -> None:
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await self.answer(index)
        finally:
            self.now -= 1

    async def answer(self, index: int) -> None:
        await self.server.answer(index)


def p99(result: LoadResult) -> float:
    return next(m.value for m in result.measurements() if m.name == "load_p99")


def ideal(config: LoadConfig, law: Law) -> np.ndarray:
    due = arrivals(config)
    return law.ideal_ms(due)[due >= config.warm_up_seconds]


@pytest.mark.parametrize("kind", ["poisson", "uniform"])
@pytest.mark.parametrize("stall", [0.0, 2.0])
def test_every_latency_is_that_of_an_ideal_observer(kind: str, stall: float) -> None:
    config = LoadConfig(
        arrival_rate_per_s=75, seconds=20, warm_up_seconds=2, arrivals=kind, timeout_seconds=10, max_in_flight=400
    )  # type: ignore[arg-type]  # parametrised
    law = Law(stall=stall)
    result = run_virtually(offer_load(Simulated(law), config))
    np.testing.assert_allclose([one.ms for one in result.requests], ideal(config, law), rtol=0, atol=1e-6)
    assert p99(result) == pytest.approx(np.quantile(ideal(config, law), 0.99), rel=1e-9)
    assert {one.status for one in result.requests} == {"ok"}
    assert max(result.late_ms) < 1e-6
    assert max(result.timer_ms) < 1e-6
    assert not result.findings()


def test_a_closed_loop_hides_the_stall() -> None:
    law = Law()
    truth = np.quantile(ideal(CONFIG, law), 0.99)
    seen = np.quantile(run_virtually(closed_loop(Simulated(law), 9, CONFIG.warm_up_seconds, CONFIG.seconds)), 0.99)
    assert truth > 1500
    assert seen < 0.2 * truth


def test_few_slots_do_not_hide_the_stall_either() -> None:
    law = Law()
    target = Simulated(law)
    config = LoadConfig(arrival_rate_per_s=75, seconds=20, warm_up_seconds=2, timeout_seconds=30, max_in_flight=16)
    result = run_virtually(offer_load(target, config))
    assert target.most == 16
    assert p99(result) > np.quantile(ideal(config, law), 0.99)
    queued = [one for one in result.requests if one.queued]
    assert queued
    for one in queued:
        assert one.sent > one.scheduled
        assert one.ms == pytest.approx((one.finished - one.scheduled) * 1e3)
    assert "CLR-E042" in {finding.code for finding in result.findings()}


def test_requests_without_an_answer_count_as_the_longest_wait() -> None:
    class Broken(Simulated):
        async def answer(self, index: int) -> None:
            if index % 10 == 0:
                raise RequestFailed("HTTP 500")
            if index % 10 == 1:
                await asyncio.sleep(1e6)
            if index % 10 == 2:
                raise ValueError("no such picture")
            await asyncio.sleep(0.1)

    config = LoadConfig(
        arrival_rate_per_s=50,
        seconds=20,
        warm_up_seconds=0,
        arrivals="uniform",
        slo_ms=150,
        timeout_seconds=2,
        max_in_flight=500,
    )
    result = run_virtually(offer_load(Broken(), config))
    rows = result.rows()
    assert len(rows["ms"]) == 1000
    assert {s: int((rows["status"] == s).sum()) for s in ("ok", "error", "timeout")} == {
        "ok": 700,
        "error": 200,
        "timeout": 100,
    }
    assert set(rows["ms"][rows["status"] != "ok"]) == {2000.0}
    assert set(rows["reason"]) == {"", "HTTP 500", "no answer within 2 s", "ValueError: no such picture"}
    found = {m.name: m.value for m in result.measurements()}
    assert found["load_p50"] == pytest.approx(100)
    assert found["load_p95"] == 2000
    assert found["goodput"] == pytest.approx(0.7)
    (finding,) = result.findings()
    assert finding.code == "CLR-E040"
    assert "300 of 1000" in finding.message
    assert "load_p95, load_p99 fall among them" in finding.message
    assert (finding.count, finding.details["requests"]) == (300, 1000)


def test_a_request_that_never_got_a_slot_is_counted() -> None:
    class Stuck(Simulated):
        cancellable = False

        async def answer(self, index: int) -> None:
            await asyncio.sleep(60)

    config = LoadConfig(
        arrival_rate_per_s=10, seconds=10, warm_up_seconds=0, arrivals="uniform", timeout_seconds=5, max_in_flight=3
    )
    result = run_virtually(offer_load(Stuck(), config))
    statuses = [one.status for one in result.requests]
    assert (statuses.count("timeout"), statuses.count("unsent")) == (3, 97)
    assert {one.ms for one in result.requests} == {5000.0}
    assert all(math.isnan(one.sent) for one in result.requests if one.status == "unsent")
    assert {m.value for m in result.measurements() if m.name == "goodput"} == {0.0}
    assert result.achieved == 0
    assert [f.severity for f in result.findings() if f.code == "CLR-E040"] == ["error"]


def test_an_answer_after_the_timeout_is_no_answer() -> None:
    class Slow(Simulated):
        cancellable = False

        async def answer(self, index: int) -> None:
            await asyncio.sleep(3)

    config = LoadConfig(
        arrival_rate_per_s=10, seconds=5, warm_up_seconds=0, arrivals="uniform", timeout_seconds=2, max_in_flight=100
    )
    result = run_virtually(offer_load(Slow(), config))
    assert {one.status for one in result.requests} == {"timeout"}


def test_warm_up_is_sent_and_dropped() -> None:
    class Cold(Simulated):
        async def answer(self, index: int) -> None:
            await asyncio.sleep(5 if asyncio.get_running_loop().time() < 1.2 else 0.01)

    config = LoadConfig(arrival_rate_per_s=20, seconds=10, warm_up_seconds=2, arrivals="uniform", timeout_seconds=30)
    result = run_virtually(offer_load(Cold(), config))
    assert result.warm_up_requests == 40
    assert len(result.requests) == 200
    assert max(one.ms for one in result.requests) == pytest.approx(10)
    assert result.achieved == pytest.approx(20, rel=0.01)


def test_a_server_too_slow_for_the_rate_is_seen() -> None:
    class OneAtATime(Simulated):
        async def __aenter__(self) -> Self:
            self.lock = asyncio.Lock()
            return self

        async def answer(self, index: int) -> None:
            async with self.lock:
                await asyncio.sleep(0.2)

    config = LoadConfig(
        arrival_rate_per_s=10, seconds=20, warm_up_seconds=0, arrivals="uniform", timeout_seconds=100, max_in_flight=500
    )
    result = run_virtually(offer_load(OneAtATime(), config))
    # Request k is due at k/10 and answered at (k + 1)/5: the queue grows without end.
    expected = [(k + 1) * 200 - k * 100 for k in range(200)]
    np.testing.assert_allclose([one.ms for one in result.requests], expected, atol=1e-6)
    assert result.achieved == pytest.approx(5, rel=0.01)


def test_measurements_follow_from_the_rows() -> None:
    result = run_virtually(offer_load(Simulated(Law(stall=0.0)), CONFIG))
    found = result.measurements({"operation": "embed_text"})
    assert [m.name for m in found] == ["load_p50", "load_p95", "load_p99", "goodput"]
    for one in found:
        assert one.slice == {"task": "load", "rate": "75", "operation": "embed_text"}
        assert one.interval is not None
        assert one.interval.low <= one.value <= one.interval.high
        assert recompute(result.rows(), one) == one


def test_an_interval_of_p99_is_not_claimed_where_one_stall_decides_it() -> None:
    result = run_virtually(offer_load(Simulated(), CONFIG))
    slowest = next(m for m in result.measurements() if m.name == "load_p99")
    assert slowest.interval is None
    assert "clusters cannot bound" in slowest.no_interval


def test_poisson_arrivals_have_the_rate_and_the_spread_of_poisson() -> None:
    due = arrivals(LoadConfig(arrival_rate_per_s=200, seconds=500, warm_up_seconds=0))
    assert len(due) == pytest.approx(100_000, abs=4 * math.sqrt(100_000))
    assert due[0] > 0
    assert (np.diff(due) > 0).all()
    counts = np.bincount(due.astype(int), minlength=500)
    assert np.var(counts) / np.mean(counts) == pytest.approx(1, abs=0.3)
    assert np.array_equal(due, arrivals(LoadConfig(arrival_rate_per_s=200, seconds=500, warm_up_seconds=0)))
    assert not np.array_equal(
        due[:100], arrivals(LoadConfig(arrival_rate_per_s=200, seconds=500, warm_up_seconds=0, seed=1))[:100]
    )


@pytest.mark.parametrize(
    "settings",
    [
        {"arrival_rate_per_s": 0},
        {"arrival_rate_per_s": math.nan},
        {"seconds": -1},
        {"warm_up_seconds": -0.1},
        {"max_in_flight": 0},
        {"arrivals": "bursts"},
        {"slo_ms": 30_000},
        {"arrival_rate_per_s": 1e9},
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        LoadConfig(**settings)  # type: ignore[arg-type]  # wrong on purpose


def test_a_load_without_a_request_is_refused() -> None:
    with pytest.raises(ConfigError, match="no request arrives"):
        arrivals(LoadConfig(arrival_rate_per_s=0.001, seconds=1, warm_up_seconds=0, arrivals="poisson"))


def test_threads_run_every_call_and_no_more_at_once_than_allowed() -> None:
    lock, seen, inside, most = threading.Lock(), set(), 0, 0

    def call(index: int) -> None:
        nonlocal inside, most
        with lock:
            inside, most = inside + 1, max(most, inside + 1)
            seen.add(index)
        with lock:
            inside -= 1
        if index == 3:
            raise RuntimeError("broken")

    config = LoadConfig(arrival_rate_per_s=400, seconds=0.2, warm_up_seconds=0, arrivals="uniform", max_in_flight=4)
    result = run_load(ThreadTarget(call, 4), config)
    assert seen == set(range(80))
    assert 1 <= most <= 4
    assert [(one.index, one.reason) for one in result.requests if one.status != "ok"] == [(3, "RuntimeError: broken")]


def test_http_answers_and_every_kind_of_failure() -> None:
    special = {3: "/500", 4: "/429", 5: "/garbage", 6: "/never"}
    config = LoadConfig(
        arrival_rate_per_s=100,
        seconds=0.2,
        warm_up_seconds=0,
        arrivals="uniform",
        slo_ms=900,
        timeout_seconds=5,
        max_in_flight=32,
    )
    law = Law(shortest=0.0, longest=0.001, stall=0.0)

    def payload(index: int) -> HttpPayload:
        return HttpPayload({"input": index}, path=f"/{index}{special.get(index, '')}")

    with running(law) as base:
        result = run_load(HttpTarget(base, payload, json_field("data")), config)
        refused = run_load(
            HttpTarget("http://127.0.0.1:9/", lambda index: HttpPayload()),
            LoadConfig(arrival_rate_per_s=50, seconds=0.1),
        )
    told = {one.index: (one.status, one.reason) for one in result.requests if one.status != "ok"}
    assert told == {
        3: ("error", "HTTP 500"),
        4: ("error", "HTTP 429"),
        5: ("error", "the response is not JSON"),
        6: ("timeout", "no answer within 5 s"),
    }
    assert {one.status for one in refused.requests} == {"error"}
    assert all(one.reason.startswith("ConnectionRefusedError") for one in refused.requests)


def test_json_field_tells_what_is_missing() -> None:
    check = json_field("data")
    assert check(b'{"data": []}') == ""
    assert check(b'{"error": 1}') == "the response has no 'data'"
    assert check(b"[1]") == "the response has no 'data'"


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (
            b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=1\r\n{"dat\r\n6\r\na": 1}\r\n0\r\nT: 1\r\n\r\n',
            "",
        ),
        (b'HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n{"data": 1}', ""),
        (b'HTTP/1.0 200 OK\r\n\r\n{"data": 1}', ""),
        (b'HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"data": 1}', "IncompleteReadError"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", "the response is not JSON"),
        (b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n", "HTTP 302"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "ValueError: the response is not HTTP/1"),
        (b"", "IncompleteReadError"),
    ],
)
def test_answers_as_servers_send_them(raw: bytes, why: str) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(raw)
        writer.close()

    async def ask() -> str:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with (
            server,
            HttpTarget(f"http://127.0.0.1:{port}", lambda _: HttpPayload(method="GET"), json_field("data")) as to,
        ):
            try:
                await to.send(0)
            except RequestFailed as error:
                return str(error)
        return ""

    told = asyncio.run(ask())
    assert told.startswith(why)
    assert bool(told) == bool(why)


def test_an_address_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="not an HTTP URL"):
        HttpTarget("localhost:8000/v1", lambda _: HttpPayload())
