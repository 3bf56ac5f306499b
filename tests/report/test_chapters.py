"""The chapters: what they show follows from the evidence, and what is missing is said with what would change that."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.report.parsing import Parsed
from tests.report.world import World, make_model
from tests.support.colour_tiles import ColourModel, tiles

from clerestory.core.codec import Facts, Tags
from clerestory.core.digest import canonical
from clerestory.core.evidence import Cost, Evidence, Finding, Measurement, Recipe, Subject
from clerestory.core.stage import StageSpec, stages
from clerestory.report import ReportData, build, collect, render_html, render_json, render_markdown
from clerestory.report.chapters.audit_trail import finding_views
from clerestory.report.collect import _Reader
from clerestory.report.diagnostics import by_severity, chance_levels, latency_histograms, read_diagrams, read_self_test
from clerestory.report.model import EvidenceRecord
from clerestory.report.svg.plots import PlotCurve, PlotPanel, PlotPoint, histogram, panels, reliability
from clerestory.report.topics import TOPICS, topic_of
from clerestory.report.trust import trust_of
from clerestory.report.view import Chapter, ReportPage
from clerestory.stages.evaluate import EvaluateConfig, evaluate
from clerestory.stats.aggregate import measure, recompute
from clerestory.stats.metrics import CURRENCY, metric
from clerestory.stats.rows import read_rows, write_rows
from clerestory.store import Store, open_store

ANCHORS = ("classification", "robustness", "calibration", "fairness", "speed", "cost", "validity", "self-test")


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, ReportData]:
    """A model that was really evaluated by every suite."""
    folder = tmp_path_factory.mktemp("evaluated")
    store, model, data = open_store(folder / "home"), ColourModel(), tiles()
    model.digest = store.put_model(make_model(folder / "model", "colours"))
    config = EvaluateConfig(
        caption_samples=6, latency_samples=12, warm_up_requests=1, corruption_samples=4, vqa_samples=8, load_seconds=0.2
    )
    evaluate(model, data, config, store)
    return store, collect(store, model.digest, data)


@pytest.fixture(scope="module")
def page(evaluated: tuple[Store, ReportData]) -> ReportPage:
    return build(evaluated[1])


def chapter(page: ReportPage, anchor: str) -> Chapter:
    return next(c for c in page.chapters if c.anchor == anchor)


def corrupted_rows(pictures: int = 30) -> dict[str, np.ndarray]:
    """Rows of two corruptions and three severities, clean base rows, and questions with their chance level."""
    texts = ("task", "split", "condition", "severity", "concept", "operation")
    rows: list[dict[str, object]] = []
    for i in range(pictures):
        about = {"split": "test", "concept": f"c{i}", "operation": "corruption"}
        rows.append({"task": "corruption_base", "condition": "clean", "score": 1.0, "reference": float(i % 2), **about})
        for severity in (1, 2, 3):
            for name in ("fog", "snow"):
                cells = {"condition": name, "severity": str(severity), **about}
                right = float(i % (severity + 1) == 0)
                rows.append({"task": "zero_shot", "score": right, "reference": float(i % 3 == 0), **cells})
                rows.append({"task": "image_to_text", "rank": 3.0 if right else 40.0, **cells})
        rows.append({"task": "yes_no", "condition": "clean", "chance": 0.5, "score": 1.0, **about})
    table = {name: np.array([str(row.get(name, "")) for row in rows], dtype=object) for name in texts}
    for name in ("score", "reference", "rank", "chance"):
        table[name] = np.array([row.get(name, np.nan) for row in rows], dtype=np.float64)
    return table


def self_tested(store: Store, model: str) -> Evidence:
    """Evidence of kind ``self_test``: two faults, of which one is noticed by one gate, and four rebuilds."""
    cases = [("fault", "bgr", "red and blue are swapped", {"quality": 1.0, "churn": 0.0})]
    cases += [("fault", "quiet", "nothing of note", {"quality": 0.0, "churn": 0.0})]
    cases += [("rebuild", f"rebuild {i}", "same", {"quality": 0.0, "churn": float(i == 0)}) for i in range(4)]
    rows = []
    for case, name, words, said in cases:
        rows += [(case, name, words, gate, caught) for gate, caught in said.items()]
        rows.append((case, name, words, "any", max(said.values())))
    columns = {
        n: np.array([r[i] for r in rows], dtype=object) for i, n in enumerate(("case", "name", "description", "gate"))
    }
    table = {**columns, "caught": np.array([r[4] for r in rows])}
    found = tuple(
        measure(table, Recipe("mean", "caught", Tags(case=case, gate="any")), name, {})
        for case, name in (("fault", "faults_caught"), ("rebuild", "false_alarms"))
    )
    return Evidence(
        "self_test", Subject(model=model), found, (), Cost(1, 1, 1), "2026-11-23T18:03:00+00:00",
        store.blobs.put(write_rows(table)),
    )  # fmt: skip


def with_trust(data: ReportData, store: Store, label: str, task: str, split: str = "test") -> ReportData:
    """The same, but its examination labels one benchmark."""
    reason = {"code": "CLR-E060", "level": label, "message": "62% of the items are"}
    told = {f"{task}/{split}": {"task": task, "split": split, "verdict": label, "reasons": [reason], "passed": []}}
    record = data.of_kind("evaluate")
    assert record is not None
    artifacts = Tags({**record.evidence.artifacts, "validity": store.blobs.put(canonical(told))})
    evidence = replace(record.evidence, artifacts=artifacts)
    others = tuple(h for h in data.evidence if h.evidence.kind != "evaluate")
    diagnostics = replace(data.diagnostics, trust=trust_of(evidence, store))
    return replace(data, evidence=(*others, EvidenceRecord(evidence, evidence.id)), diagnostics=diagnostics)


def test_every_question_has_an_answer_or_says_why_not(page: ReportPage) -> None:
    assert tuple(c.anchor for c in page.chapters if c.anchor in ANCHORS) == ANCHORS
    for c in (c for c in page.chapters if c.anchor in ANCHORS):
        assert c.figures or c.tables or c.absent, c.anchor
        assert c.answer or c.absent or c.tables, c.anchor
    assert chapter(page, "classification").answer.startswith("It classifies ")
    assert "guessing would 50 times" in chapter(page, "calibration").answer
    assert "percentage points by" in chapter(page, "fairness").answer
    assert "under load" in chapter(page, "speed").answer.lower()
    assert {t.caption for t in chapter(page, "speed").tables} >= {
        "Under load",
        "Answers per second (throughput)",
        "Memory",
    }
    assert "EUR" in chapter(page, "cost").answer
    assert "example prices" in chapter(page, "cost").warnings[0]
    assert chapter(page, "validity").answer.startswith("Of the ")


def test_every_measurement_is_of_a_registered_metric(evaluated: tuple[Store, ReportData]) -> None:
    store, data = evaluated
    measured = [m for kind in stages() for e in store.find_evidence(kind) for m in e.measurements]
    measured += [*data.diagnostics.by_severity, *data.diagnostics.chance_levels]
    assert len({m.name for m in measured}) > 25
    for m in measured:
        known = metric(m.name)
        assert known.registered, m.name
        assert m.direction == known.direction, m.name
        assert m.unit == known.unit or known.unit == CURRENCY, m.name


def test_a_new_stage_adds_a_chapter(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stage names its chapters in its spec; its newest evidence about the model is on the page."""
    store, model = world.store, world.final.model
    attack = Evidence("attack", Subject(model=model), (), (), Cost(1, 1, 1), "2026-11-26T09:00:00+00:00")
    store.put_evidence(attack)
    spec = StageSpec("attack", "attack", chapters=("tests.report.test_chapters:attack_chapter",))
    for name in ("page", "collect"):
        monkeypatch.setattr(sys.modules[f"clerestory.report.{name}"], "stages", lambda: {**stages(), "attack": spec})
    page = build(collect(store, "icons@live"))
    anchors = [c.anchor for c in page.chapters]
    assert anchors.index("robustness") < anchors.index("attack") < anchors.index("calibration")
    assert chapter(page, "attack").answer == "1 piece of evidence"
    assert 'id="attack"' in render_html(page)
    assert "## Attacks" in render_markdown(page)


