"""The processes of a distributed training on this machine."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any

from tests.support.forked import ForkedProcess


def run_ranks(count: int, work: Callable[..., None], *arguments: Any) -> None:
    """Call ``work`` in processes of their own, which have the variables of ``torchrun``; a single one has none of them.

    An exception in one of them is printed by it, and ends the test.
    """
    port = free_port()
    variables = [rank_variables(rank, count, port) if count > 1 else {} for rank in range(count)]
    processes = [ForkedProcess(work, *arguments, environment={**os.environ, **each}) for each in variables]
    try:
        codes = [process.wait() for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert codes == [0] * count


def rank_variables(rank: int, count: int, port: int) -> dict[str, str]:
    """What ``torchrun`` sets for a process of one machine."""
    numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "MASTER_PORT": port}
    return {name: str(number) for name, number in numbers.items()} | {"MASTER_ADDR": "127.0.0.1"}


def free_port() -> int:
    """A port that nothing listens at."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port
