"""The metrics of an audit."""

from clerestory.stats.metrics import Metric

METRICS = (
    Metric(
        "affected",
        "share",
        "lower",
        "Samples with this finding",
        "The share of samples that a finding of the audit concerns; the slice names its code.",
        topic="validity",
    ),
    Metric(
        "leaked",
        "share",
        "lower",
        "Evaluation images that are also in the training data (leakage)",
        "The share of samples of an evaluation split with a copy, a near-duplicate or a crop in the training split.",
        topic="validity",
    ),
    Metric(
        "contaminated",
        "share",
        "lower",
        "Samples that are in a hash pack (contamination)",
        "The share of samples whose image or a caption is in a hash pack that the audit was given.",
        topic="validity",
    ),
)
