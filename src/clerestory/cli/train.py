"""``clerestory train``."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from shlex import quote
from typing import Annotated

from cyclopts import Parameter
from rich.text import Text

from clerestory.apps.datasets import load_dataset
from clerestory.apps.registration import stored_model
from clerestory.cli.output import PLAIN, Common, Output
from clerestory.cli.settings import read_settings, settings_table
from clerestory.core.codec import encode
from clerestory.core.digest import short
from clerestory.core.sample import Dataset
from clerestory.core.settings import Range, check_number
from clerestory.stages.train import TrainConfig
from clerestory.stages.train.monitor.findings import format_finding
from clerestory.stats.metrics import metric
from clerestory.store import Store, open_store

# Facts that are digests of models: the final one has its own line, those on the way are in the JSON.
MODEL_FACTS = ("model", "early_model", "late_model")
ESTIMATE_METRICS = ("plan_time_ratio", "plan_memory_ratio")


def train_(
    *,
    data: str = "icons",
    preset: str | None = None,
    config: Path | None = None,
    seed: int | None = None,
    steps: int | None = None,
    set_: Annotated[tuple[str, ...], Parameter(name="--set", negative=())] = (),
    from_: Annotated[str, Parameter(name="--from")] = "",
    plan: Annotated[bool, Parameter(negative=())] = False,
    price: float | None = None,
    ray: int = 0,
    settings: Annotated[bool, Parameter(negative=())] = False,
    common: Common = PLAIN,
) -> None:
    """Train a model; after an interruption, the same command resumes.

    Args:
        data: The name of a dataset, or any source that "data add" accepts.
        preset: nano (the default: about 2.5 minutes on 2 cores), small (over an hour), base (with experts), tiny.
        config: A TOML file with any setting of the training; options and --set override it.
        seed: The random seed (default: 0).
        steps: Optimizer steps, in place of the preset's.
        set_: Any setting by its name, such as learning_rate=0.001 or model.experts=8; may be given several times.
        from_: Initialise with the weights of a release (icons@live), a model's digest, a model folder, or starter; with
            --set model.experts=8 a dense model is upcycled to one with experts that computes the same at first.
        plan: Estimate time, memory and price from a few real steps; nothing is trained.
        price: The price of an hour of this machine, for --plan.
        ray: Train on this many Ray workers, on the cluster of RAY_ADDRESS or on this machine without one.
        settings: Only list every setting with its default, range and meaning.
    """
    is_main = os.environ.get("RANK", "0") == "0"  # torchrun starts one process for each rank; rank 0 prints
    out = common.out if is_main else Output(quiet=True)
    if settings:
        out.result(*settings_table(TrainConfig))
        return
    store = open_store(common.home)
    check_number("--ray", ray, Range(0, 10_000))
    if price is not None:
        check_number("--price", price, Range(0))
    start_from = stored_model(store, from_) if from_ else None
    options = {"preset": preset, "seed": seed, "steps": steps, "start_from": start_from}
    train_config = read_settings(TrainConfig, config, options, set_)
    dataset = load_dataset(store, data, out)
    if plan:
        estimate(dataset, train_config, store, price, out)
        return
    # Imported here and below, because they import torch.
    if ray:
        from clerestory.stages.train.distributed.ray import train_on_ray

        result = train_on_ray(partial(load_dataset, name=data), train_config, store, ray)
    else:
        from clerestory.stages.train import train

        result = train(dataset, train_config, store, out)
    if not is_main:
        return
    if result.cached:
        out.write_line("the store already has this model: data, settings and code have not changed")
    facts = result.evidence.facts
    data_out = {"model": result.model, "checkpoints": dict(result.checkpoints), "evidence": result.evidence.id}
    out.result(
        {**data_out, "facts": facts, "findings": result.evidence.findings},
        f"model     {result.model}",
        f"evidence  {result.evidence.id}",
        *(f"{name:<9} {value}" for name, value in facts.items() if name not in MODEL_FACTS),
        *(
            f"estimate  {metric(m.name).title}: {m.value:.2f}"
            for m in result.evidence.measurements
            if metric(m.name).base in ESTIMATE_METRICS
        ),
        *(Text(format_finding(finding)) for finding in result.evidence.findings),
    )
    out.next(f"clerestory evaluate {short(result.model)} --data {quote(data)}")


def estimate(data: Dataset, config: TrainConfig, store: Store, price: float | None, out: Output) -> None:
    """Print the estimate of a training run and store it, so that the run is compared with it."""
    from clerestory.stages.train.estimate import estimate_training, store_estimate
    from clerestory.stages.train.run import start_model_folder

    result = estimate_training(data, config, out, price, start_folder=start_model_folder(config, store))
    store_estimate(result, data, config, store)
    out.result({**encode(result), "cost": result.cost}, *result.lines())
    out.write_line(
        "nothing was trained; the same command without --plan trains and reports the accuracy of this estimate"
    )
