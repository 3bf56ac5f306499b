"""Dynamic micro-batching: what several requests want embedded at the same time goes through the model together.

A batch is whatever waits when the model becomes free, so a lone request never waits for others. Each request gets an
equal share of a batch, so one with two thousand texts does not hold up one with a single text. An embedding differs
from that of its input alone by at most ``TOLERANCE`` per number: padding changes the last bits.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clerestory.core.errors import CapabilityError, UploadError
from clerestory.data.images import decode_beside_requests, image_batches
from clerestory.models.protocols import Embedder
from clerestory.web.inference_queue import InferenceQueue

Rows = NDArray[np.float32]
MAX_BATCH = 64  # inputs
MAX_BATCH_CHARACTERS = 8_000  # of the longest text times the number of texts: the work, since texts are padded
MAX_BATCH_BYTES = 10_000_000  # of encoded images; at least one image is always taken
TOLERANCE = 1e-6


class BatchKey(NamedTuple):
    """What the inputs of one batch have in common."""

    model: Embedder
    dimensions: int
    images: bool


class _Pending:
    """A request with inputs that are not embedded yet: texts first, those of similar length together."""

    def __init__(self, model: Embedder, inputs: Sequence[str | bytes], dimensions: int) -> None:
        self.model, self.inputs, self.dimensions = model, inputs, dimensions
        self.rows = np.empty((len(inputs), dimensions), dtype=np.float32)
        self.waiting = deque(sorted(range(len(inputs)), key=lambda i: (isinstance(inputs[i], bytes), len(inputs[i]))))
        self.in_flight = 0
        self.done: asyncio.Future[Rows] = asyncio.get_running_loop().create_future()

    @property
    def key(self) -> BatchKey:
        """The batch that its next input can go into."""
        return BatchKey(self.model, self.dimensions, isinstance(self.inputs[self.waiting[0]], bytes))


class _Slot(NamedTuple):
    """One input of a request, by its position."""

    request: _Pending
    position: int

    @property
    def content(self) -> str | bytes:
        """The text, or the bytes of the image."""
        return self.request.inputs[self.position]


class MicroBatcher:
    """Embeds the inputs of concurrent requests in common batches.

    Args:
        queue: runs the batches.
    """

    def __init__(self, queue: InferenceQueue) -> None:
        self._queue = queue
        self._pending: deque[_Pending] = deque()
        self._worker: asyncio.Task[None] | None = None

    async def embed(self, model: Embedder, inputs: Sequence[str | bytes], dimensions: int) -> Rows:
        """Unit rows (N, dimensions) in the order of the inputs: texts, or the bytes of images.

        Raises:
            UploadError: an image cannot be decoded; names its position.
        """
        request = _Pending(model, inputs, dimensions)
        self._pending.append(request)
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        try:
            return await request.done
        finally:  # also if nobody waits for it any longer
            self._drop(request)

    async def _work(self) -> None:
        while self._pending:
            key = self._pending[0].key
            batch = self._next_batch(key)
            try:
                await self._run(key, batch)
            except asyncio.CancelledError:  # the server stops: nobody may wait for ever
                for request in [*(slot.request for slot in batch), *self._pending]:
                    request.done.cancel()
                raise

    def _next_batch(self, key: BatchKey) -> list[_Slot]:
        """Take inputs of one key from the waiting requests, an equal share from each, in order of arrival."""
        matching = [each for each in self._pending if each.key == key]
        share = max(1, MAX_BATCH // len(matching))
        batch: list[_Slot] = []
        longest = total = 0
        for request in matching[:MAX_BATCH]:
            for _ in range(share):
                if not request.waiting or request.key != key:
                    break
                content = request.inputs[request.waiting[0]]
                longest, total = max(longest, len(content)), total + len(content)
                full = total > MAX_BATCH_BYTES if key.images else longest * (len(batch) + 1) > MAX_BATCH_CHARACTERS
                if batch and full:
                    return self._rotate(batch)
                batch.append(_Slot(request, request.waiting.popleft()))
                request.in_flight += 1
        return self._rotate(batch)

    def _rotate(self, batch: list[_Slot]) -> list[_Slot]:
        """Move the requests that had their turn behind the others; those without waiting inputs leave."""
        served = {id(slot.request) for slot in batch}
        others = [each for each in self._pending if id(each) not in served]
        unfinished = [each for each in self._pending if id(each) in served and each.waiting]
        self._pending = deque(others + unfinished)
        return batch

    async def _run(self, key: BatchKey, batch: list[_Slot]) -> None:
        try:
            outcomes = await self._queue.run(_embed, key, [slot.content for slot in batch])
            _check_outcomes(outcomes, batch, key)
        except Exception as error:  # each request of the batch receives it
            requests = {id(slot.request): slot.request for slot in batch}
            if len(requests) == 1:
                outcomes = [error] * len(batch)
            else:  # the input at which the model fails must not fail the others' requests
                for request in requests.values():
                    await self._run(key, [slot for slot in batch if slot.request is request])
                return
        for slot, outcome in zip(batch, outcomes, strict=True):
            self._deliver(slot, outcome)

    def _deliver(self, slot: _Slot, outcome: Rows | Exception) -> None:
        request = slot.request
        request.in_flight -= 1
        if request.done.done():
            return
        if isinstance(outcome, Exception):
            if isinstance(outcome, UploadError):
                outcome = UploadError(f"input[{slot.position}]: {outcome.message}", outcome.fix, outcome.status)
            self._fail(request, outcome)
            return
        request.rows[slot.position] = outcome
        if not request.waiting and not request.in_flight:
            request.done.set_result(request.rows)

    def _fail(self, request: _Pending, error: Exception) -> None:
        self._drop(request)
        request.done.set_exception(error)

    def _drop(self, request: _Pending) -> None:
        request.waiting.clear()
        self._pending = deque(each for each in self._pending if each is not request)


def _check_outcomes(outcomes: Sequence[Rows | Exception], batch: Sequence[_Slot], key: BatchKey) -> None:
    """Raise if a model does not return one row of the right width for each input; nobody would get an answer."""
    shapes = {outcome.shape for outcome in outcomes if not isinstance(outcome, Exception)}
    if len(outcomes) != len(batch) or shapes - {(key.dimensions,)}:
        raise CapabilityError(
            f"the model returned {len(outcomes)} embeddings of shape {sorted(shapes)} for {len(batch)} inputs, "
            f"not one of {key.dimensions} numbers for each",
            "use another model, and report this to the author of this one",
        )


def _embed(key: BatchKey, contents: Sequence[str | bytes]) -> list[Rows | Exception]:
    """A row or an error for each input; runs in the model's thread."""
    if not key.images:
        texts = [each for each in contents if isinstance(each, str)]
        return list(key.model.embed_texts(texts, key.dimensions))
    outcomes: list[Rows | Exception] = [np.empty(0, np.float32)] * len(contents)

    def load(position: int) -> Image.Image | None:
        content = contents[position]
        assert isinstance(content, bytes)
        try:
            return decode_beside_requests(content)
        except UploadError as error:
            outcomes[position] = error
            return None

    def embed(batch: Sequence[tuple[int, Image.Image | None]]) -> None:
        decoded = [(position, image) for position, image in batch if image is not None]
        if decoded:
            rows = key.model.embed_images([image for _, image in decoded], key.dimensions)
            for (position, _), row in zip(decoded, rows, strict=True):
                outcomes[position] = row

    for batch in image_batches(range(len(contents)), load, MAX_BATCH):
        embed(batch)
    return outcomes
