"""``clerestory watch feedback``: the quality in service, and late labels from a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from rich.table import Table

from clerestory.cli.output import PLAIN, Common
from clerestory.core.errors import InputError
from clerestory.core.units import plural
from clerestory.store import open_store

if TYPE_CHECKING:
    from clerestory.stages.watch.quality import LabelledShare

FEW = 0.5  # a completeness below which the table says what it means


def feedback_(
    action: Literal["show", "add"] = "show",
    file: Path | None = None,
    /,
    *,
    name: str = "",
    period: Literal["day", "week", "month"] = "week",
    by: Annotated[str, Parameter(help="A fact of the requests to slice by, such as language.")] = "",
    days: int = 90,
    source: str = "labels",
    common: Common = PLAIN,
) -> int:
    """Show the quality in service by the time of the prediction, with the share of predictions that have a label.

    "clerestory watch feedback add late.csv" adds late labels: columns response, kind, value, and if you like item,
    source, key and at. Adding a file twice changes nothing.

    Args:
        action: What to do: show, or add a file.
        file: The CSV file to add.
        name: Only this model name.
        period: The length of time of a row.
        days: How far back, in days.
        source: With add: where labels come from that do not say so.
    """
    store = open_store(common.home)
    if action == "add":
        from clerestory.apps.feedback_intake import add_feedback_file  # here, because it is heavy

        if file is None:
            raise InputError("no file is named", "name a CSV file: clerestory watch feedback add late.csv")
        done = add_feedback_file(store, file, source, common.out)
        lines = [f"{plural(done.added, 'row')} added, {done.known:,} known already, {done.rejected:,} rejected"]
        lines += [f"line {each.line}: {each.problem}" for each in done.problems]
        common.out.result(done, *lines)
        return 1 if done.rejected else 0
    if file is not None:
        raise InputError("only add takes a file", f"run: clerestory watch feedback add {file}")
    import time  # here, with what is heavy

    from clerestory.stages.watch.quality import Period, quality_in_service
    from clerestory.store.operations.predictions import PredictionFilter

    wanted = PredictionFilter(name=name, since=time.time() - days * 86_400)
    rows = quality_in_service(store, wanted, Period(period), by)
    table = Table(f"{period} of", "version", "arm", "slice", "labelled", "right", "thumbs up", "labels from", box=None)
    for row in rows:
        labelled = f"{row.labelled:,} of {row.predictions:,} ({100 * row.completeness:.0f} %)"
        sources = ", ".join(f"{source} {count:,}" for source, count in sorted(row.sources.items()))
        shares = (_share(row.right), _share(row.thumbs_up))
        table.add_row(row.period, row.version, row.arm, str(row.where), labelled, *shares, sources)
    shown: list[str | Table] = [table] if rows else ["no request that could be labelled was answered in this time"]
    if any(row.right and row.completeness < FEW for row in rows):
        shown.append(
            "Where few answers have a label, and people give labels by themselves, the figure is that of the labelled "
            "answers and need not be that of all."
        )
    common.out.result(rows, *shown)
    return 0


def _share(share: LabelledShare | None) -> str:
    if share is None:
        return ""
    if share.low is None or share.high is None:
        return f"{share.value:.2f} of {share.n:,} (no interval: {share.method})"
    return f"{share.value:.2f} ({share.low:.2f}–{share.high:.2f}) of {share.n:,}"
