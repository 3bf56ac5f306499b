"""Serving beside LitServe, BentoML and Ray Serve: ``make bench-operations-serving``, or with the names of sections.

Every server embeds one text per request with the same model in the same library, with its own batching on. All of them
run at the same time and are loaded in turn, so that other jobs on the machine concern them alike; the ratios are of the
rounds. Ours is ``clerestory serve`` as it is: all checks of hosts, origins and keys, the access log, metrics and the
request log are on. The peers are installed into ``bench/.peers``, each into its own environment, beside which the
packages of this one (torch, transformers) are visible. ``wrk`` sends the requests (apt-get install wrk).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil  # type: ignore[import-untyped]  # it ships no types

sys.path.insert(0, str(Path(__file__).parents[1]))  # for tests.support
from tests.support.images import solid_image

from clerestory.models.starter import starter_folder
from table import Row, measure

ROOT = Path(__file__).resolve().parents[1]
CLIENTS = 32
ROUNDS = int(os.environ.get("ROUNDS", "7"))
SECONDS = int(os.environ.get("SECONDS", "4"))
READY_SECONDS = 180
DEADLINE = 0.5  # seconds
RUDE_SECONDS = 0.05
PEERS = Path(__file__).parent / ".peers"
SERVERS = Path(__file__).parent / "peer_servers"
PACKAGES = {"litserve": "litserve==0.2.19", "bentoml": "bentoml==1.4.40", "ray": "ray[serve]==2.60.0"}
NAMES = {"litserve": "LitServe 0.2.19", "bentoml": "BentoML 1.4.40", "ray": "Ray Serve 2.60.0"}
MIN_RATIO = {"litserve": 2.0, "bentoml": 3.0, "ray": 5.0}
OURS = [sys.executable, "-c", "import sys; from clerestory.cli.main import main; sys.exit(main())"]
LUA = """
wrk.method = "POST"; wrk.headers["Content-Type"] = "application/json"
local n = 0
request = function() n = n + 1; return wrk.format(nil, "%s", nil, string.format('%s', n)) end
done = function(summary, latency)
  local e = summary.errors
  local broken = e.connect + e.read + e.write + e.timeout
  io.write(string.format('{"requests": %%d, "us": %%d, "failed": %%d, "broken": %%d, "p50": %%d, "p99": %%d}\\n',
    summary.requests, summary.duration, e.status, broken, latency:percentile(50), latency:percentile(99)))
