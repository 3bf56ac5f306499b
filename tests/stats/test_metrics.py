"""The metric registry: names with parameters, unknown names, other packages' metrics, and the reference page."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from clerestory.core import extensions
from clerestory.core.errors import ConfigError
from clerestory.core.evidence import Recipe
from clerestory.stats import metrics
from clerestory.stats.aggregate import measure
from clerestory.stats.metrics import METRICS, Metric, metric

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "metrics.md"


@pytest.mark.parametrize(
    ("name", "base", "parameter", "unit", "direction"),
    [
        ("recall@1", "recall@{k}", 1, "share", "higher"),
        ("recall@10", "recall@{k}", 10, "share", "higher"),
        ("recall@10_loss", "recall@{k}_loss", 10, "share", "lower"),
        ("chrf_best_of_3", "chrf_best_of_{n}", 3, "share", "higher"),
        ("max_skew@10", "max_skew@{k}", 10, "log ratio", "lower"),
        ("latency_p50", "latency_p{q}", 50, "ms", "lower"),
        ("latency_p99", "latency_p{q}", 99, "ms", "lower"),
        ("ece", "ece", None, "share", "lower"),
        ("contamination_gain", "contamination_gain", None, "share", "none"),
    ],
)
def test_a_name_is_resolved_to_base_and_parameter(name, base, parameter, unit, direction):
    found = metric(name)
    assert (found.name, found.base, found.parameter) == (name, base, parameter)
    assert (found.unit, found.direction, found.registered) == (unit, direction, True)
    assert "{" not in found.title + found.meaning


def test_a_title_has_the_parameter_of_the_name():
    assert metric("recall@7").title == "Correct answer in the first 7 (recall@7)"
    assert metric("latency_p95").title == "Response time of single requests, percentile 95 (latency p95)"


def test_the_numbers_of_a_comparison_have_a_role():
    assert metric("recall@10.difference").role == "difference"
    assert metric("accuracy.a").base == "accuracy"
    assert metric("accuracy").role == "value"


def test_an_unknown_name_gets_a_title_and_no_unit():
    found = metric("tail_recall")
    assert (found.title, found.meaning, found.registered, found.direction) == ("Tail recall", "", False, "none")
    assert metric("recall@many").registered is False


def test_every_metric_is_complete():
    names = [each.name for each in METRICS]
    assert len(set(names)) == len(names)
    assert len({each.title for each in METRICS}) == len(names)
    for each in METRICS:
        assert each.title[0].isupper(), each
        assert each.meaning.endswith("."), each
        assert each.unit, each


def test_the_reference_page_has_a_row_for_every_metric():
    page = PAGE.read_text(encoding="utf-8")
    for each in METRICS:
        name = each.name.replace("{", "").replace("}", "")
        row = next((line for line in page.splitlines() if line.startswith(f"| `{name}` |")), "")
        assert each.unit in row, name
        assert each.title.replace("{", "").replace("}", "") in row, name


def test_unit_and_direction_of_a_measurement_come_from_the_registry():
    rows = {"score": np.array([0.0, 1.0, 1.0])}
    assert measure(rows, Recipe("mean", "score"), "nll").unit == "nats"
    assert measure(rows, Recipe("mean", "score"), "nll").direction == "lower"
    assert measure(rows, Recipe("mean", "score"), "cost_per_1000", unit="EUR").unit == "EUR"
    with pytest.raises(ConfigError, match="'tail_recall' is not registered"):
        measure(rows, Recipe("mean", "score"), "tail_recall")
    assert measure(rows, Recipe("mean", "score"), "tail_recall", unit="share").unit == "share"


@pytest.fixture
def fresh_registry():
    def clear():
        metrics.registered.cache_clear()
        metrics.metric.cache_clear()
        metrics._templates.cache_clear()

    clear()
    yield
    clear()


def test_other_packages_add_metrics(monkeypatch, fresh_registry):
    added = (Metric("tail_recall@{k}", "share", "higher", "Recall of rare classes (tail recall@{k})", "Rare ones."),)
    monkeypatch.setattr(extensions, "names", lambda kind: ("tail",) if kind == "metrics" else ())
    monkeypatch.setattr(extensions, "find", lambda kind, name: added)
    found = metric("tail_recall@5")
    assert (found.registered, found.parameter, found.title) == (True, 5, "Recall of rare classes (tail recall@5)")


def test_two_owners_of_one_name_are_refused(monkeypatch, fresh_registry):
    monkeypatch.setattr(extensions, "names", lambda kind: ("mine",))
    monkeypatch.setattr(extensions, "find", lambda kind, name: (METRICS[0],))
    with pytest.raises(ConfigError, match="registered twice"):
        metric("recall@1")
