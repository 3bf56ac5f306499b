"""Plans of fixes: which copy stays, what moves with it, and that nothing leaks afterwards."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.faulty_data import jpeg, scene

from clerestory.apps.data_fix.apply import apply_plan
from clerestory.apps.data_fix.plan import FixPlan, SampleFix, make_plan
from clerestory.apps.data_fix.rules import RULES, FixAction, fixable
from clerestory.apps.data_fix.splits import close_leaks
from clerestory.core.digest import digest_bytes
from clerestory.core.errors import DataError, NotFound
from clerestory.core.findings import finding_codes
from clerestory.core.sample import TEST, TEST_STYLE, TRAIN, VAL, Caption, Dataset, Sample, concept_of_caption
from clerestory.stages.audit import image_findings as images
from clerestory.stages.audit.detection import Detection

SPLITS = (TRAIN, VAL, TEST, TEST_STYLE)


def dataset(*rows: tuple[str, str, str]) -> Dataset:
    """Samples of id, split and concept."""
    samples = [Sample(id, digest_bytes(id.encode()), concept=concept, split=split) for id, split, concept in rows]
    return Dataset("drawn", samples, lambda sample: sample.id.encode())


def copies(code: str, *groups: Sequence[str]) -> Detection:
    samples = tuple(dict.fromkeys(id for group in groups for id in group))
    return Detection(finding_codes()[code], "copies", samples, 10, groups=tuple(map(tuple, groups)))


def test_a_test_copy_moves_with_its_concept_and_a_style_copy_is_dropped() -> None:
    data = dataset(
        ("train", TRAIN, "a"),
        ("test", TEST, "b"),
        ("same concept", TEST, "b"),
        ("style", TEST_STYLE, "b"),
        ("x", TEST, "c"),
    )
    moved, dropped = close_leaks(data, [("train", "test", "style")], ["test", "style"], ())
    assert set(moved) == {"test", "same concept"}
    assert set(dropped) == {"style"}


def test_a_divided_concept_is_left_as_it_is() -> None:
    data = dataset(("train", TRAIN, "a"), ("test", TEST, "a"), ("other", TEST, "a"))
    moved, _ = close_leaks(data, [("train", "test")], ["test"], ())
    assert set(moved) == {"test"}


def test_what_is_dropped_does_not_leak() -> None:
    data = dataset(("train", TRAIN, "a"), ("test", TEST, "b"))
    assert close_leaks(data, [("train", "test")], ["test"], {"train"}) == ({}, {})


@given(st.data())
def test_after_the_moves_no_copy_of_a_training_image_is_evaluated(data: st.DataObject) -> None:
    number = data.draw(st.integers(2, 14))
    rows = [(f"s{i}", data.draw(st.sampled_from(SPLITS)), data.draw(st.sampled_from("abcd"))) for i in range(number)]
    ids = st.sampled_from([row[0] for row in rows])
    groups = data.draw(st.lists(st.lists(ids, min_size=2, max_size=4, unique=True), max_size=5))
    drawn = dataset(*rows)
    leaking = [
        id
        for group in groups
        for id in group
        if drawn[id].split != TRAIN and any(drawn[other].split == TRAIN for other in group)
    ]
    moved, dropped = close_leaks(drawn, groups, leaking, ())
    after = {id: TRAIN if id in moved else split for id, split, _ in rows if id not in dropped}
    for group in groups:
        splits = {after[id] for id in group if id in after}
        assert TRAIN not in splits or len(splits) == 1
    assert all(drawn[id].split in (VAL, TEST) for id in moved)
    assert all(drawn[id].split == TEST_STYLE for id in dropped)
    before: dict[str, set[str]] = {}
    whole: dict[str, set[str]] = {}
    for id, split, concept in rows:
        if split != TEST_STYLE:
            before.setdefault(concept, set()).add(split)
            whole.setdefault(concept, set()).add(after[id])
    assert all(len(whole[concept]) == 1 for concept, splits in before.items() if len(splits) == 1)
    assert not leaking or moved or dropped


def test_of_copies_the_training_image_stays_and_then_the_largest() -> None:
    data = dataset(("large", TEST, "a"), ("small", TRAIN, "b"), ("one", TRAIN, "c"), ("two", TRAIN, "d"))
    sizes = {"large": 900, "small": 100, "one": 100, "two": 200}
    detections = [copies("CLR-A015", ("large", "small"), ("one", "two"))]
    plan = make_plan(data, detections, lambda: sizes, ["CLR-A015"])
    assert plan.fixes == (
        SampleFix("large", "CLR-A015", FixAction.DROP, "small"),
        SampleFix("one", "CLR-A015", FixAction.DROP, "two"),
    )


def test_every_rule_has_a_registered_code_and_names_it_in_any_spelling() -> None:
    assert len({rule.code.code for rule in RULES}) == len(RULES)
    for rule in RULES:
        assert finding_codes()[rule.code.code] == rule.code
        assert fixable(rule.code.code.lower().removeprefix("clr-")) == rule.code.code
    with pytest.raises(NotFound) as unknown:
        fixable("CLR-A0144")
    assert "CLR-A014" in unknown.value.closest


def texts(*captions: tuple[str, str]) -> Dataset:
    """Samples with a caption each, and its split; the concept is made from it, as for data that names none."""
    contents = {f"{i}.jpg": jpeg(scene(i)) for i in range(len(captions))}
    samples = [
        Sample(id, digest_bytes(content), (Caption(text),), concept=concept_of_caption(text), split=split)
        for (id, content), (text, split) in zip(contents.items(), captions, strict=True)
    ]
    return Dataset("texts", samples, lambda sample: contents[sample.id])


def test_the_concept_loses_the_personal_data_and_stays_in_one_split() -> None:
    data = texts(("write to ada@example.org", TRAIN), ("write to bob@example.org", TEST), ("a violin", TEST))
    fixes = tuple(SampleFix(f"{i}.jpg", "CLR-A030", FixAction.REDACT) for i in range(2))
    fixed = apply_plan(data, FixPlan(fixes)).data
    assert [sample.caption for sample in fixed] == ["write to [email]", "write to [email]", "a violin"]
    assert fixed.samples[0].concept == "write to email"
    assert fixed.samples[1].concept == fixed.samples[1].image[:16]
    assert fixed.findings == ()
    assert fixed.samples[2] == data.samples[2]


def test_a_plan_that_leaves_nothing_is_refused() -> None:
    data = texts(("a violin", TRAIN))
    with pytest.raises(DataError):
        apply_plan(data, FixPlan((SampleFix("0.jpg", images.BLANK.code, FixAction.DROP),)))
