"""Dynamic micro-batching: what several requests want embedded at the same time goes through the model together.

A batch is whatever waits when the model becomes free, so a lone request never waits for others. Each request gets an
equal share of a batch, so one with two thousand texts does not hold up one with a single text. The inputs of a batch
are for one loaded model, so no answer mixes versions. An embedding differs from that of its input alone by at most
``TOLERANCE`` per number: padding changes the last bits.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clerestory.core.errors import CapabilityError, UploadError
from clerestory.data.images import declared_size, decode_beside_requests, image_batches
from clerestory.models.protocols import Embedder
from clerestory.stages.serve.config import BatchConfig
from clerestory.stages.serve.inference_queue import Backlog, InferenceQueue, Place

Rows = NDArray[np.float32]
TOLERANCE = 1e-6
# Work is estimated in characters, or in pixels; each input costs as much besides as these.
TEXT_CHARACTERS = 32
IMAGE_PIXELS = 200_000
UNKNOWN_PIXELS = 1_000_000  # of an image whose head does not say its size


class BatchKey(NamedTuple):
    """What the inputs of one batch have in common."""

    model: Embedder
    dimensions: int
    images: bool


class _Pending:
    """A request with inputs that are not embedded yet: texts first, those of similar length together."""

    __slots__ = ("costs", "dimensions", "done", "in_flight", "inputs", "key", "model", "rows", "waiting")

    def __init__(self, model: Embedder, inputs: Sequence[str | bytes], dimensions: int) -> None:
        self.model, self.inputs, self.dimensions = model, inputs, dimensions
        self.rows = np.empty((len(inputs), dimensions), dtype=np.float32)
        self.costs = [_cost(each) for each in inputs]
        order = range(len(inputs)) if len(inputs) == 1 else sorted(range(len(inputs)), key=self._order)
        self.waiting = deque(order)
        self.in_flight = 0
        self.done: asyncio.Future[Rows] = asyncio.get_running_loop().create_future()
        self.key = BatchKey(model, dimensions, isinstance(inputs[order[0]], bytes))

    def _order(self, position: int) -> tuple[bool, int]:
        content = self.inputs[position]
        return isinstance(content, bytes), len(content)

    def take(self) -> int:
        """The position of the next input, which is in flight from now on."""
        position = self.waiting.popleft()
        self.in_flight += 1
        if self.waiting and not self.key.images and isinstance(self.inputs[self.waiting[0]], bytes):
            self.key = BatchKey(self.model, self.dimensions, True)
        return position


class _Slot(NamedTuple):
    """One input of a request, by its position."""

    request: _Pending
    position: int

    @property
    def content(self) -> str | bytes:
        """The text, or the bytes of the image."""
        return self.request.inputs[self.position]

    @property
    def cost(self) -> int:
        """The estimate of its work."""
        return self.request.costs[self.position]


class MicroBatcher:
    """Embeds the inputs of concurrent requests in common batches.

    Args:
        queue: runs the batches.
        config: the limits of a batch.

    Attributes:
        on_batch: called with the number of inputs of each batch and the seconds that it took.
    """

    def __init__(self, queue: InferenceQueue, config: BatchConfig | None = None) -> None:
        self._queue = queue
        self._config = config or BatchConfig()
        self._pending: dict[int, _Pending] = {}  # by identity, in order of arrival
        self._worker: asyncio.Task[None] | None = None
        self.on_batch: Callable[[int, float], None] | None = None

    async def embed(
        self, model: Embedder, inputs: Sequence[str | bytes], dimensions: int, place: Place | None = None
    ) -> Rows:
        """Unit rows (N, dimensions) in the order of the inputs: texts, or the bytes of images.

        Args:
            model: the loaded model.
            inputs: at least one.
            dimensions: one of the model's.
            place: of the request; when it is given up, what has not reached the model is dropped.

        Raises:
            UploadError: an image cannot be decoded; names its position.
            DeadlineExceeded, ClientGone: the place was given up.
        """
        request = _Pending(model, inputs, dimensions)
        self._pending[id(request)] = request
        self._count(request, 1)
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        try:
            return await (place.wait(request.done) if place is not None else request.done)
        finally:  # also if nobody waits for it any longer
            self._drop(request)

    def _count(self, request: _Pending, sign: int) -> None:
        """Count the work of the waiting inputs of a request in the backlog of the queue."""
        for position in request.waiting:
            is_image = isinstance(request.inputs[position], bytes)
            backlog = self._queue.images if is_image else self._queue.texts
            backlog.units += sign * request.costs[position]

    async def _work(self) -> None:
        while self._pending:
            key = next(iter(self._pending.values())).key
            batch = self._next_batch(key)
            try:
                await self._run(key, batch)
            except asyncio.CancelledError:  # the server stops: nobody may wait for ever
                for request in [*(slot.request for slot in batch), *self._pending.values()]:
                    request.done.cancel()
                raise
            finally:
                self._backlog(key).units -= sum(slot.cost for slot in batch)

    def _next_batch(self, key: BatchKey) -> list[_Slot]:
        """Take inputs of one key from the waiting requests, an equal share from each, in order of arrival."""
        config = self._config
        matching = [each for each in self._pending.values() if each.key == key]
        share = max(1, config.max_inputs // len(matching))
        batch: list[_Slot] = []
        longest = total = 0
        for request in matching[: config.max_inputs]:
            for _ in range(share):
                if not request.waiting or request.key != key:
                    break
                size = len(request.inputs[request.waiting[0]])
                longest, total = max(longest, size), total + size
                work = longest * (len(batch) + 1)
                if batch and (total > config.max_bytes if key.images else work > config.max_characters):
                    return self._rotate(batch)
                batch.append(_Slot(request, request.take()))
        return self._rotate(batch)

    def _rotate(self, batch: list[_Slot]) -> list[_Slot]:
        """Move the requests that had their turn behind the others; those without waiting inputs leave."""
        for request in {id(slot.request): slot.request for slot in batch}.values():
            del self._pending[id(request)]
            if request.waiting:
                self._pending[id(request)] = request
        return batch

    def _backlog(self, key: BatchKey) -> Backlog:
        return self._queue.images if key.images else self._queue.texts

    async def _run(self, key: BatchKey, batch: list[_Slot]) -> None:
        try:
            contents = [slot.content for slot in batch]
            timed = await self._queue.start(lambda: _embed_timed(key, contents, self._config.max_inputs))
            outcomes, seconds, ended = timed
            _check_outcomes(outcomes, batch, key)
        except Exception as error:  # each request of the batch receives it
            requests = {id(slot.request): slot.request for slot in batch}
            if len(requests) == 1:
                outcomes = [error] * len(batch)
            else:  # the input at which the model fails must not fail the others' requests
                for request in requests.values():
                    await self._run(key, [slot for slot in batch if slot.request is request])
                return
        else:
            # Until the next batch begins: the event loop may be late, and then the model waits.
            whole = seconds + time.perf_counter() - ended
            self._backlog(key).unit_seconds.add(whole / sum(slot.cost for slot in batch))
            if self.on_batch is not None:
                self.on_batch(len(batch), seconds)
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
        if request.waiting:
            self._count(request, -1)
            request.waiting.clear()
        self._pending.pop(id(request), None)


def _check_outcomes(outcomes: Sequence[Rows | Exception], batch: Sequence[_Slot], key: BatchKey) -> None:
    """Raise if a model does not return one row of the right width for each input; nobody would get an answer."""
    shapes = {outcome.shape for outcome in outcomes if not isinstance(outcome, Exception)}
    if len(outcomes) != len(batch) or shapes - {(key.dimensions,)}:
        raise CapabilityError(
            f"the model returned {len(outcomes)} embeddings of shape {sorted(shapes)} for {len(batch)} inputs, "
            f"not one of {key.dimensions} numbers for each",
            "use another model, and report this to the author of this one",
        )


def _cost(content: str | bytes) -> int:
    """The estimate of the work of one input: characters of a text, pixels of an image."""
    if isinstance(content, str):
        return TEXT_CHARACTERS + len(content)
    width, height = declared_size(content)
    return IMAGE_PIXELS + (width * height or UNKNOWN_PIXELS)


def _embed_timed(
    key: BatchKey, contents: Sequence[str | bytes], at_once: int
) -> tuple[list[Rows | Exception], float, float]:
    """As ``_embed``, with the seconds that it took and when it ended."""
    start = time.perf_counter()
    outcomes = _embed(key, contents, at_once)
    ended = time.perf_counter()
    return outcomes, ended - start, ended


def _embed(key: BatchKey, contents: Sequence[str | bytes], at_once: int) -> list[Rows | Exception]:
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

    for batch in image_batches(range(len(contents)), load, at_once):
        embed(batch)
    return outcomes
