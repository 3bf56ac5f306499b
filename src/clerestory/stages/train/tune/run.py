"""Fine-tunes a model on captioned images; returns the tuned model and the evidence of its gain and forgetting."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from clerestory.core.codec import Facts, Tags
from clerestory.core.digest import digest
from clerestory.core.errors import CapabilityError, ClerestoryError
from clerestory.core.evidence import Evidence, Finding, Subject
from clerestory.core.progress import QUIET, Progress
from clerestory.core.provenance import environment_digest, metered, now, stage_code
from clerestory.core.sample import Dataset
from clerestory.models.adapters.hf_chat import ChatModel
from clerestory.models.adapters.hf_dual import DualEncoder
from clerestory.models.protocols import AnyModel
from clerestory.models.runtime import ClerestoryEncoder
from clerestory.stages.train.findings import SKIPPED_STEPS
from clerestory.stages.train.run_folder import run_folder
from clerestory.stages.train.threads import threads
from clerestory.stages.train.tune import lora
from clerestory.stages.train.tune.cache import EmbeddingCache
from clerestory.stages.train.tune.caption_pairs import CaptionPairs, split_pairs, train_pairs, val_pairs
from clerestory.stages.train.tune.chat import NUM_CHOICES, TrainableChatModel
from clerestory.stages.train.tune.config import TuneConfig
from clerestory.stages.train.tune.dual import TrainableDualEncoder
from clerestory.stages.train.tune.evidence import AFTER, BEFORE, CHANGE, NEW, RETENTION, ScoreTable, at_alpha, at_step
from clerestory.stages.train.tune.forgetting import ForgettingMonitor, chance_score
from clerestory.stages.train.tune.interpolation import InterpolationCurve, evaluate_interpolations
from clerestory.stages.train.tune.loop import TuningLoop
from clerestory.stages.train.tune.result_findings import result_findings
from clerestory.stages.train.tune.saving import write_model
from clerestory.stages.train.tune.trainable import TrainableModel
from clerestory.stages.train.tune.weights import all_weights, copy_weights, interpolate_weights, train_only
from clerestory.stats.rows import write_rows
from clerestory.store import Store

KIND = "tune"


@dataclass(frozen=True, slots=True)
class TuneResult:
    """The result of a fine-tuning, in the store.

    Attributes:
        evidence: gain and forgetting.
        model: digest of the tuned model; empty if only an adapter was written.
        adapter: the blobs of LoRA's files by name; empty without LoRA.
        cached: whether it is the result of an earlier run with the same model, data, code, settings and machine.
    """

    evidence: Evidence
    model: str
    adapter: dict[str, str]
    cached: bool


@dataclass(slots=True)
class _TuningRun:
    """The components of one fine-tuning."""

    original: AnyModel
    model: TrainableModel
    config: TuneConfig
    folder: Path
    train: CaptionPairs
    table: ScoreTable
    monitor: ForgettingMonitor


def tune(
    model: AnyModel,
    data: Dataset,
    retention: Dataset,
    config: TuneConfig,
    store: Store,
    progress: Progress = QUIET,
    *,
    retention_split: str = "val",
    base: str = "",
) -> TuneResult:
    """Fine-tune a model. After an interrupt or a kill, the same call resumes at the last validation, bit for bit.

    The model's own weights are changed in memory; open it again to get the original.

    Args:
        model: a dual encoder (of Hugging Face or Clerestory), or an image-text-to-text model.
        data: its ``train`` split is the training data (all of it, if it has no splits), ``val`` measures the gain.
        retention: images of what the model must not forget.
        config: the settings.
        store: receives the model, its adapter and the evidence.
        progress: reports every validation.
        retention_split: the split of ``retention`` to evaluate.
        base: the model's reference, for the adapter's description.

    Raises:
        CapabilityError: a model of another kind, or one whose towers cannot be locked separately.
        MissingExtra: LoRA needs ``peft``.
        DataError: there is no training data or no retention set.
        Conflict: the same fine-tuning is already running in another process; names it.
        ClerestoryError: the loss stayed infinite or NaN.
        KeyboardInterrupt: Ctrl-C.
    """
    settings = config.resolved(_kind(model))
    if settings.method == "lora":
        lora.require_peft()
    subject = _subject(model, data, retention, retention_split, settings)
    earlier = _earlier_result(subject, store)
    if earlier is not None:
        return earlier
    with run_folder(store, KIND, subject, "the same fine-tuning") as folder:
        # It may have ended in another process since.
        earlier = _earlier_result(subject, store)
        if earlier is not None:
            return earlier
        with metered() as meter, threads(settings.threads):
            run = _prepare(model, data, retention, retention_split, settings, store, folder, progress)
            loop, curve = _train(run, progress, base)
            model_digest, files = _store(run, curve, store)
        rows = run.table.columns()
        evidence = Evidence(
            kind=KIND,
            subject=replace(subject, model=model_digest or digest(files)),
            measurements=run.table.measurements(rows),
            findings=_findings(run, loop, curve),
            cost=meter.cost,
            created=now(),
            rows=store.blobs.put(write_rows(rows)),
            artifacts=Tags({"log": store.blobs.put(loop.log.path.read_bytes()), **files}),
            facts=_facts(run, loop, curve, base, model_digest),
        )
        store.put_evidence(evidence)
    return TuneResult(evidence, model_digest, files, cached=False)


def _kind(model: AnyModel) -> Any:
    for kind, known in (("clerestory", ClerestoryEncoder), ("dual", DualEncoder), ("chat", ChatModel)):
        if isinstance(model, known):
            return kind
    raise CapabilityError(
        "this model cannot be fine-tuned: its weights are not on this computer",
        "use hf:org/name, hf:./folder or a release",
    )


def _subject(model: AnyModel, data: Dataset, retention: Dataset, split: str, config: TuneConfig) -> Subject:
    """Everything a fine-tuning depends on; the tuned model is added when it exists."""
    peft = metadata.version("peft") if config.method == "lora" else ""
    settings = digest([digest(config), model.digest, retention.digest, split, peft])
    return Subject(data=data.digest, code=stage_code(KIND), config=settings, environment=environment_digest())


def _earlier_result(subject: Subject, store: Store) -> TuneResult | None:
    """The result of an equal earlier run whose model still exists."""
    for evidence in store.find_evidence(
        KIND, data=subject.data, code=subject.code, config=subject.config, environment=subject.environment
    ):
        model = evidence.facts.text("model")
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
    retention_data: Dataset,
    split: str,
    config: TuneConfig,
    store: Store,
    folder: Path,
    progress: Progress,
) -> _TuningRun:
    """Load the data, and evaluate every set before training."""
    train = train_pairs(data, config.max_samples, config.seed)
    retention = split_pairs(retention_data, split, config.retention_samples, config.seed)
    val = val_pairs(data, config.val_samples, config.seed)
    cache = EmbeddingCache(store.home / "embeddings", progress)
    trainable: TrainableModel = (
        TrainableChatModel(model, config)
        if isinstance(model, ChatModel)
        else TrainableDualEncoder(model, config, cache)  # type: ignore[arg-type]  # checked by _kind
    )
    table = ScoreTable({RETENTION: retention} | ({NEW: val} if val else {}))
    for name, pairs in table.sets.items():
        table.scores[name, BEFORE] = trainable.scores(pairs)
    is_chat, own = trainable.kind == "chat", round(np.mean([len(captions) for captions in retention.all_captions]))
    candidates = min(NUM_CHOICES, len(retention.captions)) if is_chat else len(retention.captions)
    monitor = ForgettingMonitor(
        table.scores[RETENTION, BEFORE],
        retention.groups_N,
        chance_score(candidates, 1 if is_chat else own),
        config.min_retention,
        len(config.validation_steps()),
    )
    progress.write_line(
        f"before training: retention {monitor.score:.3f} ({retention_data.name} {split}, {len(retention)} images)"
        + (f", new images {table.mean(NEW, BEFORE):.3f} ({len(val)})" if val else "")
    )
    trainable.prepare(train)
    return _TuningRun(model, trainable, config, folder, train, table, monitor)


def _train(run: _TuningRun, progress: Progress, base: str) -> tuple[TuningLoop, InterpolationCurve]:
    """Train, and evaluate interpolations between the original and the tuned weights."""
    model, config, table = run.model, run.config, run.table
    network, retention = model.network, table.sets[RETENTION]
    adapter, names = None, model.trained
    if config.method == "lora":
        layers = lora.linear_layers(network, model.trained)
        names = frozenset(f"{layer}.weight" for layer in layers)
    before = copy_weights({name: weight for name, weight in all_weights(network).items() if name in names})
    if config.method == "lora":
        network.requires_grad_(False)
        adapter = lora.LoraAdapter(network, layers, config.lora_rank, config.lora_alpha, config.seed, base)
    weights = adapter.weights() if adapter else train_only(network, names)
    where = f"{retention.data.name} {retention.split}".strip()
    loop = TuningLoop(
        model, weights, len(run.train), config, run.folder, run.monitor, lambda: model.scores(retention), where
    )
    loop.restore(progress)
    loop.fit(progress)
    for step, scores in loop.retention.items():
        table.scores[RETENTION, at_step(step)] = scores
    if adapter:
        adapter.save(run.folder / "adapter")
        adapter.merge()
    network.requires_grad_(False)
    after = copy_weights({name: weight for name, weight in all_weights(network).items() if name in names})
    curve = evaluate_interpolations(model, table, before, after, run.monitor, config, progress)
    interpolate_weights(network, before, after, curve.alpha)
    for name in table.sets:
        table.scores[name, AFTER] = table.scores[name, at_alpha(curve.alpha)]
        table.scores[name, CHANGE] = table.scores[name, AFTER] - table.scores[name, BEFORE]
    return loop, curve


def _store(run: _TuningRun, curve: InterpolationCurve, store: Store) -> tuple[str, dict[str, str]]:
    """Store the result; the model's digest, and the blobs of the adapter's files."""
    files: dict[str, str] = {}
    if run.config.method == "lora":
        adapter_folder = run.folder / "adapter"
        if curve.alpha != 1.0:
            lora.scale_adapter(adapter_folder, curve.alpha)
        files = {name: store.blobs.put((adapter_folder / name).read_bytes()) for name in lora.FILES}
    if not run.config.merge and run.config.method == "lora":
        return "", files
    return store.put_model(write_model(run.original, run.folder / "model")), files


def _findings(run: _TuningRun, loop: TuningLoop, curve: InterpolationCurve) -> tuple[Finding, ...]:
    skipped: tuple[Finding, ...] = ()
    if loop.skipped:
        message = f"{loop.skipped} of {loop.step} steps had a non-finite loss or gradient and were skipped"
        skipped = (SKIPPED_STEPS.finding("training", message, count=loop.skipped, steps=loop.step),)
    return (*skipped, *run.monitor.findings(loop.where), *result_findings(run.model, run.table, run.train, curve))


def _facts(run: _TuningRun, loop: TuningLoop, curve: InterpolationCurve, base: str, model_digest: str) -> Facts:
    config, table, retention = run.config, run.table, run.table.sets[RETENTION]
    before = table.mean(RETENTION, BEFORE)
    return Facts(
        {
            "model": model_digest,
            "base": base,
            "base_model": run.original.digest,
            "kind": run.model.kind,
            "method": config.method,
            "lock": str(config.lock),
            "steps": loop.step,
            "batch_size": loop.batch_size,
            "learning_rate": config.learning_rate or 0.0,
            "trained_parameters": sum(w.numel() for w in loop.weights.values()),
            "parameters": sum(p.numel() for p in run.model.network.parameters()),
            "data": run.train.data.name,
            "licences": tuple(run.train.data.training_licences()),
            "licence_images": tuple(run.train.data.training_licences().values()),
            "train_samples": len(run.train),
            "retention_data": retention.data.name,
            "retention_split": retention.split,
            "retention_samples": len(retention),
            "retention_digest": retention.data.digest,
            "score_definition": run.model.score_definition,
            "on_forgetting": config.on_forgetting,
            "min_retention": config.min_retention,
            "retention": table.mean(RETENTION, AFTER) / before if before else 1.0,
            "alpha": curve.alpha,
            "stopped": loop.stopped,
            "skipped_steps": loop.skipped,
            "seed": config.seed,
            **run.model.facts(),
        }
    )
