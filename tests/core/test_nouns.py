from __future__ import annotations

import json
import pickle
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clerestory.core.codec import Tags, decode, encode
from clerestory.core.digest import canonical, digest, digest_bytes, digest_folder
from clerestory.core.errors import ConfigError, IntegrityError, NotFound
from clerestory.core.evidence import Cost, Evidence, Interval, Measurement, Recipe, Subject
from clerestory.core.release import Decision, Policy, Reason, Release, Rule
from clerestory.core.sample import Caption, Dataset, Sample

RECALL = Measurement(
    "recall@10",
    0.57,
    "share",
    511,
    Interval(0.53, 0.61, "cluster-t"),
    slice=Tags(task="image_to_text", split="test"),
    clusters=400,
    recipe=Recipe("share_at_most", "rank", Tags(task="image_to_text", split="test"), "concept", 10),
)
EVIDENCE = Evidence(
    "evaluate", Subject(model="a" * 64), (RECALL,), (), Cost(1.5, 2.5, 100.0), "2026-01-01T00:00:00+00:00"
)


def a_sample(name: str, **more: object) -> Sample:
    return Sample(name, "0" * 64, (Caption(name),), name, Tags(style="x"), **more)  # type: ignore[arg-type]  # any field


def test_a_measurement_cannot_be_built_without_n() -> None:
    with pytest.raises(ValueError, match="at least one row"):
        Measurement("x", 0.5, "share", 0, Interval(0.4, 0.6, "wilson"))


def test_a_measurement_cannot_be_built_without_an_interval_or_the_reason() -> None:
    with pytest.raises(ValueError, match="interval"):
        Measurement("x", 0.5, "share", 10, None)
    with pytest.raises(ValueError, match="interval"):
        Measurement("x", 0.5, "share", 10, Interval(0.4, 0.6, "wilson"), no_interval="both given")
    assert Measurement("x", 0.5, "share", 10, None, no_interval="a single run").interval is None


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_measurement_is_a_finite_number(value: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        Measurement("x", value, "share", 10, None, no_interval="none")
    with pytest.raises(ValueError, match="finite"):
        Interval(0.0, value, "wilson")


def test_nouns_are_frozen() -> None:
    with pytest.raises(AttributeError):
        RECALL.value = 0.9  # type: ignore[misc]  # that is the test


def test_evidence_survives_json_with_its_id() -> None:
    again = decode(Evidence, json.loads(canonical(EVIDENCE)))
    assert again == EVIDENCE
    assert again.id == EVIDENCE.id


def test_release_survives_json() -> None:
    decision = Decision(
        "refuse",
        "p 1",
        "b" * 64,
        "a" * 64,
        (Reason("r", "fail", "below_minimum", "too low", "e" * 64, command="do this"),),
    )
    release = Release("icons", 1, "a" * 64, ("e" * 64,), decision, 0, "ann", "why", "when", Tags(checkpoint="early"))
    assert decode(Release, json.loads(canonical(release))) == release
    assert decision.command == "do this"


def test_the_cheapest_command_answers_what_cannot_be_told_before_what_fails() -> None:
    reasons = (
        Reason("a", "fail", "below_minimum", "m", command="train"),
        Reason("b", "cannot_decide", "stale", "m", command="evaluate"),
    )
    assert Decision("cannot_decide", "p", "d", "m", reasons).command == "evaluate"


def test_evidence_finds_by_exact_slice() -> None:
    assert EVIDENCE.find("recall@10", {"split": "test", "task": "image_to_text"}) is RECALL
    assert EVIDENCE.find("recall@10", {"split": "test"}) is None


def test_subjects_name_what_differs() -> None:
    assert Subject(model="a", code="c").differing_fields(Subject(model="a", code="d")) == ("code",)


@given(st.permutations([a_sample(name) for name in "abcdef"]))
def test_the_order_samples_come_in_does_not_change_the_digest(samples: list[Sample]) -> None:
    data = Dataset("x", samples, lambda _: b"")
    assert data.digest == Dataset("x", sorted(samples, key=lambda s: s.id), lambda _: b"").digest
    assert [s.id for s in data] == list("abcdef")


def test_any_change_of_content_changes_the_digest() -> None:
    base = Dataset("x", [a_sample("a")], lambda _: b"").digest
    for change in ({"split": "test"}, {"licence": "MIT"}, {"source": "elsewhere"}):
        assert Dataset("x", [a_sample("a", **change)], lambda _: b"").digest != base


def test_digests_are_equal_in_another_process_with_another_hash_seed() -> None:
    code = (
        "from clerestory.core.codec import Tags; from clerestory.core.sample import *;"
        "print(Dataset('x', [Sample('b', '1', (Caption('ü'),), groups=Tags(z='1', a='2')), Sample('a', '0')],"
        " lambda s: b'').digest)"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2", "77")
    }
    here = Dataset(
        "x",
        [Sample("a", "0"), Sample("b", "1", (Caption("ü"),), groups=Tags({"a": "2", "z": "1"}))],
        lambda _: b"",
    )
    assert seen == {here.digest + "\n"}


def test_a_data_set_names_what_it_lacks() -> None:
    data = Dataset("x", [a_sample("apple", split="train")], lambda _: b"")
    with pytest.raises(NotFound, match="aple.*did you mean apple"):
        data["aple"]
    with pytest.raises(NotFound, match="split named 'tset'"):
        data.split("tset")
    with pytest.raises(ValueError, match="unique"):
        Dataset("x", [a_sample("a"), a_sample("a")], lambda _: b"")


def test_bytes_of_another_image_never_leave_a_dataset() -> None:
    contents = {"a": b"one", "b": b"two"}
    samples = [Sample("a", digest_bytes(b"one")), Sample("b", digest_bytes(b"another"))]
    data = Dataset("x", samples, lambda sample: contents[sample.id])
    for view in (data, data.filter(lambda sample: True), Dataset("y", samples, data.read)):
        assert view.read(view["a"]) == b"one"
        with pytest.raises(IntegrityError, match="the image of 'b' in x has changed"):
            view.read(view["b"])
        with pytest.raises(IntegrityError):
            view.read(Sample("a", digest_bytes(b"two")))


def test_canonical_json_is_that_of_rfc_8785() -> None:
    # Appendix B and section 3.2.3 of the RFC: number forms, key order by UTF-16 code units.
    assert canonical({"\u20ac": 1, "\r": 2, "1": 1e21, "a": 333333333.33333329}) == (
        '{"\\r":2,"1":1e+21,"a":333333333.3333333,"\u20ac":1}'.encode()
    )


@given(st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=5))
def test_tags_behave_like_a_frozen_dict(items: dict[str, str]) -> None:
    tags = Tags(items)
    assert tags == items
    assert pickle.loads(pickle.dumps(tags)) == tags
    assert hash(tags) == hash(Tags(dict(reversed(items.items()))))
    assert encode(tags) == items


