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


def overload() -> Iterator[Row]:
    """Ten times as many clients as the queue admits; the health check is asked meanwhile."""
    with side_by_side(starter, ["ours"]) as (server,):
        server.load(2)
        peak = 0.0
        for clients in (8, 32, 64):
            found = server.load(SECONDS, clients)
            peak = max(peak, 1e6 * (found["requests"] - found["failed"]) / found["us"])
        process = psutil.Process(server.process.pid)
        before = process.memory_info().rss
        base = f"http://127.0.0.1:{server.port}"
        command = [
            sys.executable,
            str(Path(__file__)),
            "--flood",
            str(server.port),
            str(10 * CLIENTS),
            str(3 * SECONDS),
        ]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as flood:
            times_s = []
            with httpx.Client(base_url=base, timeout=60) as client:
                while flood.poll() is None:
                    start = time.perf_counter()
                    client.get("/healthz")
                    times_s.append(time.perf_counter() - start)
                    time.sleep(0.02)
            assert flood.stdout is not None
            found = json.loads(flood.stdout.read())
        growth = (process.memory_info().rss - before) / 2**20
    goodput = found["good"] / found["seconds"] / peak
    counts = f"{found['good']} good, {found['refused']} refused with 429, {found['late']} late (504)"
    note = f"peak {peak:.0f}/s; {counts}; {_load()}"
    yield Row("10× overload: goodput", 100 * goodput, "% of peak", "≥ 90 %", goodput >= 0.9, found["good"], note=note)
    p99 = 1000 * found["p99"]
    bar = f"≤ {1000 * found['deadline']:.0f} ms, the deadline"
    yield Row("10× overload: accepted, p99", p99, "ms", bar, found["p99"] <= found["deadline"], found["good"])
    health = 1000 * statistics.quantiles(times_s, n=100)[-1]
    yield Row("10× overload: /healthz, p99", health, "ms", "≤ 50 ms", health <= 50, len(times_s))
    yield Row("10× overload: growth of memory", growth, "MiB", "≤ 100 MiB", growth <= 100, 1)


def flood(port: int, clients: int, seconds: float) -> None:
    """Send requests with a deadline of half a second as fast as they are answered; a refused client waits shortly."""
    deadline, good, statuses = 0.5, [], Counter[int]()
    body = json.dumps({"input": "a photo of the red cat"}).encode()
    head = "POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    head += f"Content-Length: {len(body)}"
    request = f"{head}\r\nX-Request-Timeout: {deadline}\r\n\r\n".encode() + body

    async def work(until: float) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while time.perf_counter() < until:
            start = time.perf_counter()
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            await reader.readexactly(length)
            status = int(head[9:12])
            statuses[status] += 1
            if status == 200:
                good.append(time.perf_counter() - start)
            elif status == 429:
                await asyncio.sleep(0.05)
        writer.close()

    async def every() -> float:
        start = time.perf_counter()
        await asyncio.gather(*(work(start + seconds) for _ in range(clients)))
        return time.perf_counter() - start

    took = asyncio.run(every())
    p99 = statistics.quantiles(good, n=100)[-1] if len(good) > 1 else 0.0
    result = {"good": len(good), "refused": statuses[429], "late": statuses[504], "seconds": took, "p99": p99}
    print(json.dumps(result | {"deadline": deadline}))


SECTIONS = {"small": small, "real": real, "overload": overload}

if __name__ == "__main__":
    if sys.argv[1:2] == ["--flood"]:
        flood(int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
    else:
        sys.exit(measure("operations_serving", SECTIONS, sys.argv[1:]))
