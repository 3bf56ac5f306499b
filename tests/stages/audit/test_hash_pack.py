"""Hash packs: what they find, what they reveal, and what a stranger's pack cannot do."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from time import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from clerestory.cli.main import run
from clerestory.core.codec import Tags
from clerestory.core.digest import canonical
from clerestory.core.errors import InputError, IntegrityError, NotFound
from clerestory.core.evidence import Cost, Evidence, Recipe, Subject
from clerestory.core.progress import QUIET
from clerestory.core.provenance import now
from clerestory.core.sample import Dataset
from clerestory.data import open_data
from clerestory.stages.audit.corrected_scores import CONTAMINATED
from clerestory.stages.audit.hash_pack import (
    KIND,
    NGRAM,
    HashPack,
    caption_hashes,
    make_pack,
    normalised_words,
    read_pack,
    shared_texts,
    sign_pack,
)
from clerestory.stages.audit.hashing import TURNS
from clerestory.stages.audit.image_facts import read_image_facts
from clerestory.stages.audit.pack_check import check_packs, contaminated_samples
from clerestory.stages.audit.run import audit, read_detections
from clerestory.stats.aggregate import measure, recompute
from clerestory.stats.rows import read_rows, write_rows
from clerestory.store import Store
from clerestory.store.signing.keys import SigningKey, make_key, public_path
from clerestory.store.signing.statements import SignedFile, sign_statement

SALT = "00" * 16
LONG = " ".join(f"word{n}" for n in range(20))
WORDS = st.lists(st.text("abcdefghij", min_size=1, max_size=6), min_size=0, max_size=40)


def picture(seed: int) -> Image.Image:
    """An image of its own with coarse and fine structure, as a photograph has."""
    coarse = np.random.default_rng(seed).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((160, 160), Image.Resampling.BICUBIC)


def caption(seed: int) -> str:
    return f"A drawing, number {seed}, of many shapes in many colours"


@pytest.fixture
def key(tmp_path: Path) -> SigningKey:
    return make_key(tmp_path / "ada.key", "Ada")


@pytest.fixture
def benchmark(tmp_path: Path) -> Dataset:
    """Twenty images with captions."""
    folder = tmp_path / "benchmark"
    folder.mkdir()
    for seed in range(20):
        picture(seed).save(folder / f"{seed}.png")
        (folder / f"{seed}.txt").write_text(caption(seed))
    return open_data(str(folder))


@pytest.fixture
def mine(tmp_path: Path) -> Dataset:
    """Images of which eight are turned copies of the benchmark's with other captions, and one has only its caption."""
    for split, seeds in (("train", range(6)), ("test", range(6, 30))):
        (tmp_path / "mine" / split).mkdir(parents=True)
        for seed in seeds:
            image = picture(seed) if seed < 8 else picture(1000 + seed)
            if seed < 8 and TURNS[seed] is not None:
                image = image.transpose(TURNS[seed])
            image.resize((120, 120)).save(tmp_path / "mine" / split / f"{seed}.jpg", quality=60)
            text = caption(11).upper().replace(",", " -") if seed == 9 else f"something else that is my own {seed}"
            (tmp_path / "mine" / split / f"{seed}.txt").write_text(text)
    return open_data(str(tmp_path / "mine"))


def pack_of(data: Dataset, store: Store, salt: str = SALT) -> HashPack:
    facts, _ = read_image_facts(data, store.answer_cache, QUIET)
    captions = (each.text for sample in data for each in sample.captions)
    return make_pack("benchmark", facts["pdq"][:, 0], facts["quality"], captions, salt)


# Captions.


def naive_hashes(text: str, salt: str) -> list[bytes]:
    words = re.findall("[a-z0-9]+", text.lower())
    if len(words) < 5:
        return []
    grams = [" ".join(words)] if len(words) < 13 else [" ".join(words[n : n + 13]) for n in range(len(words) - 12)]
    return [hashlib.sha256(bytes.fromhex(salt) + gram.encode()).digest()[:16] for gram in grams]


@settings(deadline=None)  # the first call makes the patterns of words
@given(WORDS)
def test_hashes_are_those_of_the_definition(words: list[str]) -> None:
    text = " ".join(words)
    assert caption_hashes(text, SALT) == naive_hashes(text, SALT)


