"""Remedies on the command line: every invalid setting has one, and it is clear to which finding one belongs."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.images import solid_image

from clerestory.cli.main import run


@pytest.mark.parametrize(
    ("setting", "fix"),
    [
        ("max_aspect=-1", "choose a number that is at least 1"),
        ("max_aspect=nan", "choose a number that is at least 1"),
        ("min_side=1e99", "give an integer"),
        ("licences.propagates=training", '["training"]'),
        ("licences.propagates=[a, b]", '["a", "b"]'),
    ],
)
def test_an_invalid_setting_has_a_remedy(setting: str, fix: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", "audit", "icons", "--set", setting]) == 2
    remedy = capsys.readouterr().err.partition("fix: ")[2]
    assert fix in remedy


def test_a_remedy_stands_under_its_finding_and_once_if_it_is_that_of_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for colour in ("red", "navy", "gold", "green"):
        (folder / f"{colour}.png").write_bytes(solid_image(colour))
    damaged = {"a.jpg": b"", "b.png": b"no image"}
    for name, content in damaged.items():
        (folder / name).write_bytes(content)
    assert run(["data", "add", str(folder), "--home", str(tmp_path / "home")]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    for name in damaged:
        place = next(i for i, line in enumerate(lines) if f"{name}:" in line)
        assert lines[place + 1][0] == "fix:", name
    (folder / "b.png").write_bytes(b"")
    assert run(["data", "add", str(folder), "--home", str(tmp_path / "home")]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    place = next(i for i, line in enumerate(lines) if "a.jpg:" in line)
    assert ("b.png:" in lines[place + 1], lines[place + 2][0]) == (True, "fix:")
