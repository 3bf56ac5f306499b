"""Which code a number depends on, read from the imports themselves."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from clerestory.core import provenance
from clerestory.core.errors import ClerestoryError
from clerestory.core.provenance import PACKAGE, code_digest, imported_files

LAYER = "stages/evaluate"
BUILT_IN = {
    *("calibration", "captioning", "classification", "corruption", "cost", "fairness", "latency", "ood", "retrieval"),
    *("text_perturbation", "validity", "vqa"),
}
SUITES = sorted(path.parent.name for path in (PACKAGE / LAYER / "suites").glob("*/__init__.py"))
LOADED = """
import importlib, sys, types
for name, folder in (("clerestory.stages.evaluate.suites", sys.argv[2]), ("clerestory.stages.evaluate", sys.argv[3])):
    package = types.ModuleType(name)  # without its __init__: the registry of all suites is not needed by one of them
    package.__path__ = [folder]
    sys.modules[name] = package
importlib.import_module(f"clerestory.stages.evaluate.suites.{sys.argv[1]}")
own = ("clerestory.stages.evaluate", "clerestory.stages.evaluate.suites")
print("\\n".join(sorted(name for name in sys.modules if name.startswith(own[0] + ".") and name not in own)))
"""


@pytest.mark.parametrize("suite", ["captioning", "ood", "latency", "validity"])
def test_every_module_that_python_imports_for_a_suite_is_listed(suite: str) -> None:
    folders = [str(PACKAGE / LAYER / "suites"), str(PACKAGE / LAYER)]
    done = subprocess.run(
        [sys.executable, "-c", LOADED, suite, *folders], capture_output=True, text=True, check=True, timeout=120
    )
    loaded = {name.removeprefix("clerestory.").replace(".", "/") for name in done.stdout.split()}
    listed = set(imported_files(f"clerestory.stages.evaluate.suites.{suite}", LAYER))
    packages = {name for name in loaded if (PACKAGE / name).is_dir()}
    assert loaded - packages <= listed
    # The code of a suite is in the ``__init__`` of its package; other packages only re-export names.
    assert {f"{name}/__init__" for name in packages if name.startswith(f"{LAYER}/suites/")} <= listed


def test_a_suite_depends_on_what_it_imports_and_on_no_other_suite() -> None:
    assert set(SUITES) >= BUILT_IN
    for suite in SUITES:
        files = imported_files(f"clerestory.stages.evaluate.suites.{suite}", LAYER)
        assert {f"{LAYER}/suites/{suite}/__init__", f"{LAYER}/context", f"{LAYER}/suite"} <= set(files)
        assert all(file.startswith(LAYER) and (PACKAGE / f"{file}.py").is_file() for file in files)
        others = {file.split("/")[3] for file in files if file.startswith(f"{LAYER}/suites/")} - {suite, "__init__"}
        assert not others or suite == "validity", others
        assert not any("/selftest/" in file for file in files)
    captioning = imported_files("clerestory.stages.evaluate.suites.captioning", LAYER)
    assert f"{LAYER}/samples" in captioning, "it selects the images to caption"


@pytest.mark.parametrize("module", ["json", "clerestory.nothing", "clerestory.core.digest"])
def test_a_module_outside_the_layer_gives_nothing(module: str) -> None:
    assert imported_files(module, LAYER) == ()


def test_one_changed_file_changes_the_digest() -> None:
    files = imported_files("clerestory.stages.evaluate.suites.ood", LAYER)
    assert len({code_digest(*files), code_digest(*files[1:]), code_digest(*files, "core/digest")}) == 3


def test_an_excluded_folder_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "clerestory"
    shutil.copytree(PACKAGE / "stages/train", copy / "stages/train", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(provenance, "PACKAGE", copy)
    digests = []
    for change in (None, "stages/train/tune/run.py", "stages/train/run.py"):
        if change:
            (copy / change).write_text((copy / change).read_text("utf-8") + "# changed\n", encoding="utf-8")
        code_digest.cache_clear()
        digests.append(code_digest("stages/train", excluded=("stages/train/tune",)))
    code_digest.cache_clear()
    assert digests[0] == digests[1] != digests[2]


def test_a_layer_of_another_package() -> None:
    assert code_digest("rfc8785:") != code_digest("core/digest")
    with pytest.raises(ClerestoryError, match="is not installed"):
        code_digest("no_such_package:stages/mine")


@pytest.mark.parametrize("error", [KeyError("uid not found: 12345"), OSError("no name"), ImportError("pwd")])
def test_a_user_without_a_name_is_unknown(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def without_name() -> str:
        raise error

    monkeypatch.delenv("CLERESTORY_WHO", raising=False)
    monkeypatch.setattr(provenance.getpass, "getuser", without_name)
    assert provenance.current_user() == "unknown"
