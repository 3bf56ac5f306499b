"""Shadow traffic: a candidate embeds what was just answered, in spare capacity, and nobody receives it.

It runs only if no other request is admitted; what it skips is counted. Inputs whose embeddings differ are kept: their
keyed hashes, and their texts if the rollout says so.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clerestory.core.errors import ClerestoryError
from clerestory.models.protocols import Embedder
from clerestory.stages.serve.inference_queue import InferenceQueue
from clerestory.stages.serve.micro_batcher import MicroBatcher
from clerestory.store import Store
from clerestory.store.operations.rollouts import Rollout, write_shadow

LOG = logging.getLogger("clerestory.serve")
MIN_COSINE = 0.99  # between the two embeddings of an input; below it the answers differ
MAX_EXAMPLES = 50  # of one server
MAX_SHOWN = 500  # characters of a text
TIMEOUT_SECONDS = 10.0
WRITE_SECONDS = 1.0


class ShadowRun:
    """Compares a candidate with the answers of the live release on one server.

    Args:
        store: receives the counts and the examples.
        server: the id of the server.
        queue: of the model.
        batcher: embeds.
        hash_of: the keyed hash of an input.
    """

    def __init__(
        self,
        store: Store,
        server: str,
        queue: InferenceQueue,
        batcher: MicroBatcher,
        hash_of: Callable[[str | bytes], str],
    ) -> None:
        self._store, self._server, self._queue, self._batcher, self._hash_of = store, server, queue, batcher, hash_of
        self._rollout = ""
        self._counts = dict.fromkeys(("compared", "differing", "failed", "skipped"), 0)
        self._examples: list[dict[str, Any]] = []
        self._written = 0.0
        self._task: asyncio.Task[None] | None = None

    def offer(
        self, rollout: Rollout, candidate: Embedder, inputs: Sequence[str | bytes], rows: NDArray[np.float32]
    ) -> None:
        """Embed the inputs of an answered request with the candidate, if there is nothing else to do."""
        if rollout.id != self._rollout:
            self._rollout, self._examples = rollout.id, []
            self._counts = dict.fromkeys(self._counts, 0)
        if self._queue.admitted > 1 or (self._task is not None and not self._task.done()):
            self._counts["skipped"] += 1
            return
        self._task = asyncio.create_task(self._compare(rollout, candidate, tuple(inputs), rows))

    async def _compare(
        self, rollout: Rollout, candidate: Embedder, inputs: tuple[str | bytes, ...], rows: NDArray[np.float32]
    ) -> None:
        try:
            with self._queue.admit(TIMEOUT_SECONDS) as place:
                other = await self._batcher.embed(candidate, inputs, rows.shape[1], place)
            cosines = (rows * other).sum(axis=1)
        except ClerestoryError:
            self._counts["failed"] += 1
            return
        except Exception:  # nobody waits for it
            LOG.exception("the candidate fails on shadow traffic")
            self._counts["failed"] += 1
            return
        self._counts["compared"] += 1
        lowest = int(np.argmin(cosines))
        if not cosines[lowest] >= MIN_COSINE:
            self._counts["differing"] += 1
            self._keep(rollout, inputs[lowest], float(cosines[lowest]))
        if time.monotonic() - self._written > WRITE_SECONDS:
            self._written = time.monotonic()
            await asyncio.to_thread(self._write)

    def _keep(self, rollout: Rollout, content: str | bytes, cosine: float) -> None:
        if len(self._examples) < MAX_EXAMPLES:
            text = content[:MAX_SHOWN] if rollout.plan.keep_inputs and isinstance(content, str) else ""
            cosine = cosine if np.isfinite(cosine) else -1.0
            self._examples.append({"input": self._hash_of(content), "cosine": round(cosine, 4), "text": text})

    def _write(self) -> None:
        try:
            with self._store.database.writing() as connection:
                write_shadow(connection, self._rollout, self._server, {**self._counts, "examples": self._examples})
        except ClerestoryError as error:
            LOG.warning("shadow results are not written: %s", error.message)
