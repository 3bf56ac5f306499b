"""What requests cost, and what right answers cost: the rows of the other parts, at the prices of the price file."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from clerestory.core.codec import Tags
from clerestory.core.evidence import Finding, Measurement, Recipe
from clerestory.stages.evaluate.context import EvaluationContext
from clerestory.stages.evaluate.shared.row_builder import CLEAN
from clerestory.stages.evaluate.suite import EvaluationRequest, NotApplicable, Suite, SuiteResult
from clerestory.stages.evaluate.suites.cost.prices import MachinePrice, Prices, load_prices, prices_digest
from clerestory.stages.evaluate.suites.latency.single_requests import DESCRIBE, EMBED_IMAGE, EMBED_TEXT
from clerestory.stages.evaluate.suites.latency.throughput import BATCH, THROUGHPUT
from clerestory.stats.aggregate import Rows, measure
from clerestory.stats.rows import read_rows

COST, OF = "cost", "of"
SPEED = "evaluate.speed"
# The parts whose answers are right or wrong, and what a request of their tasks asks of a model in this process.
ANSWERED = ("evaluate.retrieval", "evaluate.classify", "evaluate.vqa", "evaluate.tasks")
ASKS = {
    "image_to_text": EMBED_IMAGE,
    "text_to_image": EMBED_TEXT,
    "zero_shot": EMBED_IMAGE,
    "linear_probe": EMBED_IMAGE,
    "knn": EMBED_IMAGE,
    "caption": DESCRIBE,
}


def run(bench: EvaluationContext) -> SuiteResult:
    """One row per request that has a price, with its ``cost`` and, where it was right or wrong, its ``score``."""
    prices = load_prices(bench.config.prices)
    asked = EvaluationRequest(bench.model.digest, bench.data.digest, bench.config, bench.store)
    rows, findings = [], []
    endpoint = _endpoint(bench.model)
    # What an endpoint costs does not depend on how long this machine waits for it.
    machine, speed = prices.machine(), None if endpoint else _rows(asked, SPEED)
    if speed is not None and machine is None:
        findings.append(_unpriced("this machine", "name it as this_machine, with a section [machines.NAME]"))
    busy = {} if speed is None or machine is None else _busy(speed)
    if speed is not None and machine is not None:
        rows.append(_machine_rows(speed, machine))
    for kind in ANSWERED:
        answered = _rows(asked, kind)
        if answered is not None:
            rows += _answer_rows(answered, busy, prices, endpoint, findings)
    if not rows and findings:
        return SuiteResult({}, [], list(dict.fromkeys(findings)))
    if not rows:
        raise NotApplicable(
            "no request has a price", "run the part speed as well, and give the price of this machine in a price file"
        )
    names = dict.fromkeys(name for table in rows for name in table)
    whole = {name: np.concatenate([table[name] for table in rows]) for name in names}
    measured = _measures(whole, prices.currency, findings)
    if prices.examples:
        message = f"costs are at the example prices that come with Clerestory ({prices.as_of}), which nobody pays"
        fix = "copy prices.toml, enter what you pay, and name the copy in the setting prices"
        findings.insert(0, Finding("CLR-E044", "warning", "warn", f"task {COST}", message, fix))
    facts = {"cost": f"{'example prices' if prices.examples else 'prices'} of {prices.as_of or 'no date'}"}
    if machine is not None and speed is not None:
        facts["cost_machine"] = f"{prices.this_machine} at {machine.per_hour:g} {prices.currency} per hour"
    return SuiteResult(whole, measured, list(dict.fromkeys(findings)), facts)


def also(asked: EvaluationRequest) -> Mapping[str, str]:
    """The price file and the evidence whose rows are priced."""
    found = {"prices": prices_digest(asked.config.prices)}
    for kind in (SPEED, *ANSWERED):
        known = asked.store.find_evidence(kind, model=asked.model, data=asked.data)
        if known:
            found[kind] = known[0].id
    return found


def _rows(asked: EvaluationRequest, kind: str) -> Rows | None:
    """The rows of the newest evidence of a part, None where it has none."""
    known = asked.store.find_evidence(kind, model=asked.model, data=asked.data)
    if not known or not known[0].rows:
        return None
    return read_rows(asked.store.blobs.get(known[0].rows))


def _busy(speed: Rows) -> dict[str, float]:
    """Mean milliseconds of a request of each operation that comes by itself."""
    single = np.asarray((speed["task"] == THROUGHPUT) & (speed[BATCH] == "1"))
    operations = dict.fromkeys(speed["operation"][single].tolist())
    return {name: float(np.mean(speed["ms"][single & (speed["operation"] == name)])) for name in operations}


def _machine_rows(speed: Rows, machine: MachinePrice) -> Rows:
    """One row per timed batch."""
    chosen = np.asarray(speed["task"] == THROUGHPUT)
    milliseconds = speed["ms"][chosen]
    return _table(
        len(milliseconds),
        {"operation": speed["operation"][chosen], BATCH: speed[BATCH][chosen]},
        {"cost": np.array([machine.cost(ms) for ms in milliseconds]), "amount": speed["amount"][chosen]},
    )


def _answer_rows(
    answered: Rows,
    busy: Mapping[str, float],
    prices: Prices,
    endpoint: str,
    findings: list[Finding],
) -> list[Rows]:
    """The scored, undisturbed rows of each task, with what each request cost."""
    score = np.where(np.isnan(answered["score"]), _hits(answered), answered["score"])
    tables = []
    for task, split in dict.fromkeys(zip(answered["task"].tolist(), answered["split"].tolist(), strict=True)):
        chosen = np.asarray((answered["task"] == task) & (answered["split"] == split) & ~np.isnan(score))
        chosen &= np.asarray(answered["condition"] == CLEAN)
        count = int(chosen.sum())
        if not count:
            continue
        cost = (
            _endpoint_costs(answered, chosen, prices, endpoint)
            if endpoint
            else _own_costs(answered, chosen, busy, prices.machine())
        )
        if np.isnan(cost).all():
            what = f"the endpoint model {endpoint!r}, or its answers do not say how many tokens they took"
            if endpoint:
                findings.append(_unpriced(what, f'add a section [endpoints."{endpoint}"]'))
            continue
        texts = {OF: answered["task"][chosen]}
        texts |= {name: answered[name][chosen] for name in ("split", "sample", "concept")}
        tables.append(_table(count, texts, {"cost": cost, "amount": np.ones(count), "score": score[chosen]}))
    return tables


def _endpoint_costs(answered: Rows, chosen: np.ndarray, prices: Prices, endpoint: str) -> np.ndarray:
    """By tokens and pictures; NaN for a request that does not tell its tokens, rather than nothing to pay."""
    price = prices.endpoints.get(endpoint)
    tokens_in, tokens_out = answered["tokens_in"][chosen], answered["tokens_out"][chosen]
    if price is None:
        return np.full(len(tokens_in), np.nan)
    pairs = zip(tokens_in, tokens_out, strict=True)
    return np.array([price.cost(a, b, 1) if a + b > 0 else np.nan for a, b in pairs])


def _own_costs(
    answered: Rows, chosen: np.ndarray, busy: Mapping[str, float], machine: MachinePrice | None
) -> np.ndarray:
    """By how long a request of the task keeps this machine busy; NaN where that was not measured."""
    own = answered["ms"][chosen]
    usual = busy.get(ASKS.get(answered["task"][chosen][0], ""), np.nan)
    return np.where(np.isnan(own), usual, own) * (machine.cost(1.0) if machine else np.nan)


def _endpoint(model: object) -> str:
    """The name a model behind an endpoint is asked for with; empty for a model of this machine."""
    facts = getattr(model, "facts", None)
    known = facts() if callable(facts) else {}
    return str(known.get("model", "")) if "endpoint" in known else ""


def _hits(answered: Rows) -> np.ndarray:
    """1 where the right one came first, 0 where another did, NaN where there is no rank."""
    return np.where(np.isnan(answered["rank"]), np.nan, answered["rank"] <= 1)


def _table(count: int, texts: Mapping[str, np.ndarray], numbers: Mapping[str, np.ndarray]) -> Rows:
    empty, nothing = np.full(count, "", dtype=object), np.full(count, np.nan)
    columns = dict.fromkeys(("operation", BATCH, OF, "split", "sample", "concept", "unscored"), empty)
    columns |= {"task": np.full(count, COST, dtype=object), "condition": np.full(count, CLEAN, dtype=object)}
    return {**columns, **dict.fromkeys(("cost", "amount", "score"), nothing), **texts, **numbers}


def _measures(rows: Rows, currency: str, findings: list[Finding]) -> list[Measurement]:
    found = []
    pairs = zip(rows["operation"].tolist(), rows[BATCH].tolist(), strict=True)
    for operation, batch in dict.fromkeys(pairs):
        if operation:
            where = Tags({"task": COST, "operation": operation, BATCH: batch})
            recipe = Recipe("ratio", "cost", where, parameter=1000.0, against="amount")
            found.append(measure(rows, recipe, "cost_per_1000", where, unit=currency))
    for task, split in dict.fromkeys(zip(rows[OF].tolist(), rows["split"].tolist(), strict=True)):
        chosen = np.asarray((rows[OF] == task) & (rows["split"] == split)) & ~np.isnan(rows["cost"])
        if not task or not chosen.any():
            continue
        where = Tags({"task": COST, OF: task, "split": split})
        each = Recipe("ratio", "cost", where, "concept", 1000.0, "amount")
        found.append(measure(rows, each, "cost_per_1000", where, unit=currency))
        if not rows["score"][chosen].sum() > 0:
            message = f"none of {int(chosen.sum())} answers was right, so a right one has no price"
            findings.append(Finding("CLR-E046", "info", "not_applicable", str(where), message))
            continue
        right = Recipe("ratio", "cost", where, "concept", 1000.0, "score")
        found.append(measure(rows, right, "cost_per_1000_correct", where, unit=currency))
    return found


def _unpriced(what: str, fix: str) -> Finding:
    message = f"the price file has no price for {what}, so its costs are not given"
    return Finding("CLR-E045", "info", "not_applicable", f"task {COST}", message, f"{fix} to it")


SUITE = Suite(
    name="cost",
    about="what requests cost, and what right answers cost",
    needs=(),
    settings=("prices",),
    run=run,
    also=also,
    uses_splits=False,
)
