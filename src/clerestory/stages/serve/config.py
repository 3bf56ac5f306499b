"""The limits of the queue in front of the model, and of its batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from clerestory.core.settings import Range, check_settings

Seconds = Annotated[float, Range(0.001, 86_400)]


@dataclass(frozen=True, slots=True)
class QueueConfig:
    """What may wait for the model at the same time; a request beyond it is answered 429.

    Attributes:
        max_requests: requests that wait or are computed.
        max_bytes: bytes of the inputs of these requests, images as they were sent.
        max_pixels: pixels of their images, by what the images declare.
        timeout_seconds: how long a request may take from its last byte to its answer, unless it says less in the
            header X-Request-Timeout; what cannot be answered in time is dropped before it reaches the model.
        max_timeout_seconds: the longest time that X-Request-Timeout may ask for.
    """

    max_requests: Annotated[int, Range(1, 1_000_000)] = 1_024
    max_bytes: Annotated[int, Range(1_000)] = 256_000_000
    max_pixels: Annotated[int, Range(1_000)] = 2_000_000_000
    timeout_seconds: Seconds = 60.0
    max_timeout_seconds: Seconds = 600.0

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True, slots=True)
class BatchConfig:
    """What goes through the model together.

    Attributes:
        max_inputs: texts or images of one batch.
        max_characters: characters of the longest text of a batch times the number of its texts, which is the work,
            since texts are padded.
        max_bytes: bytes of the images of a batch as they were sent; one image is always taken.
    """

    max_inputs: Annotated[int, Range(1, 4_096)] = 64
    max_characters: Annotated[int, Range(1)] = 8_000
    max_bytes: Annotated[int, Range(1)] = 10_000_000

    def __post_init__(self) -> None:
        check_settings(self)
