"""A release as one folder or zip that a stranger can check with a public key: ``docs/reference/bundle-format.md``.

It holds the release, its policy, evidence and rows, the journal, documents, the model unless it is left out, and the
verifier, all named with their digests in one signed statement. Images of the data are never part of it.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from clerestory import __version__
from clerestory.core.digest import canonical
from clerestory.core.errors import InputError, IntegrityError, NotFound
from clerestory.core.files import atomic_path, make_folder, translate_disk_errors
from clerestory.core.outputs import CHOOSE_FOLDER, check_output, check_output_folder, output_folder
from clerestory.core.release import Release
from clerestory.stages.release.documents import documents
from clerestory.store import Store
from clerestory.store.signing import verify_bundle as verifier
from clerestory.store.signing.keys import SigningKey, check_clock
from clerestory.store.signing.statements import SignedFile, sign_statement, signing_time

CHUNK = 2**20
MAX_ZIP_BYTES, MAX_ZIP_FILES = 2**32 - 1, 2**16 - 2  # without the extensions for larger ones
README = """This folder or zip is a release of a model with its evidence, signed by whoever released it.

To check it, get the public key of the signer from the signer, not from here, and run

    python verify.py BUNDLE --key signer.pub

verify.py needs Python 3.9 or newer and the package cryptography, and no network. It is short: read it, or take it
from the package clerestory (clerestory release verify-bundle). A valid signature shows that nothing was changed since
the holder of the key signed it. It does not show that the measurements are true.
"""


@dataclass(frozen=True, slots=True)
class BundleFile:
    """A file of a bundle: its bytes, or the file that has them."""

    name: str
    content: bytes | Path

    def chunks(self) -> Iterator[bytes]:
        """Its bytes, in pieces."""
        if isinstance(self.content, bytes):
            yield self.content
            return
        with self.content.open("rb") as file:
            while chunk := file.read(CHUNK):
                yield chunk


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle that was written.

    Attributes:
        path: of the folder or zip.
        release: its name and number.
        signer: fingerprint of the key.
        signed: the time that was signed.
        files: the signed files: name, SHA-256, size.
        with_model: whether the files of the model are part of it.
        journal_length, journal_head: of the journal that is part of it.
    """

    path: str
    release: str
    signer: str
    signed: str
    files: tuple[SignedFile, ...]
    with_model: bool
    journal_length: int
    journal_head: str


def write_bundle(
    ref: str,
    store: Store,
    out: Path,
    key: SigningKey,
    *,
    with_model: bool = True,
    force: bool = False,
    more_documents: Mapping[str, bytes] | None = None,
) -> Bundle:
    """Write a release as a bundle and sign it; the same content, key and time give the same bytes.

    The bundle is verified before it appears.

    Args:
        ref: a release, such as ``icons@3``.
        store: holds it.
        out: a new folder, or a file whose name ends in ``.zip``.
        key: signs the bundle.
        with_model: put the files of the model in.
        force: an existing zip may be replaced.
        more_documents: documents that this stage cannot make, such as those about the data, by file name.

    Raises:
        NotFound: the release is unknown, or is a model only.
        InputError: ``out`` cannot be written, or the clock is before the last record of the journal.
        IntegrityError: something in the store is damaged, so the bundle would not be verified.
    """
    check_bundle_output(out, force)
    release = store.resolve(ref).release
    if release is None:
        raise NotFound(f"{ref} is a model, not a release", f"make it one with: clerestory release gate {ref}")
    records, head = store.journal.stored_records()
    events = store.journal.records(limit=1)
    signed = signing_time()
    earliest = [("the last record of the journal", event.event.when) for event in events]
    check_clock([*earliest, ("the making of the key", key.public.created)], signed)
    made = {**documents(release, store), **(more_documents or {})}
    files = [
        *release_files(release, store, with_model),
        BundleFile("journal.jsonl", b"".join(record + b"\n" for record in records)),
        BundleFile("README.txt", README.encode()),
        BundleFile("verify.py", Path(verifier.__file__).read_bytes()),
        *(BundleFile(f"documents/{name}", content) for name, content in made.items()),
    ]
    predicate = {
        "release": release.ref,
        "journal": {"length": len(records), "head": head},
        "signed": signed,
        "with_model": with_model,
        "generator": {"name": "clerestory", "version": __version__},
    }
    described = write_files(out, files, predicate, key)
    return Bundle(str(out), release.ref, key.public.id, signed, described, with_model, len(records), head)


