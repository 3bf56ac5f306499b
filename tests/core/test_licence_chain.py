"""From data to output: which duties reach the end of a chain, and which source blocks it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clerestory.core.errors import ConfigError, NotFound
from clerestory.core.licences.chain import ItemKind, LicenceTrace, LicensedItem, step_between, trace_licences
from clerestory.core.licences.policy import LicencePolicy, LicenceState, check_licence
from clerestory.core.licences.table import licence_table
from clerestory.core.licences.terms import STEPS, Duty, LicenceReason

DATA, MODEL, OUTPUT = ItemKind.DATA, ItemKind.MODEL, ItemKind.OUTPUT
OPEN = LicencePolicy(allow_share_alike=True)
bounded = settings(deadline=None, max_examples=60)


def chain(*data: str, base: str | None = None, tuned: str | None = None, end: str | None = None) -> list[LicensedItem]:
    """Datasets, a checkpoint trained on them, its compressed version and the output of that."""
    sources = [LicensedItem(f"data {i}", DATA, licence) for i, licence in enumerate(data)]
    return [
        *sources,
        LicensedItem("checkpoint", MODEL, base, tuple(source.name for source in sources)),
        LicensedItem("compressed", MODEL, tuned, ("checkpoint",)),
        LicensedItem("captions", OUTPUT, end, ("compressed",)),
    ]


def blocked_by(trace: LicenceTrace) -> dict[str, list[str]]:
    return {" → ".join(source.path): list(source.verdict.reasons) for source in trace.blocking}


def test_the_blocking_source_is_named_with_its_path() -> None:
    trace = trace_licences(chain("CC-BY-4.0", "CC-BY-NC-4.0", "MIT"), "captions", LicencePolicy())
    assert trace.state == LicenceState.FAILS
    assert blocked_by(trace) == {"data 1 → checkpoint → compressed → captions": ["non_commercial"]}


def test_duties_of_every_source_reach_the_end_once() -> None:
    trace = trace_licences(chain("CC-BY-4.0", "CC-BY-4.0", "MIT"), "captions", LicencePolicy())
    assert trace.state == LicenceState.PASSES
    assert {(each.licence, each.duty) for each in trace.obligations} == {
        ("CC-BY-4.0", Duty.ATTRIBUTION),
        ("CC-BY-4.0", Duty.LICENCE_TEXT),
        ("CC-BY-4.0", Duty.STATE_CHANGES),
        ("MIT", Duty.ATTRIBUTION),
        ("MIT", Duty.LICENCE_TEXT),
    }


@pytest.mark.parametrize("step", STEPS)
def test_each_step_can_be_assumed_to_end_duties(step: str) -> None:
    policy = LicencePolicy(propagates=tuple(each for each in STEPS if each != step))
    trace = trace_licences(chain("CC-BY-NC-SA-4.0"), "captions", policy)
    assert (trace.state, trace.obligations, trace.blocking) == (LicenceState.PASSES, (), ())
    before = {"training": "data 0", "derivation": "checkpoint", "generation": "compressed"}[step]
    assert trace_licences(chain("CC-BY-NC-SA-4.0"), before, policy).state == LicenceState.FAILS


def test_what_is_unknown_stays_unknown_whatever_is_assumed() -> None:
    for licence in ("", "other", "LicenseRef-x", "no known copyright restrictions"):
        trace = trace_licences(chain("MIT", licence), "captions", LicencePolicy(propagates=()))
        assert trace.state == LicenceState.UNKNOWN
        assert list(blocked_by(trace)) == ["data 1 → checkpoint → compressed → captions"]


def test_a_text_that_ends_its_duties_at_a_step() -> None:
    data = trace_licences(chain("CDLA-Sharing-1.0"), "data 0", LicencePolicy())
    assert list(blocked_by(data).values()) == [["share_alike"]]
    assert trace_licences(chain("CDLA-Sharing-1.0"), "checkpoint", LicencePolicy()).state == LicenceState.PASSES
    code = chain("MIT", base="GPL-3.0-only", tuned="GPL-3.0-only")
    assert list(blocked_by(trace_licences(code, "checkpoint", LicencePolicy())).values()) == [["share_alike"]]
    assert trace_licences(code, "captions", LicencePolicy()).state == LicenceState.PASSES


def test_only_the_licence_ends_its_duties_and_not_the_one_beside_it() -> None:
    trace = trace_licences(chain("CDLA-Sharing-1.0 AND CC-BY-SA-4.0"), "captions", LicencePolicy())
    assert [each.licence for each in trace.blocking[0].verdict.obstacles] == ["CC-BY-SA-4.0"]


def test_restrictions_of_a_base_model_reach_the_tuned_one_and_its_output() -> None:
    trace = trace_licences(chain("MIT", base="gemma"), "captions", LicencePolicy())
    assert blocked_by(trace) == {"checkpoint → compressed → captions": ["use_restrictions"]}
    trace = trace_licences(chain("MIT", base="llama3.1"), "compressed", LicencePolicy(True, allow_share_alike=True))
    assert Duty.NAMING in {each.duty for each in trace.obligations}
    assert blocked_by(trace) == {"checkpoint → compressed": ["limited_grant", "use_restrictions"]}


def test_a_source_on_two_paths_counts_with_the_worse() -> None:
    items = [
        LicensedItem("photos", DATA, "CC-BY-NC-4.0"),
        LicensedItem("model", MODEL, None, ("photos",)),
        LicensedItem("page", OUTPUT, None, ("model", "photos")),  # shows photographs beside generated captions
    ]
    policy = LicencePolicy(propagates=("derivation",))
    assert blocked_by(trace_licences(items, "page", policy)) == {"photos → page": ["non_commercial"]}
    assert trace_licences(items, "model", policy).state == LicenceState.PASSES
    longer = trace_licences(items, "page", LicencePolicy(propagates=("training", "generation")))
    assert blocked_by(longer) == {"photos → model → page": ["non_commercial"]}


@pytest.mark.parametrize(
    ("data", "licence", "is_met"),
    [
        (("CC-BY-SA-4.0",), "CC-BY-SA-4.0", True),
        (("CC-BY-SA-3.0",), "CC-BY-SA-4.0", True),  # a later version may be chosen
        (("CC-BY-SA-4.0",), "CC-BY-SA-3.0", False),
        (("CC-BY-SA-4.0",), "GPL-3.0-only", True),  # compatible since 2015, in this direction
        (("GPL-3.0-only",), "CC-BY-SA-4.0", False),
        (("CC-BY-SA-4.0",), "MIT", False),
        (("CC-BY-SA-4.0",), "MIT AND CC-BY-SA-4.0", True),
        (("CC-BY-SA-4.0",), "MIT OR CC-BY-SA-4.0", False),  # one may not choose MIT
        (("GPL-2.0-or-later",), "GPL-3.0-or-later", True),
        (("GPL-2.0-only",), "GPL-3.0-only", False),
        (("GPL-2.0-only WITH Classpath-exception-2.0",), "MIT", True),  # the library only
        (("MPL-2.0",), "MIT", True),  # its files only
        (("CC-BY-SA-3.0", "CC-BY-SA-4.0"), None, True),
        (("CC-BY-SA-4.0", "GPL-3.0-only"), None, True),
        (("CC-BY-SA-4.0", "GPL-2.0-only"), None, False),
        (("CC-BY-SA-4.0", "ODbL-1.0"), None, False),
        (("CC-BY-4.0", "MIT"), None, True),
    ],
)
def test_share_alike_must_be_met_by_the_licence_of_the_end(data, licence, is_met: bool) -> None:
    trace = trace_licences(chain(*data, base=licence), "checkpoint", OPEN)
    conflicts = {name: LicenceReason.SHARE_ALIKE_CONFLICT in source.verdict.reasons
                 for source in trace.sources for name in [source.name]}  # fmt: skip
    assert any(conflicts.values()) == (not is_met)
    assert not conflicts["checkpoint"]
    assert (trace.state == LicenceState.PASSES) == is_met


KNOWN = sorted(licence_table().licences)
licences = st.sampled_from([*KNOWN, "", "other", "LicenseRef-x"])


@bounded
@given(st.lists(licences, min_size=1, max_size=4), st.sets(st.sampled_from(STEPS)), licences)
def test_the_end_is_never_better_than_an_unknown_source(data, propagates, base) -> None:
    policy = LicencePolicy(propagates=tuple(propagates))
    trace = trace_licences(chain(*data, base=base), "captions", policy)
    written = {f"data {i}": licence for i, licence in enumerate(data)} | {"checkpoint": base}
    for source in trace.sources:
        licence = written.get(source.name)
        if licence is not None and check_licence(licence, policy).state == LicenceState.UNKNOWN:
            assert source.verdict.state == LicenceState.UNKNOWN
            assert trace.state != LicenceState.PASSES


@bounded
@given(st.lists(licences, min_size=1, max_size=4), st.sets(st.sampled_from(STEPS)))
def test_assuming_that_more_propagates_never_passes_more(data, propagates) -> None:
    some = trace_licences(chain(*data), "captions", LicencePolicy(propagates=tuple(propagates)))
    every = trace_licences(chain(*data), "captions", LicencePolicy())
    assert every.state.rank <= some.state.rank
    assert set(some.obligations) <= set(every.obligations)


def test_steps() -> None:
    data, model, output = (LicensedItem(str(kind), kind) for kind in ItemKind)
    assert step_between(data, model) == step_between(output, model) == "training"
    assert step_between(model, output) == step_between(model, data) == "generation"
    assert step_between(model, model) == step_between(data, data) == step_between(data, output) == "derivation"


def test_a_faulty_chain_is_one_sentence() -> None:
    with pytest.raises(NotFound, match="datas"):
        trace_licences([LicensedItem("data", DATA)], "datas", LicencePolicy())
    with pytest.raises(NotFound, match="base"):
        trace_licences([LicensedItem("model", MODEL, None, ("base",))], "model", LicencePolicy())
    with pytest.raises(ConfigError, match="two items"):
        trace_licences([LicensedItem("data", DATA)] * 2, "data", LicencePolicy())
    circle = [LicensedItem("a", MODEL, None, ("b",)), LicensedItem("b", MODEL, None, ("a",))]
    with pytest.raises(ConfigError, match="circle"):
        trace_licences(circle, "a", LicencePolicy())


def test_a_wide_and_deep_graph_is_followed_in_time_linear_in_its_edges() -> None:
    """Ten layers of ten models, each made from all of the layer below: 10^10 paths."""
    items = [LicensedItem(f"0.{i}", DATA, "CC-BY-NC-4.0") for i in range(10)]
    for layer in range(1, 11):
        below = tuple(item.name for item in items[-10:])
        items += [LicensedItem(f"{layer}.{i}", MODEL, None, below) for i in range(10)]
    trace = trace_licences(items, "10.0", LicencePolicy())
    assert len(trace.blocking) == 10
    assert {len(source.path) for source in trace.blocking} == {11}
