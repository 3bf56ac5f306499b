"""``clerestory data``: adds and shows datasets."""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path
from shlex import quote
from textwrap import shorten
from typing import Annotated, Literal

from cyclopts import Parameter
from rich.table import Table
from rich.text import Text

from clerestory.apps.caption_language import unmarked_language
from clerestory.apps.captioning import captions_csv
from clerestory.apps.datasets import add_dataset, duplicate_images, load_dataset
from clerestory.apps.loading import known_models
from clerestory.apps.right_model import are_photographs
from clerestory.cli.help_format import FittingModel
from clerestory.cli.output import PLAIN, Common, Output
from clerestory.core.digest import short
from clerestory.core.errors import DataError, InputError
from clerestory.core.evidence import Finding
from clerestory.core.extensions import names
from clerestory.core.outputs import check_output, check_output_folder, write_output
from clerestory.core.sample import Dataset
from clerestory.core.settings import Range, check_number
from clerestory.core.units import plural
from clerestory.data.shards import verify_shards, write_shards
from clerestory.models.languages import LANGUAGE_NAMES
from clerestory.models.protocols import require_capability
from clerestory.stages.train.requirements import check_trainable
from clerestory.stages.train.tune.head.requirements import samples_for_head
from clerestory.store import Store, open_store

MAX_ADDED, MAX_LISTED = 3, 100  # findings of each kind that "data add" and "data show" print
MAX_VALUES = 10
MAX_DUPLICATES = 60  # rows
MAX_EXAMPLES, MAX_CAPTION = 3, 80


def add_(
    source: str,
    /,
    *,
    name: str = "",
    why: str = "",
    new_splits: Annotated[bool, Parameter(negative=())] = False,
    language: str = "",
    force: Annotated[bool, Parameter(negative=())] = False,
    common: Common = PLAIN,
) -> int:
    """Add a folder, a table or the built-in icons under a name.

    Args:
        source: "icons", a folder of images, a table (.csv, .tsv, .jsonl, .json, .parquet), a .tar archive, or
            hf:org/name; also the name of a dataset that was added.
        name: The name of the dataset (default: that of the folder or file).
        why: The reason, for the journal.
        new_splits: Divide the samples anew into train, val and test, in place of the splits that the source assigns.
        language: The language of the captions for which the data names none, such as de (default: en, English).
        force: Replace a dataset of this name that comes from another place.
    """
    if name != source and name in names("data"):
        raise InputError(f"{name!r} is the name of a built-in dataset", "choose another name with --name")
    store = open_store(common.home)
    data = add_dataset(
        store, source, name, why=why, replace=force, new_splits=new_splits, language=language, progress=common.out
    )
    _show(data, common, MAX_ADDED)
    if not language and (found := unmarked_language(data)):
        common.out.write_line(
            f"warning: the captions seem to be {LANGUAGE_NAMES[found]}, and are recorded as English (en); record the "
            f"language with: clerestory data add {quote(data.name)} --language {found}"
        )
    failed = next((finding for finding in data.findings if finding.state == "fail"), None)
    if failed is not None:
        common.out.write_line(f"fix: {failed.fix}; then add it again")
        return 1
    common.out.next(_next_command(store, data, data.name))
    return 0


def list_(*, common: Common = PLAIN) -> None:
    """List the datasets."""
    rows = open_store(common.home).datasets()
    table = Table("name", "samples", "digest", "source", "added", box=None)
    for row in rows:
        table.add_row(row.name, f"{row.size:,}", short(row.digest), row.spec, row.added)
    lines = [table] if rows else ["there are no datasets yet"]
    common.out.result([{"name": r.name, "samples": r.size, "digest": r.digest, "source": r.spec} for r in rows], *lines)
    if not rows:
        common.out.next("clerestory data add icons")


def show_(name: str, /, *, common: Common = PLAIN) -> None:
    """Show one dataset: sizes, groups, licences, and the findings with their reasons.

    Args:
        name: The name of the dataset.
    """
    _show(load_dataset(open_store(common.home), name, Output(quiet=True)), common, MAX_LISTED)


