"""``clerestory data pack``: hash packs, by which others find out whether their data contains images or captions."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.table import Table

from clerestory.cli.output import PLAIN, Common
from clerestory.core.errors import InputError
from clerestory.core.outputs import check_output, write_output

if TYPE_CHECKING:
    from clerestory.stages.audit.hash_pack import HashPack


def make_(
    data: Annotated[str, Parameter(name="--data")],
    /,
    *,
    out: Path,
    key: Path,
    name: str = "",
    split: Annotated[tuple[str, ...], Parameter(negative=())] = (),
    salt: str = "",
    force: Annotated[bool, Parameter(negative=())] = False,
    common: Common = PLAIN,
) -> None:
    """Write a hash pack of a dataset: codes of its images and hashes of its captions, signed.

    With it others find copies in their data ("data audit --pack") without getting an image or a caption. A code tells
    a little of how bright and dark areas lie in its image, and whoever guesses a whole caption can confirm it.

    Args:
        data: The name of a dataset, or any source that "data add" accepts.
        out: The file to write, such as benchmark.pack.
        key: The private key that signs it (clerestory key make).
        name: What the findings call the data (default: the name of the dataset).
        split: Only this split, such as test; may be given several times.
        salt: Hexadecimal digits that are hashed with each caption (default: random ones). Packs with the same salt show
            which captions they share.
        force: Replace an existing file.
    """
    from clerestory.apps.datasets import view_dataset  # here, because they import numpy
    from clerestory.stages.audit.hash_pack import make_pack, sign_pack
    from clerestory.stages.audit.image_facts import read_image_facts
    from clerestory.store import open_store
    from clerestory.store.signing.keys import public_path
    from clerestory.store.signing.statements import read_signing_key

    check_output(out, force)
    store = open_store(common.home)
    signer = read_signing_key(key, home=store.home)
    dataset = view_dataset(store, data, common.out)
    if split:
        if unknown := sorted(set(split) - {sample.split for sample in dataset}):
            known = ", ".join(sorted({sample.split for sample in dataset if sample.split})) or "it has no splits"
            raise InputError(f"{data} has no split {unknown[0]!r}", f"splits: {known}")
        dataset = dataset.filter(lambda sample: sample.split in split)
    facts, _ = read_image_facts(dataset, store.answer_cache, common.out)
    captions = (caption.text for sample in dataset for caption in sample.captions)
    pack = make_pack(name or dataset.name, facts["pdq"][:, 0], facts["quality"], captions, salt)
    content = sign_pack(pack, signer)
    write_output(out, content, force)
    _show(pack, out, len(content), common)
    common.out.next(f"clerestory data pack check {quote(str(out))} --key {quote(str(public_path(key)))}")


def check_(pack: Path, /, *, key: Annotated[tuple[Path, ...], Parameter(negative=())], common: Common = PLAIN) -> None:
    """Verify the signature and the content of a hash pack, and show what is in it.

    Args:
        pack: The file.
        key: The public key of whoever signed it; may be given several times.
    """
    from clerestory.stages.audit.hash_pack import read_pack  # here, because they import cryptography
    from clerestory.store.signing.keys import read_public_key

    _show(read_pack(pack, [read_public_key(path) for path in key]), pack, pack.stat().st_size, common)
    keys = " ".join(f"--key {quote(str(path))}" for path in key)
    common.out.next(f"clerestory data audit DATA --pack {quote(str(pack))} {keys}")


def _show(pack: HashPack, path: Path, size: int, common: Common) -> None:
    table = Table(box=None, show_header=False)
    table.add_row("pack", f"{pack.name}: {path}, {size:,} bytes")
    table.add_row("images", f"{len(pack.images):,} ({pack.images_left_out:,} of too little structure left out)")
    table.add_row("captions", f"{len(pack.texts):,} hashes ({pack.captions_left_out:,} captions too short)")
    if pack.signer:
        table.add_row("signed", f"{pack.created} with the key {pack.signer[:16]}")
    facts = {
        "file": str(path),
        "name": pack.name,
        "images": len(pack.images),
        "images_left_out": pack.images_left_out,
        "texts": len(pack.texts),
        "captions_left_out": pack.captions_left_out,
        "salt": pack.salt,
    }
    common.out.result({**facts, "created": pack.created, "signer": pack.signer, "digest": pack.digest}, table)
