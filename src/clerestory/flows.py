"""Stages strung together: the whole life of a model as plain Python."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from clerestory.apps.catalogue import bring_in
from clerestory.apps.starter import LINE, bring_in_starter
from clerestory.core.codec import Tags
from clerestory.core.digest import short
from clerestory.core.errors import Undecided
from clerestory.core.evidence import Evidence
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

DEMO_NAME = LINE
FINAL, STARTER = "final", "starter"
ENOUGH_TO_GATE = ("retrieval", "speed")


@dataclass(frozen=True)
class Demo:
    """What the demo left behind.

    Attributes:
        report: the HTML report.
        live: the release that is live now, such as ``icons@4``.
        trained: the release of the model trained on the spot.
        releases: every release of the line, newest first.
        rehearsed: whether a rollback and a roll-forward were carried out.
        verified: how many checks of ``verify`` hold.
    """

    report: Path
    live: str
    trained: str
    releases: tuple[Release, ...]
    rehearsed: bool
    verified: int


def demo(store: Store, progress: Progress = QUIET, *, config: TrainConfig | None = None, who: str = "") -> Demo:
    """The whole life of a model: data, training, evaluation, gate, release, rehearsed rollback, replacement, report.

    Every step is cached by digest, so a second run repeats nothing that has not changed. Of a small model trained on
    the spot an early checkpoint is refused by the gate; a late one and the finished model should pass. Then the model
    that comes with Clerestory, trained for much longer, has to show that it is no worse before it takes over.

    Raises:
        Undecided: the finished model did not pass the gate.
    """
    who = who or person()
    say = progress.say
    say("1/7  start     the model that comes with Clerestory")
    starter = bring_in_starter(store)
    for line in _describe_starter(store, starter):
        say(f"     {line}")

    say("2/7  data      bring the pictures in")
    data = bring_in(store, DEMO_NAME, who=who, why="demo", progress=progress)
    say(f"     {_describe_data(data)}")

    say("3/7  train     a small model of our own, from scratch")
    trained = train(data, config or TrainConfig(preset="nano"), store, progress)
    say(f"     {_describe_training(trained)}")

    say("4/7  evaluate  what they can do with pictures they have never seen")
    models = dict((*trained.checkpoints, (STARTER, starter)))
    for label, model in models.items():
        # The checkpoints are there to rehearse with; the model that is to be used is examined in every respect.
        settings = (
            EvaluateConfig() if label == STARTER else EvaluateConfig(parts=ENOUGH_TO_GATE, timed=80, load_seconds=0)
        )
        evidence = evaluate(open_model(store.model_folder(model)), data, settings, store, progress)
        say(f"     {label:<7} {_describe_quality(evidence)}")
    for line in _describe_rest(evidence):
        say(f"             {line}")

    say("5/7  gate      may it ship?")
    gated: dict[str, Release] = {}
    for label, model in trained.checkpoints:
        gated[label] = _gate(store, label, model, data, who)
        say(f"     {gated[label].ref} ({label}): {_describe_decision(gated[label].decision)}")
    final = gated[FINAL]
    if final.decision.verdict != "ship":
        raise Undecided(
            f"the finished model {final.ref} did not pass the gate: {_describe_decision(final.decision)}",
            final.decision.command or f"clerestory release show {final.ref}",
        )

    say("6/7  release   make it live; rehearse a rollback; replace it by a better one")
    rehearsed = _release_and_rehearse(store, gated, who, progress)
    live = _replace(store, final, starter, data, who, progress)
    checks = verify(live.ref, store)
    wrong = [check for check in checks if check.state == "fail"]
    say(f"     verify: {len(checks)} checks, {wrong[0].message if wrong else 'nothing wrong'}")

    say("7/7  report    everything on one page")
    files = report(store, live.ref, pictures=data)
    releases = tuple(store.releases(DEMO_NAME))
    return Demo(files.html, live.ref, final.ref, releases, rehearsed, len(checks) - len(wrong))


def _gate(store: Store, label: str, model: str, data: Dataset, who: str) -> Release:
    why, notes = f"demo: {label}", Tags(checkpoint=label)
    return put_to_gate(store, model, data.digest, name=DEMO_NAME, who=who, why=why, notes=notes, again=False)


def _replace(store: Store, trained: Release, starter: str, data: Dataset, who: str, progress: Progress) -> Release:
    """Put the model that comes with Clerestory to the gate, against what is live; the release that is live then."""
    release = _gate(store, STARTER, starter, data, who)
    progress.say(f"     {release.ref} ({STARTER}): {_describe_decision(release.decision)}")
    live = store.alias(DEMO_NAME, "live")
    if live is not None and live.number == release.number:
        progress.say(f"     {release.ref} is live already")
        return release
    if release.decision.verdict != "ship":
        progress.say(f"     {trained.ref} stays live")
        return trained
    promote(release.ref, store, who=who, why="demo: no worse than live, trained for longer")
    progress.say(f"     {release.ref} is live")
    return release


def _release_and_rehearse(store: Store, gated: dict[str, Release], who: str, progress: Progress) -> bool:
    """Promote the last two releases that may ship, go back, go forward again; nothing when the last is live already."""
    final = gated[FINAL]
    live = store.alias(DEMO_NAME, "live")
    if live is not None and live.number >= final.number:
        progress.say(f"     {final.ref} has been live already")
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


def _describe_starter(store: Store, model: str) -> list[str]:
    """What it is, as the evidence of its training says."""
    lines = []
    for evidence in store.find_evidence("train", model=model)[:1]:
        facts, cost = evidence.facts, evidence.cost
        lines.append(
            f"{facts['preset']}: {int(facts['parameters']):,} parameters, {int(facts['steps']):,} steps in "
            f"{cost.seconds / 60:.0f} minutes, from {int(facts['pictures']):,} pictures"
        )
    return [*lines, "use it while the rest runs: clerestory serve, in another terminal"]


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
