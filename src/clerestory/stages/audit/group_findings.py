"""The finding codes of groups, classes and their labels (``docs/reference/findings.md``), and their reasons."""

from __future__ import annotations

from enum import StrEnum

from clerestory.core.findings import FindingCode


class SplitGap(StrEnum):
    """Which side of the splits lacks a value; the ``reason`` of CLR-A036."""

    UNTRAINED = "untrained"
    UNEVALUATED = "unevaluated"
    SEPARATE = "separate"


class LabelCheck(StrEnum):
    """Why labels were not checked; the ``reason`` of CLR-A037."""

    LOW_AGREEMENT = "low_agreement"


class ShortcutKind(StrEnum):
    """What gives a class away; the ``reason`` of CLR-A038."""

    FILE = "file"
    BYTES = "bytes"
    BORDER = "border"


UNBALANCED = FindingCode(
    "CLR-A034",
    "warning",
    "unbalanced group",
    fix="add images of the small values, or weigh them in training, and read the scores of each value apart",
)
WITHOUT_VALUE = FindingCode(
    "CLR-A035", "info", "group without a value", fix="record the value of these images; no score of the group has them"
)
SPLIT_GAP = FindingCode(
    "CLR-A036",
    "warning",
    "group value missing in a split",
    fix="divide the images of each value among the splits, unless the value is held out on purpose",
)
WRONG_LABEL = FindingCode(
    "CLR-A037",
    "warning",
    "label that is probably wrong",
    fix="look at the images, worst first; record the right class, or leave the image out",
)
SHORTCUT = FindingCode(
    "CLR-A038",
    "warning",
    "class that can be predicted without the image content",
    fix="give all classes the same sizes, formats, sources and backgrounds, and test on images where they differ",
)

CODES = (UNBALANCED, WITHOUT_VALUE, SPLIT_GAP, WRONG_LABEL, SHORTCUT)