@settings(deadline=None)  # the first call makes the patterns of words
@given(
    WORDS, st.sampled_from([str.upper, str.title, lambda text: text.replace(" ", "  , "), lambda text: f"«{text}!»"])
)
def test_spelling_details_do_not_count(words: list[str], change: Callable[[str], str]) -> None:
    text = " ".join(words)
    assert caption_hashes(change(text), SALT) == caption_hashes(text, SALT)


def test_a_long_caption_is_found_inside_a_longer_one() -> None:
    inside = f"Somebody once wrote: {LONG}, and more"
    assert set(caption_hashes(LONG, SALT)) <= set(caption_hashes(inside, SALT))
    assert len(caption_hashes(LONG, SALT)) == 20 - NGRAM + 1
    assert set(caption_hashes(LONG, SALT)).isdisjoint(caption_hashes(LONG, "11" * 16))


def test_letters_of_scripts_without_spaces_are_words() -> None:
    assert normalised_words("\u5927\u304d\u306a\u8d64\u3044\u5bb6, ABC") == [
        *"\u5927\u304d\u306a\u8d64\u3044\u5bb6",
        "abc",
    ]
    assert len(caption_hashes("\u5927\u304d\u306a\u8d64\u3044\u5bb6", SALT)) == 1
    assert normalised_words("\ud55c\uad6d \uc9d1 \uff21") == ["\ud55c\uad6d", "\uc9d1", "a"]


@settings(deadline=None)  # the first call makes the patterns of words
@given(
    st.lists(st.binary(min_size=16, max_size=16), max_size=20),
    st.lists(st.binary(min_size=16, max_size=16), max_size=20),
)
def test_shared_hashes_are_those_of_a_set(known: list[bytes], sought: list[bytes]) -> None:
    rows = sorted(set(known))
    texts = np.frombuffer(b"".join(rows), np.uint8).reshape(-1, 16)
    pack = HashPack("x", SALT, np.zeros((0, 32), np.uint8), texts)
    both = sought + known[::2] + [each[:15] + b"\0" for each in known]
    assert shared_texts(both, pack).tolist() == [each in set(known) for each in both]


# Packs.


def test_a_pack_is_read_as_it_was_made(benchmark: Dataset, store: Store, key: SigningKey, tmp_path: Path) -> None:
    pack = pack_of(benchmark, store)
    path = tmp_path / "b.pack"
    path.write_bytes(content := sign_pack(pack, key))
    again = read_pack(path, [key.public])
    assert (again.name, again.salt, again.signer) == ("benchmark", SALT, key.public.id)
    assert (len(again.images), len(again.texts), again.captions_left_out) == (20, 20, 0)
    assert again.content() == pack.content()
    for codes in (again.images, again.texts):
        rows = list(map(bytes, codes))
        assert rows == sorted(set(rows))
    assert len(content) < 20 * (32 + 16) + 2000
    assert b"drawing" not in content
    assert b"drawing" not in base64.b64decode(json.loads(content.partition(b"\n")[0])["payload"])


def test_random_salts_differ_and_wrong_ones_are_named(benchmark: Dataset, store: Store) -> None:
    first, second = pack_of(benchmark, store, ""), pack_of(benchmark, store, "")
    assert set(map(bytes, first.texts)).isdisjoint(map(bytes, second.texts))
    for salt in ("salt", "0" * 15, "0" * 17, "ab"):
        with pytest.raises(InputError, match="the salt is not hexadecimal"):
            pack_of(benchmark, store, salt)


def test_every_changed_byte_of_a_pack_is_detected(
    benchmark: Dataset, store: Store, key: SigningKey, tmp_path: Path
) -> None:
    content = sign_pack(pack_of(benchmark, store), key)
    path = tmp_path / "b.pack"
    for at in range(0, len(content), 3):
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        with pytest.raises((InputError, IntegrityError)):
            read_pack(path, [key.public])
    for other in (content[:-1], content + b"\0", content[:100], b"", b"\n", b"{}\n", bytes(100_000)):
        path.write_bytes(other)
        with pytest.raises((InputError, IntegrityError)):
            read_pack(path, [key.public])


def statement(key: SigningKey, version: int = 1, content: bytes = b"", **changed: Any) -> bytes:
    """A signed pack of any content and claims."""
    predicate: dict[str, Any] = {
        "name": "x",
        "signed": "2026-01-01T00:00:00+00:00",
        "images": {"method": "pdq-box64", "count": 0, "left_out": 0},
        "texts": {"method": "sha256-salted-13-gram", "count": 0, "left_out": 0, "salt": SALT},
    }
    files = [SignedFile("codes", hashlib.sha256(content).hexdigest(), len(content))]
    return sign_statement(f"{KIND}{version}", files, {**predicate, **changed}, [key]) + b"\n" + content