def test_unknown_settings_are_named_with_the_closest() -> None:
    with pytest.raises(ConfigError) as caught:
        decode(Policy, {"name": "p", "rules": [{"name": "r", "metric": "m", "at_leest": 1}]}, "policy.toml")
    assert "policy.toml: rule 1 has no setting 'at_leest'" in str(caught.value)
    assert "at_least" in caught.value.closest


@pytest.mark.parametrize(
    ("data", "where"),
    [
        ({"name": 3, "metric": "m"}, "Rule.name"),
        ({"name": "r"}, "lacks the setting 'metric'"),
        ({"name": "r", "metric": "m", "at_least": "high"}, "Rule.at_least"),
        ({"name": "r", "metric": "m", "criterion": "interval"}, "Rule.criterion"),
        ({"name": "r", "metric": "m", "where": {"split": 3}}, "Rule.where.split"),
        ([], "Rule"),
    ],
)
def test_wrong_types_are_named(data: object, where: str) -> None:
    with pytest.raises(ConfigError, match=where.replace("[", r"\[")):
        decode(Rule, data)


def test_the_digest_of_a_folder_depends_on_names_and_bytes_only(tmp_path_factory: pytest.TempPathFactory) -> None:
    first, second = tmp_path_factory.mktemp("a"), tmp_path_factory.mktemp("b")
    for folder, order in ((first, "xy"), (second, "yx")):
        for name in order:
            (folder / name).write_text(name, encoding="utf-8")
    assert digest_folder(first) == digest_folder(second)
    (second / "x").write_text("z", encoding="utf-8")
    assert digest_folder(first)[0] != digest_folder(second)[0]
    assert digest({"a": 1}) == digest({"a": 1.0})
