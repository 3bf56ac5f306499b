"""``clerestory watch drill``: breaks something on purpose, in a throw-away store, and measures how it is noticed."""

from __future__ import annotations

from typing import Literal

from rich.table import Table

from clerestory.cli.output import PLAIN, Common


def drill_(
    kind: Literal["changed-alias", "killed-process", "full-queue"] = "changed-alias",
    /,
    *,
    common: Common = PLAIN,
) -> int:
    """Break something in a throw-away store with a real server and real requests; exit code 1 if nobody noticed.

    Args:
        kind: The alias live is changed in the database, the server is killed, or its queue is full.
    """
    from clerestory.apps.drill import drill

    result = drill(kind, common.out)
    table = Table(box=None, show_header=False)
    found = f"{result.detect_s:.2f} s" if result.detect_s is not None else "not detected"
    back = f"{result.recover_s:.2f} s" if result.recover_s is not None else "-"
    for name, value in (
        ("time to detect", found),
        ("time to recover", back),
        ("requests", f"{result.requests:,}"),
        ("failed", f"{result.failed:,}"),
        ("refused (429)", f"{result.refused:,}"),
        ("bad answers served", f"{result.bad_answers:,}"),
        ("incident", result.title or "-"),
    ):
        table.add_row(name, value)
    common.out.result(result, f"drill {result.kind}", table)
    return int(not result.detected)
