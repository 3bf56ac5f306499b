"""The cache folder, where derived files are stored."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def cache_folder() -> Path:
    """``CLERESTORY_CACHE`` if it is set, else the user's cache folder for Clerestory."""
    folder = os.environ.get("CLERESTORY_CACHE") or platformdirs.user_cache_dir("clerestory")
    return Path(folder).expanduser()
