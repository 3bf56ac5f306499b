"""Typed facts: numbers stay numbers, on the disk too."""

from __future__ import annotations

import json
import math
import pickle

import pytest

from clerestory.core.codec import Facts, Tags, decode, encode
from clerestory.core.digest import canonical, digest
from clerestory.core.errors import ConfigError
from clerestory.core.evidence import Finding


def test_facts_keep_their_types_through_canonical_json() -> None:
    facts = Facts(classes=12, share=0.25, merged=True, field="style", languages=("en", "de"))
    again = decode(Facts, json.loads(canonical(facts)))
    assert again == facts
    assert hash(again) == hash(facts)
    assert digest(again) == digest(facts)
    assert [type(value) for value in again.values()] == [type(value) for value in facts.values()]
    assert pickle.loads(pickle.dumps(facts)) == facts


def test_the_typed_accessors_refuse_another_type() -> None:
    facts = Facts(classes=12, share=0.25, field="style", merged=True, languages=["en"])
    assert (facts.integer("classes"), facts.number("share"), facts.text("field")) == (12, 0.25, "style")
    assert facts.string_items("languages") == ("en",)
    assert (facts.integer("none"), facts.number("none"), facts.text("none"), facts.string_items("none")) == (
        0,
        0,
        "",
        (),
    )
    for read, name in (
        (facts.integer, "share"),
        (facts.integer, "merged"),
        (facts.number, "field"),
        (facts.text, "classes"),
        (facts.string_items, "field"),
    ):
        with pytest.raises(TypeError, match=name):
            read(name)  # type: ignore[operator]


@pytest.mark.parametrize("value", [None, {"a": 1}, [["nested"]], object()])
def test_other_values_are_no_facts(value: object) -> None:
    with pytest.raises(TypeError, match="broken"):
        Facts({"broken": value})  # type: ignore[dict-item]


def test_a_fact_is_finite() -> None:
    with pytest.raises(ValueError, match="finite"):
        Facts(value=math.nan)


def test_reading_refuses_what_is_no_fact() -> None:
    with pytest.raises(ConfigError, match=r"facts: a"):
        decode(Facts, {"a": {"b": 1}}, "facts")
    with pytest.raises(ConfigError):
        decode(Facts, {"a": [[1]]}, "facts")


def test_a_finding_with_details_survives_its_json() -> None:
    finding = Finding(
        "CLR-E005", "info", "not_run", "group=x", "too few", reason="too_few_images", count=3, details=Facts(group="x")
    )
    assert decode(Finding, encode(finding)) == finding
    assert decode(Finding, {**encode(finding), "details": {}}) != finding
    assert isinstance(finding.details, Facts)
    assert not isinstance(finding.details, Tags)
