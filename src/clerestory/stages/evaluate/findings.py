"""The finding codes of an evaluation and its self-test."""

from __future__ import annotations

from clerestory.core.findings import FindingCode

UNSCORED_SAMPLES = FindingCode("CLR-E001", "warning", "unscored samples")
EMPTY_CAPTIONS = FindingCode(
    "CLR-E002", "warning", "images without a generated caption", fix="train the caption decoder for longer"
)
UNUSABLE_SPLIT = FindingCode("CLR-E003", "warning", "split not evaluated", "not_run")
UNSUPPORTED_SUITE = FindingCode("CLR-E004", "info", "suite not supported by the model", "not_applicable")
SMALL_SLICE = FindingCode(
    "CLR-E005",
    "info",
    "slice too small",
    "not_run",
    "add samples of this slice, or lower min_slice_concepts (for a task: min_group_concepts)",
)
EXCLUDED_VARIANTS = FindingCode("CLR-E006", "info", "skin-tone variants excluded", "not_applicable")
NOT_APPLICABLE = FindingCode("CLR-E007", "info", "suite not applicable", "not_applicable")
UNANSWERED = FindingCode(
    "CLR-E008",
    "warning",
    "unanswered samples",
    fix="run the evaluation again: answers are cached, and only the unanswered samples are requested",
)
NOT_UNDERSTOOD = FindingCode(
    "CLR-E009",
    "warning",
    "replies not understood",
    fix="ask for the letter alone in the prompts of the task, or raise max_reply_tokens for replies that were cut off",
)
NOT_PINNED = FindingCode(
    "CLR-E010",
    "info",
    "weights not pinned",
    "warn",
    "evaluate the endpoint again before a decision that depends on it; a model in a folder (hf:./folder) can be pinned",
)
NO_TRAINING_DATA = FindingCode(
    "CLR-E020", "info", "no labelled training data", "not_applicable", "give some images the split 'train'"
)
NO_TEMPERATURE = FindingCode(
    "CLR-E021", "info", "no calibration temperature", "not_applicable", "give some labelled images the split 'val'"
)
SMALL_GROUP = FindingCode(
    "CLR-E022", "info", "group too small", "not_run", "add samples of this group, or lower min_group_concepts"
)
NO_CORRUPTION_BASELINE = FindingCode("CLR-E023", "info", "corruption error without a baseline", "not_applicable")

FAULT_NOT_APPLICABLE = FindingCode("CLR-E030", "info", "fault not applicable", "not_applicable")
FAULT_MISSED = FindingCode(
    "CLR-E031", "warning", "fault not detected", fix="evaluate more images, or add a gate that measures its effect"
)

UNANSWERED_REQUESTS = FindingCode(
    "CLR-E040",
    "warning",
    "unanswered requests under load",
    fix="lower the rate to what the server can handle, or look up the reason in its log",
)
LATE_LOAD_GENERATOR = FindingCode(
    "CLR-E041",
    "warning",
    "load generator late",
    fix="close other programs, lower the rate, or send the load from another computer",
)
QUEUED_REQUESTS = FindingCode(
    "CLR-E042", "info", "requests queued by the client", fix="raise max_in_flight, or lower the rate"
)
NO_ENERGY_COUNTERS = FindingCode(
    "CLR-E043",
    "info",
    "energy not measured",
    "not_applicable",
    "measure on a Linux machine with an Intel or AMD processor whose counters you may read",
)
EXAMPLE_PRICES = FindingCode(
    "CLR-E044",
    "warning",
    "example prices",
    fix="copy prices.toml, enter your prices, and name the copy in the setting prices",
)
NO_PRICE = FindingCode("CLR-E045", "info", "no price", "not_applicable")
NO_CORRECT_ANSWER = FindingCode("CLR-E046", "info", "no correct answer to price", "not_applicable")

DUPLICATE_OPTIONS = FindingCode("CLR-E050", "warning", "duplicate options", fix="make the options of an item differ")
UNGROUPED_DISTRACTORS = FindingCode(
    "CLR-E051", "info", "distractors drawn from all categories", fix="give the images a group such as category"
)
NO_EFFECTIVE_ROBUSTNESS = FindingCode("CLR-E052", "info", "effective robustness not measured", "not_run")

BLIND_SOLVABLE = FindingCode(
    "CLR-E060",
    "warning",
    "solvable without the image",
    fix="remove items that are solved without the image, or make their distractors as likely as the correct option",
)
CONTAMINATED = FindingCode(
    "CLR-E061", "warning", "test images in the training data", fix="move these images to one side of the split"
)
TOO_FEW_ITEMS = FindingCode("CLR-E062", "warning", "too few items", fix="add items of other concepts")
DUPLICATE_ITEMS = FindingCode(
    "CLR-E063", "warning", "duplicate items", fix="make the options differ, and remove duplicate items"
)
UNINFORMATIVE_ITEMS = FindingCode(
    "CLR-E064",
    "warning",
    "items that do not discriminate between models",
    fix="replace items that every model solves with harder ones",
)
DOUBTFUL_LABELS = FindingCode(
    "CLR-E065", "warning", "doubtful labels", fix="review these items and correct their labels"
)
UNANSWERED_ITEMS = FindingCode(
    "CLR-E066", "warning", "unanswered items", fix="run the evaluation again: only the unanswered items are requested"
)
NOT_UNDERSTOOD_ITEMS = FindingCode(
    "CLR-E067",
    "warning",
    "items with replies that were not understood",
    fix="read the examples; raise max_reply_tokens, or ask for the letter alone in the prompts of the task",
)

CODES = (
    UNSCORED_SAMPLES,
    EMPTY_CAPTIONS,
    UNUSABLE_SPLIT,
    UNSUPPORTED_SUITE,
    SMALL_SLICE,
    EXCLUDED_VARIANTS,
    NOT_APPLICABLE,
    UNANSWERED,
    NOT_UNDERSTOOD,
    NOT_PINNED,
    NO_TRAINING_DATA,
    NO_TEMPERATURE,
    SMALL_GROUP,
    NO_CORRUPTION_BASELINE,
    FAULT_NOT_APPLICABLE,
    FAULT_MISSED,
    UNANSWERED_REQUESTS,
    LATE_LOAD_GENERATOR,
    QUEUED_REQUESTS,
    NO_ENERGY_COUNTERS,
    EXAMPLE_PRICES,
    NO_PRICE,
    NO_CORRECT_ANSWER,
    DUPLICATE_OPTIONS,
    UNGROUPED_DISTRACTORS,
    NO_EFFECTIVE_ROBUSTNESS,
    BLIND_SOLVABLE,
    CONTAMINATED,
    TOO_FEW_ITEMS,
    DUPLICATE_ITEMS,
    UNINFORMATIVE_ITEMS,
    DOUBTFUL_LABELS,
    UNANSWERED_ITEMS,
    NOT_UNDERSTOOD_ITEMS,
)