def attack_chapter(data: ReportData) -> Chapter | None:
    found = data.of_kind("attack")
    return Chapter("attack", "Attacks", "Attacks", order=65, answer="1 piece of evidence") if found else None


def test_pictures_too_small_to_damage_are_named_as_the_reason(page: ReportPage) -> None:
    reasons = [a.message for a in chapter(page, "robustness").absent]
    assert any("too small to be corrupted" in message for message in reasons)


def test_the_card_has_every_measurement_once(evaluated: tuple[Store, ReportData], page: ReportPage) -> None:
    record = evaluated[1].of_kind("evaluate")
    assert record is not None
    shown = [n for topic in page.topics for b in topic.benchmarks for n in b.numbers]
    assert sorted(n.name for n in shown) == sorted(m.name for m in record.evidence.measurements)
    assert all(n.slice and n.basis.startswith("n = ") for n in shown)
    assert all("between" in n.value or "no interval: " in n.value for n in shown)
    assert [t.count for t in page.topics] == [sum(len(b.numbers) for b in t.benchmarks) for t in page.topics]
    assert page.topics[0].answer


@pytest.mark.parametrize(
    ("name", "where", "key"),
    [
        ("recall@10", {"task": "image_to_text", "split": "test"}, "quality"),
        ("accuracy", {"task": "zero_shot", "split": "test", "condition": "fog", "severity": "1"}, "robustness"),
        ("accuracy", {"task": "yes_no", "split": "test", "condition": "blind"}, "validity"),
        ("accuracy", {"task": "zero_shot", "split": "test", "group": "gender", "value": "woman"}, "fairness"),
        ("ood_auroc", {"task": "ood", "score": "msp"}, "uncertainty"),
        ("load_p95", {"task": "load", "rate": "20"}, "efficiency"),
        ("max_skew@10", {"task": "bias_search", "group": "gender"}, "fairness"),
        ("something_new", {"task": "mine"}, "quality"),
    ],
)
def test_a_number_stands_under_the_question_it_answers(name: str, where: dict[str, str], key: str) -> None:
    m = Measurement(name, 0.5, "share", 9, None, "too few", Tags(where))
    assert topic_of(m) == key
    assert key in TOPICS


