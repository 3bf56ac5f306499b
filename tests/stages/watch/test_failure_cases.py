"""A failure case becomes a task that the policy of the gate requires; files of people keep their comments."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from clerestory.core.errors import ConfigError, Conflict, InputError
from clerestory.stages.release.policies import load_policy
from clerestory.stages.watch.failure_cases import add_case

OWN = '# ours\nname = "shoes"\nversion = 4\n\n[[rules]]\nname = "a"\nmetric = "recall@10"\nat_least = 0.2\n'


def image(folder: Path, colour: str) -> Path:
    file = folder / f"{colour}.png"
    Image.new("RGB", (32, 32), colour).save(file)
    return file


def test_cases_are_added_once_and_required(tmp_path: Path) -> None:
    policy, folder = tmp_path / "policy.toml", tmp_path / "cases"
    first = add_case(folder, image(tmp_path, "red"), "red square", ("blue square",), 1, policy, OWN)
    again = add_case(folder, image(tmp_path, "red"), "red square", ("lime square",), 2, policy, OWN)
    second = add_case(folder, image(tmp_path, "blue"), "blue square", ("red square",), 2, policy, OWN)
    assert [(each.count, each.added) for each in (first, again, second)] == [(1, True), (1, False), (2, True)]
    read = load_policy(policy)
    assert (read.version, [rule.name for rule in read.rules]) == (5, ["a", "no failure case comes back"])
    assert policy.read_text("utf-8").startswith("# ours\n")
    task = first.task.read_text("utf-8")
    assert '"lime square"' in task
    with pytest.raises(Conflict, match="red square"):
        add_case(folder, image(tmp_path, "red"), "pink square", ("blue square",), 3, policy, OWN)


def test_wrong_input_writes_nothing(tmp_path: Path) -> None:
    policy, folder = tmp_path / "policy.toml", tmp_path / "cases"
    with pytest.raises(InputError, match="to tell the expected one from"):
        add_case(folder, image(tmp_path, "red"), "red", (), 1, policy, OWN)
    with pytest.raises(InputError, match="cannot be read"):
        add_case(folder, tmp_path / "no.png", "red", ("blue",), 1, policy, OWN)
    assert not folder.exists()
    policy.write_text("name = [", encoding="utf-8")
    with pytest.raises(ConfigError, match="not valid TOML"):
        add_case(folder, image(tmp_path, "red"), "red", ("blue",), 1, policy, OWN)
