"""``clerestory data fix``: a new version of a dataset without the problems that an audit found."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.table import Table
from rich.text import Text

from clerestory.cli.output import PLAIN, Common
from clerestory.cli.settings import read_settings
from clerestory.core.findings import finding_codes
from clerestory.core.units import plural

if TYPE_CHECKING:
    from clerestory.apps.data_fix.plan import FixPlan


def fix_(
    data: str,
    /,
    *,
    out: Path | None = None,
    name: str = "",
    only: Annotated[tuple[str, ...], Parameter(negative=())] = (),
    plan: Annotated[bool, Parameter(negative=())] = False,
    model: str = "",
    who: str = "",
    why: str = "",
    force: Annotated[bool, Parameter(negative=())] = False,
    set_: Annotated[tuple[str, ...], Parameter(name="--set", negative=())] = (),
    config: Path | None = None,
    common: Common = PLAIN,
) -> None:
    """Audit a dataset and write a new version of it without the problems; the dataset itself is never changed.

    Fixes that need no judgement are made: unreadable and blank images and exact copies are dropped, copies of training
    images leave the evaluation splits, coordinates leave the files, personal data in captions gets a placeholder. Other
    fixes are proposed, and made when their code is named with --only. Accepted findings stay as they are.

    Args:
        data: The name of a dataset, or any source that "data add" accepts.
        out: The new version: a file such as clean.parquet, or a new folder of images with a table.
        name: Its name as a dataset (default: that of --out); without --out it is kept in the store.
        only: The code of a finding to fix, and only those that are named; may be given several times.
        plan: Only show what would be done.
        model: Also find captions that do not fit their image by the embeddings of this model, such as photos.
        who: The person, for the journal (default: your login name).
        why: The reason, for the journal.
        force: Replace an earlier version at this place, or of this name.
        set_: Any setting of the audit by its name, such as min_sharpness=0.3; may be given several times.
        config: A TOML file with settings of the audit; --set overrides it.
    """
    from clerestory.apps.data_fix.run import check_fix, make_version, plan_fix  # here, because they import numpy
    from clerestory.apps.datasets import check_dataset
    from clerestory.stages.audit.config import AuditConfig
    from clerestory.store import open_store

    chosen = read_settings(AuditConfig, config, {}, set_)
    store = open_store(common.home)
    check_dataset(store, data)
    if not plan:
        check_fix(store, data, out, name, force)
    planned = plan_fix(store, data, chosen, only, common.out, model)
    lines = _lines(planned.plan, data, len(planned.data))
    shown = {"plan": planned.plan, "made_from": planned.data.digest, "audit": planned.evidence.id}
    if plan or not planned.plan.fixes:
        common.out.result({**shown, "version": None}, *lines)
        if plan and planned.plan.fixes:
            only_ = "".join(f" --only {code}" for code in only)
            common.out.next(f"clerestory data fix {quote(data)}{only_} --out clean.parquet")
        return
    version = make_version(store, planned, out, name, who=who, why=why, force=force, progress=common.out)
    if version.unstripped:
        kept = plural(len(version.unstripped), "file is", "files are")
        lines.append(f"{kept} too damaged to remove the metadata, and unchanged: {version.unstripped[0]}")
    state = "written" if version.is_new else "was there already"
    lines.append(Text(f"{version.name}: {plural(version.samples, 'image')} in {version.place}, {state}", "bold green"))
    common.out.result({**shown, "version": version}, *lines)
    common.out.next(f"clerestory data audit {quote(version.name)}")


def _lines(plan: FixPlan, data: str, samples: int) -> list[str | Table | Text]:
    from clerestory.apps.data_fix.rules import RULE_OF, FixAction

    titles = finding_codes()
    lines: list[str | Table | Text] = []
    table = Table("", "finding", "images", "fix", box=None)
    for (code, action), count in sorted(plan.counts().items()):
        rule = RULE_OF[code]
        what = rule.what if action is rule.action else f"{FixAction.DROP}: copies in the split of the held-out style"
        table.add_row(Text("fix", "green"), f"{code} {titles[code].title}", f"{count:,}", what)
    for each in plan.proposed:
        code = each.rule.code.code
        what = f"{each.rule.what}: --only {code}"
        table.add_row(Text("proposed", "dim"), f"{code} {each.rule.code.title}", f"{each.samples:,}", what)
    if table.row_count:
        lines.append(table)
    dropped = len({fix.sample for fix in plan.fixes if fix.action is FixAction.DROP})
    changed = len({fix.sample for fix in plan.fixes}) - dropped
    if plan.fixes:
        lines.append(
            f"{plural(dropped, 'image')} dropped and {changed:,} changed of {samples:,}; {samples - dropped:,} are left"
        )
    else:
        lines.append(f"there is nothing to fix in {data}" + (" without a decision of yours" if plan.proposed else ""))
    if plan.accepted:
        lines.append(f"accepted, and not fixed: {', '.join(plan.accepted)}")
    if plan.left_out:
        lines.append(
            f"{plural(plan.left_out, 'row or image', 'rows or images')} of the source cannot be read, so the new "
            f"version does not have {'it' if plan.left_out == 1 else 'them'} either: clerestory data show {quote(data)}"
        )
    return lines