@pytest.mark.parametrize(
    ("label", "words", "brief"),
    [("no", "Do not trust", "not trusted"), ("careful", "Be careful", "careful"), ("yes", "can be trusted", "trusted")],
)
def test_a_label_stands_wherever_the_number_does(
    evaluated: tuple[Store, ReportData], label: str, words: str, brief: str
) -> None:
    store, data = evaluated
    page = build(with_trust(data, store, label, "image_to_text"))
    (highlight, *_) = page.highlights
    assert highlight.trust is not None
    assert words in highlight.trust.label
    figure = next(f for f in chapter(page, "retrieval").figures if f.name == "recall-test")
    assert words in figure.trust[0].label
    assert all(not f.trust for f in chapter(page, "retrieval").figures if f.name == "recall-test-style"), (
        "another split was not judged"
    )
    group = next(b for topic in page.topics for b in topic.benchmarks if b.trust is not None)
    assert group.trust is not None
    assert words in group.trust.label
    (told,) = chapter(page, "validity").trust
    assert told.reasons == ("Solvable without the image: 62% of the items are (CLR-E060).",)
    html, card = render_html(page), render_markdown(page)
    parsed = Parsed(html)
    shown = [text for _, text in parsed.visible()]
    assert sum(f"Validity: {brief}" in text for text in shown) >= 3
    assert sum(highlight.trust.label in text for text in shown) == 1, "the sentence is said once for each benchmark"
    assert words in card
    ids = {e.attributes["id"] for e in parsed.elements if "id" in e.attributes}
    links = [e.attributes["href"] for e in parsed.all("a") if e.attributes.get("href", "").startswith("#trust-")]
    assert links
    assert all(link[1:] in ids for link in links)


