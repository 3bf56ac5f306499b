"""Names, captions and groups of other people are printed as they are: never as markup, never as terminal commands."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.table import Table
from rich.text import Text
from tests.support.images import solid_image

from clerestory.cli.main import run
from clerestory.cli.output import Output, PlainConsole, fail
from clerestory.core.text import valid_unicode, visible

HOSTILE = st.text(
    st.sampled_from("[]/\\bi= :#*x\x1b\x00\x9b\u202e\u200b\udce9\ud83dé😀")
    | st.characters(exclude_characters="\n\t\r"),
    min_size=1,
).filter(str.strip)


def printed(*lines: str | Text | Table) -> str:
    console = PlainConsole()
    console.file, console.width = io.StringIO(), 10_000
    Output(stdout=console).result({}, *lines)
    return str(console.file.getvalue())


@given(HOSTILE)
@example("old [/b] price")
@example("[/i]")
@example("a [cover].jpg")
@example("[link=https://example.com]click[/link]")
@example(":bag:")
@example("\x1b]0;owned\x07")
def test_any_text_is_printed_as_it_is(text: str) -> None:
    table = Table("name", box=None)
    table.add_row(f"|{text}|")
    shown = f"|{visible(text)}|"
    assert printed(f"|{text}|") == f"{shown}\n"
    assert shown in printed(table)
    assert not set(printed(table, text)) & set("\x00\x1b\x9b\u202e")


@given(HOSTILE)
def test_visible_text_can_be_encoded_and_ordinary_text_is_unchanged(text: str) -> None:
    visible(text).encode()
    valid_unicode(text).encode()
    assert visible(visible(text)) == visible(text)
    ordinary = "".join(c for c in text if c.isprintable())
    assert visible(ordinary) == ordinary


def test_styled_text_cannot_command_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    Output().next("clerestory train --data '\x1b[2J[/b]'")
    fail("bad [/b] \x1b[2J", "write [x]", ["[a]"])
    text = capsys.readouterr().err
    assert "next: clerestory train --data '\\x1b[2J[/b]'" in text
    assert "error: bad [/b] \\x1b[2J" in text
    assert "did you mean: [a]" in text
    assert "fix: write [x]" in text


def test_a_folder_full_of_markup_is_added_and_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "my [b] photos"
    folder.mkdir()
    (folder / "a [cover].jpg").write_bytes(solid_image("red", kind="JPEG"))
    (folder / "b [bold].jpg").write_bytes(b"broken")
    rows = "image,caption,state\na [cover].jpg,a [/i] bag,old [/b] price\n"
    (folder / "captions.csv").write_text(rows, encoding="utf-8")
    assert run(["data", "add", str(folder), "--home", str(tmp_path / "home")]) == 0
    shown = capsys.readouterr()
    assert "old [/b] price 1" in shown.out
    assert "b [bold].jpg" in shown.out
    assert "next: clerestory serve --data 'my [b] photos'" in shown.err
    assert run(["data", "list", "--home", str(tmp_path / "home")]) == 0
    assert "my [b] photos" in capsys.readouterr().out


def test_an_argument_that_is_not_utf8_is_one_sentence_also_in_json(tmp_path: Path) -> None:
    command = [os.fsencode(Path(sys.executable).with_name("clerestory")), b"data", b"add", b"caf\xe9"]
    done = subprocess.run([*command, b"--json"], cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 2
    assert "caf" in json.loads(done.stderr)["error"]["message"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    assert b"caf\\" in done.stderr
    assert b"Traceback" not in done.stderr
