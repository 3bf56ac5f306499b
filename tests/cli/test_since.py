"""``evaluate --since live``: only stale and missing suites are measured again, and changes are reported."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from clerestory.cli.main import run
from clerestory.cli.output import Output
from clerestory.cli.since import evaluate_since
from clerestory.core.codec import Tags
from clerestory.core.errors import InputError, NotFound
from clerestory.core.evidence import Cost, Evidence, Interval, Measurement, Subject
from clerestory.core.release import Policy, Rule
from clerestory.core.sample import Dataset
from clerestory.models import open_model
from clerestory.stages.evaluate import EvaluateConfig, evaluate
from clerestory.stages.evaluate.diff import diff_evaluations
from clerestory.stages.release import promote, run_gate
from clerestory.store import Store

CONFIG = EvaluateConfig(suites=("retrieval",))
SLICE = {"task": "image_to_text", "split": "test"}
POLICY = Policy("icons", (Rule("some", "recall@10", Tags(SLICE), at_least=0.0),))


def number(name: str, value: float, half: float | None, unit: str = "share", direction: Any = "higher") -> Measurement:
    interval = None if half is None else Interval(value - half, value + half, "t")
    return Measurement(name, value, unit, 100, interval, "" if interval else "exact", Tags(SLICE), direction)


def holding(*measurements: Measurement) -> Evidence:
    return Evidence("evaluate", Subject(), measurements, (), Cost(1.0, 1.0, 1.0), "2026-11-23T18:01:10+00:00")


@pytest.mark.parametrize(
    ("before", "after", "worse", "regression"),
    [
        (number("recall@1", 0.5, 0.02), number("recall@1", 0.4, 0.02), True, True),
        (number("recall@1", 0.5, 0.02), number("recall@1", 0.49, 0.02), True, False),
        (number("recall@1", 0.5, 0.02), number("recall@1", 0.6, 0.02), False, False),
        (number("ece", 0.1, 0.01, direction="lower"), number("ece", 0.2, 0.01, direction="lower"), True, True),
        (number("latency_p95", 10, 1, "ms", "lower"), number("latency_p95", 90, 1, "ms", "lower"), True, False),
        (number("t", 1.0, 0.1, "ratio", "none"), number("t", 2.0, 0.1, "ratio", "none"), False, False),
        (number("share", 0.5, None), number("share", 0.49, None), True, True),
    ],
)  # fmt: skip
def test_worse_alarms_only_beyond_uncertainty_and_a_busy_machine(
    before: Measurement, after: Measurement, worse: bool, regression: bool
) -> None:
    [change] = diff_evaluations(holding(before), holding(after)).changed
    assert (change.worse, change.regression) == (worse, regression)


def test_same_new_and_gone_are_counted() -> None:
    same, gone, new = (number(name, 0.5, 0.1) for name in ("same", "gone", "new"))
    found = diff_evaluations(holding(same, gone), holding(same, new))
    assert (found.changed, found.same, found.new, found.gone) == ((), 1, 1, 1)


class World:
    """A live release of a tiny model, and the output of the command."""

    def __init__(self, store: Store, data: Dataset, folder: Path) -> None:
        self.store, self.data = store, data
        self.model = open_model(store.model_folder(store.put_model(folder)))
        self.evidence = evaluate(self.model, data, CONFIG, store)
        release = run_gate(store, self.model.digest, data.digest, name="icons", policy=POLICY, who="Ada", why="first")
        promote(release.ref, store, "Ada", "first")

    def since(self, since: str = "live", config: EvaluateConfig = CONFIG) -> tuple[int, str]:
        shown = io.StringIO()
        out = Output(stdout=Console(file=shown, width=300), stderr=Console(file=shown, width=300))
        return evaluate_since(self.store, self.model, self.data, config, since, out), shown.getvalue()


@pytest.fixture
def world(store: Store, few_icons: Dataset, tiny_model: Path) -> World:
    return World(store, few_icons, tiny_model)


def test_fresh_suites_are_reused_stale_ones_measured_again_and_a_drop_is_exit_code_1(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, said = world.since()
    assert code == 0
    assert "✓ fresh" in said
    assert "from the store" in said
    assert "0 numbers changed" in said

    with monkeypatch.context() as other:
        other.setattr("clerestory.stages.evaluate.fingerprint.environment_digest", lambda: "0" * 64)
        code, said = world.since()
    assert code == 0
    assert "? stale" in said
    assert "the machine or its libraries changed" in said
    assert "measured in" in said

    # Evidence that the release was better than this model can be.
    grand = dataclasses.replace(
        world.evidence,
        subject=dataclasses.replace(world.evidence.subject, code="0" * 64),
        measurements=tuple(_best(m) for m in world.evidence.measurements),
        created="2026-11-23T18:01:10+00:00",
    )
    made = world.store.put_evidence(grand)
    decision = world.store.release("icons", 1).decision
    world.store.add_release("icons", world.model.digest, [made], decision, "Ada", "grand")
    code, said = world.since("icons@2")
    assert code == 1
    assert "✗ worse" in said


def _best(measured: Measurement) -> Measurement:
    if measured.unit != "share":
        return measured
    return dataclasses.replace(measured, value=1.0, interval=Interval(0.999, 1.0, "t"), no_interval="", recipe=None)


def test_only_the_missing_suite_is_measured(world: World) -> None:
    code, said = world.since(config=dataclasses.replace(CONFIG, suites=("retrieval", "fairness")))
    lines = {line.split()[0]: line for line in said.splitlines() if line.strip()}
    assert code == 0
    assert "from the store" in lines["retrieval"]
    assert "· missing" in lines["fairness"]
    assert "measured in" in lines["fairness"]


def test_an_unknown_release_and_an_ambiguous_alias_are_errors(world: World) -> None:
    with pytest.raises(NotFound):
        world.since("icons@7")
    release = world.store.release("icons", 1)
    world.store.add_release("shoes", release.model, release.evidence, release.decision, "Ada", "another name")
    with pytest.raises(InputError, match="ambiguous: the store has the model names icons, shoes"):
        world.since("live")


def test_release_show_lists_every_suite(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["release", "show", "icons@1", "--home", str(world.store.home)]) == 0
    shown = capsys.readouterr()
    assert "✓ fresh" in shown.out
    assert "· missing" in shown.out
    assert "next: clerestory evaluate icons@1 --since icons@1" in shown.err
    assert run(["release", "show", "icons@1", "--json", "--home", str(world.store.home)]) == 0
    states = {suite["name"]: suite["state"] for suite in json.loads(capsys.readouterr().out)["suites"]}
    assert states["retrieval"] == "fresh"
    assert states["captioning"] == "missing"
