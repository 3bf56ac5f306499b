"""Verify a release bundle with the public key of its signer, and nothing else: no network, no Clerestory.

    python verify.py BUNDLE --key signer.pub [--statement new.rotation.json ...] [--json]

Exit code 0: verified; 1: not verified; 2: wrong usage. Needs Python 3.9 or newer and the package ``cryptography``.
The format, and everything that is checked here, is described in docs/reference/bundle-format.md.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import os
import re
import struct
import sys
import unicodedata
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

ATTESTATION, PAYLOAD_TYPE = "attestation.dsse.json", "application/vnd.in-toto+json"
STATEMENT_TYPE, RELEASE = "https://in-toto.io/Statement/v1", "urn:clerestory:attestation:release:v1"
ROTATION, REVOCATION = "urn:clerestory:attestation:key-rotation:v1", "urn:clerestory:attestation:key-revocation:v1"
MAX_ENVELOPE, CHUNK = 2**26, 2**20  # bytes
KEPT = re.compile(r"(release|policy|model)\.json|journal\.jsonl|evidence/.*")  # files whose content is checked, too
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00")  # one form, so that times compare as text
MALFORMED = (KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError)
Keys = dict[str, Ed25519PublicKey]


class NotVerified(Exception):
    """A reason why something is not verified: its kind, for programs, and a sentence, for people."""


class UnusableKey(Exception):
    """A key, or a statement about keys, that cannot be used; this says nothing about the bundle."""


def load_public_key(content: bytes, where: str) -> Ed25519PublicKey:
    """An Ed25519 public key (PEM, SubjectPublicKeyInfo)."""
    try:
        key = serialization.load_pem_public_key(content)
    except Exception:  # the library has its own, too
        key = None
    if not isinstance(key, Ed25519PublicKey):
        kind = "a private key: give its .pub file" if b"PRIVATE KEY" in content else "not an Ed25519 public key (PEM)"
        raise UnusableKey(f"{where} is {kind}")
    return key


def key_id(key: Ed25519PublicKey) -> str:
    """The fingerprint of a key: SHA-256 of its SubjectPublicKeyInfo (DER)."""
    encoding, form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    return hashlib.sha256(key.public_bytes(encoding, form)).hexdigest()


def pre_authentication(payload: bytes) -> bytes:
    """What a DSSE signature covers (secure-systems-lab/dsse, protocol.md, version 1.0.2)."""
    return b"DSSEv1 %d %s %d %s" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(payload), payload)


def open_envelope(content: bytes, keys: Keys, where: str, kinds: Sequence[str]) -> tuple[Any, list[str]]:
    """The in-toto statement of a DSSE envelope and its signers; every signature must be valid and by a known key.

    The new key of a rotation is taken from the statement; the caller checks that a trusted key has signed, too.
    """
    try:
        envelope = json.loads(content)
        payload = base64.b64decode(envelope["payload"], validate=True)
        signatures = {each["keyid"]: base64.b64decode(each["sig"], validate=True) for each in envelope["signatures"]}
        if content != envelope_bytes(payload, signatures) or not signatures:  # any other form hides changes
            raise ValueError("not the prescribed form")
        statement = json.loads(payload)
        if statement["_type"] != STATEMENT_TYPE or statement["predicateType"] not in kinds:
            raise ValueError("not an in-toto statement of this kind")
        if statement["predicateType"] == ROTATION:
            new = load_public_key(statement["predicate"]["key"].encode(), where)
            keys = {**keys, key_id(new): new}
    except MALFORMED:
        raise NotVerified("signature", f"{where} is not a DSSE envelope in its prescribed form") from None
    for signer, signature in signatures.items():
        if signer not in keys:
            raise NotVerified("signature", f"{where} was signed with another key than yours: {signer[:16]}")
        try:
            keys[signer].verify(signature, pre_authentication(payload))
        except InvalidSignature:
            raise NotVerified("signature", f"the signature of {where} is not valid") from None
    return statement, list(signatures)


def envelope_bytes(payload: bytes, signatures: dict[str, bytes]) -> bytes:
    """The one form of an envelope: canonical JSON (RFC 8785), signatures by key."""
    signed = [{"keyid": key, "sig": base64.b64encode(signatures[key]).decode()} for key in sorted(signatures)]
    envelope = {"payload": base64.b64encode(payload).decode(), "payloadType": PAYLOAD_TYPE, "signatures": signed}
    return json.dumps(envelope, sort_keys=True, separators=(",", ":")).encode()


def trusted_keys(given: Sequence[Ed25519PublicKey], statements: dict[str, bytes]) -> tuple[Keys, dict[str, str]]:
    """The trusted keys, and for some the time after which their signatures are refused, by fingerprint.

    A rotation is signed by a trusted key and by the new one, which takes its place; a revocation by any trusted key.
    Statements are read in their order.
    """
    trusted, ends = {key_id(key): key for key in given}, dict[str, str]()
    for where, content in statements.items():
        try:
            statement, signers = open_envelope(content, trusted, where, (ROTATION, REVOCATION))
            old, kind = statement["subject"][0]["digest"]["sha256"], statement["predicateType"]
            end = statement["predicate"]["until"]
            if not TIME.fullmatch(end) or (kind == ROTATION and end > ends.get(old, end)):
                raise ValueError("not a time, or after the end of the old key")
            if kind == ROTATION and old in trusted and old in signers:
                new = load_public_key(statement["predicate"]["key"].encode(), where)
                trusted[key_id(new)] = new
            elif kind != REVOCATION or old not in trusted:
                raise ValueError("about something else")
        except (*MALFORMED, NotVerified):
            raise UnusableKey(f"{where} is damaged, or not a rotation or revocation of a key that you trust") from None
        ends[old] = min(end, ends.get(old, end))
    return trusted, ends


def local_header(name: str, size: int, crc: int) -> bytes:
    """What stands before a file in the zip: version 2.0, UTF-8, stored, 1980-01-01, no extra field."""
    encoded = name.encode()
    return struct.pack("<4s5H3I2H", b"PK\3\4", 20, 0x800, 0, 0, 0x21, crc, size, size, len(encoded), 0) + encoded


def zip_end(entries: Sequence[tuple[str, int, int, int]]) -> bytes:
    """The directory at the end of the zip, of name, size, CRC-32 and offset of each file."""
    directory = b""
    for name, size, crc, offset in entries:
        header = local_header(name, size, crc)
        directory += b"PK\1\2\x14\0" + header[4:30] + struct.pack("<3H2I", 0, 0, 0, 0, offset) + header[30:]
    start, count = (entries[-1][3] + len(header) + entries[-1][1]), len(entries)
    return directory + struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, count, count, len(directory), start, 0)


class ZipReader:
    """Reads the files of a zip, which must have every byte of the one layout that is allowed."""

    def __init__(self, file: BinaryIO) -> None:
        start = file.read(30)
        self.file, self.entries, self.offset = file, list[tuple[str, int, int, int]](), 0
        self.attestation_size = int.from_bytes(start[22:26], "little")
        file.seek(0)

    def chunks(self, name: str, size: int) -> Iterator[bytes]:
        """The content of the next file, which must be this one."""
        header, crc, left = self.file.read(30 + len(name.encode())), 0, size
        while left and (chunk := self.file.read(min(left, CHUNK))):
            crc, left = zlib.crc32(chunk, crc), left - len(chunk)
            yield chunk
        if left or header != local_header(name, size, crc):
            raise NotVerified("layout", f"{name}, at byte {self.offset} of the zip, was changed or has another form")
        self.entries.append((name, size, crc, self.offset))
        self.offset += len(header) + size

    def finish(self, names: set[str]) -> Iterator[tuple[str, str]]:
        """Problems of what follows the files."""
        end = zip_end(self.entries)
        if self.file.read(len(end) + 1) != end:
            yield "layout", "the directory at the end of the zip is not that of its files, or bytes follow it"


class FolderReader:
    """Reads the files of a folder; links are not followed."""

    def __init__(self, folder: Path) -> None:
        self.folder, attestation = folder, folder / ATTESTATION
        self.attestation_size = attestation.lstat().st_size if os.path.lexists(attestation) else 0

    def chunks(self, name: str, size: int) -> Iterator[bytes]:
        """The content of a file."""
        path, left = self.folder / name, size + 1
        above = [folder for folder in path.parents if self.folder in folder.parents]
        if any(each.is_symlink() for each in (path, *above)) or not path.is_file():
            raise NotVerified("file", f"{name} is {'missing' if not os.path.lexists(path) else 'not an ordinary file'}")
        with path.open("rb") as file:
            while left and (chunk := file.read(min(left, CHUNK))):
                left -= len(chunk)
                yield chunk

    def finish(self, names: set[str]) -> Iterator[tuple[str, str]]:
        """A problem for each file or folder that was not signed."""
        known = {"/".join(name.split("/")[:end]) for name in names for end in range(1, name.count("/") + 2)}
        for top, folders, files in os.walk(self.folder):
            for name in sorted(Path(top, each).relative_to(self.folder).as_posix() for each in folders + files):
                if name not in known:
                    yield "file", f"{name} does not belong to the bundle: it was not signed"


def signed_files(subjects: Any) -> dict[str, tuple[str, int]]:
    """Digest and size of each signed file, in order; every name is safe and unlike all others on any system."""
    files, seen = dict[str, tuple[str, int]](), {ATTESTATION}
    for each in subjects:
        name, digest, size = each["name"], each["digest"]["sha256"], each["annotations"]["size"]
        unsafe = any(part in ("", ".", "..") or part != part.strip(" ").rstrip(".") for part in name.split("/"))
        folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
        if unsafe or len(name.encode()) > 1000 or re.search(r'[\x00-\x1f\x7f\\:*?"<>|]', name) or folded in seen:
            raise NotVerified("name", f"{name!r} is not allowed as the name of a file, or equals another in other case")
        if not re.fullmatch("[0-9a-f]{64}", digest) or type(size) is not int or not 0 <= size < 2**63:
            raise ValueError("not a digest and a size")
        files[name] = digest, size
        seen.add(folded)
    if list(files) != sorted(files, key=str.encode):
        raise ValueError("not in order")
    return files


def check_release(content: dict[str, bytes], files: dict[str, tuple[str, int]], predicate: Any) -> Iterator[str]:
    """A sentence for each claim that the files of a release contradict."""
    digests = {name: digest for name, (digest, _) in files.items()}
    release, policy = json.loads(content["release.json"]), json.loads(content["policy.json"])
    decision, ref = release["decision"], f"{release['name']}@{release['number']}"
    head, lines = bytes(32), content["journal.jsonl"].split(b"\n")
    for line in lines[:-1]:
        head = hashlib.sha256(head + line).digest()
    if lines[-1] or [len(lines) - 1, head.hex()] != [predicate["journal"]["length"], predicate["journal"]["head"]]:
        yield "the journal does not have the signed length and head"
    events = [json.loads(line) for line in lines[:-1]]
    recorded = [
        event["details"].get("release") for event in events if (event["kind"], event["subject"]) == ("gated", ref)
    ]
    if recorded != [digests["release.json"]] or predicate["release"] != ref:
        yield f"the journal does not record this release as {ref}"
    if events and events[-1]["when"] > predicate["signed"]:
        yield f"the signature is of {predicate['signed']}, before the last record of the journal: a clock was wrong"
    if {release["model"], decision["model"], digests["model.json"]} != {release["model"]}:
        yield "the release, its decision and the list of its files name different models"
    model = {f"model/{name}": digest for name, digest in json.loads(content["model.json"]).items()}
    present = {name: digest for name, digest in digests.items() if name.startswith("model/")}
    if present != (model if predicate["with_model"] else {}):
        yield "the files of the model are not those of its list"
    if digests["policy.json"] != decision["policy_digest"]:
        yield "the decision was made under another policy"
    evidence = {name: json.loads(text) for name, text in content.items() if name.startswith("evidence/")}
    if {f"evidence/{each}.json": each for each in release["evidence"]} != {name: digests[name] for name in evidence}:
        yield "the evidence is not that of the release"
    rows = {f"rows/{each['rows']}.parquet": each["rows"] for each in evidence.values() if each["rows"]}
    if rows != {name: digest for name, digest in digests.items() if name.startswith("rows/")}:
        yield "the rows are not those of the evidence"
    yield from check_decision(decision, policy, evidence)


def check_decision(decision: Any, policy: Any, evidence: dict[str, Any]) -> Iterator[str]:
    """A sentence for each outcome that does not follow from the evidence; comparisons with a release need the rows."""
    reasons, outcomes = decision["reasons"], {reason["outcome"] for reason in decision["reasons"]}
    verdict = "refuse" if "fail" in outcomes else "ship" if outcomes == {"pass"} else "cannot_decide"
    if [r["name"] for r in policy["rules"]] != [r["rule"] for r in reasons] or verdict != decision["verdict"]:
        yield f"the verdict {decision['verdict']} does not follow from the rules of the policy"
    decided = [(rule, each) for rule, each in zip(policy["rules"], reasons) if each["outcome"] != "cannot_decide"]  # noqa: B905
    for rule, reason in decided:
        source, key = evidence[f"evidence/{reason['evidence']}.json"], (rule["metric"], rule["where"])
        measured = next(each for each in source["measurements"] if (each["name"], each["slice"]) == key)
        floor, ceiling, passes = rule["at_least"], rule["at_most"], reason["outcome"] == "pass"
        if rule["no_worse_by"] is None:
            interval = {"low": measured["value"], "high": measured["value"]}
            interval = interval if rule["criterion"] == "value" else measured["interval"]
            passes = interval["low"] >= floor if ceiling is None else interval["high"] <= ceiling
        subject = (source["kind"], source["subject"]["model"])
        if passes != (reason["outcome"] == "pass") or subject != (rule["evidence"], decision["model"]):
            yield f"the rule {rule['name']!r} is recorded as {reason['outcome']}, which its evidence contradicts"


def verify_content(
    source: Path | BinaryIO, keys: Keys, ends: dict[str, str]
) -> tuple[list[tuple[str, str]], dict[str, Any]]:
    """The problems of a bundle, a folder or an open zip, and its main facts; verified if there are no problems."""
    problems, facts, kept = list[tuple[str, str]](), dict[str, Any](), dict[str, bytes]()
    reader = FolderReader(source) if isinstance(source, Path) else ZipReader(source)
    try:
        if not 0 < reader.attestation_size <= MAX_ENVELOPE:
            raise NotVerified("layout", f"this is not a release bundle: it does not begin with {ATTESTATION}")
        envelope = b"".join(reader.chunks(ATTESTATION, reader.attestation_size))
        statement, signers = open_envelope(envelope, keys, "the bundle", (RELEASE,))
        predicate, files = statement["predicate"], signed_files(statement["subject"])
        signed, end = predicate["signed"], min(ends.get(signer, "9") for signer in signers)
        if not TIME.fullmatch(signed):
            raise ValueError("not a time")
        if signed > end:
            raise NotVerified("key", f"signed on {signed}, but signatures of this key are refused after {end}")
        for name, (digest, size) in files.items():
            hashed, content = hashlib.sha256(), list[bytes]()
            for chunk in reader.chunks(name, size):
                hashed.update(chunk)
                content += [chunk] if KEPT.fullmatch(name) else []
            if hashed.hexdigest() != digest:
                problems.append(("file", f"{name} was changed after it was signed"))
            kept |= {name: b"".join(content)} if KEPT.fullmatch(name) else {}
        problems += reader.finish({*files, ATTESTATION})
        problems += [] if problems else [("release", each) for each in check_release(kept, files, predicate)]
        verdict = json.loads(kept["release.json"])["decision"]["verdict"]
        facts = {**predicate, "verdict": verdict, "files": len(files), "signers": signers}
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
    if bundle.is_dir():
        return verify_content(bundle, trusted, ends)
    with bundle.open("rb") as file:
        return verify_content(file, trusted, ends)


def main() -> int:
    """Verify the bundle that the command line names."""
    parser = argparse.ArgumentParser(description="Verify a release bundle.")
    parser.add_argument("bundle", type=Path, help="the folder or zip")
    parser.add_argument("--key", type=Path, action="append", required=True, help="public key (PEM) of the signer")
    parser.add_argument("--statement", type=Path, action="append", default=[], help="rotation or revocation of a key")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    try:
        problems, facts = verify_bundle(options.bundle, options.key, options.statement)
    except (OSError, UnusableKey) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    lines = [f"NOT VERIFIED: {message}" for _, message in problems] or [
        "VERIFIED",
        *map("{0[0]}: {0[1]}".format, facts.items()),
    ]
    result = {"verified": not problems, "problems": problems, **facts}
    sys.stdout.write((json.dumps(result) if options.json else "\n".join(lines)) + "\n")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
