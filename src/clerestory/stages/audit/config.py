"""The settings of an audit."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from clerestory.core.licences.policy import LicencePolicy
from clerestory.core.settings import Range, check_settings


@dataclass(frozen=True, slots=True)
class AuditConfig:
    """The limits of the checks.

    Attributes:
        min_side: the shortest side of an image that is not tiny, in pixels.
        max_side: the longest side of an image that is not very large, in pixels.
        max_aspect: the longest side of an image over the shortest.
        min_contrast: standard deviation of the brightness (0 to 255), below which an image is blank.
        min_sharpness: standard deviation of the Laplacian over that of the brightness, at 104 to 207 pixels of the
            shorter side, below which an image is blurred. Of photographs of 640 pixels blurred with a radius of 4
            pixels 94 % are below 0.28, of sharp ones 1 of 239.
        max_dark: the brightness (0 to 255) that 95 % of a dark image stay below.
        min_structure: PDQ quality (0 to 100) that an image needs to be compared with others by its hash.
        max_crop_images: the most images among which crops are sought; their comparison grows with the square.
        min_similarity: with a model, the cosine similarity of two embeddings from which on their images are reported as
            similar; 0 compares none. It depends on the model: of ``photos``, two photographs of 250 have up to 0.95.
        ocr_images: the most images whose text is read with ``--ocr``; one takes a second or two.
        face_images: the most images that are searched for faces with ``--faces``.
        max_text_share: the share of an image that text may cover before the image counts as mostly text.
        max_group_ratio: the most images of the largest value of a group for one of the smallest.
        min_group_images: the fewest images of a value of a group.
        min_group_coverage: the share of the images that must have a group for the others to lack it.
        label_group: the group whose values are the classes of the data, or ``concept``; empty for the first of
            ``concept``, ``class``, ``label`` and ``category`` that has 2 to 100 values with 10 images or more each.
        max_shortcut: how far from chance (0) to certainty (1) the classes may be predicted without the image content.
        licence_table: a TOML file with licences of one's own (``docs/explanation/licences.md``); empty for the included
            table alone.
        licences: the rights that the licences of the images must grant, and the conditions that are acceptable.
    """

    min_side: Annotated[int, Range(1)] = 32
    max_side: Annotated[int, Range(1)] = 8192
    max_aspect: Annotated[float, Range(1)] = 3.0
    min_contrast: Annotated[float, Range(0, 255)] = 2.0
    min_sharpness: Annotated[float, Range(0)] = 0.28
    max_dark: Annotated[float, Range(0, 255)] = 32.0
    min_structure: Annotated[int, Range(0, 100)] = 20
    max_crop_images: Annotated[int, Range(0)] = 10_000
    min_similarity: Annotated[float, Range(0, 1)] = 0.0
    ocr_images: Annotated[int, Range(1)] = 500
    face_images: Annotated[int, Range(1)] = 5000
    max_text_share: Annotated[float, Range(0, 1)] = 0.3
    max_group_ratio: Annotated[float, Range(1)] = 20.0
    min_group_images: Annotated[int, Range(1)] = 10
    min_group_coverage: Annotated[float, Range(0, 1)] = 0.5
    label_group: str = ""
    max_shortcut: Annotated[float, Range(0, 1)] = 0.3
    licence_table: str = ""
    licences: LicencePolicy = field(default_factory=LicencePolicy)

    def __post_init__(self) -> None:
        check_settings(self)
