"""The folder of an exported model: ``config.json`` and graphs in ONNX, made by ``export`` and by nothing else.

An exported model is derived from one model, whose digest it carries. What text towers compute is the same for every
model, so it is a folder of its own, which the others name by its digest.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clerestory.core.codec import Facts, Tags, decode, encode
from clerestory.core.errors import ClerestoryError, IntegrityError, NotFound
from clerestory.models.folder_check import CONFIG

ONNX_TYPE = "clerestory-onnx"  # ``model_type`` of an exported model
ONNX_TEXT_TYPE = "clerestory-onnx-text"  # of an exported text tower
FORMAT = 1  # raised when older servers cannot read new folders
OPSET = 20
IMAGE_GRAPH, TEXT_GRAPH, DECODER_GRAPH = "image.onnx", "text.onnx", "decoder.onnx"
ARRAYS = "arrays.safetensors"  # for numpy: the rotation of texts, or the space of photographs
TOKENIZER, WORDS = "tokenizer.json", "words.json"
EXPORT_AGAIN = "export the model again with: clerestory release export REF --onnx --force"


@dataclass(frozen=True, slots=True)
class ExportComparison:
    """How far an exported model is from its source, measured when it was exported.

    Attributes:
        images, texts: how many were compared.
        min_image_cosine, min_text_cosine: the least similarity of an exported embedding to its source.
        captions: how many captions were compared; 0 if the model has no caption decoder.
        equal_captions: how many of them are equal.
    """

    images: int
    texts: int
    min_image_cosine: float
    min_text_cosine: float
    captions: int = 0
    equal_captions: int = 0


@dataclass(frozen=True, slots=True)
class OnnxSettings:
    """The settings of an exported model, ``config.json``.

    Attributes:
        source: the digest of the model that it was made from.
        source_type: the ``model_type`` of that model.
        text_tower: the digest of the folder of the exported text tower.
        text_tower_digest: the SHA-256 of the weights of the text tower.
        dims: widths of the prefixes of an embedding that are embeddings too.
        logit_scale: factor of the similarities before a softmax.
        image_size: side of an image in pixels; of its shorter side for photographs.
        max_caption_tokens: longest caption, begin and end tokens included; 0 without a caption decoder.
        facts: of the source.
        comparison: with the source.
        versions: of the libraries that exported it.
    """

    source: str
    source_type: str
    text_tower: str
    text_tower_digest: str
    dims: tuple[int, ...]
    logit_scale: float
    image_size: int
    max_caption_tokens: int = 0
    facts: Facts = field(default_factory=Facts)
    comparison: ExportComparison | None = None
    versions: Tags = field(default_factory=Tags)
    model_type: str = ONNX_TYPE
    format: int = FORMAT


def write_settings(folder: Path, settings: OnnxSettings) -> None:
    """Write ``config.json``; equal settings give equal bytes."""
    text = json.dumps(encode(settings), indent=2, sort_keys=True)
    (folder / CONFIG).write_text(text + "\n", encoding="utf-8")


def write_tower_settings(folder: Path, text_tower_digest: str) -> None:
    """Write the ``config.json`` of an exported text tower."""
    settings = {"format": FORMAT, "model_type": ONNX_TEXT_TYPE, "text_tower_digest": text_tower_digest}
    (folder / CONFIG).write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def read_settings(folder: Path) -> OnnxSettings:
    """The settings of an exported model.

    Raises:
        NotFound: the folder does not exist.
        IntegrityError: they cannot be read, or a file is missing.
    """
    raw = _read(folder, ONNX_TYPE)
    try:
        settings = decode(OnnxSettings, raw)
    except (ClerestoryError, KeyError, TypeError, ValueError) as error:
        raise IntegrityError(f"{folder / CONFIG} has settings that cannot be read: {error}", EXPORT_AGAIN) from error
    needed = [IMAGE_GRAPH, ARRAYS, *([DECODER_GRAPH, WORDS] if settings.max_caption_tokens else [])]
    _require(folder, needed)
    return settings


def check_tower(folder: Path, text_tower_digest: str) -> None:
    """Check the folder of an exported text tower.

    Raises:
        NotFound: the folder does not exist.
        IntegrityError: it is another text tower, or a file is missing.
    """
    found = str(_read(folder, ONNX_TEXT_TYPE).get("text_tower_digest", ""))
    if found != text_tower_digest:
        raise IntegrityError(
            f"{folder} is an export of the text tower {found[:12]}, not of {text_tower_digest[:12]}", EXPORT_AGAIN
        )
    _require(folder, [TEXT_GRAPH, TOKENIZER])


def _read(folder: Path, model_type: str) -> dict[str, Any]:
    if not folder.is_dir():
        raise NotFound(f"there is no exported model in {folder}", EXPORT_AGAIN)
    try:
        raw = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise IntegrityError(f"{folder / CONFIG} cannot be read", EXPORT_AGAIN) from error
    if not isinstance(raw, dict) or raw.get("model_type") != model_type:
        raise IntegrityError(f"{folder} is not an exported model", EXPORT_AGAIN)
    if raw.get("format") != FORMAT:
        raise IntegrityError(
            f"the exported model in {folder} has format {raw.get('format')!r}, and this version reads {FORMAT}",
            EXPORT_AGAIN,
        )
    return raw


def _require(folder: Path, names: list[str]) -> None:
    for name in names:
        if not (folder / name).is_file():
            raise IntegrityError(f"{folder / name} is missing", EXPORT_AGAIN)
