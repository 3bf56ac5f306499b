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
    Metric(
        "detector_recall",
        "share",
        "higher",
        "Planted faults that the audit reports (recall)",
        "The share of faults, planted in a copy of the user's own data, that the audit reports; the slice names the "
        "code of the finding and the kind of fault.",
        topic="validity",
    ),
    Metric(
        "detector_precision",
        "share",
        "higher",
        "Reports of the audit that are planted faults (precision)",
        "The share of what the audit reports after planting, and did not report before, that was planted.",
        topic="validity",
    ),
)
