"""What a calibration says about an audit: how much it may have missed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from clerestory.core.evidence import Evidence, Measurement
from clerestory.stages.audit.calibration.run import FINDING, KIND, PLANTED, PRECISION, RECALL
from clerestory.stats.scientific import scipy
from clerestory.store import Store

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class DetectorQuality:
    """How well one detector works on some data.

    Attributes:
        code: of its finding.
        recall: the share of planted faults that were reported.
        by_fault: the same for each kind of fault, if there are several.
        precision: the share of reports that were planted; None if nothing was reported.
    """

    code: str
    recall: Measurement
    by_fault: tuple[tuple[str, Measurement], ...]
    precision: Measurement | None

    @property
    def lowest(self) -> Measurement:
        """The recall of the kind of fault that is found least often."""
        return min((measured for _, measured in self.by_fault), key=lambda each: each.value, default=self.recall)

    def may_be_missed(self, reported: int) -> int | None:
        """How many faults like the planted ones an audit may have missed; None if that is not known.

        With a recall of r, the largest k of which no more than ``reported`` are reported with a probability of more
        than 5 %, less the reported ones. r is the lower bound of the interval, and faults are reported independently
        of one another.

        Args:
            reported: how many the audit reported.
        """
        interval = self.recall.interval
        if interval is None or interval.low <= 0:
            return None
        low = min(interval.low, 1.0)
        if scipy.stats.binom.cdf(reported, reported + 1, low) <= 1 - CONFIDENCE:
            return 0
        below, above = reported + 1, 2 * (reported + 1)
        while scipy.stats.binom.cdf(reported, above, low) > 1 - CONFIDENCE:
            below, above = above, 2 * above
        while above - below > 1:
            middle = (below + above) // 2
            is_possible = scipy.stats.binom.cdf(reported, middle, low) > 1 - CONFIDENCE
            below, above = (middle, above) if is_possible else (below, middle)
        return below - reported


def detector_qualities(evidence: Evidence) -> list[DetectorQuality]:
    """The detectors of a calibration, in the order of their codes."""
    recalls = [each for each in evidence.measurements if each.name == RECALL]
    precisions = {each.slice[FINDING]: each for each in evidence.measurements if each.name == PRECISION}
    return [
        DetectorQuality(
            code=each.slice[FINDING],
            recall=each,
            by_fault=tuple(
                (other.slice[PLANTED], other)
                for other in recalls
                if PLANTED in other.slice and other.slice[FINDING] == each.slice[FINDING]
            ),
            precision=precisions.get(each.slice[FINDING]),
        )
        for each in recalls
        if PLANTED not in each.slice
    ]


def calibration_of(store: Store, data: str, code: str, audit_config: str) -> Evidence | None:
    """The newest calibration on exactly this data with the same code and limits; None if there is none.

    Args:
        store: has the evidence.
        data: digest of the data.
        code: digest of the code of calibrations.
        audit_config: digest of the limits of the audit.
    """
    found: Sequence[Evidence] = store.find_evidence(KIND, data=data, code=code)
    return next((each for each in found if each.facts.text("audit_config") == audit_config), None)
