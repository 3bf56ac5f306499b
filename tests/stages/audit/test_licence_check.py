"""Licences of samples and sources: every sample is found once by kind, with its reason and its source."""

from __future__ import annotations

import time

from clerestory.core.codec import encode
from clerestory.core.licences.policy import LicencePolicy, LicenceState
from clerestory.core.sample import Dataset, Sample
from clerestory.stages.audit.licence_check import check_licences, licensed_sources

STRICT = LicencePolicy()


def dataset(*licences: str, source: str = "shop", images: str = "") -> Dataset:
    samples = [
        Sample(f"{i:03}", (images[i] if images else f"{i}") * 64, licence=licence, source=source)
        for i, licence in enumerate(licences)
    ]
    return Dataset("d", samples, lambda sample: b"")


def found(data: Dataset, policy: LicencePolicy = STRICT) -> dict[tuple[str, str], tuple[str, ...]]:
    return {(each.code.code, each.reason): each.samples for each in check_licences(data, policy)}


def test_every_kind_of_finding() -> None:
    data = dataset("MIT", "", "other", "(MIT", "CC-BY-NC-SA-4.0", "apache 2.0", "CC0-1.0", "LicenseRef-x")
    assert found(data) == {
        ("CLR-A040", "no_licence"): ("001",),
        ("CLR-A040", "ambiguous"): ("002",),
        ("CLR-A040", "unknown_licence"): ("007",),
        ("CLR-A041", ""): ("003",),
        ("CLR-A042", "non_commercial"): ("004",),
        ("CLR-A042", "share_alike"): ("004",),
        ("CLR-A044", ""): ("005",),
        ("CLR-A046", ""): ("000", "005"),
    }


def test_a_refused_licence_beside_an_unknown_one_is_refused_for_its_own_reason() -> None:
    data = dataset("CC-BY-NC-4.0 AND LicenseRef-x")
    assert found(data) == {("CLR-A042", "non_commercial"): ("000",)}


def test_clean_data_has_no_finding_and_empty_data_neither() -> None:
    assert check_licences(dataset("CC0-1.0", "CC-PDM-1.0"), STRICT) == []
    assert check_licences(dataset(), STRICT) == []


def test_an_allowed_share_alike_source_is_named() -> None:
    data = dataset("CC-BY-SA-4.0", "MIT", "CC-BY-SA-4.0")
    (share_alike,) = (
        each for each in check_licences(data, LicencePolicy(allow_share_alike=True)) if each.code.code == "CLR-A043"
    )
    assert share_alike.samples == ("000", "002")
    assert share_alike.message.endswith("for the result: CC-BY-SA-4.0 (2); from shop (2)")


def test_unknown_is_an_error_unless_the_policy_allows_it_and_then_a_warning() -> None:
    (strict,) = check_licences(dataset(""), STRICT)
    assert (strict.finding().severity, strict.finding().state) == ("error", "fail")
    (lenient,) = check_licences(dataset(""), LicencePolicy(allow_unknown=True))
    assert (lenient.finding().severity, lenient.finding().state) == ("warning", "warn")


def test_copies_with_different_licences() -> None:
    data = dataset("MIT", "CC-BY-4.0", "mit", "", "ISC", images="aaaab")
    (copies,) = (each for each in check_licences(data, STRICT) if each.code.code == "CLR-A045")
    assert copies.groups == (("000", "001", "002"),)
    assert copies.samples == ("000", "001", "002")
    assert not [each for each in check_licences(dataset("MIT", "mit", images="aa"), STRICT) if each.groups]


def test_notes_name_the_licence_and_the_remedy() -> None:
    data = dataset("MIT AND CC-BY-NC-4.0", "CC BY", "gemma")
    notes = {(each.code.code, id_): note for each in check_licences(data, STRICT) for id_, note in each.notes.items()}
    assert notes["CLR-A042", "000"] == "CC-BY-NC-4.0"
    assert "CC-BY-4.0" in notes["CLR-A040", "001"]
    assert notes["CLR-A044", "002"] == "gemma was read as LicenseRef-scancode-gemma-tou-2024-04-01"


def test_a_detection_becomes_a_finding_that_can_be_stored() -> None:
    for detection in check_licences(dataset("", "x" * 5000, "CC-BY-NC-4.0", "\ud800", "MIT\n"), STRICT):
        finding = detection.finding()
        encode(finding)
        assert "\ud800" not in "".join([finding.message, *detection.notes.values()])
        assert finding.count == len(detection.samples)
        assert len(finding.message) < 400


def test_sources() -> None:
    samples = [
        Sample("1", "a" * 64, licence="MIT", source="tabler"),
        Sample("2", "b" * 64, licence="MIT", source="tabler"),
        Sample("3", "c" * 64, licence="CC-BY-SA-4.0", source="openmoji"),
        Sample("4", "d" * 64, source="tabler"),
    ]
    rows = licensed_sources(Dataset("d", samples, lambda sample: b""), STRICT)
    assert [(row.source, row.licence, row.images, row.verdict.state) for row in rows] == [
        ("openmoji", "CC-BY-SA-4.0", 1, LicenceState.FAILS),
        ("tabler", "", 1, LicenceState.UNKNOWN),
        ("tabler", "MIT", 2, LicenceState.PASSES),
    ]


def test_time_grows_with_the_number_of_different_licences_and_not_of_samples() -> None:
    licences = ("MIT", "CC-BY-4.0", "", "CC-BY-NC-4.0 OR LicenseRef-x", "creative commons attribution 4.0")
    data = dataset(*(licences[i % 5] for i in range(50_000)))
    start = time.process_time()
    check_licences(data, STRICT)
    assert time.process_time() - start < 3
