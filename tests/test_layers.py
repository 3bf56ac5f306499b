"""The import rules, and that `--help` costs nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from clerestory.cli.main import SUBCOMMANDS, commands

HEAVY = {"torch", "transformers", "numpy", "scipy", "pyarrow", "pandas", "onnxruntime", "sqlalchemy", "starlette"}
ROOT = Path(__file__).resolve().parents[1]


def test_layers_import_downwards_only() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "0 broken" in done.stdout


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from clerestory.cli.main import run; code = run(['--help']);"
        f"print(code, sorted({HEAVY!r} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "0 []"
    for verb in ("demo", "data", "train", "tune", "evaluate", "release", "serve", "report", "use"):
        assert f" {verb} " in done.stdout


HELPS = [name for name, command in commands().items() if command.path]
HELPS += [f"{group} {name}" for group, names in SUBCOMMANDS.items() for name in names]


SHOW_HELPS = r"""
import json, sys
from clerestory.cli.main import run
loaded = set()
for command in json.loads(sys.argv[1]):
    print("\f", end="")
    code = run([*command.split(), "--help"])
    found = {"torch", "transformers", "pandas"} & set(sys.modules) - loaded
    loaded |= found
    print(json.dumps([command, code, sorted(found)]), file=sys.stderr)
"""


def test_help_of_a_command_imports_no_torch() -> None:
    """All in one process, which starts once; each module is reported at the first command that imports it."""
    command = [sys.executable, "-c", SHOW_HELPS, json.dumps(HELPS)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert [json.loads(line) for line in done.stderr.splitlines()] == [[each, 0, []] for each in HELPS]
    for each, page in zip(HELPS, done.stdout.split("\f")[1:], strict=True):
        assert f"clerestory {each}" in page


def test_core_is_light() -> None:
    files = (ROOT / "src/clerestory/core").glob("*.py")
    modules = ", ".join(f"clerestory.core.{file.stem}" for file in files if file.stem != "__init__")
    code = f"import sys, {modules}; print(sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
