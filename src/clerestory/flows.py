"""Stages strung together: the whole life of a model as plain Python."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from clerestory.apps.catalogue import bring_in
from clerestory.core.codec import Tags
from clerestory.core.digest import short
from clerestory.core.errors import Undecided
from clerestory.core.measure import Evidence
from clerestory.core.progress import QUIET, Progress
from clerestory.core.provenance import person
from clerestory.core.release import Decision, Release
from clerestory.core.sample import Dataset
from clerestory.models import open_model
from clerestory.report import report
from clerestory.report.format import number
from clerestory.stages.evaluate import EvaluateConfig, evaluate
from clerestory.stages.release import promote, put_to_gate, rollback, verify
from clerestory.stages.train import TrainConfig, TrainResult, train
from clerestory.store import Store

DEMO_NAME = "icons"
FINAL = "final"
ENOUGH_TO_GATE = ("retrieval", "speed")


@dataclass(frozen=True)
class Demo:
    """What the demo left behind.

    Attributes:
        report: the HTML report.
        live: the release that is live now, such as ``icons@3``.
        releases: every release of the line, newest first.
        rehearsed: whether a rollback and a roll-forward were carried out.
        verified: how many checks of ``verify`` hold.
    """

    report: Path
    live: str
    releases: tuple[Release, ...]
    rehearsed: bool
    verified: int


def demo(store: Store, progress: Progress = QUIET, *, config: TrainConfig | None = None, who: str = "") -> Demo:
    """The whole life of a model: data, training, evaluation, gate, release, rehearsed rollback, report.

    Every step is cached by digest, so a second run repeats nothing that has not changed.
    An early checkpoint goes to the gate first and is refused; a late one and the finished model should pass.

    Raises:
        Undecided: the finished model did not pass the gate.
    """
    who = who or person()
    say = progress.say
    say("1/6  data      bring the pictures in")
    data = bring_in(store, DEMO_NAME, who=who, why="demo", progress=progress)
    say(f"     {_describe_data(data)}")

    say("2/6  train     a small model from scratch")
    trained = train(data, config or TrainConfig(preset="nano"), store, progress)
    say(f"     {_describe_training(trained)}")

    say("3/6  evaluate  what it can do with pictures it has never seen")
    for label, model in trained.checkpoints:
        # The checkpoints are there to rehearse with; the model that is to be used is examined in every respect.
        settings = (
            EvaluateConfig() if label == FINAL else EvaluateConfig(parts=ENOUGH_TO_GATE, timed=80, load_seconds=0)
        )
        evidence = evaluate(open_model(store.model_folder(model)), data, settings, store, progress)
        say(f"     {label:<6} {_describe_quality(evidence)}")
    for line in _describe_rest(evidence):
        say(f"            {line}")

    say("4/6  gate      may it ship?")
    gated: dict[str, Release] = {}
    for label, model in trained.checkpoints:
        gated[label] = put_to_gate(
            store,
            model,
            data.digest,
            name=DEMO_NAME,
            who=who,
            why=f"demo: {label} checkpoint",
            notes=Tags(checkpoint=label),
            again=False,
        )
        say(f"     {gated[label].ref} ({label}): {_describe_decision(gated[label].decision)}")
    final = gated[FINAL]
    if final.decision.verdict != "ship":
        raise Undecided(
            f"the finished model {final.ref} did not pass the gate: {_describe_decision(final.decision)}",
            final.decision.command or f"clerestory release show {final.ref}",
        )

    say("5/6  release   make it live; rehearse a rollback")
    rehearsed = _release_and_rehearse(store, gated, who, progress)
    checks = verify(final.ref, store)
    wrong = [check for check in checks if check.state == "fail"]
    say(f"     verify: {len(checks)} checks, {wrong[0].message if wrong else 'nothing wrong'}")

    say("6/6  report    everything on one page")
    files = report(store, final.ref, pictures=data)
    return Demo(files.html, final.ref, tuple(store.releases(DEMO_NAME)), rehearsed, len(checks) - len(wrong))


def _release_and_rehearse(store: Store, gated: dict[str, Release], who: str, progress: Progress) -> bool:
    """Promote the last two releases that may ship, go back, go forward again; nothing when the last is live already."""
    final = gated[FINAL]
    live = store.alias(DEMO_NAME, "live")
    if live is not None and live.number == final.number:
        progress.say(f"     {final.ref} is live already")
        return any(record.event.kind == "rolled_back" for record in store.journal.records(DEMO_NAME))
    shippable = [release for release in gated.values() if release.decision.verdict == "ship"]
    for release in shippable:
        current = store.alias(DEMO_NAME, "live")
        if current is None or current.number != release.number:
            promote(release.ref, store, who=who, why="demo: passed the gate")
            progress.say(f"     {release.ref} is live")
    if store.alias(DEMO_NAME, "previous") is None:
        progress.say("     no other release passed the gate, so there is nothing to roll back to yet")
        return False
    back = rollback(DEMO_NAME, store, who=who, why="demo: rehearsal of a rollback")
    progress.say(f"     rehearsal: rolled back to {DEMO_NAME}@{back.number}")
    promote(final.ref, store, who=who, why="demo: rehearsal over, forward again")
    progress.say(f"     rehearsal: {final.ref} is live again")
    return True


def _describe_data(data: Dataset) -> str:
    splits = Counter(sample.split for sample in data)
    licences = {sample.licence for sample in data}
    parts = ", ".join(f"{name} {count:,}" for name, count in sorted(splits.items()))
    return f"{len(data):,} pictures ({parts}); {len(licences)} licences; digest {short(data.digest)}"


def _describe_training(trained: TrainResult) -> str:
    facts, cost = trained.evidence.facts, trained.evidence.cost
    note = " (from an earlier run)" if trained.cached else ""
    return f"{facts.get('parameters', '?')} parameters, {facts.get('steps', '?')} steps in {cost.seconds:.0f} s{note}"


def _describe_quality(evidence: Evidence) -> str:
    parts = []
    for split, words in (("test", "unseen concepts"), ("test_style", "unseen art style")):
        found = evidence.find("recall@10", {"task": "image_to_text", "split": split})
        if found is not None:
            parts.append(f"{words}: right caption in the top 10 for {number(found)}")
    return "; ".join(parts)


def _describe_rest(evidence: Evidence) -> list[str]:
    """What the whole examination adds, a line each; the report has all of it."""
    wanted = (
        (
            "robust_accuracy",
            {"task": "zero_shot", "split": "test"},
            "kind of thing told right under 19 kinds of damage",
        ),
        ("ece", {"task": "zero_shot", "split": "test"}, "gap between how sure it says it is and how often it is right"),
        ("largest_gap", {"task": "zero_shot", "split": "test", "group": "skin_tone"}, "largest gap between skin tones"),
        ("cost_per_1000", {"task": "cost", "operation": "embed_image", "batch": "1"}, "for 1,000 pictures"),
    )
    found = ((words, evidence.find(name, where)) for name, where, words in wanted)
    return [f"{words}: {number(measured)}" for words, measured in found if measured is not None]


def _describe_decision(decision: Decision) -> str:
    words = {"ship": "ship", "refuse": "do not ship", "cannot_tell": "cannot tell"}[decision.verdict]
    reasons = [reason.message for reason in decision.reasons if reason.outcome != "pass"]
    return words + (f" — {reasons[0]}" if reasons else f" — all {len(decision.reasons)} rules hold")
