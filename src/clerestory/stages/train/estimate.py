"""Estimates the time, memory and cost of a training run before it starts, from a few real steps.

An estimate from formulas (operations divided by the machine's speed) is wrong by a factor: small models are limited by
memory bandwidth, augmentation and the optimizer. So everything that a run does is done here a few times, on the real
data and shapes, in a temporary folder: prepare, step, validate, save a checkpoint and a model. The times are multiplied
by how often the run does each. Only the numbers remain.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import mean, quantiles

from clerestory.core.progress import QUIET, Progress
from clerestory.core.sample import Dataset
from clerestory.models.text_tower import TextTower, load_text_tower
from clerestory.stages.train import estimate_store
from clerestory.stages.train.config import ResolvedConfig, TrainConfig
from clerestory.stages.train.estimate_store import TrainEstimate
from clerestory.stages.train.loop import EARLY, Run
from clerestory.stages.train.run import prepare_run, training_subject
from clerestory.stages.train.threads import threads
from clerestory.store import Store

WARM_UP_STEPS = 3  # the first steps allocate memory, start threads and search for duplicates
MIN_STEPS, MAX_STEPS, MAX_SECONDS = 10, 60, 6.0  # of the timed steps
EXPORTED_MODELS = 3
MACHINE_DRIFT = 0.1  # how much a machine's speed varies between the estimate and a long run


def estimate_training(
    data: Dataset,
    config: TrainConfig,
    progress: Progress = QUIET,
    price_per_hour: float | None = None,
    currency: str = "",
    start_folder: Path | None = None,
) -> TrainEstimate:
    """Estimate a training run by doing a few of its steps.

    Args:
        data: the training data.
        config: the settings.
        progress: reports the images read.
        price_per_hour: of this machine.
        currency: of the price.
        start_folder: folder of the model to start from.

    Raises:
        DataError: the data has no training images.
        NotFound, IntegrityError: the text tower is missing or not the original.
    """
    settings = config.resolved()
    with tempfile.TemporaryDirectory(prefix="clerestory-plan-") as scratch, threads(settings.threads):
        folder = Path(scratch)
        with _timed_embedding(load_text_tower()) as embedding_times:
            started = time.perf_counter()
            run = prepare_run(data, settings, folder, progress, start_folder)
            elapsed = time.perf_counter() - started
        # Text embeddings are cached on the machine: the run will not compute them again.
        prepare = elapsed - sum(embedding_times)
        first_steps, step_times = _time_steps(run, settings)
        validate = _time(run.validate) * (_num_validations(settings) if run.train_data.val is not None else 0)
        checkpoints = -(-settings.steps // settings.config.checkpoint_every)
        save = _time(run.save) * checkpoints + _time(lambda: run.export(EARLY)) * EXPORTED_MODELS
    step = mean(step_times)
    other = prepare + first_steps + validate + save
    low, high = _quartiles(step_times)
    return TrainEstimate(
        steps=settings.steps,
        batch_size=run.sampler.batch_size,
        seconds=round(other + step * settings.steps, 2),
        low=round((other + low * settings.steps) * (1 - MACHINE_DRIFT), 2),
        high=round((other + high * settings.steps) * (1 + MACHINE_DRIFT), 2),
        peak_mib=round(_peak_mib(), 1),
        prepare_seconds=round(prepare, 3),
        step_seconds=step,
        validate_seconds=round(validate, 3),
        save_seconds=round(save, 3),
        measured_steps=len(step_times),
        price_per_hour=price_per_hour,
        currency=currency,
    )


def store_estimate(estimate: TrainEstimate, data: Dataset, config: TrainConfig, store: Store) -> None:
    """Store an estimate, so that ``train`` with the same data and settings is compared with it."""
    estimate_store.save(estimate, training_subject(data, config), store.runs)


def _time_steps(run: Run, settings: ResolvedConfig) -> tuple[float, list[float]]:
    """The extra seconds of the first steps, and the times of the steps after them.

    Steps that the monitor measures take longer, so whole intervals between its checks are timed.
    """
    first = [_time(run.step) for _ in range(min(WARM_UP_STEPS, settings.steps))]
    times: list[float] = []
    interval = run.instrumentation.interval
    minimum = max(MIN_STEPS, interval)
    while len(times) < minimum or (len(times) % interval) or (sum(times) < MAX_SECONDS and len(times) < MAX_STEPS):
        times.append(_time(run.step))
    return max(0.0, sum(first) - len(first) * mean(times)), times


def _num_validations(settings: ResolvedConfig) -> int:
    """How often a run validates: during training, at its end, and for the evidence."""
    every = settings.config.validate_every
    return (-(-settings.steps // every) if every else 1) + 1


def _quartiles(times: list[float]) -> tuple[float, float]:
    """Lower and upper quartile of the mean of five consecutive steps."""
    means = [mean(times[i : i + 5]) for i in range(0, len(times) - 4, 5)] or times
    if len(means) < 2:
        return means[0], means[0]
    low, _, high = quantiles(means, n=4, method="inclusive")
    return low, high


def _time(work: Callable[[], object]) -> float:
    """The seconds that a call takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _peak_mib() -> float:
    """Peak resident memory of this process, as ``metered`` measures it."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


@contextmanager
def _timed_embedding(tower: TextTower) -> Iterator[list[float]]:
    """Collect the seconds of each call of ``embed``."""
    seconds: list[float] = []
    embed = tower.embed

    def timed(*args: object, **kwargs: object) -> object:
        started = time.perf_counter()
        try:
            return embed(*args, **kwargs)  # type: ignore[arg-type]  # passed on unchanged
        finally:
            seconds.append(time.perf_counter() - started)

    vars(tower)["embed"] = timed
    try:
        yield seconds
    finally:
        del vars(tower)["embed"]
