"""Every fact of an evaluation is documented with its type in ``docs/reference/evaluation-facts.md``."""

import re
from pathlib import Path

import pytest
from tests.support.attribute_squares import CaptionOnlyModel, ShapeModel, attribute_data
from tests.support.task_files import RuleBasedScorer, write_quiz, write_task

from clerestory.core.evidence import Evidence
from clerestory.stages.evaluate import EvaluateConfig, evaluate
from clerestory.stages.evaluate.suites import SUITES, suites_measuring
from clerestory.stages.evaluate.tasks import load_task
from clerestory.stages.evaluate.tasks.items import open_task_data
from clerestory.store import Store

PAGE = Path(__file__).parents[3] / "docs/reference/evaluation-facts.md"
TYPES = {"string": str, "integer": int, "number": (int, float), "boolean": bool, "list": tuple}


def documented() -> list[tuple[re.Pattern[str], str]]:
    """A pattern of the names and the type of every line of the table; ``.digest`` continues the name before it."""
    found = []
    for names, kind in re.findall(r"^\| (`.+?) \| (\w+) \|", PAGE.read_text("utf-8"), re.M):
        prefix = ""
        for name in re.findall(r"`([^`]+)`", names):
            full = prefix + name if name.startswith(".") else name
            prefix = prefix or full.rpartition(".")[0]
            found.append((re.compile(re.sub(r"<\w+>", "[^ ]+", re.escape(full))), kind))
    return found


@pytest.fixture
def evidence(store: Store, tmp_path: Path) -> list[Evidence]:
    quick = {"corruption_samples": 2, "latency_samples": 5, "load_seconds": 0.2, "arrival_rate_per_s": 50.0}
    few = {"min_slice_concepts": 3, "min_group_concepts": 3}
    names = tuple(suite.name for suite in SUITES if suite.name != "tasks")
    whole = evaluate(ShapeModel(), attribute_data(), EvaluateConfig(suites=names, **quick, **few), store)  # type: ignore[arg-type]  # mixed
    captioned = evaluate(
        CaptionOnlyModel(), attribute_data(), EvaluateConfig(suites=("captioning",), caption_samples=5), store
    )
    write_quiz(tmp_path, 20)
    file = write_task(tmp_path)
    data = open_task_data(load_task(file))
    task = evaluate(RuleBasedScorer(), data, EvaluateConfig(suites=("tasks", "validity"), tasks=(str(file),)), store)
    return [whole, captioned, task]


def test_every_fact_is_documented_with_its_type(evidence: list[Evidence]) -> None:
    patterns = documented()
    for name, value in (fact for each in evidence for fact in each.facts.items()):
        kinds = {kind for pattern, kind in patterns if pattern.fullmatch(name)}
        assert kinds, f"{name} is not in {PAGE.name}"
        assert any(isinstance(value, TYPES[kind]) for kind in kinds), f"{name} is {value!r}, not {kinds}"
    seen = {name for each in evidence for name in each.facts}
    assert {"ood.logits", "load.achieved_per_s", "classes.count", "memory.scope", "cost.currency"} <= seen


def test_the_gate_knows_which_suite_makes_each_measurement(evidence: list[Evidence], store: Store) -> None:
    """Cost and validity read the results of other suites, so for these all of them may be needed."""
    wrong, seen = [], set()
    for suite in SUITES:
        for each in store.find_evidence(f"evaluate.{suite.name}"):
            tasks = ("a task file",) if suite.name == "tasks" else ()
            for m in each.measurements:
                seen.add(suite.name)
                named = suites_measuring(m.name, m.slice, tasks)
                if named != ((suite.name,) if suite.name not in ("cost", "validity") else ()):
                    wrong.append((suite.name, m.name, dict(m.slice), named))
    assert not wrong
    assert seen >= {suite.name for suite in SUITES} - {"vqa"}, "vqa has a test of its own"
    assert suites_measuring("accuracy", {"task": "multiple_choice", "split": "test"}) == ("vqa",)