def test_an_unreadable_label_is_named_and_the_rest_is_shown(world: World) -> None:
    data = collect(world.store, "icons@live")
    record = data.of_kind("evaluate")
    assert record is not None
    blob = world.store.blobs.put(
        b'{"x": {"task": "a", "split": "b", "verdict": "perhaps", "reasons": [], "passed": []}}'
    )
    broken = replace(record.evidence, artifacts=Tags({**record.evidence.artifacts, "validity": blob}))
    assert trust_of(broken, world.store) == ()
    reader = _Reader(world.store)
    assert reader.diagnostics(EvidenceRecord(broken, broken.id)).trust == ()
    assert any("benchmark validity" in each and "perhaps" in each for each in reader.missing)


def test_a_part_is_labelled_by_the_newest_judgement_of_its_model_and_data(evaluated: tuple[Store, ReportData]) -> None:
    store, data = evaluated
    (part,) = store.find_evidence("evaluate.retrieval", model=data.model)
    record = data.of_kind("evaluate")
    assert record is not None
    assert trust_of(part, store) == trust_of(record.evidence, store) != ()
    assert trust_of(replace(part, subject=Subject(model="0" * 64, data=part.subject.data)), store) == ()
    assert trust_of(replace(part, kind="train"), store) == ()


def test_severities_are_recomputed_from_the_rows() -> None:
    rows = corrupted_rows()
    found = by_severity(rows)
    by = {(m.name, m.slice.get("task"), m.slice.get("severity", ""), m.slice.get("condition", "")): m for m in found}
    assert by["accuracy", "zero_shot", "1", ""].value == pytest.approx(0.5)
    assert by["accuracy", "zero_shot", "2", ""].value == pytest.approx(1 / 3)
    assert by["recall@10", "image_to_text", "3", ""].value == pytest.approx(8 / 30)
    assert by["baseline_accuracy", "zero_shot", "1", "fog"].value == pytest.approx(1 / 3)
    assert by["baseline_accuracy", "corruption_base", "", ""].value == pytest.approx(0.5)
    assert by["accuracy", "zero_shot", "1", ""].n == 60
    assert all(recompute(rows, m) == m for m in found)
    (guess,) = chance_levels(rows)
    assert (guess.value, guess.slice["task"]) == (0.5, "yes_no")
    assert by_severity({"task": rows["task"]}) == ()
    assert chance_levels({"task": rows["task"]}) == ()


def test_damage_is_drawn_for_each_family_beside_the_baseline(world: World) -> None:
    data = collect(world.store, "icons@live")
    rows = corrupted_rows()
    extra = []
    for name in ("fog", "snow"):
        for severity in ("1", "2", "3"):
            where = {"split": "test", "condition": name, "severity": severity}
            for task, column, statistic, measured in (
                ("image_to_text", "rank", "share_at_most", "recall@10"),
                ("zero_shot", "score", "mean", "accuracy"),
            ):
                tags = Tags({"task": task, **where})
                extra.append(measure(rows, Recipe(statistic, column, tags, "concept", 10.0), measured, tags))
    record = data.of_kind("evaluate")
    assert record is not None
    evidence = replace(record.evidence, measurements=(*record.evidence.measurements, *extra))
    diagnostics = replace(data.diagnostics, by_severity=by_severity(rows))
    page = build(replace(data, evidence=(EvidenceRecord(evidence, evidence.id),), diagnostics=diagnostics))
    found = chapter(page, "robustness")
    assert [f.name for f in found.figures] == ["corruption-all", "image-to-text-weather", "shift"]
    assert [f.name for f in found.more] == ["zero-shot-weather"]
    assert "baseline" in found.more[0].svg
    assert "Fog" in found.figures[1].svg
    assert "Snow" in found.figures[1].desc
    assert len(found.more[0].table.rows) == 1 + 6 + 6, "the clean level, the model's and the baseline's"
    assert "strongest corruption" not in found.answer, "severity 5 was not measured"
    assert not [f for f in chapter(page, "slices").figures if "condition" in f.name], (
        "a corruption is not a slice of the data"
    )


