"""The gates that watch: each compares the answers of a changed pipeline with those of the sound one.

| gate | speaks when |
|---|---|
| ``quality`` | the mean reciprocal rank has dropped, in either direction of retrieval; paired, cluster-robust |
| ``churn`` | more first answers have changed than is tolerated, with the lower end of the share's interval |
| ``fingerprint`` | an embedding of the same picture or text has moved further than rounding moves it |
| ``labels`` | more pictures than is tolerated have another right answer than the rows of before name |
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from clerestory.stages.evaluate.selftest.config import SelfTestConfig
from clerestory.stages.evaluate.selftest.probe import Answers, Ints, Probe
from clerestory.stats.intervals import share_interval
from clerestory.stats.verdict import gate_difference


class Alarm(NamedTuple):
    """What a gate says.

    Attributes:
        raised: it noticed something.
        value: what it looked at: the drop, the share, the distance.
        sentence: the same in words.
    """

    raised: bool
    value: float
    sentence: str


def quality(before: Answers, after: Answers, probe: Probe, config: SelfTestConfig) -> Alarm:
    """Paired drop in mean reciprocal rank; the worse of the two directions."""
    captions = np.full(len(probe.captions), -1, dtype=np.int64)
    captions[probe.labels[::-1]] = probe.concepts[::-1]
    alarms = []
    for one, other, groups in (
        (after.reciprocal_ranks, before.reciprocal_ranks, probe.concepts),
        (after.found_pictures, before.found_pictures, captions),
    ):
        keep = groups >= 0
        numbers: Ints = np.unique(groups[keep], return_inverse=True)[1].astype(np.int64)
        found = gate_difference(one[keep], other[keep], numbers, config.margin, config.alpha)
        alarms.append(Alarm(found.answer == "fail", -found.difference.value, found.sentence))
    return max(alarms, key=lambda alarm: (alarm.raised, alarm.value))


def churn(before: Answers, after: Answers, probe: Probe, config: SelfTestConfig) -> Alarm:
    """The share of pictures whose first answer is another one."""
    return _changed(before.first_answers != after.first_answers, "first", probe, config)


def labels(before: Answers, after: Answers, probe: Probe, config: SelfTestConfig) -> Alarm:
    """The share of pictures whose right answer is another one than before."""
    return _changed(before.labels != after.labels, "right", probe, config)


def _changed(which: np.ndarray, kind: str, probe: Probe, config: SelfTestConfig) -> Alarm:
    changed = which.astype(np.float64)
    share = float(changed.mean())
    interval = share_interval(changed, probe.concepts)
    low = share if isinstance(interval, str) else interval.low
    sentence = f"{share:.1%} of {len(changed)} {kind} answers are other ones; {config.churn:.1%} are tolerated"
    return Alarm(low > config.churn, share, sentence)


def fingerprint(before: Answers, after: Answers, probe: Probe, config: SelfTestConfig) -> Alarm:
    """The largest cosine distance between the two embeddings of the same thing."""
    moved = max(_farthest(before.pictures, after.pictures), _farthest(before.captions, after.captions))
    sentence = f"an embedding has moved by {moved:.2g}; {config.distance:g} is tolerated"
    return Alarm(moved > config.distance, moved, sentence)


def _farthest(before: np.ndarray, after: np.ndarray) -> float:
    """Largest 1 - cosine of unit rows, as half the squared distance, which loses no digits near 0."""
    if before.shape != after.shape:
        return 1.0
    apart = (before.astype(np.float64) - after.astype(np.float64)) ** 2
    return float(apart.sum(axis=1).max() / 2)


GATES: dict[str, Callable[[Answers, Answers, Probe, SelfTestConfig], Alarm]] = {
    "quality": quality,
    "churn": churn,
    "fingerprint": fingerprint,
    "labels": labels,
}
