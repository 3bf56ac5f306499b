"""The contract of the per-sample rows: their columns, tasks, conditions, and the reasons of a missing score.

Evaluation writes the rows; statistics, comparisons, the gate and reports read them. One row is one question put to the
model: a retrieval query, a classified image, an item of a benchmark, a timed request. Every number column may be empty
(NaN), and then ``unscored`` says why.
"""

from __future__ import annotations

from enum import StrEnum

TEXT_COLUMNS = (
    "task",
    "split",
    "operation",
    "sample",
    "concept",
    "query",
    "target",
    "answer",
    "unscored",
    "unscored_detail",
    "condition",
    "severity",
    "image",
    "prompt",
)
NUMBER_COLUMNS = (
    "rank",
    "relevant",
    "precision",
    "score",
    "clean_score",
    "reference",
    "chance",
    "all_orders",
    "not_understood",
    "confidence",
    "nll",
    "brier",
    "scaled_confidence",
    "scaled_nll",
    "scaled_brier",
    "chrf",
    "chrf_best",
    "cider",
    "clip_score",
    "in_distribution",
    "ood_msp",
    "ood_max_logit",
    "ood_energy",
    "ood_mahalanobis",
    "ood_knn",
    "ood_mcm",
    "ms",
    "tokens_in",
    "tokens_out",
    "cost",
    "amount",
)
# Groups that always have a column; a dataset may have others.
GROUP_COLUMNS = ("style", "gender", "skin_tone", "emoji_group", "concept_split", "licence")
# Columns that identify a question.
QUESTION_COLUMNS = ("task", "split", "operation", "condition", "severity", "sample", "query")
# The column whose values are independent of one another: the clusters of intervals.
CLUSTER_COLUMN = "concept"

ANY = "*"  # in a recipe: any value but the empty one
MIXED = "mixed"  # the value of a group on which the samples of a row disagree
ALL_SAMPLES = "all"  # the split name of data without splits


class TaskName(StrEnum):
    """The built-in tasks; a task file brings its own name."""

    IMAGE_TO_TEXT = "image_to_text"
    TEXT_TO_IMAGE = "text_to_image"
    ZERO_SHOT = "zero_shot"
    LINEAR_PROBE = "linear_probe"
    KNN = "knn"
    CAPTION = "caption"
    MULTIPLE_CHOICE = "multiple_choice"
    YES_NO = "yes_no"
    SHORT_ANSWER = "short_answer"
    OOD = "ood"
    CORRUPTION = "corruption"
    CORRUPTION_BASELINE = "corruption_base"
    CALIBRATION = "calibration"
    GROUP_ACCURACY = "group_accuracy"
    NEUTRAL_SEARCH = "neutral_search"
    LATENCY = "latency"
    LOAD = "load"
    THROUGHPUT = "throughput"
    MEMORY = "memory"
    ENERGY = "energy"
    COST = "cost"
    VALIDITY = "validity"


class Operation(StrEnum):
    """The operation of a timed or priced request."""

    EMBED_IMAGE = "embed_image"
    EMBED_TEXT = "embed_text"
    DESCRIBE = "describe"


# Tasks that measure the machine: two models are not compared on them question by question.
MACHINE_TASKS = frozenset(
    {TaskName.LATENCY, TaskName.LOAD, TaskName.THROUGHPUT, TaskName.MEMORY, TaskName.ENERGY, TaskName.COST}
)


class Condition(StrEnum):
    """The variant of a question; corruptions and text perturbations are further conditions, by their names."""

    CLEAN = "clean"
    BLIND = "blind"  # without the image
    SHUFFLED_IMAGE = "shuffled_image"  # with another sample's image
    MAJORITY = "majority"  # no model: the most frequent answer
    TYPOS = "typos"
    UPPER_CASE = "upper_case"
    LOWER_CASE = "lower_case"
    SYNONYMS = "synonyms"
    WORD_ORDER = "word_order"


# Control conditions that show how much of a score comes from the image.
ABLATIONS = (Condition.BLIND, Condition.SHUFFLED_IMAGE, Condition.MAJORITY)
TEXT_PERTURBATIONS = (
    Condition.TYPOS,
    Condition.UPPER_CASE,
    Condition.LOWER_CASE,
    Condition.SYNONYMS,
    Condition.WORD_ORDER,
)


class Unscored(StrEnum):
    """Why a row has no score. The error text of an endpoint is in ``unscored_detail``."""

    NO_CAPTION = "no_caption"  # no caption in the language of the evaluation
    UNREADABLE_IMAGE = "unreadable_image"
    NO_ANSWER = "no_answer"  # the model, mostly one behind an endpoint, did not answer; asking again may help
    NOT_UNDERSTOOD = "not_understood"  # the reply gives no answer, several, or was cut off before it
    NO_CAPTION_WRITTEN = "no_caption_written"  # the model wrote an empty caption
    UNKNOWN_LABEL = "unknown_label"  # the sample's label is not one of the classes
    NO_CORRECT_ANSWER = "no_correct_answer"  # the data does not say what is correct
    IMAGE_TOO_SMALL = "image_too_small"  # to be corrupted
    NO_SYNONYM = "no_synonym"
    ONE_WORD_ORDER = "one_word_order"
    NO_LONG_WORD = "no_long_word"  # of four letters or more, to put a typo into
    TOO_FEW_IMAGES = "too_few_images"  # of the group, for its concept


# Reasons that a further run may remove: answers are cached by content, so only these questions are evaluated again.
RETRYABLE = frozenset({Unscored.NO_ANSWER})


def chance_fact(metric: str, *where: str) -> str:
    """Name of the fact with a metric's expected value for guessing: ``chance.recall@10.image_to_text.test``.

    Args:
        metric: the name of the metric.
        where: the task and the split, or the group.
    """
    return ".".join(("chance", metric, *where))
