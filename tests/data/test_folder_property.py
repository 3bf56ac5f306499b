"""Every file and every sub-folder that came in is a sample, part of one, or named in a finding."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.images import solid_image

from clerestory.core.digest import digest_bytes
from clerestory.core.sample import Dataset
from clerestory.core.text import valid_unicode
from clerestory.data import open_data

IMAGE = solid_image("red", kind="JPEG")
SUFFIXES = (
    *(b".jpg", b".JPG", b".jfif", b".png", b".webp", b".gif", b".bmp", b"", b".txt", b".TXT", b".jpg.txt", b".json"),
    *(b".jsonl", b".csv", b".tsv", b".parquet", b".tar", b".zip", b".xlsx", b".caption", b".ndjson", b".dat"),
)
STEMS = st.one_of(
    st.sampled_from([b"a", b"b", b"A", b"train", b"test", b"captions", b"metadata", b"a  b", b"[b]", b"\xe9", b".x"]),
    st.binary(min_size=1, max_size=12).map(lambda name: name.translate(None, b"/\0")),
)
KINDS = (
    "image",
    "image",
    "text",
    "table",
    "rows",
    "json",
    "nonsense",
    "empty",
    "folder",
    "folder",
    "outside",
    "inside",
)
ENTRIES = st.lists(
    st.tuples(st.integers(0, 5), STEMS, st.sampled_from(SUFFIXES), st.sampled_from((*KINDS, "loop", "lost", "pipe"))),
    max_size=14,
)


class Tree:
    """A folder full of things, and the word that proves that a file was read."""

    def __init__(self, root: Path) -> None:
        self.root = os.fsencode(root)
        self.paths: list[bytes] = []
        self.words: dict[bytes, list[str]] = {}
        self._folders = [b""]
        self._numbers = itertools.count()

    def add(self, parent: int, name: bytes, kind: str) -> None:
        path = os.path.join(self._folders[parent % len(self._folders)], name)
        full = os.path.join(self.root, path)
        is_standard = b"/" not in path and name.lower().startswith((b"captions.", b"metadata."))
        if name in (b"", b".", b"..") or os.path.lexists(full) or is_standard:
            return
        self.paths.append(path)
        if kind == "folder":
            os.mkdir(full)
            self._folders.append(path)
        elif kind == "pipe":
            os.mkfifo(full)
        elif kind in ("outside", "inside", "loop", "lost"):
            targets = {
                "outside": b"/etc/passwd",
                "inside": os.path.join(self.root, b"0.png"),
                "loop": name,
                "lost": b"?",
            }
            os.symlink(targets[kind], full)
        else:
            Path(os.fsdecode(full)).write_bytes(self._content(path, kind))

    def _content(self, path: bytes, kind: str) -> bytes:
        word = f"word{next(self._numbers)}"
        rows: dict[str, Any] = {
            "text": f"a {word}\n",
            "table": f"image,caption\n0.png,a {word}\nnowhere.png,lost\n",
            "rows": json.dumps({"image": "0.png", "text": f"a {word}"}),
            "json": json.dumps([{"image": "0.png", "caption": f"a {word}"}]),
        }
        if kind in rows:
            self.words[path] = [word]
            return bytes(rows[kind].encode())
        return {"image": IMAGE, "nonsense": b'\xff\x00[{"', "empty": b""}[kind]


def unaccounted(tree: Tree, data: Dataset) -> list[bytes]:
    """What is neither a sample, nor part of one, nor named in a finding."""
    named = {sample.source for sample in data} | {finding.where for finding in data.findings}
    named |= {file for finding in data.findings for file in finding.details.string_items("files")}
    named |= {finding.where.rpartition(", ")[0] for finding in data.findings}
    captions = re.findall(r"word\d+", " ".join(caption.text for sample in data for caption in sample.captions))
    known = {path for path in tree.paths if valid_unicode(os.fsdecode(path)) in named}
    known |= {path for path, words in tree.words.items() if set(words) <= set(captions)}
    # The captions of an image that is left out are left out with it.
    left_out = {os.fsencode(f.where) for f in data.findings if f.code == "CLR-D001"}
    left_out |= {os.path.splitext(image)[0] for image in left_out}
    known |= {path for path in tree.words if valid_unicode(os.fsdecode(os.path.splitext(path)[0])).encode() in left_out}
    hidden = {path for path in known if os.path.basename(path).startswith(b".")}
    return [
        path
        for path in tree.paths
        if path not in known
        and not any(other.startswith(path + b"/") for other in known)
        and not any(path.startswith(folder + b"/") for folder in hidden)
    ]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLERESTORY_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield tmp_path_factory.mktemp("folders")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ENTRIES)
def test_every_file_and_folder_is_a_sample_or_part_of_one_or_named(
    folders: Path, entries: list[tuple[int, bytes, bytes, str]]
) -> None:
    root = folders / "data"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    (root / "0.png").write_bytes(solid_image("blue"))
    tree = Tree(root)
    for parent, stem, suffix, kind in entries:
        tree.add(parent, stem + (b"" if kind == "folder" else suffix), kind)
    data = open_data(root)
    assert unaccounted(tree, data) == [], f"{entries} {[(s.id, s.caption) for s in data]}"
    assert len(data.digest) == 64
    for sample in data:
        assert digest_bytes(data.read(sample)) == sample.image
        json.dumps([sample.id, sample.source, dict(sample.groups)], ensure_ascii=False).encode()
    for finding in data.findings:
        f"{finding.where} {finding.message} {finding.fix}".encode()
        assert "root:" not in finding.message


def test_a_name_that_is_not_utf8_becomes_a_sample_with_its_bytes_as_escapes(folders: Path) -> None:
    root = folders / "old zip"
    root.mkdir()
    for name in (b"caf\xe9.jpg", b"caf\\xe9.jpg", b"\xff\xfe/\xe4.jpg"):
        path = os.path.join(os.fsencode(root), name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        Path(os.fsdecode(path)).write_bytes(solid_image((len(name), 0, 0), kind="JPEG"))
    (root / "more.jsonl").write_text(
        json.dumps({"image": os.fsdecode(b"caf\xe9.jpg"), "text": "old"}), encoding="utf-8"
    )
    data = open_data(root)
    assert len(data) == 3
    assert "\\xff\\xfe/\\xe4.jpg" in {sample.id for sample in data}
    assert {digest_bytes(data.read(sample)) for sample in data} == {sample.image for sample in data}
    assert open_data(root).digest == data.digest


def test_a_folder_deeper_than_the_system_allows_is_named(folders: Path) -> None:
    root = folders / "deep"
    root.mkdir()
    (root / "a.jpg").write_bytes(IMAGE)
    before = os.open(".", os.O_RDONLY)
    try:
        os.chdir(root)
        for _ in range(22):
            os.mkdir("x" * 200)
            os.chdir("x" * 200)
    finally:
        os.fchdir(before)
        os.close(before)
    data = open_data(root)
    assert [sample.id for sample in data] == ["a.jpg"]
    (finding,) = (f for f in data.findings if f.code == "CLR-D015")
    assert "too long" in finding.message
    assert finding.where.startswith("x" * 200)
    subprocess.run(["rm", "-rf", str(root)], check=True)


READ_AS_NOBODY = """
import sys
from clerestory.data import open_data
data = open_data(sys.argv[1])
print(*sorted(f"{f.code} {f.where} {f.reason}" for f in data.findings), *(s.id for s in data), sep="\\n")
"""


@pytest.mark.skipif(not shutil.which("setpriv"), reason="needs setpriv (util-linux)")
def test_what_may_not_be_read_is_named(folders: Path) -> None:
    root = folders / "locked"
    (root / "private").mkdir(parents=True)
    for name in ("a.jpg", "b.jpg", "private/c.jpg"):
        (root / name).write_bytes(IMAGE)
    (root / "a.txt").write_text("a caption\n", encoding="utf-8")
    for name in ("b.jpg", "a.txt", "private"):
        (root / name).chmod(0)
    # Root may read everything unless it gives up this capability.
    drop = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
    done = subprocess.run(
        [*drop, sys.executable, "-c", READ_AS_NOBODY, str(root)], capture_output=True, text=True, check=True
    )
    (root / "private").chmod(0o700)
    lines = done.stdout.splitlines()
    assert "CLR-D015 private " in lines
    assert "CLR-D001 b.jpg file_unreadable" in lines
    assert "CLR-D002 a.txt not_utf8" in lines
    assert lines[-1] == "a.jpg"
