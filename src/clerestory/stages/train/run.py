"""The verb: data in, two models and the evidence of how they came about out."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from clerestory.core.codec import Tags
from clerestory.core.digest import digest
from clerestory.core.errors import ClerestoryError
from clerestory.core.evidence import Evidence, Finding, Measurement, Subject
from clerestory.core.progress import QUIET, Progress
from clerestory.core.provenance import environment_digest, metered, now, stage_code
from clerestory.core.sample import Dataset
from clerestory.models.runtime import open_model
from clerestory.models.text_tower import load_text_tower
from clerestory.stages.train import estimate_store
from clerestory.stages.train.checkpoint import disk_told
from clerestory.stages.train.config import Settings, TrainConfig
from clerestory.stages.train.distributed import ALONE, Engine, here
from clerestory.stages.train.loop import EARLY, FINAL, LATE, Run
from clerestory.stages.train.model_init import architecture, first_model
from clerestory.stages.train.moe_report import expert_files
from clerestory.stages.train.objectives import Captions
from clerestory.stages.train.threads import threads
from clerestory.stages.train.train_data import Material, prepare
from clerestory.stages.train.validate import recall_at
from clerestory.store import Store

KIND = "train"
WATCHED = "watched while training; the evaluation measures it with an interval, on pictures kept for that"


@dataclass(frozen=True, slots=True)
class TrainResult:
    """What a training run left in the store.

    Attributes:
        evidence: how it went.
        model: digest of the finished model.
        early: digest of the model kept early on.
        late: digest of the model kept when it was nearly finished.
        cached: whether an earlier run with the same data, code, settings and machine was found instead.
    """

    evidence: Evidence
    model: str
    early: str
    late: str
    cached: bool

    @property
    def checkpoints(self) -> tuple[tuple[str, str], ...]:
        """Every model that was kept, by name, in the order of training."""
        return (EARLY, self.early), (LATE, self.late), (FINAL, self.model)


def train(data: Dataset, config: TrainConfig, store: Store, progress: Progress = QUIET) -> TrainResult:
    """Train a model; interrupted or killed, the same call goes on where it stopped, with the same result.

    Started by ``torchrun`` or Ray, the processes share each batch, and all return what the first one has kept. The
    store must then be in a folder that all machines see.

    Args:
        data: its ``train`` split is learnt from (all of it, when it has no splits), its ``val`` split is watched.
        config: the settings.
        store: where the models and the evidence go; work happens in ``store.runs``.
        progress: told about every step.

    Raises:
        DataError: the data has nothing to learn from.
        NotFound, IntegrityError: the text tower is missing or not the original.
        ClerestoryError: the loss stayed infinite or NaN, another process of the run has ended, or the disk is full.
        KeyboardInterrupt: Ctrl-C or SIGTERM; the run can be resumed by the same call.
    """
    with here(config) as engine:
        return _train(data, config, store, progress if engine.first else QUIET, engine)


def _train(data: Dataset, config: TrainConfig, store: Store, progress: Progress, engine: Engine) -> TrainResult:
    # Machines may differ; the first one's is named in the evidence.
    subject = engine.ranks.from_first(subject_of(data, config))
    found = engine.ranks.from_first(_earlier(subject, store) if engine.first else None)
    if found is not None:
        return found
    folder = store.runs / f"{KIND}-{digest(subject)[:24]}"
    folder.mkdir(parents=True, exist_ok=True)
    settings = config.resolved()
    with metered() as meter, threads(max(1, settings.threads // engine.local)), disk_told(folder):
        run = prepared(data, settings, folder, progress, start_folder(config, store), engine)
        run.restore()
        plan = (
            None if run.position.step else estimate_store.kept(subject, store.runs)
        )  # half a run is no test of a forecast
        run.finish(progress)
        value = _watched(run)
        with run.averaged() as averaged:
            files = expert_files(averaged, run.processor, data) if engine.first else {}
        if not engine.first:
            return cast(TrainResult, engine.ranks.from_first(None))
        files["log"] = run.log.path.read_bytes()
        early, late, model = (store.put_model(folder / name) for name in (EARLY, LATE, FINAL))
    evidence = Evidence(
        kind=KIND,
        subject=replace(subject, model=model),
        measurements=(*value, *(estimate_store.score(plan, meter.cost) if plan else ())),
        findings=_findings(run),
        cost=meter.cost,
        made=now(),
        artifacts=Tags({name: store.blobs.put(content) for name, content in files.items()}),
        facts=_facts(run, data, model, early, late),
    )
    store.put_evidence(evidence)
    estimate_store.forget(subject, store.runs)
    shutil.rmtree(folder, ignore_errors=True)
    return engine.ranks.from_first(TrainResult(evidence, model, early, late, cached=False))


def subject_of(data: Dataset, config: TrainConfig) -> Subject:
    """What a training run depends on."""
    same = replace(config, workers=0)  # with any number of workers the result is the same
    return Subject(data=data.digest, code=stage_code(KIND), config=digest(same), environment=environment_digest())


def result_of(evidence: Evidence, cached: bool) -> TrainResult:
    """What a training run left, as its evidence tells."""
    facts = evidence.facts
    return TrainResult(evidence, facts["model"], facts["early_model"], facts["late_model"], cached)


def _earlier(subject: Subject, store: Store) -> TrainResult | None:
    """The result of an earlier run on the same subject whose models are still there."""
    for evidence in store.find_evidence(
        KIND, data=subject.data, code=subject.code, config=subject.config, environment=subject.environment
    ):
        result = result_of(evidence, cached=True)
        try:
            for _, kept in result.checkpoints:
                store.model_folder(kept)
        except ClerestoryError:
            continue
        return result
    return None


def prepared(
    data: Dataset,
    settings: Settings,
    folder: Path,
    progress: Progress,
    earlier: Path | None = None,
    engine: Engine = ALONE,
) -> Run:
    """The run at step 0; ``earlier`` is the folder of the model to start from."""
    tower = load_text_tower()
    start = None if earlier is None else open_model(earlier)
    config = architecture(settings, start)
    # A third more pixels than the model reads: zooming in then still shows detail.
    alone = settings.config.self_supervision.on
    material: Material = prepare(data, config.image_size * 4 // 3, config.image_size, tower, progress, alone)
    model, processor = first_model(settings, config, material, start)
    return Run(settings, material, model, processor, folder, engine)


def start_folder(config: TrainConfig, store: Store) -> Path | None:
    """Where the model is that a run starts from; None for fresh weights.

    Raises:
        NotFound: the store has no such model.
    """
    return store.model_folder(config.start_from) if config.start_from else None


def _watched(run: Run) -> tuple[Measurement, ...]:
    """Recall@10 of the finished model on the validation split, where there is one."""
    if run.material.val is None:
        return ()
    with run.averaged() as model:
        if not run.engine.first:
            return ()
        value, n = recall_at(model, run.material.val, 10)
    where = Tags(task="image_to_text", split="val")
    return (Measurement("recall@10", value, "share", n, interval=None, no_interval=WATCHED, slice=where),)


def _findings(run: Run) -> tuple[Finding, ...]:
    """Steps that changed nothing, captions longer than the decoder reads, and what the monitor named."""
    found = []
    if run.position.skipped:
        message = f"{run.position.skipped} of {run.settings.steps} steps had a loss or gradient that was not finite"
        fix = "look at the log; lower learning_rate when it is more than a few"
        found.append(Finding("CLR-T001", "warning", "warn", "training", message, fix))
    cut = sum(objective.cut for objective in run.objectives if isinstance(objective, Captions))
    if cut:
        message = f"{cut} captions are longer than the decoder reads and were cut for it"
        fix = "nothing, when it is a few: search reads them whole"
        found.append(Finding("CLR-T002", "info", "warn", "captions", message, fix))
    if run.material.left_out:
        message = f"{run.material.left_out} training pictures have no caption, and nothing was learnt from them"
        fix = "set self_supervision.method to slip, or self_supervision.teacher to 0.3"
        found.append(Finding("CLR-T003", "info", "warn", "captions", message, fix))
    if run.feed.lost:
        message = f"{run.feed.lost} of {run.settings.config.workers} processes that prepare pictures ended too early"
        fix = "look whether memory ran out; set fewer workers. The result is the same"
        found.append(Finding("CLR-T004", "info", "warn", "workers", message, fix))
    return (*found, *run.instrumentation.monitor.findings())


def _facts(run: Run, data: Dataset, model: str, early: str, late: str) -> Tags:
    settings, config = run.settings, run.model.config
    start = {"start_from": settings.config.start_from} if settings.config.start_from else {}
    return Tags(
        {
            **start,
            "model": model,
            "early_model": early,
            "early_step": str(settings.early_step),
            "late_model": late,
            "late_step": str(settings.late_step),
            "preset": settings.config.preset,
            "steps": str(settings.steps),
            "batch": str(run.sampler.batch),
            "seed": str(settings.config.seed),
            "threads": str(settings.threads),
            "processes": str(run.engine.ranks.world),
            "parallel": run.engine.name,
            "parameters": str(run.model.count()),
            "experts": str(config.experts),
            "vocabulary": str(config.vocab_size),
            "data": data.name,
            "pictures": str(len(run.material.train.pixels_NHWC)),
            "concepts": str(len(run.material.concepts)),
            "captions": str(len(run.material.train.captions)),
            "self_supervision": settings.config.self_supervision.method,
            "pictures_without_captions": str(len(run.material.unlabelled_UHWC)),
            "skipped_steps": str(run.position.skipped),
            "step_seconds": f"{run.position.seconds:.1f}",
        }
    )
