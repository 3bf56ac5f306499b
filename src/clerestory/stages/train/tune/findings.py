"""The finding codes of fine-tuning."""

from __future__ import annotations

from clerestory.core.findings import FindingCode

FORGETTING_STARTED = FindingCode(
    "CLR-T040",
    "warning",
    "fine-tuning has started to forget",
    fix="lower learning_rate, use --method lora or --on-forgetting interpolate, or stop here if this is acceptable",
)
RETENTION_TOO_LOW = FindingCode(
    "CLR-T041",
    "error",
    "retention below the required minimum",
    "fail",
    "use --on-forgetting stop or --on-forgetting interpolate, and a tenth of the learning_rate",
)
RETENTION_AT_CHANCE = FindingCode(
    "CLR-T042",
    "warning",
    "retention set at chance level",
    "not_run",
    "choose a retention set on which the model is clearly above chance, with --retain",
)
INTERPOLATED_WEIGHTS = FindingCode(
    "CLR-T043",
    "info",
    "interpolated weights",
    "pass",
    "see the interpolation curve (alpha) in the evidence; a lower learning_rate gains more at the same retention",
)
GAIN_NOT_SHOWN = FindingCode(
    "CLR-T044",
    "warning",
    "no significant gain",
    fix="train for more steps, on more images, or unlock a tower",
)
RETENTION_OVERLAP = FindingCode(
    "CLR-T045",
    "warning",
    "retention images in the training data",
    "fail",
    "choose another retention set with --retain",
)
DECODER_NOT_TUNED = FindingCode(
    "CLR-T046",
    "warning",
    "caption decoder not tuned with its image tower",
    fix="evaluate the captions with clerestory evaluate before you use them",
)
DRAFTS_NOT_BETTER = FindingCode(
    "CLR-T047",
    "warning",
    "caption drafts not better than a known caption",
    fix="caption more images, several captions each if possible: drafts begin to pay at several hundred images",
)

CODES = (
    FORGETTING_STARTED,
    RETENTION_TOO_LOW,
    RETENTION_AT_CHANCE,
    INTERPOLATED_WEIGHTS,
    GAIN_NOT_SHOWN,
    RETENTION_OVERLAP,
    DECODER_NOT_TUNED,
    DRAFTS_NOT_BETTER,
)
