"""Verify a release bundle with the public key of its signer, and nothing else: no network, no Clerestory.

    python verify.py BUNDLE --key signer.pub [--statement new.rotation.json ...]

Exit code 0: verified; 1: not verified; 2: wrong usage. It needs Python 3.9 or newer and the package ``cryptography``,
and checks all that docs/reference/bundle-format.md prescribes.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import hashlib
import json
import os
import re
import struct
import sys
import time
import unicodedata
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

ATTESTATION, PAYLOAD_TYPE = "attestation.dsse.json", "application/vnd.in-toto+json"
PRE_AUTHENTICATION = b"DSSEv1 28 application/vnd.in-toto+json %d %b"  # what a DSSE signature covers (version 1.0.2)
STATEMENT_TYPE, RELEASE = "https://in-toto.io/Statement/v1", "urn:clerestory:attestation:release:v1"
ROTATION, REVOCATION = "urn:clerestory:attestation:key-rotation:v1", "urn:clerestory:attestation:key-revocation:v1"
MAX_ENVELOPE, CHUNK = 2**26, 2**20  # bytes
TOLERANCE = 300  # seconds between the clocks of the signer and of the verifier
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00")  # one form, so that times compare as text
MALFORMED = (KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError)
Keys = dict[str, Ed25519PublicKey]


class NotVerified(Exception):
    """A reason why something is not verified: its kind, for programs, and a sentence, for people."""


class UnusableKey(Exception):
    """A key, or a statement about keys, that cannot be used; this says nothing about the bundle."""


def load_public_key(content: bytes, where: str) -> Ed25519PublicKey:
    """An Ed25519 public key (PEM, SubjectPublicKeyInfo)."""
    with contextlib.suppress(Exception):  # the library has its own, too
        if isinstance(key := load_pem_public_key(content), Ed25519PublicKey):
            return key
    raise UnusableKey(f"{where} is not an Ed25519 public key in PEM, which begins with BEGIN PUBLIC KEY")


def key_id(key: Ed25519PublicKey) -> str:
    """The fingerprint of a key: SHA-256 of its SubjectPublicKeyInfo (DER)."""
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def open_envelope(content: bytes, keys: Keys, where: str, kinds: Sequence[str]) -> tuple[Any, list[str]]:
    """The in-toto statement of a DSSE envelope, and its signers, which are all known (or the new key of a rotation)."""
    try:
        envelope = json.loads(content)
        payload = base64.b64decode(envelope["payload"], validate=True)
        signatures = {each["keyid"]: base64.b64decode(each["sig"], validate=True) for each in envelope["signatures"]}
        statement, signed = json.loads(payload), PRE_AUTHENTICATION % (len(payload), payload)
        is_ours = statement["_type"] == STATEMENT_TYPE and statement["predicateType"] in kinds
        if not is_ours or not signatures or content != envelope_bytes(payload, signatures):  # other forms hide changes
            raise ValueError("not the prescribed form")
        if statement["predicateType"] == ROTATION:
            new = load_public_key(statement["predicate"]["key"].encode(), where)
            keys = {**keys, key_id(new): new}
        for signer, signature in signatures.items():
            if signer not in keys:
                raise NotVerified("signature", f"{where} was signed with another key than yours: {signer[:16]}")
            keys[signer].verify(signature, signed)
    except InvalidSignature:
        raise NotVerified("signature", f"the signature of {where} is not valid") from None
    except MALFORMED:
        raise NotVerified("signature", f"{where} is not a DSSE envelope in its prescribed form") from None
    return statement, list(signatures)


def envelope_bytes(payload: bytes, signatures: dict[str, bytes]) -> bytes:
    """The one form of an envelope: canonical JSON (RFC 8785), signatures by key."""
    signed = [{"keyid": key, "sig": base64.b64encode(signatures[key]).decode()} for key in sorted(signatures)]
    envelope = {"payload": base64.b64encode(payload).decode(), "payloadType": PAYLOAD_TYPE, "signatures": signed}
    return json.dumps(envelope, sort_keys=True, separators=(",", ":")).encode()


def trusted_keys(given: Sequence[Ed25519PublicKey], statements: dict[str, bytes]) -> tuple[Keys, dict[str, str]]:
    """The trusted keys, and the last time of some of them; rotations and revocations are read in their order."""
    trusted, ends = {key_id(key): key for key in given}, dict[str, str]()
    for where, content in statements.items():
        try:
            statement, signers = open_envelope(content, trusted, where, (ROTATION, REVOCATION))
            old, kind = statement["subject"][0]["digest"]["sha256"], statement["predicateType"]
            end = statement["predicate"]["until"]
            is_refused = kind == ROTATION and (old not in signers or end > ends.get(old, end))
            if is_refused or old not in trusted or not TIME.fullmatch(end):
                raise ValueError("not of the old key, or after its end")
            if kind == ROTATION:
                new = load_public_key(statement["predicate"]["key"].encode(), where)
                trusted[key_id(new)] = new
        except (*MALFORMED, NotVerified):
            raise UnusableKey(f"{where} is damaged, or not a rotation or revocation of a key that you trust") from None
        ends[old] = min(end, ends.get(old, end))
    return trusted, ends


def check_not_future(signed: str) -> None:
    """Refuse a time after the clock of this computer, which nobody can have signed at."""
    if signed > time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(time.time() + TOLERANCE)):
        raise NotVerified("time", f"signed on {signed}, which is in the future by the clock of this computer")


def local_header(name: str, size: int, crc: int) -> bytes:
    """What stands before a file in the zip: version 2.0, UTF-8, stored, 1980-01-01, no extra field."""
    encoded = name.encode()
    return (
        struct.pack("<4s5H3I2H", b"PK\3\4", 20, 0x800, 0, 0, 0x21, crc, *[size % 2**32] * 2, len(encoded), 0) + encoded
    )


def zip_end(entries: Sequence[tuple[str, int, int]]) -> bytes:
    """The directory at the end of the zip, of name, size and CRC-32 of each file."""
    directory, start = b"", 0
    for name, size, crc in entries:
        header = local_header(name, size, crc)
        directory += b"PK\1\2\x14\0" + header[4:30] + struct.pack("<3H2I", 0, 0, 0, 0, start % 2**32) + header[30:]
        start += len(header) + size
    count = len(entries) % 2**16
    return directory + struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, count, count, len(directory), start % 2**32, 0)


class _Zip:
    """The files of a zip in any layout; its bytes must then be those of the one layout that is allowed."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.entries, self.layout = file, list[tuple[str, int, int]](), hashlib.sha256()
        try:
            self.zip = zipfile.ZipFile(file)
        except Exception:  # of many kinds
            raise NotVerified("layout", "this is neither a folder nor a whole zip") from None
        self.infos = {each.filename: each for each in self.zip.infolist() if each.filename[-1:] != "/"}
        first = min((each for each in self.infos if each.endswith(ATTESTATION)), key=len, default=ATTESTATION)
        self.prefix = first[: -len(ATTESTATION)]  # of a folder that was packed

    def chunks(self, name: str, size: int) -> Iterator[bytes]:
        if (info := self.infos.get(self.prefix + name)) is None:
            raise NotVerified("file", f"{name} is missing")
        self.entries.append((name, info.file_size, info.CRC))
        self.layout.update(local_header(*self.entries[-1]))
        with contextlib.suppress(Exception), self.zip.open(info) as file:  # the digest shows any damage
            while size >= 0 and (chunk := file.read(min(size + 1, CHUNK))):
                size -= len(chunk)
                self.layout.update(chunk)
                yield chunk

    def finish(self, names: set[str]) -> Iterator[tuple[str, str]]:
        for name in sorted({*self.infos} - {self.prefix + each for each in names}):
            yield "file", f"{name!r} does not belong to the bundle: it was not signed"
        self.layout.update(zip_end(self.entries))
        self.file.seek(0)
        written = hashlib.sha256()
        for chunk in iter(lambda: self.file.read(CHUNK), b""):
            written.update(chunk)
        if written.digest() != self.layout.digest():
            again = "its files are unchanged, but it was packed again; unpack it and verify the folder"
            yield "layout", f"this is not the zip that was written: {again}"


