"""``clerestory data shards``: written, opened, checked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.support.images import solid_image

from clerestory.cli.main import run


@pytest.mark.parametrize("kind", ["parquet", "tar"])
def test_shards_are_written_opened_and_checked(
    tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLERESTORY_CACHE", str(tmp_path / "cache"))
    (tmp_path / "pictures").mkdir()
    for number in range(6):
        (tmp_path / "pictures" / f"{number}.png").write_bytes(solid_image((40 * number, 0, 0)))
    home = ["--home", str(tmp_path / "home"), "--json"]
    folder = str(tmp_path / "shards")
    assert run(["data", "add", str(tmp_path / "pictures"), *home]) == 0
    digest = json.loads(capsys.readouterr().out)["digest"]

    assert run(["data", "shards", "pictures", folder, "--kind", kind, *home]) == 0
    assert json.loads(capsys.readouterr().out)["index"]["digest"] == digest
    assert run(["data", "add", folder, "--name", "again", *home]) == 0
    assert json.loads(capsys.readouterr().out)["digest"] == digest

    assert run(["data", "shards", folder, *home]) == 0
    capsys.readouterr()
    shard = tmp_path / "shards" / f"shard-00000.{kind}"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    assert run(["data", "shards", folder, *home]) == 1
    assert shard.name in capsys.readouterr().err
    assert run(["data", "shards", "pictures", folder, *home]) == 2
    assert "not empty" in capsys.readouterr().err
