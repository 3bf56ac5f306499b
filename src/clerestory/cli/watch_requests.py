"""``clerestory watch requests``: the request log."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.table import Table

from clerestory.cli.output import PLAIN, Common
from clerestory.core.errors import InputError
from clerestory.core.outputs import check_output, write_output
from clerestory.core.units import plural
from clerestory.store import open_store


def requests_(
    *,
    name: str = "",
    number: int | None = None,
    kind: str = "",
    arm: str = "",
    subject: str = "",
    since: str = "",
    until: str = "",
    failed: Annotated[bool, Parameter(negative=())] = False,
    with_feedback: Annotated[bool, Parameter(negative=())] = False,
    limit: int = 50,
    out: Path | None = None,
    force: Annotated[bool, Parameter(negative=())] = False,
    common: Common = PLAIN,
) -> None:
    """List the requests that were answered, the newest first; with --out, write all of them to a CSV file.

    The log has no text and no image: keyed hashes, sizes, times and the version that answered.

    Args:
        name: Only this model name.
        number: Only this release number.
        kind: Only this kind: embeddings, caption, answer, classify or search.
        arm: Only this arm of a rollout: stable, candidate or shadow.
        subject: Only of this user id, which is compared by its keyed hash.
        since: Only from this time on, such as 2026-05-31.
        until: Only before this time.
        failed: Only those with a status of 400 or more.
        with_feedback: Only those with feedback.
        limit: How many to list.
        out: A CSV file for all of them.
        force: Replace that file.
    """
    from clerestory.apps.captioning import captions_csv  # here, because they are heavy
    from clerestory.core.codec import encode
    from clerestory.store.operations.keyed_hash import KeyedHash
    from clerestory.store.operations.predictions import PredictionFilter, count_predictions, list_predictions

    if limit < 1:
        raise InputError(f"--limit {limit} lists nothing", "give a number above 0")
    if out is not None:
        check_output(out, force)
    store = open_store(common.home)
    store.database.ensure_operations()
    hashed = KeyedHash(store.files).of_subject(subject)
    wanted = PredictionFilter(
        name, number, kind, arm, hashed, _time("since", since), _time("until", until), failed, with_feedback
    )
    with store.database.reading() as connection:
        total = count_predictions(connection, wanted)
        items = [item for _, item in list_predictions(connection, wanted, None if out else limit)]
    if out is not None:
        rows = [{**encode(item), "at": _iso(item.at), "facts": str(item.facts)} for item in items]
        write_output(out, captions_csv(rows).encode("utf-8") if rows else b"", force)
        common.out.result({"requests": len(rows), "file": str(out)}, f"{plural(len(rows), 'request')} in {out}")
        return
    table = Table("time", "response", "kind", "version", "arm", "status", "ms", "inputs", box=None)
    for item in items:
        version = f"{item.name}@{item.number}" if item.number else item.name
        cells = (str(item.status), f"{1000 * item.latency_s:.0f}", str(item.inputs))
        table.add_row(_iso(item.at), item.response, str(item.kind), version, str(item.arm), *cells)
    more = f"{len(items):,} of {plural(total, 'request')}" if total > len(items) and not failed else ""
    lines = [table, *([more] if more else [])] if items else ["no request meets these conditions"]
    common.out.result(items, *lines)
    if items:
        common.out.next(f"clerestory watch trace {items[0].response}")


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")


def _time(option: str, text: str) -> float | None:
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise InputError(
            f"--{option} {text!r} is not a time", "write it as 2026-05-31 or 2026-05-31T12:00:00+00:00"
        ) from error
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