end
"""


@dataclass
class Server:
    """A running server and its measurements, one number for each round."""

    name: str
    process: subprocess.Popen[bytes]
    port: int
    path: str
    body: str
    per_second: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)
    p99_ms: list[float] = field(default_factory=list)
    failed: int = 0
    requests: int = 0

    def cpu_seconds(self) -> float:
        """The processor time of all its processes so far."""
        total = 0.0
        for each in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                times = each.cpu_times()
                total += times.user + times.system
        return total

    def processes(self) -> list[psutil.Process]:
        """Its process and all of their children."""
        root = psutil.Process(self.process.pid)
        return [root, *root.children(recursive=True)]

    def is_ready(self) -> bool:
        """Whether it answers a request like those of the bench."""
        body = self.body.replace("%d", "0")
        try:
            answer = httpx.post(
                f"http://127.0.0.1:{self.port}{self.path}", content=body, headers={"content-type": "application/json"}
            )
        except httpx.HTTPError:
            return False
        return answer.status_code == 200

    def load(self, seconds: int, clients: int = CLIENTS) -> dict[str, int]:
        """Load it for a while: requests, how many failed, and percentiles of the latency in microseconds."""
        with tempfile.NamedTemporaryFile("w", suffix=".lua", encoding="utf-8") as script:
            script.write(LUA % (self.path, self.body))
            script.flush()
            command = ["wrk", "-t1", f"-c{clients}", f"-d{seconds}s", "--timeout", "60s", "-s", script.name]
            command.append(f"http://127.0.0.1:{self.port}/")
            out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        found: dict[str, int] = json.loads(out.splitlines()[-1])
        return found

    def measure(self) -> None:
        """One round."""
        before = self.cpu_seconds()
        found = self.load(SECONDS)
        self.per_second.append(1e6 * found["requests"] / found["us"])
        self.cpu_ms.append(1000 * (self.cpu_seconds() - before) / max(1, found["requests"]))
        self.p99_ms.append(found["p99"] / 1000)
        self.failed += found["failed"] + found["broken"]
        self.requests += found["requests"]


def install(peer: str) -> Path:
    """The Python of a peer's environment, which is made if it is not there."""
    folder = PEERS / peer
    python = folder / "bin/python"
    if not (folder / "ready").exists():
        if not python.exists():
            venv.create(folder, with_pip=True)
            print(f"installing {PACKAGES[peer]}", file=sys.stderr)
            subprocess.run([python, "-m", "pip", "install", "--quiet", PACKAGES[peer]], check=True)
        (site,) = folder.glob("lib/python*/site-packages")
        own = next(path for path in sys.path if path.endswith("site-packages"))
        (site / "zz_clerestory.pth").write_text(f"{ROOT / 'src'}\n{own}\n", encoding="utf-8")
        (folder / "ready").touch()
    return python


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def command_of(name: str, model: str, port: int, home: Path) -> tuple[list[str], str, str]:
    """The command of a server, the path of its endpoint and the body of a request, with ``%d`` for its number."""
    text = "a photo of the red cat number %d"
    one = json.dumps({"input": text})
    if name == "ours":
        folder = ["--home", str(home), "--data", str(home / "images"), "--port", str(port)]
        return [*OURS, "serve", "--model", model, *folder], "/v1/embeddings", one
    python = str(install(name))
    if name == "bentoml":
        program = [str(Path(python).parent / "bentoml"), "serve", "bentoml_server:Embedding", "--host", "127.0.0.1"]
        return [*program, "--port", str(port)], "/embed", json.dumps({"texts": [text]})
    script = str(SERVERS / f"{name}_server.py")
    return [python, script, model, str(port)], {"litserve": "/predict", "ray": "/"}[name], one


@contextlib.contextmanager
def running(name: str, model: str, home: Path) -> Iterator[Server]:
    """A server that answers; ended with all of its processes."""
    port = free_port()
    command, path, body = command_of(name, model, port, home)
    settings = {"OMP_NUM_THREADS": "1", "BENTOML_DO_NOT_TRACK": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    settings["BENCH_MODEL"] = model
    settings |= {"BENTOML_HOME": str(home / "bentoml"), "RAY_METRICS_ENABLED": "0", "PYTHONPATH": str(ROOT / "src")}
    with (home / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=SERVERS, env={**os.environ, **settings})
    server = Server(name, process, port, path, body)
    try:
        until = time.monotonic() + READY_SECONDS
        while not server.is_ready():
            if process.poll() is not None or time.monotonic() > until:
                raise SystemExit(f"{name} does not answer:\n{(home / f'{name}.log').read_text('utf-8')[-2000:]}")
            time.sleep(0.3)
        yield server
    finally:
        every = server.processes() if process.poll() is None else []
        process.terminate()
        _, alive = psutil.wait_procs(every, timeout=20)
        for each in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
        process.wait()


@contextlib.contextmanager
def side_by_side(model: Callable[[Path], str], names: Sequence[str]) -> Iterator[list[Server]]:
    """Servers of the same model, all ready."""
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not installed: apt-get install wrk")
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        home = Path(folder)
        (home / "images").mkdir()
        for colour in ("red", "navy", "green"):
            (home / f"images/{colour}.png").write_bytes(solid_image(colour))
        reference = model(home)
        yield [stack.enter_context(running(name, reference, home)) for name in names]


def tiny(home: Path) -> str:
    """A CLIP of two narrow layers."""
    program = "import sys, pathlib; from tests.support.tiny_hf import make_clip; make_clip(pathlib.Path(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", program, str(home / "tiny")], check=True, cwd=ROOT, capture_output=True)
    return f"hf:{home / 'tiny'}"


def starter(home: Path) -> str:
    """The included model, with its text encoder of 22 million parameters."""
    return str(starter_folder())


