"""Hash packs: which images and captions a dataset has, without the images and captions.

A pack of a public benchmark or of a private test set lets others find out whether their data contains it
(contamination), although they never see it. It has the PDQ code of each image, and salted hashes of the captions: of
every 13 words in a row (the length that Brown et al. 2020, *Language Models are Few-Shot Learners*, used), or of the
whole caption if it has 5 to 12 words. Shorter captions are too common to prove anything, and are left out.

A pack is one file: a line with a signed statement (DSSE, in-toto), then the codes and hashes, each sorted. Reading one
runs no code, and its size follows from the statement.
"""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clerestory.core.digest import digest_bytes
from clerestory.core.errors import InputError, IntegrityError, NotFound
from clerestory.core.files import read_problem
from clerestory.core.text import visible, words_of
from clerestory.stages.audit.hashing import PDQ_BYTES, USUAL_QUALITY
from clerestory.store.signing.keys import PublicKey, SigningKey, check_clock
from clerestory.store.signing.statements import SignedFile, sign_statement, signing_time
from clerestory.store.signing.verify_bundle import TIME, NotVerified, check_not_future, open_envelope

KIND = "urn:clerestory:attestation:hash-pack:v"
VERSION = 1
NEWER = tuple(f"{KIND}{number}" for number in range(VERSION + 1, VERSION + 100))
IMAGE_METHOD = "pdq-box64"  # PDQ with means over boxes (hashing.py)
TEXT_METHOD = "sha256-salted-13-gram"
NGRAM, MIN_WORDS = 13, 5
TEXT_BYTES, SALT_BYTES = 16, 16  # of 32: among 10^9 hashes two are equal with a probability of 10^-21
MAX_LINE, MAX_ENTRIES = 2**16, 50_000_000  # 1.6 GB of codes
SALT = re.compile(r"[0-9a-f]{16,128}")
# Scripts without spaces between words, where each letter counts as a word: Thai to Burmese, kana, Han.
_UNSPACED = re.compile(
    "([\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff])"
)

Codes = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class HashPack:
    """A pack that was made, or read and verified.

    Attributes:
        name: of the data, as its maker calls it.
        salt: of the captions, hexadecimal.
        images: (N, 32) PDQ codes of distinct images, sorted.
        texts: (M, 16) hashes of captions, sorted.
        images_left_out: images with too little structure for a code.
        captions_left_out: captions of fewer than five words.
        created: the time that the signer stated.
        signer: fingerprint of the key that signed.
        digest: SHA-256 of codes and hashes.
    """

    name: str
    salt: str
    images: Codes
    texts: Codes
    images_left_out: int = 0
    captions_left_out: int = 0
    created: str = ""
    signer: str = ""
    digest: str = ""

    def content(self) -> bytes:
        """The bytes of codes and hashes."""
        return self.images.tobytes() + self.texts.tobytes()


def caption_hashes(caption: str, salt: str) -> list[bytes]:
    """The salted hashes of a caption: one for each 13 words in a row, or one of 5 to 12 words; else none.

    Case, punctuation and the width of letters do not count. In scripts without spaces each letter is a word.
    """
    words = normalised_words(caption)
    if len(words) < MIN_WORDS:
        return []
    state = hashlib.sha256(bytes.fromhex(salt))
    grams = (words[start : start + NGRAM] for start in range(max(1, len(words) - NGRAM + 1)))
    hashes = []
    for gram in grams:
        each = state.copy()
        each.update(" ".join(gram).encode())
        hashes.append(each.digest()[:TEXT_BYTES])
    return hashes


def normalised_words(caption: str) -> list[str]:
    """The words of a caption, so that captions that differ in spelling details only have the same."""
    text = unicodedata.normalize("NFKC", caption).casefold()
    if not text.isascii():
        text = _UNSPACED.sub(r" \1 ", text)
    return words_of(text)


def make_pack(name: str, pdq: Codes, quality: NDArray[np.uint8], captions: Iterable[str], salt: str = "") -> HashPack:
    """The pack of images and captions.

    Args:
        name: of the data.
        pdq: (N, 32) the code of each image.
        quality: (N,) of each code; images of too little structure are left out.
        captions: all captions.
        salt: hexadecimal; a random one if empty. Packs with the same salt show which captions they share.

    Raises:
        InputError: the salt is not hexadecimal of 16 to 128 digits.
    """
    salt = (salt or os.urandom(SALT_BYTES).hex()).lower()
    if not SALT.fullmatch(salt) or len(salt) % 2:
        raise InputError("the salt is not hexadecimal of 16 to 128 digits", "leave it out, for a random one")
    clear = quality >= USUAL_QUALITY
    distinct = dict.fromkeys(captions)
    hashes = {caption: caption_hashes(caption, salt) for caption in distinct}
    texts = sorted({each for found in hashes.values() for each in found})
    return HashPack(
        name=name,
        salt=salt,
        images=_sorted_rows(pdq[clear]),
        texts=np.frombuffer(b"".join(texts), np.uint8).reshape(-1, TEXT_BYTES),
        images_left_out=int((~clear).sum()),
        captions_left_out=sum(not found for found in hashes.values()),
    )


