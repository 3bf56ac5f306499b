"""``clerestory data``: bring pictures in, and look at them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Literal

from rich.table import Table

from clerestory.apps.catalogue import bring_in, dataset
from clerestory.cli.output import PLAIN, Common
from clerestory.core.digest import short
from clerestory.core.sample import Dataset
from clerestory.data.shards import verify_shards, write_shards
from clerestory.store import open_store

FINDINGS_SHOWN = 8


def add_(spec: str, /, *, name: str = "", why: str = "", common: Common = PLAIN) -> None:
    """Bring a folder, a table or the embedded icons in under a name.

    Args:
        spec: "icons", a folder of pictures, or a .parquet, .csv or .jsonl file.
        name: What to call it (default: the folder's or file's own name).
        why: The reason, for the journal.
    """
    data = bring_in(open_store(common.home), spec, name, why=why, progress=common.out)
    _show(data, common)
    common.out.next(f"clerestory train --data {name or data.name}")


def list_(*, common: Common = PLAIN) -> None:
    """What has been brought in."""
    rows = open_store(common.home).datasets()
    table = Table("name", "pictures", "digest", "from", "added", box=None)
    for row in rows:
        table.add_row(row.name, f"{row.size:,}", short(row.digest), row.spec, row.added)
    lines = [table] if rows else ["nothing has been brought in yet"]
    common.out.result([{"name": r.name, "size": r.size, "digest": r.digest, "spec": r.spec} for r in rows], *lines)
    if not rows:
        common.out.next("clerestory data add icons")


def show_(name: str, /, *, common: Common = PLAIN) -> None:
    """One data set: sizes, groups, licences, what was kept out and why.

    Args:
        name: The name it was brought in under.
    """
    _show(dataset(open_store(common.home), name, common.out), common)


def shards_(
    name: str,
    folder: Path | None = None,
    /,
    *,
    kind: Literal["parquet", "tar"] = "parquet",
    size: int = 256,
    common: Common = PLAIN,
) -> None:
    """Write a data set as shards with an index; or check every byte of them.

    Args:
        name: The name of a data set, or what "data add" takes; without FOLDER, the folder of shards to check.
        folder: A new folder for the shards.
        kind: parquet, or tar (WebDataset).
        size: MiB of pictures in a shard.
    """
    if folder is None:
        index, done = verify_shards(name, common.out), "every byte is what was written"
    else:
        data = dataset(open_store(common.home), name, common.out)
        index, done = write_shards(data, folder, kind, size * 2**20, common.out), "written"
    count, place = len(index.shards), str(folder or name)
    shown = f"{place}: {index.size:,} pictures in {count} {index.kind} shard{'s' if count != 1 else ''}, {done}"
    common.out.result({"folder": place, "done": done, "index": index}, shown)
    if folder is not None:
        common.out.next(f"clerestory train --data {place}")


def _show(data: Dataset, common: Common) -> None:
    counts = {
        "split": Counter(s.split or "(none)" for s in data),
        "licence": Counter(s.licence or "(unknown)" for s in data),
        "language": Counter(lang for s in data for lang in {c.lang for c in s.captions}),
    }
    for group in sorted({key for s in data for key in s.groups}):
        counts[group] = Counter(s.groups.get(group, "(none)") for s in data)
    table = Table(box=None, show_header=False)
    table.add_row("pictures", f"{len(data):,}")
    table.add_row("concepts", f"{len({s.concept for s in data}):,}")
    table.add_row("digest", data.digest)
    for key, counter in counts.items():
        shown = ", ".join(f"{value} {n:,}" for value, n in counter.most_common(10))
        more = f", and {len(counter) - 10} more" if len(counter) > 10 else ""
        table.add_row(key, shown + more)
    table.add_row("noticed", f"{len(data.findings):,} findings" if data.findings else "nothing unusual")
    for finding in data.findings[:FINDINGS_SHOWN]:
        table.add_row("", f"{finding.code} {finding.where}: {finding.message}")
    if len(data.findings) > FINDINGS_SHOWN:
        table.add_row("", f"and {len(data.findings) - FINDINGS_SHOWN:,} more (all of them with --json)")
    facts = {"name": data.name, "size": len(data), "digest": data.digest, "counts": counts, "findings": data.findings}
    common.out.result(facts, table)
