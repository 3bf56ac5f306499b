"""The finding codes of a training run; those of its monitor are in ``monitor.findings``."""

from __future__ import annotations

from clerestory.core.findings import FindingCode
from clerestory.stages.train.monitor.findings import CODES as MONITOR_CODES

SKIPPED_STEPS = FindingCode(
    "CLR-T001",
    "warning",
    "steps without effect",
    fix="read the log; lower learning_rate if there are more than a few",
)
TRUNCATED_CAPTIONS = FindingCode(
    "CLR-T002",
    "info",
    "captions truncated for the decoder",
    fix="none needed if there are few: search uses the whole captions",
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

CODES = (SKIPPED_STEPS, TRUNCATED_CAPTIONS, UNUSED_IMAGES, LOST_WORKERS, *MONITOR_CODES)
