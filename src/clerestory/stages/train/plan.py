"""How long, how much memory, how much money: told before the first step, from a few real ones.

A forecast from formulas (operations divided by the machine's speed) misses by a factor: small models wait for memory,
augmentation and the optimizer. So everything that a run does is done here a few times for real, on the real data and
shapes, in a scratch folder: prepare, step, look at the validation split, save a checkpoint and a model. Then it is
counted how often the run will do each. Nothing is kept but the numbers.
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

from clerestory.core.evidence import Subject
from clerestory.core.progress import QUIET, Progress
from clerestory.core.sample import Dataset
from clerestory.models.text_tower import TextTower, load_text_tower
from clerestory.stages.train import estimate_store
from clerestory.stages.train.config import Settings, TrainConfig
from clerestory.stages.train.estimate_store import Plan
from clerestory.stages.train.loop import EARLY, Run
from clerestory.stages.train.run import prepared, subject_of
from clerestory.stages.train.threads import threads
from clerestory.store import Store

WARM_UP = 3  # first steps allocate memory, start threads and look for copies
FEWEST, LONGEST = 10, 6.0  # steps that are timed at least; seconds after which no more are
MOST = 60
KEPT_MODELS = 3
MACHINE = 0.1  # how much a machine's speed drifts between a probe and a long run


def plan(
    data: Dataset,
    config: TrainConfig,
    progress: Progress = QUIET,
    price: float | None = None,
    currency: str = "",
    earlier: Path | None = None,
) -> Plan:
    """Foretell a training run by doing a little of everything it does.

    Args:
        data: what would be trained on.
        config: the settings.
        progress: told about the pictures read.
        price: what an hour of this machine costs.
        currency: of the price.
        earlier: folder of the model to start from.

    Raises:
        DataError: the data has nothing to learn from.
        NotFound, IntegrityError: the text tower is missing or not the original.
    """
    settings = config.resolved()
    with tempfile.TemporaryDirectory(prefix="clerestory-plan-") as scratch, threads(settings.threads):
        folder = Path(scratch)
        with _embedding(load_text_tower()) as embedding:
            started = time.perf_counter()
            run = prepared(data, settings, folder, progress, earlier)
            whole = time.perf_counter() - started
        # Texts are embedded once on a machine and remembered: the run will find them.
        preparing = whole - sum(embedding)
        first, times = _steps(run, settings)
        look = _timed(run.validate)
        save = _timed(run.save)
        model = _timed(lambda: run.keep(EARLY))
    looks = _looks(settings) if run.material.val is not None else 0
    saves = -(-settings.steps // settings.config.checkpoint_every)
    looking, saving = look * looks, save * saves + model * KEPT_MODELS
    step = mean(times)
    seconds = preparing + first + step * settings.steps + looking + saving
    low, high = _range(times)
    rest = seconds - step * settings.steps
    return Plan(
        steps=settings.steps,
        batch=run.sampler.batch,
        seconds=round(seconds, 2),
        low=round((rest + low * settings.steps) * (1 - MACHINE), 2),
        high=round((rest + high * settings.steps) * (1 + MACHINE), 2),
        peak_mib=round(_peak_mib(), 1),
        preparing=round(preparing, 3),
        step=step,
        looking=round(looking, 3),
        saving=round(saving, 3),
        probed=len(times),
        price=price,
        currency=currency,
    )


def keep_plan(found: Plan, data: Dataset, config: TrainConfig, store: Store) -> None:
    """Remember a forecast, so that ``train`` on the same data and settings is compared with it."""
    estimate_store.keep(found, subject_of(data, config), store.runs)


def kept_plan(data: Dataset, config: TrainConfig, store: Store) -> Plan | None:
    """The forecast that ``keep_plan`` remembered and no run has used up yet."""
    subject: Subject = subject_of(data, config)
    return estimate_store.kept(subject, store.runs)


def _steps(run: Run, settings: Settings) -> tuple[float, list[float]]:
    """Seconds that the first steps take more than others, and the times of those after them.

    Steps that the monitor looks at take longer, so whole rounds of them are timed.
    """
    first = [_timed(run.step) for _ in range(min(WARM_UP, settings.steps))]
    times: list[float] = []
    rounds = run.instrumentation.interval
    fewest = max(FEWEST, rounds)
    while len(times) < fewest or (len(times) % rounds) or (sum(times) < LONGEST and len(times) < MOST):
        times.append(_timed(run.step))
    return max(0.0, sum(first) - len(first) * mean(times)), times


def _looks(settings: Settings) -> int:
    """How often a run looks at the validation split: on the way, at its end, and for the evidence."""
    every = settings.config.validate_every
    return (-(-settings.steps // every) if every else 1) + 1


def _range(times: list[float]) -> tuple[float, float]:
    """Quartiles of the mean of five steps in a row: what a stretch of the run may take."""
    stretches = [mean(times[i : i + 5]) for i in range(0, len(times) - 4, 5)] or times
    if len(stretches) < 2:
        return stretches[0], stretches[0]
    low, _, high = quantiles(stretches, n=4, method="inclusive")
    return low, high


def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _peak_mib() -> float:
    """The most resident memory of this process so far, as ``metered`` counts it."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


@contextmanager
def _embedding(tower: TextTower) -> Iterator[list[float]]:
    """The seconds that are spent on embedding texts for the first time."""
    spent: list[float] = []
    embed = tower.embed

    def timed(*args: object, **kwargs: object) -> object:
        started = time.perf_counter()
        try:
            return embed(*args, **kwargs)  # type: ignore[arg-type]  # handed on as they came
        finally:
            spent.append(time.perf_counter() - started)

    vars(tower)["embed"] = timed
    try:
        yield spent
    finally:
        del vars(tower)["embed"]