def test_waits_are_counted_in_bins_and_none_is_lost() -> None:
    ms = np.concatenate([np.linspace(1.0, 2.0, 198), [9.0, 40.0]])
    rows = {
        "task": np.array(["latency"] * 200 + ["load"], dtype=object),
        "operation": np.array(["embed_text"] * 200 + ["embed_text"], dtype=object),
        "ms": np.append(ms, 5.0),
    }
    (one,) = latency_histograms(rows)
    assert sum(one.counts) + one.num_beyond == 200
    assert one.max_ms == 40.0
    assert one.edges_ms[-1] < 10
    (same,) = latency_histograms({**rows, "ms": np.full(201, 3.0)})
    assert sum(same.counts) == 200
    assert latency_histograms({"task": rows["task"]}) == ()


def test_faults_stand_against_gates_in_words(world: World) -> None:
    data = collect(world.store, "icons@live")
    store = world.store
    evidence = self_tested(store, data.model)
    test = read_self_test(EvidenceRecord(evidence, evidence.id, ("code",)), read_rows(store.blobs.get(evidence.rows)))
    assert (test.gates, test.num_rebuilds, test.num_false_alarms) == (("quality", "churn"), 4, 1)
    page = build(replace(data, self_test=test))
    found = chapter(page, "self-test")
    assert found.answer.startswith("1 of 2 injected faults")
    assert "1 of 4 rebuilds" in found.answer
    assert "out of date" in found.warnings[0]
    assert found.matrix is not None
    assert [[c.label for c in cells] for _, cells in found.matrix.rows] == [
        ["detected", "not by this", "detected"],
        ["not by this", "not by this", "missed"],
    ]
    assert any(e.id == evidence.id for e in page.evidence), "its numbers lead to their evidence"
    html = render_html(page)
    assert ">missed</span>" in html
    assert json.loads(render_json(replace(data, self_test=test), page))["known"]["self_test"]["num_false_alarms"] == 1


def test_groups_that_are_too_small_are_named(world: World) -> None:
    data = collect(world.store, "icons@live")
    record = data.of_kind("evaluate")
    assert record is not None
    where = {"task": "zero_shot", "split": "test", "group": "gender"}
    more = tuple(
        Measurement("accuracy", v, "share", 40, None, "one cluster", Tags({**where, "value": value}))
        for value, v in (("woman", 0.4), ("man", 0.6))
    )
    gap = Measurement("largest_gap", 0.2, "share", 80, None, "one cluster", Tags(where), "lower")
    details = Facts(group="gender", split="test", value="other")
    where_ = str(Tags(details))
    small = Finding("CLR-E022", "info", "not_run", where_, "3 concepts", count=3, details=details)
    evidence = replace(record.evidence, measurements=(*more, gap), findings=(small,))
    page = build(replace(data, evidence=(EvidenceRecord(evidence, evidence.id),)))
    found = chapter(page, "fairness")
    assert "Too small to measure: other." in found.figures[0].note
    assert found.answer == "The largest accuracy gaps between groups: 20 percentage points by gender."


def test_old_evidence_without_any_of_it_still_makes_a_page(world: World, tmp_path: Path) -> None:
    page = build(collect(world.store, "icons@live"))
    for anchor in ("classification", "calibration", "fairness", "cost", "validity", "self-test"):
        assert chapter(page, anchor).absent, anchor
        assert all("clerestory evaluate icons@2" in a.command for a in chapter(page, anchor).absent)
    assert "To measure it, run" in render_html(page)
    nothing = build(ReportData("x", "a" * 64))
    assert nothing.topics == ()
    assert all(c.absent for c in nothing.chapters)


