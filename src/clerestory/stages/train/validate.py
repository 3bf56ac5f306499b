"""A look at the validation split while training; the evaluation proper is a stage of its own.

Shape suffixes: B pictures, N captions, E shared space.
"""

from __future__ import annotations

import torch

from clerestory.models.model import ClerestoryModel
from clerestory.models.processor import normalise
from clerestory.stages.train.train_data import Pictures

BATCH = 256


@torch.inference_mode()
def recall_at(model: ClerestoryModel, pictures: Pictures, k: int) -> tuple[float, int]:
    """Image→caption recall@k among the distinct captions of ``pictures``, and the number of pictures.

    A wrong caption that is exactly as similar as the right one counts against it.

    Args:
        model: in evaluation mode.
        pictures: at the model's picture size.
        k: how many captions count as found.
    """
    texts_NE = model.get_text_features(torch.from_numpy(pictures.texts_ME)[pictures.captions].to(model.device))
    place = {int(row): i for i, row in enumerate(pictures.captions)}
    hits = 0
    for start in range(0, len(pictures.pixels_NHWC), BATCH):
        pixels = normalise(pictures.pixels_NHWC[start : start + BATCH].numpy()).to(model.device)
        right = torch.tensor([place[int(row)] for row in pictures.caption_N[start : start + BATCH]])
        similar_BN = model.get_image_features(pixels) @ texts_NE.T
        own_B1 = similar_BN.gather(1, right[:, None].to(model.device))
        hits += int(((similar_BN >= own_B1).sum(dim=1) <= k).sum())
    return hits / len(pictures.pixels_NHWC), len(pictures.pixels_NHWC)