def test_what_a_strangers_pack_cannot_do(key: SigningKey, tmp_path: Path) -> None:
    path, other = tmp_path / "b.pack", make_key(tmp_path / "other")
    unsigned = canonical({"payload": "", "payloadType": "application/vnd.in-toto+json", "signatures": []}) + b"\n"
    images = {"method": "pdq-box64", "count": 0, "left_out": 0}
    cases = {
        "was signed with another key than yours": statement(other),
        "was made by a newer version of Clerestory": statement(key, 2),
        "not a DSSE envelope in its prescribed form": unsigned,
        "is not a signed hash pack": b"\x80\x04\x95pickle\n",
        "does not describe a hash pack": statement(key, images={**images, "count": 10**12}),
        "does not describe a hash pack .*": statement(key, images={**images, "count": -1}),
        "does not describe a hash pack that": statement(key, images={**images, "method": "magic"}),
        "does not describe a hash pack that can": statement(key, texts="none"),
        "signed on 2099-01-01T00:00:00.00:00, which is in the future": statement(
            key, signed="2099-01-01T00:00:00+00:00"
        ),
        "does not describe a hash pack that can b": statement(key, signed="soon"),
        "is damaged": statement(key, images={**images, "count": 1000}),
        "does not have its codes in ascending order": statement(
            key, content=b"b" * 32 + b"a" * 32, images={**images, "count": 2}
        ),
        "does not have its codes in ascending .*": statement(key, content=b"a" * 64, images={**images, "count": 2}),
        "is not a signed hash pac": b"{" + b" " * 2**20,
    }
    for words, content in cases.items():
        path.write_bytes(content)
        with pytest.raises((InputError, IntegrityError), match=words) as error:
            read_pack(path, [key.public])
        is_verified = any(each in words for each in ("newer", "is not a signed", "does not describe"))
        assert error.value.exit_code == (2 if is_verified else 1), words
        assert error.value.fix
    with pytest.raises(NotFound, match="there is no hash pack"):
        read_pack(tmp_path / "nothing", [key.public])
    with pytest.raises(InputError, match="it is a folder"):
        read_pack(tmp_path, [key.public])
    path.write_bytes(statement(key, name="a\x1b[31mb\n" * 200))
    assert read_pack(path, [key.public]).name.isprintable()


# Contamination.


def test_turned_and_smaller_copies_and_captions_are_found(benchmark: Dataset, mine: Dataset, store: Store) -> None:
    facts, _ = read_image_facts(mine, store.answer_cache, QUIET)
    images, captions = check_packs(mine, facts, [pack_of(benchmark, store)], QUIET)
    assert set(images.samples) == {f"{'train' if seed < 6 else 'test'}/{seed}.jpg" for seed in range(8)}
    assert "8 images of 30 (2 of 24 of test, 6 of 6 of train) are in the hash pack benchmark" in images.message
    assert captions.samples == ("test/9.jpg",)
    assert captions.notes["test/9.jpg"] == "benchmark: caption 1"
    assert len(contaminated_samples([images, captions])) == 9
    assert check_packs(mine, facts, [], QUIET) == []


def test_images_without_structure_are_in_no_pack(tmp_path: Path, store: Store, benchmark: Dataset) -> None:
    (tmp_path / "plain").mkdir()
    Image.new("RGB", (100, 100), "red").save(tmp_path / "plain" / "a.png")
    plain = open_data(str(tmp_path / "plain"))
    facts, _ = read_image_facts(plain, store.answer_cache, QUIET)
    pack = make_pack("plain", facts["pdq"][:, 0], facts["quality"], ["too short"], SALT)
    assert (len(pack.images), pack.images_left_out, pack.captions_left_out) == (0, 1, 1)
    with pytest.raises(InputError, match="nothing to put into the pack"):
        sign_pack(pack, make_key(tmp_path / "k"))
    (left_out,) = check_packs(plain, facts, [pack_of(benchmark, store)], QUIET)
    assert (left_out.code.code, left_out.samples) == ("CLR-A052", ())


