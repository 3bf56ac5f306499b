"""A dataset written as a folder opens as the same dataset."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.faulty_data import jpeg, scene

from clerestory.core.codec import Tags
from clerestory.core.digest import digest_bytes
from clerestory.core.sample import Caption, Dataset, Sample
from clerestory.data import open_data
from clerestory.data.diff import DataChange, diff_data
from clerestory.data.image_folder import as_image_folder, write_image_folder

IMAGES = [jpeg(scene(seed, (24, 18))) for seed in range(4)]
WORDS = st.lists(st.sampled_from(["rot", "blå", "猫", '"a"', "[x]", "a,b", "{}", "1", "🙂"]), min_size=1, max_size=4)
TEXT = WORDS.map(" ".join)
CAPTION = st.builds(Caption, TEXT, st.sampled_from(["en", "de", "pt-BR"]), st.sampled_from(["name", "keyword"]))
SAMPLE = st.fixed_dictionaries(
    {
        "id": st.sampled_from(["a/b.jpg", "c d", "ü", "x.png", "0001", "../up", ".hidden.jpg", "a" * 200]),
        "captions": st.lists(CAPTION, max_size=3, unique=True).map(tuple),
        "concept": TEXT,
        "groups": st.dictionaries(st.sampled_from(["style", "skin_tone"]), st.sampled_from(["x", "y"])).map(Tags),
        "licence": st.sampled_from(["", "MIT", "CC-BY-4.0"]),
        "source": st.sampled_from(["", "a page"]),
        "split": st.sampled_from(["train", "val", "test", "test_style"]),
    }
)


@settings(max_examples=40, deadline=None)
@given(st.lists(SAMPLE, min_size=1, max_size=4, unique_by=lambda fields: str(fields["id"])))
def test_every_field_survives(tmp_path_factory, rows: list[dict[str, object]]) -> None:  # type: ignore[no-untyped-def]
    contents = dict(zip((str(row["id"]) for row in rows), IMAGES, strict=False))
    samples = [Sample(image=digest_bytes(contents[str(row["id"])]), **row) for row in rows]  # type: ignore[arg-type]
    data = Dataset("drawn", samples, lambda sample: contents[sample.id])
    folder = tmp_path_factory.mktemp("written") / "data"
    folder.mkdir()
    write_image_folder(data, folder)
    opened = open_data(folder)
    assert opened.samples == as_image_folder(data).samples
    assert [opened.read(sample) for sample in opened] == [data.read(sample) for sample in data]


def test_images_of_a_folder_keep_their_paths(tmp_path: Path) -> None:
    for name in ("train/cat/1.jpg", "train/dog/2.jpg", "test/cat/3.jpg"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(IMAGES[int(Path(name).stem)])
    data = open_data(tmp_path / "in")
    (tmp_path / "out").mkdir()
    write_image_folder(data, tmp_path / "out")
    assert open_data(tmp_path / "out").digest == data.digest
    assert (tmp_path / "out" / "train" / "cat" / "1.jpg").read_bytes() == IMAGES[1]


def sample(id: str, image: str, split: str = "train") -> Sample:
    return Sample(id, digest_bytes(image.encode()), split=split)


def test_a_diff_pairs_renamed_samples_and_counts_the_rest() -> None:
    old = Dataset("old", [sample("a", "1"), sample("b", "2"), sample("c", "3"), sample("d", "4")], lambda s: b"")
    new = Dataset(
        "new", [sample("a", "1"), sample("z", "2", "test"), sample("d", "5"), sample("e", "6")], lambda s: b""
    )
    diff = diff_data(old, new, {"b": ("CLR-A017",)})
    assert [(each.sample, each.change, each.reasons) for each in diff.samples] == [
        ("c", DataChange.REMOVED, ()),
        ("d", DataChange.IMAGE, ()),
        ("e", DataChange.ADDED, ()),
        ("z", DataChange.RENAMED, ("CLR-A017",)),
        ("z", DataChange.SPLIT, ("CLR-A017",)),
    ]
    assert diff.unchanged == 1
    assert diff_data(old, old).samples == ()