def duplicates_(
    name: str,
    /,
    *,
    near: Annotated[bool, Parameter(negative=())] = False,
    min_similarity: float | None = None,
    model: FittingModel = "",
    csv: Path | None = None,
    force: Annotated[bool, Parameter(negative=())] = False,
    common: Common = PLAIN,
) -> None:
    """List the images that a dataset has more than once, byte for byte; of a folder also what is nearly the same.

    A copy in another split than the first is marked: a model that was trained on one of them is tested on the same.
    A link to a file, or a hard link, is marked as a link; it is not a copy on the disk.

    Args:
        name: The name of a dataset, or any source that "data add" accepts.
        near: Of a folder, three lists: the same bytes, the same image saved anew (another size, quality or format),
            and images that look alike to the model. Nothing is deleted. The name of a dataset stands for its folder.
        min_similarity: With --near, the least similarity of images that look alike, up to 1 (default: chosen for the
            model and the folder, and printed).
        csv: Write the list to this file.
        force: Replace an existing --csv file.
    """
    if min_similarity is not None:
        check_number("--min-similarity", min_similarity, Range(0, 1))
    if csv:
        check_output(csv, force)
    if near:
        _near_duplicates(name, min_similarity, model, csv, force, common)
        return
    data = load_dataset(open_store(common.home), name, common.out)
    groups = duplicate_images(data)
    rows = [
        {
            "group": number,
            "image": each.sample.id,
            "caption": each.sample.caption,
            "split": each.sample.split,
            "other split": each.sample.split != group[0].sample.split,
            "link": each.is_link,
        }
        for number, group in enumerate(groups, start=1)
        for each in group
    ]
    table = Table("group", "image", "caption", "split", "", box=None)
    for row in rows[:MAX_DUPLICATES]:
        mark = f"{row['split']} (differs)" if row["other split"] else str(row["split"])
        link = "link" if row["link"] else ""
        table.add_row(str(row["group"]), str(row["image"]), str(row["caption"]), mark, link)
    spread = len({row["group"] for row in rows if row["other split"]})
    links = sum(each.is_link for group in groups for each in group)
    copies = len(rows) - len(groups) - links
    line = f"{plural(len(groups), 'image')} more than once, {plural(copies, 'copy', 'copies')} of {len(data):,} samples"
    lines: list[str | Table] = (
        [table, line]
        if rows
        else [f"no image of {name} has an exact copy; near-duplicates: clerestory data audit {quote(name)}"]
    )
    if links:
        lines.append(f"{plural(links, 'link')} to the same file, on the disk only once: removing a link frees no space")
    if spread:
        lines.append(f"{plural(spread, 'image')} in more than one split")
    if len(rows) > MAX_DUPLICATES:
        lines.append(f"and {len(rows) - MAX_DUPLICATES:,} more rows (--csv writes all of them)")
    common.out.result(rows, *lines)
    if csv:
        write_output(csv, captions_csv(rows).encode(), force)
        common.out.write_line(f"wrote {csv}")


def _near_duplicates(
    name: str, min_similarity: float | None, ref: str, csv: Path | None, force: bool, common: Common
) -> None:
    """The three lists of duplicates of a folder."""
    from clerestory.apps.folder_index.source import dataset_folder
    from clerestory.apps.right_model import folder_kinds
    from clerestory.apps.tagging import embed_and_tag, open_index
    from clerestory.cli.model_output import load_fitting, name_unreadable

    store = open_store(common.home)
    folder = dataset_folder(store, name)
    if folder is None:
        raise InputError(f"{name} is not a folder of images, which --near needs", "name a folder, such as ./photos")
    loaded = load_fitting(store, ref, partial(folder_kinds, store, folder), common)
    model = require_capability(loaded, "Embedder", "comparing images", known_models(store))
    index = open_index(folder, store, model)
    update = index.update(embed_and_tag(model), common.out)
    name_unreadable(update.unreadable, common.out, update.is_unreadable_known)
    found = index.duplicates(common.out, min_similarity)
    copies, rows = found.copies(), found.rows()
    table = Table("list", "group", "image", "similarity", "", box=None)
    for row in rows[:MAX_DUPLICATES]:
        mark = "copy" if row["can go"] else "hard link" if row["link"] else ""
        table.add_row(str(row["list"]), str(row["group"]), str(row["image"]), f"{row['similarity']:.3f}", mark)
    counts = (
        f"{plural(len(found.same_bytes), 'image')} with the same bytes more than once, "
        f"{plural(len(found.same_image), 'image')} saved anew, "
        f"{plural(len(found.look_alike), 'group')} that look alike (similarity {found.min_similarity:.2f} or more)"
    )
    lines: list[str | Table] = [table] if rows else []
    lines.append(f"{counts}, of {len(index):,} images")
    if copies:
        lines.append(f"{plural(len(copies), 'copy', 'copies')} can go while every image stays; nothing is deleted")
    if found.linked:
        hard = plural(len(found.linked), "image file has hard links", "image files have hard links")
        lines.append(f"{hard}, which never count as copies that can go: removing one frees no space")
    if len(rows) > MAX_DUPLICATES:
        lines.append(f"and {len(rows) - MAX_DUPLICATES:,} more rows (--csv writes all of them)")
    common.out.result(rows, *lines)
    if csv:
        write_output(csv, captions_csv(rows).encode(), force)
        common.out.write_line(f"wrote {csv}")


