"""The mistake that the open-loop generator must not make: workers that ask again only when they have been answered."""

from __future__ import annotations

import asyncio
import itertools

import numpy as np
from numpy.typing import NDArray

from clerestory.stages.evaluate.suites.latency.load_generator import Target


async def closed_loop(target: Target, workers: int, warm_up: float, seconds: float) -> NDArray[np.float64]:
    """Latencies in ms, from each send to its answer, of requests sent after the warm-up by so many workers."""
    loop = asyncio.get_running_loop()
    numbers = itertools.count()
    begun = loop.time()
    latencies: list[float] = []

    async def work() -> None:
        while loop.time() < begun + warm_up + seconds:
            sent = loop.time()
            await target.send(next(numbers))
            if sent >= begun + warm_up:
                latencies.append((loop.time() - sent) * 1e3)

    async with target:
        await asyncio.gather(*(work() for _ in range(workers)))
    return np.array(latencies)
