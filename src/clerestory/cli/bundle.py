"""``clerestory release bundle`` and ``release verify-bundle``: a release with its evidence, for a stranger to check."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import Annotated

from cyclopts import Parameter
from rich.table import Table

from clerestory.cli.output import PLAIN, Common
from clerestory.core.errors import InputError
from clerestory.core.files import read_problem
from clerestory.core.units import plural
from clerestory.store import open_store


def bundle_(
    ref: str,
    /,
    *,
    out: Path,
    key: Path,
    without_model: Annotated[bool, Parameter(negative=())] = False,
    force: Annotated[bool, Parameter(negative=())] = False,
    common: Common = PLAIN,
) -> None:
    """Write a release with its evidence, rows, journal and documents to one signed folder or zip.

    Anybody can check it with the public key, without Clerestory. It contains no images of the data.

    Args:
        ref: A release, such as icons@3 or icons@live.
        out: A new folder, or a file whose name ends in .zip.
        key: The private key that signs it (clerestory key make).
        without_model: Leave the files of the model out; their digests stay in.
        force: Replace an existing zip.
    """
    from clerestory.apps.references import release_reference  # here, because they import numpy
    from clerestory.apps.release_bundle import bundle_release
    from clerestory.stages.release.bundle import check_bundle_output
    from clerestory.store.signing.keys import public_path
    from clerestory.store.signing.statements import read_signing_key

    check_bundle_output(out, force)
    store = open_store(common.home)
    signer = read_signing_key(key, home=store.home)
    release = release_reference(store, ref)
    written, problem = bundle_release(
        release, store, out, signer, with_model=not without_model, force=force, progress=common.out
    )
    size = sum(each.size for each in written.files)
    common.out.result(
        written,
        f"{written.path}: {written.release}, {plural(len(written.files), 'file')}, {size:,} bytes, "
        f"{plural(written.journal_length, 'journal record')}",
        f"signed {written.signed} with the key {written.signer[:16]}",
    )
    if problem:
        common.out.write_line(f"notice: no data sheet and no Croissant metadata: {problem}")
    public = quote(str(public_path(key)))
    common.out.next(f"clerestory release verify-bundle {quote(str(out))} --key {public}")


def verify_bundle_(
    bundle: Path,
    /,
    *,
    key: Annotated[tuple[Path, ...], Parameter(negative=())],
    statement: Annotated[tuple[Path, ...], Parameter(negative=())] = (),
    common: Common = PLAIN,
) -> int:
    """Verify a bundle with the public key of its signer, as the verify.py inside it does; exit code 1 if it fails.

    Args:
        bundle: The folder or zip.
        key: The public key of the signer, from the signer and not from the bundle; may be given several times.
        statement: A rotation or revocation of a key, the oldest first; may be given several times.
    """
    from clerestory.store.signing import verify_bundle as verifier  # here, because it imports cryptography

    try:
        problems, facts = verifier.verify_bundle(bundle, key, statement)
    except verifier.UnusableKey as error:
        raise InputError(str(error), "give the public key that its owner handed out") from error
    except OSError as error:
        raise InputError(f"{error.filename} cannot be read: {read_problem(error)}", "correct the path") from error
    result = {"verified": not problems, "problems": [{"kind": k, "message": m} for k, m in problems], **facts}
    if problems:
        common.out.result(result, *(f"✗ {message}" for _, message in problems), f"{bundle} is not verified")
        return 1
    table = Table(box=None, show_header=False)
    for name, value in facts.items():
        table.add_row(name, ", ".join(map(str, value)) if isinstance(value, list) else str(value))
    common.out.result(result, table, f"✓ {bundle} is verified: nothing was changed since it was signed")
    return 0
