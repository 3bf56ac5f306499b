"""The page of an audit: contact sheets, no personal data, nothing from elsewhere, never too large."""

from __future__ import annotations

import base64
import dataclasses
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.report.parsing import Parsed
from tests.support.faulty_data import COMMENT, HOSTILE, VALUES, faulty_data, jpeg, make_dataset, scene

from clerestory.apps.audit_report import audit_findings, audit_page
from clerestory.apps.audit_topics import LEAKAGE, TOPICS
from clerestory.core.codec import Tags
from clerestory.core.errors import DataError
from clerestory.core.sample import Dataset
from clerestory.report.audit_page import AuditPage, FindingSheet, render_audit
from clerestory.report.thumbnails import thumbnail
from clerestory.stages.audit import caption_findings, image_findings
from clerestory.stages.audit.config import AuditConfig
from clerestory.stages.audit.content_findings import VALUE_CODES
from clerestory.stages.audit.detection import Detection
from clerestory.stages.audit.findings import CODES
from clerestory.stages.audit.run import Audit, audit
from clerestory.store import open_store

URI = re.compile(r'src="data:image/jpeg;base64,([^"]+)"')
CONFIG = AuditConfig()


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Audit:
    return audit(faulty_data(), open_store(tmp_path_factory.mktemp("home")), CONFIG)


@pytest.fixture(scope="module")
def page(result: Audit) -> AuditPage:
    return audit_page(faulty_data(), result, CONFIG)


@pytest.fixture(scope="module")
def html(page: AuditPage) -> str:
    return render_audit(page)


def sheet_of(page: AuditPage, code: str) -> FindingSheet:
    return next(sheet for sheet in page.findings if sheet.code == code)


def with_detections(result: Audit, *detections: Detection) -> Audit:
    """The result of an audit that found only these."""
    evidence = dataclasses.replace(result.evidence, findings=tuple(each.finding() for each in detections))
    return Audit(evidence, detections)


