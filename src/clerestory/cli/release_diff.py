"""``clerestory release diff``."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import Annotated

from cyclopts import Parameter
from rich.table import Table
from rich.text import Text

from clerestory.apps.datasets import evaluated_data
from clerestory.apps.references import release_reference
from clerestory.cli.output import PLAIN, Common, Output
from clerestory.core.comparison import ComparisonOutcome, MetricDifference
from clerestory.core.errors import ClerestoryError, Undecided
from clerestory.core.outputs import check_output, write_output
from clerestory.core.release import Release
from clerestory.core.sample import Dataset
from clerestory.core.units import plural
from clerestory.report.comparison import flip_answer, write_release_diff
from clerestory.report.files import page_files
from clerestory.report.release_diff import WORDS, DiffRow, ReleaseDiff, diff_csv, diff_json, diff_rows, evaluation_of
from clerestory.stages.compare import CompareConfig, compare
from clerestory.stages.compare.metric_differences import metric_differences
from clerestory.stats.metrics import metric
from clerestory.store import Store, open_store

STYLES = {"better": "green", "worse": "red", "no_difference": "dim", "inconclusive": "yellow"}
MARKS = {"better": "✓", "worse": "✗", "no_difference": "=", "inconclusive": "?"}
CHANGES = {"same": "=", "changed": "≠", "added": "+", "removed": "−"}
MAX_METRICS, MAX_FLIPS = 30, 5


def diff_(
    a: Annotated[str, Parameter(help="The earlier release, such as icons@2 or icons@live.")],
    b: Annotated[str, Parameter(help="The later release, which the results are about.")],
    /,
    *,
    margin: float = 0.01,
    alpha: float = 0.05,
    report: Path | None = None,
    csv: Path | None = None,
    force: Annotated[bool, Parameter(negative=())] = False,
    common: Common = PLAIN,
) -> int:
    """Show what changes from release A to release B: data, model, evidence, licences, policy and decision.

    Every measurement that both have is better, worse, same or cannot tell, by paired samples. Exit code 0 when nothing
    is worse, 1 when something is, 3 when the data cannot show it.

    Args:
        margin: The largest difference that does not matter; 0.01 is one percentage point.
        alpha: The rate of false claims of a difference, over all results together (family-wise error rate).
        report: An .html file (or a folder) for a page with the flipped images.
        csv: Write every line to this file.
        force: Replace the files of an earlier --report or --csv.
    """
    if csv is not None:
        check_output(csv, force)
    store = open_store(common.home)
    first, second = (_release(store, ref) for ref in (a, b))
    if report is not None:
        page_files(report, f"{first.ref}-to-{second.ref}", force)
    images = _images(store, second, common.out) if report is not None else None
    diff = _diff(store, first, second, CompareConfig(margin, alpha), images)
    result, lines = diff_json(diff), _lines(diff)
    if report is not None:
        files = write_release_diff(diff, report, images, force)
        result["html"] = str(files.html)
        lines.append(f"page      {files.html}")
    if csv is not None:
        write_output(csv, diff_csv(diff).encode(), force)
        common.out.write_line(f"wrote {csv}")
    common.out.result(result, *lines)
    if diff.command:
        common.out.next(diff.command)
    elif report is None:
        common.out.next(f"clerestory release diff {quote(a)} {quote(b)} --report diff.html")
    return diff.exit_code


def _diff(store: Store, a: Release, b: Release, config: CompareConfig, images: Dataset | None) -> ReleaseDiff:
    rows = diff_rows(store, a, b, images)
    if a.model == b.model:
        return _same_model(store, a, b, rows, config)
    try:
        comparison = compare(b.ref, a.ref, store, config)
    except Undecided as error:
        return ReleaseDiff(a, b, rows, why_not=error.message, command=error.fix)
    evaluations = (store.evidence(comparison.evidence_a), store.evidence(comparison.evidence_b))
    metrics = metric_differences(*evaluations, store, config, (b.ref, a.ref))
    return ReleaseDiff(a, b, rows, comparison, metrics)


def _same_model(store: Store, a: Release, b: Release, rows: tuple[DiffRow, ...], config: CompareConfig) -> ReleaseDiff:
    """Two releases of one model: the same on the same data; on other data their numbers are only side by side."""
    one, two = evaluation_of(store, a), evaluation_of(store, b)
    if one is None or two is None:
        ref = a.ref if one is None else b.ref
        why = f"same model; the evaluation of {ref} cannot be read, so they cannot be compared"
        return ReleaseDiff(a, b, rows, why_not=why, command=f"clerestory release verify {quote(ref)}")
    if one.subject.data == two.subject.data:
        why = "same model, evaluated on the same data"
        return ReleaseDiff(a, b, rows, why_not=why, is_same_evaluation=True)
    metrics = metric_differences(two, one, store, config, (b.ref, a.ref)) if one.rows and two.rows else ()
    return ReleaseDiff(a, b, rows, None, metrics, "same model; evaluated on other data, so not comparable")


def _images(store: Store, release: Release, out: Output) -> Dataset | None:
    """The data of the evaluation for thumbnails; None where it cannot be opened."""
    from clerestory.cli.evaluate import evaluation_data  # here, because it imports torch

    try:
        return evaluation_data(store, evaluated_data(store, release.model), (), out)
    except ClerestoryError as error:
        out.write_line(f"notice: the page has no images: {error.message}")
        return None


def _release(store: Store, ref: str) -> Release:
    release = store.resolve(release_reference(store, ref)).release
    assert release is not None  # the reference is that of a release
    return release


def _lines(diff: ReleaseDiff) -> list[str | Text | Table]:
    verdict = Text(f"{MARKS[diff.outcome]} from {diff.a.ref} to {diff.b.ref}: ", "bold")
    verdict.append(WORDS[diff.outcome], f"bold {STYLES[diff.outcome]}")
    lines: list[str | Text | Table] = [verdict]
    if diff.why_not:
        lines.append(diff.why_not)
    for name in ("data", "model", "licences", "policy", "decision"):
        changed = diff.section(name, changed_only=True)
        same = len(diff.section(name)) - len(changed)
        rest = f"{plural(same, 'line')} the same" if same else ""
        lines.append(Text(f"\n{name}", "bold"))
        lines.append(_table(changed, diff, rest) if changed else Text(rest or "nothing recorded", "dim"))
    if diff.metrics:
        counted = ", ".join(f"{count} {WORDS[name]}" for name, count in diff.tally.items())
        lines += [Text(f"\nevidence: {plural(len(diff.metrics), 'shared measurement')}, {counted}", "bold")]
        lines.append(_metric_table(diff))
        shown = len(_notable(diff.metrics))
        more = len(diff.metrics) - min(shown, MAX_METRICS)
        lines += [Text(f"{more:,} more (--json and --csv have all of them)", "dim")] if more else []
    return [*lines, *_flip_tables(diff)]


def _table(rows: tuple[DiffRow, ...], diff: ReleaseDiff, rest: str) -> Table:
    table = Table("", "", diff.a.ref, diff.b.ref, rest, box=None)
    for row in rows:
        table.add_row(CHANGES[row.change], row.name, row.a, row.b, row.note)
    return table


def _notable(metrics: tuple[MetricDifference, ...]) -> list[MetricDifference]:
    """Whole tasks, and slices that are better or worse; the worse ones first."""
    order: list[ComparisonOutcome] = ["worse", "better", "inconclusive", "no_difference"]
    kept = [m for m in metrics if metric(m.metric).headline and (m.difference is not None or m.outcome != "better")]
    kept = [m for m in kept if set(m.slice) <= {"task", "split", "operation"} or m.outcome in ("better", "worse")]
    return sorted(kept, key=lambda m: order.index(m.outcome))


def _metric_table(diff: ReleaseDiff) -> Table:
    table = Table("", "metric", "slice", diff.a.ref, diff.b.ref, "difference and interval", "n", "result", box=None)
    for m in _notable(diff.metrics)[:MAX_METRICS]:
        gap = "not paired" if m.difference is None else f"{m.difference:+.4g}"
        if m.low is not None and m.high is not None:
            gap += f" ({m.low:+.4g} to {m.high:+.4g})"
        style = STYLES[m.outcome]
        table.add_row(
            Text(MARKS[m.outcome], style),
            m.metric,
            str(m.slice),
            f"{m.b:.4g}",
            f"{m.a:.4g}",
            gap,
            f"{m.n:,}",
            Text(WORDS[m.outcome], style),
        )
    return table


def _flip_tables(diff: ReleaseDiff) -> list[str | Text | Table]:
    """The flips of the largest magnitude in each direction; the comparison is of B with A."""
    if diff.comparison is None:
        return []
    tables: list[str | Text | Table] = []
    for side, name in (("b", diff.a.ref), ("a", diff.b.ref)):
        flips = sorted((f for f in diff.comparison.flips if f.correct == side), key=lambda flip: -flip.magnitude)
        if flips:
            table = Table(f"only {name} is correct", "sample", diff.a.ref, diff.b.ref, box=None)
            for flip in flips[:MAX_FLIPS]:
                table.add_row(flip.caption, flip.sample, flip_answer(flip, "b"), flip_answer(flip, "a"))
            tables += ["", table]
    return tables
