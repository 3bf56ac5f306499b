"""Latency and cost as suites of an evaluation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.support.colour_tiles import ColourModel, tiles

from clerestory.core.evidence import Evidence
from clerestory.stages.evaluate import EvaluateConfig, evaluate
from clerestory.stats.aggregate import recompute
from clerestory.stats.rows import read_rows
from clerestory.store import Store, open_store

PRICES = """
currency = "CHF"
this_machine = "a"
[machines.a]
per_hour = 3600
"""


class EndpointOfColours(ColourModel):
    """States the name of the model at the endpoint, as the adapters of endpoints do."""

    def facts(self) -> dict[str, str]:
        return {"endpoint": "http://127.0.0.1:1/v1", "model": "colours"}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return open_store(tmp_path_factory.mktemp("cost") / "home")


@pytest.fixture(scope="module")
def evidence(shared: Store, tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    file = tmp_path_factory.mktemp("prices") / "own.toml"
    file.write_text(PRICES)
    suites = ("retrieval", "latency", "cost")
    config = EvaluateConfig(
        latency_samples=80,
        warm_up_requests=2,
        load_seconds=0.5,
        arrival_rate_per_s=100,
        suites=suites,
        prices=str(file),
    )
    return evaluate(ColourModel(), tiles(), config, shared)


def test_every_number_follows_from_the_rows(evidence: Evidence, shared: Store) -> None:
    rows = read_rows(shared.blobs.get(evidence.rows))
    names = {m.name for m in evidence.measurements if m.slice["task"] in ("load", "throughput", "memory", "cost")}
    assert names - {"energy"} == {
        "load_p50",
        "load_p95",
        "load_p99",
        "goodput",
        "throughput",
        "peak_memory",
        "cost_per_1000",
        "cost_per_1000_correct",
    }
    for one in evidence.measurements:
        assert recompute(rows, one) == one


def test_throughput_is_requests_over_time(evidence: Evidence, shared: Store) -> None:
    rows = read_rows(shared.blobs.get(evidence.rows))
    where = {"task": "throughput", "operation": "embed_image", "batch": "8"}
    chosen = (rows["task"] == "throughput") & (rows["operation"] == "embed_image") & (rows["batch"] == "8")
    found = evidence.find("throughput", where)
    assert found is not None
    assert found.value == pytest.approx(1000 * rows["amount"][chosen].sum() / rows["ms"][chosen].sum())


def test_a_right_answer_costs_all_requests_over_those_that_were_right(evidence: Evidence, shared: Store) -> None:
    rows = read_rows(shared.blobs.get(evidence.rows))
    asked = (rows["task"] == "image_to_text") & (rows["split"] == "test") & ~np.isnan(rows["rank"])
    single = (rows["task"] == "throughput") & (rows["operation"] == "embed_image") & (rows["batch"] == "1")
    seconds = rows["ms"][single].mean() / 1000
    each = evidence.find("cost_per_1000", {"task": "cost", "of": "image_to_text", "split": "test"})
    right = evidence.find("cost_per_1000_correct", {"task": "cost", "of": "image_to_text", "split": "test"})
    assert each is not None
    assert right is not None
    # At 3,600 an hour, a second costs 1.
    assert each.value == pytest.approx(1000 * seconds)
    assert right.value == pytest.approx(1000 * seconds / (rows["rank"][asked] <= 1).mean())
    assert right.unit == "CHF"
    assert right.interval is not None
    assert "CLR-E044" not in {finding.code for finding in evidence.findings}


def test_another_price_makes_only_the_cost_anew(tmp_path: Path, shared: Store, evidence: Evidence) -> None:
    file = tmp_path / "dearer.toml"
    file.write_text(PRICES.replace("3600", "7200"))
    suites = ("retrieval", "latency", "cost")
    config = EvaluateConfig(
        latency_samples=80,
        warm_up_requests=2,
        load_seconds=0.5,
        arrival_rate_per_s=100,
        suites=suites,
        prices=str(file),
    )
    dearer = evaluate(ColourModel(), tiles(), config, shared)
    assert dearer.facts["suite.latency"] == evidence.facts["suite.latency"]
    where = {"task": "cost", "operation": "embed_text", "batch": "64"}
    before, after = evidence.find("cost_per_1000", where), dearer.find("cost_per_1000", where)
    assert before is not None
    assert after is not None
    assert after.value == pytest.approx(2 * before.value)


def test_the_shipped_prices_come_with_a_warning(store: Store) -> None:
    config = EvaluateConfig(latency_samples=10, load_seconds=0, suites=("retrieval", "latency", "cost"))
    found = evaluate(ColourModel(), tiles(), config, store)
    assert "CLR-E044" in {finding.code for finding in found.findings}


def test_an_endpoint_without_a_price_has_no_cost(store: Store) -> None:
    config = EvaluateConfig(latency_samples=10, load_seconds=0, suites=("retrieval", "latency", "cost"))
    found = evaluate(EndpointOfColours(), tiles(), config, store)
    assert not [m for m in found.measurements if m.slice["task"] == "cost"]
    assert [f.state for f in found.findings if f.code == "CLR-E045"] == ["not_applicable"]
