"""``clerestory watch drill``: breaks something on purpose, in a throw-away store, and measures how it is noticed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from rich.table import Table

from clerestory.cli.output import PLAIN, Common

if TYPE_CHECKING:
    from clerestory.apps.drill import DrillResult


def drill_(
    kind: Literal["bad-model", "changed-alias", "drift", "full-queue", "killed-process", "slow-disk"] = "bad-model",
    /,
    *,
    list: Annotated[bool, Parameter(negative=())] = False,
    name: str = "",
    common: Common = PLAIN,
) -> int:
    """Break something in a throw-away store with a real server and real requests; exit code 1 if nobody noticed.

    With --home, and if a release of that store is live, a copy of the store is used; it is only read.

    Args:
        kind: What is broken; --list explains each.
        list: Only explain the drills.
        name: The model name in the store of --home (default: the first that has a live release).
    """
    from clerestory.apps.drill import DRILLS, drill
    from clerestory.store import open_store

    if list:
        table = Table(box=None, show_header=False)
        for each, words in DRILLS.items():
            table.add_row(each, words)
        common.out.result(DRILLS, table)
        return 0
    if common.home is None:
        result = drill(kind, common.out, None, name)
    else:
        with open_store(common.home) as source:
            result = drill(kind, common.out, source, name)
    common.out.result(result, f"drill {result.kind} with {result.release}", drill_table(result))
    return int(not result.detected)


def drill_table(result: DrillResult) -> Table:
    """The measurements of a drill."""
    table = Table(box=None, show_header=False)
    found = f"{result.detect_s:.2f} s" if result.detect_s is not None else "not detected"
    back = f"{result.recover_s:.2f} s" if result.recover_s is not None else "-"
    for key, value in (
        ("time to detect", found),
        ("time to recover", back),
        ("requests", f"{result.requests:,}"),
        ("failed", f"{result.failed:,}"),
        ("refused (429)", f"{result.refused:,}"),
        ("bad answers served", f"{result.bad_answers:,}"),
        ("slowest answer", f"{result.slowest_s:.2f} s"),
        ("incident", result.title or "-"),
    ):
        table.add_row(key, value)
    return table
