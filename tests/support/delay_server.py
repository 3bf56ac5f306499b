"""A server whose delays are known to everyone, and an ideal observer of it.

Request k is answered ``delays[k]`` after it arrives, with one exception: within a stall, which begins a given time
after request 0 arrived, nothing is answered; what would have been is answered when the stall ends.

Run as a program it is an asyncio HTTP/1.1 server in a process of its own, on a loopback port that it prints. The path
of a request is its number: ``POST /17``. ``POST /17/500`` is answered at once with that status, ``/17/garbage`` with
bytes that are no JSON, ``/17/never`` not at all.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MOST = 20_000


@dataclass(frozen=True)
class Law:
    """Uniform delays in ``shortest``…``longest`` seconds; a stall ``stall_at`` seconds after request 0, if it lasts."""

    seed: int = 7
    shortest: float = 0.05
    longest: float = 0.2
    stall_at: float = 8.0
    stall: float = 2.0

    def delays(self) -> NDArray[np.float64]:
        return np.random.default_rng(self.seed).uniform(self.shortest, self.longest, MOST)

    def answered(self, arrival: float, delay: float, first: float) -> float:
        """When a request is answered that arrives at ``arrival``; ``first`` is when request 0 arrived."""
        begin, end = first + self.stall_at, first + self.stall_at + self.stall
        finish = arrival + delay
        return end if begin <= finish < end else finish

    def ideal_ms(self, due: NDArray[np.float64]) -> NDArray[np.float64]:
        """What an observer sees whose requests all arrive exactly when they are due."""
        delays = self.delays()
        return np.array([(self.answered(at, delays[k], due[0]) - at) * 1e3 for k, at in enumerate(due.tolist())])


class Server:
    """The law, on the time of the running event loop."""

    def __init__(self, law: Law) -> None:
        self._law = law
        self._delays = law.delays().tolist()
        self._first: float | None = None

    async def answer(self, number: int) -> None:
        loop = asyncio.get_running_loop()
        arrival = loop.time()
        if self._first is None:
            self._first = arrival
        await asyncio.sleep(self._law.answered(arrival, self._delays[number], self._first) - arrival)

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := (await reader.readuntil(b"\r\n\r\n")).decode("latin-1"):
                line, *fields = head.split("\r\n")
                lengths = [int(f.partition(":")[2]) for f in fields if f.lower().startswith("content-length:")]
                await reader.readexactly(sum(lengths))
                number, _, special = line.split()[1].strip("/").partition("/")
                writer.write(await self._reply(int(number), special))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _reply(self, number: int, special: str) -> bytes:
        if special == "never":
            await asyncio.sleep(3600)
        if not special:
            await self.answer(number)
        status = int(special) if special.isdigit() else 200
        body = b"<html>not JSON" if special == "garbage" else json.dumps({"data": [number]}).encode()
        return b"HTTP/1.1 %d Known\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body)


async def serve(law: Law) -> None:
    server = await asyncio.start_server(Server(law).connected, "127.0.0.1", 0)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    # Whoever started the server holds its standard input open; when that ends, so does the server.
    await asyncio.to_thread(sys.stdin.read)


@contextmanager
def running(law: Law) -> Iterator[str]:
    """The server in a process of its own; gives ``http://127.0.0.1:PORT``."""
    settings = [f"--{name}={value}" for name, value in vars(law).items()]
    with subprocess.Popen(
        [sys.executable, __file__, *settings], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        finally:
            process.stdin.close()


def main() -> None:
    parser = argparse.ArgumentParser()
    for name, value in vars(Law()).items():
        parser.add_argument(f"--{name}", type=type(value), default=value)
    asyncio.run(serve(Law(**vars(parser.parse_args()))))


if __name__ == "__main__":
    main()
