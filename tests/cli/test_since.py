"""``evaluate --since live``: only what is not fresh is measured again, and what changed is told."""

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
from clerestory.stages.evaluate.diff import changes
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
    ("before", "after", "worse", "alarming"),
    [
        (number("recall@1", 0.5, 0.02), number("recall@1", 0.4, 0.02), True, True),
        (number("recall@1", 0.5, 0.02), number("recall@1", 0.49, 0.02), True, False),
        (number("recall@1", 0.5, 0.02), number("recall@1", 0.6, 0.02), False, False),
        (number("ece", 0.1, 0.01, direction="lower"), number("ece", 0.2, 0.01, direction="lower"), True, True),
        (number("p95", 10, 1, "ms", "lower"), number("p95", 90, 1, "ms", "lower"), True, False),
        (number("t", 1.0, 0.1, "ratio", "none"), number("t", 2.0, 0.1, "ratio", "none"), False, False),
        (number("share", 0.5, None), number("share", 0.49, None), True, True),
    ],
)  # fmt: skip
def test_worse_alarms_only_beyond_uncertainty_and_a_busy_machine(
    before: Measurement, after: Measurement, worse: bool, alarming: bool
) -> None:
    [change] = changes(holding(before), holding(after)).changed
    assert (change.worse, change.alarming) == (worse, alarming)


def test_same_new_and_gone_are_counted() -> None:
    same, gone, new = (number(name, 0.5, 0.1) for name in ("same", "gone", "new"))
    found = changes(holding(same, gone), holding(same, new))
    assert (found.changed, found.same, found.new, found.gone) == ((), 1, 1, 1)


class Told:
    """A live release of a tiny model, and what the command says of it."""

    def __init__(self, store: Store, data: Dataset, folder: Path) -> None:
        self.store, self.data = store, data
        self.model = open_model(store.model_folder(store.put_model(folder)))
        self.evidence = evaluate(self.model, data, CONFIG, store)
        release = run_gate(
            store, self.model.digest, data.digest, name="icons", policy=POLICY, who="Ada", why="first"
        )
        promote(release.ref, store, "Ada", "first")

    def since(self, since: str = "live", config: EvaluateConfig = CONFIG) -> tuple[int, str]:
        shown = io.StringIO()
        out = Output(stdout=Console(file=shown, width=300), stderr=Console(file=shown, width=300))
        return evaluate_since(self.store, self.model, self.data, config, since, out), shown.getvalue()


@pytest.fixture
def told(store: Store, few_icons: Dataset, tiny_model: Path) -> Told:
    return Told(store, few_icons, tiny_model)


def test_what_holds_is_kept_what_is_stale_is_measured_again_and_a_drop_is_exit_1(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, said = told.since()
    assert code == 0
    assert "✓ fresh" in said
    assert "kept" in said
    assert "0 numbers differ" in said

    with monkeypatch.context() as other:
        other.setattr("clerestory.stages.evaluate.fingerprint.environment_digest", lambda: "0" * 64)
        code, said = told.since()
    assert code == 0
    assert "? stale" in said
    assert "the machine or its libraries changed" in said
    assert "measured in" in said

    # The live release was better than anything this model can do: evidence of it that says so.
    grand = dataclasses.replace(
        told.evidence,
        subject=dataclasses.replace(told.evidence.subject, code="0" * 64),
        measurements=tuple(_best(m) for m in told.evidence.measurements),
        made="2026-11-23T18:01:10+00:00",
    )
    made = told.store.put_evidence(grand)
    decision = told.store.release("icons", 1).decision
    told.store.add_release("icons", told.model.digest, [made], decision, "Ada", "grand")
    code, said = told.since("icons@2")
    assert code == 1
    assert "✗ worse" in said


def _best(measured: Measurement) -> Measurement:
    if measured.unit != "share":
        return measured
    return dataclasses.replace(measured, value=1.0, interval=Interval(0.999, 1.0, "t"), no_interval="", recipe=None)


def test_a_missing_part_is_made_and_nothing_else(told: Told) -> None:
    code, said = told.since(config=dataclasses.replace(CONFIG, parts=("retrieval", "bias")))
    lines = {line.split()[0]: line for line in said.splitlines() if line.strip()}
    assert code == 0
    assert "kept" in lines["retrieval"]
    assert "· missing" in lines["bias"]
    assert "measured in" in lines["bias"]


def test_an_unknown_release_and_an_ambiguous_alias_are_told(told: Told) -> None:
    with pytest.raises(NotFound):
        told.since("icons@7")
    release = told.store.release("icons", 1)
    told.store.add_release("shoes", release.model, release.evidence, release.decision, "Ada", "another line")
    with pytest.raises(InputError, match="several lines of models: icons, shoes"):
        told.since("live")


def test_release_show_lists_every_part(told: Told, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["release", "show", "icons@1", "--home", str(told.store.home)]) == 0
    shown = capsys.readouterr()
    assert "✓ fresh" in shown.out
    assert "· missing" in shown.out
    assert "next: clerestory evaluate icons@1 --since icons@1" in shown.err
    assert run(["release", "show", "icons@1", "--json", "--home", str(told.store.home)]) == 0
    states = {part["name"]: part["state"] for part in json.loads(capsys.readouterr().out)["parts"]}
    assert states["retrieval"] == "fresh"
    assert states["captions"] == "missing"
