"""``clerestory release licences``: which licences reach a model, and which source blocks it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.table import Table
from rich.text import Text

from clerestory.cli.help_format import MODEL_FORMS
from clerestory.cli.output import PLAIN, Common
from clerestory.cli.settings import read_settings, settings_table
from clerestory.core.codec import encode
from clerestory.core.evidence import Evidence
from clerestory.core.licences.terms import REASON_LABELS
from clerestory.core.units import plural

STATES = {
    "passes": ("✓ allowed", "bold green", 0),
    "fails": ("✗ not allowed", "bold red", 1),
    "unknown": ("? cannot decide", "bold yellow", 3),
}


def licences_(
    model: Annotated[str, Parameter(help=f"A {MODEL_FORMS}.")] = "icons@live",
    /,
    *,
    set_: Annotated[tuple[str, ...], Parameter(name="--set", negative=())] = (),
    config: Path | None = None,
    settings: Annotated[bool, Parameter(negative=())] = False,
    common: Common = PLAIN,
) -> int:
    """Follow the licences of everything that a model was made from: allowed (0), not allowed (1), cannot decide (3).

    Without settings the question is whether the model may be used commercially and passed on without sharing it under
    the same licence. The result is evidence, which a policy may use (metric blocking_licences). Not legal advice.

    Args:
        set_: Any setting by its name, such as end=output or licences.commercial_use=false; may be given several times.
        config: A TOML file with settings, such as that of an audit; --set overrides it.
        settings: Only list every setting with its default, range and meaning.
    """
    from clerestory.stages.licences.config import LicencesConfig

    if settings:
        common.out.result(*settings_table(LicencesConfig))
        return 0
    chosen = read_settings(LicencesConfig, config, {}, set_)
    from clerestory.apps.registration import stored_model  # here, because they import torch
    from clerestory.stages.licences.run import check_model_licences
    from clerestory.store import open_store

    store = open_store(common.home)
    check = check_model_licences(stored_model(store, model), store, chosen)
    chain, evidence = check.chain, check.evidence
    table = Table("", "source", "images", "licence", "known", "blocked because", box=None)
    for link in chain.links:
        verdict = link.source.verdict
        refused = verdict.blocks(chosen.licences)
        mark, style = ("?", "yellow") if refused and verdict.state == "unknown" else ("✗", "red")
        table.add_row(
            Text(mark, style) if refused else Text("✓", "green"),
            link.component.name if link.component else link.source.name,
            f"{link.share.images:,}" if link.share and link.share.images else "",
            verdict.expression or "not recorded",
            link.component.basis.value if link.component else "",
            ", ".join(REASON_LABELS[reason] for reason in verdict.reasons) if refused else "",
        )
    label, style, code = STATES[chain.state]
    blocking = round(evidence.measurements[0].value)
    lines = [f"{code}: {fix}" for code, fix in _fixes(evidence).items()]
    text = f"{label}: blocked by {blocking} of {plural(evidence.measurements[0].n, 'source')}"
    common.out.result(
        {"id": evidence.id, **encode(evidence), "components": encode(check.components), "state": chain.state},
        *([table] if chain.links else []),
        Text(text if code else f"{label} by {plural(len(chain.links), 'licence')}", style),
        *lines,
    )
    return code


def _fixes(evidence: Evidence) -> dict[str, str]:
    """What to do, by the code of the findings."""
    return {each.code: each.fix for each in evidence.findings if each.state != "pass"}
