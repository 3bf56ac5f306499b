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

    An image with several captions counts if any of them is among the first k (the protocol of Flickr30k and COCO); its
    own captions do not compete with one another. Ties count against the model: a wrong caption with exactly the
    similarity of the right one ranks before it.

    Args:
        model: in evaluation mode.
        images: at the model's image size.
        k: rank up to which the right caption counts.
    """
    captions = images.distinct_captions()
    texts_NE = model.get_text_features(torch.from_numpy(images.texts_ME)[captions].to(model.device))
    index_of = {row: i for i, row in enumerate(captions)}
    hits = 0
    for start in range(0, len(images.pixels_NHWC), BATCH_SIZE):
        pixels = normalise(images.pixels_NHWC[start : start + BATCH_SIZE].numpy()).to(model.device)
        similarity_BN = model.get_image_features(pixels) @ texts_NE.T
        own_BN = torch.zeros_like(similarity_BN, dtype=torch.bool)
        for place, rows in enumerate(images.all_captions[start : start + BATCH_SIZE]):
            own_BN[place, [index_of[row] for row in rows]] = True
        best_B1 = similarity_BN.masked_fill(~own_BN, -torch.inf).amax(dim=1, keepdim=True)
        hits += int((((similarity_BN >= best_B1) & ~own_BN).sum(dim=1) < k).sum())
    return hits / len(images.pixels_NHWC), len(images.pixels_NHWC)
