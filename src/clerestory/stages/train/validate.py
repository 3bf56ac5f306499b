"""Validation during training; the evaluation is a stage of its own.

Shape suffixes: B images, N captions, E shared space.
"""

from __future__ import annotations

import torch

from clerestory.models.model import ClerestoryModel
from clerestory.models.processor import normalise
from clerestory.stages.train.train_data import TrainImages

BATCH_SIZE = 256


@torch.inference_mode()
def recall_at_k(model: ClerestoryModel, images: TrainImages, k: int) -> tuple[float, int]:
    """Image→caption recall@k among the distinct captions of ``images``, and the number of images.

    Ties count against the model: a wrong caption with exactly the similarity of the right one ranks before it.

    Args:
        model: in evaluation mode.
        images: at the model's image size.
        k: rank up to which the right caption counts.
    """
    texts_NE = model.get_text_features(torch.from_numpy(images.texts_ME)[images.captions].to(model.device))
    index_of = {int(row): i for i, row in enumerate(images.captions)}
    hits = 0
    for start in range(0, len(images.pixels_NHWC), BATCH_SIZE):
        pixels = normalise(images.pixels_NHWC[start : start + BATCH_SIZE].numpy()).to(model.device)
        target_B = torch.tensor([index_of[int(row)] for row in images.caption_N[start : start + BATCH_SIZE]])
        similarity_BN = model.get_image_features(pixels) @ texts_NE.T
        target_B1 = similarity_BN.gather(1, target_B[:, None].to(model.device))
        hits += int(((similarity_BN >= target_B1).sum(dim=1) <= k).sum())
    return hits / len(images.pixels_NHWC), len(images.pixels_NHWC)
