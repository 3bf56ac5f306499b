"""Plain words for slices, verdicts and events, with the standard term beside them; ``format`` looks them up.

Metrics have their titles in ``clerestory.stats.metrics``, findings in the registry of their codes.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Words:
    """A name in plain words: a short ``title`` and what it means."""

    title: str
    meaning: str


_TASKS = {
    "image_to_text": "finding the caption of a picture (image to text)",
    "text_to_image": "finding the picture for a text (text to image)",
    "zero_shot": "classification by class names (zero-shot)",
    "linear_probe": "classification by a trained layer (linear probe)",
    "knn": "classification by similar pictures (k-NN)",
    "caption": "writing captions (captioning)",
    "multiple_choice": "choosing the correct caption (multiple choice)",
    "yes_no": "yes-or-no questions (VQA)",
    "short_answer": "questions with a short answer (VQA)",
    "ood": "detecting unknown classes (OOD)",
    "calibration": "calibration",
    "corruption": "corrupted pictures (corruption)",
    "group_accuracy": "accuracy by group",
    "neutral_search": "searches that name no group (search bias)",
    "latency": "response time (latency)",
    "load": "response time under load",
    "throughput": "throughput",
    "memory": "memory",
    "energy": "energy",
    "cost": "cost",
    "validity": "benchmark validity",
}
# The standard terms alone, for narrow places.
TASK_TERMS = {
    "image_to_text": "image to text",
    "text_to_image": "text to image",
    "zero_shot": "zero-shot",
    "linear_probe": "linear probe",
    "knn": "k-NN",
    "caption": "captioning",
    "multiple_choice": "multiple choice",
    "yes_no": "yes/no VQA",
    "short_answer": "short-answer VQA",
    "ood": "OOD",
}
_SPLITS = {
    "train": "the training pictures",
    "val": "the validation pictures",
    "test": "concepts it never saw (test)",
    "test_style": "a drawing style it never saw (test_style)",
    "all": "all pictures",
}
_OPERATIONS = {
    "embed_image": "embedding a picture",
    "embed_text": "embedding a text",
    "describe": "writing a caption",
}
_CONCEPT_SPLITS = {
    "train": "concept seen in training",
    "val": "concept seen in validation only",
    "test": "concept never seen",
    "none": "concept that no other style has",
}
_STYLES = {
    "twemoji": "Twemoji",
    "openmoji": "OpenMoji",
    "noto": "Noto",
    "noto-v1": "Noto v1",
    "fluent-emoji-flat": "Fluent flat",
    "emojione": "EmojiOne",
    "emojione-v1": "EmojiOne v1",
    "fxemoji": "FxEmoji",
}
_CONDITIONS = {
    "gaussian_noise": "Gaussian noise",
    "shot_noise": "shot noise",
    "impulse_noise": "impulse noise",
    "speckle_noise": "speckle noise",
    "defocus_blur": "defocus blur",
    "glass_blur": "glass blur",
    "motion_blur": "motion blur",
    "zoom_blur": "zoom blur",
    "gaussian_blur": "Gaussian blur",
    "snow": "snow",
    "frost": "frost",
    "fog": "fog",
    "brightness": "brightness",
    "spatter": "spatter",
    "contrast": "low contrast",
    "elastic_transform": "elastic distortion",
    "pixelate": "pixelation",
    "jpeg_compression": "JPEG compression",
    "saturate": "saturation",
    "typos": "with typos",
    "upper_case": "IN CAPITALS",
    "lower_case": "in lower case",
    "synonyms": "with synonyms",
    "word_order": "in another word order",
    "blind": "without the picture (blind)",
    "shuffled_image": "with another picture (shuffled)",
    "majority": "most frequent answer (majority)",
}
_OOD_SCORES = {
    "msp": "maximum softmax probability (MSP)",
    "max_logit": "largest logit (MaxLogit)",
    "energy": "energy score",
    "mahalanobis": "Mahalanobis distance",
    "knn": "nearest-neighbour distance (k-NN)",
    "mcm": "concept matching (MCM)",
}
_GROUPS = {"style": "drawing style", "skin_tone": "skin tone", "licence": "licence", "gender": "gender"}
SLICES = {
    "task": _TASKS,
    "of": _TASKS,
    "split": _SPLITS,
    "operation": _OPERATIONS,
    "concept_split": _CONCEPT_SPLITS,
    "style": _STYLES,
    "condition": _CONDITIONS,
    "score": _OOD_SCORES,
    "group": _GROUPS,
    "scaled": {"yes": "after temperature scaling"},
    "value": _STYLES,
}
CORRUPTION_FAMILIES = {"noise": "Noise", "blur": "Blur", "weather": "Weather", "digital": "Digital", "extra": "Extra"}
KINDS = {"self_test": "self-test"}
EVENTS = {
    "data_added": "added a dataset",
    "model_added": "added a model",
    "data_fixed": "made it by a fix of another dataset",
    "finding_accepted": "accepted a finding",
    "acceptance_withdrawn": "withdrew an acceptance",
    "gated": "submitted it to the gate",
    "undecided": "submitted it to the gate, which could not decide",
    "approval_requested": "requested its approval",
    "approved": "approved it",
    "approval_declined": "declined it",
    "promoted": "promoted it to live",
    "rolled_back": "rolled back",
    "pack_added": "added a benchmark pack",
    "governance_stated": "stated how a requirement is met",
    "governance_not_applicable": "stated that a requirement does not apply",
    "governance_withdrawn": "withdrew a statement about a requirement",
    "exported": "exported it for servers without torch",
    "canary_started": "began to try it on a share of the requests",
    "canary_step": "went on to the next share of the requests",
    "canary_paused": "paused its trial",
    "canary_resumed": "resumed its trial",
    "canary_ready": "found it ready for promotion",
    "canary_aborted": "ended its trial",
    "canary_rolled_back": "took it back after its trial",
    "incident_opened": "opened an incident",
    "incident_recurred": "saw it again",
    "incident_reopened": "opened the incident again",
    "incident_routed": "chose whom to notify",
    "incident_noted": "noted something",
    "incident_acknowledged": "took it on",
    "incident_mitigating": "began to limit the damage",
    "incident_mitigated": "limited the damage",
    "incident_resolved": "resolved it",
    "incident_postmortem": "wrote the postmortem",
    "incident_clock_started": "started the clock of a reporting duty",
    "incident_duty_fulfilled": "fulfilled a reporting duty",
    "api_key_created": "made an API key",
    "api_key_rotated": "replaced an API key",
    "api_key_revoked": "revoked an API key",
}
VERDICTS = {
    "ship": Words("Yes", "it may ship"),
    "refuse": Words("No", "it must not ship"),
    "cannot_decide": Words("Cannot decide", "evidence is missing or out of date"),
}
OUTCOMES = {"pass": "met", "fail": "not met", "cannot_decide": "cannot decide"}
