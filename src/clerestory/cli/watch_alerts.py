"""``clerestory watch alerts``: alerting rules for Prometheus."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from clerestory.cli.output import PLAIN, Common
from clerestory.core.outputs import check_output, write_output


def alerts_(
    *,
    out: Path,
    job: str = "clerestory",
    force: Annotated[bool, Parameter(negative=())] = False,
    common: Common = PLAIN,
) -> None:
    """Write alerting rules for Prometheus, over the metrics of the server.

    Args:
        out: The file to write, such as clerestory-rules.yml.
        job: The name of the scrape job.
        force: Overwrite the file.
    """
    from clerestory.stages.watch.alert_rules import alerting_rules, rules_file
    from clerestory.stages.watch.checks import IncidentConfig

    check_output(out, force)
    rules = alerting_rules(IncidentConfig(), job)
    write_output(out, rules_file(rules).encode(), force)
    common.out.result(rules, f"{len(rules)} rules written to {out}")
    common.out.next(f"promtool check rules {out}")
