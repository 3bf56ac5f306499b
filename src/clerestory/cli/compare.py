"""``clerestory compare``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.table import Table
from rich.text import Text

from clerestory.apps.loading import is_external, load_model
from clerestory.cli.evaluate import examined
from clerestory.cli.output import PLAIN, Common
from clerestory.core.codec import encode
from clerestory.core.comparison import Comparison, ComparisonRow
from clerestory.core.errors import Undecided
from clerestory.report.comparison import (
    WORDS,
    flip_answer,
    headline,
    line_name,
    points,
    points_between,
    share,
    write_comparison,
)
from clerestory.stages.compare import CompareConfig, compare
from clerestory.store import open_store

STYLES = {"better": "green", "worse": "red", "no_difference": "dim", "inconclusive": "yellow"}
MARKS = {"better": "✓", "worse": "✗", "no_difference": "=", "inconclusive": "?"}
FLIPS = 5


def compare_(
    a: str,
    b: str,
    /,
    *,
    data: str = "",
    task: Annotated[tuple[str, ...], Parameter(negative=())] = (),
    margin: float = 0.01,
    alpha: float = 0.05,
    report: Path | None = None,
    common: Common = PLAIN,
) -> int:
    """Hold two models against one another, sample by sample.

    Exit code 0 when nothing is worse, 1 when something is, 3 when it cannot be told.

    Args:
        a: The model in question: a release (icons@3), a digest, hf:org/name, or openai:http://host/v1#model.
        b: What it is held against, such as icons@live.
        data: The data set both were examined on (default: icons, or the data of the first --task).
        task: A task of your own that both were examined on: its file, its pack's folder or name.
        margin: The largest difference that does not matter; 0.01 is one point.
        alpha: How often a difference may be claimed where there is none.
        report: An .html file (or a folder) for a page with the flipped pictures.
    """
    store = open_store(common.home)
    pictures = examined(store, data, task, common.out)
    digests = {ref: load_model(store, ref)[0].digest for ref in (a, b) if is_external(ref)}
    asked = "".join(f" --task {each}" for each in task)
    try:
        found = compare(a, b, store, CompareConfig(margin, alpha), pictures.digest, digests)
    except Undecided as error:
        if error.fix.startswith("clerestory evaluate"):
            raise Undecided(error.message, f"{error.fix}{asked}") from error
        raise
    lines: list[str | Text | Table] = [Text(headline(found), "bold"), _table(found), *_flips(found)]
    lines += [Text(f"not compared: {each.message}", "dim") for each in found.exclusions]
    lines.append(f"evidence  {found.evidence}")
    shown = {**encode(found), "verdict": found.verdict, "headline": headline(found)}
    if report is not None:
        files = write_comparison(found, report, pictures)
        shown["html"] = str(files.html)
        lines.append(f"page      {files.html}")
    common.out.result(shown, *lines)
    if report is None:
        chosen = f" --data {data}" if data else ""
        common.out.next(f"clerestory compare {a} {b}{chosen}{asked} --report compare.html")
    return found.exit_code


def _table(found: Comparison) -> Table:
    """Whole tasks, and the groups of which something else is true than of their task."""
    table = Table(
        "", "what", found.a, found.b, "difference in points", "could see", "p adjusted", "n", "verdict", box=None
    )
    whole = {(line.task, line.split, line.condition): line.outcome for line in found.results if line.is_overall}
    for line in found.results:
        other = line.outcome in ("better", "worse") and line.outcome != whole[line.task, line.split, line.condition]
        if line.is_overall or other:
            table.add_row(*_cells(line))
    return table


def _cells(line: ComparisonRow) -> list[str | Text]:
    style = STYLES[line.outcome]
    name = line_name(line) if line.is_overall else f"  {line_name(line)} · {line.group} {line.value}"
    needs = f", needs {line.additional_rows:,} more" if line.additional_rows else ""
    chance = "" if line.p_adjusted is None else f"{line.p_adjusted:.2g}"
    word = Text(WORDS[line.outcome] + needs, style)
    return [
        Text(MARKS[line.outcome], style),
        name,
        share(line.a),
        share(line.b),
        points_between(line),
        points(line.detectable, sign=False),
        chance,
        f"{line.n:,}",
        word,
    ]


def _flips(found: Comparison) -> list[str | Text | Table]:
    """The furthest flips of each direction, all tasks together."""
    shown: list[str | Text | Table] = []
    for side, name in (("b", found.b), ("a", found.a)):
        mine = sorted((flip for flip in found.flips if flip.correct == side), key=lambda flip: -flip.magnitude)[:FLIPS]
        if mine:
            table = Table(f"only {name} got right", "picture", found.a, found.b, box=None)
            for flip in mine:
                table.add_row(flip.caption, flip.sample, flip_answer(flip, "a"), flip_answer(flip, "b"))
            shown.append(table)
    return shown
