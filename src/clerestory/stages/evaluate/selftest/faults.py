"""Faults that happen in real pipelines and raise no error.

Each is injected where it happens: into the images, the texts, the labels, the weights or the cache. A fault that a
model does not allow (an endpoint has no weights here) is not applicable, and the result says so.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image

from clerestory.models.protocols import Embedder
from clerestory.stages.evaluate.held_images import changed_images
from clerestory.stages.evaluate.selftest.probe import (
    PipelineOutputs,
    ProbeSet,
    embed_probe_captions,
    embed_probe_images,
    run_pipeline,
)

STALE_SHARE, SHUFFLED_SHARE = 0.1, 0.05
NOISE = 0.05
MEAN, STD = 127.5, 127.5

Inject = Callable[[Embedder, ProbeSet, PipelineOutputs, np.random.Generator], PipelineOutputs | None]


@dataclass(frozen=True)
class InjectedFault:
    """One fault.

    Attributes:
        name: such as ``bgr``.
        description: what is wrong, as a clause.
        inject: returns the outputs of a copy of the pipeline with the fault, from the model, the probe set and the
            original outputs; None if this model does not allow it.
    """

    name: str
    description: str
    inject: Inject


def _in_images(change: Callable[[Image.Image, Any], Image.Image]) -> Inject:
    def inject(
        model: Embedder, probe: ProbeSet, original: PipelineOutputs, rng: np.random.Generator
    ) -> PipelineOutputs:
        changed = replace(probe, images=changed_images(probe.images, lambda _, image: change(image, model)))
        return replace(original, images=embed_probe_images(model, changed))

    return inject


def _in_texts(change: Callable[[list[str], np.random.Generator], list[str]]) -> Inject:
    def inject(
        model: Embedder, probe: ProbeSet, original: PipelineOutputs, rng: np.random.Generator
    ) -> PipelineOutputs:
        changed = replace(probe, captions=change(list(probe.captions), rng))
        return replace(original, captions=embed_probe_captions(model, changed))

    return inject


def _in_weights(change: Callable[[torch.Tensor, np.random.Generator], torch.Tensor]) -> Inject:
    def inject(
        model: Embedder, probe: ProbeSet, original: PipelineOutputs, rng: np.random.Generator
    ) -> PipelineOutputs | None:
        copied = _copy(model)
        if copied is None:
            return None
        changed, network = copied
        with torch.no_grad():
            for weight in network.parameters():
                if weight.ndim >= 2:
                    weight.copy_(change(weight, rng))
        return run_pipeline(changed, probe)

    return inject


def _copy(model: Embedder) -> tuple[Embedder, torch.nn.Module] | None:
    """A copy of the model with a network of its own, and that network; None if it has no network."""
    networks = [(name, value) for name, value in vars(model).items() if isinstance(value, torch.nn.Module)]
    if not networks:
        return None
    name, network = networks[0]
    copied = copy.copy(model)
    copied_network = copy.deepcopy(network)
    setattr(copied, name, copied_network)
    return copied, copied_network


def _bgr(image: Image.Image, model: Any) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(np.asarray(image.convert("RGB"))[:, :, ::-1]))


def _nearest(image: Image.Image, model: Any) -> Image.Image:
    """Resized to the model's image size before its own preprocessing; to half if that size is unknown."""
    side = getattr(getattr(model, "config", None), "image_size", 0) or max(8, image.width // 2)
    return image.convert("RGB").resize((side, side), Image.Resampling.NEAREST)


def _not_normalised(image: Image.Image, model: Any) -> Image.Image:
    """The image that normalisation maps to the network's input without normalisation: values in 0..1."""
    values = np.arange(256, dtype=np.float64)
    table = np.clip(np.rint(values / 255 * STD + MEAN), 0, 255).astype(np.uint8)
    return Image.fromarray(table[np.asarray(image.convert("RGB"))])


def _off_by_one(image: Image.Image, model: Any) -> Image.Image:
    return image.crop((1, 1, image.width, image.height))


def _truncated(texts: list[str], rng: np.random.Generator) -> list[str]:
    """Only the first half of the words; of a single word the first half of the letters."""
    truncated = []
    for text in texts:
        words = text.split()
        truncated.append(" ".join(words[: len(words) // 2]) if len(words) > 1 else text[: max(1, len(text) // 2)])
    return truncated


def _other_vocabulary(texts: list[str], rng: np.random.Generator) -> list[str]:
    """Every word is replaced by another one, as token ids are by a different vocabulary."""
    words = sorted({word for text in texts for word in text.split()})
    replaced = dict(zip(words, np.roll(words, 1 + int(rng.integers(len(words) - 1))), strict=True))
    return [" ".join(str(replaced[word]) for word in text.split()) for text in texts]


def _int8(weight: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Rounded with one scale per tensor, set by its largest weight, as in naive quantisation."""
    scale = weight.abs().max().clamp(min=1e-12) / 127
    return torch.round(weight / scale).clamp(-127, 127) * scale


def _raw_weights(weight: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Weights with noise as from the last steps, which the EMA removes: 5 % of each tensor's standard deviation."""
    noise = torch.from_numpy(rng.standard_normal(tuple(weight.shape))).to(weight)
    return weight + NOISE * weight.std() * noise


def _shuffled(model: Embedder, probe: ProbeSet, original: PipelineOutputs, rng: np.random.Generator) -> PipelineOutputs:
    labels = original.labels.copy()
    chosen = rng.choice(len(labels), max(2, int(SHUFFLED_SHARE * len(labels))), replace=False)
    labels[chosen] = labels[np.roll(chosen, 1)]
    return replace(original, labels=labels)


def _stale(model: Embedder, probe: ProbeSet, original: PipelineOutputs, rng: np.random.Generator) -> PipelineOutputs:
    """Some images were replaced, and the cache still returns the embeddings of the old ones."""
    images = original.images.copy()
    chosen = rng.choice(len(images), max(2, int(STALE_SHARE * len(images))), replace=False)
    images[chosen] = images[np.roll(chosen, 1)]
    return replace(original, images=images)


def _swapped(model: Embedder, probe: ProbeSet, original: PipelineOutputs, rng: np.random.Generator) -> PipelineOutputs:
    """Each tower's output is used as the other's: caption embeddings for images, and the reverse."""
    first = {int(label): i for i, label in reversed(list(enumerate(probe.labels.tolist())))}
    image_of_caption = np.array([first[label] for label in range(len(probe.captions))])
    return replace(original, images=original.captions[probe.labels], captions=original.images[image_of_caption])


FAULTS: tuple[InjectedFault, ...] = (
    InjectedFault("bgr", "red and blue are swapped in every image", _in_images(_bgr)),
    InjectedFault(
        "resize_filter", "images are resized with the wrong filter (nearest neighbour)", _in_images(_nearest)
    ),
    InjectedFault("normalisation", "pixel values are not normalised", _in_images(_not_normalised)),
    InjectedFault("truncated_prompts", "texts are cut in half", _in_texts(_truncated)),
    InjectedFault("shuffled_labels", "one label in twenty is that of another image", _shuffled),
    InjectedFault("stale_cache", "one image in ten is answered from a stale cache", _stale),
    InjectedFault("int8_drift", "weights are rounded to 8 bits with one scale per tensor", _in_weights(_int8)),
    InjectedFault(
        "off_by_one_crop", "images are cropped by one pixel on the left and at the top", _in_images(_off_by_one)
    ),
    InjectedFault("wrong_tokenizer", "texts are tokenised with another vocabulary", _in_texts(_other_vocabulary)),
    InjectedFault("ema_not_applied", "raw weights are used instead of their moving average", _in_weights(_raw_weights)),
    InjectedFault("swapped_towers", "the outputs of the two towers are swapped", _swapped),
)