def test_it_needs_nothing_else_and_every_link_has_its_place(html: str) -> None:
    parsed = Parsed(html)
    ids = [e.attributes["id"] for e in parsed.elements if "id" in e.attributes]
    assert len(ids) == len(set(ids))
    for element in parsed.elements:
        assert element.tag != "script"
        for name in ("src", "href", "srcset", "action", "data"):
            if place := element.attributes.get(name):
                assert place.startswith("data:image/") or place.removeprefix("#") in ids, place
        if element.tag == "img":
            assert element.attributes["alt"]
    levels = [int(e.tag[1]) for e in parsed.elements if re.fullmatch("h[1-6]", e.tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(levels, levels[1:], strict=False))


def test_every_finding_is_on_the_page(result: Audit, page: AuditPage, html: str) -> None:
    assert sorted(sheet.code for sheet in page.findings) == sorted(f.code for f in result.evidence.findings)
    for sheet in page.findings:
        assert f"#{sheet.anchor}" in html
        assert sheet.documentation.endswith(sheet.code.lower())
        assert sheet.message
        assert sheet.fix
        assert sheet.images or sheet.groups
    assert page.verdict in html
    failed = sum(finding.state == "fail" for finding in result.evidence.findings)
    assert page.verdict.startswith(f"{failed} problems, ")
    assert page.state == "no"


def test_copies_stand_side_by_side_with_their_splits(page: AuditPage) -> None:
    leaked = sheet_of(page, image_findings.LEAKAGE.code)
    assert [{image.name: image.split for image in group.images} for group in leaked.groups] == [
        {"copy.jpg": "test", "plain0.jpg": "training"},
        {"plain1.jpg": "training", "smaller.jpg": "test"},
    ]
    smaller = next(i for group in leaked.groups for i in group.images if i.name == "smaller.jpg")
    assert smaller.notes[0] == "120 × 90 pixels"
    assert smaller.is_evaluated
    assert not leaked.images


def test_facts_about_single_images_are_under_them(page: AuditPage) -> None:
    blurred = sheet_of(page, image_findings.BLURRED.code)
    assert "blurred.jpg" in [image.name for image in blurred.images]
    assert all(image.notes[0].startswith("sharpness ") for image in blurred.images)
    assert f"below {CONFIG.min_sharpness:g}" in blurred.message


def test_captions_are_shown_where_they_are_at_fault_and_nowhere_else(page: AuditPage) -> None:
    markup = {image.name: image.captions for image in sheet_of(page, caption_findings.MARKUP.code).images}
    assert markup[f"{HOSTILE}.jpg"] == (HOSTILE,)
    assert markup["mail.jpg"] == ()  # personal data, found elsewhere
    about_captions = {code.code for code in caption_findings.CODES}
    others = [sheet for sheet in page.findings if sheet.code not in about_captions]
    assert others
    assert not any(image.captions for sheet in others for image in sheet.images)


def test_personal_data_is_nowhere(html: str) -> None:
    for value in (*VALUES, "ada.lovelace", "48.13", "48° 8", "for prints", "paid with", "for a taxi"):
        assert value not in html
    assert "mail.jpg" in html
    assert "[personal data].jpg" in html
    for encoded in URI.findall(html):
        content = base64.b64decode(encoded)
        assert b"Exif" not in content
        assert COMMENT not in content


def test_the_images_of_a_file_with_metadata_really_have_it() -> None:
    data = faulty_data()
    content = data.read(data["gps.jpg"])
    assert b"Exif" in content
    assert COMMENT in content
    small = thumbnail(lambda: content, 12_000)
    assert small is not None
    assert COMMENT not in base64.b64decode(small.uri.partition(",")[2])


def test_foreign_text_is_not_markup(html: str) -> None:
    assert HOSTILE not in html
    assert "&lt;script&gt;alert(1)" in html


def test_all_thumbnails_are_small_jpegs(html: str) -> None:
    encoded = URI.findall(html)
    assert encoded
    for each in encoded:
        with Image.open(io.BytesIO(base64.b64decode(each))) as image:
            assert image.format == "JPEG"
            assert max(image.size) <= 160
            assert min(image.size) > 40


def test_a_page_of_many_large_findings_stays_small_and_says_how_many_it_leaves_out(result: Audit) -> None:
    random = np.random.default_rng(3)
    noise = [random.integers(0, 255, (170, 170, 3), dtype=np.uint8) for _ in range(72)]
    long = "a very long description of " * 100
    rows = [
        (f"{'x' * 300}/{i:03}.jpg", jpeg(Image.fromarray(noise[i % 72])), "train", f"{i} {long}") for i in range(500)
    ]
    data = make_dataset(rows)
    ids = tuple(sample.id for sample in data)
    groups = tuple(ids[start : start + 20] for start in range(0, 500, 20))
    notes = Tags(dict.fromkeys(ids, "sharpness 0.123"))
    codes = [code for code in CODES if code not in VALUE_CODES]  # with these no image is shown
    many = [Detection(code, "everything", ids, 500, notes=notes) for code in (*codes, *codes)]
    many[13] = Detection(CODES[13], "everything", ids, 500, groups, notes)
    page = audit_page(data, with_detections(result, *many), CONFIG)
    assert len(render_audit(page).encode()) <= 5_000_000
    assert len({sheet.anchor for sheet in page.findings}) == len(many)
    blurred = sheet_of(page, image_findings.BLURRED.code)
    assert len(blurred.images) == 24
    assert "476 other images" in blurred.more
    assert all(image.thumbnail for image in blurred.images)
    grouped = next(sheet for sheet in page.findings if sheet.groups)
    assert len(grouped.groups) == 12
    assert "13 other groups" in grouped.more
    assert (grouped.groups[0].size, len(grouped.groups[0].images)) == (20, 6)


def test_an_image_that_has_gone_is_named_without_a_thumbnail(result: Audit) -> None:
    whole = faulty_data()

    def read(sample: object) -> bytes:
        raise DataError("it has gone", "")

    gone = Dataset(whole.name, whole.samples, read)
    page = audit_page(gone, with_detections(result, *result.detections), CONFIG)
    assert "cannot be shown" in render_audit(page)
    assert "blurred.jpg" in [image.name for image in sheet_of(page, image_findings.BLURRED.code).images]


def test_damaged_files_have_no_thumbnail() -> None:
    assert thumbnail(lambda: jpeg(scene(1))[:500], 12_000) is None
    assert thumbnail(lambda: b"no image", 12_000) is None
    assert thumbnail(lambda: jpeg(scene(1)), 100) is None  # it does not fit


def test_an_image_on_its_side_has_its_upright_size() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    small = thumbnail(lambda: jpeg(scene(1), exif=exif), 12_000)
    assert small is not None
    assert small.original == (180, 240)
    assert small.size == (120, 160)


def test_every_code_of_the_audit_belongs_to_one_topic() -> None:
    codes = [code for topic in TOPICS for code in topic.codes]
    assert sorted(code.code for code in codes) == sorted(code.code for code in CODES)


def test_a_check_without_anything_to_check_says_so(result: Audit, tmp_path: Path) -> None:
    data = make_dataset([(f"{i}.jpg", jpeg(scene(i)), "", "") for i in range(3)])
    page = audit_page(data, audit(data, open_store(tmp_path), CONFIG), CONFIG)
    shown = {topic.title: topic.result for topic in page.checked}
    assert shown[LEAKAGE.title] == "no splits"
    assert shown["Captions"] == "no captions"
    assert shown["Copies"] == "nothing found"
    only_training = make_dataset([(f"{i}.jpg", jpeg(scene(i)), "train", "") for i in range(3)])
    page = audit_page(only_training, with_detections(result), CONFIG)
    assert next(t.result for t in page.checked if t.title == LEAKAGE.title) == "only train"
    assert (page.state, page.verdict) == ("yes", "Nothing found in 3 images")
    assert "None of the checks below found anything" in render_audit(page)


def test_comparisons_that_were_left_out_are_not_called_checked(result: Audit) -> None:
    left_out = Detection(image_findings.COMPARISONS_LEFT_OUT, "crops were not sought", (), 15, reason="crops")
    page = audit_page(faulty_data(), with_detections(result, left_out), CONFIG)
    assert "Crops were not sought." in page.not_checked
    assert next(t.result for t in page.checked if t.title == "Copies") != "nothing found"


def test_findings_of_the_data_source_are_counted_by_code(result: Audit) -> None:
    from clerestory.data.findings import UNREADABLE_IMAGE

    source = [UNREADABLE_IMAGE.finding(f"row {i}", f"damaged {i}") for i in range(11)]
    evidence = dataclasses.replace(result.evidence, findings=(*source, *result.evidence.findings))
    both = Audit(evidence, result.detections)
    merged = next(each for each in audit_findings(evidence, result.detections) if each.finding.code == "CLR-D001")
    assert (merged.count, merged.where) == (11, "row 0 and 10 others")
    sheet = sheet_of(audit_page(faulty_data(), both, CONFIG), "CLR-D001")
    assert sheet.places[0] == ("row 0", "damaged 0")
    assert (len(sheet.places), sheet.more) == (8, "And 3 others.")
