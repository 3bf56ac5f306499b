"""Which code a number comes from, read from the imports themselves."""

import subprocess
import sys

import pytest

from clerestory.core.provenance import PACKAGE, code_behind, code_digest

ROOM = "stages/evaluate"
PARTS = sorted(file.stem for file in (PACKAGE / ROOM / "parts").glob("*.py") if file.stem != "__init__")
SHOW = """
import importlib, sys, types
package = types.ModuleType("clerestory.stages.evaluate.suites")
package.__path__ = [sys.argv[2]]
sys.modules[package.__name__] = package  # the registry of all parts is nothing that one of them needs
stage = types.ModuleType("clerestory.stages.evaluate")
stage.__path__ = [sys.argv[3]]
sys.modules[stage.__name__] = stage
importlib.import_module(f"clerestory.stages.evaluate.suites.{sys.argv[1]}")
print("\\n".join(sorted(n for n, m in sys.modules.items() if n.startswith(stage.__name__ + ".") and m is not package)))
"""


def test_nothing_that_python_itself_imports_for_a_part_is_missed() -> None:
    for part in ("captions", "ood", "speed", "trust"):
        folders = [str(PACKAGE / ROOM / "parts"), str(PACKAGE / ROOM)]
        done = subprocess.run(
            [sys.executable, "-c", SHOW, part, *folders], capture_output=True, text=True, check=True, timeout=120
        )
        loaded = {name.removeprefix("clerestory.").replace(".", "/") for name in done.stdout.split()}
        told = set(code_behind(f"clerestory.stages.evaluate.suites.{part}", ROOM))
        packages = {name for name in loaded if (PACKAGE / name).is_dir()}
        assert loaded - packages <= told, part


def test_a_part_rests_on_what_it_imports_and_on_nothing_beside_it() -> None:
    assert len(PARTS) == 12
    for part in PARTS:
        told = code_behind(f"clerestory.stages.evaluate.suites.{part}", ROOM)
        assert {f"{ROOM}/parts/{part}", f"{ROOM}/bench", f"{ROOM}/table"} <= set(told)
        assert all(file.startswith(ROOM) and (PACKAGE / f"{file}.py").is_file() for file in told)
    captions = code_behind("clerestory.stages.evaluate.suites.captioning", ROOM)
    assert f"{ROOM}/pieces" in captions, "it chooses which pictures are described"
    assert not any("/load/" in file or "/selftest/" in file for file in captions)


@pytest.mark.parametrize("module", ["json", "clerestory.nothing", "clerestory.core.digest"])
def test_what_is_not_in_the_room_is_nothing(module: str) -> None:
    assert code_behind(module, ROOM) == ()


def test_a_changed_letter_is_another_digest() -> None:
    files = code_behind("clerestory.stages.evaluate.suites.ood", ROOM)
    assert len({code_digest(*files), code_digest(*files[1:]), code_digest(*files, "core/digest")}) == 3