def shards_(
    name: str,
    folder: Path | None = None,
    /,
    *,
    kind: Literal["parquet", "tar"] = "parquet",
    size: int = 256,
    common: Common = PLAIN,
) -> None:
    """Write a dataset as shards with an index, or verify every byte of them.

    Args:
        name: The name of a dataset, or any source that "data add" accepts; without FOLDER, the folder of shards to
            verify.
        folder: A new folder for the shards.
        kind: parquet, or tar (WebDataset).
        size: MiB of images in a shard.
    """
    if folder is None:
        index, status = verify_shards(name, common.out), "verified"
    else:
        check_output_folder(folder)
        data = load_dataset(open_store(common.home), name, common.out)
        index, status = write_shards(data, folder, kind, size * 2**20, common.out), "written"
    path = str(folder or name)
    line = f"{path}: {plural(index.size, 'sample')} in {plural(len(index.shards), f'{index.kind} shard')}, {status}"
    common.out.result({"folder": path, "status": status, "index": index}, line)
    if folder is not None:
        common.out.next(_next_command(open_store(common.home), data, path))


def _next_command(store: Store, data: Dataset, source: str) -> str:
    """Training where the data has captions to learn from, else search, which needs images alone.

    For photographs that is a head on the included model: a training from scratch would need far more of them.
    """
    try:
        check_trainable(data)
        if are_photographs(store, data):
            samples_for_head(data)
            return f"clerestory tune photos --data {quote(source)}"
    except DataError:
        return f"clerestory serve --data {quote(source)}"
    return f"clerestory train --data {quote(source)}"


def _show(data: Dataset, common: Common, limit: int) -> None:
    """Print what is in a dataset, with up to ``limit`` findings of each kind."""
    counts = {
        "split": Counter(s.split or "(none)" for s in data),
        "licence": Counter(s.licence or "(unknown)" for s in data),
        "language": Counter(lang for s in data for lang in {c.lang for c in s.captions}),
    }
    for group in sorted({key for s in data for key in s.groups}):
        counts[group] = Counter(s.groups.get(group, "(none)") for s in data)
    table = Table(box=None, show_header=False)
    table.add_row("samples", f"{len(data):,}")
    table.add_row("captions", f"{sum(len(s.captions) for s in data):,}")
    # The concept of an image without a caption is made from its digest.
    table.add_row("concepts", f"{len({s.concept for s in data if s.concept != s.image[: len(s.concept)]}):,}")
    table.add_row("digest", data.digest)
    for key, counter in counts.items():
        if not counter:  # the languages of data without captions
            continue
        values = ", ".join(f"{value} {n:,}" for value, n in counter.most_common(MAX_VALUES))
        more = f", and {len(counter) - MAX_VALUES} more" if len(counter) > MAX_VALUES else ""
        table.add_row(key, values + more)
    table.add_row("findings", f"{len(data.findings):,}" if data.findings else "none")
    by_code: dict[str, list[Finding]] = {}
    for finding in data.findings:
        by_code.setdefault(finding.code, []).append(finding)
    for code, found in by_code.items():
        fixes = list(dict.fromkeys(finding.fix for finding in found[:limit] if finding.state != "pass"))
        for finding in found[:limit]:
            table.add_row("", finding.line())
            if len(fixes) > 1 and finding.state != "pass":  # else it would not be clear which one it belongs to
                table.add_row("", Text(f"fix: {finding.fix}", "dim"))
        if len(found) > limit:
            where = f"clerestory data show {quote(data.name)}" if limit < MAX_LISTED else "--json prints all of them"
            table.add_row("", f"{code} {len(found) - limit:,} more ({where})")
        if len(fixes) == 1:
            table.add_row("", Text(f"fix: {fixes[0]}", "dim"))
    captioned = [sample for sample in data if sample.caption]
    for k, sample in enumerate(captioned[:: max(1, len(captioned) // MAX_EXAMPLES)][:MAX_EXAMPLES]):
        table.add_row("" if k else "examples", f"{sample.id}: {shorten(sample.caption, MAX_CAPTION, placeholder=' …')}")
    facts = {"name": data.name, "samples": len(data), "digest": data.digest}
    common.out.result({**facts, "counts": counts, "findings": data.findings}, table)
