"""The gates under test: each compares the outputs of a changed pipeline with those of the original one.

| gate | raises an alarm if |
|---|---|
| ``quality`` | the mean reciprocal rank drops, in either direction of retrieval; paired, cluster-robust |
| ``churn`` | the share of changed predictions exceeds the tolerance, by the lower bound of its interval |
| ``fingerprint`` | an embedding of the same image or text changes by more than rounding |
| ``labels`` | the share of images with another label than in the stored rows exceeds the tolerance |
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from clerestory.stages.evaluate.config import SelfTestConfig
from clerestory.stages.evaluate.selftest.probe import Ints, PipelineOutputs, ProbeSet
from clerestory.stats.intervals import share_interval
from clerestory.stats.verdict import gate_difference


class Alarm(NamedTuple):
    """The result of a gate.

    Attributes:
        raised: whether it detected a change.
        value: the drop, share or distance that it measured.
        message: one sentence with the numbers.
    """

    raised: bool
    value: float
    message: str


GateFunction = Callable[[PipelineOutputs, PipelineOutputs, ProbeSet, SelfTestConfig], Alarm]


def quality(before: PipelineOutputs, after: PipelineOutputs, probe: ProbeSet, config: SelfTestConfig) -> Alarm:
    """The paired drop in mean reciprocal rank; the worse of the two directions."""
    caption_concepts = np.full(len(probe.captions), -1, dtype=np.int64)
    caption_concepts[probe.labels[::-1]] = probe.concepts[::-1]
    alarms = []
    for new, old, concepts in (
        (after.image_reciprocal_ranks, before.image_reciprocal_ranks, probe.concepts),
        (after.caption_reciprocal_ranks, before.caption_reciprocal_ranks, caption_concepts),
    ):
        has_concept = concepts >= 0
        clusters: Ints = np.unique(concepts[has_concept], return_inverse=True)[1].astype(np.int64)
        test = gate_difference(new[has_concept], old[has_concept], clusters, config.margin, config.alpha)
        alarms.append(Alarm(test.outcome == "fail", -test.difference.value, test.message))
    return max(alarms, key=lambda alarm: (alarm.raised, alarm.value))


def churn(before: PipelineOutputs, after: PipelineOutputs, probe: ProbeSet, config: SelfTestConfig) -> Alarm:
    """The share of images whose prediction changed."""
    return _changed_share(before.predictions != after.predictions, "predictions", probe, config)


def labels(before: PipelineOutputs, after: PipelineOutputs, probe: ProbeSet, config: SelfTestConfig) -> Alarm:
    """The share of images whose label changed."""
    return _changed_share(before.labels != after.labels, "labels", probe, config)


def fingerprint(before: PipelineOutputs, after: PipelineOutputs, probe: ProbeSet, config: SelfTestConfig) -> Alarm:
    """The largest cosine distance between the two embeddings of the same input."""
    distance = max(_max_distance(before.images, after.images), _max_distance(before.captions, after.captions))
    message = f"an embedding moved by a cosine distance of {distance:.2g}; the tolerance is {config.max_distance:g}"
    return Alarm(distance > config.max_distance, distance, message)


GATES: dict[str, GateFunction] = {"quality": quality, "churn": churn, "fingerprint": fingerprint, "labels": labels}


def _changed_share(is_changed: np.ndarray, noun: str, probe: ProbeSet, config: SelfTestConfig) -> Alarm:
    changed = is_changed.astype(np.float64)
    share = float(changed.mean())
    interval = share_interval(changed, probe.concepts)
    low = share if isinstance(interval, str) else interval.low
    message = f"{share:.1%} of {len(changed)} {noun} changed; the tolerance is {config.max_churn:.1%}"
    return Alarm(low > config.max_churn, share, message)


def _max_distance(before: np.ndarray, after: np.ndarray) -> float:
    """The largest 1 - cosine of unit rows, as half the squared distance, which is exact near 0."""
    if before.shape != after.shape:
        return 1.0
    squared = (before.astype(np.float64) - after.astype(np.float64)) ** 2
    return float(squared.sum(axis=1).max() / 2)
