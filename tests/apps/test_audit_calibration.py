"""What a calibration lets an audit say about its silence."""

from __future__ import annotations

import dataclasses

import pytest

from clerestory.apps.audit_calibration import calibrated_detectors, trust_sentence
from clerestory.core.codec import Facts, Tags
from clerestory.core.evidence import Cost, Evidence, Interval, Measurement, Subject
from clerestory.core.findings import finding_codes
from clerestory.stages.audit.calibration.run import KIND, RECALL
from clerestory.stages.audit.detection import Detection
from clerestory.stages.audit.image_findings import COMPARISONS_LEFT_OUT


def calibration(code: str, low: float, **faults: float) -> Evidence:
    slices = [(Tags(finding=code), 0.9)] + [(Tags(finding=code, planted=name), value) for name, value in faults.items()]
    interval = Interval(low, 1.0, "cluster-wilson")
    measured = [Measurement(RECALL, value, "share", 50, interval, slice=where) for where, value in slices]
    facts = Facts(samples=50, captions_matched=True)
    created = "2026-01-02T00:00:00+00:00"
    return Evidence(KIND, Subject(), tuple(measured), (), Cost(1.0, 1.0, 1.0), created, facts=facts)


def reported(code: str, number: int) -> Detection:
    return Detection(finding_codes()[code], "found", tuple(f"{i}.jpg" for i in range(number)), 1000)


@pytest.mark.parametrize(
    ("low", "found", "sentence"),
    [
        (0.5, 0, "none was reported; up to 4 (0.4% of the images) may have been missed"),
        (0.99, 0, "none was reported; another one is unlikely"),
        (0.9, 100, "100 reported; up to 17 more (1.7% of the images) may have been missed"),
        (0.0, 0, "none was reported; the planted ones were missed, so this says nothing about the others"),
    ],
)
def test_silence_means_as_much_as_was_measured(low: float, found: int, sentence: str) -> None:
    (detector,) = calibrated_detectors(calibration("CLR-A004", low), [reported("CLR-A004", found)], 1000)
    assert detector.silence == sentence


def test_the_weakest_kind_is_named() -> None:
    (detector,) = calibrated_detectors(calibration("CLR-A015", 0.8, flipped=0.95, cropped=0.6), [], 1000)
    assert detector.weakest == "cropped: 60.0%"


def test_comparisons_that_were_not_made_are_no_silence() -> None:
    left_out = Detection(COMPARISONS_LEFT_OUT, "left out", (), 1000, reason="crops")
    (detector,) = calibrated_detectors(calibration("CLR-A016", 0.99), [left_out], 1000)
    assert "not sought" in detector.silence
    (captions,) = calibrated_detectors(calibration("CLR-A029", 0.99), [], 1000)
    assert "of fewer it detects fewer" in captions.silence


def test_the_sentence_says_how_far_silence_can_be_trusted() -> None:
    assert "clerestory data audit 'my photos' --calibrate" in trust_sentence(None, "my photos")
    assert "more captions" in trust_sentence(calibration("CLR-A004", 0.9), "photos")
    assert "more captions" not in trust_sentence(calibration("CLR-A029", 0.9), "photos")
    without = dataclasses.replace(calibration("CLR-A004", 0.9), facts=Facts(samples=50, captions_matched=False))
    assert trust_sentence(without, "photos").startswith("Calibrated on 2026-01-02 with faults planted in a copy of 50")