class _Folder:
    """The files of a folder that was not packed; links are not followed, and no other file or folder is allowed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def chunks(self, name: str, size: int) -> Iterator[bytes]:
        path = self.folder / name
        links = [each for each in (path, *path.parents) if self.folder in each.parents and each.is_symlink()]
        if links or not path.is_file() or path.stat().st_size > size:
            what = "missing" if not os.path.lexists(path) else "larger than it was, or not an ordinary file"
            raise NotVerified("file", f"{name} is {what}")
        with path.open("rb") as file:
            yield from iter(lambda: file.read(CHUNK), b"")

    def finish(self, names: set[str]) -> Iterator[tuple[str, str]]:
        known = {"/".join(name.split("/")[:end]) for name in names for end in range(1, name.count("/") + 2)}
        for path in sorted(self.folder.rglob("*")):  # which does not follow links to folders
            if (name := path.relative_to(self.folder).as_posix()) not in known:
                yield "file", f"{name!r} does not belong to the bundle: it was not signed"


def signed_files(subjects: Any) -> dict[str, tuple[str, int]]:
    """Digest and size of each signed file, in order; every name is safe and unlike all others on any system."""
    files, seen = dict[str, tuple[str, int]](), {ATTESTATION}
    for each in subjects:
        name, digest, size = each["name"], each["digest"]["sha256"], each["annotations"]["size"]
        unsafe = any(part in ("", ".", "..") or part != part.strip(" ").rstrip(".") for part in name.split("/"))
        unsafe |= not name.isprintable() or len(name.encode()) > 1000 or any(letter in name for letter in '\\:*?"<>|')
        folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
        if unsafe or folded in seen:
            raise NotVerified("name", f"{name!r} is not allowed as the name of a file, or equals another in other case")
        if not re.fullmatch("[0-9a-f]{64}", digest) or type(size) is not int or not 0 <= size < 2**63:
            raise ValueError("not a digest and a size")
        files[name] = digest, size
        seen.add(folded)
    return files


def check_release(content: dict[str, bytes], files: dict[str, tuple[str, int]], predicate: Any) -> Iterator[str]:
    """A sentence for each claim that the files of a release contradict."""
    digests = {name: digest for name, (digest, _) in files.items()}
    release, policy, model = (json.loads(content[f"{name}.json"]) for name in ("release", "policy", "model"))
    evidence = {name: json.loads(text) for name, text in content.items() if name.startswith("evidence/")}
    decision, ref, head = release["decision"], f"{release['name']}@{release['number']}", bytes(32)
    *lines, rest = content["journal.jsonl"].split(b"\n")
    for line in lines:
        head = hashlib.sha256(head + line).digest()
    events = [json.loads(line) for line in lines]
    gated = [each["details"].get("release") for each in events if (each["kind"], each["subject"]) == ("gated", ref)]
    signed = {"evidence": {f"{each}.json": each for each in release["evidence"]}}
    signed["model"] = model if predicate["with_model"] else {}
    signed["rows"] = {f"{each['rows']}.parquet": each["rows"] for each in evidence.values() if each["rows"]}
    for folder, expected in signed.items():
        present = {name[len(folder) + 1 :]: digests[name] for name in digests if name.startswith(folder + "/")}
        if present != expected:
            yield f"the files in {folder} are not those that the release names"
    if rest or predicate["journal"] != {"length": len(lines), "head": head.hex()}:
        yield "the journal does not have the signed length and head"
    if gated != [digests["release.json"]] or predicate["release"] != ref:
        yield f"the journal does not record this release as {ref}"
    if events and events[-1]["when"] > predicate["signed"]:
        yield f"the signature is of {predicate['signed']}, before the last record of the journal: a clock was wrong"
    decided = {"model.json": release["model"], "policy.json": decision["policy_digest"]}
    if decision["model"] != release["model"] or not decided.items() <= digests.items():
        yield "the decision was made about another model or under another policy"
    yield from check_decision(decision, policy, evidence)


def check_decision(decision: Any, policy: Any, evidence: dict[str, Any]) -> Iterator[str]:
    """A sentence for each outcome that does not follow from the evidence; comparisons with a release need the rows."""
    reasons, outcomes = decision["reasons"], {reason["outcome"] for reason in decision["reasons"]}
    verdict = "refuse" if "fail" in outcomes else "ship" if outcomes == {"pass"} else "cannot_decide"
    if [r["name"] for r in policy["rules"]] != [r["rule"] for r in reasons] or verdict != decision["verdict"]:
        yield f"the verdict {decision['verdict']} does not follow from the rules of the policy"
    rules = {rule["name"]: rule for rule in policy["rules"]}
    for reason in [each for each in reasons if each["outcome"] != "cannot_decide" and each["rule"] in rules]:
        rule, source = rules[reason["rule"]], evidence[f"evidence/{reason['evidence']}.json"]
        key, floor, passes = (rule["metric"], rule["where"]), rule["at_least"], reason["outcome"] == "pass"
        found = next(each for each in source["measurements"] if (each["name"], each["slice"]) == key)
        if rule["no_worse_by"] is None:
            end = "high" if floor is None else "low"
            value = found["value"] if rule["criterion"] == "value" else found["interval"][end]
            passes = value <= rule["at_most"] if floor is None else value >= floor
        fits = [source["kind"], source["subject"]["model"]] == [rule["evidence"], decision["model"]]
        if not fits or passes != (reason["outcome"] == "pass"):
            yield f"the rule {rule['name']!r} is recorded as {reason['outcome']}, which its evidence contradicts"


def verify_content(source: Path | BinaryIO, keys: Keys, ends: dict[str, str]) -> tuple[list[Any], dict[str, Any]]:
    """The problems (kind, sentence) of a bundle, a folder or an open zip, and its main facts; verified without any."""
    problems, facts, kept = list[Any](), dict[str, Any](), dict[str, bytes]()
    try:
        reader = _Folder(source) if isinstance(source, Path) else _Zip(source)
        envelope = b"".join(reader.chunks(ATTESTATION, MAX_ENVELOPE))
        statement, signers = open_envelope(envelope, keys, "the bundle", (RELEASE,))
        predicate, files = statement["predicate"], signed_files(statement["subject"])
        signed, end = TIME.fullmatch(predicate["signed"])[0], min(ends.get(each, "9") for each in signers)  # type: ignore[index]
        if signed > end:
            raise NotVerified("key", f"signed on {signed}, but signatures of this key are refused after {end}")
        check_not_future(signed)
        for name, (digest, size) in files.items():
            hashed, content, left = hashlib.sha256(), list[bytes](), size
            for chunk in reader.chunks(name, size):
                hashed.update(chunk)
                left -= len(chunk)
                content += [] if name.startswith(("model/", "rows/", "documents/")) else [chunk]
            if hashed.hexdigest() != digest or left:
                problems.append(("file", f"{name} was changed after it was signed"))
            kept[name] = b"".join(content)
        found = [*problems, *reader.finish({*files, ATTESTATION})]
        problems = [each for each in found if each[0] != "layout"] or found  # of a changed zip, the changed files
        problems += [] if problems else [("release", each) for each in check_release(kept, files, predicate)]
        facts = {**predicate, "verdict": json.loads(kept["release.json"])["decision"]["verdict"], "signers": signers}
    except NotVerified as error:
        problems.append(error.args)
    except (*MALFORMED, StopIteration):
        problems.append(("format", "the signed content is not a release in this format, but perhaps in a newer one"))
    return problems, facts


def verify_bundle(bundle: Path, keys: Sequence[Path], statements: Sequence[Path] = ()) -> Any:
    """As ``verify_content``; the keys must not come from the bundle."""
    for path in (*keys, *statements):
        if bundle.resolve() in path.resolve().parents:
            raise UnusableKey(f"{path} is inside the bundle: a key must come from its owner, on another way")
    given = [load_public_key(path.read_bytes(), str(path)) for path in keys]
    trusted, ends = trusted_keys(given, {str(path): path.read_bytes() for path in statements})
    with contextlib.nullcontext(bundle) if bundle.is_dir() else bundle.open("rb") as source:
        return verify_content(source, trusted, ends)


def main() -> int:
    """Verify the bundle that the command line names."""
    parser = argparse.ArgumentParser(description="Verify a release bundle.")
    parser.add_argument("bundle", type=Path, help="the folder or zip")
    parser.add_argument("--key", type=Path, action="append", required=True, help="public key (PEM) of the signer")
    parser.add_argument("--statement", type=Path, action="append", default=[], help="rotation or revocation of a key")
    options = parser.parse_args()
    try:
        problems, facts = verify_bundle(options.bundle, options.key, options.statement)
    except (OSError, UnusableKey) as error:
        parser.error(str(error))  # exit code 2
    lines = [f"NOT VERIFIED: {message}" for _, message in problems] or ["VERIFIED", json.dumps(facts, indent=1)]
    sys.stdout.write("\n".join(lines) + "\n")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
