"""The calibration of an audit: what is planted is planted, what is counted can be counted again, nothing is left."""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.faulty_data import jpeg, make_dataset, scene

from clerestory.core.errors import InputError
from clerestory.core.evidence import Evidence, Interval, Measurement
from clerestory.core.sample import Dataset
from clerestory.data.images import decode_image
from clerestory.stages.audit.calibration.config import CalibrationConfig
from clerestory.stages.audit.calibration.images import ImageFault, plant_image
from clerestory.stages.audit.calibration.reading import DetectorQuality, calibration_of, detector_qualities
from clerestory.stages.audit.calibration.run import KIND, PRECISION, RECALL, calibrate, calibration_code
from clerestory.stages.audit.calibration.texts import decoy_phrase, personal_phrase
from clerestory.stages.audit.caption_findings import MISMATCH
from clerestory.stages.audit.config import AuditConfig
from clerestory.stages.audit.detection import Detection
from clerestory.stages.audit.exif import find_exif, has_coordinates
from clerestory.stages.audit.personal_data import PersonalDataKind, find_personal_data
from clerestory.stats.aggregate import recompute
from clerestory.stats.rows import read_rows
from clerestory.store import Store, open_store

CONFIG = CalibrationConfig(samples=24, seed=3)
AUDIT = AuditConfig(min_sharpness=0.05)  # the scenes are coarse


def data_of(number: int, copies: int = 0) -> Dataset:
    """Different scenes; the last ones are copies of the first, in other bytes."""
    images = [(f"{i:03d}.jpg", jpeg(scene(i)), "train", f"scene number {i} with some blots") for i in range(number)]
    again = [(f"copy{i}.jpg", jpeg(scene(i), quality=80), "test", f"again {i}") for i in range(copies)]
    return make_dataset([*images, *again])


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return open_store(tmp_path_factory.mktemp("home"))


def every_tenth(data: Dataset) -> Sequence[Detection]:
    """A matcher that knows the right caption of every scene, and misses the images whose number ends in 0."""
    wrong = [s.id for s in data if s.id[:3] not in s.caption.split(" ")[2].zfill(3) and not s.id.endswith("0.jpg")]
    return [Detection(MISMATCH, "wrong", tuple(wrong), len(data))] if wrong else []


@pytest.fixture(scope="module")
def evidence(store: Store) -> Evidence:
    return calibrate(data_of(24), store, AUDIT, CONFIG, matcher=every_tenth)


def found(evidence: Evidence, name: str, **where: str) -> Measurement:
    measured = evidence.find(name, where)
    assert measured is not None, (name, where)
    return measured


def test_detectors_are_measured_with_intervals(evidence: Evidence) -> None:
    for code in ("CLR-A004", "CLR-A006", "CLR-A011", "CLR-A014", "CLR-A017", "CLR-A030", "CLR-A032", "CLR-A033"):
        assert found(evidence, RECALL, finding=code).value == 1.0, code
        assert found(evidence, PRECISION, finding=code).value == 1.0, code
    near = found(evidence, RECALL, finding="CLR-A015", planted=ImageFault.JPEG_70)
    assert (near.value, near.n) == (1.0, 24)
    assert near.interval is not None
    assert near.interval.method == "cluster-wilson"
    assert 0.8 < near.interval.low < 0.95
    assert found(evidence, RECALL, finding="CLR-A017").n == 8 * 12


def test_a_matcher_that_misses_some_is_measured_as_it_is(evidence: Evidence) -> None:
    recall = found(evidence, RECALL, finding="CLR-A029")
    assert 0.5 < recall.value < 1.0
    assert found(evidence, PRECISION, finding="CLR-A029").value == 1.0


def test_every_number_follows_from_the_stored_rows(evidence: Evidence, store: Store) -> None:
    rows = read_rows(store.blobs.get(evidence.rows))
    assert [recompute(rows, each) for each in evidence.measurements] == list(evidence.measurements)
    assert set(rows["sample"]) == {f"{i:03d}.jpg" for i in range(24)}


def test_the_seed_decides_everything(evidence: Evidence, store: Store) -> None:
    again = calibrate(data_of(24), store, AUDIT, CONFIG, matcher=every_tenth)
    assert (again.rows, again.measurements) == (evidence.rows, evidence.measurements)
    other = calibrate(data_of(30), store, AUDIT, CalibrationConfig(samples=20, seed=4))
    assert other.rows != evidence.rows


def test_copies_that_were_there_before_are_no_false_alarms(store: Store) -> None:
    measured = calibrate(data_of(20, copies=4), store, AUDIT, CONFIG)
    for code in ("CLR-A014", "CLR-A015", "CLR-A016", "CLR-A017"):
        assert found(measured, PRECISION, finding=code).value == 1.0, code