def compared(model: Callable[[Path], str], label: str, bars: dict[str, float], cpu_bar: float) -> Iterator[Row]:
    """Requests per second and processor time per request, each beside every peer."""
    with side_by_side(model, ["ours", *PACKAGES]) as servers:
        ours, *peers = servers
        for server in servers:
            server.load(2)
        for _ in range(ROUNDS):
            for server in servers:
                server.measure()
        note = f"p99 {statistics.median(ours.p99_ms):.0f} ms; {_range(ours.per_second)}; {_load()}"
        rate = statistics.median(ours.per_second)
        yield Row(f"{label}: requests per second", rate, "1/s", "reported", True, ROUNDS, note=note)
        note = _range(ours.cpu_ms)
        yield Row(
            f"{label}: processor time",
            statistics.median(ours.cpu_ms),
            "ms/request",
            "reported",
            True,
            ROUNDS,
            note=note,
        )
        yield Row(f"{label}: failed", ours.failed, "requests", "0", ours.failed == 0, ours.requests)
        for peer in peers:
            yield from _beside(ours, peer, label, bars[peer.name], cpu_bar)


def _beside(ours: Server, peer: Server, label: str, bar: float, cpu_bar: float) -> Iterator[Row]:
    ratios = [a / b for a, b in zip(ours.per_second, peer.per_second, strict=True)]
    ratio, name = statistics.median(ratios), NAMES[peer.name]
    note = f"rounds {_range(ratios)}; {name}: {statistics.median(peer.per_second):.0f}/s, {peer.failed} failed"
    yield Row(f"{label}: × {name}", ratio, "×", f"≥ {bar:g}×", ratio >= bar, ROUNDS, name, note)
    shares = [a / b for a, b in zip(ours.cpu_ms, peer.cpu_ms, strict=True)]
    share = statistics.median(shares)
    note = f"rounds {_range(shares)}; {name}: {statistics.median(peer.cpu_ms):.2f} ms/request"
    bounded = cpu_bar > 0
    words = f"≤ {cpu_bar:.2g}" if bounded else "reported"
    holds = not bounded or share <= cpu_bar
    yield Row(f"{label}: processor time ÷ {name}", share, "", words, holds, ROUNDS, name, note)


def _range(values: Sequence[float]) -> str:
    return f"{min(values):.3g} to {max(values):.3g}"


def _load() -> str:
    return f"load average {os.getloadavg()[0]:.1f}"


def small() -> Iterator[Row]:
    """With a tiny model, where the server itself is most of the work."""
    yield from compared(tiny, f"tiny model, {CLIENTS} clients", MIN_RATIO, 1 / 3)


def real() -> Iterator[Row]:
    """With the included model, which is most of the work."""
    yield from compared(starter, f"starter, {CLIENTS} clients", dict.fromkeys(PACKAGES, 1.0), 0)


@dataclass
class Flood:
    """What one run of the generator measured; times are in seconds."""

    good: int
    refused: int
    late: int
    seconds: float
    p99: float
    health_p99: float

    @property
    def per_second(self) -> float:
        """Answers in time."""
        return self.good / self.seconds


