"""A model stands for its only release where a command needs one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.support.release_life import Life

from clerestory.apps.references import model_reference, release_reference
from clerestory.apps.starter import add_starter
from clerestory.cli.main import run
from clerestory.core.errors import NotFound
from clerestory.stages.release import register
from clerestory.store import open_store


@pytest.fixture
def life(tmp_path: Path) -> Life:
    return Life(open_store(tmp_path / "home"), tmp_path / "models")


def test_a_digest_stands_for_its_only_release(life: Life) -> None:
    release = life.release()
    for ref in (release.model, release.model[:12], release.ref):
        assert release_reference(life.store, ref) == release.ref
    for ref in ("icons", "icons@live", "nothing"):  # left to the store, which names what is wrong
        assert release_reference(life.store, ref) == ref
    assert model_reference(life.store, release.ref) == release.ref


def test_the_starter_without_a_release_is_named_as_a_model(life: Life) -> None:
    with pytest.raises(NotFound, match="starter is a model, and no release was made from it") as error:
        release_reference(life.store, "starter")
    assert error.value.fix == "make one with: clerestory release gate starter"
    assert model_reference(life.store, "starter") == add_starter(life.store)


def test_the_starter_stands_for_its_release(life: Life, capsys: pytest.CaptureFixture[str]) -> None:
    starter = add_starter(life.store)
    life.evaluated(starter)
    release = register("icons", life.decide(starter), life.store, "Ada", "a test")
    assert release_reference(life.store, "starter") == release.ref
    assert run(["release", "show", "starter", "--home", str(life.store.home), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ref"] == release.ref


def test_a_model_with_several_releases_names_them(life: Life) -> None:
    release = life.release()
    again = register("icons", life.decide(release.model), life.store, "Ada", "again")
    with pytest.raises(NotFound, match=f"is a model; its releases are {again.ref}, {release.ref}"):
        release_reference(life.store, release.model)


def test_the_commands_accept_the_starter(
    life: Life, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    home = ["--home", str(life.store.home)]
    for command in (["release", "card"], ["release", "bom"]):
        assert run([*command, "starter", *home]) == 0
    capsys.readouterr()
    for command in (
        ["release", "show", "starter"],
        ["release", "request", "starter", "--why", "now"],
        ["release", "promote", "starter", "--why", "now"],
        ["govern", "starter"],
    ):
        assert run([*command, *home, "--json"]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert json.loads(err)["error"]["fix"] == "make one with: clerestory release gate starter"
