"""What a training run may be told about learning from pictures alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from clerestory.core.errors import ConfigError

METHODS = ("none", "masked", "lejepa", "slip")


@dataclass(frozen=True, slots=True)
class SelfSupervision:
    """Learning without captions, beside the captions there are.

    It uses every picture of the training split, with and without captions; skin-tone variants are left out, as they are
    one drawing several times.

    Attributes:
        method: ``none``; ``masked`` (predict hidden pixels), ``lejepa`` (views agree, embeddings are Gaussian) or
            ``slip`` (a view finds the other view of its picture among those of other pictures).
        weight: of its loss.
        batch: pictures in a step, besides those with captions.
        head: whether ``slip`` and ``lejepa`` compare views in a space of their own behind a small network, as their
            papers do; otherwise in the space that pictures share with texts, which keeps that space from narrowing to
            the few captions that are known.
        style: strength of the style augmentation of the views, 0..1.
        temperature: of the softmax of ``slip``.
        hidden: share of the picture that ``masked`` and the teacher's masked prediction hide.
        gaussian: share of the Gaussian part in the loss of ``lejepa``.
        teacher: share of the steps, the last ones, in which an average of the model teaches it: what a part of a
            picture shows and what is hidden; 0 for never.
        teacher_weight: weight of what the teacher says of parts.
        teacher_masked: weight of what it says of hidden tokens.
        teacher_decay: of the average, the more the slower.
        teacher_temperature: of the teacher's softmax over the known captions.
    """

    method: Literal["none", "masked", "lejepa", "slip"] = "none"
    weight: float = 1.0
    batch: int = 64
    head: bool = True
    style: float = 1.0
    temperature: float = 0.1
    hidden: float = 0.5
    gaussian: float = 0.05
    teacher: float = 0.0
    teacher_weight: float = 1.0
    teacher_masked: float = 0.25
    teacher_decay: float = 0.99
    teacher_temperature: float = 0.03

    def __post_init__(self) -> None:
        """Refuse numbers that make no sense."""
        if self.method not in METHODS:
            raise ConfigError(f"self_supervision.method is {self.method!r}", f"it takes one of {', '.join(METHODS)}")
        if self.batch < 2:
            raise ConfigError(
                f"self_supervision.batch is {self.batch}", "it is at least 2, as a view is compared with other pictures"
            )
        for name in ("style", "hidden", "gaussian", "teacher"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(
                    f"self_supervision.{name} is {getattr(self, name)}", "it takes a share between 0 and 1"
                )
        if not 0 <= self.teacher_decay < 1 or self.temperature <= 0 or self.teacher_temperature <= 0:
            raise ConfigError(
                f"self_supervision.teacher_decay {self.teacher_decay}, temperature {self.temperature} and "
                f"teacher_temperature {self.teacher_temperature} do not go together",
                "teacher_decay lies in [0, 1), the temperatures are above 0",
            )

    @property
    def on(self) -> bool:
        """Whether pictures without captions are of any use to the run."""
        return self.method != "none" or self.teacher > 0
