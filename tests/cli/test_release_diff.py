"""``clerestory release diff``: planted differences of data, model, evidence, policy and decision."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from tests.report.parsing import Parsed
from tests.support.paired_rows import Columns, put_evaluation, put_model, rows

from clerestory.cli.main import run
from clerestory.core.codec import Facts, Tags
from clerestory.core.evidence import Cost, Evidence, Interval, Measurement, Recipe, Subject
from clerestory.core.provenance import now
from clerestory.core.release import ApprovalPolicy, Policy, Release, Rule
from clerestory.stages.compare import CompareConfig
from clerestory.stages.compare.metric_differences import metric_differences
from clerestory.stages.release import gate, register
from clerestory.stats.aggregate import measure
from clerestory.stats.paired import paired_difference
from clerestory.store import Store

RULE = Rule("recall", "recall@10", Tags(task="image_to_text", split="test"), at_least=0.3)
OLD = Policy("mine", (RULE, replace(RULE, name="only old")))
NEW = Policy("mine", (replace(RULE, at_least=0.4), replace(RULE, name="only new")), 2, ApprovalPolicy(2))


@dataclass
class Desk:
    """A store for two releases."""

    store: Store
    place: Path

    def released(self, name: str, found: Columns, policy: Policy, steps: int, licence: str, data: str = "d") -> Release:
        model = put_model(self.store, self.place, name)
        put_evaluation(self.store, model, found, data=data * 64)
        facts = Facts(data="mine", images=10, preset="nano", steps=steps, licences=(licence,), licence_images=(10,))
        trained = Evidence("train", Subject(model=model, data="7" * 64), (), (), Cost(1, 1, 1), now(), facts=facts)
        self.store.put_evidence(trained)
        return register("mine", gate(model, self.store, policy, data * 64), self.store, "Ada", f"release {name}")

    def run(self, *more: str) -> int:
        return run(["release", "diff", "mine@1", "mine@2", "--home", str(self.store.home), *more])


@pytest.fixture
def desk(store: Store, tmp_path: Path) -> Desk:
    return Desk(store, tmp_path / "models")


@pytest.mark.parametrize(
    ("data", "code", "verdict", "words"),
    [
        ("e", 3, "cannot tell", "same model; evaluated on other data, so not comparable"),
        ("d", 0, "same", "same model, evaluated on the same data"),
    ],
)
def test_the_same_model_on_other_data_is_not_the_same(
    desk: Desk, data: str, code: int, verdict: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = desk.released("a", rows(300), OLD, 100, "MIT")
    if data != "d":
        put_evaluation(desk.store, first.model, rows(200), data=data * 64)
    register("mine", gate(first.model, desk.store, NEW, data * 64), desk.store, "Ada", "again")
    assert desk.run("--json", "--report", str(tmp_path / "diff.html")) == code
    found = json.loads(capsys.readouterr().out)
    assert (found["verdict"], found["why_not"]) == (verdict, words)
    assert bool(found["metrics"]) == (data != "d")
    assert all(each["verdict"] == "cannot tell" for each in found["metrics"] if each["difference"] is None)
    assert words[1:] in (tmp_path / "diff.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "code", "verdict"),
    [({"": (0.0, 0.3)}, 0, "better"), ({"": (0.3, 0.0)}, 1, "worse"), ({"": (0.02, 0.02)}, 3, "cannot tell")],
)
def test_every_planted_change_is_named(
    desk: Desk,
    change: dict[str, tuple[float, float]],
    code: int,
    verdict: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    desk.released("a", rows(900), OLD, 100, "MIT")
    desk.released("b", rows(900, change=change), NEW, 300, "CC-BY-SA-4.0")
    page = tmp_path / "diff.html"
    assert desk.run("--json", "--report", str(page)) == code
    found = json.loads(capsys.readouterr().out)
    assert (found["a"], found["b"], found["verdict"]) == ("mine@1", "mine@2", verdict)
    rows_of = {
        section: {row["name"]: (row["a"], row["b"], row["change"]) for row in found[section]}
        for section in ("data", "model", "licences", "policy")
    }
    assert rows_of["data"]["evaluation data"][2] == "same"
    assert rows_of["model"]["steps"] == ("100", "300", "changed")
    assert rows_of["model"]["preset"][2] == "same"
    assert ("MIT", "CC-BY-SA-4.0", "changed") in rows_of["licences"].values()
    assert rows_of["policy"]["rule: only old"][2] == "removed"
    assert rows_of["policy"]["rule: only new"][2] == "added"
    assert rows_of["policy"]["rule: recall"][2] == "changed"
    assert rows_of["policy"]["approval: approvals"] == ("–", "2", "added")
    [metric] = found["metrics"]
    assert metric["verdict"] == verdict
    assert metric["a"] == pytest.approx(found["comparison"]["results"][0]["b"]), "a is the earlier release"
    assert metric["difference"] == pytest.approx(metric["b"] - metric["a"])
    assert metric["low"] <= metric["difference"] <= metric["high"]
    html = page.read_text(encoding="utf-8")
    Parsed(html)  # balanced tags
    assert "What changes from mine@1 to mine@2?" in html
    for words in ("only new", "CC-BY-SA-4.0", "What flipped", "Task by task", "approvals"):
        assert words.lower() in html.lower(), words
    assert json.loads(page.with_suffix(".json").read_text(encoding="utf-8"))["verdict"] == verdict
    assert desk.run("--report", str(page)) == 2, "an existing page is not replaced"


def test_the_table_and_the_csv_have_the_same_verdict(
    desk: Desk, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.released("a", rows(900), OLD, 100, "MIT")
    desk.released("b", rows(900, change={"": (0.0, 0.3)}), OLD, 100, "MIT")
    assert desk.run() == 0
    out = capsys.readouterr().out
    assert "from mine@1 to mine@2: better" in out
    assert "1 shared measurement, 1 better, 0 worse, 0 same, 0 cannot tell" in out
    file = tmp_path / "diff.csv"
    assert desk.run("--csv", str(file)) == 0
    lines = list(csv.DictReader(io.StringIO(file.read_text(encoding="utf-8"))))
    [evidence] = [line for line in lines if line["section"] == "evidence"]
    assert evidence["change"] == "better"
    assert float(evidence["a"]) < float(evidence["b"])
    assert {line["section"] for line in lines} == {"data", "model", "licences", "policy", "decision", "evidence"}
    assert desk.run("--csv", str(file)) == 2, "an existing file is not replaced"


def test_other_data_and_the_same_model(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    first = desk.released("a", rows(300), OLD, 100, "MIT")
    register("mine", gate(first.model, desk.store, NEW, "d" * 64), desk.store, "Ada", "another policy")
    assert desk.run("--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["verdict"], found["comparison"], found["metrics"]) == ("same", None, [])
    assert found["why_not"] == "same model, evaluated on the same data"
    fewer = {name: cells[:200] for name, cells in rows(300).items()}
    desk.released("b", fewer, OLD, 100, "MIT", data="e")
    assert run(["release", "diff", "mine@1", "mine@3", "--home", str(desk.store.home), "--json"]) == 3
    found = json.loads(capsys.readouterr().out)
    assert found["verdict"] == "cannot tell"
    assert "was not evaluated on the data of the evaluation" in found["why_not"]
    assert found["command"].startswith("clerestory evaluate mine@")
    [data] = [row for row in found["data"] if row["name"] == "evaluation data"]
    assert data["note"] == "of the evaluated samples 0 were added and 100 removed"


def test_only_means_of_the_same_samples_are_judged(store: Store, tmp_path: Path) -> None:
    worse, better = rows(600), rows(600, change={"": (0.0, 0.3)})
    both = []
    for name, found in (("a", better), ("b", worse)):
        plain = put_evaluation(store, put_model(store, tmp_path, name), found)
        where = Tags(task="image_to_text", split="test")
        more = (
            measure(found, Recipe("quantile", "rank", where, "concept", 0.5), "median_rank", where),
            Measurement("latency_p95", 5.0 if name == "a" else 50.0, "ms", 9, Interval(4, 60, "t"), direction="lower"),
            measure(found, Recipe("share_at_most", "rank", where, "concept", 1.0), "recall@1", where),
        )
        both.append(replace(plain, measurements=(*plain.measurements, *more)))
    found = {m.metric: m for m in metric_differences(both[0], both[1], store, CompareConfig(), ("A", "B"))}
    assert found["recall@10"].outcome == "better"
    a, b = ((each["rank"] <= 10).astype(float) for each in (better, worse))
    expected = paired_difference(a, b, rows(600)["concept"], 0.95)  # type: ignore[arg-type]  # clusters of any kind
    assert expected.interval is not None
    assert found["recall@10"].difference == expected.value
    assert (found["recall@10"].low, found["recall@10"].high) == (expected.interval.low, expected.interval.high)
    assert (found["latency_p95"].outcome, found["latency_p95"].difference) == ("inconclusive", None)
    assert "taken at different times" in found["latency_p95"].message
    assert (found["median_rank"].outcome, found["median_rank"].difference) == ("inconclusive", None)
    assert "cannot be compared sample by sample" in found["median_rank"].message
    assert found["recall@1"].outcome == "no_difference", "nobody has a rank of 1"


def test_a_model_stands_for_its_only_release(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    first = desk.released("a", rows(100), OLD, 100, "MIT")
    assert run(["release", "diff", "mine@1", first.model[:12], "--home", str(desk.store.home)]) in (0, 3)
    assert "from mine@1 to mine@1" in capsys.readouterr().out
