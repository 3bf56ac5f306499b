"""The verb: data in, two models and the evidence of how they came about out."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from clerestory.core.codec import Tags
from clerestory.core.digest import digest
from clerestory.core.errors import ClerestoryError
from clerestory.core.measure import Evidence, Finding, Measurement, Subject
from clerestory.core.progress import QUIET, Progress
from clerestory.core.provenance import environment_digest, metered, now, stage_code
from clerestory.core.sample import Dataset
from clerestory.models.model import ClerestoryModel
from clerestory.models.processor import ClerestoryImageProcessor, ClerestoryProcessor
from clerestory.models.text_tower import load_text_tower
from clerestory.stages.train import forecast
from clerestory.stages.train.config import Settings, TrainConfig
from clerestory.stages.train.loop import EARLY, FINAL, LATE, Run
from clerestory.stages.train.material import Material, caption_tokenizer, prepare
from clerestory.stages.train.objectives import Captions
from clerestory.stages.train.starting import changed
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

    Args:
        data: its ``train`` split is learnt from (all of it, when it has no splits), its ``val`` split is watched.
        config: the settings.
        store: where the models and the evidence go; work happens in ``store.runs``.
        progress: told about every step.

    Raises:
        DataError: the data has nothing to learn from.
        NotFound, IntegrityError: the text tower is missing or not the original.
        ClerestoryError: the loss stayed infinite or NaN.
        KeyboardInterrupt: Ctrl-C; the run can be resumed by the same call.
    """
    subject = subject_of(data, config)
    found = _earlier(subject, store)
    if found is not None:
        return found
    folder = store.runs / f"{KIND}-{digest(subject)[:24]}"
    folder.mkdir(parents=True, exist_ok=True)
    settings = config.resolved()
    with metered() as meter, threads(settings.threads):
        run = prepared(data, settings, folder, progress)
        run.restore()
        plan = None if run.position.step else forecast.kept(subject, store.runs)  # half a run is no test of a forecast
        run.finish(progress)
        value = _watched(run)
        early, late, model = (store.put_model(folder / name) for name in (EARLY, LATE, FINAL))
    evidence = Evidence(
        kind=KIND,
        subject=replace(subject, model=model),
        measurements=(*value, *(forecast.score(plan, meter.cost) if plan else ())),
        findings=_findings(run),
        cost=meter.cost,
        made=now(),
        artifacts=Tags(log=store.blobs.put(run.log.path.read_bytes())),
        facts=_facts(run, data, model, early, late),
    )
    store.put_evidence(evidence)
    forecast.forget(subject, store.runs)
    shutil.rmtree(folder, ignore_errors=True)
    return TrainResult(evidence, model, early, late, cached=False)


def subject_of(data: Dataset, config: TrainConfig) -> Subject:
    """What a training run depends on."""
    return Subject(data=data.digest, code=stage_code(KIND), config=digest(config), environment=environment_digest())


def _earlier(subject: Subject, store: Store) -> TrainResult | None:
    """The result of an earlier run on the same subject whose models are still there."""
    for evidence in store.find_evidence(
        KIND, data=subject.data, code=subject.code, config=subject.config, environment=subject.environment
    ):
        early, late, model = (evidence.facts[key] for key in ("early_model", "late_model", "model"))
        try:
            for kept in (early, late, model):
                store.model_folder(kept)
        except ClerestoryError:
            continue
        return TrainResult(evidence, model, early, late, cached=True)
    return None


def prepared(data: Dataset, settings: Settings, folder: Path, progress: Progress) -> Run:
    """The run at step 0."""
    tower = load_text_tower()
    architecture = changed(settings.config.preset, settings.config.model)
    # A third more pixels than the model reads: zooming in then still shows detail.
    side = architecture.image_size
    material: Material = prepare(data, side * 4 // 3, side, tower, progress)
    tokenizer = caption_tokenizer(material)
    architecture.vocab_size = len(tokenizer)
    architecture.logit_scale = 1.0 / settings.config.temperature
    torch.manual_seed(settings.config.seed)
    model = ClerestoryModel(architecture)
    model.projection.lock(material.rotation_EE)
    processor = ClerestoryProcessor(ClerestoryImageProcessor(size={"height": side, "width": side}), tokenizer)
    return Run(settings, material, model, processor, folder)


def _watched(run: Run) -> tuple[Measurement, ...]:
    """Recall@10 of the finished model on the validation split, where there is one."""
    if run.material.val is None:
        return ()
    with run.averaged():
        value, n = recall_at(run.model, run.material.val, 10)
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
    return (*found, *run.watch.monitor.findings())


def _facts(run: Run, data: Dataset, model: str, early: str, late: str) -> Tags:
    settings, config = run.settings, run.model.config
    return Tags(
        {
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
            "parameters": str(run.model.count()),
            "experts": str(config.experts),
            "vocabulary": str(config.vocab_size),
            "data": data.name,
            "pictures": str(len(run.material.train.pixels_NHWC)),
            "concepts": str(len(run.material.concepts)),
            "captions": str(len(run.material.train.captions)),
            "skipped_steps": str(run.position.skipped),
            "step_seconds": f"{run.position.seconds:.1f}",
        }
    )


@contextmanager
def threads(number: int) -> Iterator[None]:
    """Torch with this many threads: sums are split by thread, so their number is part of the result."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
