"""``clerestory watch deliver``: delivers the notifications of incidents, without a server or beside one."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.table import Table

from clerestory.cli.output import PLAIN, Common
from clerestory.core.errors import InputError
from clerestory.core.files import expand_user
from clerestory.core.units import plural
from clerestory.store import open_store


def deliver_(
    *, once: Annotated[bool, Parameter(negative=())] = False, settings: Path | None = None, common: Common = PLAIN
) -> int:
    """Deliver the notifications of incidents that wait; a server does it by itself. Ctrl-C stops it.

    Args:
        once: Deliver what is due, then stop; exit code 1 if an attempt failed.
        settings: The file with the channels, tables [[notify]] (default: serve.toml in the folder of the store).
    """
    from clerestory.apps.incident_actions import rollback_action
    from clerestory.stages.watch.incident_policy import policy_in
    from clerestory.stages.watch.notify.config import SERVE_FILE, load_channels
    from clerestory.stages.watch.notify.delivery import Deliverer
    from clerestory.store.operations.outbox import OutboxState, outbox_rows

    store = open_store(common.home)
    file = expand_user(settings) if settings else store.home / SERVE_FILE
    channels = load_channels(file)
    if not channels:
        raise InputError(
            f"{file} has no channel of notification", "add a table [[notify]], as docs/reference/incidents.md says"
        )
    deliverer = Deliverer(store, channels, policy_in(store.home)[0], rollback_action(store))
    if not once:
        deliverer.start()
        common.out.write_line(f"delivering to {', '.join(channel.name for channel in channels)}  (Ctrl-C stops it)")
        try:
            threading.Event().wait()
        finally:
            deliverer.close()
    delivered, failed = deliverer.once()
    with store.database.reading() as connection:
        waiting = outbox_rows(connection, OutboxState.WAITING, limit=100)
    table = Table("channel", "incident", "attempts", "error", box=None)
    for row in waiting:
        table.add_row(row.channel or "-", str(row.payload.get("incident", "")), str(row.attempts), row.error)
    data = {"delivered": delivered, "failed": failed, "waiting": len(waiting)}
    lines = [table] if waiting else []
    common.out.result(data, f"{plural(delivered, 'notification')} delivered, {failed} failed", *lines)
    return int(failed > 0)
