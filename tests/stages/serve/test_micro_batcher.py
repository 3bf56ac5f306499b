"""Concurrent requests share batches, get the embeddings of their inputs alone, and do not fail one another."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from tests.support.images import encode_image, noise_images, solid_image

from clerestory.core.errors import CapabilityError, UploadError
from clerestory.models import ClerestoryEncoder, open_model
from clerestory.models.protocols import Matrix
from clerestory.stages.serve.config import BatchConfig
from clerestory.stages.serve.inference_queue import InferenceQueue
from clerestory.stages.serve.micro_batcher import TOLERANCE, MicroBatcher

DIM = 64
LIMITS = BatchConfig()


class Recorder:
    """A real model that records its batches; ``free`` holds it back, and it fails at texts with ``poison``."""

    def __init__(self, model: ClerestoryEncoder) -> None:
        self.model, self.digest, self.dims = model, model.digest, model.dims
        self.batches: list[list[str]] = []
        self.image_batches: list[int] = []
        self.free = threading.Event()
        self.free.set()

    def embed_texts(self, texts: Sequence[str], dim: int | None = None) -> Matrix:
        self.free.wait(60)
        self.batches.append(list(texts))
        if any("poison" in text for text in texts):
            raise CapabilityError("the model fails", "send other texts")
        return self.model.embed_texts(texts, dim)

    def embed_images(self, images: Sequence[Image.Image], dim: int | None = None) -> Matrix:
        self.image_batches.append(len(images))
        return self.model.embed_images(images, dim)


@pytest.fixture(scope="module")
def encoder(tiny_model: Path) -> ClerestoryEncoder:
    return open_model(tiny_model)


@pytest.fixture
def model(encoder: ClerestoryEncoder) -> Recorder:
    return Recorder(encoder)


async def at_once(model: Recorder, requests: Sequence[Sequence[str | bytes]], dims: Sequence[int] = ()) -> list[object]:
    """The results of requests that all wait before the model is free; an exception in place of a failed one."""
    queue = InferenceQueue()
    batcher = MicroBatcher(queue)
    model.free.clear()
    first = asyncio.create_task(batcher.embed(model, ["the model is busy"], DIM))
    await asyncio.sleep(0)
    widths = dims or [DIM] * len(requests)
    tasks = [asyncio.create_task(batcher.embed(model, *each)) for each in zip(requests, widths, strict=True)]
    await asyncio.sleep(0)
    model.free.set()
    results = await asyncio.gather(first, *tasks, return_exceptions=True)
    queue.close()
    assert model.batches.pop(0) == ["the model is busy"]
    return results[1:]


TEXTS = st.lists(st.lists(st.text("abc ", min_size=1, max_size=300), min_size=1, max_size=5), min_size=1, max_size=9)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(requests=TEXTS)
def test_a_batch_gives_each_request_the_embeddings_of_its_texts_alone(
    encoder: ClerestoryEncoder, requests: list[list[str]]
) -> None:
    model = Recorder(encoder)
    for texts, rows in zip(requests, asyncio.run(at_once(model, requests)), strict=True):
        alone = np.concatenate([encoder.embed_texts([text], DIM) for text in texts])
        np.testing.assert_allclose(rows, alone, rtol=0, atol=TOLERANCE)
    for batch in model.batches:
        assert len(batch) <= LIMITS.max_inputs
        assert len(batch) == 1 or len(batch) * max(map(len, batch)) <= LIMITS.max_characters


def test_32_requests_of_one_text_are_one_batch(model: Recorder) -> None:
    texts = [f"text {i}" for i in range(32)]
    results = asyncio.run(at_once(model, [[text] for text in texts]))
    assert [sorted(batch) for batch in model.batches] == [sorted(texts)]
    for text, rows in zip(texts, results, strict=True):
        np.testing.assert_allclose(rows, model.model.embed_texts([text], DIM), atol=TOLERANCE)


def test_a_lone_request_is_bit_for_bit_what_the_model_gives(model: Recorder) -> None:
    (rows,) = asyncio.run(at_once(model, [["a cat"]]))
    np.testing.assert_array_equal(rows, model.model.embed_texts(["a cat"], DIM))


def test_a_request_with_very_many_texts_does_not_hold_up_a_small_one(model: Recorder) -> None:
    asyncio.run(at_once(model, [[f"many {i}" for i in range(1000)], ["small"]]))
    assert "small" in model.batches[0]
    assert sum(map(len, model.batches)) == 1001


def test_a_long_text_shares_a_batch_with_few_others(model: Recorder) -> None:
    long = "word " * 250
    asyncio.run(at_once(model, [[long], *([f"short {i}"] for i in range(20))]))
    together = LIMITS.max_characters // len(long)
    assert [len(batch) for batch in model.batches] == [together, 21 - together]


def test_requests_for_different_dimensions_are_not_mixed(model: Recorder) -> None:
    results = asyncio.run(at_once(model, [["a"], ["b"], ["c"]], dims=[64, 128, 64]))
    assert [np.shape(rows) for rows in results] == [(1, 64), (1, 128), (1, 64)]
    assert sorted(map(sorted, model.batches)) == [["a", "c"], ["b"]]


@pytest.mark.parametrize("wrong", [lambda rows: rows[:-1], lambda rows: rows[:, :-1]])
def test_a_model_that_returns_other_embeddings_than_it_was_asked_for_fails_the_requests(
    model: Recorder, monkeypatch: pytest.MonkeyPatch, wrong: Callable[[Matrix], Matrix]
) -> None:
    embed = model.embed_texts
    monkeypatch.setattr(
        model, "embed_texts", lambda texts, dim=None: wrong(embed(texts, dim)) if "a" in texts else embed(texts, dim)
    )
    (result,) = asyncio.run(at_once(model, [["a", "b"]]))
    assert isinstance(result, CapabilityError)
    assert "not one of 64 numbers for each" in result.message


def test_a_text_at_which_the_model_fails_fails_its_own_request_only(model: Recorder) -> None:
    good, bad, other = asyncio.run(at_once(model, [["good"], ["fine", "poison"], ["other"]]))
    assert isinstance(bad, CapabilityError)
    np.testing.assert_allclose(good, model.model.embed_texts(["good"], DIM), atol=TOLERANCE)
    np.testing.assert_allclose(other, model.model.embed_texts(["other"], DIM), atol=TOLERANCE)


def test_a_damaged_image_fails_its_own_request_and_is_named(model: Recorder) -> None:
    red, blue = solid_image(), solid_image("navy")
    requests = [["sun", red], [blue, b"not an image"], [blue, "moon"]]
    first, bad, last = asyncio.run(at_once(model, requests))
    assert isinstance(bad, UploadError)
    assert bad.message.startswith("input[1]: ")
    assert np.shape(first) == np.shape(last) == (2, DIM)
    images = model.model.embed_images([Image.new("RGB", (24, 16), colour) for colour in ("red", "navy")], DIM)
    np.testing.assert_allclose([first[1], last[0]], images, atol=1e-5)  # type: ignore[index]  # arrays
    assert max(model.image_batches) > 1


def test_large_images_go_through_the_model_a_few_at_a_time(model: Recorder) -> None:
    large = encode_image(Image.new("RGB", (4000, 4000), "red"))
    small = encode_image(noise_images((20, 20))[0])
    asyncio.run(at_once(model, [[large], [large], [small], [small]]))
    assert model.image_batches == [1, 1, 2]


def test_a_request_that_nobody_waits_for_any_longer_is_dropped(model: Recorder) -> None:
    async def scenario() -> Matrix:
        queue = InferenceQueue()
        batcher = MicroBatcher(queue)
        model.free.clear()
        first = asyncio.create_task(batcher.embed(model, ["first"], DIM))
        await asyncio.sleep(0)
        gone = asyncio.create_task(batcher.embed(model, [f"gone {i}" for i in range(500)], DIM))
        kept = asyncio.create_task(batcher.embed(model, ["kept"], DIM))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.sleep(0)
        model.free.set()
        await first
        rows = await kept
        queue.close()
        return rows

    assert np.shape(asyncio.run(scenario())) == (1, DIM)
    assert model.batches == [["first"], ["kept"]]
