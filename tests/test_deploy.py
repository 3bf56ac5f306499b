"""The files in ``deploy/`` agree with the project."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from clerestory.apps.exported_models import export_onnx
from clerestory.apps.loading import open_stored
from clerestory.apps.registration import stored_model
from clerestory.store import open_store

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
ROOT_FILES, WHEELS = "CLERESTORY_CONTAINER_ROOT", "CLERESTORY_CONTAINER_WHEELS"
BUILD_SECONDS, READY_SECONDS = 300, 60
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


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_finds_no_fault_in_the_unit(tmp_path: Path) -> None:
    unit = (DEPLOY / "clerestory.service").read_text(encoding="utf-8")
    command = "/opt/clerestory/bin/clerestory"
    assert unit.count(command) == 1
    copy = tmp_path / "clerestory.service"  # with a program that exists here; everything else as it is
    copy.write_text(unit.replace(command, str(Path(sys.executable).parent / "clerestory")), encoding="utf-8")
    checked = subprocess.run(["systemd-analyze", "verify", "--man=no", str(copy)], capture_output=True, text=True)
    own = [line for line in checked.stderr.splitlines() if "clerestory" in line]  # not those of other units
    assert own == []


@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("buildah") is None or not {ROOT_FILES, WHEELS} <= set(os.environ),
    reason=f"slow (1 to 2 minutes); needs root, buildah, {ROOT_FILES} and {WHEELS}: make container-check sets them",
)
def test_the_container_answers_as_its_own_user(tmp_path: Path) -> None:
    with open_store(tmp_path / "home") as store:
        export_onnx(store, open_stored(store, stored_model(store, "starter")), "starter")
    subprocess.run(["chown", "-R", "10001:10001", str(tmp_path / "home")], check=True)
    buildah = Buildah(tmp_path)
    base = buildah("from", "scratch")
    buildah("add", "-q", base, os.environ[ROOT_FILES], "/")
    buildah("commit", "-q", "--rm", base, "localhost/base")
    build = ["bud", "--isolation", "chroot", "--pull-never", "--build-arg", "BASE=localhost/base"]
    options = ["--build-arg", "PIP_OPTIONS=--no-index --find-links /wheels", "-v", f"{os.environ[WHEELS]}:/wheels:ro"]
    buildah(*build, *options, "-f", str(DEPLOY / "Containerfile"), "-t", "localhost/clerestory", str(ROOT))
    container = buildah("from", "--pull-never", "localhost/clerestory")
    wanted = ["id", "-u", "&&", "test", "!", "-e", "/src", "&&", "ls", "/opt/clerestory/lib/python3*/site-packages"]
    seen = buildah(
        "run", "--isolation", "chroot", "--user", "clerestory", container, "--", "sh", "-c", " ".join(wanted)
    )
    assert seen.startswith("10001")
    assert "onnxruntime" in seen
    assert "torch\n" not in seen
    with served(buildah, container, tmp_path / "home") as url:
        body = {"model": "starter", "input": "a red bag"}
        answer = httpx.post(f"{url}/v1/embeddings", json=body, timeout=60).json()
        assert len(answer["data"][0]["embedding"]) == 384


class Buildah:
    """``buildah`` with a storage of its own, which goes with the folder of the test."""

    def __init__(self, folder: Path) -> None:
        self.command = ["buildah", "--root", str(folder / "images"), "--runroot", str(folder / "run")]
        self.environment = {**os.environ, "STORAGE_DRIVER": "vfs"}

    def __call__(self, *words: str) -> str:
        done = subprocess.run(
            [*self.command, *words], capture_output=True, text=True, timeout=BUILD_SECONDS, env=self.environment
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout.strip()


@contextlib.contextmanager
def served(buildah: Buildah, container: str, home: Path) -> Iterator[str]:
    """The URL of the container's server, which is ready; ``/store`` because ``buildah run`` shadows a volume."""
    run = ["run", "--isolation", "chroot", "--user", "clerestory", "-v", f"{home}:/store", container, "--"]
    serve = ["clerestory", "serve", "--home", "/store", "--model", "starter", "--data", "none", "--port", "0"]
    process = subprocess.Popen(
        [*buildah.command, *run, *serve],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=buildah.environment,
    )
    try:
        assert process.stdout is not None
        url = next(found.group() for line in process.stdout if (found := re.search(r"http://[^/\s]+", line)))
        end = time.monotonic() + READY_SECONDS
        while time.monotonic() < end:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{url}/readyz").status_code == 200:
                    break
            time.sleep(0.1)
        assert httpx.get(f"{url}/readyz").status_code == 200
        yield url
    finally:
        process.terminate()
        process.wait(timeout=30)
