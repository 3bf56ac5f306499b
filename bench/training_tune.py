"""Fine-tuning beside a locked picture tower: what keeping its embeddings is worth.

Takes under a minute; ``python bench/training_tune.py``.
"""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np
import torch
from PIL import Image
from transformers import CLIPConfig, CLIPModel

from clerestory.core.digest import digest
from clerestory.core.progress import QUIET
from clerestory.core.sample import Caption, Dataset, Sample
from clerestory.stages.train.tune.cache import Cache
from clerestory.stages.train.tune.caption_pairs import learning_pairs
from clerestory.stages.train.tune.config import TuneConfig
from clerestory.stages.train.tune.dual import Dual, DualStudent
from clerestory.stages.train.tune.weights import only
from table import Row, publish

PICTURES, BATCH, ROUNDS = 32, 16, 3
TEXT_LENGTH, WORDS, SIDE = 12, 1000, 224


class Student:
    """A CLIP of the shape of a ViT-S/16 at 224 pixels beside a text tower of six layers, with random weights.

    Texts are drawn token ids, and pictures go through plain scaling: what is timed is the networks.
    """

    def __init__(self) -> None:
        torch.manual_seed(0)
        text = {"hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 6, "num_attention_heads": 6}
        vision = {"hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 12, "num_attention_heads": 6}
        config = CLIPConfig(
            text_config=text
            | {
                "vocab_size": WORDS,
                "max_position_embeddings": TEXT_LENGTH,
                "bos_token_id": 1,
                "eos_token_id": WORDS - 1,
            },
            vision_config=vision | {"image_size": SIDE, "patch_size": 16},
            projection_dim=256,
        )
        network: Any = CLIPModel(config)
        self.network = network.eval().requires_grad_(False)
        self.digest, self.dims = digest("bench"), (256,)

    def picture_inputs(self, images: Any) -> dict[str, torch.Tensor]:
        pixels = np.stack([np.asarray(image.resize((SIDE, SIDE)), np.float32) for image in images])
        return {"pixel_values": torch.from_numpy(pixels).permute(0, 3, 1, 2) / 127.5 - 1}

    def text_inputs(self, texts: Any) -> dict[str, torch.Tensor]:
        ids = [np.random.default_rng(len(text) + ord(text[-1])).integers(WORDS - 1, size=TEXT_LENGTH) for text in texts]
        ids_BT = torch.from_numpy(np.stack(ids))
        ids_BT[:, -1] = WORDS - 1
        return {"input_ids": ids_BT, "attention_mask": torch.ones_like(ids_BT)}

    def picture_rows(self, inputs: Any) -> torch.Tensor:
        return unit(self.network.get_image_features(**inputs))

    def text_rows(self, inputs: Any) -> torch.Tensor:
        return unit(self.network.get_text_features(**inputs))


def unit(answer: Any) -> torch.Tensor:
    """Unit rows of what a tower answers."""
    rows = answer if isinstance(answer, torch.Tensor) else answer.pooler_output
    return torch.nn.functional.normalize(rows, dim=-1)


def drawn() -> Dataset:
    """Noise with a number as caption."""
    content = {}
    for i in range(PICTURES):
        out = io.BytesIO()
        pixels = np.random.default_rng(i).integers(256, size=(SIDE, SIDE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(out, "PNG")
        content[f"{i:03d}"] = out.getvalue()
    samples = [Sample(name, digest(name), (Caption(f"number {name}"),), split="train") for name in content]
    return Dataset("noise", samples, lambda sample: content[sample.id])


def taking_turns(works: dict[str, Callable[[], None]]) -> dict[str, list[float]]:
    """Seconds of each, one after the other, several times; the first round warms up and is left out."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for number in range(ROUNDS + 1):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            if number:
                times[name].append(time.perf_counter() - start)
    return times


def rows() -> list[Row]:
    """Every promise about fine-tuning that is about time."""
    return list(locked_rows())


def locked_rows() -> Iterator[Row]:
    """Samples a second of whole steps (pictures read, forward, backward, optimizer) with and without the cache."""
    pairs = learning_pairs(drawn(), 0, 0)
    once = 0.0
    with TemporaryDirectory() as folder:
        works: dict[str, Callable[[], None]] = {}
        for name, kept in (("cached", True), ("uncached", False)):
            student = DualStudent(
                cast(Dual, Student()),
                TuneConfig(lock="image", cache=kept, batch=BATCH).resolved("dual"),
                Cache(Path(folder), QUIET),
            )
            started = time.perf_counter()
            student.learn_from(pairs)
            once = max(once, time.perf_counter() - started)
            works[name] = stepper(student)
        times = taking_turns(works)
    best = {name: min(seconds) for name, seconds in times.items()}
    spread = {name: max(seconds) / best[name] for name, seconds in times.items()}
    ratio = best["uncached"] / best["cached"]
    yield Row(
        "fine-tuning beside a locked picture tower, embeddings kept / computed in every step",
        ratio,
        "times",
        "≥ 5 × the samples per second",
        ratio >= 5,
        ROUNDS,
        "",
        f"{BATCH / best['cached']:.2g} against {BATCH / best['uncached']:.2g} pictures/s, the least of {ROUNDS} steps "
        f"in turns (spread {spread['cached']:.2f} and {spread['uncached']:.2f} ×); ViT-S/16 at {SIDE} pixels "
        f"locked, text tower of 6 layers trained; once {once:.1f} s for {PICTURES} pictures",
    )


def stepper(student: DualStudent) -> Callable[[], None]:
    """One whole optimizer step."""
    weights = only(student.network, student.trained)
    optimizer = torch.optim.AdamW(list(weights.values()), lr=1e-5)
    numbers = iter(range(10**6))

    def step() -> None:
        first = next(numbers) * BATCH
        optimizer.zero_grad(set_to_none=True)
        student.backward(np.arange(first, first + BATCH) % PICTURES)
        optimizer.step()

    return step


if __name__ == "__main__":
    sys.exit(0 if publish("training_tune", rows()) else 1)
