"""The cost of requests and of correct answers, from the measured times or tokens and a price file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clerestory.core.codec import Fact, Tags
from clerestory.core.evidence import Finding, Measurement, Recipe
from clerestory.core.rows import CLUSTER_COLUMN, Condition, Operation, TaskName
from clerestory.stages.evaluate import findings
from clerestory.stages.evaluate.context import EvaluationContext, EvaluationRequest
from clerestory.stages.evaluate.fingerprint import suite_kind
from clerestory.stages.evaluate.row_builder import BATCH_COLUMN, join_rows
from clerestory.stages.evaluate.suite import NotApplicable, Suite, SuiteResult
from clerestory.stages.evaluate.suites.cost.prices import MachinePrice, Prices, load_prices, prices_digest
from clerestory.stats.aggregate import Rows, measure
from clerestory.stats.rows import read_rows

OF_COLUMN = "of"  # the task whose requests are priced
LATENCY = "latency"
# The suites whose answers are correct or not, and what a request of their tasks asks of a model on this machine.
ANSWERED = ("retrieval", "classification", "vqa", "tasks")
OPERATION_OF = {
    TaskName.IMAGE_TO_TEXT: Operation.EMBED_IMAGE,
    TaskName.TEXT_TO_IMAGE: Operation.EMBED_TEXT,
    TaskName.ZERO_SHOT: Operation.EMBED_IMAGE,
    TaskName.LINEAR_PROBE: Operation.EMBED_IMAGE,
    TaskName.KNN: Operation.EMBED_IMAGE,
    TaskName.CAPTION: Operation.DESCRIBE,
}
PER = 1000.0

Floats = NDArray[np.float64]


def run(context: EvaluationContext) -> SuiteResult:
    """One row per request with a price, with its ``cost`` and, where it is correct or not, its ``score``."""
    prices = load_prices(context.config.prices)
    request, endpoint = context.request, _endpoint(context.model)
    tables: list[Rows] = []
    notes: list[Finding] = []
    # The cost of an endpoint does not depend on how long this machine waits for it.
    machine, timed = prices.machine(), None if endpoint else _rows(request, LATENCY)
    busy_ms: dict[str, float] = {}
    if timed is not None and machine is not None:
        busy_ms = _busy_ms(timed)
        tables.append(_batch_rows(timed, machine))
    elif timed is not None:
        notes.append(_no_price("this machine", "name it as this_machine and add a section [machines.NAME]"))
    for suite in ANSWERED:
        answered = _rows(request, suite)
        if answered is not None:
            tables += _answer_rows(answered, busy_ms, prices, endpoint, notes)
    if not tables and notes:
        return SuiteResult({}, [], list(dict.fromkeys(notes)))
    if not tables:
        fix = "run the suite latency as well, and give the price of this machine in a price file"
        raise NotApplicable("no request has a price", fix)
    rows = join_rows(tables)
    measurements = _measurements(rows, prices.currency, notes)
    facts: dict[str, Fact] = {
        "cost.example_prices": prices.examples,
        "cost.as_of": prices.as_of,
        "cost.currency": prices.currency,
    }
    if prices.examples:
        message = f"costs use the example prices of {prices.as_of} that come with Clerestory, which are not yours"
        notes.insert(0, findings.EXAMPLE_PRICES.finding(f"task {TaskName.COST}", message))
    if machine is not None and timed is not None:
        facts |= {"cost.machine": prices.this_machine, "cost.machine_per_hour": machine.per_hour}
    return SuiteResult(rows, measurements, list(dict.fromkeys(notes)), facts)


def dependencies(request: EvaluationRequest) -> Mapping[str, str]:
    """The price file and the evidence whose rows are priced."""
    found = {"prices": prices_digest(request.config.prices)}
    for suite in (LATENCY, *ANSWERED):
        stored = request.store.find_evidence(suite_kind(suite), model=request.model, data=request.data)
        if stored:
            found[suite_kind(suite)] = stored[0].id
    return found


def _rows(request: EvaluationRequest, suite: str) -> Rows | None:
    """The rows of the newest evidence of a suite, None where there are none."""
    stored = request.store.find_evidence(suite_kind(suite), model=request.model, data=request.data)
    if not stored or not stored[0].rows:
        return None
    return read_rows(request.store.blobs.get(stored[0].rows))


def _busy_ms(timed: Rows) -> dict[str, float]:
    """Mean milliseconds of a single request of each operation."""
    single = np.asarray((timed["task"] == TaskName.THROUGHPUT) & (timed[BATCH_COLUMN] == "1"))
    operations = dict.fromkeys(timed["operation"][single].tolist())
    return {name: float(np.mean(timed["ms"][single & (timed["operation"] == name)])) for name in operations}


def _batch_rows(timed: Rows, machine: MachinePrice) -> Rows:
    """One row per timed batch."""
    keep = np.asarray(timed["task"] == TaskName.THROUGHPUT)
    milliseconds = timed["ms"][keep]
    return _table(
        len(milliseconds),
        {"operation": timed["operation"][keep], BATCH_COLUMN: timed[BATCH_COLUMN][keep]},
        {"cost": np.array([machine.cost(ms) for ms in milliseconds]), "amount": timed["amount"][keep]},
    )


def _answer_rows(
    answered: Rows, busy_ms: Mapping[str, float], prices: Prices, endpoint: str, notes: list[Finding]
) -> list[Rows]:
    """The scored clean rows of each task, with the cost of each request."""
    first = np.where(np.isnan(answered["rank"]), np.nan, answered["rank"] <= 1)
    score = np.where(np.isnan(answered["score"]), first, answered["score"])
    tables = []
    for task, split in dict.fromkeys(zip(answered["task"].tolist(), answered["split"].tolist(), strict=True)):
        keep = np.asarray((answered["task"] == task) & (answered["split"] == split) & ~np.isnan(score))
        keep &= np.asarray(answered["condition"] == Condition.CLEAN)
        count = int(keep.sum())
        if not count:
            continue
        if endpoint:
            cost = _endpoint_costs(answered, keep, prices, endpoint)
        else:
            cost = _machine_costs(answered, keep, busy_ms, prices.machine())
        if np.isnan(cost).all():
            if endpoint:
                what = f"the endpoint model {endpoint!r}, or its answers do not state their tokens"
                notes.append(_no_price(what, f'add a section [endpoints."{endpoint}"]'))
            continue
        texts = {OF_COLUMN: answered["task"][keep]}
        texts |= {name: answered[name][keep] for name in ("split", "sample", "concept")}
        tables.append(_table(count, texts, {"cost": cost, "amount": np.ones(count), "score": score[keep]}))
    return tables


def _endpoint_costs(answered: Rows, keep: NDArray[np.bool_], prices: Prices, endpoint: str) -> Floats:
    """By tokens and images; NaN, not 0, for a request whose tokens are unknown."""
    price = prices.endpoints.get(endpoint)
    tokens_in, tokens_out = answered["tokens_in"][keep], answered["tokens_out"][keep]
    if price is None:
        return np.full(len(tokens_in), np.nan)
    pairs = zip(tokens_in, tokens_out, strict=True)
    return np.array([price.cost(a, b, 1) if a + b > 0 else np.nan for a, b in pairs])


def _machine_costs(
    answered: Rows, keep: NDArray[np.bool_], busy_ms: Mapping[str, float], machine: MachinePrice | None
) -> Floats:
    """By how long a request of the task keeps this machine busy; NaN where that was not measured."""
    own_ms = answered["ms"][keep]
    mean_ms = busy_ms.get(OPERATION_OF.get(answered["task"][keep][0], ""), np.nan)
    costs: Floats = np.where(np.isnan(own_ms), mean_ms, own_ms) * (machine.cost(1.0) if machine else np.nan)
    return costs


def _endpoint(model: object) -> str:
    """The name of a model behind an endpoint; empty for a model on this machine."""
    facts = getattr(model, "facts", None)
    known = facts() if callable(facts) else {}
    return str(known.get("model", "")) if "endpoint" in known else ""


def _table(count: int, texts: Mapping[str, NDArray[Any]], numbers: Mapping[str, Floats]) -> Rows:
    empty, missing = np.full(count, "", dtype=object), np.full(count, np.nan)
    columns = dict.fromkeys(("operation", BATCH_COLUMN, OF_COLUMN, "split", "sample", "concept", "unscored"), empty)
    columns["task"] = np.full(count, str(TaskName.COST), dtype=object)
    columns["condition"] = np.full(count, str(Condition.CLEAN), dtype=object)
    return {**columns, **dict.fromkeys(("cost", "amount", "score"), missing), **texts, **numbers}


def _measurements(rows: Rows, currency: str, notes: list[Finding]) -> list[Measurement]:
    found = []
    pairs = zip(rows["operation"].tolist(), rows[BATCH_COLUMN].tolist(), strict=True)
    for operation, batch in dict.fromkeys(pairs):
        if operation:
            where = Tags({"task": TaskName.COST, "operation": operation, BATCH_COLUMN: batch})
            recipe = Recipe("ratio", "cost", where, parameter=PER, against="amount")
            found.append(measure(rows, recipe, "cost_per_1000", where, unit=currency))
    for task, split in dict.fromkeys(zip(rows[OF_COLUMN].tolist(), rows["split"].tolist(), strict=True)):
        keep = np.asarray((rows[OF_COLUMN] == task) & (rows["split"] == split)) & ~np.isnan(rows["cost"])
        if not task or not keep.any():
            continue
        where = Tags({"task": TaskName.COST, OF_COLUMN: task, "split": split})
        each = Recipe("ratio", "cost", where, CLUSTER_COLUMN, PER, "amount")
        found.append(measure(rows, each, "cost_per_1000", where, unit=currency))
        if not rows["score"][keep].sum() > 0:
            message = f"none of {int(keep.sum())} answers is correct, so a correct answer has no price"
            notes.append(findings.NO_CORRECT_ANSWER.finding(str(where), message, count=int(keep.sum())))
            continue
        correct = Recipe("ratio", "cost", where, CLUSTER_COLUMN, PER, "score")
        found.append(measure(rows, correct, "cost_per_1000_correct", where, unit=currency))
    return found


def _no_price(what: str, fix: str) -> Finding:
    message = f"the price file has no price for {what}, so its cost is not measured"
    return findings.NO_PRICE.finding(f"task {TaskName.COST}", message, fix=f"{fix} to the price file")


SUITE = Suite(
    name="cost",
    description="the cost of requests and of correct answers",
    capabilities=(),
    settings=("prices",),
    run=run,
    dependencies=dependencies,
    needs_captions=False,
)
