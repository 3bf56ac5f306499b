"""``clerestory data diff``: how two versions of a dataset differ, and why."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.table import Table

from clerestory.cli.output import PLAIN, Common
from clerestory.core.findings import finding_codes
from clerestory.core.outputs import check_output, write_output
from clerestory.core.units import plural

if TYPE_CHECKING:
    from clerestory.data.diff import DataDiff

MAX_SHOWN = 20


def diff_(
    before: str,
    after: str,
    /,
    *,
    csv: Path | None = None,
    force: Annotated[bool, Parameter(negative=())] = False,
    common: Common = PLAIN,
) -> None:
    """Show the samples that were added or removed, and those whose image, captions or split changed.

    Of a version that "data fix" made, each difference has the finding that is its reason. Personal data is not shown.

    Args:
        before: The older version: the name of a dataset, or any source that "data add" accepts.
        after: The newer version.
        csv: Write a row for each difference to this file.
        force: Replace an existing --csv file.
    """
    from clerestory.apps.captioning import captions_csv
    from clerestory.apps.data_fix.differences import compare_versions, shown_values  # here, because they import numpy
    from clerestory.apps.datasets import check_dataset
    from clerestory.store import open_store

    if csv:
        check_output(csv, force)
    store = open_store(common.home)
    for source in (before, after):
        check_dataset(store, source)
    diff = compare_versions(store, before, after, common.out)
    common.out.result(shown_values(diff), *_lines(diff, before, after))
    if csv:
        rows = [
            {
                "sample": each.sample,
                "change": each.change.value,
                "before": each.before,
                "after": each.after,
                "reason": ", ".join(each.reasons),
            }
            for each in shown_values(diff).samples
        ]
        write_output(csv, captions_csv(rows).encode(), force)
        common.out.write_line(f"wrote {csv}")
    elif len(diff.samples) > MAX_SHOWN:
        common.out.next(f"clerestory data diff {quote(before)} {quote(after)} --csv differences.csv")


def _lines(diff: DataDiff, before: str, after: str) -> list[str | Table]:
    if not diff.samples:
        return [f"{before} and {after} have the same {plural(diff.unchanged, 'sample')}"]
    titles = finding_codes()
    table = Table("change", "samples", "reason", "for example", box=None)
    order = list(type(diff.samples[0].change))
    for (change, reasons), count in sorted(diff.counts().items(), key=lambda item: (order.index(item[0][0]), -item[1])):
        example = next(each for each in diff.samples if (each.change, each.reasons) == (change, reasons))
        why = ", ".join(f"{code} {titles[code].title}" if code in titles else code for code in reasons)
        shown = f"{example.sample}: {example.before} → {example.after}" if change == "split" else example.sample
        table.add_row(change.value, f"{count:,}", why, shown)
    return [table, f"{plural(diff.unchanged, 'sample')} unchanged"]