def flooded(server: Server, kind: str, clients: int, seconds: float) -> Flood:
    """Load a server by the generator, in a process of its own; the health check is asked meanwhile."""
    command = [sys.executable, __file__, "--flood", kind, str(server.port), str(clients), str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        times_s = []
        with httpx.Client(base_url=f"http://127.0.0.1:{server.port}", timeout=60) as client:
            while process.poll() is None:
                start = time.perf_counter()
                client.get("/healthz")
                times_s.append(time.perf_counter() - start)
                time.sleep(0.05)
        assert process.stdout is not None
        found = json.loads(process.stdout.read())
    return Flood(**found, health_p99=statistics.quantiles(times_s, n=100)[-1])


def overload() -> Iterator[Row]:
    """Ten times as many clients as the peak needs: those that wait as they were told to, and those that do not."""
    with side_by_side(starter, ["ours"]) as (server,):
        flooded(server, "patient", 8, 2)
        process = psutil.Process(server.process.pid)
        before = process.memory_info().rss
        peaks: list[Flood] = []
        runs: dict[str, list[Flood]] = {"obedient": [], "rude": []}
        for _ in range(min(ROUNDS, 5)):
            peaks.append(flooded(server, "patient", CLIENTS, SECONDS))
            for kind, each in runs.items():
                each.append(flooded(server, kind, 10 * CLIENTS, 2 * SECONDS))
        growth = (process.memory_info().rss - before) / 2**20
    peak = statistics.median(each.per_second for each in peaks)
    for kind, each in runs.items():
        yield from _overloaded(kind, each, [found.per_second for found in peaks])
    note = f"peak {peak:.0f}/s"
    yield Row("10× overload: growth of memory", growth, "MiB", "≤ 100 MiB", growth <= 100, 1, note=note)


def _overloaded(kind: str, runs: Sequence[Flood], peaks: Sequence[float]) -> Iterator[Row]:
    label = f"10× overload, {kind} clients"
    shares = [100 * run.per_second / peak for run, peak in zip(runs, peaks, strict=True)]
    goodput, good = statistics.median(shares), sum(run.good for run in runs)
    refused, late = sum(run.refused for run in runs), sum(run.late for run in runs)
    note = f"{good} good, {refused} refused with 429, {late} late (504); rounds {_range(shares)}; {_load()}"
    yield Row(f"{label}: goodput", goodput, "% of peak", "≥ 90 %", goodput >= 90, len(runs), note=note)
    p99, bar = 1000 * statistics.median(run.p99 for run in runs), 1000 * DEADLINE
    yield Row(f"{label}: accepted, p99", p99, "ms", f"≤ {bar:.0f} ms, the deadline", p99 <= bar, good)
    health = 1000 * statistics.median(run.health_p99 for run in runs)
    yield Row(f"{label}: /healthz, p99", health, "ms", "≤ 50 ms", health <= 50, len(runs))


class _Client(asyncio.Protocol):
    """Sends one request after another; a refused one pauses for as long as its kind does."""

    def __init__(self, request: bytes, pause: float | None, times_s: list[float], statuses: Counter[int]) -> None:
        self._request, self._pause, self._times_s, self._statuses = request, pause, times_s, statuses
        self._buffer = b""
        self._start = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._send()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._buffer[:end].lower() + b"\r\n"
        if len(self._buffer) < end + 4 + _number(head, b"content-length: "):
            return
        self._buffer = b""
        status = int(head[9:12])
        self._statuses[status] += 1
        pause = 0.0
        if status == 200:
            self._times_s.append(time.perf_counter() - self._start)
        elif status == 429:
            pause = self._pause or float(_number(head, b"retry-after: "))
        asyncio.get_running_loop().call_later(pause, self._send)

    def _send(self) -> None:
        self._start = time.perf_counter()
        self._transport.write(self._request)


def _number(head: bytes, name: bytes) -> int:
    start = head.index(name) + len(name)
    return int(head[start : head.index(b"\r", start)])


def flood(kind: str, port: int, clients: int, seconds: float) -> None:
    """Send requests on many connections, each as fast as it is answered; print the numbers of the answers as JSON.

    Args:
        kind: of the clients: ``patient`` ones have no deadline, ``obedient`` ones wait for ``Retry-After`` when
            they are refused, ``rude`` ones for ``RUDE_SECONDS``.
        port: of the server.
        clients: their number.
        seconds: how long.
    """
    body = json.dumps({"input": "a photo of the red cat"}).encode()
    head = "POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    if kind != "patient":
        head += f"X-Request-Timeout: {DEADLINE}\r\n"
    request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    times_s: list[float] = []
    statuses = Counter[int]()

    async def every() -> None:
        loop = asyncio.get_running_loop()
        pause = RUDE_SECONDS if kind == "rude" else None
        for _ in range(clients):
            await loop.create_connection(lambda: _Client(request, pause, times_s, statuses), "127.0.0.1", port)
        await asyncio.sleep(1)  # the burst of all the connections
        times_s.clear()
        statuses.clear()
        await asyncio.sleep(seconds)

    asyncio.run(every())
    p99 = statistics.quantiles(times_s, n=100)[-1] if len(times_s) > 1 else 0.0
    result = {"good": len(times_s), "refused": statuses[429], "late": statuses[504], "seconds": seconds, "p99": p99}
    print(json.dumps(result))


SECTIONS = {"small": small, "real": real, "overload": overload}

if __name__ == "__main__":
    if sys.argv[1:2] == ["--flood"]:
        flood(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5]))
    else:
        sys.exit(measure("operations_serving", SECTIONS, sys.argv[1:]))
