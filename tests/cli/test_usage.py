"""Wrong usage is answered with one sentence of ours and the remedy, for every option of every command."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_args, get_origin

import pytest
from cyclopts import App

from clerestory.cli.help_format import NO_DEFAULT
from clerestory.cli.main import INTERNAL_ERROR, OTHER_NAMES, SUBCOMMANDS, build, commands, run

LIBRARY_WORDS = ("requires an argument", "Unused Tokens", "unable to convert", "Unknown option", "specified multiple")


@pytest.mark.parametrize(
    ("line", "message", "fix"),
    [
        ("release promote icons@1 --why", "--why has no value", "see clerestory release promote --help"),
        (
            "release promote",
            "clerestory release promote needs REF",
            "add REF, or see clerestory release",
        ),
        ("compare a", "clerestory compare needs B", "add B"),
        ("tune x", "clerestory tune needs --data", "add --data VALUE"),
        ("evaluate --bogus 1", "clerestory evaluate has no option --bogus", "see clerestory evaluate --help"),
        ("evaluate --suite retrieval", "clerestory evaluate has no option --suite", "did you mean: --suites"),
        ("demo x y", "clerestory demo does not expect 'x y'", "remove it"),
        ("train --steps many", "--steps must be an integer, not 'many'", "see clerestory"),
        ("train --steps 1.5", "--steps must be an integer, not '1.5'", "see clerestory"),
        ("train --steps 1e3", "--steps must be an integer, not '1e3'", "see clerestory"),
        ("serve --port 80.5", "--port must be an integer, not '80.5'", "see clerestory"),
        ("train --price cheap", "--price must be a number, not 'cheap'", "see clerestory"),
        ("evaluate --self-test=maybe", "--self-test must be yes or no, not 'maybe'", "see clerestory"),
        ("release list --json --json", "--json is given twice", "give it once"),
        ("release --home x", "clerestory release needs a command before --home", "the commands are gate, list"),
        ("--quiet", "clerestory needs a command before --quiet", "the commands are demo, data"),
        (
            "use search cat --orientation wide",
            "--orientation must be landscape, portrait or square, not 'wide'",
            "see ",
        ),
        ("search cat", "clerestory has no command 'search'", "did you mean: use search"),
        ("describe a.png", "clerestory has no command 'describe'", "did you mean: use describe"),
        ("predict a.png", "clerestory has no command 'predict'", "did you mean: use describe"),
        ("digest", "clerestory has no command 'digest'", "did you mean: report"),
        ("duplicates x", "clerestory has no command 'duplicates'", "did you mean: data duplicates"),
        ("verify", "clerestory has no command 'verify'", "did you mean: release verify, pack verify"),
        ("serach cat", "clerestory has no command 'serach'", "did you mean: use search"),
        ("evalute x", "clerestory has no command 'evalute'", "did you mean: evaluate"),
        ("release promot", "clerestory release has no command 'promot'", "did you mean: promote"),
        ("train --steps -1", "--steps must be at least 1, not -1", ""),
        ("train --set batch_size=0", "--set batch_size must be at least 1, not 0", ""),
        ("tune starter --data x --learning-rate 0", "--learning-rate must be above 0, not 0.0", ""),
        ("evaluate --reply-tokens 0", "--reply-tokens must be at least 1 and at most 1,000,000, not 0", ""),
        ("evaluate --task none.toml", "none.toml", "fix: "),
        ("use search cat --limit 0", "--limit must be at least 1, not 0", ""),
        ("serve --port 99999", "port 99999 does not exist", "choose one from 0 to 65535"),
    ],
)
def test_wrong_usage_is_told_in_a_sentence_with_the_remedy(
    line: str,
    message: str,
    fix: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("CLERESTORY_HOME", str(tmp_path))
    assert run(line.split()) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert message in error
    assert fix in error
    assert not any(words in error for words in LIBRARY_WORDS)


def _commands(app: App, chain: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], App]]:
    for name in app:
        if not name.startswith("-"):
            yield from _commands(app[name], (*chain, name))
    if chain and app.default_command is not None:
        yield chain, app


def test_every_option_of_every_command_says_that_its_value_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    seen, paths = 0, set[str]()
    for chain, app in _commands(build()):
        arguments = app.assemble_argument_collection()
        for argument in arguments:
            option = next((name for name in argument.names if name.startswith("--")), None)
            if option is None or not argument.parse or argument.token_count()[0] == 0:
                continue
            assert run([*chain, option]) == 2
            assert f"{option} has no value" in capsys.readouterr().err, chain
            seen += 1
            if Path in (argument.hint, *get_args(argument.hint)):  # "" would be the current folder
                words = [option, ""]
                for other in arguments:
                    if other.required and other is not argument:
                        value = (
                            get_args(other.hint)[0]
                            if get_origin(other.hint) is Literal
                            else "1"
                            if other.hint is int
                            else "x"
                        )
                        words += [other.name, value] if other.name.startswith("-") else [value]
                assert run([*chain, *words]) == 2
                assert f"{option} has no value" in capsys.readouterr().err, chain
                paths.add(option)
    assert seen > 60
    assert {"--csv", "--report", "--out", "--home", "--config"} <= paths


def test_help_has_whole_paragraphs_and_no_empty_defaults(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    for line in ("evaluate", "train", "use describe"):
        assert run([*line.split(), "--help"]) == 0
        out = capsys.readouterr().out
        assert not any(f"[default: {nothing}]" in out for nothing in NO_DEFAULT)
        assert "[default: " in out or line == "train"
        entries = [row.strip("│ ") for row in out.splitlines() if row.startswith("│")]
        assert all(entry.startswith(("-", "MODEL", "FILES")) for entry in entries), "each option is one line"


def test_an_internal_error_has_an_exit_code_of_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> App:
        raise KeyError("missing")

    monkeypatch.setattr("clerestory.cli.main.build", broken)
    assert run(["demo"]) == INTERNAL_ERROR
    assert "unexpected error: KeyError: 'missing'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "there is no model named 'nothing'"),
        (["--model", "icons@99"], "there is no release or model named 'icons@99'"),
        (["--model", "./nowhere"], "there is no model folder nowhere"),
        (["--model", "hf:./nowhere"], "there is no model folder nowhere"),
        (["--model", "nothing@live"], "there is no model named 'nothing'"),
    ],
)
def test_serve_says_at_once_that_a_model_does_not_exist(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["serve", *arguments, "--home", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "fix: " in error


def test_every_other_name_of_a_command_leads_to_one_that_exists() -> None:
    existing = {*commands(), *(f"{group} {name}" for group, names in SUBCOMMANDS.items() for name in names)}
    assert set(OTHER_NAMES.values()) <= existing
    assert not set(OTHER_NAMES) & set(commands())
