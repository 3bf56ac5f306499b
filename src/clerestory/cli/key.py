"""``clerestory key``: the keys that sign releases and hash packs."""

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
    from clerestory.store.signing.keys import PublicKey


def make_(path: Path, /, *, owner: str = "", common: Common = PLAIN) -> None:
    """Make a key that signs: the private key at PATH, for you alone, and the public one beside it (PATH.pub).

    Args:
        path: A new file outside of the store; a missing folder is made, for you alone.
        owner: Whose key it is, for the people who get the public key.
    """
    from clerestory.store.signing.keys import make_key, public_path  # here, because they import cryptography
    from clerestory.store.store import store_folder

    made = make_key(path, owner, home=store_folder(common.home))
    public = public_path(path)
    common.out.result(
        {"private": str(path), "public": str(public), **_facts(made.public)},
        f"private key  {path} (keep it to yourself, and a copy in a safe place)",
        f"public key   {public} (hand it out)",
        f"fingerprint  {made.public.id}",
    )
    common.out.next(f"clerestory release bundle icons@live --out release.zip --key {quote(str(path))}")


def list_(folder: Path = Path(), /, *, common: Common = PLAIN) -> None:
    """List the keys in a folder.

    Args:
        folder: The folder.
    """
    from clerestory.store.signing.keys import keys_in  # here, because it imports cryptography

    rows = []
    for path in keys_in(folder):
        try:
            rows.append({"file": str(path), "problem": "", **_described(path)})
        except InputError as error:
            rows.append(
                {"file": str(path), "problem": str(error), **dict.fromkeys(("kind", "id", "created", "owner"), "")}
            )
    table = Table("file", "kind", "fingerprint", "created", "owner", "", box=None)
    for row in rows:
        table.add_row(row["file"], row["kind"], row["id"][:16], row["created"], row["owner"], row["problem"])
    common.out.result(rows, *([table] if rows else [f"there are no keys in {folder}"]))


def show_(path: Path, /, *, common: Common = PLAIN) -> None:
    """Show the fingerprint, owner and date of a key; compare the fingerprint with its owner by phone or in person.

    Args:
        path: The file of a private or public key.
    """
    facts = _described(path)
    table = Table(box=None, show_header=False)
    for name, value in facts.items():
        table.add_row("fingerprint" if name == "id" else name, value)
    common.out.result({"file": str(path), **facts}, table)


def rotate_(
    old: Path,
    new: Path,
    /,
    *,
    why: str,
    owner: str = "",
    force: Annotated[bool, Parameter(negative=())] = False,
    common: Common = PLAIN,
) -> None:
    """Make a new key that takes the place of an old one, and a statement of it that both sign (NEW.rotation.json).

    Who trusts the old key gets the statement and trusts the new one; later signatures of the old one are refused.

    Args:
        old: The private key that is replaced.
        new: A new file for the new private key.
        why: The reason.
        owner: Whose key it is (default: the owner of the old key).
        force: Replace an existing statement.
    """
    from clerestory.core.provenance import now  # here, because they import cryptography
    from clerestory.store.signing.keys import check_clock, make_key, public_path
    from clerestory.store.signing.statements import ROTATION_FILE, read_signing_key, sign_rotation
    from clerestory.store.store import store_folder

    replaced, statement = read_signing_key(old), new.with_name(new.name + ROTATION_FILE)
    check_output(statement, force)
    check_clock([("the making of the old key", replaced.public.created)], now())
    made = make_key(new, owner or replaced.public.owner, home=store_folder(common.home))
    write_output(statement, sign_rotation(replaced, made, made.public.created, why), force)
    files = {"private": str(new), "public": str(public_path(new)), "statement": str(statement)}
    common.out.result(
        {**files, "replaces": replaced.public.id, **_facts(made.public)},
        f"new key      {new}, fingerprint {made.public.id}",
        f"statement    {statement} (hand it out to everybody who has {public_path(old)})",
    )


def revoke_(
    key: Path,
    /,
    *,
    reason: str,
    why: str = "",
    until: str = "",
    by: Path | None = None,
    out: Path | None = None,
    force: Annotated[bool, Parameter(negative=())] = False,
    common: Common = PLAIN,
) -> None:
    """Sign a statement that later signatures of a key are refused (KEY.revocation.json); hand it out.

    Args:
        key: The private key; with --by, its public key is enough.
        reason: compromised, lost, replaced or retired.
        why: The reason in your own words.
        until: The last moment at which its signatures count, such as 2026-05-31 or 2026-05-31T12:00:00+00:00 (default:
            now). Of a stolen key, choose a moment before the theft.
        by: Another private key that its users trust, if the key itself is lost.
        out: The file to write.
        force: Replace an existing statement.
    """
    from clerestory.core.provenance import now  # here, because they import cryptography
    from clerestory.core.settings import one_of
    from clerestory.store.signing.keys import check_clock, read_key
    from clerestory.store.signing.statements import (
        REVOCATION_FILE,
        REVOCATION_REASONS,
        read_signing_key,
        sign_revocation,
        statement_time,
    )

    if reason not in REVOCATION_REASONS:
        raise InputError(f"--reason {reason} is not a reason", f"use {one_of(REVOCATION_REASONS)}")
    signer = read_signing_key(by) if by else read_key(key)  # an owner may revoke a key that was replaced
    revoked = _public(key) if by else signer.public
    end = statement_time(until) if until else now()
    check_clock([("the making of the key that signs", signer.public.created)], now())
    out = out or key.with_name(key.name.removesuffix(".pub") + REVOCATION_FILE)
    write_output(out, sign_revocation(revoked, signer, end, reason, why), force)
    common.out.result(
        {"statement": str(out), "id": revoked.id, "until": end, "reason": reason, "signer": signer.public.id},
        f"{out}: signatures of the key {revoked.id[:16]} after {end} are refused",
        "hand it out to everybody who has the public key",
    )


def _public(path: Path) -> PublicKey:
    from clerestory.store.signing.keys import is_private, read_key, read_public_key

    return read_key(path).public if is_private(path) else read_public_key(path)


def _described(path: Path) -> dict[str, str]:
    from clerestory.store.signing.keys import is_private

    return {"kind": "private" if is_private(path) else "public", **_facts(_public(path))}


def _facts(public: PublicKey) -> dict[str, str]:
    return {"id": public.id, "created": public.created, "owner": public.owner}
