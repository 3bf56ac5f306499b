"""``clerestory watch drift``: what the drift monitors of the servers have seen, or what they would have seen."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.table import Table

from clerestory.cli.output import PLAIN, Common
from clerestory.core.errors import InputError
from clerestory.core.outputs import check_output, write_output
from clerestory.store import open_store

if TYPE_CHECKING:
    from clerestory.models.protocols import Embedder
    from clerestory.stages.watch.drift.replay import DriftReplay
    from clerestory.stages.watch.drift.settings import DriftSettings
    from clerestory.store import Store

ALARM, TOO_LITTLE = 1, 3


def drift_(
    *,
    name: str = "",
    reset: str = "",
    why: str = "",
    replay: str = "",
    reference: str = "",
    until: str = "",
    split: str = "",
    model: str = "photos",
    window: int = 32,
    max_false_alarms_per_year: float = 1.0,
    slice_by: Annotated[tuple[str, ...], Parameter(negative=())] = (),
    column: Annotated[tuple[str, ...], Parameter(negative=())] = (),
    subject_hours: float = 24.0,
    file_times: Annotated[bool, Parameter(negative=())] = False,
    out: Path | None = None,
    force: Annotated[bool, Parameter(negative=())] = False,
    common: Common = PLAIN,
) -> int:
    """Show what the drift monitors of the servers have seen; with --replay, what they would have seen in a history.

    Exit code 1 if there is an alarm, 3 if there is too little data for one.

    Args:
        name: Only the monitors of this model name.
        reset: Start the monitors of this model name again after an alarm; running servers follow within seconds.
        why: The reason of a reset, for the journal.
        replay: A log of embeddings (Parquet or CSV), or a folder of dated images.
        reference: What the history is compared with: a dataset, a log, or a folder of images.
        until: Instead of --reference: what came before this date (2026-03-01) is the reference.
        split: Only this split of the reference.
        model: The model that embeds images.
        window: How many observations are compared at a time; the reference needs four times as many.
        max_false_alarms_per_year: The budget of false alarms, of all monitors and slices together.
        slice_by: A column whose frequent values are watched on their own.
        column: A further column of the log to watch.
        subject_hours: One person counts once in this many hours.
        file_times: Use the time of a file where an image has no other date.
        out: Write a report with the images, as one HTML file.
        force: Replace an existing report.
    """
    store = open_store(common.home)
    if reset:
        from clerestory.apps.drift_reference import request_reset  # here, because it is heavy

        request_reset(store, reset, why)
        common.out.result({"reset": reset, "why": why}, f"the drift monitors of {reset} start again")
        return 0
    if not replay:
        from clerestory.cli.watch_monitors import show_monitors  # here, because it is heavy

        for given, option in ((reference, "--reference"), (until, "--until"), (out, "--out")):
            if given:
                raise InputError(f"{option} needs a history", "name a log or a folder with --replay")
        return show_monitors(store, name, common)
    if bool(reference) == bool(until):
        raise InputError(
            "a history is compared with one reference", "name it with --reference, or a date with --until 2026-03-01"
        )
    if out is not None:
        check_output(out, force)
    from clerestory.stages.watch.drift.settings import DriftSettings  # here, because numpy is heavy

    settings = DriftSettings(
        max_false_alarms_per_year=max_false_alarms_per_year,
        window=window,
        subject_hours=subject_hours,
        slice_by=slice_by,
        columns=column,
    )
    return _replay(store, replay, reference, until, split, model, settings, file_times, out, force, common)


def _replay(
    store: Store,
    history: str,
    reference: str,
    until: str,
    split: str,
    model: str,
    settings: DriftSettings,
    file_times: bool,
    out: Path | None,
    force: bool,
    common: Common,
) -> int:
    from clerestory.apps import drift_report as words
    from clerestory.apps.drift_sources import DriftSource, open_drift_source, parse_until
    from clerestory.report.drift_page import render_drift
    from clerestory.stages.watch.drift.replay import replay_drift, split_by_time

    moment = parse_until(until) if until else 0.0
    opened: list[Embedder] = []

    def embedder() -> Embedder:
        if not opened:
            opened.append(_open_embedder(store, model))
        return opened[0]

    def source(place: str, split: str, is_dated: bool, file_times: bool) -> DriftSource:
        return open_drift_source(
            place,
            store,
            embedder,
            split=split,
            columns=settings.columns,
            slice_by=settings.slice_by,
            is_dated=is_dated,
            file_times=file_times,
            progress=common.out,
        )

    traffic = source(history, "", True, file_times)
    if until:
        before, after = split_by_time(traffic.table, moment)
        known, traffic = DriftSource(before, traffic.read), DriftSource(after, traffic.read)
    else:
        known = source(reference, split, False, True)
    result = replay_drift(traffic.table, known.table, settings, common.out)
    if out is not None:
        write_output(out, render_drift(words.replay_page(result, traffic, known)), force)
    state, title, lines = words.replay_answer(result)
    mark = {"yes": "✓", "no": "✗", "unsure": "?"}[state]
    common.out.result(
        words.replay_json(result),
        f"{mark} {title}",
        *(f"  {line}" for line in lines),
        "",
        *_tables(result),
        *words.replay_budget(result),
        *(f"{name}: {value}" for name, value in words.replay_facts(result).items()),
        *(f"note: {line}" for line in words.replay_notes(result)),
    )
    if out is not None:
        common.out.write_line(f"report  {out}")
    elif result.alarms:
        common.out.write_line("the images beside the reference: the same command with --out drift.html")
    return ALARM if result.alarms else TOO_LITTLE if result.is_undecided else 0


def _tables(result: DriftReplay) -> list[Table | str]:
    from clerestory.apps.drift_report import episode_sentence, monitor_name, replayed_words

    table = Table("monitor", "slice", "windows", "state", box=None)
    for each in result.monitors.monitors:
        _, words = replayed_words(each)
        table.add_row(monitor_name(each.monitor), each.slice, f"{each.detector.num_windows:,}", words)
    episodes = [
        f"alarm {i + 1}: {monitor_name(alarm.monitor, alarm.slice)}. {episode_sentence(result.episode_of(alarm))}"
        for i, alarm in enumerate(result.alarms)
    ]
    return [table, "", *episodes, *([""] if episodes else [])]


def _open_embedder(store: Store, ref: str) -> Embedder:
    from clerestory.apps.loading import load_model
    from clerestory.models import require_capability

    embedder: Embedder = require_capability(load_model(store, ref)[0], "Embedder", "drift")
    return embedder
