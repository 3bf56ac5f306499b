"""A copy of the package in which a test adds things as a contributor would, and counts the files it touched."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COPIED = ("src/clerestory", "docs", "pyproject.toml", "CONTRIBUTING.md", "README.md")


@dataclass(frozen=True)
class PackageCopy:
    """The repository's package, pages and ``pyproject.toml`` under another root.

    Attributes:
        root: the copy; paths below are relative to it, such as ``src/clerestory/stats/metrics.py``.
    """

    root: Path

    @classmethod
    def make(cls, root: Path) -> PackageCopy:
        for name in COPIED:
            source, target = ROOT / name, root / name
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            elif source.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, target)
        return cls(root)

    def read(self, path: str) -> str:
        return (self.root / path).read_text("utf-8")

    def write(self, path: str, text: str) -> None:
        """Create a new file."""
        target = self.root / path
        assert not target.exists(), f"{path} exists already; use replace"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")

    def replace(self, path: str, old: str, new: str) -> None:
        """Change one place of an existing file."""
        text = self.read(path)
        assert text.count(old) == 1, f"{path} has {old!r} {text.count(old)} times, not once"
        (self.root / path).write_text(text.replace(old, new), encoding="utf-8")

    def append(self, path: str, text: str) -> None:
        """Add lines to the end of an existing file."""
        (self.root / path).write_text(self.read(path).rstrip("\n") + "\n" + text, encoding="utf-8")

    def touched(self) -> list[str]:
        """The files of the repository that are no longer the same here."""
        changed = []
        for path in sorted(self.root.rglob("*")):
            original = ROOT / path.relative_to(self.root)
            if path.is_file() and original.is_file() and _digest(path) != _digest(original):
                changed.append(path.relative_to(self.root).as_posix())
        return changed

    def install(self) -> None:
        """Write the metadata that an installation would, so that the entry points of ``pyproject.toml`` are found."""
        project = tomllib.loads(self.read("pyproject.toml"))["project"]
        folder = self.root / "src/clerestory-0.dist-info"
        folder.mkdir(exist_ok=True)
        (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: clerestory\nVersion: 0\n", encoding="utf-8")
        lines = []
        for group, points in project["entry-points"].items():
            lines += [f"[{group}]", *(f"{name} = {value}" for name, value in points.items())]
        (folder / "entry_points.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")

    def python(self, code: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run Python code with the copy in place of the package."""
        return self._run(["-W", "error", "-c", code, *arguments], check)

    def cli(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run ``clerestory`` of the copy."""
        return self._run(["-m", "clerestory.cli.main", *arguments], check)

    def environment(self) -> dict[str, str]:
        """The variables under which Python finds the copy in place of the package."""
        return {**os.environ, "PYTHONPATH": str(self.root / "src"), "NO_COLOR": "1", "COLUMNS": "200"}

    def _run(self, arguments: list[str], check: bool) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, *arguments],
            env=self.environment(),
            cwd=self.root,
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
