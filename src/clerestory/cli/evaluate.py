"""``clerestory evaluate``."""

from __future__ import annotations

from typing import Annotated, Any

from cyclopts import Parameter

from clerestory.apps.catalogue import dataset
from clerestory.apps.loading import is_elsewhere, load_model, privacy_notice
from clerestory.cli.output import PLAIN, Common, Output
from clerestory.cli.self_test import run_self_test
from clerestory.cli.since import evaluate_since
from clerestory.cli.summary import everything, summary, trust_labels
from clerestory.core.codec import encode
from clerestory.core.digest import short
from clerestory.core.sample import Dataset
from clerestory.stages.evaluate import EvaluateConfig, evaluate
from clerestory.stages.evaluate.tasks.items import open_task_data
from clerestory.stages.evaluate.tasks.resolve import find_task
from clerestory.store import Store, open_store

# What a task alone runs: itself, and whether it can be believed.
WITH_TASKS = ("tasks", "trust")
# The exit code of an evaluation of which no number came, such as that of an endpoint that is down.
UNDECIDED = 3


def evaluate_(
    model: str = "icons@live",
    /,
    *,
    data: str = "",
    task: Annotated[tuple[str, ...], Parameter(negative=())] = (),
    parts: str = "",
    prices: str = "",
    since: str = "",
    self_test: Annotated[bool, Parameter(negative=())] = False,
    everything_: Annotated[bool, Parameter(name="--all", negative=())] = False,
    common: Common = PLAIN,
) -> int:
    """Measure a model, every number with its interval.

    Exit code 3 when not one number came of it; the findings say why.

    Args:
        model: A release (icons@3, icons@live), a model's digest, hf:org/name, or openai:http://host/v1#model.
        data: The name of a data set, or what "data add" takes (default: icons, or the data of the first --task).
        task: A task file, a pack's folder or its name; only that task runs, unless --parts names more.
        parts: Which parts to run, such as retrieval,vqa (default: all of them).
        prices: A price file for the cost of requests.
        since: Measure only what is stale since a release (live, icons@3), and say what changed; exit code 1 if worse.
        self_test: Put known faults into a copy instead, and see which gates notice; exit code 1 if one goes unnoticed.
        everything_: Print every measurement and finding instead of the main ones.
    """
    out = common.out
    store = open_store(common.home)
    notice = privacy_notice(model)
    if notice:
        out.say(notice)
    if self_test:
        return run_self_test(store, model, examined(store, data, task, out), out)
    loaded, resolved = load_model(store, model)
    config = configured(task, parts, prices)
    pictures = examined(store, data, task, out)
    if since:
        line = resolved.release.name if resolved.release else ""
        return evaluate_since(store, loaded, pictures, config, since, out, line)
    evidence = evaluate(loaded, pictures, config, store, out)
    labels = trust_labels(evidence, store)
    lines: list[Any] = summary(evidence, labels)
    if everything_:
        lines = [everything(evidence), *(f"{f.code} {f.where}: {f.message}" for f in evidence.findings)]
    out.result({"id": evidence.id, "trust": labels, **encode(evidence)}, *lines, f"evidence  {evidence.id}")
    if not evidence.measurements:
        return UNDECIDED
    if not (task and is_elsewhere(model)):  # only what the store keeps can be put to the gate
        chosen = f" --data {data or 'icons'}" if data or not task else ""
        asked = "".join(f" --task {each}" for each in task)
        out.next(f"clerestory release gate {short(resolved.digest)}{chosen}{asked}")
    return 0


def configured(tasks: tuple[str, ...], parts: str, prices: str) -> EvaluateConfig:
    """The settings that the options of the command line stand for."""
    named = tuple(name.strip() for name in parts.split(",") if name.strip())
    if tasks:
        named = tuple(dict.fromkeys((*WITH_TASKS, *named)))
    return EvaluateConfig(parts=named, tasks=tasks, prices=prices)


def examined(store: Store, data: str, tasks: tuple[str, ...], out: Output) -> Dataset:
    """The data to examine a model on: what was named, else that of the first task, else the icons."""
    if data or not tasks:
        return dataset(store, data or "icons", out)
    return open_task_data(find_task(tasks[0], store), out)
