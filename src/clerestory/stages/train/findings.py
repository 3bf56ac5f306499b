"""The finding codes of a training run; those of its monitor are in ``monitor.findings``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clerestory.core.evidence import Finding
from clerestory.core.findings import FindingCode
from clerestory.stages.train.monitor.findings import CODES as MONITOR_CODES

if TYPE_CHECKING:  # finding codes are listed without importing numpy
    from clerestory.stages.train.sampling import SharedCaptions

SKIPPED_STEPS = FindingCode(
    "CLR-T001",
    "warning",
    "skipped optimizer steps (non-finite loss or gradient)",
    fix="read the log; lower learning_rate if there are more than a few",
)
TRUNCATED_CAPTIONS = FindingCode(
    "CLR-T002",
    "info",
    "captions truncated for the caption decoder",
    fix="none needed if there are few: search uses up to 256 tokens of a caption. Otherwise raise "
    "model.max_caption_tokens",
)
UNUSED_IMAGES = FindingCode(
    "CLR-T003",
    "info",
    "images without captions left out",
    fix="set self_supervision.method to slip, or self_supervision.teacher_share to 0.3",
)
LOST_WORKERS = FindingCode(
    "CLR-T004",
    "info",
    "data loader workers lost",
    fix="check whether memory ran out; set a lower num_workers. The result is the same",
)

SHARED_CAPTIONS = FindingCode(
    "CLR-T005",
    "warning",
    "the same caption for different concepts",
    fix="give images of different things different captions, or one concept if they show the same",
)
TRUNCATED_TEXTS = FindingCode(
    "CLR-T006",
    "warning",
    "captions truncated by the text tower",
    fix="put what the image shows at the beginning of its caption",
)

CODES = (
    SKIPPED_STEPS,
    TRUNCATED_CAPTIONS,
    UNUSED_IMAGES,
    LOST_WORKERS,
    SHARED_CAPTIONS,
    TRUNCATED_TEXTS,
    *MONITOR_CODES,
)


def shared_captions_finding(shared: SharedCaptions, images: int) -> Finding | None:
    """The finding about captions that different concepts share; None if there are none."""
    if not shared.concepts:
        return None
    return SHARED_CAPTIONS.finding(
        "captions",
        f"{shared.concepts} of {shared.total} concepts share a caption with another concept, such as "
        f"{shared.caption!r} of {shared.most} concepts; training cannot tell their images apart",
        count=shared.concepts,
        concepts=shared.total,
        images=images,
    )
