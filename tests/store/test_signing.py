"""Keys, signed statements, rotation and revocation."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key

from clerestory.cli.main import run
from clerestory.core.digest import canonical, digest_bytes
from clerestory.core.errors import InputError, NotFound
from clerestory.store.signing.keys import (
    SigningKey,
    check_clock,
    keys_in,
    make_key,
    public_path,
    read_key,
    read_public_key,
)
from clerestory.store.signing.statements import (
    SignedFile,
    read_signing_key,
    sign_revocation,
    sign_rotation,
    sign_statement,
    signing_time,
    statement_time,
)
from clerestory.store.signing.verify_bundle import RELEASE, NotVerified, UnusableKey, open_envelope, trusted_keys

EARLY, LATE, LATER = (f"2026-0{month}-01T00:00:00+00:00" for month in (1, 2, 3))


@pytest.fixture
def keys(tmp_path: Path) -> list[SigningKey]:
    return [make_key(tmp_path / f"k{number}", f"Ada {number}") for number in range(3)]


def ends(given: SigningKey, *statements: bytes) -> dict[str, str | None]:
    """The end of every trusted key."""
    trusted, last = trusted_keys([given.public.key], {f"s{n}": each for n, each in enumerate(statements)})
    return {key: last.get(key) for key in trusted}


def test_a_key_is_for_its_owner_and_is_read_again(tmp_path: Path, keys: list[SigningKey]) -> None:
    path = keys[0].path
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_key(path).public == keys[0].public
    public = read_public_key(public_path(path))
    assert (public.id, public.owner, public.created) == (keys[0].public.id, "Ada 0", keys[0].public.created)
    assert keys_in(tmp_path) == [each.path for each in keys]
    shutil.move(path, tmp_path / "elsewhere")
    (tmp_path / "elsewhere").unlink()
    assert keys_in(tmp_path)[0] == public_path(path)


def test_the_fingerprint_is_that_of_the_subject_public_key_info(keys: list[SigningKey]) -> None:
    block = keys[0].public.pem().partition("-----BEGIN PUBLIC KEY-----\n")[2].partition("-----END")[0]
    assert keys[0].public.id == digest_bytes(base64.b64decode(block))


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
def test_openssl_reads_both_files_and_verifies_a_signature(tmp_path: Path, keys: list[SigningKey]) -> None:
    envelope = json.loads(sign_statement(RELEASE, [], {}, [keys[0]]))
    payload = base64.b64decode(envelope["payload"])
    kind = envelope["payloadType"].encode()
    signed, signature = tmp_path / "signed", tmp_path / "signature"
    signed.write_bytes(b"DSSEv1 28 " + kind + b" " + str(len(payload)).encode() + b" " + payload)
    signature.write_bytes(base64.b64decode(envelope["signatures"][0]["sig"]))
    assert len(kind) == 28
    assert payload == canonical(json.loads(payload))
    public = str(public_path(keys[0].path))
    verify = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", public, "-rawin"]
    subprocess.run([*verify, "-in", str(signed), "-sigfile", str(signature)], check=True, capture_output=True)
    subprocess.run(["openssl", "pkey", "-in", str(keys[0].path), "-noout"], check=True)


def test_a_key_file_is_never_overwritten_and_never_in_the_store(tmp_path: Path, keys: list[SigningKey]) -> None:
    before = keys[0].path.read_bytes()
    with pytest.raises(InputError, match="already exists"):
        make_key(keys[0].path)
    keys[0].path.unlink()
    with pytest.raises(InputError, match=r"k0\.pub already exists"):
        make_key(keys[0].path)
    assert not keys[0].path.exists()
    assert before
    (tmp_path / "home").mkdir()
    with pytest.raises(InputError, match="inside the store"):
        make_key(tmp_path / "x" / ".." / "home" / "k", home=tmp_path / "home")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o666, 0o610])
def test_a_key_that_others_may_read_is_refused(keys: list[SigningKey], mode: int) -> None:
    keys[0].path.chmod(mode)
    with pytest.raises(InputError, match=f"open to other users of this computer .mode {mode:o}") as error:
        read_key(keys[0].path)
    assert "chmod 600" in error.value.fix


def test_what_is_not_a_key_is_one_sentence(tmp_path: Path, keys: list[SigningKey]) -> None:
    with pytest.raises(NotFound, match="there is no key file"):
        read_key(tmp_path / "nothing")
    pem, pkcs8, plain = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    contents = {
        "not a private key": b"hello",
        "is a public key": public_path(keys[0].path).read_bytes(),
        "not an Ed25519 key": generate_private_key(65537, 2048).private_bytes(pem, pkcs8, plain),
        "is encrypted": keys[0].private.private_bytes(pem, pkcs8, serialization.BestAvailableEncryption(b"secret")),
        "too large": b"x" * 2**17,
    }
    for words, content in contents.items():
        (tmp_path / "key").write_bytes(content)
        (tmp_path / "key").chmod(0o600)
        with pytest.raises(InputError, match=words) as error:
            read_key(tmp_path / "key")
        assert error.value.fix
    with pytest.raises(InputError, match="is not an Ed25519 public key in PEM"):
        read_public_key(keys[0].path)


def test_a_statement_is_opened_with_the_right_key_only(keys: list[SigningKey]) -> None:
    files = [SignedFile(name, "0" * 64, 1) for name in ("b", "a")]
    content = sign_statement(RELEASE, files, {"x": "ü"}, keys[:2])
    trusted = {each.public.id: each.public.key for each in keys}
    statement, signers = open_envelope(content, trusted, "it", [RELEASE])
    assert [each["name"] for each in statement["subject"]] == ["a", "b"]
    assert signers == sorted(each.public.id for each in keys[:2])
    del trusted[keys[0].public.id]
    with pytest.raises(NotVerified, match="another key than yours"):
        open_envelope(content, trusted, "it", [RELEASE])
    with pytest.raises(NotVerified, match="prescribed form"):
        open_envelope(content, trusted, "it", ["something else"])


def test_a_rotation_hands_over_the_trust(keys: list[SigningKey]) -> None:
    old, new, newest = keys
    first, second = sign_rotation(old, new, LATE, "yearly"), sign_rotation(new, newest, LATER, "yearly")
    assert ends(old) == {old.public.id: None}
    assert ends(old, first) == {old.public.id: LATE, new.public.id: None}
    assert ends(old, first, second) == {old.public.id: LATE, new.public.id: LATER, newest.public.id: None}
    with pytest.raises(UnusableKey, match="s0 is damaged, or not a rotation"):
        ends(old, second, first)


def test_a_rotation_needs_both_signatures(keys: list[SigningKey]) -> None:
    old, new, other = keys
    envelope = json.loads(sign_rotation(old, new, LATE, ""))
    for kept in envelope["signatures"]:
        alone = canonical({**envelope, "signatures": [kept]})
        with pytest.raises(UnusableKey):
            ends(old, alone) if kept["keyid"] == new.public.id else ends(new, alone)
    with pytest.raises(UnusableKey):  # of a key that nobody trusts
        ends(other, sign_rotation(old, new, LATE, ""))


def test_a_revoked_key_cannot_hand_over_later(keys: list[SigningKey]) -> None:
    old, new, _ = keys
    revoked = sign_revocation(old.public, old, EARLY, "compromised", "")
    assert ends(old, revoked) == {old.public.id: EARLY}
    with pytest.raises(UnusableKey):
        ends(old, revoked, sign_rotation(old, new, LATE, ""))
    rotated = sign_rotation(old, new, LATE, "")
    assert ends(old, rotated, sign_revocation(old.public, new, EARLY, "lost", ""))[old.public.id] == EARLY
    with pytest.raises(UnusableKey, match="of a key that you trust"):
        ends(old, sign_revocation(old.public, new, EARLY, "lost", ""))


def test_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1767225600")
    assert signing_time() == EARLY
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "4070908800")
    with pytest.raises(InputError, match="SOURCE_DATE_EPOCH is 2099-01-01T00:00:00.*, which is in the future"):
        signing_time()
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "soon")
    with pytest.raises(InputError, match="SOURCE_DATE_EPOCH"):
        signing_time()
    assert statement_time("2026-01-01T01:00:00+01:00") == EARLY
    assert statement_time("2025-12-31") == "2025-12-31T23:59:59+00:00"
    for wrong in ("yesterday", "2026-01-01T00:00:00", ""):
        with pytest.raises(InputError, match="is not a time"):
            statement_time(wrong)
    with pytest.raises(InputError, match="the clock says 2026-01-01.* before the last record"):
        check_clock([("the last record", LATE)], EARLY)


def test_a_missing_folder_of_a_key_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    path = make_key(tmp_path / "a" / "keys" / "k").path
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert public_path(path).is_file()
    with pytest.raises(InputError, match="is a file, not a folder"):
        make_key(path / "k")


@pytest.mark.parametrize("by", ["own", "another"])
def test_a_revoked_key_does_not_sign(keys: list[SigningKey], by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    key, other, _ = keys
    assert read_signing_key(key.path).public == key.public
    statement = key.path.with_name("k0.revocation.json")
    content = sign_revocation(key.public, key if by == "own" else other, EARLY, "compromised", "")
    statement.write_bytes(content)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")  # a time in the past does not help
    with pytest.raises(InputError, match=r"k0 is revoked .*k0\.revocation\.json.* after 2026-01-01.* refused") as error:
        read_signing_key(key.path)
    assert "sign with another key" in error.value.fix
    assert read_key(key.path).public == key.public  # to show it, or to revoke it again
    assert read_signing_key(other.path).public == other.public
    statement.write_bytes(sign_revocation(key.public, key, "9999-01-01T00:00:00+00:00", "retired", ""))
    assert read_signing_key(key.path).public == key.public


def test_a_replaced_key_does_not_sign_and_its_successor_does(keys: list[SigningKey], tmp_path: Path) -> None:
    old, new, _ = keys
    new.path.with_name("k1.rotation.json").write_bytes(sign_rotation(old, new, EARLY, "yearly"))
    with pytest.raises(InputError, match=r"k0 was replaced by a new key \(statement .*k1\.rotation\.json") as error:
        read_signing_key(old.path)
    assert error.value.fix == f"sign with the new key {new.path}"
    assert read_signing_key(new.path).public == new.public
    link = tmp_path / "elsewhere"
    link.mkdir()
    (link / "k").symlink_to(old.path)
    with pytest.raises(InputError, match="was replaced"):
        read_signing_key(link / "k")


def test_other_files_beside_a_key_do_not_stop_it(keys: list[SigningKey]) -> None:
    for name, content in {
        "a.revocation.json": b"{",
        "b.rotation.json": b"[]",
        "c.revocation.json": b'{"payload":1}',
    }.items():
        keys[0].path.with_name(name).write_bytes(content)
    keys[0].path.with_name("d.rotation.json").mkdir()
    assert read_signing_key(keys[0].path).public == keys[0].public


def test_every_command_that_signs_refuses_a_revoked_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CLERESTORY_HOME", str(tmp_path / "home"))
    key = str(make_key(tmp_path / "my.key").path)
    assert run(["key", "rotate", key, str(tmp_path / "my2.key"), "--why", "yearly"]) == 0
    assert run(["key", "revoke", key, "--reason", "compromised", "--until", "2026-05-31"]) == 0
    capsys.readouterr()
    for command in (
        ["release", "bundle", "icons@1", "--out", str(tmp_path / "b.zip"), "--key", key],
        ["release", "approve", "icons@1", "--why", "yes", "--key", key],
        ["data", "pack", "make", "icons", "--out", str(tmp_path / "b.pack"), "--key", key],
        ["key", "rotate", key, str(tmp_path / "my3.key"), "--why", "again"],
        ["key", "revoke", str(tmp_path / "my2.key.pub"), "--reason", "lost", "--by", key],
    ):
        assert run(command) == 2
        error = capsys.readouterr().err
        assert "my.key is revoked" in error
        assert error.count("error: ") == 1
        assert "fix: sign with another key" in error
    assert not (tmp_path / "my3.key").exists()
