"""The verb: somebody's model and pictures in; a tuned model, and the evidence of what it gained and lost, out."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from clerestory.core.codec import Tags
from clerestory.core.digest import digest
from clerestory.core.errors import CapabilityError, ClerestoryError
from clerestory.core.evidence import Evidence, Finding, Subject
from clerestory.core.progress import QUIET, Progress
from clerestory.core.provenance import environment_digest, metered, now, stage_code
from clerestory.core.sample import Dataset
from clerestory.models.adapters.hf_chat import ChatModel
from clerestory.models.adapters.hf_dual import DualEncoder
from clerestory.models.protocols import AnyModel
from clerestory.models.runtime import Model
from clerestory.stages.train.threads import threads
from clerestory.stages.train.tune import lora
from clerestory.stages.train.tune.cache import Cache
from clerestory.stages.train.tune.caption_pairs import Pairs, learning_pairs, pairs_of, watched_pairs
from clerestory.stages.train.tune.chat import CHOICES, ChatStudent
from clerestory.stages.train.tune.config import TuneConfig
from clerestory.stages.train.tune.dual import DualStudent
from clerestory.stages.train.tune.evidence import AFTER, BEFORE, CHANGE, NEW, RETENTION, Sheet, at_alpha, at_step
from clerestory.stages.train.tune.findings import noticed
from clerestory.stages.train.tune.forgetting import Guard, chance
from clerestory.stages.train.tune.interpolation import Curve, draw
from clerestory.stages.train.tune.loop import Steps
from clerestory.stages.train.tune.saving import write_model
from clerestory.stages.train.tune.trainable import Student
from clerestory.stages.train.tune.weights import all_weights, copied, only, put_between
from clerestory.stats.rows import write_rows
from clerestory.store import Store

KIND = "tune"


@dataclass(frozen=True, slots=True)
class TuneResult:
    """What a fine-tuning left in the store.

    Attributes:
        evidence: what it gained and lost.
        model: digest of the tuned model; empty where only an adapter was kept.
        adapter: the blobs of LoRA's files by name; empty without LoRA.
        cached: whether an earlier run with the same model, data, code, settings and machine was found instead.
    """

    evidence: Evidence
    model: str
    adapter: dict[str, str]
    cached: bool


@dataclass(slots=True)
class _Work:
    """What one fine-tuning has at hand."""

    model: AnyModel
    student: Student
    config: TuneConfig
    folder: Path
    learnt: Pairs
    sheet: Sheet
    guard: Guard


def tune(
    model: AnyModel,
    data: Dataset,
    retained: Dataset,
    config: TuneConfig,
    store: Store,
    progress: Progress = QUIET,
    *,
    retained_split: str = "val",
    base: str = "",
) -> TuneResult:
    """Fine-tune a model; interrupted or killed, the same call goes on at the last look, with the same result.

    The model's own weights are changed in memory; open it again to have it as it was.

    Args:
        model: a dual encoder of Hugging Face or of ours, or an image-text-to-text model.
        data: its ``train`` split is learnt from (all of it, when it has no splits), its ``val`` split is watched.
        retained: pictures of what the model knows and must not forget.
        config: the settings.
        store: where the model, its adapter and the evidence go.
        progress: told about every look.
        retained_split: the split of ``retained`` that is looked at.
        base: the model's reference, for the adapter's own description.

    Raises:
        CapabilityError: a model of another kind, or one whose towers cannot be locked alone.
        MissingExtra: LoRA needs ``peft``.
        DataError: there is nothing to learn from, or nothing to tell what is kept.
        ClerestoryError: the loss stayed infinite or NaN.
        KeyboardInterrupt: Ctrl-C.
    """
    kind = _kind(model)
    settings = config.resolved(kind)
    if settings.method == "lora":
        lora.need_peft()
    subject = _subject(model, data, retained, retained_split, settings)
    earlier = _earlier(subject, store)
    if earlier is not None:
        return earlier
    folder = store.runs / f"{KIND}-{digest(subject)[:24]}"
    folder.mkdir(parents=True, exist_ok=True)
    with metered() as meter, threads(settings.threads):
        work = _prepare(model, data, retained, retained_split, settings, store, folder, progress)
        steps, curve = _carry_out(work, progress, base)
        put, files = _put(work, curve, store)
    sheet = work.sheet
    rows = sheet.columns()
    evidence = Evidence(
        kind=KIND,
        subject=replace(subject, model=put or digest(files)),
        measurements=sheet.measurements(rows),
        findings=_findings(work, steps, curve),
        cost=meter.cost,
        made=now(),
        rows=store.blobs.put(write_rows(rows)),
        artifacts=Tags({"log": store.blobs.put(steps.log.path.read_bytes()), **files}),
        facts=_facts(work, steps, curve, base, put),
    )
    store.put_evidence(evidence)
    shutil.rmtree(folder, ignore_errors=True)
    return TuneResult(evidence, put, files, cached=False)


def _kind(model: AnyModel) -> Any:
    for kind, known in (("own", Model), ("dual", DualEncoder), ("chat", ChatModel)):
        if isinstance(model, known):
            return kind
    raise CapabilityError(
        "this model cannot be fine-tuned: its weights are not on this computer",
        "use hf:org/name, hf:./folder or a release of yours",
    )


def _subject(model: AnyModel, data: Dataset, retained: Dataset, split: str, config: TuneConfig) -> Subject:
    """What a fine-tuning depends on; the tuned model comes in when it is there."""
    peft = metadata.version("peft") if config.method == "lora" else ""
    whole = digest([digest(config), model.digest, retained.digest, split, peft])
    return Subject(data=data.digest, code=stage_code(KIND), config=whole, environment=environment_digest())


def _earlier(subject: Subject, store: Store) -> TuneResult | None:
    """An earlier result of the same whose model is still there."""
    for evidence in store.find_evidence(
        KIND, data=subject.data, code=subject.code, config=subject.config, environment=subject.environment
    ):
        model = evidence.facts["model"]
        adapter = {name: blob for name, blob in evidence.artifacts.items() if name in lora.FILES}
        try:
            if model:
                store.model_folder(model)
        except ClerestoryError:
            continue
        return TuneResult(evidence, model, adapter, cached=True)
    return None


def _prepare(
    model: AnyModel,
    data: Dataset,
    retained: Dataset,
    split: str,
    config: TuneConfig,
    store: Store,
    folder: Path,
    progress: Progress,
) -> _Work:
    """Everything read, and every set looked at once before training."""
    learnt = learning_pairs(data, config.pictures, config.seed)
    held = pairs_of(retained, split, config.held, config.seed)
    watched = watched_pairs(data, config.watched, config.seed)
    cache = Cache(store.home / "embeddings", progress)
    student: Student = (
        ChatStudent(model, config) if isinstance(model, ChatModel) else DualStudent(model, config, cache)  # type: ignore[arg-type]  # told by _kind
    )
    sheet = Sheet({RETENTION: held} | ({NEW: watched} if watched else {}))
    for name, pairs in sheet.sets.items():
        sheet.scores[name, BEFORE] = student.scores(pairs)
    candidates = min(CHOICES, len(held.captions)) if student.kind == "chat" else len(held.captions)
    guard = Guard(
        sheet.scores[RETENTION, BEFORE], held.groups_N, chance(candidates), config.keep, len(config.look_steps())
    )
    progress.say(
        f"before: what it knows ({retained.name} {split}, {len(held)} pictures) {guard.score:.3f}"
        + (f"; the new pictures ({len(watched)}) {sheet.mean(NEW, BEFORE):.3f}" if watched else "")
    )
    student.learn_from(learnt)
    return _Work(model, student, config, folder, learnt, sheet, guard)


def _carry_out(work: _Work, progress: Progress, base: str) -> tuple[Steps, Curve]:
    """Train, and draw the line between the original and the tuned weights."""
    student, config, sheet = work.student, work.config, work.sheet
    network, held = student.network, sheet.sets[RETENTION]
    adapter, names = None, student.trained
    if config.method == "lora":
        layers = lora.linear_layers(network, student.trained)
        names = frozenset(f"{layer}.weight" for layer in layers)
    before = copied({name: weight for name, weight in all_weights(network).items() if name in names})
    if config.method == "lora":
        network.requires_grad_(False)
        adapter = lora.Adapter(network, layers, config.rank, config.lora_alpha, config.seed, base)
    weights = adapter.weights() if adapter else only(network, names)
    where = f"{held.data.name} {held.split}".strip()
    steps = Steps(
        student, weights, len(work.learnt), config, work.folder, work.guard, lambda: student.scores(held), where
    )
    steps.restore()
    steps.finish(progress)
    for look, scores in steps.looks.items():
        sheet.scores[RETENTION, at_step(look)] = scores
    if adapter:
        adapter.save(work.folder / "adapter")
        adapter.merge()
    network.requires_grad_(False)
    after = copied({name: weight for name, weight in all_weights(network).items() if name in names})
    curve = draw(student, sheet, before, after, work.guard, config, progress)
    put_between(network, before, after, curve.alpha)
    for name in sheet.sets:
        sheet.scores[name, AFTER] = sheet.scores[name, at_alpha(curve.alpha)]
        sheet.scores[name, CHANGE] = sheet.scores[name, AFTER] - sheet.scores[name, BEFORE]
    return steps, curve


def _put(work: _Work, curve: Curve, store: Store) -> tuple[str, dict[str, str]]:
    """The model's digest, and the adapter's files as blobs."""
    files: dict[str, str] = {}
    if work.config.method == "lora":
        place = work.folder / "adapter"
        if curve.alpha != 1.0:
            lora.rescale(place, curve.alpha)
        files = {name: store.blobs.put((place / name).read_bytes()) for name in lora.FILES}
    if not work.config.merge and work.config.method == "lora":
        return "", files
    written = write_model(work.model, work.folder / "model")
    return store.put_model(written), files


def _findings(work: _Work, steps: Steps, curve: Curve) -> tuple[Finding, ...]:
    found = []
    if steps.skipped:
        message = f"{steps.skipped} of {steps.step} steps had a loss or gradient that was not finite"
        fix = "look at the log; lower learning_rate when it is more than a few"
        found.append(Finding("CLR-T001", "warning", "warn", "training", message, fix))
    held = work.sheet.sets[RETENTION]
    return (*found, *work.guard.findings(steps.where), *noticed(work.student, work.sheet, work.learnt, held, curve))


def _facts(work: _Work, steps: Steps, curve: Curve, base: str, put: str) -> Tags:
    config, sheet, held = work.config, work.sheet, work.sheet.sets[RETENTION]
    kept = sheet.mean(RETENTION, AFTER) / sheet.mean(RETENTION, BEFORE) if sheet.mean(RETENTION, BEFORE) else 1.0
    return Tags(
        {
            "model": put,
            "base": base,
            "base_model": work.model.digest,
            "kind": work.student.kind,
            "method": config.method,
            "lock": str(config.lock),
            "steps": str(steps.step),
            "batch": str(steps.batch),
            "learning_rate": f"{config.learning_rate:g}",
            "trained_parameters": str(sum(w.numel() for w in steps.weights.values())),
            "parameters": str(sum(p.numel() for p in work.student.network.parameters())),
            "data": work.learnt.data.name,
            "pictures": str(len(work.learnt)),
            "retained": held.data.name,
            "retained_split": held.split,
            "retained_pictures": str(len(held)),
            "retained_digest": held.data.digest,
            "score": work.student.asked,
            "guard": config.guard,
            "keep": f"{config.keep:g}",
            "kept": f"{kept:.4f}",
            "alpha": f"{curve.alpha:g}",
            "stopped": "yes" if steps.stopped else "no",
            "skipped_steps": str(steps.skipped),
            "seed": str(config.seed),
            **work.student.facts(),
        }
    )
