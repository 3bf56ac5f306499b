"""The finding codes of the licence check of a model (``docs/reference/findings.md``)."""

from clerestory.core.findings import FindingCode

BLOCKED = FindingCode(
    "CLR-L001",
    "error",
    "licence that blocks the model",
    "fail",
    "train without this source, ask its owner for another licence, or have the policy changed by who is responsible",
)
UNKNOWN = FindingCode(
    "CLR-L002",
    "error",
    "source of the model without a known licence",
    "fail",
    "find out under which licence it was given, and record it in the data or in the model card",
)
NO_TRAINING_DATA = FindingCode(
    "CLR-L003",
    "error",
    "unknown training data",
    "fail",
    "ask who trained the model; name its data in the model card (datasets), or train a model on data that you know",
)
DUTIES = FindingCode(
    "CLR-L004",
    "info",
    "duties that reach the model",
    "pass",
    "publish the list of sources and licences with the model, and whatever else the duties ask for",
)
CODES = (BLOCKED, UNKNOWN, NO_TRAINING_DATA, DUTIES)
