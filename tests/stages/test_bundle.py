"""Bundles: every change is detected, and nothing else is."""

from __future__ import annotations

import ast
import base64
import hashlib
import io
import json
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from time import process_time, time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.release_life import Life

from clerestory.core.digest import canonical
from clerestory.core.errors import InputError, IntegrityError, NotFound
from clerestory.core.provenance import now
from clerestory.stages.release.bundle import BundleFile, release_files, write_bundle, write_files
from clerestory.store import Store, open_store
from clerestory.store.signing import verify_bundle as verifier
from clerestory.store.signing.keys import SigningKey, make_key, public_path

MAX_BYTES = 20_000
REPACKED = (
    "this is not the zip that was written: its files are unchanged, but it was packed again; unpack it and verify the "
    "folder"
)


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> SigningKey:
    return make_key(tmp_path_factory.mktemp("keys") / "ada.key", "Ada")


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> Life:
    folder = tmp_path_factory.mktemp("life")
    made = Life(open_store(folder / "home"), folder / "models")
    made.release()
    return made


@pytest.fixture(scope="module")
def small(life: Life, key: SigningKey, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A zip of at most 20 KB: the documents and the verifier, of which every byte is like another, are left out."""
    path = tmp_path_factory.mktemp("small") / "small.zip"
    write_files(path, small_files(life.store), predicate(life.store), key)
    assert path.stat().st_size <= MAX_BYTES
    return path


def small_files(store: Store) -> list[BundleFile]:
    release = store.resolve("icons@1").release
    assert release is not None
    records, _ = store.journal.stored_records()
    journal = BundleFile("journal.jsonl", b"".join(record + b"\n" for record in records))
    return [*release_files(release, store, True), journal, BundleFile("verify.py", b"")]


def predicate(store: Store, **other: Any) -> dict[str, Any]:
    length, head = store.journal.head()
    journal = {"length": length, "head": head}
    return {
        "release": "icons@1",
        "journal": journal,
        "signed": now(),
        "with_model": True,
        **other,
    }


def problems(content: bytes | Path, key: SigningKey, **ends: str) -> list[tuple[str, str]]:
    source = content if isinstance(content, Path) else io.BytesIO(content)
    return verifier.verify_content(source, {key.public.id: key.public.key}, ends)[0]


def test_every_changed_byte_of_a_zip_is_detected(small: Path, key: SigningKey) -> None:
    content = bytearray(small.read_bytes())
    assert problems(bytes(content), key) == []
    for at, value in enumerate(content):
        for other in (value ^ 1, value ^ 0x80):
            content[at] = other
            assert problems(content, key), f"byte {at}"  # type: ignore[arg-type]  # a bytearray is read as bytes are
        content[at] = value
    assert problems(bytes(content), key) == []


def test_every_changed_byte_of_a_folder_is_detected(small: Path, key: SigningKey, tmp_path: Path) -> None:
    """A bit of every 17th byte: the files are written to the disk each time."""
    with zipfile.ZipFile(small) as archive:
        archive.extractall(tmp_path)
    assert problems(tmp_path, key) == []
    for path in sorted(each for each in tmp_path.rglob("*") if each.is_file()):
        content = path.read_bytes()
        for at in range(0, len(content), 17):
            path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
            assert problems(tmp_path, key), f"{path.name}, byte {at}"
        for other in (content[:-1], content + b"\0"):
            path.write_bytes(other)
            assert problems(tmp_path, key) or other == content
        path.write_bytes(content)
    assert problems(tmp_path, key) == []


def test_every_truncation_and_appended_byte_is_detected(small: Path, key: SigningKey) -> None:
    content = small.read_bytes()
    for size in range(0, len(content), 7):
        assert problems(content[:size], key)
    for more in (b"\0", b"\n", content, b"PK\5\6" + bytes(18)):
        assert problems(content + more, key)
        assert problems(more + content, key)


def members(content: bytes) -> list[tuple[str, bytes]]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return [(name, archive.read(name)) for name in archive.namelist()]


def packed(files: list[tuple[str, bytes]]) -> bytes:
    """A zip in the prescribed layout of any files in any order."""
    out, entries = b"", []
    for name, content in files:
        crc = zipfile.crc32(content)
        entries.append((name, len(content), crc))
        out += verifier.local_header(name, len(content), crc) + content
    return out + verifier.zip_end(entries)


CHANGES: dict[str, Callable[[list[tuple[str, bytes]]], list[tuple[str, bytes]]]] = {
    "dropped": lambda files: files[:-1],
    "first dropped": lambda files: files[1:],
    "reordered": lambda files: [files[0], files[2], files[1], *files[3:]],
    "attestation last": lambda files: [*files[1:], files[0]],
    "twice": lambda files: [*files, files[-1]],
    "added": lambda files: [*files, ("zzz.txt", b"")],
    "added above": lambda files: [*files, ("../zzz.txt", b"")],
    "another case": lambda files: [*files, ("VERIFY.PY", b"")],
    "exchanged": lambda files: [*files[:-2], (files[-2][0], files[-1][1]), (files[-1][0], files[-2][1])],
    "renamed": lambda files: [*files[:-1], ("verify.pyc", files[-1][1])],
}


@pytest.mark.parametrize("change", CHANGES)
def test_changed_members_are_detected(small: Path, key: SigningKey, change: str) -> None:
    content = small.read_bytes()
    files = members(content)
    assert packed(files) == content
    assert len(problems(packed(CHANGES[change](files)), key)) == (2 if change == "exchanged" else 1)


def test_the_same_files_in_another_zip_are_not_the_bundle(small: Path, key: SigningKey) -> None:
    for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        again = io.BytesIO()
        with zipfile.ZipFile(again, "w", compression) as archive:
            for name, content in members(small.read_bytes()):
                archive.writestr(name, content)
        assert problems(again.getvalue(), key) == [("layout", REPACKED)]


def zipped(files: list[tuple[str, bytes]], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        for name, content in files:
            archive.writestr(name, content)
    return out.getvalue()


def test_what_differs_in_another_zip_is_named(small: Path, key: SigningKey) -> None:
    files = members(small.read_bytes())
    nested = [("icons-1/", b""), *((f"icons-1/{name}", content) for name, content in reversed(files))]
    assert problems(zipped(nested), key) == [("layout", REPACKED)]
    assert problems(small.read_bytes() + b"\0", key) == [("layout", REPACKED)]
    changed = [(name, content.replace(b"ship", b"SHIP")) for name, content in files]
    names = [name for (name, content), (_, other) in zip(files, changed, strict=True) if content != other]
    assert "release.json" in names
    for content in (zipped(changed), zipped([(f"a/{name}", each) for name, each in changed]), packed(changed)):
        assert problems(content, key) == [("file", f"{name} was changed after it was signed") for name in names]
    assert problems(zipped(files[:-1]), key) == [("file", f"{files[-1][0]} is missing")]
    extra = problems(zipped([*files, ("more.txt", b"")]), key)
    assert extra == [("file", "'more.txt' does not belong to the bundle: it was not signed")]
    attestation = json.loads(files[0][1])
    attestation["signatures"][0]["sig"] = base64.b64encode(bytes(64)).decode()
    forged = [(files[0][0], canonical(attestation)), *files[1:]]
    assert problems(zipped(forged), key) == [("signature", "the signature of the bundle is not valid")]
    for other in (b"no zip", small.read_bytes()[:-100]):
        assert problems(other, key) == [("layout", "this is neither a folder nor a whole zip")]


def test_swapped_signatures_are_detected(small: Path, life: Life, key: SigningKey, tmp_path: Path) -> None:
    other = make_key(tmp_path / "other")
    write_files(tmp_path / "b.zip", small_files(life.store), predicate(life.store), other)
    assert problems((tmp_path / "b.zip").read_bytes(), key) == [
        ("signature", f"the bundle was signed with another key than yours: {other.public.id[:16]}")
    ]
    files, others = members(small.read_bytes()), members((tmp_path / "b.zip").read_bytes())
    own, foreign = json.loads(files[0][1]), json.loads(others[0][1])
    relabelled = {**own["signatures"][0], "sig": foreign["signatures"][0]["sig"]}
    appended = sorted([own["signatures"][0], foreign["signatures"][0]], key=lambda each: each["keyid"])
    for signatures in ([relabelled], foreign["signatures"], appended, [], own["signatures"] * 2):
        envelope = json.dumps({**own, "signatures": signatures}, sort_keys=True, separators=(",", ":")).encode()
        (problem,) = problems(packed([(verifier.ATTESTATION, envelope), *files[1:]]), key)
        assert problem[0] == "signature"


@pytest.mark.parametrize(
    "name",
    ["../x", "/x", "a/../x", "a//x", "./x", "a/", "", "a\\x", "c:x", "VERIFY.py", "a\nb", "a\0b", "x.", " x", "x ",
     "Attestation.DSSE.json", "ü" * 501, "aux?", "\u212aey/x"],
)  # fmt: skip
def test_names_that_a_signer_must_not_use(name: str, small: Path, life: Life, key: SigningKey, tmp_path: Path) -> None:
    files = [*small_files(life.store), BundleFile(name, b"")]
    if name.startswith("\u212a"):  # the sign of kelvin is a k in another case
        files.append(BundleFile("key/x", b""))
    with pytest.raises((IntegrityError, ValueError, OSError)) as error:
        write_files(tmp_path / "b.zip", files, predicate(life.store), key)
    assert "is not allowed as the name of a file" in str(error.value)
    assert os.listdir(tmp_path) == []


def test_links_and_other_entries_of_a_folder_are_detected(small: Path, key: SigningKey, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    with zipfile.ZipFile(small) as archive:
        archive.extractall(folder)

    def linked_file() -> None:
        (folder / "policy.json").rename(tmp_path / "policy.json")
        (folder / "policy.json").symlink_to(tmp_path / "policy.json")

    def linked_folder() -> None:
        (folder / "evidence").rename(tmp_path / "evidence")
        (folder / "evidence").symlink_to(tmp_path / "evidence")

    changes: list[Callable[[], object]] = [
        linked_file,
        linked_folder,
        lambda: (folder / "added").symlink_to("policy.json"),
        lambda: (folder / "added").mkdir(),
        lambda: (folder / "model" / ".hidden").touch(),
        lambda: os.mkfifo(folder / "pipe"),
        lambda: (folder / "policy.json").unlink(),
        lambda: shutil.rmtree(folder / "model"),
    ]
    kept = tmp_path / "kept"
    shutil.copytree(folder, kept)
    for change in changes:
        change()
        assert len(problems(folder, key)) == 1
        shutil.rmtree(folder)
        shutil.rmtree(tmp_path / "evidence", ignore_errors=True)
        shutil.copytree(kept, folder)
        assert problems(folder, key) == []


def claims(store: Store, **changed: Any) -> list[BundleFile]:
    """The files of a release with other JSON in some of them."""
    files = {each.name: each.content for each in small_files(store)}
    for name, change in changed.items():
        path = next(each for each in files if each.partition(".")[0].partition("/")[0] == name)
        content = files[path]
        assert isinstance(content, bytes)
        files[path] = json.dumps(change(json.loads(content))).encode()
    return [BundleFile(name, content) for name, content in files.items()]


def test_claims_that_contradict_one_another_are_detected(life: Life, key: SigningKey, tmp_path: Path) -> None:
    """A signer whose files do not fit together is named, although the signature is valid."""

    def verdict(release: dict[str, Any]) -> dict[str, Any]:
        release["decision"]["verdict"] = "refuse"
        return release

    def outcome(release: dict[str, Any]) -> dict[str, Any]:
        release["decision"]["reasons"][0]["outcome"] = "fail"
        release["decision"]["verdict"] = "refuse"
        return release

    store = life.store
    cases: list[tuple[list[BundleFile], dict[str, Any], str]] = [
        (claims(store), {"signed": "2020-01-01T00:00:00+00:00"}, "a clock was wrong"),
        (claims(store), {"journal": {"length": 2, "head": "0" * 64}}, "signed length and head"),
        (claims(store), {"release": "icons@2"}, "does not record this release"),
        (claims(store), {"with_model": False}, "the files in model are not"),
        (claims(store), {"signed": "yesterday"}, "not a release in this format"),
        (claims(store, policy=lambda p: {**p, "name": "another"}), {}, "another model or under another policy"),
        (claims(store, release=verdict), {}, "does not record this release"),
        (claims(store, release=outcome), {}, "does not record this release"),
        (claims(store, evidence=lambda e: {**e, "created": ""}), {}, "the files in evidence are not"),
        ([each for each in claims(store) if not each.name.startswith("rows/")], {}, "the files in rows are not"),
        ([each for each in claims(store) if each.name != "model/config.json"], {}, "the files in model are not"),
        ([each for each in claims(store) if each.name != "policy.json"], {}, "not a release in this format"),
    ]
    for files, other, words in cases:
        with pytest.raises(IntegrityError, match=words):
            write_files(tmp_path / "b.zip", files, predicate(store, **other), key)


def test_a_decision_that_the_evidence_contradicts_is_named(life: Life) -> None:
    release = life.store.resolve("icons@1").release
    assert release is not None
    policy = json.loads(life.store.blobs.get(release.decision.policy_digest))
    evidence = {f"evidence/{id}.json": json.loads(life.store.blobs.get(id)) for id in release.evidence}
    decision = json.loads(next(f.content for f in small_files(life.store) if f.name == "release.json"))["decision"]  # type: ignore[arg-type]
    assert list(verifier.check_decision(decision, policy, evidence)) == []
    for number, rule in enumerate(policy["rules"]):
        if rule["no_worse_by"] is None:
            bound = {"at_least": 1.0} if rule["at_most"] is None else {"at_most": 0.0}
            changed = [*policy["rules"]]
            changed[number] = {**rule, **bound}
            (sentence,) = verifier.check_decision(decision, {"rules": changed}, evidence)
            assert rule["name"] in sentence
    other = {**decision, "model": "0" * 64}
    assert len(list(verifier.check_decision(other, policy, evidence))) == len(policy["rules"])
    assert len(list(verifier.check_decision({**decision, "verdict": "refuse"}, policy, evidence))) == 1
    assert len(list(verifier.check_decision(decision, {"rules": policy["rules"][:-1]}, evidence))) == 1


def test_a_key_that_was_revoked_before_signing(small: Path, key: SigningKey) -> None:
    facts = verifier.verify_content(io.BytesIO(small.read_bytes()), {key.public.id: key.public.key}, {})[1]
    (problem,) = problems(small.read_bytes(), key, **{key.public.id: "2025-12-31T23:59:59+00:00"})
    assert problem == (
        "key",
        f"signed on {facts['signed']}, but signatures of this key are refused after 2025-12-31T23:59:59+00:00",
    )
    assert problems(small.read_bytes(), key, **{key.public.id: facts["signed"]}) == []


def test_a_time_in_the_future_is_refused_beyond_five_minutes(life: Life, key: SigningKey, tmp_path: Path) -> None:
    for seconds, expected in ((240, []), (400, ["time"]), (10**9, ["time"])):
        signed = datetime.fromtimestamp(int(time()) + seconds, UTC).isoformat()
        path = tmp_path / f"{seconds}.zip"
        files, claim = small_files(life.store), predicate(life.store, signed=signed)
        if expected:
            with pytest.raises(IntegrityError, match=f"signed on {re.escape(signed)}, which is in the future"):
                write_files(path, files, claim, key)
        else:
            write_files(path, files, claim, key)


def test_the_bundle_of_a_release(life: Life, key: SigningKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", str(int(time())))
    first = write_bundle("icons@1", life.store, tmp_path / "a.zip", key)
    write_bundle("icons@1", life.store, tmp_path / "b.zip", key)
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    write_bundle("icons@1", life.store, tmp_path / "folder", key)
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert archive.testzip() is None
        assert archive.namelist() == [verifier.ATTESTATION, *(each.name for each in first.files)]
        archive.extractall(tmp_path / "unzipped")
    for source in ("folder", "unzipped"):
        for path in (tmp_path / source).rglob("*"):
            assert (
                path.is_dir()
                or path.read_bytes() == (tmp_path / "folder" / path.relative_to(tmp_path / source)).read_bytes()
            )
        assert problems(tmp_path / source, key) == []
    assert {"README.txt", "verify.py", "documents/model-card.md", "model/model.safetensors"} <= set(archive.namelist())
    without = write_bundle("icons@1", life.store, tmp_path / "c.zip", key, with_model=False)
    assert not any(each.name.startswith("model/") for each in without.files)


def test_the_script_in_the_bundle_needs_nothing_of_ours(life: Life, key: SigningKey, tmp_path: Path) -> None:
    write_bundle("icons@1", life.store, tmp_path / "folder", key)
    script, public = tmp_path / "folder" / "verify.py", public_path(key.path)
    blocked = (
        "import sys, socket; socket.socket = None; sys.modules['clerestory'] = None; import runpy; sys.argv.pop(0); "
    )
    start = [sys.executable, "-I", "-W", "error", "-c", blocked + "runpy.run_path(sys.argv[0], run_name='__main__')"]

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [*start, str(script), *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, env={}, cwd=tmp_path, check=False)

    assert (done := run(tmp_path / "folder", "--key", public)).returncode == 0, done.stderr
    first, _, facts = done.stdout.partition("\n")
    assert (first, json.loads(facts)["release"], json.loads(facts)["verdict"]) == ("VERIFIED", "icons@1", "ship")
    shutil.copy(public, tmp_path / "folder" / "ada.pub")
    inside = run(tmp_path / "folder", "--key", tmp_path / "folder" / "ada.pub")
    assert (inside.returncode, inside.stdout) == (2, "")
    assert "is inside the bundle" in inside.stderr
    added = run(tmp_path / "folder", "--key", public)
    assert (added.returncode, added.stdout) == (
        1,
        "NOT VERIFIED: 'ada.pub' does not belong to the bundle: it was not signed\n",
    )
    for arguments in ((tmp_path / "nothing", "--key", public), (tmp_path, "--key", key.path), (tmp_path,)):
        assert run(*arguments).returncode == 2
    assert run(tmp_path, "--key", public).returncode == 1


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
SUBJECT = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["release.json", "a", "../a", ""]) | JSON,
        "digest": st.fixed_dictionaries({"sha256": st.just("0" * 64) | JSON}) | JSON,
        "annotations": st.fixed_dictionaries({"size": st.integers(-1, 3) | JSON}) | JSON,
    }
)
PREDICATE = st.fixed_dictionaries(
    {"signed": st.just("2026-01-01T00:00:00+00:00") | JSON, "journal": JSON, "release": JSON, "with_model": JSON}
)


@settings(deadline=None)
@given(subject=st.lists(SUBJECT, max_size=3) | JSON, predicate=PREDICATE | JSON, rest=st.binary(max_size=40))
def test_whatever_was_signed_is_answered(subject: Any, predicate: Any, rest: bytes, key: SigningKey) -> None:
    """A signer with bad intentions gets an answer, not a traceback."""
    fields = {"_type": verifier.STATEMENT_TYPE, "predicateType": verifier.RELEASE}
    payload = json.dumps({**fields, "subject": subject, "predicate": predicate}).encode()
    signature = key.private.sign(verifier.PRE_AUTHENTICATION % (len(payload), payload))
    envelope = verifier.envelope_bytes(payload, {key.public.id: signature})
    header = verifier.local_header(verifier.ATTESTATION, len(envelope), zipfile.crc32(envelope))
    assert problems(header + envelope + rest, key)


@given(st.binary(max_size=200) | st.builds(lambda rest: b"PK\3\4" + bytes(18) + rest, st.binary(max_size=200)))
def test_any_bytes_are_answered(content: bytes) -> None:
    assert verifier.verify_content(io.BytesIO(content), {}, {})[0]


def test_the_verifier_is_small_and_of_an_early_python() -> None:
    source = Path(verifier.__file__).read_text(encoding="utf-8")
    ast.parse(source, feature_version=(3, 9))
    assert len(source.splitlines()) <= 330
    imported = {name.split(".")[0] for name in re.findall(r"^(?:from|import) (\S+)", source, re.MULTILINE)}
    assert imported <= sys.stdlib_module_names | {"cryptography"}


def test_wrong_input_is_named(life: Life, key: SigningKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotFound, match="is a model, not a release"):
        write_bundle(life.store.releases()[0].model, life.store, tmp_path / "b.zip", key)
    (tmp_path / "b.zip").touch()
    with pytest.raises(InputError, match="already exists"):
        write_bundle("icons@1", life.store, tmp_path / "b.zip", key)
    write_bundle("icons@1", life.store, tmp_path / "b.zip", key, force=True)
    with pytest.raises(InputError, match="is not empty"):
        write_bundle("icons@1", life.store, tmp_path, key)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000000000")
    with pytest.raises(InputError, match="the clock says 2001-09-09.* before the last record of the journal"):
        write_bundle("icons@1", life.store, tmp_path / "c.zip", key)


def test_a_damaged_store_gives_no_bundle(key: SigningKey, tmp_path: Path) -> None:
    life = Life(open_store(tmp_path / "home"), tmp_path / "models")
    release = life.release()
    weights = life.store.model_folder(release.model) / "model.safetensors"
    weights.write_bytes(b"other")
    with pytest.raises(IntegrityError, match=r"model\.safetensors of the model is damaged"):
        write_bundle("icons@1", life.store, tmp_path / "b.zip", key)
    assert not (tmp_path / "b.zip").exists()


def test_a_journal_of_many_records_is_verified_fast_without_a_network(
    life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    """20,000 records, a fifth of the number in ``bench/bundle.py``."""
    monkeypatch.setattr(socket, "socket", None)
    files = {each.name: each.content for each in small_files(life.store) if isinstance(each.content, bytes)}
    first = files["journal.jsonl"].splitlines()[0]
    event = {"kind": "prediction", "subject": "icons@1", "when": "2026-01-01T00:00:00+00:00", "details": {}}
    lines = [first, *(json.dumps({**event, "why": str(number)}).encode() for number in range(20_000))]
    head = bytes(32)
    for line in lines:
        head = hashlib.sha256(head + line).digest()
    files["journal.jsonl"] = b"".join(line + b"\n" for line in lines)
    signed = {name: (hashlib.sha256(content).hexdigest(), len(content)) for name, content in files.items()}
    claim = predicate(life.store, journal={"length": len(lines), "head": head.hex()}, with_model=False)
    start = process_time()
    assert list(verifier.check_release(files, signed, claim)) == []
    assert process_time() - start < 1.0
    for wrong in (lines[:-1], [*lines, lines[-1]], [lines[0], lines[2], lines[1], *lines[3:]]):
        files["journal.jsonl"] = b"".join(line + b"\n" for line in wrong)
        assert "signed length and head" in next(verifier.check_release(files, signed, claim))


def test_the_layout_is_that_of_the_zip_specification() -> None:
    content = packed([("a", b"hello"), ("ü/b", b"")])
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert [(each.filename, each.flag_bits, each.date_time[0]) for each in archive.infolist()] == [
            ("a", 0x800, 1980),
            ("ü/b", 0x800, 1980),
        ]
        assert archive.testzip() is None
    assert struct.unpack("<I", content[:4])[0] == 0x04034B50
