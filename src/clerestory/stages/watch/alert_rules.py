"""Alerting rules for Prometheus, over the metrics that a server publishes at ``/metrics``."""

from __future__ import annotations

import json
from dataclasses import dataclass

from clerestory.core.settings import check_settings
from clerestory.stages.watch.checks import IncidentConfig


@dataclass(frozen=True, slots=True)
class AlertingRule:
    """One rule.

    Attributes:
        name: of the alert.
        expr: in PromQL.
        hold: how long it must hold, such as 5m.
        severity: critical, error or warning.
        summary: one sentence; may contain Prometheus' templates.
        runbook: the name of an included runbook.
    """

    name: str
    expr: str
    hold: str
    severity: str
    summary: str
    runbook: str

    def __post_init__(self) -> None:
        check_settings(self)


def alerting_rules(config: IncidentConfig, job: str = "clerestory") -> list[AlertingRule]:
    """The rules, with the limits of the server's own checks.

    Args:
        config: the limits.
        job: the name of the scrape job.
    """
    at = f'{{job="{job}"}}'
    requests = f'rate(clerestory_requests_total{{job="{job}",route=~"/v1/.*"}}[5m])'
    failed = f'rate(clerestory_requests_total{{job="{job}",route=~"/v1/.*",status=~"5.."}}[5m])'
    rejected = f"sum by (instance) (rate(clerestory_rejections_total{at}[5m]))"
    p95 = (
        "histogram_quantile(0.95, sum by (instance, le) "
        f'(rate(clerestory_request_duration_seconds_bucket{{job="{job}",route=~"/v1/.*"}}[5m])))'
    )
    return [
        AlertingRule(
            "ClerestoryDown", f"up{at} == 0", "1m", "critical", "{{ $labels.instance }} is down", "server-lost"
        ),
        AlertingRule(
            "ClerestoryNotReady",
            f"clerestory_ready{at} == 0",
            "5m",
            "error",
            "{{ $labels.instance }} is not ready",
            "model-does-not-load",
        ),
        AlertingRule(
            "ClerestoryErrors",
            f"sum by (instance) ({failed}) / sum by (instance) ({requests}) > {config.max_failed:g}",
            "2m",
            "critical",
            "{{ $value | humanizePercentage }} of the requests to {{ $labels.instance }} fail",
            "errors",
        ),
        AlertingRule(
            "ClerestorySlow",
            f"{p95} > {config.slow_seconds:g}",
            "5m",
            "error",
            "the 95th percentile of {{ $labels.instance }} is {{ $value | humanizeDuration }}",
            "latency",
        ),
        AlertingRule(
            "ClerestoryOverloaded",
            f"{rejected} / ({rejected} + sum by (instance) ({requests})) > {config.max_refused:g}",
            "5m",
            "error",
            "{{ $labels.instance }} refuses {{ $value | humanizePercentage }} of its requests",
            "latency",
        ),
        # Every server of a store publishes the same counts, so the largest one is taken.
        AlertingRule(
            "ClerestoryCriticalIncident",
            f'max(clerestory_incidents_open{{job="{job}",severity="critical"}}) > 0',
            "0s",
            "critical",
            "{{ $value }} critical incidents are open: clerestory watch incidents list",
            "open-incident",
        ),
        AlertingRule(
            "ClerestoryIncident",
            f'max(clerestory_incidents_open{{job="{job}",severity="error"}}) > 0',
            "5m",
            "error",
            "{{ $value }} incidents are open for 5 minutes: clerestory watch incidents list",
            "open-incident",
        ),
        AlertingRule(
            "ClerestoryNotificationsStuck",
            f"max(clerestory_notification_age_seconds{at}) > {config.outbox_seconds:g}",
            "1m",
            "error",
            "a notification waits for {{ $value | humanizeDuration }}",
            "notifications-stuck",
        ),
    ]


def rules_file(rules: list[AlertingRule]) -> str:
    """The rules as a file for ``rule_files`` of Prometheus; a JSON string is a YAML string."""
    lines = ["groups:", "  - name: clerestory", "    rules:"]
    for rule in rules:
        lines += [
            f"      - alert: {rule.name}",
            f"        expr: {json.dumps(rule.expr)}",
            f"        for: {rule.hold}",
            "        labels:",
            f"          severity: {rule.severity}",
            "        annotations:",
            f"          summary: {json.dumps(rule.summary)}",
            f"          runbook: {json.dumps(rule.runbook)}",
        ]
    return "\n".join(lines) + "\n"
