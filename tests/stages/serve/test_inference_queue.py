"""What is admitted is answered in time or given up before it reaches the model; what cannot be is refused at once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any

import pytest

from clerestory.stages.serve.config import QueueConfig
from clerestory.stages.serve.inference_queue import ClientGone, DeadlineExceeded, InferenceQueue, Overloaded


def run(scenario: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner() as runner:
        runner.run(scenario)


@pytest.mark.parametrize("why", ["deadline", "gone"])
def test_a_job_whose_request_is_given_up_never_runs(why: str) -> None:
    async def scenario() -> None:
        queue, free, ran = InferenceQueue(), threading.Event(), []
        busy = queue.submit(free.wait, 60)
        with queue.admit(0.05 if why == "deadline" else 60) as place:
            if why == "gone":
                asyncio.get_running_loop().call_later(0.01, place.give_up, ClientGone())
            with pytest.raises(DeadlineExceeded if why == "deadline" else ClientGone):
                await place.wait(queue.submit(ran.append, 1))
            with pytest.raises(DeadlineExceeded if why == "deadline" else ClientGone):
                await place.wait(queue.submit(ran.append, 2))
        await asyncio.sleep(0.01)  # the thread learns of a cancelled job in the next turn of the loop
        free.set()
        await busy
        await queue.run(ran.append, 3)
        queue.close()
        assert ran == [3]
        assert (queue.admitted, queue.jobs.units) == (0, 0)

    run(scenario())


def test_a_request_that_would_wait_for_longer_than_its_deadline_is_refused_with_the_time_to_retry() -> None:
    async def scenario() -> None:
        queue = InferenceQueue()
        queue.texts.unit_seconds.add(0.5)
        queue.texts.units = 20  # ten seconds of work
        with pytest.raises(Overloaded) as refused, queue.admit(4.0):
            pass
        assert (refused.value.reason, refused.value.retry_after) == ("deadline", 8)
        with queue.admit(17.0):
            assert queue.admitted == 1
        queue.close()

    run(scenario())


def test_bytes_and_pixels_are_bounded_but_a_lone_request_is_answered() -> None:
    async def scenario() -> None:
        queue = InferenceQueue(QueueConfig(max_bytes=1_000, max_pixels=1_000))
        with queue.admit() as first:
            first.add(5_000, 5_000)
            with queue.admit() as second:
                with pytest.raises(Overloaded, match="busy") as by_bytes:
                    second.add(1)
                with pytest.raises(Overloaded) as by_pixels:
                    second.add(0, 1)
        assert (by_bytes.value.reason, by_pixels.value.reason) == ("bytes", "pixels")
        assert (queue.bytes, queue.pixels) == (0, 0)
        queue.close()

    run(scenario())