def test_the_audit_measures_the_share_and_it_is_computed_again(benchmark: Dataset, mine: Dataset, store: Store) -> None:
    pack = pack_of(benchmark, store)
    evidence = audit(mine, store, packs=[pack]).evidence
    share = evidence.find("contaminated", {})
    assert share is not None
    assert share.interval is not None
    assert (share.value, share.n) == (pytest.approx(9 / 30), 30)
    assert recompute(read_rows(store.blobs.get(evidence.rows)), share) == share
    of_train = evidence.find("contaminated", {"split": "train"})
    assert of_train is not None
    assert of_train.value == 1.0
    assert {each["code"] for each in read_detections(evidence, store)} >= {"CLR-A050", "CLR-A051"}
    plain = audit(mine, store).evidence
    assert plain.find("contaminated", {}) is None
    assert plain.subject.config != evidence.subject.config
    empty = make_pack("other", pack.images[:0], np.zeros(0, np.uint8), [LONG], SALT)
    none = audit(mine, store, packs=[empty]).evidence.find("contaminated", {})
    assert none is not None
    assert none.value == 0.0
    assert none.interval is not None
    assert none.interval.high > 0.05


def test_scores_are_given_without_the_contaminated_samples(benchmark: Dataset, mine: Dataset, store: Store) -> None:
    """An evaluation in which the model ranks the images of the benchmark first, and no others."""
    known = {f"{'train' if seed < 6 else 'test'}/{seed}.jpg" for seed in range(8)} | {"test/9.jpg"}
    ids = [sample.id for sample in mine if sample.split == "test"]
    rows = {
        name: np.array([value] * len(ids), dtype=object)
        for name, value in (("task", "text_to_image"), ("split", "test"))
    }
    rows |= {"sample": np.array(ids, dtype=object), "concept": np.array(ids, dtype=object)}
    rows["rank"] = np.array([1.0 if each in known else 500.0 for each in ids])
    where = Tags(task="text_to_image", split="test")
    found = measure(rows, Recipe("share_at_most", "rank", where, "concept", 10.0), "recall@10")
    subject = Subject(model="m" * 64, data=mine.digest, config="c" * 64)
    blob = store.blobs.put(write_rows(rows))
    store.put_evidence(Evidence("evaluate", subject, (found,), (), Cost(1.0, 1.0, 1.0), now(), blob))
    result = audit(mine, store, packs=[pack_of(benchmark, store)], model="m" * 64)
    (score,) = result.scores
    assert (score.cause, score.measured.value, score.corrected.value) == (CONTAMINATED, 3 / 24, 0.0)
    assert score.corrected.n == 21
    stored = result.evidence.find("recall@10", {**where, CONTAMINATED: "excluded"})
    assert stored is not None
    assert stored.value == 0.0


def test_the_commands(
    benchmark: Dataset,
    mine: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("CLERESTORY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SOURCE_DATE_EPOCH", str(int(time())))
    key = make_key(tmp_path / "k").path
    pack, public = tmp_path / "b.pack", str(public_path(key))
    make = ["data", "pack", "make", str(tmp_path / "benchmark"), "--key", str(key), "--salt", SALT]
    assert run([*make, "--out", str(pack)]) == 0
    assert run([*make, "--out", str(tmp_path / "again.pack")]) == 0
    assert pack.read_bytes() == (tmp_path / "again.pack").read_bytes()
    assert run([*make, "--out", str(pack)]) == 2
    assert run([*make, "--out", str(tmp_path / "c.pack"), "--split", "nothing"]) == 2
    capsys.readouterr()
    assert run(["data", "pack", "check", str(pack), "--key", public, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 20
    page = tmp_path / "audit.html"
    assert (
        run(["data", "audit", str(tmp_path / "mine"), "--pack", str(pack), "--key", public, "--report", str(page)]) == 1
    )
    assert "CLR-A050" in capsys.readouterr().out
    assert "no hash pack was given" not in page.read_text(encoding="utf-8")
    other = str(public_path(make_key(tmp_path / "other").path))
    for options in (["--pack", str(pack)], ["--key", public], ["--pack", str(pack), "--key", other]):
        assert run(["data", "audit", str(tmp_path / "mine"), *options]) == (1 if other in options else 2)
        error = capsys.readouterr().err
        assert error.count("error: ") == 1
        assert "fix: " in error
    check = ["data", "pack", "check", str(pack), "--key"]
    assert run([*check, other]) == 1
    assert "was signed with another key than yours" in capsys.readouterr().err
    assert run([*check, str(tmp_path / "nosuch.pub")]) == 2
    assert "fix: get the public key (the .pub file) from its owner" in capsys.readouterr().err
