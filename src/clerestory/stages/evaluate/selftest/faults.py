"""Faults that happen in real pipelines and raise no error.

Each is put in where it happens: into the pictures, the texts, the labels, the weights or the cache. Where a model does
not let us reach its insides (an endpoint has no weights here), the fault is not applicable, and the result says so.
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
from clerestory.stages.evaluate.selftest.probe import Answers, Probe, ask, ask_captions, ask_pictures

STALE_SHARE, SHUFFLED_SHARE = 0.1, 0.05
NOISE = 0.05
MEAN, STD = 127.5, 127.5


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes:
        name: such as ``bgr``.
        words: what went wrong, for a person.
        answers: the answers of a copy that has the fault; None where it cannot be put into this model.
    """

    name: str
    words: str
    answers: Callable[[Embedder, Probe, Answers, np.random.Generator], Answers | None]


def _with_pictures(change: Callable[[Image.Image, Any], Image.Image]) -> Callable[..., Answers]:
    def answers(model: Embedder, probe: Probe, sound: Answers, random: np.random.Generator) -> Answers:
        changed = replace(probe, pictures=[change(image, model) for image in probe.pictures])
        return replace(sound, pictures=ask_pictures(model, changed))

    return answers


def _with_texts(change: Callable[[list[str], np.random.Generator], list[str]]) -> Callable[..., Answers]:
    def answers(model: Embedder, probe: Probe, sound: Answers, random: np.random.Generator) -> Answers:
        changed = replace(probe, captions=change(list(probe.captions), random))
        return replace(sound, captions=ask_captions(model, changed))

    return answers


def _with_weights(change: Callable[[torch.Tensor, np.random.Generator], torch.Tensor]) -> Callable[..., Answers | None]:
    def answers(model: Embedder, probe: Probe, sound: Answers, random: np.random.Generator) -> Answers | None:
        spoilt = _copy(model)
        if spoilt is None:
            return None
        changed, network = spoilt
        with torch.no_grad():
            for weight in network.parameters():
                if weight.ndim >= 2:
                    weight.copy_(change(weight, random))
        return ask(changed, probe)

    return answers


def _copy(model: Embedder) -> tuple[Embedder, torch.nn.Module] | None:
    """A copy of the model whose network is its own, and that network; None where there is none to copy."""
    found = [(name, value) for name, value in vars(model).items() if isinstance(value, torch.nn.Module)]
    if not found:
        return None
    name, network = found[0]
    twin = copy.copy(model)
    own = copy.deepcopy(network)
    setattr(twin, name, own)
    return twin, own


def _bgr(image: Image.Image, model: Any) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(np.asarray(image.convert("RGB"))[:, :, ::-1]))


def _nearest(image: Image.Image, model: Any) -> Image.Image:
    """Resized to the model's own size before it can do so itself; to half where its size is not known."""
    known = model.facts().get("image_size", "") if hasattr(model, "facts") else ""
    side = int(known) if known.isdigit() else max(8, image.width // 2)
    return image.convert("RGB").resize((side, side), Image.Resampling.NEAREST)


def _not_normalised(image: Image.Image, model: Any) -> Image.Image:
    """The picture that normalising turns into what the network would see without it: values in 0..1."""
    pixels = np.asarray(image.convert("RGB"), dtype=np.float64)
    return Image.fromarray(np.clip(np.rint(pixels / 255 * STD + MEAN), 0, 255).astype(np.uint8))


def _off_by_one(image: Image.Image, model: Any) -> Image.Image:
    return image.crop((1, 1, image.width, image.height))


def _truncated(texts: list[str], random: np.random.Generator) -> list[str]:
    """Only the first half of the words; of a single word the first half of the letters."""
    cut = []
    for text in texts:
        words = text.split()
        cut.append(" ".join(words[: len(words) // 2]) if len(words) > 1 else text[: max(1, len(text) // 2)])
    return cut


def _other_vocabulary(texts: list[str], random: np.random.Generator) -> list[str]:
    """Every word is read as another one, as ids are by the wrong vocabulary."""
    words = sorted({word for text in texts for word in text.split()})
    read = dict(zip(words, np.roll(words, 1 + int(random.integers(len(words) - 1))), strict=True))
    return [" ".join(str(read[word]) for word in text.split()) for text in texts]


def _int8(weight: torch.Tensor, random: np.random.Generator) -> torch.Tensor:
    """One scale for a whole tensor that is set by its largest weight, as careless quantisers do."""
    scale = weight.abs().max().clamp(min=1e-12) / 127
    return torch.round(weight / scale).clamp(-127, 127) * scale


def _raw_weights(weight: torch.Tensor, random: np.random.Generator) -> torch.Tensor:
    """Weights with the noise of the last steps that averaging takes away: here 5 % of each tensor's spread."""
    noise = torch.from_numpy(random.standard_normal(tuple(weight.shape))).to(weight)
    return weight + NOISE * weight.std() * noise


def _shuffled(model: Embedder, probe: Probe, sound: Answers, random: np.random.Generator) -> Answers:
    labels = sound.labels.copy()
    some = random.choice(len(labels), max(2, int(SHUFFLED_SHARE * len(labels))), replace=False)
    labels[some] = labels[np.roll(some, 1)]
    return replace(sound, labels=labels)


def _stale(model: Embedder, probe: Probe, sound: Answers, random: np.random.Generator) -> Answers:
    """Some pictures were replaced, and the cache still answers with what it knew of the old ones."""
    pictures = sound.pictures.copy()
    some = random.choice(len(pictures), max(2, int(STALE_SHARE * len(pictures))), replace=False)
    pictures[some] = pictures[np.roll(some, 1)]
    return replace(sound, pictures=pictures)


def _swapped(model: Embedder, probe: Probe, sound: Answers, random: np.random.Generator) -> Answers:
    """Each tower's output is taken for the other's: captions as queries where pictures belong, and the reverse."""
    first = {int(label): place for place, label in reversed(list(enumerate(probe.labels.tolist())))}
    of_captions = np.array([first[label] for label in range(len(probe.captions))])
    return replace(sound, pictures=sound.captions[probe.labels], captions=sound.pictures[of_captions])


FAULTS: tuple[Fault, ...] = (
    Fault("bgr", "red and blue are swapped in every picture", _with_pictures(_bgr)),
    Fault("resize_filter", "pictures are made small by the wrong filter (nearest neighbour)", _with_pictures(_nearest)),
    Fault("normalisation", "pixel values are not normalised", _with_pictures(_not_normalised)),
    Fault("truncated_prompts", "texts are cut in half", _with_texts(_truncated)),
    Fault("shuffled_labels", "one label in twenty belongs to another picture", _shuffled),
    Fault("stale_cache", "one picture in ten is answered from an old cache", _stale),
    Fault("int8_drift", "weights are rounded to 8 bits, one scale for a whole tensor", _with_weights(_int8)),
    Fault("off_by_one_crop", "pictures are cut by one pixel at the left and the top", _with_pictures(_off_by_one)),
    Fault("wrong_tokenizer", "words are read with another vocabulary", _with_texts(_other_vocabulary)),
    Fault("ema_not_applied", "the raw weights are used instead of their running average", _with_weights(_raw_weights)),
    Fault("swapped_towers", "the outputs of the two towers are swapped", _swapped),
)
