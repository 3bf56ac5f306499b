"""A command that is printed as the next one runs: here it is carried out, or the one that would fail is not printed."""

from __future__ import annotations

import shlex
from itertools import product
from pathlib import Path

import pytest
from tests.support.images import shape_image, solid_image
from tests.support.shapes import MORE_COLOURS, MORE_SHAPES

from clerestory.apps.datasets import load_dataset
from clerestory.cli.evaluate import chosen_splits
from clerestory.cli.main import build, run
from clerestory.core.errors import DataError
from clerestory.data import open_data
from clerestory.data.images import decode_sample
from clerestory.stages.train.requirements import check_trainable
from clerestory.store import open_store

COLOURS = ("red", "green", "blue", "yellow")
# the rows of a table: caption and split of each image
WORLDS = {
    "captioned": [("a red tile", ""), ("a green tile", ""), ("a blue tile", ""), ("a yellow tile", "")],
    "without captions": [("", ""), ("", ""), ("", ""), ("", "")],
    "one caption": [("a tile", "")] * 4,
    "one image": [("a red tile", "")],
    "one with a caption": [("a red tile", ""), ("", ""), ("", "")],
    "validation split only": [("a red tile", "val"), ("a green tile", "val"), ("a blue tile", "val")],
    "captions in the test split only": [("", "train"), ("", "train"), ("a red tile", "test"), ("a blue tile", "test")],
}


def write_world(folder: Path, rows: list[tuple[str, str]]) -> Path:
    folder.mkdir()
    table = ["image,caption,split"]
    for colour, (caption, split) in zip(COLOURS, rows, strict=False):
        (folder / f"{colour}.png").write_bytes(solid_image(colour))
        table.append(f"{colour}.png,{caption},{split}")
    (folder / "captions.csv").write_text("\n".join(table), encoding="utf-8")
    return folder


def suggested(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    """The words of the command that a successful command suggests."""
    assert run(list(arguments)) == 0
    err = capsys.readouterr().err
    [line] = [line.removeprefix("next: ") for line in err.splitlines() if line.startswith("next: ")]
    return shlex.split(line)[1:]


@pytest.mark.parametrize("world", WORLDS)
def test_training_is_suggested_exactly_for_data_that_it_accepts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, world: str
) -> None:
    monkeypatch.setenv("CLERESTORY_HOME", str(tmp_path / "home"))
    folder = write_world(tmp_path / "my tiles", WORLDS[world])
    command = suggested(capsys, "data", "add", str(folder))
    assert command[1:] == ["--data", "my tiles"]
    done = run(["train", *command[1:], "--steps", "1"]) if command[0] == "serve" else 0
    error = capsys.readouterr().err
    if world == "captioned":
        assert command[0] == "train"
        check_trainable(open_data(folder))
    else:
        assert command[0] == "serve", "search needs images alone"
        assert done == 2
        assert "Traceback" not in error
        with pytest.raises(DataError):
            check_trainable(open_data(folder))


def test_the_shards_of_data_without_captions_are_not_suggested_for_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLERESTORY_HOME", str(tmp_path / "home"))
    folder = write_world(tmp_path / "photos", WORLDS["without captions"])
    command = suggested(capsys, "data", "shards", str(folder), str(tmp_path / "shards"))
    assert command == ["serve", "--data", str(tmp_path / "shards")]


def test_data_without_a_training_split_is_divided_anew_as_the_refusal_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLERESTORY_HOME", str(tmp_path / "home"))
    folder = write_world(tmp_path / "val 2017", WORLDS["validation split only"])
    suggested(capsys, "data", "add", str(folder))
    assert chosen_splits("", open_data(folder)) == ("val",), "what it can be used for"
    assert chosen_splits("test, val", open_data(folder)) == ("test", "val")
    assert run(["train", "--data", "val 2017", "--steps", "1"]) == 2
    error, fix = capsys.readouterr().err.splitlines()[-2:]
    assert error == "error: no sample of val 2017 is in the split 'train' (val 3)"
    command = shlex.split(fix.partition("clerestory ")[2])
    assert suggested(capsys, *command) == ["train", "--data", "val 2017-split"]
    assert chosen_splits("", open_data(write_world(tmp_path / "other", WORLDS["captions in the test split only"]))) == (
        "test",
        "test_style",
    )
    divided = load_dataset(open_store(tmp_path / "home"), "val 2017-split")
    assert [sample.image for sample in divided] == [sample.image for sample in open_data(folder)]
    assert not {finding.code for finding in divided.findings}
    assert all(divided.read(sample) for sample in divided)


# More options for a printed command, which make it small; a command that is only parsed has None.
SMALLER = {
    "train": "--preset tiny --steps 2 --set batch_size=8 --set threads=1",
    "evaluate": "--suites retrieval",
    "release gate": "--policy small.toml",
    "serve": None,
}
SMALL_POLICY = """
name = "small"
[[rules]]
name = "some captions"
metric = "median_rank"
where = { task = "image_to_text", split = "test" }
at_most = 1000
"""


@pytest.mark.parametrize(("parts", "expected"), [(2, ["tune", "photos"]), (1, ["serve"])])
def test_a_head_is_suggested_for_photographs_with_enough_captions(
    parts: int, expected: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLERESTORY_HOME", str(tmp_path / "home"))
    source, lines, folder = open_data("photographs"), ["image,caption,split"], tmp_path / "mine"
    folder.mkdir()
    for number, (sample, part) in enumerate(product(source, range(parts))):
        image = decode_sample(source, sample)
        image.thumbnail((300, 300))
        image.crop((20 * part, 0, image.width, image.height)).save(folder / f"{number}.jpg")
        lines.append(f'{number}.jpg,"{sample.caption} {part}",train')
    (folder / "captions.csv").write_text("\n".join(lines), encoding="utf-8")
    assert suggested(capsys, "data", "add", str(folder)) == [*expected, "--data", "mine"]


def test_every_next_command_of_a_life_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the first command each one is what the one before printed; the release is named after the data."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CLERESTORY_HOME", str(tmp_path / "home"))
    Path("small.toml").write_text(SMALL_POLICY, encoding="utf-8")
    rows = ["image,caption,split"]
    folder = tmp_path / "My shapes"
    folder.mkdir()
    for i, (colour, shape) in enumerate(product(MORE_COLOURS[:4], MORE_SHAPES[:4])):
        (folder / f"{i}.png").write_bytes(shape_image(colour, shape, 3))
        rows.append(f"{i}.png,a {colour} {shape},{('train', 'test')[i % 2]}")
    (folder / "captions.csv").write_text("\n".join(rows), encoding="utf-8")
    queue, seen = [["data", "add", "My shapes"]], list[str]()
    while queue:
        command = queue.pop(0)
        name = next((name for name in SMALLER if command[: len(name.split())] == name.split()), "")
        seen.append(" ".join(command[: 2 if command[0] in ("data", "release") else 1]))
        more = SMALLER.get(name, "")
        if more is None:
            build().parse_args(command, exit_on_error=False, print_error=False)
            continue
        code = run([*command, *shlex.split(more)])
        out, err = capsys.readouterr()
        assert code == 0, f"clerestory {' '.join(command)}: exit code {code}\n{out}{err}"
        if name == "evaluate":
            assert all(words in out for words in ("by chance", "was not checked (add validity to --suites)"))
            assert "trusted?" not in out, "a column without a cell"
        queue += [shlex.split(line)[2:] for line in err.splitlines() if line.startswith("next: ")]
    assert seen == ["data add", "train", "evaluate", "release gate", "release promote", "serve"]
    assert command == ["serve", "my-shapes", "--data", "My shapes"]
