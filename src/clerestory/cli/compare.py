"""``clerestory compare``."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import Annotated

from cyclopts import Parameter
from rich.table import Table
from rich.text import Text

from clerestory.apps.loading import load_model, resolve_stored
from clerestory.cli.evaluate import evaluation_data, task_options
from clerestory.cli.help_format import MODEL_FORMS
from clerestory.cli.output import PLAIN, Common
from clerestory.core.codec import encode
from clerestory.core.comparison import Comparison, ComparisonRow
from clerestory.report.comparison import (
    OUTCOMES,
    comparison_files,
    flip_answer,
    headline,
    points,
    points_between,
    row_name,
    share,
    write_comparison,
)
from clerestory.stages.compare import CompareConfig, compare
from clerestory.store import open_store

STYLES = {"better": "green", "worse": "red", "no_difference": "dim", "inconclusive": "yellow"}
MARKS = {"better": "✓", "worse": "✗", "no_difference": "=", "inconclusive": "?"}
MAX_FLIPS = 5


def compare_(
    a: Annotated[str, Parameter(help=f"The model that the results are about: a {MODEL_FORMS}.")],
    b: Annotated[str, Parameter(help="The model to compare it with, such as icons@live; in the same forms.")],
    /,
    *,
    data: str = "",
    task: Annotated[tuple[str, ...], Parameter(negative=())] = (),
    margin: float = 0.01,
    alpha: float = 0.05,
    report: Path | None = None,
    force: Annotated[bool, Parameter(negative=())] = False,
    common: Common = PLAIN,
) -> int:
    """Compare two models sample by sample.

    Exit code 0 when no result is worse, 1 when one is, 3 when the data cannot show it.

    Args:
        data: The dataset that both were evaluated on (default: icons, or the data of the first --task).
        task: A task that both were evaluated on: its file, the folder of its pack or its name.
        margin: The largest difference that does not matter; 0.01 is one percentage point.
        alpha: The rate of false claims of a difference, over all results together (family-wise error rate).
        report: An .html file (or a folder) for a page with the flipped images.
        force: Replace the files of an earlier --report.
    """
    target = comparison_files(a, b, report, force).html if report is not None else None
    store = open_store(common.home)
    dataset = evaluation_data(store, data, task, common.out)
    digests = {ref: load_model(store, ref)[0].digest for ref in (a, b) if resolve_stored(store, ref) is None}
    comparison = compare(a, b, store, CompareConfig(margin, alpha), dataset.digest, digests, task)
    lines: list[str | Text | Table] = [
        Text(headline(comparison), "bold"),
        _table(comparison),
        *_flip_tables(comparison),
    ]
    lines += [Text(f"not compared: {each.message}", "dim") for each in comparison.exclusions]
    lines.append(f"evidence  {comparison.evidence}")
    result = {**encode(comparison), "verdict": comparison.verdict, "headline": headline(comparison)}
    if target is not None:
        files = write_comparison(comparison, target, dataset, force)
        result["html"] = str(files.html)
        lines.append(f"page      {files.html}")
    common.out.result(result, *lines)
    if report is None and not Path("compare.html").exists():
        options = (f" --data {quote(data)}" if data else "") + task_options(task)
        common.out.next(f"clerestory compare {quote(a)} {quote(b)}{options} --report compare.html")
    return comparison.exit_code


def _table(comparison: Comparison) -> Table:
    """Overall results, and those of groups that differ from the overall result of their task."""
    heads = ("difference in points", "detectable", "p adjusted", "n", "result")
    table = Table("", "task", comparison.a, comparison.b, *heads, box=None)
    overall = {(row.task, row.split, row.condition): row.outcome for row in comparison.results if row.is_overall}
    for row in comparison.results:
        differs = row.outcome in ("better", "worse") and row.outcome != overall[row.task, row.split, row.condition]
        if row.is_overall or differs:
            table.add_row(*_cells(row))
    return table


def _cells(row: ComparisonRow) -> list[str | Text]:
    style = STYLES[row.outcome]
    more = f", needs {row.additional_rows:,} more samples" if row.additional_rows else ""
    return [
        Text(MARKS[row.outcome], style),
        row_name(row) if row.is_overall else f"  {row_name(row)} · {row.group} {row.value}",
        share(row.a),
        share(row.b),
        points_between(row),
        points(row.detectable, sign=False),
        "" if row.p_adjusted is None else f"{row.p_adjusted:.2g}",
        f"{row.n:,}",
        Text(OUTCOMES[row.outcome] + more, style),
    ]


def _flip_tables(comparison: Comparison) -> list[str | Text | Table]:
    """The flips of the largest magnitude in each direction, over all tasks."""
    tables: list[str | Text | Table] = []
    for side, name in (("b", comparison.b), ("a", comparison.a)):
        flips = sorted((flip for flip in comparison.flips if flip.correct == side), key=lambda flip: -flip.magnitude)
        if not flips:
            continue
        table = Table(f"only {name} is correct", "sample", comparison.a, comparison.b, box=None)
        for flip in flips[:MAX_FLIPS]:
            table.add_row(flip.caption, flip.sample, flip_answer(flip, "a"), flip_answer(flip, "b"))
        tables.append(table)
    return tables
