"""Stages in sequence: the lifecycle of a model as plain Python."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from clerestory.apps.confidence import NO_MATCH, NOT_MEASURED, fit_search
from clerestory.apps.datasets import add_dataset
from clerestory.apps.drill import DrillResult, drill
from clerestory.apps.loading import load_model
from clerestory.apps.search import build_index, search
from clerestory.apps.starter import DEFAULT_NAME, add_starter
from clerestory.core.codec import Tags, decode
from clerestory.core.digest import canonical, short
from clerestory.core.errors import Undecided
from clerestory.core.evidence import Evidence
from clerestory.core.progress import QUIET, Progress
from clerestory.core.provenance import code_digest, current_user
from clerestory.core.release import VERDICT_TEXTS, Decision, Release
from clerestory.core.sample import Dataset
from clerestory.core.units import plural
from clerestory.data import open_data
from clerestory.data.photographs import NAME as PHOTOGRAPHS
from clerestory.models.protocols import require_capability
from clerestory.models.resolve import open_folder
from clerestory.models.starter import PHOTOS
from clerestory.report import report
from clerestory.report.format import number
from clerestory.stages.evaluate import EvaluateConfig, evaluate
from clerestory.stages.evaluate.suites import latency, retrieval
from clerestory.stages.release import promote, rollback, run_gate, verify
from clerestory.stages.train import TrainConfig
from clerestory.stats.metrics import metric
from clerestory.store import Store
from clerestory.store.answer_cache import answer_key

if TYPE_CHECKING:
    from clerestory.stages.train import TrainResult

DEMO_NAME = DEFAULT_NAME
FINAL, STARTER = "final", "starter"
PHOTO_QUERIES = ("a cup of coffee", "sheep on a meadow", "boats on a river", "a birthday cake")
# The suites whose measurements the included policy needs.
CHECKPOINT_EVALUATION = EvaluateConfig(
    suites=(retrieval.SUITE.name, latency.SUITE.name), latency_samples=80, load_seconds=0
)


@dataclass(frozen=True)
class Demo:
    """The result of the demo.

    Attributes:
        report: the HTML report.
        live: the release that is live now, such as ``icons@4``.
        trained: the release of the model trained in the demo.
        releases: every release of the model name, newest first.
        rollback_rehearsed: whether there was a rollback and a second promotion.
        checks_passed: the number of checks of ``verify`` that passed.
        drill: what the drill measured, in which a bad model is rolled out and taken back.
    """

    report: Path
    live: str
    trained: str
    releases: tuple[Release, ...]
    rollback_rehearsed: bool
    checks_passed: int
    drill: DrillResult


def demo(store: Store, progress: Progress = QUIET, *, config: TrainConfig | None = None, who: str = "") -> Demo:
    """A search of photographs, then the lifecycle of a model: data, training, evaluation, gate, release, report, drill.

    Every step is cached by digest, so a second run repeats only what has changed. A small model is trained: the gate
    refuses an early checkpoint of it, a late one and the final model should pass. Then the starter, which was trained
    for much longer, has to be shown not to be worse before it replaces the live release.

    Raises:
        Undecided: the final model did not pass the gate, or the server of the drill did not start.
    """
    who = who or current_user()
    write_line = progress.write_line
    write_line("1/9  search    photographs, with the included model for photographs")
    for line in search_photographs(store, progress):
        write_line(f"     {line}")

    write_line("2/9  start     the starter, the included model for drawings")
    starter = add_starter(store)
    for line in _describe_starter(store, starter):
        write_line(f"     {line}")

    write_line("3/9  data      add the images")
    data = add_dataset(store, DEMO_NAME, who=who, why="demo", progress=progress)
    write_line(f"     {_describe_data(data)}")

    write_line("4/9  train     a small model, from scratch")
    from clerestory.stages.train import train  # here, because it imports torch

    trained = train(data, config or TrainConfig(preset="nano"), store, progress)
    write_line(f"     {_describe_training(trained)}")

    write_line("5/9  evaluate  on images that the models have never seen")
    models = dict((*trained.checkpoints, (STARTER, starter)))
    for label, model in models.items():
        # The checkpoints are only for the rehearsal; the model that stays in use gets the full evaluation.
        evaluate_config = EvaluateConfig() if label == STARTER else CHECKPOINT_EVALUATION
        evidence = evaluate(open_folder(store.model_folder(model)), data, evaluate_config, store, progress)
        write_line(f"     {label:<7} {_describe_retrieval(evidence)}")
    for line in _describe_other_metrics(evidence):
        write_line(f"             {line}")

    write_line("6/9  gate      may it ship?")
    gated: dict[str, Release] = {}
    for label, model in trained.checkpoints:
        gated[label] = _gate(store, label, model, data, who)
        write_line(f"     {gated[label].ref} ({label}): {_describe_decision(gated[label].decision)}")
    final = gated[FINAL]
    if final.decision.verdict != "ship":
        raise Undecided(
            f"the final model {final.ref} did not pass the gate: {_describe_decision(final.decision)}",
            final.decision.command or f"clerestory release show {final.ref}",
        )

    write_line("7/9  release   make it live, rehearse a rollback, replace it by a better one")
    rehearsed = _release_and_rehearse(store, gated, who, progress)
    live = _replace(store, final, starter, data, who, progress)
    checks = verify(live.ref, store)
    failed = [check for check in checks if check.state == "fail"]
    write_line(f"     verify: {plural(len(checks), 'check')}, {failed[0].message if failed else 'all passed'}")

    write_line("8/9  report    everything on one page")
    files = report(store, live.ref, images=data)
    releases = tuple(store.releases(DEMO_NAME))

    write_line("9/9  drill     a bad model is rolled out, in a copy of this store with a real server")
    drilled, is_cached = rehearse_bad_model(store, live, progress)
    for line in describe_drill(drilled, is_cached):
        write_line(f"     {line}")
    return Demo(files.html, live.ref, final.ref, releases, rehearsed, len(checks) - len(failed), drilled)


def rehearse_bad_model(store: Store, live: Release, progress: Progress = QUIET) -> tuple[DrillResult, bool]:
    """The drill ``bad-model`` with the live release; run once for a model and the code that serves and watches it.

    Returns:
        The measurements, and whether they come from an earlier run.
    """
    code = code_digest("apps/drill", "apps/drill_server", "apps/drill_store", "stages/serve", "stages/watch", "web")
    key = answer_key("drill", "bad-model", live.ref, live.model, code)
    known = store.answer_cache.get([key]).get(key)
    if known is not None:
        return decode(DrillResult, json.loads(known)), True
    result = drill("bad-model", progress, store, live.name)
    if result.detected:
        store.answer_cache.put({key: canonical(result)})
    return result, False


def describe_drill(result: DrillResult, is_cached: bool = False) -> list[str]:
    """What a drill measured, in two lines."""
    if result.detect_s is None or result.recover_s is None:
        return ["nobody noticed the bad model: clerestory watch drill bad-model"]
    note = " (from an earlier run)" if is_cached else ""
    return [
        f"noticed after {result.detect_s:.2f} s, rolled back after {result.recover_s:.2f} s{note}",
        f"of {plural(result.requests, 'request')} {result.bad_answers} got a bad answer, {result.failed} failed",
    ]


def search_photographs(store: Store, progress: Progress) -> list[str]:
    """The best photograph for each query, with the word for its confidence and its caption."""
    data = open_data(PHOTOGRAPHS, progress)
    model = require_capability(load_model(store, PHOTOS)[0], "Embedder", "searching images")
    index = build_index(model, data, store, progress)
    calibrators = fit_search(model, index, store)
    lines = []
    for query in PHOTO_QUERIES:
        hits = search(model, index, query, 1)
        answerable = calibrators.query is None or calibrators.query.is_answerable(index, model.embed_texts([query])[0])
        confidence = calibrators.of_text(hits, None if answerable else NO_MATCH)[0]
        sample, label = hits[0].sample, confidence.label if confidence else NOT_MEASURED
        doubt = "no good match; the nearest is " if confidence and not confidence.level else ""
        lines.append(f"{query}: {doubt}{sample.id} ({label}), {sample.caption}")
    command = f"clerestory use search {quote(PHOTO_QUERIES[0])} --data {PHOTOGRAPHS} --model {PHOTOS}"
    return [*lines, f"search them yourself: {command}"]


def _gate(store: Store, label: str, model: str, data: Dataset, who: str) -> Release:
    why, notes = f"demo: {label}", Tags(checkpoint=label)
    gated = run_gate(store, model, data.digest, name=DEMO_NAME, who=who, why=why, notes=notes, reuse_decision=True)
    if isinstance(gated, Decision):
        command = gated.command or f"clerestory evaluate {short(model)} --data {quote(data.name)}"
        raise Undecided(f"the gate cannot decide on the {label} model: {_describe_decision(gated)}", command)
    return gated


def _replace(store: Store, trained: Release, starter: str, data: Dataset, who: str, progress: Progress) -> Release:
    """Run the gate on the starter, against the live release, and return the release that is live afterwards."""
    release = _gate(store, STARTER, starter, data, who)
    progress.write_line(f"     {release.ref} ({STARTER}): {_describe_decision(release.decision)}")
    live = store.alias(DEMO_NAME, "live")
    if live is not None and live.number == release.number:
        progress.write_line(f"     {release.ref} is already live")
        return release
    if release.decision.verdict != "ship":
        progress.write_line(f"     {trained.ref} stays live")
        return trained
    promote(release.ref, store, who=who, why="demo: not worse than live, trained for longer")
    progress.write_line(f"     {release.ref} is live")
    return release


def _release_and_rehearse(store: Store, gated: dict[str, Release], who: str, progress: Progress) -> bool:
    """Promote the releases that may ship, roll back, promote again; nothing if the final one was live before."""
    final = gated[FINAL]
    live = store.alias(DEMO_NAME, "live")
    if live is not None and live.number >= final.number:
        progress.write_line(f"     {final.ref} was already live")
        return any(record.event.kind == "rolled_back" for record in store.journal.records(f"{DEMO_NAME}@"))
    shippable = [release for release in gated.values() if release.decision.verdict == "ship"]
    for release in shippable:
        current = store.alias(DEMO_NAME, "live")
        if current is None or current.number != release.number:
            promote(release.ref, store, who=who, why="demo: passed the gate")
            progress.write_line(f"     {release.ref} is live")
    if store.alias(DEMO_NAME, "previous") is None:
        progress.write_line("     no other release passed the gate, so there is no release to roll back to")
        return False
    back = rollback(DEMO_NAME, store, who=who, why="demo: rehearsal of a rollback")
    progress.write_line(f"     rehearsal: rolled back to {DEMO_NAME}@{back.number}")
    promote(final.ref, store, who=who, why="demo: end of the rehearsal")
    progress.write_line(f"     rehearsal: {final.ref} is live again")
    return True


def _describe_starter(store: Store, model: str) -> list[str]:
    """The starter, from the evidence of its training."""
    lines = []
    for evidence in store.find_evidence("train", model=model)[:1]:
        facts, minutes = evidence.facts, evidence.cost.seconds / 60
        lines.append(
            f"{facts.text('preset')}: {facts.integer('parameters'):,} parameters, {facts.integer('steps'):,} steps in "
            f"{minutes:.0f} minutes, on {facts.integer('images'):,} images"
        )
    return [*lines, "use it while the rest runs: clerestory serve, in another terminal"]


def _describe_data(data: Dataset) -> str:
    splits = Counter(sample.split for sample in data)
    licences = {sample.licence for sample in data}
    sizes = ", ".join(f"{name} {count:,}" for name, count in sorted(splits.items()))
    return f"{plural(len(data), 'image')} ({sizes}); {plural(len(licences), 'licence')}; digest {short(data.digest)}"


def _describe_training(result: TrainResult) -> str:
    facts, seconds = result.evidence.facts, result.evidence.cost.seconds
    note = " (from an earlier run)" if result.cached else ""
    return f"{facts.integer('parameters'):,} parameters, {facts.integer('steps'):,} steps in {seconds:.0f} s{note}"


def _describe_retrieval(evidence: Evidence) -> str:
    lines = []
    for split, label in (("test", "unseen concepts"), ("test_style", "unseen art style")):
        recall = evidence.find("recall@10", {"task": "image_to_text", "split": split})
        if recall is not None:
            lines.append(f"{label}: correct caption in the top 10 (recall@10) {number(recall)}")
    return "; ".join(lines)


def _describe_other_metrics(evidence: Evidence) -> list[str]:
    """One line for each further headline of the full evaluation; the report has all of it."""
    headlines = (
        ("robust_accuracy", {"task": "zero_shot", "split": "test"}),
        ("ece", {"task": "zero_shot", "split": "test"}),
        ("largest_gap", {"task": "zero_shot", "split": "test", "group": "skin_tone"}),
        ("cost_per_1000", {"task": "cost", "operation": "embed_image", "batch": "1"}),
    )
    found = (evidence.find(name, where) for name, where in headlines)
    return [f"{metric(m.name).title}: {number(m)}" for m in found if m is not None]


def _describe_decision(decision: Decision) -> str:
    verdict = VERDICT_TEXTS[decision.verdict]
    messages = [reason.message for reason in decision.reasons if reason.outcome != "pass"]
    return f"{verdict} — {messages[0] if messages else f'all {len(decision.reasons)} rules passed'}"
