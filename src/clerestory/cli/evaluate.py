"""``clerestory evaluate``."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from shlex import quote
from typing import Annotated, Any

from cyclopts import Parameter

from clerestory.apps.datasets import check_dataset, load_dataset
from clerestory.apps.loading import check_reference, load_model, privacy_notice
from clerestory.apps.registration import register_evaluated
from clerestory.cli.help_format import Model
from clerestory.cli.output import PLAIN, Common, Output
from clerestory.cli.self_test import run_self_test
from clerestory.cli.settings import settings_as_typed
from clerestory.cli.since import evaluate_since
from clerestory.cli.summary import benchmark_verdicts, everything, summary
from clerestory.core.codec import encode
from clerestory.core.digest import short
from clerestory.core.errors import ClerestoryError, Undecided
from clerestory.core.sample import VAL, Caption, Dataset
from clerestory.core.units import plural
from clerestory.models.protocols import AnyModel
from clerestory.stages.evaluate import EvaluateConfig, evaluate
from clerestory.stages.evaluate.config import RetrievalProtocol
from clerestory.stages.evaluate.samples import is_in_language
from clerestory.stages.evaluate.suites import select_suites, validity
from clerestory.stages.evaluate.tasks import suite as tasks_suite
from clerestory.stages.evaluate.tasks.items import open_task_data
from clerestory.stages.evaluate.tasks.packs import find_task
from clerestory.store import Store, open_store

# The suites of an evaluation on a task alone: the task itself, and the validity of the benchmark.
TASK_SUITES = (tasks_suite.SUITE.name, validity.SUITE.name)


def evaluate_(
    model: Model = "icons@live",
    /,
    *,
    data: str = "",
    task: Annotated[tuple[str, ...], Parameter(negative=())] = (),
    suites: str = "",
    splits: str = "",
    prices: str = "",
    reply_tokens: int = 256,
    retrieval_protocol: RetrievalProtocol = "all_captions",
    since: str = "",
    self_test: Annotated[bool, Parameter(negative=())] = False,
    everything_: Annotated[bool, Parameter(name="--all", negative=())] = False,
    common: Common = PLAIN,
) -> int:
    """Measure a model, every number with its interval.

    Exit code 3 when there is no measurement; the findings have the reasons.

    Args:
        data: The name of a dataset, or any source that "data add" accepts (default: icons, or the data of the first
            --task).
        task: A task file, the folder of a pack or its name; only that task runs, unless --suites names more.
        suites: The suites to run, such as retrieval,vqa (default: all of them).
        splits: The splits to evaluate on, such as test,test_style, which is the default; val for data without these.
        prices: A price file for the cost of requests.
        reply_tokens: The length at which the replies of a generator are cut off; reasoning models need thousands.
        retrieval_protocol: Which captions of an image take part in retrieval; five_captions is the published protocol
            of Flickr30k and COCO.
        since: Measure only stale and missing suites, and show what changed since a release (live, icons@3); exit code 1
            if something is worse.
        self_test: Inject known faults into a copy of the model instead, and show which gates detect them; exit code 1
            if one is missed.
        everything_: Print every measurement and finding instead of the main ones.
    """
    out = common.out
    store = open_store(common.home)
    notice = privacy_notice(model, store)
    if notice:
        out.write_line(f"notice: {notice}")
    for each in task:
        find_task(each, store)  # an error before the model is loaded
    with settings_as_typed({"max_reply_tokens": "--reply-tokens"}):
        config = replace(
            evaluation_config(task, suites, prices),
            max_reply_tokens=reply_tokens,
            retrieval_protocol=retrieval_protocol,
        )
    select_suites(config.suites)
    if data:
        check_dataset(store, data)
    check_reference(store, model)
    if self_test:
        return run_self_test(store, model, evaluation_data(store, data, task, out), out)
    with out.task(f"Loading {model}", 1):
        loaded, resolved = load_model(store, model)
    dataset = evaluation_data(store, data, task, out)
    config = replace(config, splits=chosen_splits(splits, dataset), language=chosen_language(dataset))
    out.write_line(f"evaluating {model} on {dataset.name}, {plural(len(dataset), 'image')}")
    options = f" --data {quote(data or 'icons')}" if data or not task else ""
    options += task_options(task)
    if since:
        _register(store, model, loaded, out)
        name = resolved.release.name if resolved.release else ""
        return evaluate_since(store, loaded, dataset, config, since, out, name, options)
    evidence = evaluate(loaded, dataset, config, store, out)
    verdicts = benchmark_verdicts(evidence, store)
    lines: list[Any] = summary(evidence, verdicts)
    if everything_:
        lines = [everything(evidence), *(finding.line() for finding in evidence.findings)]
    out.result({"id": evidence.id, "validity": verdicts, **encode(evidence)}, *lines, f"evidence  {evidence.id}")
    if not evidence.measurements:
        return Undecided.exit_code  # such as an evaluation of an endpoint that is down
    if _register(store, model, loaded, out):
        out.next(f"clerestory release gate {short(resolved.digest)}{options}")
    return 0


def chosen_splits(splits: str, data: Dataset) -> tuple[str, ...]:
    """The splits to evaluate on: the given ones, else the default ones, else ``val`` of data that has no other test."""
    given = tuple(name.strip() for name in splits.split(",") if name.strip())
    if given:
        return given
    present = {sample.split for sample in data}
    default = EvaluateConfig().splits
    return (VAL,) if VAL in present and not present & set(default) else default


def chosen_language(data: Dataset) -> str:
    """The language of the captions to evaluate on: the default one, else the commonest of data that has none in it."""
    default = EvaluateConfig().language
    counts = Counter(caption.lang for sample in data for caption in sample.captions)
    if not counts or any(is_in_language(Caption("", lang), default) for lang in counts):
        return default
    return counts.most_common(1)[0][0]


def _register(store: Store, ref: str, model: AnyModel, out: Output) -> bool:
    """Add a model from elsewhere to the store; a failure is a notice, because the evaluation itself is sound."""
    try:
        register_evaluated(store, ref, model)
    except ClerestoryError as error:
        out.write_line(f"notice: the model was not added to the store, so it cannot be released: {error}")
        return False
    return True


def evaluation_config(tasks: tuple[str, ...], suites: str, prices: str) -> EvaluateConfig:
    """The settings that the options of the command line stand for."""
    chosen = tuple(name.strip() for name in suites.split(",") if name.strip())
    if tasks:
        chosen = tuple(dict.fromkeys((*TASK_SUITES, *chosen)))
    return EvaluateConfig(suites=chosen, tasks=tasks, prices=prices)


def evaluation_data(store: Store, data: str, tasks: tuple[str, ...], out: Output) -> Dataset:
    """The dataset to evaluate on: the named one, else that of the first task, else the icons."""
    if data or not tasks:
        return load_dataset(store, data or "icons", out)
    return open_task_data(find_task(tasks[0], store), out)


def task_options(tasks: tuple[str, ...]) -> str:
    """The options that name these tasks, each with a space before it."""
    return "".join(f" --task {quote(task)}" for task in tasks)
