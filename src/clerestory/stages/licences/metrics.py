"""The metrics of the licence check."""

from clerestory.stats.metrics import Metric

BLOCKING = Metric(
    "blocking_licences",
    "sources",
    "lower",
    "Sources whose licence blocks the model",
    "How many sources of a model have a licence that the policy refuses, or no known licence.",
    topic="validity",
)
METRICS = (BLOCKING,)