def test_reliability_is_read_as_it_is_written() -> None:
    written = [
        {
            "task": "zero_shot", "split": "test", "scaled": "yes",
            "bins": [{"low": 0.1, "high": 0.2, "n": 7, "confidence": 0.15, "accuracy": 0.3, "interval": [0.1, 0.6]}],
        }
    ]  # fmt: skip
    (one,) = read_diagrams(canonical(written))
    assert one.scaled
    assert one.bins[0].n == 7
    with pytest.raises((ValueError, KeyError, TypeError)):
        read_diagrams(b'[{"task": "x"}]')


def test_new_drawings_stay_inside_their_box() -> None:
    points = tuple(PlotPoint(float(x), 10.0 * x, 0.0, 130.0) for x in range(6))
    some = [
        PlotPanel(
            "a & b <c>" * 4, (PlotCurve("one", points), PlotCurve("two", points[:1], "part1")), ((140.0, "level"),)
        )
    ]
    (diagram,) = read_diagrams(
        b'[{"task":"t","split":"s","scaled":"no","bins":'
        b'[{"low":0,"high":1,"n":3,"confidence":1,"accuracy":0,"interval":[0,1]}]}]'
    )
    drawings = [
        panels("p", "t", "d", some * 3, [("one " * 30, "main"), ("level", "level")], 100.0, "axis"),
        panels("q", "t", "d", [], [], 1.0, "axis"),
        reliability("r", "t", "d", [("as stated", diagram.bins), ("after", ())]),
        histogram("h", "t", "d", (1.0, 2.0, 3.0), (4, 0), [(1.0, "usual 1 ms"), (9.0, "slow 9 ms (p95)")], "ms"),
    ]
    for svg in drawings:
        parsed = Parsed(str(svg))
        width, height = (float(v) for v in parsed.all("svg")[0].attributes["viewbox"].split()[2:])
        for e in parsed.all("line") + parsed.all("circle"):
            for name, most in (
                ("x1", width),
                ("x2", width),
                ("cx", width),
                ("y1", height),
                ("y2", height),
                ("cy", height),
            ):
                assert -0.01 <= float(e.attributes.get(name, "0")) <= most + 0.01, (e, name)


def test_tables_name_the_benchmarks_not_to_trust(evaluated: tuple[Store, ReportData]) -> None:
    store, data = evaluated
    page = build(with_trust(data, store, "no", "zero_shot"))
    costs = chapter(page, "cost").tables[0]
    assert costs.head[-1] == "Benchmark validity"
    said = {row[0]: row[-1] for row in costs.rows}
    assert said["classification by class names (zero-shot) · concepts it never saw (test)"] == "not trusted"
    assert said["finding the caption of a picture (image to text) · concepts it never saw (test)"] == "not checked"
    assert chapter(page, "calibration").tables[0].head[-1] == "Benchmark validity"
    losses = chapter(page, "robustness").tables[0]
    assert losses.head[-1] == "Benchmark validity"


@pytest.mark.parametrize("code", [f"CLR-E06{i}" for i in range(7)])
def test_every_finding_about_a_benchmark_stands_with_the_benchmarks(code: str) -> None:
    finding = Finding(code, "warning", "warn", "colours", "20% are", details=Facts(benchmarks=("colours/test",)))
    shown, note = finding_views((finding,), validity_shown=True)
    assert not shown
    assert note == "1 finding about benchmarks: see Validity."


def test_unknown_kinds_are_unknown_to_the_classifiers_only(evaluated: tuple[Store, ReportData]) -> None:
    _, data = evaluated
    figures = chapter(build(data), "calibration").figures
    note = next(figure.note for figure in figures if figure.name == "unknown")
    assert "the model itself may have seen such pictures in its training." in note


def test_reasons_against_a_benchmark_stand_once(evaluated: tuple[Store, ReportData]) -> None:
    store, data = evaluated
    page = build(with_trust(data, store, "no", "zero_shot"))
    assert not [f for f in page.findings if f.code.startswith("CLR-E06")]
    assert "about benchmarks: see Validity." in page.findings_note
    bare = build(replace(data, diagnostics=replace(data.diagnostics, trust=())))
    assert [f for f in bare.findings if f.code == "CLR-E062"], "without the labels the findings say it"
