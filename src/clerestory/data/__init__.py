"""Sources of pictures and captions: the embedded icons, folders, tables and Parquet files.

The names below are imported on first use, so that a caller who only wants ``decode_image`` does not load Arrow.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clerestory.data.icons import open_icons
    from clerestory.data.images import decode_image
    from clerestory.data.save import save_parquet
    from clerestory.data.sources import open_data

__all__ = ["decode_image", "open_data", "open_icons", "save_parquet"]

_PLACES = {"decode_image": "images", "open_data": "sources", "open_icons": "icons", "save_parquet": "save"}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'clerestory.data' has no attribute {name!r}")
    return getattr(import_module(f"clerestory.data.{_PLACES[name]}"), name)
