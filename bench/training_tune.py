"""Fine-tuning with a locked image tower: the speed-up from caching its embeddings.

Takes under a minute; ``python bench/training_tune.py``.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np
import torch
from transformers import CLIPConfig, CLIPModel

from clerestory.core.digest import digest
from clerestory.core.progress import QUIET
from clerestory.core.sample import Caption, Dataset, Sample
from clerestory.stages.train.tune.cache import EmbeddingCache
from clerestory.stages.train.tune.caption_pairs import train_pairs
from clerestory.stages.train.tune.config import TuneConfig
from clerestory.stages.train.tune.dual import TrainableDualEncoder, TunableDualEncoder
from clerestory.stages.train.tune.weights import train_only
from table import Row, publish

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.support.images import encode_image, noise_images

IMAGES, BATCH, ROUNDS = 32, 16, 3
TEXT_LENGTH, VOCABULARY, SIDE = 12, 1000, 224


class RandomClip:
    """A CLIP with a ViT-S/16 at 224 pixels and a text tower of six layers, with random weights.

    Texts become random token ids and images are only resized, so that the networks are timed.
    """

    def __init__(self) -> None:
        torch.manual_seed(0)
        text = {"hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 6, "num_attention_heads": 6}
        vision = {"hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 12, "num_attention_heads": 6}
        config = CLIPConfig(
            text_config=text
            | {
                "vocab_size": VOCABULARY,
                "max_position_embeddings": TEXT_LENGTH,
                "bos_token_id": 1,
                "eos_token_id": VOCABULARY - 1,
            },
            vision_config=vision | {"image_size": SIDE, "patch_size": 16},
            projection_dim=256,
        )
        network: Any = CLIPModel(config)
        self.network = network.eval().requires_grad_(False)
        self.digest, self.dims = digest("bench"), (256,)

    def preprocess_images(self, images: Any) -> dict[str, torch.Tensor]:
        pixels = np.stack([np.asarray(image.resize((SIDE, SIDE)), np.float32) for image in images])
        return {"pixel_values": torch.from_numpy(pixels).permute(0, 3, 1, 2) / 127.5 - 1}

    def preprocess_texts(self, texts: Any) -> dict[str, torch.Tensor]:
        ids = [
            np.random.default_rng(len(text) + ord(text[-1])).integers(VOCABULARY - 1, size=TEXT_LENGTH)
            for text in texts
        ]
        ids_BT = torch.from_numpy(np.stack(ids))
        ids_BT[:, -1] = VOCABULARY - 1
        return {"input_ids": ids_BT, "attention_mask": torch.ones_like(ids_BT)}

    def encode_images(self, inputs: Any) -> torch.Tensor:
        return unit_rows(self.network.get_image_features(**inputs))

    def encode_texts(self, inputs: Any) -> torch.Tensor:
        return unit_rows(self.network.get_text_features(**inputs))


def unit_rows(output: Any) -> torch.Tensor:
    """The output of a tower as unit rows."""
    rows = output if isinstance(output, torch.Tensor) else output.pooler_output
    return torch.nn.functional.normalize(rows, dim=-1)


def noise_data() -> Dataset:
    """Noise images with a number as caption."""
    images = noise_images(*[(SIDE, SIDE)] * IMAGES)
    content = {f"{i:03d}": encode_image(image) for i, image in enumerate(images)}
    samples = [Sample(name, digest(name), (Caption(f"number {name}"),), split="train") for name in content]
    return Dataset("noise", samples, lambda sample: content[sample.id])


def time_interleaved(works: dict[str, Callable[[], None]]) -> dict[str, list[float]]:
    """Seconds of each function, in turns; the first round is a warm-up and not counted."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for number in range(ROUNDS + 1):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            if number:
                times[name].append(time.perf_counter() - start)
    return times


def rows() -> list[Row]:
    """The requirements of fine-tuning that concern time."""
    return list(locked_rows())


def locked_rows() -> Iterator[Row]:
    """Samples per second of whole steps (read images, forward, backward, optimizer) with and without the cache."""
    pairs = train_pairs(noise_data(), 0, 0)
    precompute = 0.0
    with TemporaryDirectory() as folder:
        works: dict[str, Callable[[], None]] = {}
        for name, cached in (("cached", True), ("uncached", False)):
            model = TrainableDualEncoder(
                cast(TunableDualEncoder, RandomClip()),
                TuneConfig(lock="image", cache_embeddings=cached, batch_size=BATCH).resolved("dual"),
                EmbeddingCache(Path(folder), QUIET),
            )
            started = time.perf_counter()
            model.prepare(pairs)
            precompute = max(precompute, time.perf_counter() - started)
            works[name] = make_step(model)
        times = time_interleaved(works)
    best = {name: min(seconds) for name, seconds in times.items()}
    spread = {name: max(seconds) / best[name] for name, seconds in times.items()}
    ratio = best["uncached"] / best["cached"]
    yield Row(
        "fine-tuning with a locked image tower, embeddings cached / computed in every step",
        ratio,
        "times",
        "≥ 5 × the samples per second",
        ratio >= 5,
        ROUNDS,
        "",
        f"{BATCH / best['cached']:.2g} and {BATCH / best['uncached']:.2g} images/s, fastest of {ROUNDS} interleaved "
        f"steps (slowest {spread['cached']:.2f} and {spread['uncached']:.2f} ×); ViT-S/16 at {SIDE} pixels locked, "
        f"text tower of 6 layers trained; precomputing takes {precompute:.1f} s for {IMAGES} images",
    )


def make_step(model: TrainableDualEncoder) -> Callable[[], None]:
    """A function that runs one whole optimizer step."""
    weights = train_only(model.network, model.trained)
    optimizer = torch.optim.AdamW(list(weights.values()), lr=1e-5)
    numbers = iter(range(10**6))

    def step() -> None:
        first = next(numbers) * BATCH
        optimizer.zero_grad(set_to_none=True)
        model.backward(np.arange(first, first + BATCH) % IMAGES, np.zeros(BATCH, np.int64))
        optimizer.step()

    return step


if __name__ == "__main__":
    sys.exit(0 if publish("training_tune", rows()) else 1)