def test_nothing_but_evidence_is_left_also_after_an_interruption(store: Store) -> None:
    before = {path for path in store.home.rglob("*") if path.is_file()}
    data = data_of(24)

    class Interrupted:
        def task(self, label: str, total: int) -> Interrupted:
            return self

        def __enter__(self) -> Interrupted:
            return self

        def __exit__(self, *_: object) -> None: ...

        def advance(self, steps: int = 1, note: str = "") -> None:
            raise KeyboardInterrupt

        def write_line(self, line: str) -> None: ...

    with pytest.raises(KeyboardInterrupt):
        calibrate(data, store, AUDIT, CONFIG, Interrupted())
    assert {path for path in store.home.rglob("*") if path.is_file()} == before


def test_it_holds_for_exactly_this_data_code_and_limits(evidence: Evidence, store: Store) -> None:
    data, limits = evidence.subject.data, evidence.facts.text("audit_config")
    assert evidence.kind == KIND == "audit_calibration"
    current = calibration_of(store, data, calibration_code(), limits)
    assert current is not None
    assert current.rows == evidence.rows
    assert calibration_of(store, "0" * 64, calibration_code(), limits) is None
    assert calibration_of(store, data, "0" * 64, limits) is None
    assert calibration_of(store, data, calibration_code(), "0" * 64) is None


def test_too_few_images_are_refused(store: Store) -> None:
    with pytest.raises(InputError) as refused:
        calibrate(data_of(3), store)
    assert "3 images" in refused.value.message


@pytest.mark.parametrize("fault", ImageFault)
def test_a_planted_image_is_what_it_says(fault: ImageFault) -> None:
    content = jpeg(scene(1, (900, 600)))
    planted = plant_image(content, fault, Random(1))
    assert plant_image(content, fault, Random(1)) == planted
    image, pixels = decode_image(planted), np.asarray(decode_image(planted).convert("L"), dtype=float)
    sizes = {
        ImageFault.EXACT: (900, 600),
        ImageFault.HALF_SIZE: (384, 256),
        ImageFault.ROTATED: (512, 768),
        ImageFault.CROPPED: (691, 461),
        ImageFault.BAR: (768, 563),
    }
    assert image.size == sizes.get(fault, (768, 512))
    assert (pixels.std() < 2) == (fault is ImageFault.BLANK)
    assert has_coordinates(find_exif(planted, "JPEG")) == (fault is ImageFault.COORDINATES)


@given(st.integers(0, 10_000), st.sampled_from(PersonalDataKind), st.sampled_from(["en", "de", "fr", "pt-BR", "xx"]))
def test_planted_personal_data_is_valid(seed: int, kind: PersonalDataKind, lang: str) -> None:
    """Nearly all is found; that some is not is what a calibration is for."""
    phrase = personal_phrase(kind, lang, Random(seed))
    kinds = {item.kind for item in find_personal_data(phrase, lang)}
    assert kinds <= {kind}
    assert kinds or kind is PersonalDataKind.PHONE_NUMBER


@given(st.integers(0, 10_000), st.sampled_from(["en", "de", "fr"]))
def test_decoys_are_no_personal_data(seed: int, lang: str) -> None:
    assert not any(
        item.kind is not PersonalDataKind.PHONE_NUMBER for item in find_personal_data(decoy_phrase(Random(seed)), lang)
    )


@given(st.integers(0, 40), st.floats(0.05, 1.0))
def test_what_may_be_missed_follows_from_the_binomial_distribution(reported: int, low: float) -> None:
    interval = Interval(low, 1.0, "cluster-wilson")
    quality = DetectorQuality("CLR-A004", Measurement(RECALL, 1.0, "share", 10, interval), (), None)

    def chance(total: int) -> float:
        terms = (math.comb(total, k) * low**k * (1 - low) ** (total - k) for k in range(reported + 1))
        return math.fsum(terms)

    missed = quality.may_be_missed(reported)
    assert missed is not None
    assert missed == 0 or chance(reported + missed) > 0.05
    assert chance(reported + missed + 1) <= 0.05 + 1e-9


def test_a_detector_that_found_nothing_says_nothing() -> None:
    nothing = Measurement(RECALL, 0.0, "share", 10, Interval(0.0, 0.3, "cluster-wilson"))
    assert DetectorQuality("CLR-A004", nothing, (), None).may_be_missed(0) is None


def test_detectors_are_listed_with_their_kinds(evidence: Evidence) -> None:
    qualities = {each.code: each for each in detector_qualities(evidence)}
    assert [fault for fault, _ in qualities["CLR-A016"].by_fault] == [ImageFault.CROPPED, ImageFault.BAR]
    assert qualities["CLR-A004"].by_fault == ()
