"""A dual encoder with a head that was fitted on own captions, as an ``Embedder`` and a ``Scorer``.

The folder has the unchanged model in the subfolder ``base``, so that it opens with any library, and the head beside it.

Shape suffixes: N images or texts, D width of an embedding.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from clerestory.core.codec import Fact
from clerestory.core.digest import digest_folder
from clerestory.core.errors import IntegrityError
from clerestory.models.adapters.files import model_files
from clerestory.models.adapters.hf_dual import DualEncoder, open_dual
from clerestory.models.clip_scorer import score_by_similarity
from clerestory.models.folder_check import CONFIG, DOWNLOAD_AGAIN, HEAD_TYPE, check_folder, display_name
from clerestory.models.languages import MODEL_CARD
from clerestory.models.loading import load_tensors
from clerestory.models.photo.space import Floats, LinearHead, PhotoSpace, unit_rows
from clerestory.models.protocols import Matrix, Scores

BASE, WEIGHTS = "base", "model.safetensors"
TENSORS = ("image_mean", "text_mean", "head.mean", "head.weight", "head.share")


class HeadedEncoder:
    """A dual encoder whose image embeddings are mixed with the predictions of a head; thread-safe.

    Both sides are centred on what the head was fitted on: images and texts of a dual encoder lie in two narrow cones.

    Args:
        base: the unchanged model.
        image_mean: of the embeddings of the training images (D).
        text_mean: of the embeddings of their captions (D).
        head: from image embeddings to directions of captions.
        digest: SHA-256 of the folder.
    """

    order_matters = False

    def __init__(self, base: DualEncoder, image_mean: Floats, text_mean: Floats, head: LinearHead, digest: str) -> None:
        self.base, self.image_mean, self.text_mean, self.head, self.digest = base, image_mean, text_mean, head, digest
        self.dims, self.languages, self.vocabulary = base.dims, base.languages, base.vocabulary
        self.logit_scale = base.logit_scale

    def embed_images(self, images: Sequence[Image.Image], dim: int | None = None) -> Matrix:
        """Unit rows ``(N, D)`` float32."""
        rows_ND = self.base.embed_images(images, dim)
        if not len(rows_ND):
            return rows_ND
        centred_ND = centred(rows_ND, self.image_mean)
        return PhotoSpace.mix(centred_ND, self.head.predict(rows_ND), self.head).astype(np.float32)

    def embed_texts(self, texts: Sequence[str], dim: int | None = None) -> Matrix:
        """Unit rows ``(N, D)`` float32."""
        return centred(self.base.embed_texts(texts, dim), self.text_mean).astype(np.float32)

    def score_options(
        self, images: Sequence[Image.Image | None], questions: Sequence[str], options: Sequence[Sequence[str]]
    ) -> list[Scores]:
        """Log-probabilities of each item's options, by similarity; see ``models.clip_scorer``."""
        return score_by_similarity(self, self.logit_scale or 1.0, images, questions, options)

    def facts(self) -> dict[str, Fact]:
        """Those of the unchanged model, and the share that it has in the mixture."""
        return {**self.base.facts(), "own_head": True, "encoder_share": self.head.share, "base_model": self.base.digest}


def centred(rows_ND: Floats, mean_D: Floats) -> Floats:
    """Unit rows of the differences from a mean."""
    return unit_rows(rows_ND - mean_D)


def open_headed(folder: Path, name: str = "") -> HeadedEncoder:
    """Open a folder that ``save_headed`` wrote.

    Raises:
        NotFound, IntegrityError, CapabilityError: as ``open_dual``, or the head is missing or does not fit.
    """
    check_folder(folder)
    base = open_dual(folder / BASE, name)
    tensors, _ = load_tensors(folder / WEIGHTS)
    arrays = {key: tensor.float().numpy() for key, tensor in tensors.items()}
    width = base.dims[-1]
    if set(arrays) != set(TENSORS) or arrays["head.weight"].shape != (width, width):
        raise IntegrityError(f"the head of {display_name(folder)} does not fit its model", DOWNLOAD_AGAIN)
    head = LinearHead(arrays["head.mean"], arrays["head.weight"], float(arrays["head.share"][0]))
    return HeadedEncoder(base, arrays["image_mean"], arrays["text_mean"], head, digest_folder(folder)[0])


def save_headed(
    base: Path, image_mean: Floats, text_mean: Floats, head: LinearHead, trained_on: str, name: str, folder: Path
) -> None:
    """Write a model folder.

    Args:
        base: the folder of the unchanged model.
        image_mean: as in ``HeadedEncoder``.
        text_mean: as in ``HeadedEncoder``.
        head: as in ``HeadedEncoder``.
        trained_on: what the head was fitted on, for the model card.
        name: the reference of the unchanged model.
        folder: exists and is empty.
    """
    (folder / BASE).mkdir()
    for file in model_files(base):
        target = folder / BASE / file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(base / file, target)
    arrays = (image_mean, text_mean, head.mean, head.weight, np.array([head.share]))
    tensors = {key: torch.tensor(np.asarray(a, np.float32)) for key, a in zip(TENSORS, arrays, strict=True)}
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    config = {"model_type": HEAD_TYPE, "architectures": ["HeadedEncoder"]}
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    card = f"# {name} with {trained_on}\n\nThe folder `base` has the unchanged model and its own card.\n"
    (folder / MODEL_CARD).write_text(card, encoding="utf-8")
