"""``clerestory data duplicates`` and ``clerestory completion``."""

from __future__ import annotations

import csv
import json
import subprocess
from pathlib import Path

import pytest
from PIL import Image
from tests.support.images import noise_images, solid_image

from clerestory.cli.main import run


def test_images_that_are_there_twice_are_listed_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for split, colours in {"train": {"a": "red", "b": "navy", "=c": "red"}, "test": {"d": "red", "e": "gold"}}.items():
        (tmp_path / "pictures" / split).mkdir(parents=True)
        for name, colour in colours.items():
            (tmp_path / "pictures" / split / f"{name}.png").write_bytes(solid_image(colour))
    table = tmp_path / "twice.csv"
    chosen = ["data", "duplicates", str(tmp_path / "pictures"), "--home", str(tmp_path / "home")]
    assert run([*chosen, "--csv", str(table), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {Path(row["image"]).stem for row in rows} == {"a", "=c", "d"}
    assert {row["group"] for row in rows} == {1}
    assert len({row["split"] for row in rows}) == 2
    assert any(row["other split"] for row in rows)
    written = list(csv.DictReader(table.read_text(encoding="utf-8-sig").splitlines()))
    assert len(written) == 3
    assert all(not cell.startswith("=") for row in written for cell in row.values())
    assert run(chosen) == 0
    assert "1 image more than once, 2 copies of 5 samples" in capsys.readouterr().out
    assert run([*chosen, "--csv", str(table)]) == 2  # an existing file is not replaced
    assert "already exists" in capsys.readouterr().err


def test_links_are_no_copies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "pictures"
    (folder / "picked").mkdir(parents=True)
    (folder / "m.png").write_bytes(solid_image("red"))
    (folder / "copy of m.png").write_bytes(solid_image("red"))
    (folder / "n.png").write_bytes(solid_image("navy"))
    (folder / "a link.png").symlink_to("m.png")  # before the file in the order
    (folder / "picked" / "n.png").symlink_to("../n.png")
    (folder / "hard.png").hardlink_to(folder / "m.png")
    home = ["--home", str(tmp_path / "home")]
    assert run(["data", "duplicates", str(folder), "--json", *home]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["image"] for row in rows if row["link"]} == {"a link.png", "m.png", "picked/n.png"}
    assert run(["data", "duplicates", str(folder), *home]) == 0
    shown = capsys.readouterr().out
    assert "2 images more than once, 1 copy of 6 samples" in shown
    assert "3 links to the same file, on the disk only once" in shown
    assert run(["data", "add", str(folder), "--name", "all", *home]) == 0
    assert "3 of them through a link to the same file" in " ".join(capsys.readouterr().out.split())
    assert run(["data", "duplicates", str(folder), "--near", "--model", "starter", "--json", *home]) == 0
    near = [row for row in json.loads(capsys.readouterr().out) if row["list"] == "same bytes"]
    assert {row["image"] for row in near} == {"m.png", "hard.png", "copy of m.png"}
    assert {row["image"] for row in near if row["can go"]} == {"copy of m.png"}
    assert {row["image"] for row in near if row["link"]} == {"m.png", "hard.png"}


def test_data_without_copies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "pictures").mkdir()
    for colour in ("red", "navy"):
        (tmp_path / "pictures" / f"{colour}.png").write_bytes(solid_image(colour))
    assert run(["data", "duplicates", str(tmp_path / "pictures"), "--home", str(tmp_path / "home")]) == 0
    assert "has an exact copy" in capsys.readouterr().out


def test_the_script_for_a_shell_is_valid_and_knows_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["completion", "bash"]) == 0
    printed = capsys.readouterr()
    assert "source <(clerestory completion bash)" in printed.err
    for command in ("evaluate", "duplicates", "--suites"):
        assert command in printed.out
    asked = "COMP_WORDS=(clerestory da); COMP_CWORD=1; complete -p clerestory"
    shown = subprocess.run(["bash", "-c", f"{printed.out}\n{asked}"], capture_output=True, text=True, check=True)
    assert "clerestory" in shown.stdout
    assert run(["completion", "tcsh"]) == 2


def test_nearly_the_same_images_of_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, table = tmp_path / "pictures", tmp_path / "near.csv"
    folder.mkdir()
    for number, image in enumerate(noise_images((7, 9), (7, 9), (7, 9))):
        large = image.resize((160, 120), Image.Resampling.BICUBIC)
        large.save(folder / f"{number}.png")
        if number == 0:
            large.resize((80, 60)).save(folder / "small.jpg")
            (folder / "twin.png").write_bytes((folder / "0.png").read_bytes())
    (folder / "broken.jpg").write_bytes(b"nothing")
    chosen = ["data", "duplicates", str(folder), "--near", "--model", "starter", "--home", str(tmp_path / "home")]
    assert run([*chosen, "--min-similarity", "1", "--csv", str(table)]) == 0
    shown = capsys.readouterr()
    assert "1 image with the same bytes more than once, 1 image saved anew, 0 groups that look alike" in shown.out
    assert "2 copies can go while every image stays" in shown.out
    assert "broken.jpg is left out" in shown.err
    written = list(csv.DictReader(table.read_text(encoding="utf-8-sig").splitlines()))
    assert {row["image"] for row in written if row["can go"] == "True"} == {"small.jpg", "twin.png"}
    home = ["--home", str(tmp_path / "home")]
    assert run(["data", "add", str(folder), "--name", "mine", "--new-splits", "--language", "de", *home]) == 0
    for name in ("mine", str(folder)):
        capsys.readouterr()
        assert run(["data", "duplicates", name, "--near", "--model", "starter", "--json", *home]) == 0
        rows = json.loads(capsys.readouterr().out)
        assert {row["image"] for row in rows if row["can go"]} == {"small.jpg", "twin.png"}
    assert run(["data", "duplicates", "icons", "--near", *home]) == 2
    assert "icons is not a folder of images" in capsys.readouterr().err
