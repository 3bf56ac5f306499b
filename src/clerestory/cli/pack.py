"""``clerestory pack``: shares benchmarks, each as one verifiable folder."""

from __future__ import annotations

from pathlib import Path
from shlex import quote

from rich.table import Table

from clerestory import __version__
from clerestory.apps.starter import DEFAULT_NAME, live_or_starter
from clerestory.cli.output import PLAIN, Common
from clerestory.core.codec import encode
from clerestory.core.digest import short
from clerestory.stages.evaluate.tasks.packs import Pack, add_pack, export_pack, find_task, installed_packs, verify_pack
from clerestory.store import open_store


def export_(task: str, folder: Path, /, *, common: Common = PLAIN) -> None:
    """Write a task with its data, licence and expected result to one folder.

    Args:
        task: A task file, or the name of a pack.
        folder: The new folder.
    """
    store = open_store(common.home)
    pack = export_pack(find_task(task, store), folder, __version__, common.out)
    _show(pack, common, f"written to {folder}")
    common.out.next(f"clerestory pack verify {quote(str(folder))}")


def add_(folder: Path, /, *, why: str = "", common: Common = PLAIN) -> None:
    """Verify a pack and add it; from then on its name is enough to run it.

    Args:
        folder: The folder of the pack.
        why: The reason, for the journal.
    """
    store = open_store(common.home)
    pack = add_pack(store, folder, why=why)
    _show(pack, common, "added")
    model, _ = live_or_starter(store, f"{DEFAULT_NAME}@live")
    common.out.next(f"clerestory evaluate {model} --task {quote(pack.name)}")


def verify_(folder: Path, /, *, common: Common = PLAIN) -> None:
    """Verify a pack: its digests, its task, its images and its licence.

    Args:
        folder: The folder of the pack.
    """
    _show(verify_pack(folder), common, "all digests match")
    common.out.next(f"clerestory pack add {quote(str(folder))}")


def list_(*, common: Common = PLAIN) -> None:
    """List the packs that were added."""
    known = installed_packs(open_store(common.home))
    table = Table("name", "version", "licence", "data", "expected", box=None)
    for pack in known:
        expected = f"{pack.baseline.metric} {pack.baseline.value:g} ({pack.baseline.model})" if pack.baseline else ""
        table.add_row(pack.name, str(pack.version), ", ".join(pack.licences), short(pack.data), expected)
    common.out.result([_facts(pack) for pack in known], *([table] if known else ["there are no packs yet"]))


def _facts(pack: Pack) -> dict[str, object]:
    return {**encode(pack), "digest": pack.digest}


def _show(pack: Pack, common: Common, status: str) -> None:
    table = Table(box=None, show_header=False)
    table.add_row("pack", f"{pack.name}, version {pack.version}: {status}")
    table.add_row("licence", ", ".join(pack.licences))
    table.add_row("digest", pack.digest)
    table.add_row("data", pack.data)
    if pack.baseline:
        b = pack.baseline
        table.add_row("expected", f"{b.metric} {b.value:g} ({b.low:g} to {b.high:g}) for {b.model}")
    common.out.result(_facts(pack), table)
