"""``train``: from data to models in the store and the evidence of their training."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from clerestory.core.codec import Facts, Tags
from clerestory.core.digest import digest
from clerestory.core.errors import ClerestoryError
from clerestory.core.evidence import Evidence, Finding, Measurement, Subject
from clerestory.core.progress import QUIET, Progress
from clerestory.core.provenance import environment_digest, metered, now, stage_code
from clerestory.core.sample import Dataset
from clerestory.models.runtime import open_model
from clerestory.models.text_tower import load_text_tower
from clerestory.models.text_tower_files import MAX_TOKENS
from clerestory.stages.train import estimate_store, findings
from clerestory.stages.train.checkpoint import translate_disk_full
from clerestory.stages.train.config import ResolvedConfig, TrainConfig
from clerestory.stages.train.distributed import SINGLE_PROCESS, Engine, current_engine
from clerestory.stages.train.loop import EARLY, FINAL, LATE, Run
from clerestory.stages.train.model_init import init_model, model_config
from clerestory.stages.train.moe_report import expert_report_files
from clerestory.stages.train.objectives import Captions
from clerestory.stages.train.run_folder import run_folder
from clerestory.stages.train.threads import threads
from clerestory.stages.train.train_data import prepare
from clerestory.stages.train.validate import recall_at_k
from clerestory.store import Store

KIND = "train"
NO_INTERVAL = "monitored during training; the evaluation measures it with an interval, on held-out images"


@dataclass(frozen=True, slots=True)
class TrainResult:
    """The result of a training run.

    Attributes:
        evidence: its measurements, findings, facts and cost.
        model: digest of the final model.
        early: digest of the model exported early in the run.
        late: digest of the model exported late in the run.
        cached: whether it is the result of an earlier run with the same data, code, settings and machine.
    """

    evidence: Evidence
    model: str
    early: str
    late: str
    cached: bool

    @property
    def checkpoints(self) -> tuple[tuple[str, str], ...]:
        """The exported models by name, in the order of training."""
        return (EARLY, self.early), (LATE, self.late), (FINAL, self.model)


def train(data: Dataset, config: TrainConfig, store: Store, progress: Progress = QUIET) -> TrainResult:
    """Train a model; after an interrupt or a kill the same call resumes the run, with the same result.

    Processes started by ``torchrun`` or Ray share each batch, and all return the result of the main process. The store
    must then be in a folder that all machines can access.

    Args:
        data: its ``train`` split is the training data (all of it if there are no splits), its ``val`` split is for
            validation during training.
        config: the settings.
        store: receives the models and the evidence; the run's files are in ``store.runs``.
        progress: receives every step.

    Raises:
        DataError: the data has fewer than two concepts with captions.
        NotFound, IntegrityError: the text tower is missing or not the original.
        Conflict: the same training is already running in another process; names it.
        ClerestoryError: the loss stayed infinite or NaN, another process of the run has ended, or the disk is full.
        KeyboardInterrupt: Ctrl-C or SIGTERM; the same call resumes the run.
    """
    with current_engine(config) as engine:
        return _train(data, config, store, progress if engine.is_main else QUIET, engine)


def _train(data: Dataset, config: TrainConfig, store: Store, progress: Progress, engine: Engine) -> TrainResult:
    # Machines may differ; the evidence names that of the main process.
    subject = engine.ranks.broadcast(training_subject(data, config))
    earlier = _shared_result(subject, store, engine)
    if earlier is not None:
        return earlier
    with run_folder(store, KIND, subject, "the same training", engine.ranks) as folder:
        # It may have ended in another process since.
        return _shared_result(subject, store, engine) or _fit(data, config, subject, store, folder, progress, engine)


def _fit(
    data: Dataset,
    config: TrainConfig,
    subject: Subject,
    store: Store,
    folder: Path,
    progress: Progress,
    engine: Engine,
) -> TrainResult:
    settings = config.resolved()
    with metered() as meter, threads(max(1, settings.threads // engine.local_world_size)), translate_disk_full(folder):
        run = prepare_run(data, settings, folder, progress, start_model_folder(config, store), engine)
        run.restore(progress)
        if run.position.step:
            progress.write_line(f"resumed at step {run.position.step:,} of {settings.steps:,}")
        # A resumed run cannot be compared with the estimate of a whole one.
        estimate = None if run.position.step else estimate_store.load(subject, store.runs)
        run.fit(progress)
        validation = _validation(run)
        with run.ema_model() as model:
            files = expert_report_files(model, run.processor, data) if engine.is_main else {}
        if not engine.is_main:
            return cast(TrainResult, engine.ranks.broadcast(None))
        files["log"] = run.log.path.read_bytes()
        early, late, final = (store.put_model(folder / name) for name in (EARLY, LATE, FINAL))
    evidence = Evidence(
        kind=KIND,
        subject=replace(subject, model=final),
        measurements=(*validation, *(estimate_store.accuracy(estimate, meter.cost) if estimate else ())),
        findings=_findings(run),
        cost=meter.cost,
        created=now(),
        artifacts=Tags({name: store.blobs.put(content) for name, content in files.items()}),
        facts=_facts(run, data, final, early, late),
    )
    store.put_evidence(evidence)
    estimate_store.delete(subject, store.runs)
    return engine.ranks.broadcast(TrainResult(evidence, final, early, late, cached=False))


def _shared_result(subject: Subject, store: Store, engine: Engine) -> TrainResult | None:
    """The result of an earlier run as the main process finds it, on every rank."""
    return engine.ranks.broadcast(_earlier_result(subject, store) if engine.is_main else None)


def training_subject(data: Dataset, config: TrainConfig) -> Subject:
    """The subject of the evidence of a training run; the number of workers does not change the result."""
    config = replace(config, num_workers=0)
    return Subject(data=data.digest, code=stage_code(KIND), config=digest(config), environment=environment_digest())


def result_from(evidence: Evidence, cached: bool) -> TrainResult:
    """The result of a training run, from its evidence."""
    model, early, late = (evidence.facts.text(name) for name in ("model", "early_model", "late_model"))
    return TrainResult(evidence, model, early, late, cached)


def _earlier_result(subject: Subject, store: Store) -> TrainResult | None:
    """The result of an earlier run with the same subject, if its models still exist."""
    for evidence in store.find_evidence(
        KIND, data=subject.data, code=subject.code, config=subject.config, environment=subject.environment
    ):
        result = result_from(evidence, cached=True)
        try:
            for _, model in result.checkpoints:
                store.model_folder(model)
        except ClerestoryError:
            continue
        return result
    return None


def prepare_run(
    data: Dataset,
    settings: ResolvedConfig,
    folder: Path,
    progress: Progress,
    earlier: Path | None = None,
    engine: Engine = SINGLE_PROCESS,
) -> Run:
    """The run at step 0.

    Args:
        data: of the run.
        settings: of the run.
        folder: of the run.
        progress: receives the images read.
        earlier: folder of the model to start from; None for fresh weights.
        engine: of the run.
    """
    tower = load_text_tower()
    start = None if earlier is None else open_model(earlier)
    config = model_config(settings, start)
    # A third more pixels than the model's input, for detail when an image is zoomed in.
    unlabelled = settings.config.self_supervision.enabled
    train_data = prepare(data, config.image_size * 4 // 3, config.image_size, tower, progress, unlabelled)
    model, processor = init_model(settings, config, train_data, start)
    return Run(settings, train_data, model, processor, folder, engine)


def start_model_folder(config: TrainConfig, store: Store) -> Path | None:
    """The folder of the model that a run starts from; None for fresh weights.

    Raises:
        NotFound: the model is not in the store.
    """
    return store.model_folder(config.start_from) if config.start_from else None


def _validation(run: Run) -> tuple[Measurement, ...]:
    """Recall@10 of the final model on the validation split; empty without one."""
    if run.train_data.val is None:
        return ()
    with run.ema_model() as model:
        if not run.engine.is_main:
            return ()
        value, n = recall_at_k(model, run.train_data.val, 10)
    where = Tags(task="image_to_text", split="val")
    return (Measurement("recall@10", value, "share", n, interval=None, no_interval=NO_INTERVAL, slice=where),)


def _findings(run: Run) -> tuple[Finding, ...]:
    """The findings of the run and of its monitor."""
    found = []
    skipped, steps = run.position.skipped, run.settings.steps
    if skipped:
        message = f"{skipped} of {steps} steps were skipped because the loss or the gradient was infinite or NaN"
        found.append(findings.SKIPPED_STEPS.finding("training", message, count=skipped, steps=steps))
    truncated = sum(objective.num_truncated for objective in run.objectives if isinstance(objective, Captions))
    if truncated:
        message = f"{truncated} captions are longer than the decoder reads and were truncated for it"
        found.append(findings.TRUNCATED_CAPTIONS.finding("captions", message, count=truncated))
    unused = run.train_data.unused
    if unused:
        message = f"{unused} of {run.train_data.size} training images have no caption and were not used"
        found.append(findings.UNUSED_IMAGES.finding("captions", message, count=unused))
    long = run.train_data.truncated_texts
    if long:
        message = f"{long} captions are longer than the {MAX_TOKENS} tokens that search reads; it ignores the rest"
        found.append(findings.TRUNCATED_TEXTS.finding("captions", message, count=long, max_tokens=MAX_TOKENS))
    shared = findings.shared_captions_finding(run.train_data.shared, len(run.train_data.train.pixels_NHWC))
    if shared is not None:
        found.append(shared)
    lost, workers = run.loader.lost, run.settings.config.num_workers
    if lost:
        message = f"{lost} of {workers} data loader workers died during the training"
        found.append(findings.LOST_WORKERS.finding("workers", message, count=lost, num_workers=workers))
    return (*found, *run.instrumentation.monitor.findings())


def _facts(run: Run, data: Dataset, model: str, early: str, late: str) -> Facts:
    settings, config = run.settings, run.model.config
    start = {"start_from": settings.config.start_from} if settings.config.start_from else {}
    return Facts(
        {
            **start,
            "model": model,
            "early_model": early,
            "early_step": settings.early_step,
            "late_model": late,
            "late_step": settings.late_step,
            "preset": settings.config.preset,
            "steps": settings.steps,
            "batch_size": run.sampler.batch_size,
            "seed": settings.config.seed,
            "threads": settings.threads,
            "processes": run.engine.ranks.world_size,
            "parallelism": run.engine.name,
            "parameters": run.model.num_parameters(),
            "experts": config.experts,
            "vocab_size": config.vocab_size,
            "data": data.name,
            "licences": tuple(data.training_licences()),
            "licence_images": tuple(data.training_licences().values()),
            "images": len(run.train_data.train.pixels_NHWC),
            "concepts": len(run.train_data.concepts),
            "captions": len(run.train_data.train.distinct_captions()),
            "self_supervision": settings.config.self_supervision.method,
            "images_without_captions": run.train_data.uncaptioned,
            "unlabelled_images_used": len(run.train_data.unlabelled_UHWC),
            "skipped_steps": run.position.skipped,
            "step_seconds": round(run.position.seconds, 1),
        }
    )
