"""Exports a model to ONNX and compares the result with its source; needs torch, and is imported only to export.

The comparison is part of the export: a folder whose answers differ is not kept.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.numpy import save_file

from clerestory.core.codec import Facts, Tags
from clerestory.core.errors import CapabilityError, IntegrityError
from clerestory.models.folder_check import OWN_TYPE, PHOTO_TYPE
from clerestory.models.onnx.encoder import ROTATION, OnnxEncoder, open_exported
from clerestory.models.onnx.folder import (
    ARRAYS,
    DECODER_GRAPH,
    IMAGE_GRAPH,
    TEXT_GRAPH,
    TOKENIZER,
    WORDS,
    ExportComparison,
    OnnxSettings,
    write_settings,
    write_tower_settings,
)
from clerestory.models.onnx.graphs import decoder_graph, image_graph, photo_graph, text_graph
from clerestory.models.photo.encoder import PhotoEncoder
from clerestory.models.photo.photo_pixels import SHORT_SIDE
from clerestory.models.protocols import AnyModel, Captioner, Embedder, Matrix
from clerestory.models.runtime import ClerestoryEncoder
from clerestory.models.text_tower import TextTower
from clerestory.models.text_tower_files import MAX_TOKENS, find_text_tower

MIN_COSINE = 0.9999
NUM_IMAGES = 24
TEXTS = (
    "a red bag",
    "two people walking a dog on the beach at sunset",
    "grinning face",
    "Ein Text in einer anderen Sprache",
    "x",
    "a very long description of a photograph " * 8,
    "1234567890 !?",
    "the",
)
_LIBRARIES = ("onnx", "onnxscript", "onnxruntime", "torch")


def export_text_tower(tower_digest: str, folder: Path) -> None:
    """Write the folder of the exported text tower.

    Args:
        tower_digest: the SHA-256 of its weights.
        folder: exists and is empty.

    Raises:
        NotFound, IntegrityError: as ``find_text_tower``.
        CapabilityError: the extra ``onnx`` is missing.
    """
    source = find_text_tower(tower_digest)
    # A tower of its own: the one that the process shares may be in use.
    text_graph(TextTower(source).network, MAX_TOKENS, folder / TEXT_GRAPH)
    shutil.copyfile(source / TOKENIZER, folder / TOKENIZER)
    write_tower_settings(folder, tower_digest)


def export_model(
    model: AnyModel, folder: Path, text_tower: Path, text_tower_folder_digest: str, images: Sequence[Image.Image] = ()
) -> ExportComparison:
    """Write the folder of an exported model, and compare its answers with the model's own.

    Args:
        model: of Clerestory's own architecture, or a photo encoder.
        folder: exists and is empty.
        text_tower: the folder of the exported text tower.
        text_tower_folder_digest: the digest of that folder.
        images: to compare on, besides the images that are made here.

    Raises:
        CapabilityError: the model is of another kind, the extra ``onnx`` is missing, or a network cannot be exported.
        IntegrityError: the answers differ by more than rounding; the folder must not be used.
    """
    if isinstance(model, ClerestoryEncoder):
        settings = _export_own(model, folder)
    elif isinstance(model, PhotoEncoder):
        settings = _export_photos(model, folder)
    else:
        raise CapabilityError(
            f"{type(model).__name__} cannot be exported",
            "export a model that Clerestory trained, the starter or photos; serve any other model with torch",
        )
    versions = Tags({name: metadata.version(name) for name in _LIBRARIES})
    settings = replace(settings, text_tower=text_tower_folder_digest, versions=versions)
    write_settings(folder, settings)
    comparison = compare(model, open_exported(folder, text_tower), [*test_images(), *images])
    write_settings(folder, replace(settings, comparison=comparison))
    return comparison


def test_images() -> list[Image.Image]:
    """Images of many sizes and modes, the same on every machine."""
    made = []
    for i in range(NUM_IMAGES):
        rng = np.random.default_rng(i)
        width, height = (int(side) for side in rng.integers(20, 400, 2))
        small = Image.fromarray(rng.integers(0, 256, (6, 6, 4), dtype=np.uint8), "RGBA")
        made.append(small.resize((width, height), Image.Resampling.BICUBIC).convert(("RGB", "RGBA", "L")[i % 3]))
    return made


def compare(source: AnyModel, exported: OnnxEncoder, images: Sequence[Image.Image]) -> ExportComparison:
    """The largest differences between the answers of a model and of its export.

    Raises:
        IntegrityError: they differ by more than rounding.
    """
    assert isinstance(source, Embedder)  # both kinds that can be exported are
    image_cosine = _min_cosine(source.embed_images(images), exported.embed_images(images))
    text_cosine = _min_cosine(source.embed_texts(TEXTS), exported.embed_texts(TEXTS))
    captions = equal = 0
    if isinstance(source, Captioner) and isinstance(exported, Captioner):
        wanted, found = ([[c.text for c in each] for each in m.caption_images(images, 3)] for m in (source, exported))
        captions = sum(map(len, wanted))
        equal = sum(a == b for row, own in zip(wanted, found, strict=True) for a, b in zip(row, own, strict=False))
    result = ExportComparison(len(images), len(TEXTS), image_cosine, text_cosine, captions, equal)
    if not min(image_cosine, text_cosine) >= MIN_COSINE or equal != captions:
        raise IntegrityError(
            f"the exported model answers differently: the least cosine similarity is {image_cosine:.6f} of images and "
            f"{text_cosine:.6f} of texts, and {equal} of {captions} captions are equal",
            "serve it with torch, and report this",
        )
    return result


def _export_own(model: ClerestoryEncoder, folder: Path) -> OnnxSettings:
    config = model.config
    image_graph(model.network, folder / IMAGE_GRAPH)
    decoder_graph(model.network, folder / DECODER_GRAPH)
    words = model.processor.tokenizer.convert_ids_to_tokens(list(range(config.vocab_size)))
    (folder / WORDS).write_text(json.dumps(words, ensure_ascii=False), encoding="utf-8")
    rotation = model.network.projection.rotation_EE.detach().numpy()
    save_file({ROTATION: np.ascontiguousarray(rotation, np.float32)}, folder / ARRAYS)
    return OnnxSettings(
        model.digest,
        OWN_TYPE,
        "",
        config.text_tower_digest,
        model.dims,
        model.logit_scale,
        config.image_size,
        config.max_caption_tokens,
        Facts(model.facts()),
    )


def _export_photos(model: PhotoEncoder, folder: Path) -> OnnxSettings:
    photo_graph(model.network, folder / IMAGE_GRAPH)
    save_file({name: np.ascontiguousarray(a, np.float32) for name, a in model.space.tensors().items()}, folder / ARRAYS)
    tower = str(model.settings["text_tower_digest"])
    return OnnxSettings(
        model.digest, PHOTO_TYPE, "", tower, model.dims, model.logit_scale, SHORT_SIDE, 0, Facts(model.facts())
    )


def _min_cosine(first: Matrix, second: Matrix) -> float:
    if first.shape != second.shape:
        raise IntegrityError(f"the exported model returns {second.shape} instead of {first.shape}", "report this")
    products = (first.astype(np.float64) * second).sum(axis=1)
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return float((products / lengths).min())
