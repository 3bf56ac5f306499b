"""``clerestory watch status``."""

from __future__ import annotations

import time

from rich.table import Table

from clerestory.cli.output import PLAIN, Common
from clerestory.core.codec import encode
from clerestory.core.units import duration, plural
from clerestory.store import open_store
from clerestory.store.operations.rollouts import list_rollouts
from clerestory.store.operations.servers import ServerStatus, list_servers


def status_(name: str = "", /, *, common: Common = PLAIN) -> int:
    """Show what is live, and what each server serves and loads; exit code 1 if a server serves something else.

    Args:
        name: Only this model name.
    """
    store = open_store(common.home)
    store.database.ensure_operations()
    live = {each.name: f"{each.name}@{each.number}" for each in store.aliases(name or None) if each.alias == "live"}
    with store.database.reading() as connection:
        servers = list_servers(connection, name)
        active = [each for each in list_rollouts(connection, name, 20) if each.is_active]
    table = Table("server", "live", "serves", "loads", "in memory", "golden inputs", "heartbeat", box=None)
    for each in servers:
        table.add_row(*_row(each))
    lines = [f"{each} is live" for each in live.values()] or ["no release is live"]
    lines += [f"rollout of {each.ref}: {each.state.value}, {each.weight:.0%} of the requests" for each in active]
    problems = [f"{_where(each)}: {each.problem}" for each in servers if each.problem]
    behind = [each for each in servers if each.is_running() and each.served != live.get(each.name, each.served)]
    common.out.result(
        {
            "live": live,
            "servers": [{**encode(each), "running": each.is_running()} for each in servers],
            "rollouts": [encode(each) for each in active],
            "behind": [each.id for each in behind],
        },
        *lines,
        *([table] if servers else ["no server is running"]),
        *problems,
    )
    if behind:
        common.out.write_line(f"notice: {plural(len(behind), 'server')} do not serve what is live yet")
    return int(bool(behind))


def _row(server: ServerStatus) -> list[str]:
    age = max(0.0, time.time() - server.seen)
    heartbeat = f"{duration(age)} ago" if server.is_running() else f"none for {duration(age)}: it has ended"
    if server.dropped:
        heartbeat += f", {server.dropped} could not be written"
    proved = "as before" if server.proved and server.proved == server.served else "-"
    resident = ", ".join(server.resident) or "-"
    return [
        _where(server),
        server.live or "-",
        server.served or "-",
        server.loading or "-",
        resident,
        proved,
        heartbeat,
    ]


def _where(server: ServerStatus) -> str:
    return f"{server.host}:{server.process}"
