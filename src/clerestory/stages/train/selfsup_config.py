"""The settings of self-supervised learning, from images without captions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from clerestory.core.settings import Range, check_settings


@dataclass(frozen=True, slots=True)
class SelfSupervision:
    """Self-supervised learning beside the captions.

    It uses every image of the training split, with and without captions, except skin-tone variants, which are the same
    drawing several times.

    Attributes:
        method: ``none``; ``masked`` (predict masked pixels), ``lejepa`` (views agree, embeddings are Gaussian) or
            ``slip`` (a view is matched with the other view of its image, the views of other images are negatives).
        weight: of its loss.
        batch_size: images in a step, besides those with captions.
        projection_head: whether ``slip`` and ``lejepa`` compare views in a space of their own behind a small network,
            as in their papers; otherwise in the embedding space shared with texts, which prevents it from collapsing
            to the few known captions.
        style_strength: strength of the style augmentation of the views, 0..1.
        temperature: of the softmax of ``slip``.
        mask_ratio: share of the image that is masked, by ``masked`` and for the teacher's masked tokens.
        sigreg_weight: weight of SIGReg in the loss of ``lejepa``; the agreement of the views has the rest.
        teacher_share: share of the steps, the last ones, with self-distillation: a moving average of the model
            supervises it on crops and on masked tokens; 0 for none.
        distillation_weight: weight of the teacher's supervision of crops.
        masked_token_weight: weight of its supervision of masked tokens.
        teacher_ema_decay: decay of the moving average; higher is slower.
        teacher_temperature: of the teacher's softmax over the known captions.
    """

    method: Literal["none", "masked", "lejepa", "slip"] = "none"
    weight: Annotated[float, Range(0)] = 1.0
    batch_size: Annotated[int, Range(2)] = 64
    projection_head: bool = True
    style_strength: Annotated[float, Range(0, 1)] = 1.0
    temperature: Annotated[float, Range(0, exclusive_minimum=True)] = 0.1
    mask_ratio: Annotated[float, Range(0, 1)] = 0.5
    sigreg_weight: Annotated[float, Range(0, 1)] = 0.05
    teacher_share: Annotated[float, Range(0, 1)] = 0.0
    distillation_weight: Annotated[float, Range(0)] = 1.0
    masked_token_weight: Annotated[float, Range(0)] = 0.25
    teacher_ema_decay: Annotated[float, Range(0, 1, exclusive_maximum=True)] = 0.99
    teacher_temperature: Annotated[float, Range(0, exclusive_minimum=True)] = 0.03

    def __post_init__(self) -> None:
        check_settings(self)

    @property
    def enabled(self) -> bool:
        """Whether the run uses images without captions."""
        return self.method != "none" or self.teacher_share > 0
