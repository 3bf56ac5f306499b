"""The files in ``deploy/`` agree with the project."""

from __future__ import annotations

import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
LEFT_OUT = {"torch", "transformers", "scipy", "pyarrow", "phonenumbers"}  # of the dependencies: ADR 17


def pinned(file: Path) -> dict[str, str]:
    lines = (line.strip() for line in file.read_text(encoding="utf-8").splitlines())
    pairs = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {canonicalize_name(name): version for name, version in pairs}


def test_the_packages_of_a_server_have_the_versions_that_are_tested() -> None:
    tested = pinned(ROOT / "constraints.txt")
    for name, version in pinned(DEPLOY / "serve-requirements.txt").items():
        assert tested.get(name) == version, name


def test_a_server_leaves_out_only_what_is_named() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = {canonicalize_name(Requirement(each).name) for each in project["dependencies"]}
    assert needed - set(pinned(DEPLOY / "serve-requirements.txt")) == LEFT_OUT
