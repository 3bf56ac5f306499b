"""The finding codes of the training monitor, and how the terminal shows a finding."""

from __future__ import annotations

from clerestory.core.evidence import Finding
from clerestory.core.findings import FindingCode

COLLAPSE = FindingCode(
    "CLR-T010",
    "error",
    "embedding collapse",
    "fail",
    "add a loss that separates different images: a contrastive loss with negatives in the batch, or a larger batch; "
    "with self-supervision raise the weight of its variance or uniformity term",
)
DEAD_EXPERTS = FindingCode(
    "CLR-T011",
    "warning",
    "dead experts",
    "fail",
    "raise balance_weight (or turn on the router's balancing bias) and check that the router's weights get a "
    "gradient; use fewer experts if the data has too little variety for them",
)
PLATEAU = FindingCode(
    "CLR-T012",
    "error",
    "contrastive loss at chance level",
    "fail",
    "check that captions match their images (clerestory data show), then the temperature and that the image "
    "tower gets gradients; warm up for longer before raising learning_rate",
)
TEMPERATURE = FindingCode(
    "CLR-T013",
    "warning",
    "temperature out of range",
    "fail",
    "set temperature to 0.05 (a logit scale of 20; CLIP keeps it between 1 and 100), or make it trainable from there",
)
EXPLOSION = FindingCode(
    "CLR-T014",
    "error",
    "exploding gradients or weights",
    "fail",
    "turn on gradient clipping (max_grad_norm = 1), lower learning_rate, and check the batches of these steps for "
    "corrupt data",
)
FORGETTING = FindingCode(
    "CLR-T015",
    "error",
    "forgetting",
    "fail",
    "mix earlier data into every batch, lower learning_rate, or lock a tower; for fine-tuning, interpolate with "
    "the original weights (WiSE-FT) and evaluate the earlier tasks",
)
SHORTCUT = FindingCode(
    "CLR-T016",
    "warning",
    "captions ignore the image",
    "fail",
    "check that captions match and describe their images; raise caption_weight or caption_share, mask "
    "tokens at random (parallel prediction), and train for longer if the captions are long",
)
LEAKAGE = FindingCode(
    "CLR-T017",
    "error",
    "validation images in the training split",
    "fail",
    "remove them from one of the two splits, and give an image and its copies one concept, which keeps them in one "
    "split; until then metrics on this validation split are too optimistic",
)
DUPLICATES = FindingCode(
    "CLR-T018",
    "warning",
    "duplicates in the batch",
    "fail",
    "remove the copies from the data or give them one concept (a concept is sampled once per batch), and check how "
    "batches are sampled",
)
LEARNING_RATE_TOO_HIGH = FindingCode(
    "CLR-T019",
    "error",
    "learning rate too high",
    "fail",
    "lower learning_rate by a factor of 10 and warm up for longer (warmup_ratio = 0.1)",
)
LEARNING_RATE_TOO_LOW = FindingCode(
    "CLR-T020",
    "warning",
    "learning rate too low",
    "fail",
    "raise learning_rate by a factor of 10, and again while the loss falls smoothly; check for frozen weights",
)
NO_NEGATIVES = FindingCode(
    "CLR-T021",
    "error",
    "contrastive loss without negatives",
    "fail",
    "raise batch_size, set loss to bank_softmax, and check that different images have different captions",
)

CODES = (
    COLLAPSE,
    DEAD_EXPERTS,
    PLATEAU,
    TEMPERATURE,
    EXPLOSION,
    FORGETTING,
    SHORTCUT,
    LEAKAGE,
    DUPLICATES,
    LEARNING_RATE_TOO_HIGH,
    LEARNING_RATE_TOO_LOW,
    NO_NEGATIVES,
)


def format_finding(finding: Finding) -> str:
    """A finding in one line for the terminal."""
    return f"{finding.code} {finding.message}. Fix: {finding.fix}"
