"""Shards: any sample at once, the same order however many files, ranks and workers, damage named by its file."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
import tempfile
from functools import lru_cache
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.images import solid_image
from torch.utils.data import DataLoader

from clerestory.core.codec import Tags
from clerestory.core.digest import digest_bytes
from clerestory.core.errors import ConfigError, InputError, IntegrityError
from clerestory.core.sample import Caption, Dataset, Sample
from clerestory.data import open_data
from clerestory.data.shards import Shards, is_sharded, open_shards, verify_shards, write_shards
from clerestory.data.shards.index import ShardKind
from clerestory.stages.train.sharding import shard
from clerestory.stages.train.shuffle import ShuffledOrder

KINDS: tuple[ShardKind, ShardKind] = ("parquet", "tar")
both = pytest.mark.parametrize("kind", KINDS)


@lru_cache
def pictures(count: int = 50) -> Dataset:
    contents = {}
    samples = []
    for number in range(count):
        colour = (number * 5 % 256, number % 256, 99)
        name, kind = f"p/{number:03d}", ("PNG", "JPEG", "WEBP")[number % 3]
        contents[name] = solid_image(colour, size=(8 + number % 5, 8), kind=kind)
        captions = (Caption(f"Bild {number} – ü"), Caption("word", "de", "keyword")) if number % 7 else ()
        groups = Tags(style="plain", side=str(number % 2))
        image = digest_bytes(contents[name])
        samples.append(Sample(name, image, captions, f"c{number // 2}", groups, "CC0-1.0", "drawn", "train"))
    return Dataset("drawn", samples, lambda sample: contents[sample.id])


@both
def test_shards_open_as_the_same_data_set(tmp_path: Path, kind: ShardKind) -> None:
    data = pictures()
    index = write_shards(data, tmp_path / "out", kind, shard_bytes=900)
    assert len(index.shards) > 5
    assert sum(shard.samples for shard in index.shards) == index.size == len(data)
    opened = open_data(tmp_path / "out")
    assert (opened.digest, opened.name, opened.samples) == (data.digest, data.name, data.samples)
    assert [opened.read(sample) for sample in opened] == [data.read(sample) for sample in data]
    assert verify_shards(tmp_path / "out") == index
    assert [path.name for path in tmp_path.iterdir()] == ["out"], "nothing temporary is left"


@both
def test_equal_data_gives_equal_bytes(tmp_path: Path, kind: ShardKind) -> None:
    first, second = (write_shards(pictures(), tmp_path / name, kind, shard_bytes=2000) for name in "ab")
    assert first == second


def test_a_tar_shard_is_a_webdataset(tmp_path: Path) -> None:
    data = pictures()
    write_shards(data, tmp_path / "out", "tar", shard_bytes=10**6)
    shards = Shards(tmp_path / "out")
    with tarfile.open(tmp_path / "out" / "shard-00000.tar") as archive:
        members = {member.name: member for member in archive}
        assert "000000000.txt" not in members, "a picture without caption has no text"
        for position, sample in enumerate(data):
            mine = [m for name, m in members.items() if name.startswith(f"{position:09d}.")]
            (picture,) = (m for m in mine if m.name.endswith((".png", ".jpg", ".webp")))
            assert shards._offset[position] == picture.offset_data
            assert archive.extractfile(picture).read() == data.read(sample)  # type: ignore[union-attr]  # it is a file
            record = json.load(archive.extractfile(f"{position:09d}.json") or io.BytesIO())
            assert (record["id"], record["concept"]) == (sample.id, sample.concept)


def test_a_parquet_shard_opens_by_itself(tmp_path: Path) -> None:
    data = pictures()
    write_shards(data, tmp_path / "out", "parquet", shard_bytes=2000)
    first = Shards(tmp_path / "out").index.shards[0]
    alone = open_data(tmp_path / "out" / first.file)
    assert alone.samples == data.samples[: first.samples]
    assert pq.ParquetFile(tmp_path / "out" / first.file).metadata.num_rows == first.samples


@settings(max_examples=25, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    shard_bytes=st.integers(1, 6000),
    world=st.sampled_from([1, 2, 3, 4, 6]),
    start=st.integers(0, 9),
    seed=st.integers(0, 2**32),
)
def test_the_order_does_not_know_of_shards_and_ranks(
    kind: ShardKind, shard_bytes: int, world: int, start: int, seed: int
) -> None:
    data, batch, steps = pictures(), 12, 10
    wanted = [
        data.samples[row].id for row in ShuffledOrder(len(data), seed).take(start * batch, (steps - start) * batch)
    ]
    with tempfile.TemporaryDirectory() as folder:
        write_shards(data, Path(folder) / "s", kind, shard_bytes)
        ranks = []
        for rank in range(world):
            shards = Shards(Path(folder) / "s")
            order = ShuffledOrder(len(shards), seed)
            batches = [shard(order.take(step * batch, batch), rank, world) for step in range(start, steps)]
            ranks.append([[shards[int(row)] for row in rows] for rows in batches])
    seen = [pair for step in zip(*ranks, strict=True) for pairs in zip(*step, strict=True) for pair in pairs]
    assert [sample.id for sample, _ in seen] == wanted
    assert all(digest_bytes(content) == sample.image for sample, content in seen)


@both
@pytest.mark.parametrize("workers", [0, 1, 2])
def test_the_order_does_not_know_of_workers(tmp_path: Path, kind: ShardKind, workers: int) -> None:
    data = pictures()
    write_shards(data, tmp_path / "s", kind, shard_bytes=1500)
    shards = Shards(tmp_path / "s")
    assert shards[49]  # a reader is open before the workers are forked
    plan = ShuffledOrder(len(shards), 3).take(0, 150).reshape(15, 10).tolist()
    loader = DataLoader(  # type: ignore[var-annotated]  # the batches are lists of pairs
        shards,  # type: ignore[arg-type]  # it has the two methods of a map-style dataset
        batch_sampler=plan,
        num_workers=workers,
        collate_fn=list,
        multiprocessing_context="fork" if workers else None,
    )
    torch.manual_seed(0)
    seen = [[(sample.id, content) for sample, content in part] for part in loader]
    assert seen == [[(data.samples[row].id, data.read(data.samples[row])) for row in part] for part in plan]


@both
def test_shards_travel_to_a_spawned_worker(tmp_path: Path, kind: ShardKind) -> None:
    write_shards(pictures(), tmp_path / "s", kind, shard_bytes=1500)
    shards = Shards(tmp_path / "s")
    assert pickle.loads(pickle.dumps(shards))[17] == shards[17]


@both
def test_a_damaged_picture_names_its_shard(tmp_path: Path, kind: ShardKind) -> None:
    data = pictures()
    index = write_shards(data, tmp_path / "s", kind, shard_bytes=2000)
    third = index.shards[2]
    path = tmp_path / "s" / third.file
    content = bytearray(path.read_bytes())
    wanted = data.read(data.samples[third.first])
    place = bytes(content).index(wanted)
    content[place + len(wanted) // 2] ^= 1
    path.write_bytes(content)

    opened = open_shards(tmp_path / "s")
    assert opened.read(opened.samples[0]) == data.read(data.samples[0]), "other shards still serve"
    with pytest.raises(IntegrityError, match=third.file):
        opened.read(opened.samples[third.first])
    with pytest.raises(IntegrityError, match=third.file):
        verify_shards(tmp_path / "s")


@both
def test_a_shard_cut_off_or_missing_is_named_at_once(tmp_path: Path, kind: ShardKind) -> None:
    index = write_shards(pictures(), tmp_path / "s", kind, shard_bytes=2000)
    path = tmp_path / "s" / index.shards[1].file
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(IntegrityError, match=path.name):
        open_shards(tmp_path / "s")
    path.unlink()
    with pytest.raises(IntegrityError, match=path.name):
        open_shards(tmp_path / "s")


@both
def test_rubbish_of_the_right_size_is_named(tmp_path: Path, kind: ShardKind) -> None:
    index = write_shards(pictures(), tmp_path / "s", kind, shard_bytes=2000)
    path = tmp_path / "s" / index.shards[1].file
    path.write_bytes(bytes(index.shards[1].bytes))
    opened = open_shards(tmp_path / "s")
    with pytest.raises(IntegrityError, match=path.name):
        opened.read(opened.samples[index.shards[1].first])


@pytest.mark.parametrize("file", ["shards.json", "index.parquet"])
def test_a_damaged_index_is_named(tmp_path: Path, file: str) -> None:
    write_shards(pictures(), tmp_path / "s", "tar")
    path = tmp_path / "s" / file
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(IntegrityError, match=file):
        open_shards(tmp_path / "s")


def test_invalid_requests_are_reported_and_write_nothing(tmp_path: Path) -> None:
    data = pictures()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("", encoding="utf-8")
    with pytest.raises(InputError, match="not empty"):
        write_shards(data, tmp_path / "full")
    with pytest.raises(ConfigError, match="zip"):
        write_shards(data, tmp_path / "new", "zip")  # type: ignore[arg-type]  # what a person may type
    with pytest.raises(ConfigError, match="size"):
        write_shards(data, tmp_path / "new", shard_bytes=0)
    with pytest.raises(InputError, match="is empty"):
        write_shards(data.filter(lambda sample: False), tmp_path / "new")
    broken = Dataset("broken", data.samples, lambda sample: b"something else")
    with pytest.raises(IntegrityError, match="p/000"):
        write_shards(broken, tmp_path / "new")
    assert not (tmp_path / "new").exists()
    assert not is_sharded(tmp_path)
