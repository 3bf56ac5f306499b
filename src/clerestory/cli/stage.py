"""The generic command of a stage: ``clerestory <verb> MODEL --data NAME --set name=value``.

``clerestory.cli.stage:<kind>`` is the command of the stage of that kind; stages with a module of their own in
``clerestory.cli`` do not use it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.table import Table

from clerestory.cli.help_format import Model
from clerestory.cli.output import PLAIN, Common, Output
from clerestory.cli.settings import read_settings, settings_table
from clerestory.core.codec import encode
from clerestory.core.errors import ConfigError, Undecided
from clerestory.core.evidence import Evidence
from clerestory.core.stage import StageSpec, import_object, stages


def __getattr__(kind: str) -> Callable[..., int]:
    spec = stages().get(kind)
    if spec is None or not spec.run:
        raise AttributeError(f"module {__name__!r} has no attribute {kind!r}")
    return _command(spec)


def _command(spec: StageSpec) -> Callable[..., int]:
    def command(
        model: Model = "icons@live",
        /,
        *,
        data: str = "icons",
        set_: Annotated[tuple[str, ...], Parameter(name="--set", negative=())] = (),
        config: Path | None = None,
        settings: Annotated[bool, Parameter(negative=())] = False,
        common: Common = PLAIN,
    ) -> int:
        if settings:
            common.out.result(*settings_table(_config_type(spec)))
            return 0
        return run_stage(spec, model, data, read_settings(_config_type(spec), config, {}, set_), common)

    command.__name__ = spec.kind
    command.__doc__ = f"""{spec.help}

    Exit code 1 when a finding failed, 3 when there is no measurement; the findings have the reasons.

    Args:
        data: The name of a dataset, or any source that "data add" accepts.
        set_: Any setting by its name, such as name=value; may be given several times.
        config: A TOML file with settings; --set overrides it.
        settings: Only list every setting with its default, range and meaning.
    """
    return command


def run_stage(spec: StageSpec, ref: str, data: str, config: object, common: Common) -> int:
    """Run a stage on a model and a dataset, print its evidence and return the exit code."""
    from clerestory.apps.datasets import load_dataset  # here, because they import torch
    from clerestory.apps.loading import load_model, privacy_notice
    from clerestory.store import open_store

    out, store = common.out, open_store(common.home)
    if notice := privacy_notice(ref, store):
        out.write_line(f"notice: {notice}")
    model, _ = load_model(store, ref)
    evidence: Evidence = import_object(spec.run)(model, load_dataset(store, data, out), config, store, out)
    show_evidence(evidence, out)
    if not evidence.measurements:
        return Undecided.exit_code
    return 1 if any(finding.state == "fail" for finding in evidence.findings) else 0


def show_evidence(evidence: Evidence, out: Output) -> None:
    """Print every measurement and finding."""
    from clerestory.cli.summary import everything  # here, because it imports numpy

    findings = Table("finding", "where", "message", box=None)
    for finding in evidence.findings:
        findings.add_row(finding.code, finding.where, finding.message)
    tables = [everything(evidence), findings] if evidence.findings else [everything(evidence)]
    out.result({"id": evidence.id, **encode(evidence)}, *tables, f"evidence  {evidence.id}")


def _config_type(spec: StageSpec) -> type:
    config = import_object(spec.config) if spec.config else None
    if not isinstance(config, type):
        raise ConfigError(f"the stage {spec.kind} has no settings", "correct the config of its StageSpec")
    return config