def sign_pack(pack: HashPack, key: SigningKey) -> bytes:
    """The content of the file of a pack, signed; the same pack, key and time give the same bytes.

    Raises:
        InputError: the pack is empty or too large, or the clock is before the making of the key.
    """
    if not len(pack.images) + len(pack.texts):
        raise InputError("there is nothing to put into the pack", "add images with structure, or captions of 5 words")
    if max(len(pack.images), len(pack.texts)) > MAX_ENTRIES:
        raise InputError(f"a pack has at most {MAX_ENTRIES:,} images and hashes of captions", "make several packs")
    content, signed = pack.content(), signing_time()
    check_clock([("the making of the key", key.public.created)], signed)
    predicate = {
        "name": pack.name,
        "signed": signed,
        "images": {"method": IMAGE_METHOD, "count": len(pack.images), "left_out": pack.images_left_out},
        "texts": {
            "method": TEXT_METHOD,
            "count": len(pack.texts),
            "left_out": pack.captions_left_out,
            "salt": pack.salt,
        },
    }
    files = [SignedFile("codes", digest_bytes(content), len(content))]
    return sign_statement(f"{KIND}{VERSION}", files, predicate, [key]) + b"\n" + content


def read_pack(path: Path, keys: Sequence[PublicKey]) -> HashPack:
    """Read a pack and verify its signature; whoever made it cannot do more than give wrong codes.

    Args:
        path: of the file.
        keys: the keys of those who may have signed it.

    Raises:
        NotFound: there is no such file.
        IntegrityError: it is not signed by one of the keys, signed in the future, or damaged.
        InputError: it cannot be read, is of a newer version, or not a pack.
    """
    trusted = {key.id: key.key for key in keys}
    fix = "get the pack again, and the public key from its maker"
    try:
        with path.open("rb") as file:
            line = file.readline(MAX_LINE)
            if not line.endswith(b"\n") or not line.startswith(b"{"):
                raise InputError(f"{path} is not a signed hash pack", "make one with: clerestory data pack make DATA")
            try:
                statement, signers = open_envelope(line[:-1], trusted, str(path), (f"{KIND}{VERSION}", *NEWER))
            except NotVerified as error:
                raise IntegrityError(error.args[1], fix) from error
            if statement["predicateType"] in NEWER:
                raise InputError(f"{path} was made by a newer version of Clerestory", "update Clerestory")
            try:
                header = _read_statement(statement)
                check_not_future(header.facts["created"])
            except NotVerified as error:
                raise IntegrityError(
                    f"{path} was {error.args[1]}", "set the clock right, or refuse the pack"
                ) from error
            except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
                raise InputError(f"{path} does not describe a hash pack that can be read", fix) from error
            size = header.images * PDQ_BYTES + header.texts * TEXT_BYTES
            content = file.read(size + 1)
    except FileNotFoundError as error:
        raise NotFound(f"there is no hash pack {path}", "make one with: clerestory data pack make DATA") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {read_problem(error)}", "name the file of a hash pack") from error
    if len(content) != size or digest_bytes(content) != header.digest:
        raise IntegrityError(f"{path} is damaged: its codes are not those that were signed", fix)
    codes = np.frombuffer(content, np.uint8)
    end = header.images * PDQ_BYTES
    images, texts = codes[:end].reshape(-1, PDQ_BYTES), codes[end:].reshape(-1, TEXT_BYTES)
    if not (_is_ascending(images) and _is_ascending(texts)):
        raise IntegrityError(f"{path} does not have its codes in ascending order", fix)
    return HashPack(
        images=images,
        texts=texts,
        signer=signers[0],
        digest=header.digest,
        **header.facts,
    )


@dataclass(frozen=True, slots=True)
class _Header:
    images: int
    texts: int
    digest: str
    facts: Mapping[str, Any]


def _read_statement(statement: Any) -> _Header:
    """What a signed statement says about a pack; a ``ValueError`` or its like unless it has this form."""
    predicate = statement["predicate"]
    images, texts = predicate["images"], predicate["texts"]
    (subject,) = statement["subject"]
    counts = (images["count"], texts["count"], images["left_out"], texts["left_out"])
    if any(type(each) is not int or not 0 <= each <= MAX_ENTRIES for each in counts):
        raise ValueError("not a number of entries")
    if (images["method"], texts["method"]) != (IMAGE_METHOD, TEXT_METHOD) or not SALT.fullmatch(texts["salt"]):
        raise ValueError("hashes of another kind")
    name, created = (visible(" ".join(str(predicate[each]).split()))[:200] for each in ("name", "signed"))
    if not TIME.fullmatch(created):
        raise ValueError("not a time")
    facts = {"name": name, "salt": texts["salt"], "created": created}
    left_out = {"images_left_out": counts[2], "captions_left_out": counts[3]}
    return _Header(counts[0], counts[1], subject["digest"]["sha256"], {**facts, **left_out})


def shared_texts(hashes: Sequence[bytes], pack: HashPack) -> NDArray[np.bool_]:
    """Which hashes of captions (N,) a pack has; found by bisection, so that a large pack takes no more memory."""
    if not hashes or not len(pack.texts):
        return np.zeros(len(hashes), bool)
    known, sought = _as_strings(pack.texts), np.array(hashes, dtype=f"S{TEXT_BYTES}")
    places = np.minimum(np.searchsorted(known, sought), len(known) - 1)
    same: NDArray[np.bool_] = known[places] == sought
    return same


def _as_strings(codes: Codes) -> NDArray[np.bytes_]:
    """Rows of bytes as strings of bytes, which numpy orders and compares; without a copy."""
    return np.ascontiguousarray(codes).view(f"S{codes.shape[1]}").reshape(-1)


def _is_ascending(codes: Codes) -> bool:
    rows = _as_strings(codes)
    return bool((rows[:-1] < rows[1:]).all())


def _sorted_rows(codes: Codes) -> Codes:
    """The distinct rows in ascending order."""
    return np.unique(np.ascontiguousarray(codes), axis=0) if len(codes) else np.zeros((0, PDQ_BYTES), np.uint8)
