"""Suites that need images again and again hold a limited number of large ones, and every small one."""

from __future__ import annotations

import gc

import pytest
from PIL import Image
from tests.support.images import solid_image

from clerestory.core.digest import digest_bytes
from clerestory.core.sample import Caption, Dataset, Sample
from clerestory.stages.evaluate import EvaluateConfig
from clerestory.stages.evaluate.config import SelfTestConfig
from clerestory.stages.evaluate.context import EvaluationContext
from clerestory.stages.evaluate.held_images import MAX_PIXELS, HeldImages, LazyImages, changed_images
from clerestory.stages.evaluate.selftest.probe import make_probe_set
from clerestory.stages.evaluate.suites.corruption.corrupted_embeddings import CoarseColours
from clerestory.stages.evaluate.suites.latency.timing import timed_images
from clerestory.store import Store

LARGE = (3_000, 2_000)
FIT = MAX_PIXELS // (LARGE[0] * LARGE[1])
COUNT = FIT + 3


def large_data(names: int = COUNT) -> Dataset:
    content = solid_image("olive", LARGE)
    samples = [Sample(f"{i}", digest_bytes(content), (Caption(f"photograph {i}"),)) for i in range(names)]
    return Dataset("photographs", samples, lambda _: content)


def num_large() -> int:
    gc.collect()
    # By type, since isinstance would ask every object for its class, and some libraries have objects that then warn.
    return sum(issubclass(type(each), Image.Image) and each.size == LARGE for each in gc.get_objects())


def test_small_images_are_loaded_once_and_what_does_not_fit_every_time() -> None:
    loads: list[int] = []

    def load(position: int) -> Image.Image | None:
        loads.append(position)
        return None if position == 2 else Image.new("RGB", (10, 10))

    held = HeldImages(load, max_pixels=250)
    for _ in range(3):
        assert [held[i] is None for i in range(5)] == [False, False, True, False, False]
    assert loads == [0, 1, 2, 3, 4, 3, 4, 3, 4]


def test_lazy_images_are_a_sequence() -> None:
    images = LazyImages(6, lambda i: Image.new("RGB", (i + 1, 1)))
    wider = changed_images(images[1:4], lambda i, image: image.resize((image.width + 100 * i, 1)))
    assert [image.width for image in images] == [1, 2, 3, 4, 5, 6]
    assert [image.width for image in wider] == [2, 103, 204]
    assert images[-1].width == 6
    with pytest.raises(IndexError):
        _ = images[6]


def test_of_large_photographs_only_a_few_are_in_memory(store: Store) -> None:
    data = large_data()
    before = num_large()
    probe = make_probe_set(data, SelfTestConfig())
    assert len(probe.images) == COUNT
    assert num_large() - before == FIT
    del probe
    context = EvaluationContext(CoarseColours(), data, EvaluateConfig(latency_samples=COUNT), store)
    assert len(timed_images(context)) == FIT