def check_bundle_output(out: Path, force: bool) -> None:
    """Check that a bundle can be written.

    Raises:
        InputError: it cannot, or ``out`` exists.
    """
    if _is_zip(out):
        check_output(out, force)
    else:
        check_output_folder(out)


def write_files(
    out: Path, files: Sequence[BundleFile], predicate: Mapping[str, Any], key: SigningKey
) -> tuple[SignedFile, ...]:
    """Sign files and write them with the signature, to a folder or a zip that is verified before it appears.

    Args:
        out: where.
        files: those of a release.
        predicate: what is stated about them.
        key: signs them.

    Returns:
        Name, digest and size of each file, in the order of the zip.
    """
    files = sorted(files, key=lambda each: each.name.encode())
    described = tuple(_describe(each) for each in files)
    attestation = BundleFile(verifier.ATTESTATION, sign_statement(verifier.RELEASE, described, predicate, [key]))
    trusted = {key.public.id: key.public.key}
    if not _is_zip(out):
        with output_folder(out) as folder:
            for each in [attestation, *files]:
                path = folder / each.name
                make_folder(path.parent)
                with path.open("xb") as target:
                    target.writelines(each.chunks())
            _check(verifier.verify_content(folder, trusted, {})[0])
        return described
    size = sum(each.size for each in described)
    if size > MAX_ZIP_BYTES // 2 or len(files) > MAX_ZIP_FILES:
        fix = "write a folder instead: --out NAME without .zip; or leave the model out: --without-model"
        raise InputError(f"the bundle has {size:,} bytes in {len(files):,} files, which is too much for a zip", fix)
    with translate_disk_errors(out.parent, CHOOSE_FOLDER), atomic_path(out) as temporary:
        with temporary.open("xb") as file:
            _write_zip(file, [attestation, *files])
        with temporary.open("rb") as file:
            _check(verifier.verify_content(file, trusted, {})[0])
    return described


def _is_zip(out: Path) -> bool:
    return out.suffix.lower() == ".zip"


def _check(problems: Sequence[tuple[str, str]]) -> None:
    if problems:
        raise IntegrityError(
            f"the bundle would not be verified: {problems[0][1]}", "find the cause with: clerestory release verify REF"
        )


def release_files(release: Release, store: Store, with_model: bool) -> list[BundleFile]:
    """What a release consists of, each checked against its digest."""
    model = store.model_files(release.model)
    files = [
        BundleFile("release.json", canonical(release)),
        BundleFile("policy.json", store.blobs.get(release.decision.policy_digest)),
        BundleFile("model.json", canonical(model)),
    ]
    rows = set()
    for id in release.evidence:
        evidence = store.evidence(id)
        files.append(BundleFile(f"evidence/{id}.json", store.blobs.get(id)))
        rows.update([evidence.rows] if evidence.rows else [])
    files += [BundleFile(f"rows/{digest}.parquet", store.blobs.get(digest)) for digest in sorted(rows)]
    if with_model:
        if problems := store.verify_model(release.model):
            raise IntegrityError(problems[0].message, problems[0].fix)
        folder = store.model_folder(release.model)
        files += [BundleFile(f"model/{name}", folder / name) for name in model]
    return files


def _describe(file: BundleFile) -> SignedFile:
    hashed, size = hashlib.sha256(), 0
    for chunk in file.chunks():
        hashed.update(chunk)
        size += len(chunk)
    return SignedFile(file.name, hashed.hexdigest(), size)


def _write_zip(target: BinaryIO, files: Sequence[BundleFile]) -> None:
    """Write a zip in the one layout that the verifier accepts."""
    entries = []
    for each in files:
        crc, size = 0, 0
        for chunk in each.chunks():
            crc, size = zlib.crc32(chunk, crc), size + len(chunk)
        entries.append((each.name, size, crc))
        target.write(verifier.local_header(*entries[-1]))
        target.writelines(each.chunks())
    target.write(verifier.zip_end(entries))
